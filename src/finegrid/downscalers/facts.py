"""What constraints want to know of the variables: numbers of the training data, limits of nature, units and axes.

A constraint says in `statistics` which of these facts its constructor takes; `made` builds it for some of the variables
with the facts of these. Constraints for quantities without negative values act on temperatures in kelvin also where the
file has degrees Celsius.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from finegrid.constraints import CONSTRAINTS, Constraint, ShiftedConstraint
from finegrid.conventions import InputError, unit_conversion
from finegrid.conventions.components import build, table_of, word_of
from finegrid.conventions.variables import alike
from finegrid.data.pairs import Pair
from finegrid.downscalers.domain import Domain
from finegrid.grids.vectors import turn

Table = str | Mapping[str, Any]

# Part of the usual size of a variable by which packed integers miss zero.
_PACKING = 1e-4
# Units in which relations between variables compute, by the usual name of the variable.
_STANDARD = {"tas": "K", "ps": "Pa", "huss": "kg kg-1", "hurs": "1"}


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of the predicted variables.

    Attributes:
        domain: grids, units and attributes.
        numbers: per variable scale (mean of |coarse|), low and high (extremes of fine) of the training data.
    """

    domain: Domain
    numbers: Mapping[str, list[float]]

    @classmethod
    def of(cls, matched: Pair, domain: Domain) -> Self:
        """The facts of a training pair."""
        fine = [matched.fine[name].values for name in domain.outputs]
        coarse = [matched.coarse[name].values for name in domain.outputs]
        low, high = [float(np.nanmin(each)) for each in fine], [float(np.nanmax(each)) for each in fine]
        return cls.known(domain, [float(np.nanmean(np.abs(each), dtype=np.float64)) for each in coarse], low, high)

    @classmethod
    def known(cls, domain: Domain, scale: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Self:
        """The facts by numbers of each output: mean size of coarse values, lowest and highest fine ones."""
        tops = [top if top > bottom else bottom + 1.0 for bottom, top in zip(low, high, strict=True)]
        return cls(domain, {"scale": [each or 1.0 for each in scale], "low": list(low), "high": tops})

    @classmethod
    def stored(cls, domain: Domain, numbers: Mapping[str, Sequence[float]]) -> Self:
        """The facts that a model file holds.

        Raises:
            Exception: where they are no numbers of each output.
        """
        found = {key: list(map(float, numbers[key])) for key in ("scale", "low", "high")}
        if {len(each) for each in found.values()} != {len(domain.outputs)}:
            raise ValueError(f"it has not one number of each of {len(domain.outputs)} variables")
        return cls(domain, found)

    def made(self, table: Table, names: Sequence[str] = ()) -> Constraint:
        """The constraint of a table for some variables, by default for all that it can be for.

        Raises:
            InputError: on an unknown name or argument, variables that the model does not predict, and values that the
                constraint cannot take.
        """
        word, arguments = word_of(table), table_of(table)
        kind = CONSTRAINTS.get(word)
        if getattr(kind, "roles", ()):
            chosen = list(names) or self._by_roles(word, getattr(kind, "roles", ()))
            arguments["variables"] = chosen
        else:
            chosen = list(names) or list(self.domain.outputs)
            arguments.pop("variables", None)
        self._check_predicted(word, chosen)
        needed = getattr(kind, "statistics", ())
        if not getattr(kind, "needs_positive", False):
            return build(arguments, CONSTRAINTS, "constraint", **{key: self._fact(key, chosen) for key in needed})
        offsets = [_kelvin_offset(self.domain.inputs.units[name]) for name in chosen]
        self._check_positive(word, chosen, offsets)
        scale = [s + offset for s, offset in zip(self._fact("scale", chosen), offsets, strict=True)]
        known = {key: scale if key == "scale" else self._fact(key, chosen) for key in needed}
        built: Constraint = build(arguments, CONSTRAINTS, "constraint", **known)
        return ShiftedConstraint(built, offsets) if any(offsets) else built

    def _fact(self, key: str, names: Sequence[str]) -> Any:
        if key in self.numbers:
            return [self.numbers[key][self.domain.outputs.index(name)] for name in names]
        if key in ("lowest", "highest"):
            return [self.domain.limits(name)[key == "highest"] for name in names]
        if key == "standard":
            return [self._standard(name, role) for name, role in zip(names, _STANDARD, strict=True)]
        if key == "turn":
            return torch.from_numpy(np.stack(turn(self.domain.grid)))
        return {"variables": list(names), "make": self.made}[key]

    def _standard(self, name: str, role: str) -> tuple[float, float]:
        units = self.domain.inputs.units[name]
        if not units:
            raise InputError(
                f"the constraint 'humidity' got '{name}' without units; expected units that convert to "
                f"{_STANDARD[role]}; set fine['{name}'].attrs['units']"
            )
        return unit_conversion(units, _STANDARD[role])

    def _by_roles(self, word: str, roles: Sequence[str]) -> list[str]:
        """The variables of the model that usually go by these names; at least two, or the only one."""
        known: list[str] = []
        for role in roles:
            known += self._playing(role, roles, known)
        if len(known) < min(2, len(roles)):
            raise InputError(
                f"the constraint '{word}' relates {', '.join(roles)}; the model predicts "
                f"{', '.join(self.domain.outputs)}; add the variables to data.variables, or name yours: "
                f"{{name: {word}, variables: [...]}}"
            )
        return known

    def _playing(self, role: str, roles: Sequence[str], taken: Sequence[str]) -> list[str]:
        """The variable of this usual name, if there is one; that which has no other role first, `rain` beside `pr`."""
        free = [name for name in self.domain.outputs if name not in taken]
        called = {name: str(self.domain.attributes[name].get("standard_name", "")) for name in free}
        by_name = [name for name in free if alike(name, role)]
        found = by_name or [name for name in free if alike(called[name], role)]
        return sorted(found, key=lambda name: (name != role, sum(alike(name, each) for each in roles)))[:1]

    def _check_predicted(self, word: str, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.domain.outputs]
        if missing:
            raise InputError(
                f"the constraint '{word}' names {', '.join(missing)}, which the model does not predict; its variables "
                f"are {', '.join(self.domain.outputs)}; name some of these, or add the others to data.variables"
            )

    def _check_positive(self, word: str, names: Sequence[str], offsets: Sequence[float]) -> None:
        lows, scales = self._fact("low", names), self._fact("scale", names)
        for name, low, scale, offset in zip(names, lows, scales, offsets, strict=True):
            # What packing leaves just below zero counts as zero.
            if low + offset < -_PACKING * scale:
                raise InputError(
                    f"the constraint '{word}' is for quantities without negative values, and '{name}' goes down to "
                    f"{low + offset:g} {self.domain.inputs.units[name]}; expected rain, humidity, radiation or a "
                    "temperature; choose the constraint add or scaled-add"
                )


def _kelvin_offset(units: str) -> float:
    """273.15 for degrees Celsius, 0 for everything else."""
    try:
        scale, offset = unit_conversion(units, "K")
    except InputError:
        return 0.0
    return offset if scale == 1.0 else 0.0
