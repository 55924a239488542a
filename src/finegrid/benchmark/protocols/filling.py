"""What stands in for a source that is missing: what one would expect of it without any weather.

    mean     the mean of the training times in each cell: an anomaly of zero
    month    the mean of the training times of that calendar month
    flag     beside either, a field that says so: 1 where the source is missing, else 0

A source that never changes, such as elevation, has its mean over the domain.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import harmonise


@dataclass(frozen=True, eq=False)
class Fill:
    """Expected fields of each source.

    Attributes:
        time: name of the time dimension.
        means: one field a source, without time; a number for a source that never changes.
        months: the same by calendar month; empty where the mean has to do.
    """

    time: str
    means: xr.Dataset
    months: xr.Dataset | None = None

    @classmethod
    def of(cls, coarse: xr.Dataset, sources: Sequence[str], *, by_month: bool = False) -> Fill:
        """Learn them from the coarse fields of the training times, in the user's names."""
        time = harmonise(coarse)[1].time
        fields = coarse[list(sources)].astype(np.float64)
        means = fields.mean(time)
        still = [name for name in sources if _never_changes(fields[name], time)]
        means = means.assign({name: means[name].mean() for name in still})
        if not by_month:
            return cls(time, means)
        months = fields.groupby(f"{time}.month").mean().reindex(month=np.arange(1, 13)).fillna(means)
        return cls(time, means, months.assign({name: means[name] for name in still}))

    def without(self, coarse: xr.Dataset, dropped: Collection[str]) -> xr.Dataset:
        """Coarse fields with some sources replaced."""
        return coarse.assign({name: self._expected(coarse[name]) for name in dropped})

    def at_times(self, coarse: xr.Dataset, missing: NDArray[np.bool_]) -> xr.Dataset:
        """Coarse fields with sources replaced at some times (time, source), in the order of the sources."""
        lost = {
            str(name): xr.DataArray(missing[:, index], dims=self.time)
            for index, name in enumerate(self.means.data_vars)
        }
        return coarse.assign(
            {name: coarse[name].where(~mask, self._expected(coarse[name])) for name, mask in lost.items()}
        )

    def flagged(self, coarse: xr.Dataset, missing: NDArray[np.bool_]) -> xr.Dataset:
        """Coarse fields with a field beside each source that says where it is missing (time, source)."""
        flags = {}
        for index, name in enumerate(map(str, self.means.data_vars)):
            mask = xr.DataArray(missing[:, index].astype(np.float32), dims=self.time)
            flag = (xr.zeros_like(coarse[name]) + mask).transpose(*coarse[name].dims)
            flags[flag_of(name)] = flag.assign_attrs(
                units="1", standard_name="", long_name=f"whether {name} is missing"
            )
        return coarse.assign(flags)

    def _expected(self, field: xr.DataArray) -> xr.DataArray:
        table = self.means if self.months is None else self.months
        expected = table[str(field.name)]
        if "month" in expected.dims:
            expected = expected.sel(month=field[self.time].dt.month).drop_vars("month")
        whole = (xr.zeros_like(field) + expected.astype(field.dtype)).transpose(*field.dims)
        return whole.assign_attrs(field.attrs)


def flag_of(source: str) -> str:
    """Name of the field that says whether a source is missing."""
    return f"{source}_missing"


def drawn_missing(times: int, sources: int, part: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which sources are missing (time, source): at a part of the times one of them, drawn at random."""
    missing = np.zeros((times, sources), dtype=bool)
    some = np.flatnonzero(generator.random(times) < part)
    missing[some, generator.integers(sources, size=len(some))] = True
    return missing


def _never_changes(field: xr.DataArray, time: str) -> bool:
    return bool((field.max(time) - field.min(time)).max() == 0)
