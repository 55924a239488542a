"""Learning through xsdba: blocks of cells and all groups of times in one call.

A column is one cell in one group of times. xsdba gets the values of many columns at once, each as a series of its own
(`group="time"`), so that what is learnt is exactly what it learns for that cell and that group, without its grouping
machinery once per cell. Columns of which nothing can be learnt are left out and stay neutral:

    missing      fewer values than asked for, because coarse or fine values are missing
    constant     all coarse values are equal, or all are dry

Where coarse or fine is missing, the pair does not count. xsdba draws its random numbers from NumPy's global generator,
which is seeded for the call and put back after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.adjustments.base import BLOCK_VALUES, Numbers, Values
from finegrid.data.adjustments.groups import Places
from finegrid.data.adjustments.kinds import Kind

# What xsdba is told: thresholds come in the units of the values, so that any will do.
UNITS = "m"
MISSING, CONSTANT = "missing", "constant"

Known = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """A block of cells in all groups.

    Attributes:
        given: coarse values (value, group, cell), missing where a group has fewer than the largest one.
        goal: what they should be.
        counts: values that are known in both (group, cell).
        varied: whether the coarse values differ, and are not all dry (group, cell).
        ends: lowest and highest coarse value (2, group, cell).
        cells: where the block lies among all cells.
    """

    given: Values
    goal: Values
    counts: Places
    varied: Known
    ends: Values
    cells: slice

    def fields(self, chosen: Known) -> tuple[xr.DataArray, xr.DataArray]:
        """Goal and coarse values (time, cell) of the chosen columns, as xsdba takes them: with a time and units."""
        time = xr.date_range("2001-01-01", periods=len(self.given), freq="D")
        goal, given = (
            xr.DataArray(each[:, chosen], dims=("time", "cell"), coords={"time": time}, attrs={"units": UNITS})
            for each in (self.goal, self.given)
        )
        return goal, given


def library() -> Any:
    """The package xsdba.

    Raises:
        InputError: when it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import xsdba
    except ImportError:
        raise InputError(
            "quantile mapping is learnt with the package xsdba, which is not installed; expected it for this bias "
            'adjustment; pip install "finegrid[adjust]", or take adjust: natural, shift or scale'
        ) from None
    _remember_compiled(xsdba.nbutils)
    return xsdba


def _remember_compiled(kernels: Any) -> None:
    """Let Numba keep on disk the one kernel of xsdba that it would otherwise compile in every run, for seconds."""
    kernel = getattr(kernels, "_wrapper_quantile1d", None)
    if kernel is None or kernel.signatures:
        return
    with suppress(RuntimeError):  # nowhere to write
        kernel.enable_caching()


@contextmanager
def repeatable(seed: Sequence[int]) -> Iterator[None]:
    """NumPy's global generator in a known state for a while, and warnings of libraries silent."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(before)


def blocks_of(
    given: NDArray[Any], goal: NDArray[Any], samples: Sequence[Places], wet: float | None
) -> Iterator[Columns]:
    """Cells (time, cell) in blocks, with the values of every group side by side."""
    longest = max(map(len, samples))
    places = np.full((longest, len(samples)), -1)
    for number, sample in enumerate(samples):
        places[: len(sample), number] = sample
    size = max(1, BLOCK_VALUES // places.size)
    for start in range(0, given.shape[1], size):
        yield _columns(given, goal, places, slice(start, min(start + size, given.shape[1])), wet)


def number_of_blocks(cells: int, samples: Sequence[Places]) -> int:
    """How many blocks `blocks_of` gives."""
    size = max(1, BLOCK_VALUES // (max(map(len, samples)) * len(samples)))
    return -(-cells // size)


def _columns(given: NDArray[Any], goal: NDArray[Any], places: Places, cells: slice, wet: float | None) -> Columns:
    coarse, fine = (each[:, cells].astype(np.float64)[places] for each in (given, goal))
    known = np.isfinite(coarse) & np.isfinite(fine) & (places >= 0)[..., None]
    coarse[~known], fine[~known] = np.nan, np.nan
    lowest, highest = (each.reduce(coarse, axis=0) for each in (np.fmin, np.fmax))
    varied = (highest > lowest) & (highest > (-np.inf if wet is None else wet))
    return Columns(coarse, fine, known.sum(axis=0), varied, np.stack([lowest, highest]), cells)


def spread(taught: Numbers, chosen: NDArray[np.bool_], kind: Kind) -> Numbers:
    """Arrays (group, ..., cell) from those of the chosen columns (..., column), neutral elsewhere."""
    result: Numbers = {}
    for key, each in taught.items():
        whole = np.full((*each.shape[:-1], *chosen.shape), _neutral(key, kind), dtype=each.dtype)
        whole[..., chosen] = each
        result[key] = np.moveaxis(whole, -2, 0)
    return result


def joined(parts: Sequence[Numbers], kind: Kind) -> Numbers:
    """The blocks of a field put together along the cells; neutral where nothing was learnt in a whole block."""
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: np.concatenate(_completed(parts, key, _neutral(key, kind)), axis=-1) for key in keys}


def _completed(parts: Sequence[Numbers], key: str, neutral: float) -> list[NDArray[Any]]:
    """One array of every block, neutral where nothing was learnt in the whole block."""
    model = next(part[key] for part in parts if key in part)
    shapes = [(*model.shape[:-1], part[MISSING].shape[-1]) for part in parts]
    return [part.get(key, np.full(shape, neutral, model.dtype)) for part, shape in zip(parts, shapes, strict=True)]


def _neutral(key: str, kind: Kind) -> float:
    """What stands where nothing was learnt: factors that change nothing, and no other numbers."""
    return kind.neutral if key in ("factors", "scaling") else np.nan
