"""Four sources that tell of the same weather, each with an error of its own: what dropping one must cost is known.

    weather   x(t, S), a Gaussian field on coarse cells S of variance 1, drawn anew for every time
    sources   tas = mean + variability (x + s_1 e_1)       K         the air at the level of the sea
              zg  = 5500 + 60 (x + s_2 e_2)                m         the height of 500 hPa
              psl = 1015 - 8 (x + s_3 e_3)                 hPa
              orog = h, the mean height of the cell        m         without time
    truth     tas(t, i) = mean + variability x(t, S(i)) + lapse h(i) + noise w(t, i)

e_k are fields like x, so that neither neighbours nor other times tell more of x than the cell itself does. What is
best is then a mean of the three with weights w_k = s_k^-2 / (1 + sum s_j^-2), with the error variance
1 / (1 + sum s_j^-2) of x; and with a source k that is replaced by its mean while the weights stay,

    E_k = (1 - sum_{j != k} w_j)^2 + sum_{j != k} w_j^2 s_j^2.

Where the weights are those of the sources that are left it would be 1 / (1 + sum_{j != k} s_j^-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.synthetic import gaussian_fields

Array = NDArray[np.float64]
_SLOPE = 2.0
_SPACING = 0.25
_CORNER = (44.0, 6.0)
# Mean, scale of the weather, units, CF standard name.
_SCALES: Mapping[str, tuple[float, float, str, str]] = {
    "zg": (5500.0, 60.0, "m", "geopotential_height"),
    "psl": (1015.0, -8.0, "hPa", "air_pressure_at_mean_sea_level"),
}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """How well each source knows the weather, and what the truth is made of.

    Attributes:
        errors: s_k by source, as a part of the weather's deviation.
        mean: of tas at the level of the sea, in K.
        variability: standard deviation of tas, in K.
        lapse: change of tas with height, in K m-1.
        relief: standard deviation of the height of fine cells, in m.
        noise: standard deviation of what no source knows, in K.
    """

    errors: Mapping[str, float] = field(default_factory=lambda: {"tas": 0.4, "zg": 0.6, "psl": 0.8})
    mean: float = 288.0
    variability: float = 3.0
    lapse: float = -6.5e-3
    relief: float = 500.0
    noise: float = 0.5

    def optimum(self, without: str | None = None) -> float:
        """Error variance of x of the best mean of the sources that are left."""
        return 1 / (1 + sum(error**-2 for name, error in self.errors.items() if name != without))

    def imputed(self, without: str | None = None) -> float:
        """Error variance of x where the weights of all sources stay and one of these is replaced by its mean."""
        weights = {name: self.optimum() * error**-2 for name, error in self.errors.items() if name != without}
        lost = (1 - sum(weights.values())) ** 2
        return lost + sum((weight * self.errors[name]) ** 2 for name, weight in weights.items())

    def rmse(self, variance: float) -> float:
        """Error of tas for an error variance of x."""
        return float(np.sqrt(self.variability**2 * variance + self.noise**2))


def generate(
    sources: Sources | None = None,
    *,
    shape: tuple[int, int] = (6, 8),
    factor: int = 4,
    times: int = 730,
    seed: int = 0,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Coarse fields of the sources and the fine truth (time, lat, lon), daily.

    Args:
        sources: by default `Sources()`.
        shape: coarse rows and columns.
        factor: fine cells along either side of a coarse one.
        times: number of days.
        seed: of the random numbers.

    Raises:
        InputError: on other sources than tas, zg and psl.
    """
    known = sources or Sources()
    if set(known.errors) != {"tas", *_SCALES}:
        raise InputError(f"got errors of {', '.join(known.errors)}; expected those of tas, {', '.join(_SCALES)}")
    relief, weather, noise, *errors = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(3 + len(known.errors))
    )
    fine_shape = (shape[0] * factor, shape[1] * factor)
    height = known.relief * _pattern(fine_shape, relief)[0]
    truth = _pattern(shape, weather, times)
    seen = {
        name: truth + error * _pattern(shape, stream, times)
        for (name, error), stream in zip(known.errors.items(), errors, strict=True)
    }
    at_sea = known.mean + known.variability * truth.repeat(factor, axis=1).repeat(factor, axis=2)
    tas = at_sea + known.lapse * height + known.noise * noise.standard_normal(at_sea.shape)
    blocks = height.reshape(shape[0], factor, shape[1], factor).mean(axis=(1, 3))
    fields = {
        "tas": (known.mean + known.variability * seen["tas"], "K", "air_temperature"),
        **{name: (mean + scale * seen[name], units, word) for name, (mean, scale, units, word) in _SCALES.items()},
        "orog": (np.broadcast_to(blocks, truth.shape), "m", "surface_altitude"),
    }
    return _described(fields, factor), _described({"tas": (tas, "K", "air_temperature")}, 1)


def _pattern(shape: tuple[int, int], generator: np.random.Generator, times: int = 1) -> Array:
    """Gaussian fields (time, y, x) of variance 1, cut from larger ones: with a mean, and not periodic."""
    wide = gaussian_fields((2 * shape[0], 2 * shape[1]), slope=_SLOPE, seed=generator, times=times)
    return wide[:, : shape[0], : shape[1]]


def _described(fields: Mapping[str, tuple[Array, str, str]], factor: int) -> xr.Dataset:
    times, rows, columns = next(iter(fields.values()))[0].shape
    spacing = _SPACING * factor
    axes = {
        name: (name, corner + spacing * (np.arange(size) + 0.5), {"units": f"degrees_{way}", "standard_name": word})
        for name, corner, size, way, word in zip(
            ("lat", "lon"), _CORNER, (rows, columns), ("north", "east"), ("latitude", "longitude"), strict=True
        )
    }
    days = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    variables = {
        name: (("time", "lat", "lon"), values.astype(np.float32), {"units": units, "standard_name": word})
        for name, (values, units, word) in fields.items()
    }
    attributes = {"Conventions": "CF-1.11", "title": "Four sources of the same weather"}
    return xr.Dataset(variables, coords={"time": days, **axes}, attrs=attributes)
