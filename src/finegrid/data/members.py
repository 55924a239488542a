"""Runs of one model as one: the mean over members, the best guess of what they have in common.

The mean of M members that differ by chance with variance s^2 has the variance s^2 / M; what is left of it is the floor
of every score against it (`evaluation.floor`).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.data.series import is_series


def mean_of_members(standard: xr.Dataset) -> xr.Dataset:
    """Standard fields without members: their mean, missing where one of them is; lazy when they come lazy."""
    if "member" not in standard.dims:
        return standard
    # Sums of a hundred members in float32 would lose a digit.
    mean = standard.mean("member", skipna=False, keep_attrs=True, dtype=np.float64).astype(np.float32)
    mean.encoding = dict(standard.encoding)
    return mean.drop_vars("member", errors="ignore")


def member_mean(fields: xr.Dataset) -> xr.Dataset:
    """The same of a file in the user's words, which keeps its series over time alone.

    Without members the file comes back as it is, otherwise in standard form.
    """
    standard, _ = harmonise(fields)
    if "member" not in standard.dims:
        return fields
    mean = mean_of_members(standard)
    mean.encoding = dict(fields.encoding)
    series = {str(name): each for name, each in fields.variables.items() if is_series(fields, str(name))}
    kept = {name: ("time", each.values, each.attrs) for name, each in series.items() if each.size == mean.time.size}
    return mean.assign(kept)


def check_one_run(standard: xr.Dataset, source: str) -> None:
    """Coarse fields of a single run, as most downscalers need.

    Raises:
        InputError: when there are several.
    """
    count = standard.sizes.get("member", 1)
    if count > 1:
        raise InputError(
            f"got {count} members in {source}; expected one coarse run beside the fine fields; choose one with "
            "fields.isel(member=0), or take their mean with fields.mean('member') (pattern-scaling does so itself)"
        )
