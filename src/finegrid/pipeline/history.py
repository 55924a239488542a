"""What had happened to a file and what was done to it now, as CF's `history` has it."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import xarray as xr

from finegrid import __version__
from finegrid.conventions.credentials import without_credentials


def history_of(fields: xr.Dataset, command: str | None) -> str:
    """The command, by default that of the process, on top of what had happened to the source."""
    line = command or shlex.join([Path(sys.argv[0]).name or "finegrid", *sys.argv[1:]])
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line} (finegrid {__version__})"
    return without_credentials(f"{stamp}\n{fields.attrs.get('history', '')}".strip())
