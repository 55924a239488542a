"""Which file cannot be read, and at which times, once reading has failed: the libraries only say that something did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.open import expanded, open_fields
from finegrid.data.write import record_of

# Pieces of a part of a file that are looked at each for itself.
_LOOKS = 256


@contextmanager
def readable(*paths: str | Path | Sequence[str | Path] | None) -> Iterator[None]:
    """Within it, a failure to read files is told by file and times; other failures stay as they are.

    Raises:
        InputError: names the file, the times that cannot be read, and what to do.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # NetCDF, Zarr, GRIB and their filters have dozens of kinds
        words = next(filter(None, (damage(each) for each in paths if each is not None)), None)
        if words is None:
            raise
        raise InputError(words) from error


def damage(paths: str | Path | Sequence[str | Path]) -> str | None:
    """The first file that cannot be read and its times, in words; None where all can be."""
    for path in expanded(paths):
        try:
            found = _damaged_times(path)
        except InputError as error:
            return str(error)
        if found is not None:
            return (
                f"{path} is damaged or was truncated: its values {found[0]} cannot be read ({found[1]}); expected a "
                "whole file. Copy or download it again"
            )
    return None


def _damaged_times(path: Path) -> tuple[str, str] | None:
    """The times that cannot be read, in words, and why; of fields without time, nothing but why."""
    fields = open_fields(path)
    record = record_of(fields)
    if record is None:
        reason = _failure(fields)
        return None if reason is None else ("without time", reason)
    stop = 0
    for size in fields.unify_chunks().chunksizes.get(record, (fields.sizes[record],)):
        part = slice(stop, stop := stop + size)
        reason = _failure(fields.isel({record: part}))
        if reason is not None:
            return f"at {_span(path, record, part)}", reason
    return None


def _span(path: Path, record: str, part: slice) -> str:
    """From the first to the last time that cannot be read, of a part that cannot."""
    count = part.stop - part.start
    step = -(-count // _LOOKS)
    fields = open_fields(path, chunks={record: step}).isel({record: part})
    pieces = [range(start, min(start + step, count)) for start in range(0, count, step)]
    bad = [piece for piece in pieces if _failure(fields.isel({record: slice(piece.start, piece.stop)}))]
    bad = bad or [range(count)]  # it may fail as a whole only
    dates = next((each for each in fields.coords.values() if each.dims == (record,)), fields[record]).values
    first, last = (str(dates[number])[:16] for number in (bad[0][0], bad[-1][-1]))
    return first if first == last else f"{first} to {last}"


def _failure(fields: xr.Dataset) -> str | None:
    try:
        fields.compute(scheduler="synchronous")
    except Exception as error:
        return str(error) or type(error).__name__
    return None
