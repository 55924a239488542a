"""Weather2K: weather stations of China, hour by hour, and the same some hours later.

    Weather2K-R/data.npy     (station, variable, time): 1866 stations; latitude, longitude, altitude and 20 variables;
                             40896 hours; or 13 variables in all and 13632 times, every third hour
    Weather2K-S/<number>.csv 15 of these stations, a file each, numbered as in R

Times run from 1 January 2017, 00 h, to the end of August 2021, in China standard time (UTC + 8 h), which is kept.
Fields are (time, point) with the coordinates lat, lon and alt of the stations. The input is an hour, the truth is what
the stations measured `lead` hours later, under the time of the input. Part N of the benchmark is not published.

Facts from github.com/bycnfz/weather2k of January 2024. Assumed, for no source says it: the parts (the first 70 % of the
times are for training, 10 % for validation, the last 20 % for the test; set `fractions`), and the columns of S, found
by the short names of the variables in their header, or in the order of R. idx2stat.txt (numbers of the weather service)
is not read.

Source: Zhu et al. 2023, AISTATS, PMLR 206, arXiv:2302.10493.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.layouts.base import Layout, Opened, Word
from finegrid.data.layouts.stepwise import mapped, mapped_array

START = "2017-01-01T00"
PLACES = {"lat": ("lat", "degrees_north"), "lon": ("lon", "degrees_east"), "alt": ("alt", "m")}
VARIABLES = {
    "ap": Word("ps", "hPa", "surface_air_pressure"),
    "t": Word("tas", "degC", "air_temperature"),
    "mxt": Word("tasmax", "degC"),
    "mnt": Word("tasmin", "degC"),
    "dt": Word("tdps", "degC", "dew_point_temperature"),
    "rh": Word("hurs", "percent", "relative_humidity"),
    "wvp": Word("vapour_pressure", "hPa", "water_vapor_partial_pressure_in_air"),
    "p1": Word("pr_1h", "mm"),
    "p2": Word("pr_3h", "mm"),
    "p3": Word("pr_6h", "mm"),
    "p4": Word("pr_12h", "mm"),
    "p5": Word("pr_24h", "mm"),
    "wd": Word("wind_direction", "degree", "wind_from_direction"),
    "ws": Word("sfcWind", "m s-1", "wind_speed"),
    "mwd": Word("wind_direction_max", "degree"),
    "mws": Word("sfcWindmax", "m s-1"),
    "st": Word("ts", "degC", "surface_temperature"),
    "hv1": Word("visibility_1min", "m"),
    "hv2": Word("visibility_10min", "m"),
    "vv": Word("visibility_vertical", "m"),
}
# The release of every third hour: 3-hour rain is called p3 there.
SHORTER = {name: VARIABLES[name] for name in ("ap", "t", "mxt", "mnt", "rh")} | {
    "p3": Word("pr_3h", "mm"),
    **{name: VARIABLES[name] for name in ("wd", "ws", "mwd", "mws")},
}
_TABLES = {len(PLACES) + len(each): (each, hours) for each, hours in ((VARIABLES, 1), (SHORTER, 3))}
_FILES = "Weather2K-R/data.npy of 23 or 13 variables (station, variable, time), or Weather2K-S/<number>.csv"
_CHUNK = 4096


def matches(folder: Path) -> bool:
    """Whether there is the cube of stations, or their tables."""
    cube = _cube_path(folder)
    if cube is not None:
        try:
            shape = mapped_array(cube).shape
        except InputError:
            return False
        return len(shape) == 3 and shape[1] in _TABLES
    return bool(_tables(folder)) and "weather2k" in str(folder.resolve()).lower() + str(_tables(folder)[0]).lower()


def read(
    folder: Path,
    *,
    part: str | None = None,
    lead: int = 24,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
) -> Opened:
    """Stations and what they measured some hours later.

    Args:
        folder: with Weather2K-R and Weather2K-S, or one of these.
        part: "R" or "S"; by default R where it is there.
        lead: hours from the input to the truth.
        fractions: of the times for training, validation and test; `lead` hours before each later part are in none.

    Raises:
        InputError: when a file is missing or has other variables, or `lead` is no multiple of the step.
    """
    known = {"R": _cube_path(folder) is not None, "S": bool(_tables(folder))}
    there = tuple(name for name, is_there in known.items() if is_there)
    part = there[0] if part is None and there else part
    if part not in there:
        raise InputError(
            f"got the part {part!r} of {folder}; expected one of {', '.join(there) or 'R, S'}; choose part"
        )
    fields, hours = _from_cube(folder) if part == "R" else _from_tables(folder)
    if lead < 0 or lead % hours or lead // hours >= fields.sizes["time"]:
        raise InputError(
            f"got lead={lead} for {fields.sizes['time']} times of {hours} h; expected a multiple of {hours} within the "
            "record; set lead"
        )
    count = fields.sizes["time"] - lead // hours
    coarse, fine = fields.isel(time=slice(count)), fields.isel(time=slice(lead // hours, None))
    fine = fine.assign_coords(time=coarse.time)
    for each, words in ((coarse, "inputs"), (fine, f"{lead} h later")):
        each.encoding["source"] = f"{folder}, part {part} ({words})"
    return Opened(
        LAYOUT.name,
        coarse,
        fine,
        splits=_splits(count, fractions, lead // hours),
        choices={"part": there},
        chosen={"part": part, "lead": str(lead)},
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def _cube_path(folder: Path) -> Path | None:
    return next((each for each in (folder / "data.npy", folder / "Weather2K-R" / "data.npy") if each.exists()), None)


def _tables(folder: Path) -> list[Path]:
    """Tables of the stations, by their number."""
    found = [path for path in (*folder.glob("*.csv"), *folder.glob("Weather2K-S/*.csv")) if path.stem.isdigit()]
    return sorted(found, key=lambda path: int(path.stem))


def _from_cube(folder: Path) -> tuple[xr.Dataset, int]:
    cube = mapped_array(_cube_path(folder) or folder)
    words, hours = _TABLES[cube.shape[1]]
    fields = {}
    for index, word in enumerate(words.values(), start=len(PLACES)):
        lazy = mapped(cube[:, index], (-1, _CHUNK)).T.astype(np.float32)
        fields[word.name] = (("time", "point"), lazy, _attributes(word))
    places = np.asarray(cube[:, : len(PLACES), 0], dtype=np.float64)
    return xr.Dataset(fields, coords=_coords(places, np.arange(len(cube)), cube.shape[2], hours)), hours


def _from_tables(folder: Path) -> tuple[xr.Dataset, int]:
    paths = _tables(folder)
    values = [_table(path) for path in paths]
    if len({each.shape for each in values}) > 1:
        raise InputError(
            f"the tables in {paths[0].parent} have different lengths; expected the same; download them again"
        )
    cube = np.stack(values)  # (station, time, variable)
    words, hours = _TABLES[cube.shape[2]]
    fields = {
        word.name: (("time", "point"), cube[:, :, index].T.astype(np.float32), _attributes(word))
        for index, word in enumerate(words.values(), start=len(PLACES))
    }
    numbers = np.array([int(path.stem) for path in paths])
    return xr.Dataset(fields, coords=_coords(cube[:, 0, : len(PLACES)], numbers, cube.shape[1], hours)), hours


def _table(path: Path) -> NDArray[np.float64]:
    """The values of a table (time, variable) in the order of the cube."""
    table = pd.read_csv(path)
    named = {str(name).strip().lower(): name for name in table.columns}
    for words, _ in _TABLES.values():
        wanted = [*PLACES, *words]
        if all(name in named for name in wanted):
            return np.asarray(table[[named[name] for name in wanted]], dtype=np.float64)
    plain = pd.read_csv(path, header=None if _numbers(table.columns) else 0)
    if plain.shape[1] in _TABLES:
        return np.asarray(plain, dtype=np.float64)
    raise InputError(
        f"{path} has the columns {', '.join(map(str, table.columns))}; expected {', '.join([*PLACES, *VARIABLES])}, by "
        "name or in that order; check the file"
    )


def _numbers(names: pd.Index) -> bool:
    """Whether the first row is no header."""
    return bool(pd.to_numeric(pd.Series([str(name) for name in names]), errors="coerce").notna().mean() > 0.5)


def _coords(places: NDArray[np.float64], numbers: NDArray[Any], count: int, hours: int) -> dict[str, Any]:
    steps = np.timedelta64(hours, "h") * np.arange(count)
    times = (np.datetime64(START, "h") + steps).astype("datetime64[ns]")
    stations = {
        name: ("point", places[:, index], {"units": units}) for index, (name, units) in enumerate(PLACES.values())
    }
    return {"time": ("time", times, {"comment": "China standard time, UTC + 8 h"}), "point": numbers, **stations}


def _attributes(word: Word) -> dict[str, str]:
    return {"units": word.units} | ({"standard_name": word.standard_name} if word.standard_name else {})


def _splits(count: int, fractions: tuple[float, float, float], gap: int) -> dict[str, NDArray[np.intp]]:
    edges = np.round(np.cumsum([0.0, *fractions]) * count).astype(int)
    if edges[-1] > count or min(fractions) < 0:
        raise InputError(f"got fractions={fractions}; expected three that add up to 1 at most; change them")
    ends = [edges[1] - gap, edges[2] - gap, edges[3]]
    names = ("train", "validate", "test")
    return {name: np.arange(edges[index], max(edges[index], ends[index])) for index, name in enumerate(names)}


LAYOUT = Layout(
    name="weather2k",
    title="Weather2K: stations of China, some hours ahead",
    files=_FILES,
    citation="Zhu et al. 2023, Weather2K, AISTATS, PMLR 206: 2704-2722",
    licence="not stated; ask the authors (github.com/bycnfz/weather2k)",
    finds=matches,
    reads=read,
)
