"""Fine fields in the calendar of the coarse ones, so that days can be matched.

Models run in years of 365 or of 360 days. The pair is kept in the coarse file's own calendar, as predictions are:

    noleap     every date has its like; 29 February of the other file has none, and is left out
    360_day    days are matched by their place in the year; the five or six days of the longer year that have none are
               left out (xarray's `convert_calendar` with align_on="year"). 30 February stays 30 February
    360_day    of fields with steps of more than a day, dates are matched (align_on="date")
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from finegrid.data.predictors import usual_step

_STANDARD = {"standard", "gregorian", "proleptic_gregorian"}
_DAY = 86400.0


def in_calendar_of(fields: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Standard fields at those of their times that have a like in the calendar of other fields, stamped in that one."""
    own, wanted = (str(each.time.dt.calendar) for each in (fields, other))
    if own == wanted or {own, wanted} <= _STANDARD:
        return fields
    daily = usual_step(fields.time) <= 1.01 * _DAY
    places = xr.DataArray(np.arange(fields.sizes["time"]), dims="time", coords={"time": fields.time})
    align = ("year" if daily else "date") if "360_day" in (own, wanted) else None
    found = places.convert_calendar(wanted, align_on=align)
    attributes = fields.time.attrs
    chosen = fields.isel(time=found.values.astype(np.int64)).drop_vars("time_bounds", errors="ignore")
    return chosen.assign_coords(time=("time", found.time.values, attributes))
