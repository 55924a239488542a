"""Training samples, and the order in which a run sees them: in memory (`Samples`), or wherever a `Source` has them.

The order is a function of the seed and the step alone, so that a run that was killed and resumed sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from finegrid.heads import Conditions, Place
from finegrid.training.augmentation import SYMMETRIES, Symmetry, turned


class Batch(NamedTuple):
    """What a training step sees.

    Attributes:
        fine: fine fields (sample, output, H, W), NaN where missing.
        given: what is known about each.
        place: where they are; None is the domain of the head.
    """

    fine: Tensor
    given: Conditions
    place: Place | None = None


class Source(Protocol):
    """Where samples come from."""

    def __len__(self) -> int: ...

    def batch(self, step: int, *, size: int, seed: int) -> Batch:
        """The batch of a step, a function of seed and step alone."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


class Judges(Protocol):
    """Samples by which weights are chosen, the same ones each time."""

    def __len__(self) -> int: ...

    def judged(self, size: int) -> Iterator[Batch]:
        """All samples, a batch at a time."""

    def thinned(self, most: int) -> Self:
        """At most so many of the samples, spread evenly over them."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Fine fields (sample, output, H, W), NaN where missing, and what is known about each.

    Attributes:
        fine: the fields.
        given: what a head is told about them.
        symmetries: ways in which a training step may turn them; the one that changes nothing is one of them.
    """

    fine: Tensor
    given: Conditions
    symmetries: tuple[Symmetry, ...] = SYMMETRIES[:1]

    def __len__(self) -> int:
        return len(self.fine)

    def at(self, indices: Tensor | slice) -> tuple[Tensor, Conditions]:
        """Some samples."""
        return self.fine[indices], self.given.at(indices)

    def batch(self, step: int, *, size: int, seed: int) -> Batch:
        """The batch of a step, a function of seed and step alone."""
        return Batch(*batch_at(step, self, batch=size, seed=seed))

    def judged(self, size: int) -> Iterator[Batch]:
        """All samples, a batch at a time."""
        for start in range(0, len(self), size):
            yield Batch(*self.at(slice(start, start + size)))

    def thinned(self, most: int) -> Samples:
        """At most so many of the samples, spread evenly over them."""
        if len(self) <= most:
            return self
        every = torch.linspace(0, len(self) - 1, most, device=self.fine.device).round().long()
        return Samples(self.fine[every], self.given.at(every), self.symmetries)

    def to(self, device: torch.device | str) -> Samples:
        """The same on another device."""
        return Samples(self.fine.to(device), self.given.to(device), self.symmetries)


def batch_at(step: int, samples: Samples, *, batch: int, seed: int) -> tuple[Tensor, Conditions]:
    """The batch of one step: the next samples of a shuffled epoch, whole batches only, turned where they may be."""
    count = len(samples)
    size = min(batch, count)
    epoch, turn = divmod(step, max(count // size, 1))
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + epoch)
    indices = torch.randperm(count, generator=generator)[turn * size : (turn + 1) * size]
    fine, given = samples.at(indices.to(samples.fine.device))
    if len(samples.symmetries) == 1:
        return fine, given
    return turned(fine, given, samples.symmetries, torch.Generator().manual_seed((seed + 1) * 7_368_787 + step))
