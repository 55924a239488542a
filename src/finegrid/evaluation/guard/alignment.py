"""New input given the mean or the distribution of training input, variable by variable, alike in every cell.

    mean         x' = x + (m_t - m_n)                what may be negative
                 x' = x m_t / m_n                    amounts: what is zero stays zero; factors from 0.1 to 10
    quantiles    x' = x + (Q_t - Q_n)(x)
                 x' = x (Q_t / Q_n)(x)

m_n and Q_n are mean and quantiles of all values of the new input, m_t and Q_t those of training values of the same
calendar months, in the parts that the new input has of each. Between quantiles correction or factor is linear, beyond
the outermost constant. Patterns, and the order of times, stay. What is unusual about the weather of the new input goes
with its bias, so this needs a longer record; and quantiles take more of it than the mean does.

Source: empirical quantile mapping, Gudmundsson et al., Hydrology and Earth System Sciences 16, 2012,
doi:10.5194/hess-16-3383-2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.data.adjustments.base import changed
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.guard.memory import LEVELS
from finegrid.evaluation.wording import number, with_units

# Units of each variable, and whether it is an amount.
Kinds = Mapping[str, tuple[str, bool]]
# Largest factor by which an amount is changed: a dry record knows nothing.
_MOST = 10.0


@dataclass(frozen=True, eq=False)
class Mapped:
    """How one variable is changed.

    Attributes:
        nodes: different values, ascending (node,).
        corrections: what is added at these, or what they are multiplied by (node,).
        quantiles: of the new input (level,), or its mean.
        factor: whether it is multiplied.
        units: of the variable.
    """

    nodes: Array
    corrections: Array
    quantiles: Array
    factor: bool
    units: str

    def __call__(self, values: NDArray[Any], _: object = None) -> NDArray[Any]:
        """Values of any shape, changed."""
        found = np.interp(values, self.nodes, self.corrections)
        return np.asarray(values * found if self.factor else values + found, dtype=values.dtype)

    @property
    def words(self) -> str:
        """By how much; where values differ in that, in their middle and towards their ends."""
        if len(self.nodes) == 1:
            return self._told(self.nodes[0])
        told = [self._told(float(np.interp(level, LEVELS, self.quantiles))) for level in (0.5, 0.05, 0.95)]
        return f"{told[0]} at the median ({told[1]} at the 5th percentile, {told[2]} at the 95th)"

    def _told(self, value: float) -> str:
        found = float(np.interp(value, self.nodes, self.corrections))
        return f"times {number(found)}" if self.factor else f"{'+' if found > 0 else ''}{with_units(found, self.units)}"


@dataclass(frozen=True, eq=False)
class Alignment:
    """A change of each variable, the same over the whole domain.

    Attributes:
        maps: by variable.
    """

    maps: Mapping[str, Mapped]

    @classmethod
    def by_mean(cls, new: Mapping[str, float], training: Mapping[str, float], kinds: Kinds) -> Self:
        """What gives each variable the mean of training."""
        return cls({name: _mapped(np.array([new[name]]), np.array([training[name]]), *kinds[name]) for name in new})

    @classmethod
    def by_quantiles(cls, new: Mapping[str, Array], training: Mapping[str, Array], kinds: Kinds) -> Self:
        """What gives each variable the distribution of training, from quantiles (level,) at `LEVELS`."""
        return cls({name: _mapped(new[name], training[name], *kinds[name]) for name in new})

    def __call__(self, fields: xr.Dataset) -> xr.Dataset:
        """Fields with their variables changed, also those of other cells ("tas (own cells)"); lazy if they are."""
        chosen = {str(name): self.maps.get(str(name).partition(" (")[0]) for name in fields.data_vars}
        return fields.assign({name: changed(fields[name], each) for name, each in chosen.items() if each is not None})

    @property
    def words(self) -> str:
        """By how much each variable is changed."""
        return "; ".join(f"{name}: {each.words}" for name, each in self.maps.items())


def _mapped(own: Array, goal: Array, units: str, amount: bool) -> Mapped:
    corrections = goal - own
    if amount:
        factors = np.divide(goal, own, out=np.ones_like(own), where=own > 0)
        corrections = np.clip(factors, 1 / _MOST, _MOST)
    nodes, place = np.unique(own, return_inverse=True)
    mean = np.bincount(place, corrections) / np.bincount(place)
    return Mapped(nodes, mean, own, amount, units)
