"""GeoTIFF files, read by rioxarray (the extra `geotiff`).

Bands that are described by dates, or files whose names end in one (`pr_20010131.tif`), are steps of time; all
other bands are static fields, named by their descriptions or, when there is one band, by the file.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.bounds import check_axis, check_chunk

_DATE = re.compile(r"^(?P<name>.*?)[_.-]?(?P<year>[12]\d{3})-?(?P<month>[01]\d)-?(?P<day>[0-3]\d)$")
_BLOCKS = {"band": 1, "y": 4096, "x": 4096}
# Attributes of GDAL that no longer hold once values are unpacked, or that became names.
_SPENT = ("scale_factor", "add_offset", "_FillValue", "long_name")


def open_geotiff(path: Path) -> xr.Dataset:
    """The bands of a GeoTIFF as fields over y and x, and over time where they or the file name give dates."""
    import pyproj  # noqa: F401  (before rasterio, whose PROJ library is another)

    try:
        import rioxarray
    except ImportError as error:
        raise InputError(f'{path} is a GeoTIFF; reading it needs rioxarray: pip install "finegrid[geotiff]"') from error
    try:
        with warnings.catch_warnings():
            # rioxarray multiplies affine transforms the old way.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            _check_blocks(path)
            # The driver is said: GDAL must not take the file for another kind, of which some lead to addresses.
            opened: Any = rioxarray.open_rasterio(path, chunks=dict(_BLOCKS), masked=True, driver="GTiff")
    except InputError:
        raise
    except Exception as error:  # rasterio raises its own kinds, which cannot be named without importing it
        raise InputError(f"{path} cannot be read as GeoTIFF ({error}). Check it with `gdalinfo`") from error
    if not isinstance(opened, xr.DataArray):
        raise InputError(f"{path} holds bands of different sizes; expected one grid. Split it with `gdal_translate`")
    return _as_fields(opened, path)


def _check_blocks(path: Path) -> None:
    """Blocks and axes fit into memory, before room is made for them.

    Raises:
        InputError: names the band.
    """
    import rasterio

    with rasterio.open(path, driver="GTiff") as file:
        for name, length in (("x", file.width), ("y", file.height)):
            check_axis(path, name, length, np.dtype(float).itemsize)
        for band, (shape, kind) in enumerate(zip(file.block_shapes, file.dtypes, strict=True), start=1):
            remedy = "rewrite it with smaller blocks: `gdal_translate -co TILED=YES in.tif out.tif`"
            check_chunk(path, f"band {band}", shape, np.dtype(kind).itemsize, remedy=remedy)


def _as_fields(bands: xr.DataArray, path: Path) -> xr.Dataset:
    described = bands.attrs.get("long_name", ())
    names = [described] if isinstance(described, str) else list(described)
    dates = [_date(name) for name in names]
    attributes = {key: value for key, value in bands.attrs.items() if key not in _SPENT}
    encoding = {"grid_mapping": bands.encoding.get("grid_mapping", "spatial_ref")}
    stem, day = _stem_and_day(path)
    if dates and all(date is not None for date in dates):
        time = np.array([date for date in dates if date is not None])
        fields = {stem: bands.rename(band="time").assign_coords(time=time)}
    elif bands.sizes["band"] == 1:
        single, name = bands.isel(band=0, drop=True), names[0] if names and dates[0] is None else stem
        fields = {name: single if day is None else single.expand_dims(time=[day])}
    else:
        names = names if len(set(names)) == bands.sizes["band"] else [f"band_{value}" for value in bands["band"].values]
        fields = {name: bands.isel(band=index, drop=True) for index, name in enumerate(names)}
    for field in fields.values():
        field.attrs, field.encoding = dict(attributes), dict(encoding)
    return xr.Dataset({name: field.rename(name) for name, field in fields.items()})


def _stem_and_day(path: Path) -> tuple[str, np.datetime64 | None]:
    """The name of the variable and the date that a file name ends in, if any."""
    match = _DATE.match(path.stem)
    day = _date(f"{match['year']}-{match['month']}-{match['day']}") if match else None
    return (match["name"] or "values", day) if match and day is not None else (path.stem, None)


def _date(text: str) -> np.datetime64 | None:
    if not re.match(r"^\d{4}-\d{2}(-\d{2}([T ]\d{2}(:\d{2}){0,2})?)?$", str(text)):
        return None
    try:
        return np.datetime64(str(text), "ns")
    except ValueError:
        return None
