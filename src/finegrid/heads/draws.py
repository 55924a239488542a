"""Random numbers of the members of an ensemble, the same in whatever batches they are drawn.

Every member of every sample has a stream of its own, seeded by the seed, the number of the member and a key of the
sample (its time step), so that a member does not depend on how many others are drawn, on the times beside it, or on the
device: numbers are drawn on the processor and moved. While a network learns nothing of this matters, and numbers come
from the global state, which a checkpoint keeps.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


class Draws(ABC):
    """Random numbers for `len(draws)` samples; every call goes on where the last one ended."""

    @staticmethod
    def of(seed: int, members: Sequence[int], keys: Sequence[int], device: torch.device | str = "cpu") -> Draws:
        """Streams of members (of which these are the numbers) of samples (of which these are the keys).

        The order is that of members first: stream m * len(keys) + k is of member m and sample k.
        """
        return _Keyed(seed, members, keys, device)

    @staticmethod
    def fresh(count: int, device: torch.device | str = "cpu") -> Draws:
        """Numbers from the global state of torch, for training."""
        return _Fresh(count, device)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def member(self, position: int) -> Draws:
        """The streams of one member, by its position among those drawn."""

    @property
    @abstractmethod
    def members(self) -> tuple[int, ...]:
        """Numbers of the members."""

    @abstractmethod
    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (len(self), *shape)."""

    @abstractmethod
    def uniform(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1 (len(self), *shape)."""


class _Keyed(Draws):
    def __init__(self, seed: int, members: Sequence[int], keys: Sequence[int], device: torch.device | str) -> None:
        self._seed, self._members, self._keys, self._device = seed, tuple(members), tuple(keys), device

    def __len__(self) -> int:
        return len(self._members) * len(self._keys)

    @cached_property
    def _streams(self) -> list[list[torch.Generator]]:
        # Made when the first number is wanted: a head without chance never asks, and long records have many times.
        return [[_stream(self._seed, member, int(key)) for key in self._keys] for member in self._members]

    def member(self, position: int) -> Draws:
        one = copy.copy(self)
        one._members, one._streams = self._members[position : position + 1], self._streams[position : position + 1]
        return one

    @property
    def members(self) -> tuple[int, ...]:
        return self._members

    def normal(self, *shape: int) -> Tensor:
        return self._drawn(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._drawn(torch.rand, shape)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.stack([draw(shape, generator=each) for streams in self._streams for each in streams]).to(
            self._device
        )


class _Fresh(Draws):
    def __init__(self, count: int, device: torch.device | str) -> None:
        self._count, self._device = count, device

    def __len__(self) -> int:
        return self._count

    def member(self, position: int) -> Draws:
        return self

    @property
    def members(self) -> tuple[int, ...]:
        return (0,)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self._count, *shape, device=self._device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self._count, *shape, device=self._device)


def _stream(seed: int, member: int, key: int) -> torch.Generator:
    # Keys are time steps since 1970, and may be negative.
    mixed = np.random.SeedSequence([seed, member, key % 2**63]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) % 2**63)
