import os
from collections.abc import Iterator
from pathlib import Path

# Before NumPy and torch load their thread pools: parallel test workers share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import hypothesis
import numpy as np
import pytest
import xarray as xr

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights are kept in a folder of the test run, never in that of the user."""
    from finegrid.grids.storage import FOLDER_VARIABLE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real files; tests that use it are marked `data`."""
    folder = os.environ.get("FINEGRID_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set FINEGRID_DATA to the folder that holds them")
    return Path(folder)


@pytest.fixture
def toy_fine() -> xr.Dataset:
    """Daily t2m (K) and pr (mm/day, mostly dry): 60 days, 16 x 24 cells of 0.25 degrees, as in a CF file."""
    random = np.random.default_rng(0)
    days = np.arange(60)
    weather = random.normal(size=(60, 1, 1)) + 0.5 * random.normal(size=(60, 16, 24))
    relief = np.sin(np.arange(16))[:, None] * np.cos(np.arange(24) / 3)
    season = 8 * np.sin(2 * np.pi * days / 365)[:, None, None]
    return _cf_dataset(
        lat=45.125 + 0.25 * np.arange(16),
        lon=5.125 + 0.25 * np.arange(24),
        t2m=283 + season + 2 * weather - 3 * relief,
        pr=np.maximum(4 * weather + 2 * relief - 3, 0),
    )


@pytest.fixture
def toy_coarse(toy_fine: xr.Dataset) -> xr.Dataset:
    """The area-weighted means of `toy_fine` over blocks of 4 x 4 cells."""
    lat, lon = toy_fine["lat"].values, toy_fine["lon"].values
    return _cf_dataset(
        lat=lat.reshape(-1, 4).mean(axis=1),
        lon=lon.reshape(-1, 4).mean(axis=1),
        t2m=_block_mean(toy_fine["t2m"].values, lat),
        pr=_block_mean(toy_fine["pr"].values, lat),
    )


def _block_mean(values: np.ndarray, lat: np.ndarray) -> np.ndarray:
    # Between two meridians, the area of a cell is proportional to the difference of its sines of latitude.
    area = np.sin(np.radians(lat + 0.125)) - np.sin(np.radians(lat - 0.125))
    blocks = values.astype(np.float64).reshape(60, 4, 4, 6, 4)
    return np.einsum("tyixj,yi->tyx", blocks, area.reshape(4, 4)) / (4 * area.reshape(4, 4).sum(axis=1))[:, None]


def _cf_dataset(*, lat: np.ndarray, lon: np.ndarray, t2m: np.ndarray, pr: np.ndarray) -> xr.Dataset:
    dims = ("time", "lat", "lon")
    temperature = {"units": "K", "standard_name": "air_temperature", "long_name": "2 m temperature"}
    rain = {"units": "mm/day", "standard_name": "lwe_precipitation_rate", "cell_methods": "time: mean"}
    return xr.Dataset(
        {"t2m": (dims, t2m.astype(np.float32), temperature), "pr": (dims, pr.astype(np.float32), rain)},
        coords={
            "time": ("time", np.datetime64("2001-01-01", "ns") + np.arange(60) * np.timedelta64(1, "D")),
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
        attrs={"Conventions": "CF-1.11", "title": "toy fields"},
    )


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler whose two workers are threads of this process: they start at once."""
    distributed = pytest.importorskip("distributed")
    quiet = {"dashboard_address": ":0", "silence_logs": False}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", **quiet) as found:
        yield found.scheduler_address
