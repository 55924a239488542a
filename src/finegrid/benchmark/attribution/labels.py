"""Maps of attributions as a Dataset in the words of the coarse file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.benchmark.attribution.inputs import Inputs
from finegrid.benchmark.attribution.targets import Aim
from finegrid.conventions import Names, find_variable, harmonise, restore
from finegrid.downscalers.domain import Domain

Array = NDArray[np.float64]


def labelled(
    maps: Array,
    time: xr.DataArray,
    numbers: Array,
    lags: range,
    *,
    domain: Domain,
    coarse: xr.Dataset,
    inputs: Inputs,
    aim: Aim,
    words: Mapping[str, str],
) -> xr.Dataset:
    """The Dataset.

    Args:
        maps: (time, lag, variable, y, x) in the units of the target.
        time: times that were attributed.
        numbers: prediction, prediction of the baseline and error of completeness (3, time).
        lags: steps around a time; without a dimension where there is one.
        domain: of the downscaler.
        coarse: in whose words.
        inputs: variables and grid of the maps.
        aim: the target.
        words: method and baseline.
    """
    standard, names = harmonise(coarse)
    found: dict[str, Any] = {}
    for index, name in enumerate(inputs.variables):
        theirs = find_variable(standard, domain.inputs.variables.get(name, name))
        values = maps[:, :, index] + (found[theirs][1] if theirs in found else 0.0)
        about = {"long_name": f"part of {theirs.replace('@', ' at level ')} in the {aim.words}", "units": aim.units}
        found[theirs] = (("time", "lag", "y", "x"), values, about)
    coords = {**inputs.grid.coords(), "time": time, "lag": ("lag", list(lags), {"long_name": "time steps ahead"})}
    fields = xr.Dataset(found, coords=coords)
    fields = fields.isel(lag=0, drop=True) if len(lags) == 1 else fields
    fields = fields.rename({name: name.replace("@", "") for name in found if "@" in name})
    about = {"units": aim.units}
    fields = fields.assign_coords(
        prediction=("time", numbers[0], {"long_name": aim.words, **about}),
        baseline_prediction=("time", numbers[1], {"long_name": f"{aim.words}, of the baseline", **about}),
        completeness_error=("time", numbers[2], {"long_name": "relative departure of the sum", "units": "1"}),
    )
    fields.attrs = {
        "title": f"Attribution of the {aim.words}",
        "attribution_method": words["method"],
        "attribution_baseline": words["baseline"],
        "attribution_target": aim.words,
        "target_latitude": aim.latitude,
        "target_longitude": aim.longitude,
        **({} if aim.box is None else {"target_box": list(aim.box)}),
        "completeness_error": float(np.max(numbers[2], initial=0.0)),
    }
    return restore(fields, replace(names, levels=None, order=_order(names), orders={}))


def _order(names: Names) -> tuple[str, ...]:
    """The dimensions that maps have, in the order of the file."""
    kept = {names.time, names.y, names.x}
    return tuple(dim for dim in names.order if dim in kept or dim in names.scalars)
