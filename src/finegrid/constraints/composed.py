"""Several constraints on the variables of one model, one after the other in a stated order, with a check at the end.

Every part acts on the channels of its variables and sees what the parts before it made of them, so that a relation may
build on a variable that was constrained before. Variables that no part names are constrained by `otherwise`, first of
all. A later part could undo an earlier one: the violation is that of the finished field, over all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from finegrid.constraints.base import Aggregation, Constraint
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest

Table = str | Mapping[str, Any]
Make = Callable[[Table, Sequence[str]], Constraint]


class ComposedConstraint(nn.Module):
    """Constraints in a row.

    Args:
        parts: tables `{name: ..., variables: [...], **arguments}` in the order in which they act; a relation between
            variables finds them by their usual names unless it is told.
        otherwise: the constraint of variables that no part names.
        variables: names of the channels.
        make: builds the constraint of a table for some variables.
    """

    conserves: bool = True
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("variables", "make")
    takes_high: ClassVar[bool] = True

    def __init__(
        self, *, parts: Sequence[Table], otherwise: Table = "add", variables: Sequence[str], make: Make
    ) -> None:
        super().__init__()
        self.variables = tuple(variables)
        built = [_built(each, self.variables, make) for each in parts]
        covered = {name for _, names in built for name in names}
        rest = [name for name in self.variables if name not in covered]
        built = [(make(otherwise, rest), rest), *built] if rest else built
        self.channels = [[self._index(name) for name in names] for _, names in built]
        self.parts = nn.ModuleList(each for each, _ in built if isinstance(each, nn.Module))
        self.conserves = all(each.conserves for each, _ in built)
        self.derived, self.sunlit = self._gathered("derived"), self._gathered("sunlit")
        self.learns = any(getattr(each, "learns", False) for each, _ in built)

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation, *, high: Tensor | None = None) -> Tensor:
        return self._through("project", fine, coarse, operator, high)

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._through("reproject", fine, coarse, operator, None)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return torch.stack(list(self.check(fine, coarse, operator).values())).amax(0)

    def fitted(self, fine: Tensor, coarse: Tensor, truth: Tensor, operator: Aggregation, weight: Tensor) -> None:
        """Let the parts of learned strength learn it; see `RelaxedConstraint.fitted`."""
        for part, places in zip(self.parts, self.channels, strict=True):
            if getattr(part, "learns", False):
                parts = (each[..., places, :, :] for each in (fine, coarse, truth))
                part.fitted(*parts, operator, weight)  # type: ignore[operator]

    def check(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> dict[str, Tensor]:
        """The violation (...,) of every part by a finished field."""
        found = {}
        for part, channels in zip(self.parts, self.channels, strict=True):
            names = ", ".join(self.variables[index] for index in channels)
            word = type(part).__name__.removesuffix("Constraint").lower()
            error = part.violation(fine[..., channels, :, :], coarse[..., channels, :, :], operator)  # type: ignore[operator]
            found[f"{word} ({names})"] = error
        return found

    def _gathered(self, attribute: str) -> tuple[int, ...]:
        """Channels that some part says something of."""
        pairs = zip(self.parts, self.channels, strict=True)
        return tuple(sorted({channels[index] for part, channels in pairs for index in getattr(part, attribute, ())}))

    def _index(self, name: str) -> int:
        if name not in self.variables:
            raise InputError(
                f"a constraint names the variable '{name}', which the model does not predict; its variables are "
                f"{', '.join(self.variables)}; name one of these, or add it to data.variables."
                f"{nearest(name, self.variables)}"
            )
        return self.variables.index(name)

    def _through(self, method: str, fine: Tensor, coarse: Tensor, operator: Aggregation, high: Tensor | None) -> Tensor:
        channels = list(fine.to(torch.promote_types(fine.dtype, coarse.dtype)).unbind(-3))
        for part, places in zip(self.parts, self.channels, strict=True):
            more = {}
            if high is not None and getattr(part, "takes_high", False):
                more["high"] = high[..., places, :, :]
            raw = torch.stack([channels[place] for place in places], dim=-3)
            found = getattr(part, method)(raw, coarse[..., places, :, :], operator, **more)
            for index, place in enumerate(places):
                channels[place] = found[..., index, :, :]
        return torch.stack(channels, dim=-3)


class NaturalConstraint(ComposedConstraint):
    """Every variable by what nature allows: rain multiplicative, fractions and humidity bounded, the rest additive.

    Args:
        variables: names of the channels.
        lowest: lowest value that nature allows each of them; -inf where there is none.
        highest: highest one.
        make: builds the constraint of a table for some variables.
    """

    statistics: ClassVar[tuple[str, ...]] = ("variables", "lowest", "highest", "make")

    def __init__(
        self, *, variables: Sequence[str], lowest: Sequence[float], highest: Sequence[float], make: Make
    ) -> None:
        limits = zip(variables, lowest, highest, strict=True)
        parts = [{"name": natural_choice(low, high), "variables": [name]} for name, low, high in limits]
        super().__init__(parts=parts, variables=variables, make=make)


def natural_choice(low: float, high: float) -> str:
    """Name of the constraint that suits these limits."""
    if np.isfinite(high):
        return "bounded"
    return "multiplicative" if low == 0 else "add"


def _built(table: Table, variables: Sequence[str], make: Make) -> tuple[Constraint, Sequence[str]]:
    """A part, and the variables that it is for: those that it names or, a relation, finds; else all."""
    chosen = [] if isinstance(table, str) else table.get("variables") or []
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    constraint = make(table, names)
    return constraint, getattr(constraint, "variables", None) or names or variables
