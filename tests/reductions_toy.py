"""Rain of an ensemble and its truth, in the words of a file, for tests of scores over dimensions and groups."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation import METRICS

LAT, LON = np.arange(60.5, 52, -1.0), np.arange(5.5, 17, 1.0)
"""9 x 12 cells of one degree, from north to south as most files have them."""
TIMES = pd.date_range("2001-01-01", periods=30, freq="12D")
AREA = (np.sin(np.deg2rad(LAT + 0.5)) - np.sin(np.deg2rad(LAT - 0.5)))[:, None] * np.ones(len(LON))
Fields = NDArray[np.float64]


def field(values: Fields, *, name: str | None = "rain") -> xr.DataArray:
    """Rain (member, time, lat, lon) in the words of a file."""
    coords = {
        "time": TIMES[: values.shape[-3]],
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    about = {
        "units": "mm/day",
        "long_name": "daily rain",
        "standard_name": "lwe_precipitation_rate",
        "source": "made up",
    }
    dims = ("member", "time", "lat", "lon")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coords, name=name, attrs=about)


def made(members: int = 4, *, times: int = 30, seed: int = 0, gaps: str = "all") -> tuple[xr.DataArray, xr.DataArray]:
    """Members and truth, a third of it dry, with a corner that is never known, and other cells that are not always."""
    random = np.random.default_rng(seed)
    signal = random.normal(0.5, 1, (times, len(LAT), len(LON)))
    prediction = np.maximum(signal + random.normal(size=(members, *signal.shape)), 0)
    truth = np.maximum(signal + random.normal(size=signal.shape), 0)
    if gaps:
        truth[:, :2, :3] = np.nan
    if gaps == "all":
        truth[random.random(truth.shape) < 0.1] = np.nan
    return field(prediction), field(truth)


def regions() -> xr.DataArray:
    """North and south, and a corner that is neither."""
    names = np.where(LAT[:, None] > 57, "north", "south") * np.ones(len(LON), dtype=int)[None].astype(object)
    names[-2:, -2:] = None
    return xr.DataArray(names, dims=("lat", "lon"), coords={"lat": LAT, "lon": LON}, name="region")


def whole(name: str, prediction: xr.DataArray, truth: xr.DataArray, **more: float) -> float:
    """By the metric itself, which asks for the standard form."""
    standard = (each.rename(lat="y", lon="x").isel(y=slice(None, None, -1)) for each in (prediction, truth))
    return METRICS[name](*standard, **more)
