"""RainShift: rain of a satellite from a reanalysis, learnt in some regions of the world and judged in others.

    <region>/train_data_in.zarr    ERA5 over 20 degrees, 0.25 degrees (80 x 80): cape, cp, sp, tclw, tcw, tisr, tp, u, v
    <region>/train_data_out.zarr   IMERG, 0.1 degrees (200 x 200): precipitation
    <region>/test_data_in.zarr, test_data_out.zarr      the same in later years
    <region>/static_variables.nc   on the fine cells: lsm, and z, the geopotential of the surface

18 regions (africa-south, ..., west-africa). A folder with the four stores is a region; stores may be NetCDF (.nc) too.
The archives of the hub (*.zarr.zip) hold a folder each and have to be unpacked.

The layout is that of the data set RainShift/rainshift on the Hugging Face hub as code of 2026 reads it. Not stated
there, and assumed where the files do not say: units, metres for tp and cp, and mm h-1 for precipitation, as in IMERG.
Which 12 regions are for training and which 6 for the evaluation is in the paper; pass their names as `region`.

Source: Harder, Schmidt et al. 2025, arXiv:2507.04930.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.joining import along_time
from finegrid.data.layouts.base import Layout, Opened, Word, common_times, worded
from finegrid.data.open import open_fields

INPUTS = {
    "cape": Word("cape", "J kg-1", "atmosphere_convective_available_potential_energy"),
    "cp": Word("cp", "m"),
    "sp": Word("sp", "Pa", "surface_air_pressure"),
    "tclw": Word("tclw", "kg m-2", "atmosphere_mass_content_of_cloud_liquid_water"),
    "tcw": Word("tcw", "kg m-2"),
    "tisr": Word("tisr", "J m-2"),
    "tp": Word("tp", "m", "lwe_thickness_of_precipitation_amount"),
    "u": Word("u", "m s-1", "eastward_wind"),
    "v": Word("v", "m s-1", "northward_wind"),
}
TARGET = {"precipitation": Word("precipitation", "mm h-1", "lwe_precipitation_rate")}
STATIC = {"lsm": Word("lsm", "1", "land_area_fraction"), "z": Word("z", "m2 s-2", "surface_geopotential")}

_PARTS = ("train", "test")
_NAMES = {part: (f"{part}_data_in", f"{part}_data_out") for part in _PARTS}
_FILES = "folders of regions with train_data_in.zarr, train_data_out.zarr, test_data_in.zarr and test_data_out.zarr"


def matches(folder: Path) -> bool:
    """Whether there is a region with a store of RainShift in it."""
    return bool(regions(folder))


def regions(folder: Path) -> dict[str, Path]:
    """Folders of the regions by their names; a folder of one region is that region."""
    within = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    found = {each.name: each for each in within if any(_store(each, stem) for stem in _NAMES["train"])}
    return {folder.name: folder} if folder.name in found else found


def read(folder: Path, *, region: str | None = None) -> Opened:
    """One region, its training years and its test years one after the other.

    Args:
        folder: of all regions, or of one.
        region: which one; the only one by default.

    Raises:
        InputError: when a region or a store is missing.
    """
    known = regions(folder)
    if region is None and len(known) == 1:
        region = next(iter(known))
    if region not in known:
        raise InputError(
            f"got the region {region!r} of {folder}; expected one of {', '.join(known)}; choose one with region=... "
            "(--option)"
        )
    pairs = {part: _pair(known[region], part) for part in _PARTS}
    coarse, fine = (along_time([pairs[part][side] for part in _PARTS], "time") for side in (0, 1))
    for fields, what in ((coarse, "inputs"), (fine, "rain")):
        fields.encoding["source"] = f"{known[region]} ({what})"
    counts = [pairs[part][0].sizes["time"] for part in _PARTS]
    edges = np.cumsum([0, *counts])
    splits = {part: np.arange(edges[index], edges[index + 1]) for index, part in enumerate(_PARTS)}
    return Opened(
        LAYOUT.name,
        coarse,
        fine,
        _static(known[region]),
        splits,
        choices={"region": tuple(known)},
        chosen={"region": region},
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def offers(folder: Path, **chosen: str) -> dict[str, tuple[str, ...]]:
    """The regions of a folder."""
    return {"region": tuple(regions(folder))}


def _pair(region: Path, part: str) -> tuple[xr.Dataset, xr.Dataset]:
    fields = []
    for stem, words in zip(_NAMES[part], (INPUTS, TARGET), strict=True):
        path = _store(region, stem)
        if path is None:
            archive = region / f"{stem}.zarr.zip"
            fix = f"unpack {archive.name} in that folder" if archive.exists() else "download it"
            raise InputError(f"{region} lacks {stem}.zarr; expected {_FILES}; {fix}")
        fields.append(worded(open_fields(path), words, source=str(path)))
    return common_times(fields[0], fields[1], f"{region} ({part})")


def _static(region: Path) -> tuple[xr.Dataset, ...]:
    path = region / "static_variables.nc"
    return (worded(open_fields(path), STATIC, source=str(path), every=False),) if path.exists() else ()


def _store(folder: Path, stem: str) -> Path | None:
    return next((path for end in (".zarr", ".nc") if (path := folder / f"{stem}{end}").exists()), None)


LAYOUT = Layout(
    name="rainshift",
    title="RainShift: precipitation across regions, ERA5 at 0.25 to IMERG at 0.1 degrees",
    files=_FILES,
    citation="Harder, Schmidt et al. 2025, RainShift: A Benchmark for Precipitation Downscaling Across Geographies, "
    "arXiv:2507.04930",
    licence="made of ERA5 (Copernicus licence) and IMERG (NASA, open data); see the card of RainShift/rainshift",
    finds=matches,
    reads=read,
    offers=offers,
)
