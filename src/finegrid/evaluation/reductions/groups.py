"""Groups of cases by labels: seasons, regions, regimes.

Labels are a part of the time (`time.season`), a coordinate of the truth, or any field of words or numbers over some of
its dimensions. Groups come in ascending order, as those of xarray do; cases without a label belong to none.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError

Codes = NDArray[np.int64]

_PARTS = ("season", "year", "quarter", "month", "day", "hour", "dayofyear", "dayofweek")


@dataclass(frozen=True, eq=False)
class Groups:
    """Labels that sort cases into groups.

    Attributes:
        name: of the labels, and of the dimension that they become.
        labels: of the groups (group,).
        codes: number of the group of each case, over dimensions of the truth; -1 belongs to none.
    """

    name: str
    labels: NDArray[Any]
    codes: xr.DataArray

    @classmethod
    def of(cls, by: str | xr.DataArray, truth: xr.DataArray | xr.Dataset, axes: Mapping[str, str]) -> Groups:
        """Groups of the cases of a truth.

        Args:
            by: "time.season" and the like, the name of a coordinate, or labels.
            truth: in the user's own form.
            axes: the user's dimensions of time, y and x.

        Raises:
            InputError: for labels that are not known, do not fit the truth or are all missing.
        """
        labels = by if isinstance(by, xr.DataArray) else _named(by, truth, axes)
        name = str(labels.name) if labels.name is not None else "group"
        _check_fit(labels, name, truth, list(axes.values()))
        codes, found = pd.factorize(labels.values.ravel(), sort=True)
        if not len(found):
            raise InputError(f"got no label in '{name}'; expected one for each group; give labels that are not missing")
        numbers = labels.copy(data=np.asarray(codes, dtype=np.int64).reshape(labels.shape)).reset_coords(drop=True)
        return cls(name, np.asarray(found), numbers.drop_vars(list(numbers.coords)))


def _named(by: str, truth: xr.DataArray | xr.Dataset, axes: Mapping[str, str]) -> xr.DataArray:
    name, _, part = by.partition(".")
    if name not in truth.coords:
        raise InputError(
            f"got '{by}' to group by; expected a part of the time such as '{axes['time']}.season', the name of a "
            f"coordinate ({', '.join(map(str, truth.coords))}), or labels as an xarray DataArray"
        )
    coordinate = truth[name]
    if not part:
        return coordinate
    try:
        found: xr.DataArray = getattr(coordinate.dt, part)
    except AttributeError:
        raise InputError(
            f"got '{by}' to group by; expected a part that '{name}' has, if it is a time: {', '.join(_PARTS)}"
        ) from None
    return found.rename(part)


def _check_fit(labels: xr.DataArray, name: str, truth: xr.DataArray | xr.Dataset, dims: list[str]) -> None:
    strange = [str(dim) for dim in labels.dims if dim not in dims]
    if strange or not labels.dims:
        raise InputError(
            f"got labels '{name}' over {', '.join(strange) or 'no dimension'}; expected some of those of the truth, "
            f"{', '.join(dims)}; rename or select them"
        )
    for dim in labels.dims:
        if labels.sizes[dim] != truth.sizes[dim] or not _same(labels, truth, dim):
            raise InputError(
                f"got labels '{name}' for {labels.sizes[dim]} values of '{dim}'; expected those of the truth, "
                f"{truth.sizes[dim]} in the same places; bring them there, with labels.reindex_like(truth) or "
                f"labels.interp_like(truth, method='nearest')"
            )


def _same(labels: xr.DataArray, truth: xr.DataArray | xr.Dataset, dim: Hashable) -> bool:
    if dim not in labels.coords or dim not in truth.coords:
        return True
    mine, true = labels[dim].values, truth[dim].values
    if mine.dtype.kind == "f" and true.dtype.kind == "f":
        return bool(np.allclose(mine, true, rtol=1e-6, atol=1e-6))
    return bool((mine == true).all())
