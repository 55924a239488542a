"""A toy of weather, and systems that forecast it: what a verification has to find is known.

    weather       x(t + 1) = r S x(t) + sqrt(1 - r^2) e(t)       in units of `variability`; S: a shift to the east
    tas           mean + variability x
    analysis      x + analysis_error g(t)                        g: a Gaussian field like e, drawn for every time
    observation   x + observation_error w(t)                     w: white, in a part of the cells
    forecast      f(0) = analysis,  f(l + 1) = r S f(l) + sqrt(1 - r^2) e'(l)
    its output    B f(l) + drift l                               B: a Gaussian filter of `blur` cells

e and e' are Gaussian fields with the variance 1 in every cell and a spectral slope, on a domain that is periodic in
both directions and twice as long and as wide as the part that is shown. Against the truth a system without blur has the
error variance 2 (1 - r^(2 l)) at a lead of l days, and r^(2 l) analysis_error^2 more, and the activity of the weather;
the mean of all that may happen, r^l S^l x(0), has 1 - r^(2 l). In the frame that moves along persistence would have
2 (1 - r^l); it pays for the movement besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from finegrid.conventions import InputError
from finegrid.data.synthetic import gaussian_fields

Array = NDArray[np.float64]
_DAY = np.timedelta64(1, "D")
_MEAN = 285.0


@dataclass(frozen=True)
class System:
    """A system that forecasts the toy.

    Attributes:
        blur: standard deviation of the filter of its output, in cells; 0 for none.
        drift: change of its bias, in K a day.
        noise: whether it draws weather of its own; otherwise it forecasts the mean of what may happen.
    """

    blur: float = 0.0
    drift: float = 0.0
    noise: bool = True


SYSTEMS: Mapping[str, System] = {
    "sharp": System(),
    "blurred": System(blur=1.0),
    "drifting": System(drift=0.3),
    "mean": System(noise=False),
}
"""Systems that differ in one thing each."""


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The weather and how well it is known.

    Attributes:
        persistence: r, the correlation of a day with the next.
        speed: cells by which weather moves east in a day.
        variability: standard deviation, in K.
        slope: spectral slope.
        analysis_error: standard deviation, as a part of the variability.
        observation_error: likewise.
        observed: part of the cells that is observed.
        shape: rows and columns that are shown.
        systems: what is forecast with.
    """

    persistence: float = 0.8
    speed: int = 1
    variability: float = 2.0
    slope: float = 1.0
    analysis_error: float = 0.1
    observation_error: float = 0.3
    observed: float = 0.5
    shape: tuple[int, int] = (16, 32)
    systems: Mapping[str, System] = field(default_factory=lambda: dict(SYSTEMS))


@dataclass(frozen=True, eq=False)
class Season:
    """A season of forecasts.

    Attributes:
        truth: tas (time, lat, lon), without any error.
        analysis: the same as the systems know it.
        observations: the same as it is observed, NaN elsewhere.
        forecasts: tas (init, lead, lat, lon) by system.
        record: the analysis of the times before the first forecast.
    """

    truth: xr.Dataset
    analysis: xr.Dataset
    observations: xr.Dataset
    forecasts: Mapping[str, xr.Dataset]
    record: xr.Dataset


def generate(toy: Toy | None = None, *, inits: int = 240, leads: int = 10, before: int = 730, seed: int = 0) -> Season:
    """Weather, what is known of it, and forecasts from every day of the end of it.

    Args:
        toy: by default `Toy()`.
        inits: days from which forecasts start, the last ones that have a truth for all leads.
        leads: lead times of 1 to so many days.
        before: days of the record before the first forecast.
        seed: of the random numbers; weather, errors and systems are drawn independently.

    Raises:
        InputError: on numbers below one.
    """
    toy = toy or Toy()
    if min(inits, leads, before, *toy.shape) < 1:
        raise InputError(f"got inits={inits}, leads={leads}, before={before}, shape={toy.shape}; expected at least 1")
    streams = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(4 + len(toy.systems))]
    days = before + inits + leads
    weather = _weather(toy, days, streams[0])
    analysis = weather + toy.analysis_error * _fields(toy, days, streams[1])
    seen = streams[2].random(weather.shape[1:]) < toy.observed
    observed = np.where(seen, weather + toy.observation_error * streams[3].standard_normal(weather.shape), np.nan)
    start = analysis[before : before + inits]
    forecasts = {
        name: _described(toy, _forecast(toy, system, start, leads, stream), before, leads)
        for (name, system), stream in zip(toy.systems.items(), streams[4:], strict=True)
    }
    known = {name: _described(toy, each) for name, each in (("truth", weather), ("analysis", analysis))}
    record = known["analysis"].isel(time=slice(before))
    return Season(known["truth"], known["analysis"], _described(toy, observed), forecasts, record)


def _fields(toy: Toy, times: int, generator: np.random.Generator) -> Array:
    rows, columns = toy.shape
    return gaussian_fields((2 * rows, 2 * columns), slope=toy.slope, seed=generator, times=times)


def _weather(toy: Toy, days: int, generator: np.random.Generator) -> Array:
    """The autoregression in the frame that moves along, and back in that of the ground."""
    white = _fields(toy, days, generator)
    white[1:] *= np.sqrt(1 - toy.persistence**2)
    return _moved(np.asarray(lfilter([1.0], [1.0, -toy.persistence], white, axis=0)), toy.speed * np.arange(days))


def _moved(fields: Array, cells: NDArray[np.int64]) -> Array:
    """Fields (n, y, x), each shifted to the east by its number of cells."""
    columns = (np.arange(fields.shape[-1]) - cells[:, None]) % fields.shape[-1]
    return np.take_along_axis(fields, np.broadcast_to(columns[:, None, :], fields.shape), axis=-1)


def _forecast(toy: Toy, system: System, start: Array, leads: int, generator: np.random.Generator) -> Array:
    """Forecasts (init, lead, y, x) in units of the variability."""
    kept, fields, result = toy.persistence, start, []
    for lead in range(1, leads + 1):
        moved = _moved(fields, np.full(len(fields), toy.speed))
        new = np.sqrt(1 - kept**2) * _fields(toy, len(start), generator) if system.noise else 0.0
        fields = kept * moved + new
        smooth = gaussian_filter(fields, (0, system.blur, system.blur), mode="wrap") if system.blur else fields
        result.append(smooth + system.drift * lead / toy.variability)
    return np.stack(result, axis=1)


def _described(toy: Toy, values: Array, first: int = 0, leads: int | None = None) -> xr.Dataset:
    """The part that is shown as temperatures; with initial and lead times where there are leads."""
    rows, columns = toy.shape
    days = np.datetime64("2001-01-01", "ns") + (first + np.arange(len(values))) * _DAY
    coords = {
        "time" if leads is None else "init": days,
        "lat": ("lat", np.arange(rows) - (rows - 1) / 2, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", np.arange(columns) + 0.5, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    if leads is not None:
        coords["lead"] = (1 + np.arange(leads)) * _DAY.astype("timedelta64[ns]")
    dims = ("time", "lat", "lon") if leads is None else ("init", "lead", "lat", "lon")
    temperature = (_MEAN + toy.variability * values[..., :rows, :columns]).astype(np.float32)
    tas = (dims, temperature, {"units": "K", "standard_name": "air_temperature"})
    return xr.Dataset({"tas": tas}, coords=coords, attrs={"Conventions": "CF-1.11", "title": "Toy weather"})
