"""Columns of air: tendencies as energy, R2 level by level, and regressions that every emulator of them has to beat.

With the pressure of the levels of a hybrid coordinate, p = a P0 + b ps, a level between two interfaces has the mass

    dp / g,    dp_k = P0 (a_k+1/2 - a_k-1/2) + ps (b_k+1/2 - b_k-1/2)

and a tendency on it, or what reaches the surface, the energy in W m-2

    temperature    cp dT/dt dp / g
    water          Lv dq/dt dp / g         vapour, liquid and ice alike, as the benchmark counts them
    rain and snow  Lv rho P                a rate P in m s-1
    fluxes         as they are
    wind           du/dt dp / g            no energy but a stress, in N m-2

all times the area of the column over the mean area. R2 is that of the benchmark, over time at every point and then the
mean over points, so that no place is flattered by the difference between tropics and poles:

    R2 = mean over points of 1 - sum_t (p - y)^2 / sum_t (y - mean_t y)^2

Points at which the truth does not vary have none and are left out.

Source: Yu et al. 2023, arXiv:2306.08754; constants of E3SM (shr_const_mod).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from finegrid.conventions import InputError

GRAVITY = 9.80616  # m s-2
HEAT_CAPACITY = 1.00464e3  # of dry air, J kg-1 K-1
LATENT_HEAT = 2.501e6  # of evaporation, J kg-1
WATER_DENSITY = 1.0e3  # kg m-3

Array = NDArray[np.float64]
_ENERGY_OF = {"K s-1": HEAT_CAPACITY, "kg kg-1 s-1": LATENT_HEAT, "m s-1": LATENT_HEAT * WATER_DENSITY, "W m-2": 1.0}
_WIND = "m s-2"


def thickness(surface_pressure: xr.DataArray, grid: xr.Dataset) -> xr.DataArray:
    """Pressure between the interfaces of every level, (..., lev), in Pa.

    Args:
        surface_pressure: in Pa.
        grid: hyai and hybi on the interfaces (ilev,), one more than levels, and P0 in Pa.
    """
    a, b = (grid[name].values for name in ("hyai", "hybi"))
    steps = [xr.DataArray(np.diff(each), dims="lev") for each in (a * float(grid.P0), b)]
    result: xr.DataArray = (steps[0] + steps[1] * surface_pressure).transpose(*surface_pressure.dims, "lev")
    return result.assign_attrs(units="Pa")


def energy(fields: xr.Dataset, surface_pressure: xr.DataArray, grid: xr.Dataset, *, area: bool = True) -> xr.Dataset:
    """Outputs of columns in W m-2 (winds in N m-2), see the head of this module.

    Args:
        fields: tendencies (time, point, lev) and surface values (time, point), with units.
        surface_pressure: (time, point), in Pa.
        grid: levels as `thickness` takes them, and `area` (point,).
        area: whether columns count by their area.

    Raises:
        InputError: on units that are neither those of a tendency nor of a flux.
    """
    mass = thickness(surface_pressure, grid) / GRAVITY
    weight = grid.area / grid.area.mean() if area else xr.ones_like(grid.area)
    weighted = {}
    for name, values in fields.data_vars.items():
        units = str(values.attrs.get("units", ""))
        if units not in (*_ENERGY_OF, _WIND):
            raise InputError(
                f"'{name}' has the units '{units}'; expected {', '.join(_ENERGY_OF)} or {_WIND}; open the columns in "
                "their units, with the scaling of the arrays"
            )
        per_mass = values * mass if "lev" in values.dims else values
        stated = {"units": "N m-2" if units == _WIND else "W m-2"}
        weighted[name] = (per_mass * _ENERGY_OF.get(units, 1.0) * weight).transpose(*values.dims).assign_attrs(stated)
    return xr.Dataset(weighted)


def r_squared(prediction: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """R2 of every variable, (lev,) for those on levels; NaN where the truth varies nowhere.

    Raises:
        InputError: when a variable is missing, or sizes differ.
    """
    scores = {}
    for name, right in truth.data_vars.items():
        if name not in prediction or prediction[name].sizes != right.sizes:
            raise InputError(
                f"the prediction lacks '{name}', or has it at other times or points; expected that of the truth"
            )
        error = ((prediction[name] - right) ** 2).sum("time")
        spread = ((right - right.mean("time")) ** 2).sum("time")
        scores[name] = (1.0 - error / spread.where(spread > 0)).mean("point").assign_attrs(units="1")
    return xr.Dataset(scores).compute()


def level_table(scores: xr.Dataset, *, digits: int = 3) -> str:
    """Scores as a table in Markdown: a row a level, a column a variable on levels; then those without levels."""
    upper = [str(name) for name, each in scores.data_vars.items() if "lev" in each.dims]
    lines = []
    if upper:
        levels = scores.lev.values if "lev" in scores.coords else np.arange(scores.sizes["lev"])
        lines += ["| level | " + " | ".join(upper) + " |", "|---|" + "---|" * len(upper)]
        values = np.stack([scores[name].values for name in upper], axis=1)
        lines += [_row(f"{level:.4g}", row, digits) for level, row in zip(levels, values, strict=True)]
        lines += [_row("mean", np.nanmean(values, axis=0), digits)]
    lower = [str(name) for name in scores.data_vars if name not in upper]
    if lower:
        lines += ["", "| surface | R2 |", "|---|---|"]
        lines += [_row(name, [float(scores[name])], digits) for name in lower]
    return "\n".join(lines).strip()


def channels(fields: xr.Dataset) -> xr.DataArray:
    """All variables and levels side by side, (time, point, channel), in the order of the Dataset."""
    parts = []
    for each in fields.data_vars.values():
        bare = each.drop_vars(list(each.coords))
        wide = bare.rename(lev="channel") if "lev" in bare.dims else bare.expand_dims("channel", -1)
        parts.append(wide.transpose("time", "point", "channel"))
    return xr.concat(parts, dim="channel", combine_attrs="drop")


@dataclass(kw_only=True)
class ColumnRegression:
    """A regression of scikit-learn from the channels of a column to those of its outputs, both standardised.

    Channels that do not vary in training are left out of the inputs, and predicted by their mean in the outputs.

    Args:
        regressor: with `fit` and `predict` for several outputs; `network` and `linear` make some.
    """

    regressor: Any
    _inputs: tuple[Array, Array] | None = field(default=None, init=False, repr=False)
    _outputs: tuple[Array, Array] | None = field(default=None, init=False, repr=False)
    _like: xr.Dataset | None = field(default=None, init=False, repr=False)

    def fit(self, inputs: xr.Dataset, outputs: xr.Dataset) -> Self:
        """Learn from columns (time, point[, lev]), in memory."""
        given, wanted = _rows(inputs), _rows(outputs)
        self._inputs, self._outputs = _moments(given), _moments(wanted)
        self._like = outputs.isel(time=slice(0, 0)).load()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is the budget that was given
            self.regressor.fit(_standard(given, self._inputs), _standard(wanted, self._outputs))
        return self

    def predict(self, inputs: xr.Dataset) -> xr.Dataset:
        """Outputs of columns, with the variables of training.

        Raises:
            InputError: before `fit`.
        """
        if self._inputs is None or self._outputs is None or self._like is None:
            raise InputError(
                "got a regression that has not learnt; expected a fitted one; call fit(inputs, outputs) first"
            )
        found = np.asarray(self.regressor.predict(_standard(_rows(inputs), self._inputs)))
        mean, deviation = self._outputs
        values = found.reshape(len(found), -1) * deviation + mean
        shape = (inputs.sizes["time"], inputs.sizes["point"], values.shape[1])
        return _fields(values.reshape(shape), self._like, inputs)


def network(hidden: Sequence[int] = (128, 128), *, steps: int = 200, seed: int = 0, **options: Any) -> ColumnRegression:
    """A multilayer perceptron: the baseline of the benchmark, of the size that is asked for.

    Args:
        hidden: units of the hidden layers.
        steps: passes over the training columns.
        seed: of the weights and of the order of the columns.
        **options: further ones of sklearn.neural_network.MLPRegressor.
    """
    return ColumnRegression(
        regressor=MLPRegressor(hidden_layer_sizes=tuple(hidden), max_iter=steps, random_state=seed, **options)
    )


def linear(penalty: float = 1.0) -> ColumnRegression:
    """A ridge regression: what a network has to beat."""
    return ColumnRegression(regressor=Ridge(alpha=penalty))


def _row(label: str, values: Sequence[float] | Array, digits: int) -> str:
    words = ("-" if not np.isfinite(value) else f"{value:.{digits}f}" for value in values)
    return f"| {label} | " + " | ".join(words) + " |"


def _rows(fields: xr.Dataset) -> Array:
    values = channels(fields).values
    return np.asarray(values.reshape(-1, values.shape[-1]), dtype=np.float64)


def _moments(rows: Array) -> tuple[Array, Array]:
    """Mean and deviation of every channel, the latter 0 where it is no more than rounding."""
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)


def _standard(rows: Array, moments: tuple[Array, Array]) -> Array:
    mean, deviation = moments
    return np.asarray((rows - mean) / np.where(deviation > 0, deviation, np.inf))


def _fields(values: Array, like: xr.Dataset, inputs: xr.Dataset) -> xr.Dataset:
    """Channels as the variables that they were."""
    fields: dict[str, Any] = {}
    start = 0
    for name, each in like.data_vars.items():
        levels = each.sizes.get("lev", 1)
        part = values[:, :, start : start + levels]
        dims = ("time", "point", "lev") if "lev" in each.dims else ("time", "point")
        fields[str(name)] = (dims, part if "lev" in each.dims else part[:, :, 0], each.attrs)
        start += levels
    coords: Mapping[Any, Any] = {name: each for name, each in like.coords.items() if "time" not in each.dims}
    return xr.Dataset(fields, coords={**coords, "time": inputs.time})
