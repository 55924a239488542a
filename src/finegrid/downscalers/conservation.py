"""A constraint with the cells and the facts that it needs: what is done to every fine field before it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from finegrid.bridge import BlockMean
from finegrid.constraints import CONSTRAINTS, Constraint, SparseMean, violation
from finegrid.data.pairs import Pair
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.facts import Facts, Table


@dataclass(frozen=True, eq=False)
class Conservation:
    """What is done to every fine field before it leaves.

    Attributes:
        table: the constraint as the user named it.
        facts: what constraints want to know of the variables.
        constraint: the constraint.
        operator: the area-weighted mean over the cells whose values are conserved.
    """

    table: Table
    facts: Facts
    constraint: Constraint
    operator: BlockMean | SparseMean

    @classmethod
    def of(cls, table: Table, matched: Pair, domain: Domain) -> Self:
        """The constraint for a training pair.

        Raises:
            InputError: when it does not fit the variables or their values.
        """
        return cls.built(table, Facts.of(matched, domain))

    @classmethod
    def built(cls, table: Table, facts: Facts) -> Self:
        """The constraint of a table."""
        word = table if isinstance(table, str) else table.get("name")
        # A relation is for its own variables; the others of the model are conserved beside it.
        alone = not getattr(CONSTRAINTS.get(str(word)), "roles", ())
        whole: Table = table if alone else {"name": "composed", "parts": [table]}
        return cls(table, facts, facts.made(whole), _mean(facts.domain))

    def project(self, fine: Tensor, coarse: Tensor, high: Tensor | None = None) -> Tensor:
        """Fine fields (..., output, H, W) that obey the constraint.

        Args:
            fine: raw fields.
            coarse: values (..., output, h, w) on the conserved cells.
            high: upper limits of single cells (..., output, H, W), where the constraint wants some.
        """
        if high is None or not getattr(self.constraint, "takes_high", False):
            return self.constraint.project(fine, coarse, self.operator)
        return self.constraint.project(fine, coarse, self.operator, high=high)  # type: ignore[call-arg]

    def penalty(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """What a soft constraint adds to the loss, per sample."""
        value: Tensor = self.constraint.penalty(fine, coarse, self.operator)  # type: ignore[attr-defined]
        return value

    @property
    def has_penalty(self) -> bool:
        """Whether the constraint acts through the loss."""
        return hasattr(self.constraint, "penalty")

    @property
    def conserves(self) -> bool:
        """Whether fine fields reproduce the coarse ones to rounding."""
        return self.constraint.conserves

    @property
    def derived(self) -> tuple[str, ...]:
        """Variables that follow from others, and have no coarse value of their own to reproduce."""
        return tuple(self.facts.domain.outputs[index] for index in getattr(self.constraint, "derived", ()))

    @property
    def sunlit(self) -> tuple[int, ...]:
        """Channels that the sun limits."""
        return tuple(getattr(self.constraint, "sunlit", ()))

    def violation(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Largest relative error of conservation of each sample."""
        typical = torch.tensor(self.facts.numbers["scale"], dtype=torch.float64).reshape(-1, 1, 1)
        return violation(fine, coarse, self.operator, typical=typical)

    def to(self, device: torch.device | str) -> Conservation:
        """The same on another device (modules move in place)."""
        self.operator.to(device)
        if isinstance(self.constraint, torch.nn.Module):
            self.constraint.to(device)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        table = self.table if isinstance(self.table, str) else dict(self.table)
        return {"table": table, "statistics": dict(self.facts.numbers), "learned": self._learned()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], domain: Domain) -> Self:
        """The constraint that `to_dict` described."""
        found = cls.built(values["table"], Facts(domain, values["statistics"]))
        for name, buffer in found._strengths().items():
            buffer.copy_(torch.tensor(values.get("learned", {}).get(name, buffer.tolist())).reshape(buffer.shape))
        return found

    def _learned(self) -> dict[str, Any]:
        return {name: buffer.flatten().tolist() for name, buffer in self._strengths().items()}

    def _strengths(self) -> dict[str, Tensor]:
        """What relaxed constraints learn."""
        if not isinstance(self.constraint, torch.nn.Module):
            return {}
        return {name: each for name, each in self.constraint.named_buffers() if name.endswith("strength")}


def _mean(domain: Domain) -> BlockMean | SparseMean:
    if domain.inputs.own is None:
        return BlockMean(domain.grid.area, domain.factor, mask=domain.grid.mask)
    return SparseMean(domain.binding_areas, domain.grid.shape, domain.inputs.own.shape)
