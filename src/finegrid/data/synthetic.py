"""Weather whose right answers are known: temperature, rain and elevation drawn from a stated climate.

Skill on real data says that something works, not what. Here every number that a method should recover is an
argument:

    g(slope)    isotropic Gaussian random field of mean 0 and variance 1, with energy E(k) ~ k**-slope in
                rings of wavenumber k (density k**-(slope + 1) in the plane); periodic over the domain
    elevation   relief * max(g(elevation_slope) + upland, 0), in m
    tas         mean_temperature + lapse_rate * elevation + variability * g(temperature_slope)
                + noise * white, in K
    pr          with z = g(rain_slope) and u = (Phi(z) - (1 - wet_fraction)) / wet_fraction:
                exp(log_amount + log_spread * Phi^-1(u)) where u > 0, else 0: lognormal on wet cells, in
                mm/day
    time        each g is a first-order autoregression, g(t) = r g(t - 1) + sqrt(1 - r2) e(t), r = persistence

Fields by Fourier synthesis (Ruan and McLaughlin 1998, doi:10.1016/S0309-1708(96)00064-6); thresholded rain
after Guillot and Lebel (1999, doi:10.1029/1999JD900426).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from finegrid.conventions import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Climate:
    """The truth of a synthetic region.

    Attributes:
        mean_temperature: temperature at sea level, in K.
        lapse_rate: change of temperature with elevation, in K m-1.
        variability: standard deviation of the large-scale temperature, in K.
        temperature_slope: spectral slope of the large-scale temperature.
        noise: standard deviation of temperature's white noise, in K.
        relief: standard deviation of the terrain above the sea, in m.
        upland: how far the mean terrain lies above the sea, in units of relief.
        elevation_slope: spectral slope of the terrain.
        wet_fraction: probability that it rains in a cell.
        log_amount: mean of the logarithm of rain on wet cells, rain in mm day-1.
        log_spread: standard deviation of that logarithm.
        rain_slope: spectral slope of the field behind the rain.
        persistence: correlation of successive days.
        south: latitude of the southern edge, in degrees.
        west: longitude of the western edge, in degrees.
    """

    mean_temperature: float = 288.0
    lapse_rate: float = -6.5e-3
    variability: float = 3.0
    temperature_slope: float = 4.0
    noise: float = 0.3
    relief: float = 500.0
    upland: float = 0.5
    elevation_slope: float = 2.0
    wet_fraction: float = 0.3
    log_amount: float = 1.0
    log_spread: float = 1.0
    rain_slope: float = 2.0
    persistence: float = 0.6
    south: float = 40.0
    west: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.wet_fraction < 1 and 0 <= self.persistence < 1):
            raise InputError(
                f"got wet_fraction={self.wet_fraction}, persistence={self.persistence}; "
                "expected 0 < wet_fraction < 1 and 0 <= persistence < 1; "
                "give both to Climate(...) in these ranges"
            )


REGIONS = {
    "maritime": Climate(
        mean_temperature=283.0,
        lapse_rate=-5.5e-3,
        relief=250.0,
        wet_fraction=0.5,
        log_amount=0.8,
        south=50.0,
        west=-10.0,
    ),
    "continental": Climate(
        mean_temperature=280.0,
        variability=5.0,
        relief=300.0,
        wet_fraction=0.25,
        temperature_slope=4.5,
        south=48.0,
        west=20.0,
    ),
    "alpine": Climate(
        relief=1200.0, upland=0.8, elevation_slope=1.6, wet_fraction=0.4, log_amount=1.5, south=44.0, west=6.0
    ),
    "dry": Climate(mean_temperature=298.0, lapse_rate=-8e-3, wet_fraction=0.05, log_spread=1.4, south=22.0, west=10.0),
}


def gaussian_fields(
    shape: tuple[int, int],
    *,
    slope: float,
    seed: int | np.random.Generator,
    times: int = 1,
    persistence: float = 0.0,
) -> Array:
    """Isotropic Gaussian fields (times, ny, nx) of mean 0 and variance 1 with energy E(k) ~ k**-slope."""
    generator = np.random.default_rng(seed)
    white = _autoregression(generator.standard_normal((times, *shape)), persistence)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(white) * _amplitude(shape, slope), s=shape))


def generate(
    climate: Climate | None = None,
    *,
    shape: tuple[int, int] = (64, 64),
    times: int = 100,
    spacing: float = 0.25,
    start: str = "2001-01-01",
    seed: int = 0,
) -> xr.Dataset:
    """Daily tas, pr (time, lat, lon) and orog (lat, lon) of a climate; its parameters are attributes truth_*.

    Args:
        climate: the truth; REGIONS holds some.
        shape: number of latitudes and longitudes.
        times: number of days.
        spacing: cell size in degrees.
        start: first day.
        seed: seed of the random numbers; terrain, temperature and rain are drawn independently.
    """
    climate = climate or Climate()
    terrain, temperature, noise, rain = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4))
    elevation = _elevation(climate, shape, terrain)
    large_scale = gaussian_fields(
        shape, slope=climate.temperature_slope, seed=temperature, times=times, persistence=climate.persistence
    )
    tas = climate.mean_temperature + climate.lapse_rate * elevation + climate.variability * large_scale
    tas += climate.noise * noise.standard_normal(tas.shape)
    behind = gaussian_fields(shape, slope=climate.rain_slope, seed=rain, times=times, persistence=climate.persistence)
    coords = _coords(climate, shape, times, spacing, start)
    return _described(climate, coords, tas=tas, pr=rain_from_gaussian(behind, climate), orog=elevation)


def rain_from_gaussian(field: Array, climate: Climate) -> Array:
    """Rain in mm day-1 from a standard Gaussian field: dry below a threshold, lognormal above."""
    part = (ndtr(field) - (1 - climate.wet_fraction)) / climate.wet_fraction
    wet = part > 0
    # Phi rounds to one for the most extreme values, whose rain would be infinite.
    quantile = ndtri(np.clip(part, 1e-12, 1 - 1e-12))
    return np.where(wet, np.exp(climate.log_amount + climate.log_spread * quantile), 0.0)


def _amplitude(shape: tuple[int, int], slope: float) -> Array:
    """Factors of the Fourier coefficients of white noise; no mean, variance one."""
    wavenumber = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    density = np.zeros(shape)
    np.power(wavenumber, -(slope + 1), out=density, where=wavenumber > 0)
    density *= density.size / density.sum()
    return np.asarray(np.sqrt(density[:, : shape[1] // 2 + 1]))


def _autoregression(white: Array, persistence: float) -> Array:
    # The first day is scaled up, so that the variance is one from the start.
    white[1:] *= np.sqrt(1 - persistence**2)
    return np.asarray(lfilter([1.0], [1.0, -persistence], white, axis=0))


def _elevation(climate: Climate, shape: tuple[int, int], generator: np.random.Generator) -> Array:
    terrain = gaussian_fields(shape, slope=climate.elevation_slope, seed=generator)[0]
    return np.asarray(climate.relief * np.maximum(terrain + climate.upland, 0))


def _coords(
    climate: Climate, shape: tuple[int, int], times: int, spacing: float, start: str
) -> dict[str, tuple[str, object, dict[str, str]]]:
    latitude = climate.south + spacing * (np.arange(shape[0]) + 0.5)
    longitude = climate.west + spacing * (np.arange(shape[1]) + 0.5)
    north = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    east = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    days = np.datetime64(start, "ns") + np.arange(times) * np.timedelta64(1, "D")
    time = {"standard_name": "time", "axis": "T"}
    return {"time": ("time", days, time), "lat": ("lat", latitude, north), "lon": ("lon", longitude, east)}


def _described(
    climate: Climate,
    coords: dict[str, tuple[str, object, dict[str, str]]],
    *,
    tas: Array,
    pr: Array,
    orog: Array,
) -> xr.Dataset:
    dims = ("time", "lat", "lon")
    temperature = {"standard_name": "air_temperature", "units": "K", "cell_methods": "time: mean"}
    rain = {"standard_name": "lwe_precipitation_rate", "units": "mm day-1", "cell_methods": "time: mean"}
    altitude = {"standard_name": "surface_altitude", "units": "m"}
    variables = {
        "tas": (dims, tas.astype(np.float32), temperature),
        "pr": (dims, pr.astype(np.float32), rain),
        "orog": (dims[1:], orog.astype(np.float32), altitude),
    }
    truth = {f"truth_{name}": value for name, value in asdict(climate).items()}
    attributes = {"Conventions": "CF-1.11", "title": "Synthetic weather with known truth", **truth}
    return xr.Dataset(variables, coords=coords, attrs=attributes)
