"""A warming climate whose local response is known, with many members (test bed T5).

    warming     dTg(t) = warming * n(t)^shape, in K: n from 0 in the first year to 1 in the last
    emissions   E(t) = dTg(t) / 0.00165, in GtC: cumulative, with 1.65 K for every 1000 GtC
    truth       y_m(s, t) = b(s, g) + w(s, g) dTg(t) + c(s) dTg(t)^2 + sigma e_m(s, t), for tas in K and pr in mm day-1
    coarse      the same with block means of b, w and c over the fine domain, and beyond it a pattern of tas that is
                stronger towards the poles, so that the area-weighted mean of tas over the globe changes by dTg; plus
                variability of runs of its own, the mean of `coarse_members` of them

with g the season of t, four times a year, w(s, g) = response (1 + contrast g(3)) drawn for every season, and e_m drawn
anew for every member and time: Gaussian, of variance 1 in every cell, correlated in space. The mean of M members thus
has the variance sigma^2 / M around the forced response, of which no method can know anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.synthetic import gaussian_fields
from finegrid.grids import Grid, Operator

Array = NDArray[np.float64]

SEASONS = ("DJF", "MAM", "JJA", "SON")
# The middle month of each season stands for it.
_MONTHS = (1, 4, 7, 10)
# Kelvin for a tonne of carbon (IPCC AR6 WG1, D.1.1), in GtC.
_RESPONSE_TO_CARBON = 1.65e-3
_GLOBE = (36, 72)
_SPACING = 5.0
# First coarse row and column of the fine domain: 40 N, 0 E.
_CORNER = (26, 36)
_SLOPE = 3.0
_UNITS = {"tas": "K", "pr": "mm day-1"}
_STANDARD = {"tas": "air_temperature", "pr": "lwe_precipitation_rate"}


@dataclass(frozen=True)
class Response:
    """The truth of one variable.

    Attributes:
        mean: climate before the warming.
        season: half the difference between summer and winter.
        relief: standard deviation of the climate between fine cells.
        response: mean change for each K of global warming.
        contrast: standard deviation of the pattern between fine cells, as a part of the response.
        curvature: standard deviation between fine cells of the change for each K squared; 0 where scaling is exact.
        sigma: standard deviation of the internal variability of a member.
    """

    mean: float
    season: float
    relief: float
    response: float
    contrast: float
    curvature: float
    sigma: float


TEMPERATURE = Response(mean=284.0, season=8.0, relief=3.0, response=1.3, contrast=0.25, curvature=0.0, sigma=0.8)
RAIN = Response(mean=4.0, season=-0.5, relief=0.5, response=0.15, contrast=1.0, curvature=0.0, sigma=0.4)


@dataclass(frozen=True)
class Scenario:
    """A scenario and what it does to a region.

    Attributes:
        warming: global warming of the last year, in K.
        shape: power of the time with which it grows.
        start: first year.
        years: number of years, four seasons each.
        tas: local response of temperature.
        pr: local response of precipitation.
        coarse_members: runs behind the coarse fields.
    """

    warming: float = 4.0
    shape: float = 1.5
    start: int = 1950
    years: int = 120
    tas: Response = TEMPERATURE
    pr: Response = RAIN
    coarse_members: int = 10

    def curved(self, *, tas: float = 0.0, pr: float = 0.0) -> Scenario:
        """The same with responses that are not linear, which pattern scaling cannot follow."""
        return replace(self, tas=replace(self.tas, curvature=tas), pr=replace(self.pr, curvature=pr))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What a scenario gave.

    Attributes:
        coarse: tas and pr on the globe and the series `warming` and `emissions` (time, lat, lon).
        fine: tas and pr of the members (member, time, lat, lon).
        forced: what the members have in common (time, lat, lon).
        weights: change of tas and pr for each K of global warming (season, lat, lon).
        warming: dTg (time,), in K.
    """

    coarse: xr.Dataset
    fine: xr.Dataset
    forced: xr.Dataset
    weights: xr.Dataset
    warming: xr.DataArray


def generate(
    scenario: Scenario | None = None,
    *,
    members: int = 50,
    blocks: tuple[int, int] = (4, 6),
    factor: int = 4,
    seed: int = 0,
) -> Ensemble:
    """Coarse and fine fields of a scenario, with the truth behind them.

    Args:
        scenario: by default `Scenario()`.
        members: runs of the fine truth.
        blocks: coarse cells of 5 degrees that the fine domain covers, along latitude and longitude.
        factor: fine cells along either side of a coarse one.
        seed: of the random numbers; patterns, members and coarse runs are drawn independently.

    Raises:
        InputError: on fewer members, years or blocks than there can be.
    """
    scenario = scenario or Scenario()
    _check(scenario, members, blocks)
    shape = (blocks[0] * factor, blocks[1] * factor)
    warming = _warming(scenario)
    streams = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(6)]
    coords = {"time": warming.time, **_places(shape, _SPACING / factor, _CORNER)}
    forced, weights, curves, noise = {}, {}, {}, {}
    for index, (name, response) in enumerate({"tas": scenario.tas, "pr": scenario.pr}.items()):
        climate, weights[name], curves[name] = _truth(response, shape, streams[index])
        forced[name] = _forced((climate, weights[name], curves[name]), warming)
        noise[name] = _variability(response.sigma, (members, warming.size), shape, streams[2 + index])
    coarse = _coarse(scenario, (weights, curves), blocks, warming, streams[4])
    fine = {name: forced[name][None] + noise[name] for name in forced}
    attributes = {"Conventions": "CF-1.11", "title": "Synthetic scenario with known response"}
    truth = {f"truth_{key}": value for key, value in asdict(scenario).items() if not isinstance(value, dict)}
    return Ensemble(
        coarse.assign_attrs(attributes),
        _fields(fine, coords, ("member", "time")).assign_attrs({**attributes, **truth}),
        _fields(forced, coords, ("time",)).assign_attrs(attributes),
        _fields(weights, {**coords, "season": list(SEASONS)}, ("season",), per=" K-1"),
        warming,
    )


def _check(scenario: Scenario, members: int, blocks: tuple[int, int]) -> None:
    room = (_GLOBE[0] - _CORNER[0], _GLOBE[1] - _CORNER[1])
    if members < 1 or scenario.years < 2 or scenario.coarse_members < 1:
        raise InputError(
            f"got members={members}, years={scenario.years}, coarse_members={scenario.coarse_members}; expected at "
            "least 1, 2 and 1; change them in generate(Scenario(years=..., coarse_members=...), members=...)"
        )
    if not (1 <= blocks[0] <= room[0] and 1 <= blocks[1] <= room[1]):
        raise InputError(f"got blocks={blocks}; expected from (1, 1) to {room}, which lie on the globe; give fewer")


def _warming(scenario: Scenario) -> xr.DataArray:
    """Global warming (time,) of four seasons a year."""
    years = scenario.start + np.arange(scenario.years)
    months = (years[:, None] - 1970) * 12 + np.array(_MONTHS) - 1
    dates = months.ravel().astype("datetime64[M]").astype("datetime64[ns]") + np.timedelta64(14, "D")
    grown = scenario.warming * np.linspace(0, 1, scenario.years) ** scenario.shape
    return xr.DataArray(
        np.repeat(grown, len(_MONTHS)), coords={"time": dates}, dims="time", name="warming", attrs={"units": "K"}
    )


def _places(shape: tuple[int, int], spacing: float, corner: tuple[int, int]) -> dict[str, xr.DataArray]:
    south, west = -90 + _SPACING * corner[0], -180 + _SPACING * corner[1]
    values = {"lat": south + spacing * (np.arange(shape[0]) + 0.5), "lon": west + spacing * (np.arange(shape[1]) + 0.5)}
    words = {
        "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
        "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    }
    return {name: xr.DataArray(values[name], dims=name, attrs=words[name]) for name in values}


def _pattern(shape: tuple[int, int], generator: np.random.Generator, number: int = 1) -> Array:
    """Gaussian fields (number, y, x) of variance 1, cut from larger ones: with a mean, and not periodic."""
    wide = gaussian_fields((2 * shape[0], 2 * shape[1]), slope=_SLOPE, seed=generator, times=number)
    return wide[:, : shape[0], : shape[1]]


def _truth(response: Response, shape: tuple[int, int], generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """Climate b and weights w (season, y, x), and curvature c (1, y, x)."""
    cycle = response.season * np.array([-1.0, 0.0, 1.0, 0.0])
    climate = response.mean + cycle[:, None, None] + response.relief * _pattern(shape, generator)
    weights = response.response * (1 + response.contrast * _pattern(shape, generator, len(SEASONS)))
    return climate, weights, response.curvature * _pattern(shape, generator)


def _forced(truth: tuple[Array, Array, Array], warming: xr.DataArray) -> Array:
    """The response (time, y, x)."""
    climate, weights, curve = truth
    season = np.arange(warming.size) % len(SEASONS)
    change = warming.values[:, None, None]
    return np.asarray(climate[season] + weights[season] * change + curve * change**2)


def _variability(
    sigma: float, leading: tuple[int, ...], shape: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Noise (*leading, y, x) of that standard deviation in every cell."""
    result = np.empty((*leading, *shape), dtype=np.float32)
    for member in result if len(leading) > 1 else (result,):
        member[:] = sigma * _pattern(shape, generator, leading[-1])
    return result


def _coarse(
    scenario: Scenario,
    local: tuple[Mapping[str, Array], Mapping[str, Array]],
    blocks: tuple[int, int],
    warming: xr.DataArray,
    generator: np.random.Generator,
) -> xr.Dataset:
    """Fields on the globe: block means of the local truth within the fine domain, smooth ones around it."""
    coords = {"time": warming.time, **_places(_GLOBE, _SPACING, (0, 0))}
    fields = {}
    for name, response in {"tas": scenario.tas, "pr": scenario.pr}.items():
        weights, curve = (
            _on_globe(part[name], blocks, polar=name == "tas" and not index) for index, part in enumerate(local)
        )
        cycle = response.season * np.array([-1.0, 0.0, 1.0, 0.0])[:, None, None]
        climate = np.broadcast_to(response.mean + cycle, weights.shape)
        noise = _variability(response.sigma / np.sqrt(scenario.coarse_members), (warming.size,), _GLOBE, generator)
        fields[name] = _forced((climate, weights, curve), warming) + noise
    found = _fields(fields, coords, ("time",))
    carbon = ("time", warming.values / _RESPONSE_TO_CARBON, {"units": "GtC", "long_name": "cumulative emissions"})
    return found.assign(warming=("time", warming.values, {"units": "K"}), emissions=carbon)


def _on_globe(local: Array, blocks: tuple[int, int], *, polar: bool) -> Array:
    """Numbers (season, y, x) of fine cells as block means in their place on the globe; the weights of tas average 1."""
    globe, fine = (
        _places(_GLOBE, _SPACING, (0, 0)),
        _places(local.shape[-2:], _SPACING * blocks[0] / local.shape[-2], _CORNER),
    )
    grids = [
        Grid.of(xr.Dataset(coords={"y": ("y", each["lat"].values), "x": ("x", each["lon"].values)}))
        for each in (globe, fine)
    ]
    part = xr.DataArray(local, dims=("time", "y", "x"), coords={"y": fine["lat"].values, "x": fine["lon"].values})
    window = (slice(_CORNER[0], _CORNER[0] + blocks[0]), slice(_CORNER[1], _CORNER[1] + blocks[1]))
    inside = Operator.conservative(grids[1], grids[0].cropped(*window))(part).values
    area = np.broadcast_to(grids[0].area, _GLOBE)
    outside = np.ones(_GLOBE, dtype=bool)
    outside[window] = False
    smooth = 0.6 + 0.8 * np.sin(np.deg2rad(globe["lat"].values))[:, None] ** 2 * np.ones(_GLOBE)
    result = np.zeros((len(local), *_GLOBE))
    if polar:
        lacking = area.sum() - (inside * area[window]).sum((-2, -1))
        result[:] = smooth * (lacking / (smooth * area)[outside].sum())[:, None, None]
    else:
        result[:] = inside.mean((-2, -1), keepdims=True)
    result[(slice(None), *window)] = inside
    return result


def _fields(
    values: Mapping[str, Array | NDArray[np.float32]],
    coords: Mapping[str, object],
    leading: tuple[str, ...],
    per: str = "",
) -> xr.Dataset:
    dims = (*leading, "lat", "lon")
    fields = {
        name: (dims, each.astype(np.float32), {"units": f"{_UNITS[name]}{per}", "standard_name": _STANDARD[name]})
        for name, each in values.items()
    }
    return xr.Dataset(fields, coords={name: each for name, each in coords.items() if name in dims})
