"""Quantiles over the members of an ensemble, in place of the members: what a map of risk needs, in less space.

Of M members x_1 <= ... <= x_M in a cell, the quantile p is the member number p (M + 1), between two of them where that
is no whole number (Weibull's plotting position; type 6 of Hyndman and Fan 1996, doi:10.2307/2684934). A truth that is
one more draw like the members lies below x_k with the chance k / (M + 1), so it lies below this quantile with the
chance p, whatever M: exactly where p (M + 1) is whole, nearly in between. Beyond the outermost members, below
1 / (M + 1) or above M / (M + 1), the outermost member stands.

A field of quantiles is no possible weather: every member may have the right mean over a coarse cell, and their
quantiles will not. How far these depart is measured and written beside the figure of the members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.base import DIMENSION
from finegrid.conventions import InputError
from finegrid.pipeline.departure import Departure

Make = Callable[[xr.Dataset], xr.Dataset]
_ABOUT = {"long_name": "quantile over the members of an ensemble", "units": "1"}


@dataclass
class Summary:
    """Quantiles of blocks, and how far they depart from the coarse field.

    Attributes:
        quantiles: chances, the smallest first.
        members: number of members that they are taken over.
        member: name of the coordinate of the members.
        departure: measures the quantiles.
        make: what makes them of a block, such as a calibration; None for those over the members.
    """

    quantiles: tuple[float, ...]
    members: int
    member: str
    departure: Departure
    make: Make | None = None

    def of(self, block: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
        """The quantiles of a block of members, in the user's names, measured against its standard coarse fields."""
        dimension = str(block[self.member].dims[0]) if self.member in block.coords else self.member
        fields = over_members(block, self.quantiles, dimension) if self.make is None else self.make(block)
        # To the measure a quantile is one more field that should be like the coarse one.
        bare = fields.drop_vars(DIMENSION).rename_dims({DIMENSION: dimension})
        self.departure.add(bare.assign_coords({dimension: np.arange(len(self.quantiles))}), coarse)
        return fields

    @property
    def words(self) -> str:
        """That and by how much quantiles do not conserve."""
        what = f"quantiles over {self.members} members" if self.make is None else "ends of intervals"
        return (
            f"{what} do not conserve: their area means over the coarse cells depart "
            f"from the coarse field by up to {100 * self.departure.largest:.2g} %"
        )

    @property
    def notes(self) -> list[str]:
        """Which quantiles lie beyond the members."""
        if self.make is not None:
            return []
        first = 1 / (self.members + 1)
        beyond = [each for each in self.quantiles if min(each, 1 - each) < first * (1 - 1e-9)]
        if not beyond:
            return []
        needed = max(int(np.ceil(1 / min(each, 1 - each) - 1e-9)) - 1 for each in beyond)
        return [
            f"the quantiles {', '.join(f'{each:g}' for each in beyond)} lie beyond what {self.members} members can "
            f"tell ({first:.2g} to {1 - first:.2g}), and the lowest or highest member stands for them; for these, draw "
            f"at least {needed} members"
        ]


def checked(quantiles: Sequence[float], members: int) -> tuple[float, ...]:
    """The quantiles in order, each once.

    Raises:
        InputError: on chances that are none, or fewer than two members to take them over.
    """
    wrong = [each for each in quantiles if not 0 < each < 1]
    if wrong:
        raise InputError(
            f"got the quantile {wrong[0]:g}; expected numbers between 0 and 1, such as 0.1, 0.5 and 0.9 (of the lowest "
            "and highest value, take the members); change --quantiles"
        )
    if members < 2:
        raise InputError(
            f"got quantiles over members={members}; expected at least 2 members to take them over, better 50; set "
            "--members 50"
        )
    return tuple(sorted({float(each) for each in quantiles}))


def over_members(block: xr.Dataset, quantiles: Sequence[float], dimension: str) -> xr.Dataset:
    """Quantiles over a dimension of all fields that have it, along a new dimension `quantile` in its place."""
    fields = block.drop_vars([name for name, each in block.coords.items() if dimension in each.dims])
    found = {}
    for name, field in block.data_vars.items():
        if dimension in field.dims:
            axis = field.dims.index(dimension)
            dims = tuple(DIMENSION if dim == dimension else dim for dim in field.dims)
            comment = f"quantiles over {field.sizes[dimension]} members; they do not conserve the coarse field"
            about = {**field.attrs, "comment": "; ".join(filter(None, [field.attrs.get("comment"), comment]))}
            variable = xr.Variable(dims, _quantiles(field.values, quantiles, axis), about, field.encoding)
            found[name] = variable
    chances = xr.Variable(DIMENSION, np.asarray(quantiles, dtype=np.float64), _ABOUT)
    return fields.drop_vars(list(found)).assign(found).assign_coords({DIMENSION: chances})


def _quantiles(values: NDArray[np.float32], quantiles: Sequence[float], axis: int) -> NDArray[np.float32]:
    """Quantiles along an axis, which they take the place of; missing where a member is."""
    ranked = np.sort(np.moveaxis(values, axis, 0), axis=0)  # missing values last
    members = len(ranked)
    position = np.clip(np.asarray(quantiles) * (members + 1) - 1, 0, members - 1)
    below = np.minimum(position.astype(np.int64), members - 2)
    part = (position - below).astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    found = ranked[below] + part * (ranked[below + 1] - ranked[below])
    return np.moveaxis(np.where(np.isnan(ranked[-1]), np.nan, found).astype(values.dtype), 0, axis)
