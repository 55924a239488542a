"""ClimateBench: the yearly climate of NorESM2-LM from emissions.

    inputs_<experiment>.nc     CO2 (time,) cumulative emissions in Gt, CH4 (time,) in Gt a year,
                               SO2 and BC (time, latitude, longitude) in kg m-2 s-1
    outputs_<experiment>.nc    tas, diurnal_temperature_range, pr, pr90 (member, time, lat, lon),
                               on the same 96 x 144 cells

Time is a year. Outputs are differences from the mean of the control run, so that pr and pr90 may be negative; the mean
over members is taken, over those that are known (one lacks some temperature ranges). Trained on historical, ssp126,
ssp370, ssp585, hist-GHG and hist-aer; judged on ssp245, in its years 2080-2100.

Several experiments are one record: they follow each other on nominal years, the first in its own, and the coordinates
`experiment` and `year` say what a time is. Methods must not see a year in them (`cycles: []`). Years are of 365 days,
as in the model; a year is stamped on 1 July.

Methods of finegrid want coarse fields of what they predict. With `factor` the inputs hold block means of the outputs,
and SO2 and BC on the same blocks; without it they are what the benchmark gives.

Files are found in the folder and in the folders below it (train_val, test). The layout is that of
doi:10.5281/zenodo.5196512 as github.com/duncanwp/ClimateBench wrote it in 2022; files have no units, those here are the
ones that its code states.

Source: Watson-Parris et al. 2022, doi:10.1029/2021MS002954.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cftime  # type: ignore[import-untyped,unused-ignore]
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.data.joining import along_time
from finegrid.data.layouts.base import Layout, Opened, Word, worded
from finegrid.data.open import open_fields

TRAIN = ("historical", "ssp126", "ssp370", "ssp585", "hist-GHG", "hist-aer")
TEST = ("ssp245",)
HISTORY = "historical"

SERIES = {"CO2": Word("CO2", "Gt"), "CH4": Word("CH4", "Gt year-1")}
MAPS = {name: Word(name, "kg m-2 s-1") for name in ("SO2", "BC")}
# Differences have the limits of no natural quantity, hence names that are not those of amounts.
_CHANGE = "change_over_time_in_"
OUTPUTS = {
    "tas": Word("tas", "K", f"{_CHANGE}air_temperature"),
    "diurnal_temperature_range": Word("diurnal_temperature_range", "K"),
    "pr": Word("pr", "kg m-2 s-1", f"{_CHANGE}precipitation_flux"),
    "pr90": Word("pr90", "kg m-2 s-1"),
}

_FILES = "files inputs_<experiment>.nc and outputs_<experiment>.nc"
_PLACES = {
    "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
}


def matches(folder: Path) -> bool:
    """Whether there is an experiment with inputs and outputs."""
    return bool(experiments(folder))


def experiments(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Files of inputs and outputs by the name of the experiment."""
    files = {path.name: path for path in (*sorted(folder.glob("*.nc")), *sorted(folder.glob("*/*.nc")))}
    names = [name.removeprefix("inputs_").removesuffix(".nc") for name in files if name.startswith("inputs_")]
    both = {name: (f"inputs_{name}.nc", f"outputs_{name}.nc") for name in names}
    return {name: (files[given], files[wanted]) for name, (given, wanted) in both.items() if wanted in files}


def read(
    folder: Path,
    *,
    experiment: str | Sequence[str] | None = None,
    history: bool = False,
    members: bool = False,
    factor: int | None = None,
) -> Opened:
    """Experiments one after the other.

    Args:
        folder: with the files.
        experiment: one or several; by default those of training and test that are there.
        history: whether the historical years stand before each scenario that begins after them.
        members: keep the members of a single experiment instead of their mean.
        factor: cells of a block along either side, to have block means of the outputs among the inputs.

    Raises:
        InputError: when an experiment is missing, or has other variables.
    """
    known = experiments(folder)
    wanted = _wanted(experiment, known, folder, history=history)
    if members and (len(wanted) > 1 or history):
        raise InputError(
            f"got members=True for {', '.join(wanted)}; expected a single experiment without history, for they have "
            "different numbers of members; choose one with experiment=..."
        )
    parts = [_record(name, known, history=history, members=members) for name in wanted]
    coarse, fine, place = _one_record(wanted, parts)
    if factor is not None:
        coarse = _blocks(coarse, fine, factor)
    for fields, what in ((coarse, "inputs"), (fine, "outputs")):
        fields.encoding["source"] = f"{folder} ({what} of {', '.join(wanted)})"
    return Opened(
        LAYOUT.name,
        coarse,
        fine,
        splits=_splits(place),
        choices={"experiment": tuple(known)},
        chosen={"experiment": ", ".join(wanted)},
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def _wanted(
    experiment: str | Sequence[str] | None, known: dict[str, tuple[Path, Path]], folder: Path, *, history: bool
) -> list[str]:
    if experiment is None:
        usual = [name for name in (*TRAIN, *TEST) if name in known and not (history and name == HISTORY)]
        return usual or list(known)[:1]
    wanted = [experiment] if isinstance(experiment, str) else list(experiment)
    for name in [*wanted, *([HISTORY] if history else [])]:
        if name not in known:
            raise InputError(
                f"{folder} has no experiment '{name}'; expected some of {', '.join(known)}; choose of these"
            )
    return wanted


def _record(
    name: str, known: dict[str, tuple[Path, Path]], *, history: bool, members: bool
) -> tuple[xr.Dataset, xr.Dataset]:
    """Inputs and outputs of an experiment over its years, those of history before them where they are wanted."""
    own = _read(known[name], members=members)
    if not history or name == HISTORY or HISTORY not in known:
        return own
    before = _read(known[HISTORY], members=members)
    if int(own[0].time[0]) <= int(before[0].time[-1]):
        return own
    return along_time([before[0], own[0]], "time"), along_time([before[1], own[1]], "time")


def _read(files: tuple[Path, Path], *, members: bool) -> tuple[xr.Dataset, xr.Dataset]:
    given, wanted = (open_fields(path) for path in files)
    given = given.rename({old: new for old, new in (("latitude", "lat"), ("longitude", "lon")) if old in given.dims})
    given = _as_maps(given, wanted)
    inputs = worded(given, SERIES | MAPS, source=str(files[0]))
    outputs = worded(wanted, OUTPUTS, source=str(files[1])).drop_vars("quantile", errors="ignore")
    if "member" in outputs.dims and not members:
        outputs = outputs.mean("member", keep_attrs=True, dtype=np.float64).astype(np.float32)
    years = np.intersect1d(inputs.time.values, outputs.time.values)
    if not len(years):
        raise InputError(f"{files[0]} and {files[1]} have no years in common; expected the same; download them again")
    return _placed(inputs.sel(time=years)), _placed(outputs.sel(time=years))


def _as_maps(given: xr.Dataset, outputs: xr.Dataset) -> xr.Dataset:
    """Aerosols of the idealised experiments are series of zeros: as maps, like those of the others."""
    flat = {name: given[name] for name in MAPS if name in given and "lat" not in given[name].dims}
    if not flat:
        return given
    plane = {dim: outputs[dim] for dim in ("lat", "lon")}
    return given.assign(
        {name: series.expand_dims(plane).transpose("time", "lat", "lon") for name, series in flat.items()}
    )


def _placed(fields: xr.Dataset) -> xr.Dataset:
    return fields.assign_coords({name: fields[name].assign_attrs(words) for name, words in _PLACES.items()})


def _one_record(
    names: Sequence[str], parts: Sequence[tuple[xr.Dataset, xr.Dataset]]
) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    years = [np.asarray(inputs.time.values, dtype=np.int64) for inputs, _ in parts]
    nominal = np.arange(sum(map(len, years))) + years[0][0]
    stamps = years[0] if len(parts) == 1 else nominal
    coords: dict[str, Any] = {
        "time": ("time", _dates(stamps)),
        "year": ("time", np.concatenate(years)),
        "experiment": ("time", np.repeat(list(names), [len(each) for each in years])),
    }
    place = xr.Dataset(coords=coords)
    coarse, fine = (along_time([_matching(part[side], parts[0][side]) for part in parts], "time") for side in (0, 1))
    return coarse.assign_coords(coords), fine.assign_coords(coords), place


def _matching(fields: xr.Dataset, first: xr.Dataset) -> xr.Dataset:
    """Fields on the first ones' cells, whose coordinates may differ in the last digit.

    Raises:
        InputError: when they are on others.
    """
    same = all(
        fields.sizes[dim] == first.sizes[dim] and np.allclose(fields[dim], first[dim], rtol=0, atol=1e-3)
        for dim in ("lat", "lon")
    )
    if not same:
        raise InputError(
            "experiments are on different cells; expected one grid; choose those that are alike with experiment=..."
        )
    return fields.assign_coords(lat=first.lat, lon=first.lon)


def _dates(years: NDArray[np.int64]) -> NDArray[Any]:
    return np.array([cftime.DatetimeNoLeap(year, 7, 1) for year in years.tolist()])


def _splits(place: xr.Dataset) -> dict[str, NDArray[np.intp]]:
    """Learning and test years; years of history before a test scenario are in neither."""
    experiment, year = place.experiment.values, place.year.values
    test = np.isin(experiment, TEST)
    last = int(year[test].max()) if test.any() else 0
    return {
        "train": np.flatnonzero(np.isin(experiment, TRAIN)),
        "test": np.flatnonzero(test & (year > 2014)),
        "scored": np.flatnonzero(test & (year > last - 21)),
    }


def _blocks(inputs: xr.Dataset, outputs: xr.Dataset, factor: int) -> xr.Dataset:
    """Block means of outputs and of the maps of the inputs, and the series."""
    mean = outputs.mean("member", keep_attrs=True) if "member" in outputs.dims else outputs
    maps = inputs[list(MAPS)].assign_coords(lat=mean.lat, lon=mean.lon)
    coarse = coarsen(xr.merge([mean, maps], combine_attrs="override", compat="override"), factor)
    return coarse.assign({name: inputs[name] for name in SERIES})


LAYOUT = Layout(
    name="climatebench",
    title="ClimateBench: yearly tas, diurnal_temperature_range, pr and pr90 of NorESM2-LM from emissions",
    files=_FILES,
    citation="Watson-Parris et al. 2022, ClimateBench v1.0, doi:10.1029/2021MS002954; data doi:10.5281/zenodo.5196512",
    licence="made of CMIP6 (NorESM2-LM) and input4MIPs; see the record on Zenodo",
    finds=matches,
    reads=read,
)
