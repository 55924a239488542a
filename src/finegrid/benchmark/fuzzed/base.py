"""A way in for files of others, with a small file that is good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid.data.synthetic import Climate, generate


@dataclass(frozen=True)
class Reader:
    """A way in.

    Attributes:
        make: writes a good file or folder beside a path without suffix, and says where.
        read: reads one.
        checked: whether changes must be noticed.
        only: pattern of the files in a folder that are damaged.
        seal: gives damaged files the checksums that they should have, as whoever means harm would.
        share: of inputs, beside other ways in; small where one takes long to read.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    checked: bool = False
    only: str = "*"
    seal: Callable[[Path], None] | None = None
    share: float = 1.0


def small_fields(times: int = 4) -> xr.Dataset:
    """Fields (time, lat, lon) on 8 x 8 cells."""
    return generate(Climate(), shape=(8, 8), times=times, seed=0)
