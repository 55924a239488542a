"""How high fine cells lie above what the interpolated coarse field stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError, convert_units, find_variable
from finegrid.data.predictors import static_fields
from finegrid.downscalers.domain import Domain
from finegrid.grids import Operator

Static = xr.Dataset | Sequence[xr.Dataset] | None


def elevation_above_coarse(static: Static, domain: Domain, interpolate: Callable[[Tensor], Tensor]) -> Tensor:
    """Elevation of fine cells less the interpolated mean over the valid fine cells of the coarse ones, in km (H, W).

    Raises:
        InputError: when there is no elevation among the static fields, or it has no units of length.
    """
    height = _elevation(static, domain)
    mean = Operator.conservative(domain.grid, domain.inputs.grid)(height)
    # Coarse cells without any valid fine cell: the surroundings take part in the interpolation without them.
    coarse = torch.from_numpy(np.array(mean.values, dtype=np.float64))[None, None]
    drawn = torch.nan_to_num(interpolate(coarse)[0, 0], nan=0.0)
    return ((torch.from_numpy(np.array(height.values, dtype=np.float64)) - drawn) / 1000.0).float()


def _elevation(static: Static, domain: Domain) -> xr.DataArray:
    """The elevation among static fields, in metres (y, x) on the fine grid."""
    if static is None:
        raise InputError(
            "the method 'lapse-rate' got no static fields; expected the elevation of the fine grid; give --static "
            "elevation.nc, data.static in the recipe, or fit(..., static=elevation)"
        )
    fields = static_fields(static, domain.grid.masked(None))
    try:
        field = fields[find_variable(fields, "elevation", source="the static fields")]
    except InputError as error:
        raise InputError(
            f"the method 'lapse-rate' needs the elevation of the fine grid: {error}; give --static elevation.nc with a "
            "variable of that name or with the standard name surface_altitude"
        ) from None
    # An elevation without units is one in metres: nobody writes another.
    return convert_units(field, "m", source="the static fields") if field.attrs.get("units") else field
