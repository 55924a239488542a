"""ChaosBench: the state of the atmosphere some days ahead, from days to seasons.

    era5/era5_full_1.5deg_YYYYMMDD.zarr       one store a day, 00 UTC: z, q, t, u, v, w (level, latitude, longitude) on
                                              121 x 240 points and 10 levels, 10 to 1000 hPa
    climatology/climatology_era5.zarr         mean and sigma (param,), param = "z-10", "z-50", ...
    climatology/climatology_era5_spatial.zarr the same for every day of the year and point
    lra5/, oras5/                             land and ocean, as optional further variables

Channels are variables and levels, z@500 once the fields are harmonised. z is in geopotential metres (the benchmark
divided by 9.81). The input is a day, the truth is the state `lead` days later, under the date of the input. Trained on
1979-2015, validated on 2016-2021, judged from 2022 on; a pair belongs to a part when both its days do.

A day may be a NetCDF file (.nc) too. The layout is that of github.com/leap-stc/ChaosBench of March 2025 and of the data
set LEAP/ChaosBench on the Hugging Face hub.

Source: Nathaniel et al. 2024, arXiv:2402.00712.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.layouts.base import Layout, Opened, Word
from finegrid.data.layouts.stepwise import read_step, stepwise, values_of
from finegrid.data.open import open_fields

ATMOSPHERE = {
    "z": Word("z", "m", "geopotential_height"),
    "q": Word("q", "kg kg-1", "specific_humidity"),
    "t": Word("t", "K", "air_temperature"),
    "u": Word("u", "m s-1", "eastward_wind"),
    "v": Word("v", "m s-1", "northward_wind"),
    "w": Word("w", "Pa s-1", "lagrangian_tendency_of_air_pressure"),
}
YEARS = {"train": (1979, 2015), "validate": (2016, 2021), "test": (2022, 9999)}

_DAY = re.compile(r"(\d{4})(\d{2})(\d{2})\.(zarr|nc)$")
_FILES = "a folder era5 with one store era5_full_1.5deg_YYYYMMDD.zarr a day"
_CLIMATOLOGIES = ("climatology_era5", "climatology_era5_spatial", "climatology_lra5", "climatology_oras5")
Dates = NDArray[np.datetime64]


def matches(folder: Path) -> bool:
    """Whether there is a day in the folder era5."""
    return (folder / "era5").is_dir() and any(_DAY.search(each.name) for each in (folder / "era5").iterdir())


def read(folder: Path, *, lead: int = 1, land: Sequence[str] = (), ocean: Sequence[str] = ()) -> Opened:
    """States of the atmosphere and those some days later.

    Args:
        folder: with era5 and climatology.
        lead: days from the input to the truth; 0 for the same day.
        land: further variables of lra5, such as t2m and tp.
        ocean: further variables of oras5, such as sosstsst.

    Raises:
        InputError: when a folder is missing, no two days are `lead` apart, or a variable is not there.
    """
    if lead < 0:
        raise InputError(f"got lead={lead}; expected days ahead, 0 or more; set lead")
    dates, days = _days(folder / "era5")
    fields = _levels(dates, days)
    for name, wanted in (("lra5", land), ("oras5", ocean)):
        if wanted:
            fields = fields.merge(_surface(folder / name, wanted, dates), join="exact", combine_attrs="override")
    start = _pairs(dates, lead)
    ahead = np.searchsorted(dates, dates[start] + np.timedelta64(lead, "D"))
    coarse, fine = fields.isel(time=start), fields.isel(time=ahead).assign_coords(time=dates[start])
    for part, words in ((coarse, "inputs"), (fine, f"{lead} days later")):
        part.encoding["source"] = f"{folder / 'era5'} ({words})"
    return Opened(
        LAYOUT.name,
        coarse,
        fine,
        splits=_splits(dates[start], dates[ahead]),
        chosen={"lead": str(lead)},
        extras=dict(_climatologies(folder / "climatology")),
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def _days(folder: Path) -> tuple[Dates, list[Path]]:
    """Dates of the stores in a folder, ascending, and the stores."""
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; expected {_FILES}; download it")
    found = {
        match[1] + match[2] + match[3]: path for path in sorted(folder.iterdir()) if (match := _DAY.search(path.name))
    }
    stamps = sorted(found)
    dates = np.array([f"{each[:4]}-{each[4:6]}-{each[6:]}" for each in stamps], dtype="datetime64[ns]")
    return dates, [found[each] for each in stamps]


def _levels(dates: Dates, days: list[Path]) -> xr.Dataset:
    first = read_step(days[0])
    level = next((name for name in ("level", "pressure_level", "isobaricInhPa") if name in first.dims), None)
    if level is None:
        raise InputError(f"{days[0]} has no levels; expected variables over level, latitude and longitude; download it")
    dims = (level, "latitude", "longitude")
    levels = xr.Variable(
        "level", first[level].values, {"units": "hPa", "standard_name": "air_pressure", "positive": "down"}
    )
    return (
        _fields(ATMOSPHERE, dates, days, first, dims)
        .rename({level: "level"} if level != "level" else {})
        .assign_coords(level=levels)
    )


def _surface(folder: Path, wanted: Sequence[str], dates: Dates) -> xr.Dataset:
    own, days = _days(folder)
    place = np.searchsorted(own, dates)
    known = (place < len(own)) & (own[np.minimum(place, len(own) - 1)] == dates)
    if not known.all():
        raise InputError(f"{folder} lacks {dates[~known][0]!s:.10}; expected the days of era5; download it")
    files = [days[index] for index in place]
    first = read_step(files[0])
    words = {name: Word(name, str(first[name].attrs.get("units", "1")) if name in first else "1") for name in wanted}
    return _fields(words, dates, files, first, ("latitude", "longitude"))


def _fields(
    words: dict[str, Word], dates: Dates, days: list[Path], first: xr.Dataset, dims: tuple[str, ...]
) -> xr.Dataset:
    """Variables (time, *dims), read from the stores of the days when they are needed."""
    fields = {}
    for name, word in words.items():
        sample = values_of(first, name, dims, days[0])
        values = stepwise(days, partial(_values, name=name, dims=dims), sample.shape, np.float32)
        standard = {"standard_name": word.standard_name} if word.standard_name else {}
        fields[word.name] = (("time", *dims), values, {**standard, "units": word.units})
    coords: dict[str, Any] = {"time": dates} | {dim: first[dim].variable for dim in dims if dim in first.coords}
    return xr.Dataset(fields, coords=coords)


def _values(path: Path, *, name: str, dims: tuple[str, ...]) -> NDArray[Any]:
    return values_of(read_step(path, [name]), name, dims, path)


def _pairs(dates: Dates, lead: int) -> NDArray[np.intp]:
    """Days of which the one `lead` days later is there too."""
    start = np.flatnonzero(np.isin(dates + np.timedelta64(lead, "D"), dates))
    if not len(start):
        raise InputError(
            f"got {len(dates)} days from {dates[0]!s:.10} to {dates[-1]!s:.10}, no two of them {lead} days apart; "
            "expected some; download more days, or set a shorter lead"
        )
    return start


def _splits(start: Dates, ahead: Dates) -> dict[str, NDArray[np.intp]]:
    years = [each.astype("datetime64[Y]").astype(np.int64) + 1970 for each in (start, ahead)]
    return {
        name: np.flatnonzero((years[0] >= first) & (years[1] <= last) & (years[0] <= last))
        for name, (first, last) in YEARS.items()
    }


def _climatologies(folder: Path) -> dict[str, xr.Dataset]:
    """Means and deviations with channels named as those of harmonised fields."""
    found = {}
    for name in _CLIMATOLOGIES:
        path = folder / f"{name}.zarr"
        if path.exists():
            fields = open_fields(path)
            channels = [str(each).replace("-", "@") for each in fields.param.values]
            found[name] = fields.assign_coords(param=channels)
    return found


LAYOUT = Layout(
    name="chaosbench",
    title="ChaosBench: the atmosphere on ten levels, some days ahead, 1.5 degrees",
    files=_FILES,
    citation="Nathaniel et al. 2024, ChaosBench, arXiv:2402.00712",
    licence="the data set LEAP/ChaosBench says GPL-3.0; made of ERA5, ERA5-Land and ORAS5 (Copernicus licence)",
    finds=matches,
    reads=read,
)
