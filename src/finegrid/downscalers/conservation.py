"""A constraint with the cells and the facts that it needs: what is done to every fine field before it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import BlockMean, to_tensor
from finegrid.constraints import CONSTRAINTS, Constraint, SparseMean
from finegrid.conventions import unit_conversion
from finegrid.conventions.components import word_of
from finegrid.data.pairs import Pair
from finegrid.data.solar import highest_sunshine
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.facts import Facts, Table
from finegrid.heads import Conditions


@dataclass(frozen=True, eq=False)
class Given:
    """What constrains fine fields.

    Attributes:
        conserved: coarse values on the conserved cells (time, output, h, w), NaN where missing.
        high: upper limits of single cells (time, output, H, W); None for none.
    """

    conserved: Tensor
    high: Tensor | None = None


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
        # A relation is for its own variables; the others of the model are conserved beside it.
        alone = not getattr(CONSTRAINTS.get(word_of(table)), "roles", ())
        whole: Table = table if alone else {"name": "composed", "parts": [table]}
        return cls(table, facts, facts.made(whole), _mean(facts.domain))

    def given(self, coarse: xr.Dataset) -> Given:
        """What constrains the fine fields of standard coarse fields."""
        domain = self.facts.domain
        conserved = to_tensor(coarse, domain.inputs.conserved_names)
        return Given(conserved, self._sunshine(coarse.time, len(domain.outputs)) if self.sunlit else None)

    def project(self, fine: Tensor, given: Given | Conditions) -> Tensor:
        """Fine fields (..., output, H, W) that obey the constraint."""
        if given.high is None:
            return self.constraint.project(fine, given.conserved, self.operator)
        return self.constraint.project(fine, given.conserved, self.operator, high=given.high)  # type: ignore[call-arg]

    @property
    def learns(self) -> bool:
        """Whether the strength of the constraint is to be learnt."""
        return bool(getattr(self.constraint, "learns", False))

    def learn(self, fine: Tensor, given: Given, truth: Tensor, weight: Tensor) -> None:
        """Learn the strength: from raw fields of times that they had not learnt from, and the truth."""
        self.constraint.fitted(fine, given.conserved, truth, self.operator, weight)  # type: ignore[attr-defined]

    def penalty(self, fine: Tensor, given: Given | Conditions) -> Tensor:
        """What a soft constraint adds to the loss, per sample."""
        value: Tensor = self.constraint.penalty(fine, given.conserved, self.operator)  # type: ignore[attr-defined]
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

    def _sunshine(self, time: xr.DataArray, outputs: int) -> Tensor:
        """Upper limits (time, output, H, W) of the channels that the sun limits; infinite for the others."""
        domain = self.facts.domain
        most = highest_sunshine(time, *domain.grid.centres, seconds=domain.step_seconds)
        high = torch.full((len(time), outputs, *domain.grid.shape), torch.inf)
        for channel in self.sunlit:
            scale, _ = unit_conversion("W m-2", domain.inputs.units[domain.outputs[channel]] or "W m-2")
            high[:, channel] = scale * torch.from_numpy(most)
        return high

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
        found = cls.built(values["table"], Facts.stored(domain, values["statistics"]))
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
    return SparseMean(domain.binding_areas, domain.grid.shape, domain.inputs.own.shape, area=domain.grid.area)
