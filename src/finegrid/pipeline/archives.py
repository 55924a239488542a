"""What is done otherwise where files are larger than memory: which times are judged, and how baselines learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise
from finegrid.data.working import Workers, alone
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.downscalers.archive import fit_in_pieces
from finegrid.pipeline.material import Material, at_times

# Bytes of fine fields, as float32, that are looked at in memory: enough for every score.
_LOOKED_AT = 96_000_000
# Bytes that a fit in memory takes for one of fine fields.
_COPIES = 4
# What learns in one pass, or not at all.
_PLAIN = ("ridge", "nearest", "bilinear", "bicubic", "conservative")
# Bytes of fine fields beyond which simple methods learn piece by piece.
_LARGE = 2_000_000_000


def few(fields: xr.Dataset, times: NDArray[np.intp]) -> NDArray[np.intp]:
    """Some of these times, evenly spread, of which fields take no more than 96 MB; all where they do not."""
    most = max(2, _LOOKED_AT // max(1, _bytes(fields, 1)))
    if len(times) <= most:
        return times
    return np.asarray(times[np.unique(np.linspace(0, len(times) - 1, most).round().astype(int))])


def in_pieces(downscaler: Downscaler, material: Material, workers: Workers = alone) -> bool:
    """Whether it learns from an archive piece by piece: networks from patches, simple methods from large archives.

    Simple methods do so, too, where workers are to read the pieces.

    Raises:
        InputError: where it would have to take more into memory than there is.
    """
    if workers is not alone:
        return True
    if isinstance(downscaler, NeuralDownscaler) and downscaler.settings.patch is not None:
        return True
    large = _bytes(material.fine, len(material.learning))
    if large > _LARGE and not isinstance(downscaler, NeuralDownscaler) and downscaler.name in _PLAIN:
        return True
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _COPIES * large > memory:
        raise InputError(
            f"the fine fields of the training times take {large / 1e9:.1f} GB, and '{downscaler.name}' about "
            f"{_COPIES} times as much while it learns; this machine has {memory / 1e9:.1f} GB; expected less; let a "
            "network learn from patches (--patch 32), use ridge, or give fewer years"
        )
    return False


def check_shared(downscaler: Downscaler) -> None:
    """Workers can help it to learn.

    Raises:
        InputError: names those methods for which they can.
    """
    if isinstance(downscaler, NeuralDownscaler):
        raise InputError(
            "got --workers or --scheduler for a network; expected a method that learns in one reading "
            f"({', '.join(_PLAIN)}); several processes train a network with `torchrun --nproc-per-node 2 -m finegrid "
            "fit ...`"
        )
    if downscaler.name not in _PLAIN:
        raise InputError(
            f"got --workers or --scheduler for '{downscaler.name}', which learns in memory with all cores of this "
            f"machine; expected a method that learns in one reading ({', '.join(_PLAIN)}); leave the option out"
        )


def able(names: Sequence[str], *, pieces: bool) -> list[str]:
    """The methods among these that can learn from what is read in pieces, if it is; `name` or `name+constraint`."""
    return [name for name in names if not pieces or name.partition("+")[0] in _PLAIN]


def fitted(
    downscaler: Downscaler, material: Material, *, pieces: bool, workers: Workers = alone, **how: Any
) -> Downscaler:
    """Fit to the learning times, in memory or piece by piece."""
    coarse, fine = (at_times(fields, material.learning) for fields in (material.coarse, material.fine))
    if not pieces:
        return downscaler.fit(coarse.load(), fine.load(), **how)
    if isinstance(downscaler, NeuralDownscaler):
        return downscaler.fit(coarse, fine, **how)
    fit_in_pieces(downscaler, coarse, fine, progress=bool(how.get("progress")), workers=workers)
    return downscaler


def note_on(material: Material) -> str:
    """What to tell whose test times are too many to be judged in memory."""
    judged, count = len(few(material.fine, material.blocks.test)), len(material.blocks.test)
    if judged == count:
        return ""
    return f"The test block has {count} times; {judged} of them, evenly spread, were judged."


def _bytes(fields: xr.Dataset, times: int) -> int:
    standard = harmonise(fields)[0]
    growing = [field for field in standard.data_vars.values() if "time" in field.dims]
    return 4 * times * sum(field.size // max(1, field.sizes["time"]) for field in growing)
