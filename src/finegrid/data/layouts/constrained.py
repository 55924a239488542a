"""The tensors of constrained downscaling: patches of a field and their block means, as files of torch or numpy.

    <data>/train/input_train.pt, target_train.pt      float (sample, step, channel, y, x), the target finer by a factor
    <data>/val/input_val.pt,     target_val.pt
    <data>/test/input_test.pt,   target_test.pt

or, as the benchmark's first code had it, train/<data>/input_train.pt and so on; .npy instead of .pt too, and arrays
(sample, channel, y, x) and (sample, y, x). Tensors are mapped, not read, and never unpickled (`torch_file`).

Samples are random times and places without a date: they become nominal days, every part in a year of its own, on a
nominal plane, with y and x numbered from 0 (a fine cell is 1 km). Methods must see no day in them (`cycles: []`), and
none that learns a place makes sense. Channels are called as `names` says, or value, value2, ...; of several steps each
is a variable of its own, value_t0, value_t1, ...

The layout is that of github.com/RolnickLab/constrained-downscaling of February 2025. Total column water (era5_sr_data)
is in kg m-2: open it with names=["tcw"], units="kg m-2".

Source: Harder et al. 2023, JMLR 24 (365), arXiv:2208.05424.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.joining import along_time
from finegrid.data.layouts.base import Layout, Opened
from finegrid.data.layouts.stepwise import mapped, mapped_array
from finegrid.data.layouts.torch_file import mapped_tensor
from finegrid.data.patches import FIRST_YEAR

PARTS = {"train": "train", "validate": "val", "test": "test"}
_FILES = "train/input_train.pt and target_train.pt (or .npy), and the same for val and test"
_ENDINGS = (".pt", ".npy")
_BLOCK_BYTES = 32_000_000
# Equal areas around the origin of the plane.
_PLANE: Mapping[str, Any] = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "latitude_of_projection_origin": 0.0,
    "longitude_of_projection_origin": 0.0,
    "earth_radius": 6_371_000.0,
}
# Nominal dates end with the nanoseconds of a 64-bit number.
_LAST_YEAR = 2250


def matches(folder: Path) -> bool:
    """Whether there is a training set of tensors."""
    return bool(sets(folder))


def sets(folder: Path) -> dict[str, dict[str, Path]]:
    """Folders of the parts (train, val, test) by the name of the data set."""
    found = {}
    for path in (*folder.glob("train/*"), *folder.glob("train/*/*"), *folder.glob("*/train/*")):
        if path.stem == "input_train" and path.suffix in _ENDINGS:
            own = path.parent
            nested = own.name != "train"  # train/<data>
            top = own.parents[1] if nested else own.parent
            parts = {part: (top / part / own.name if nested else top / part) for part in PARTS.values()}
            found[own.name if nested else top.name] = parts
    return dict(sorted(found.items()))


def read(
    folder: Path, *, data: str | None = None, names: Sequence[str] = (), units: str | Sequence[str] = "1"
) -> Opened:
    """Inputs and targets of all parts that are there, one after the other.

    Args:
        folder: with train, val and test, or of several data sets.
        data: which of these; the only one by default.
        names: of the channels.
        units: of the channels, or one for all.

    Raises:
        InputError: when a file is missing, or sizes do not fit.
    """
    known = sets(folder)
    if data is None and len(known) == 1:
        data = next(iter(known))
    if data not in known:
        raise InputError(
            f"got the data {data!r} of {folder}; expected one of {', '.join(known)}; choose with data=... (--option)"
        )
    pairs = {name: _pair(known[data][part], part) for name, part in PARTS.items() if known[data][part].is_dir()}
    counts = {name: len(given) for name, (given, _) in pairs.items()}
    dates = _nominal(counts)
    factor = _factor(*next(iter(pairs.values())), folder)
    fields = []
    for side, size in enumerate((factor, (1, 1))):
        parts = [_fields(pair[side], dates[name], size, names, units) for name, pair in pairs.items()]
        _check_alike(parts, folder)
        fields.append(along_time(parts, "time"))
        fields[-1].encoding["source"] = f"{known[data]['train'].parent} ({'targets' if side else 'inputs'})"
    edges = np.cumsum([0, *counts.values()])
    splits = {name: np.arange(edges[index], edges[index + 1]) for index, name in enumerate(counts)}
    return Opened(
        LAYOUT.name,
        fields[0],
        fields[1],
        splits=splits,
        choices={"data": tuple(known)},
        chosen={"data": data},
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def offers(folder: Path, **chosen: str) -> dict[str, tuple[str, ...]]:
    """The data sets of a folder."""
    return {"data": tuple(sets(folder))}


def _pair(folder: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    given, wanted = (_tensor(folder, f"{side}_{part}") for side in ("input", "target"))
    if len(given) != len(wanted):
        raise InputError(
            f"{folder} has {len(given)} inputs and {len(wanted)} targets; expected as many; download it again"
        )
    return given, wanted


def _tensor(folder: Path, stem: str) -> NDArray[Any]:
    """A tensor (sample, step, channel, y, x)."""
    path = next((path for end in _ENDINGS if (path := folder / f"{stem}{end}").exists()), None)
    if path is None:
        raise InputError(f"{folder} lacks {stem}.pt; expected {_FILES}; download it")
    values = mapped_tensor(path) if path.suffix == ".pt" else mapped_array(path)
    if values.ndim not in (3, 4, 5):
        raise InputError(f"{path} has the shape {values.shape}; expected (sample, step, channel, y, x); check the file")
    if values.ndim == 3:
        return values[:, None, None]
    return values[:, None] if values.ndim == 4 else values


def _factor(given: NDArray[Any], wanted: NDArray[Any], folder: Path) -> tuple[int, int]:
    low, high = given.shape[-2:], wanted.shape[-2:]
    if any(mine % theirs for mine, theirs in zip(high, low, strict=True)):
        raise InputError(
            f"{folder} has inputs of {low} and targets of {high} cells; expected a multiple; check the files"
        )
    return high[0] // low[0], high[1] // low[1]


def _fields(
    values: NDArray[Any],
    dates: NDArray[np.datetime64],
    size: tuple[int, int],
    names: Sequence[str],
    units: str | Sequence[str],
) -> xr.Dataset:
    """Fields (time, y, x) of cells of that size, a variable for every channel and step."""
    _, steps, channels, rows, columns = values.shape
    known = list(names) or ["value", *(f"value{number}" for number in range(2, channels + 1))]
    stated = [units] * channels if isinstance(units, str) else list(units)
    if len(known) < channels or len(stated) < channels:
        raise InputError(f"got names={known}, units={stated}; expected {channels} of each; change names and units")
    per = max(1, _BLOCK_BYTES // max(1, rows * columns * values.dtype.itemsize))
    fields = {}
    for step in range(steps):
        for channel in range(channels):
            name = f"{known[channel]}_t{step}" if steps > 1 else known[channel]
            lazy = mapped(values[:, step, channel], (per, -1, -1))
            fields[name] = (("time", "y", "x"), lazy, {"units": stated[channel], "grid_mapping": "crs"})
    places = {
        axis: (axis, each * np.arange(count) + (each - 1) / 2, _axis(axis))
        for axis, each, count in zip(("y", "x"), size, (rows, columns), strict=True)
    }
    return xr.Dataset(fields, coords={"time": dates, **places, "crs": ((), np.int32(0), dict(_PLANE))})


def _axis(axis: str) -> dict[str, str]:
    return {"standard_name": f"projection_{axis}_coordinate", "units": "km", "axis": axis.upper()}


def _nominal(counts: Mapping[str, int]) -> dict[str, NDArray[np.datetime64]]:
    """Nominal dates of every part, which begins a year of its own: days, or hours and minutes where there are many."""
    for unit in ("D", "h", "m"):
        year, dates = FIRST_YEAR, {}
        for name, count in counts.items():
            dates[name] = np.datetime64(f"{year}-01-01", unit) + np.arange(count)
            year = int(str(dates[name][-1])[:4]) + 1 if count else year
        if year <= _LAST_YEAR:
            return {name: each.astype("datetime64[ns]") for name, each in dates.items()}
    raise InputError(
        f"got {sum(counts.values())} samples; expected fewer than a hundred million; open parts one by one"
    )


def _check_alike(parts: Sequence[xr.Dataset], folder: Path) -> None:
    sizes = {(tuple(part.data_vars), part.sizes["y"], part.sizes["x"]) for part in parts}
    if len(sizes) > 1:
        raise InputError(f"the parts of {folder} have different sizes or channels; expected the same; check the files")


LAYOUT = Layout(
    name="constrained-downscaling",
    title="constrained downscaling: patches of ERA5, WRF or NorESM and their block means, as tensors",
    files=_FILES,
    citation="Harder et al. 2023, Hard-Constrained Deep Learning for Climate Downscaling, JMLR 24 (365); "
    "doi:10.5281/zenodo.8150694",
    licence="code MIT; the data come from ERA5 (Copernicus licence), WRF and NorESM",
    finds=matches,
    reads=read,
    offers=offers,
)
