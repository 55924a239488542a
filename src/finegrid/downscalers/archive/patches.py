"""What a training step sees of an archive: one window of the domain at some times, out of a shard in memory.

    shard    a few pieces of the archive, chosen by chance, each once in an epoch; a thread reads the next one
    batch    a window, chosen by area (or by height and area), at as many times of the shard as a batch has samples

Which shard, window and times a step sees is a function of the seed and the step alone, so that a resumed run sees what
an uninterrupted one would have seen. First guess and features are those of the whole domain, cut for the window: they
know what lies beyond its edges.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finegrid.backbones.windows import Window
from finegrid.data.working import aside, over
from finegrid.heads import Conditions, Place
from finegrid.training import Samples
from finegrid.training.batches import Batch

# Part of the cells of a shard that is seen before the next one comes.
_COVERAGE = 0.5
_LEAST_STEPS = 8
_PLACES = 512
# Heights in metres between lowlands, hills and mountains.
_ZONES = (200.0, 1000.0)

PlaceAt = Callable[[Window], Place]


def windows_of(shape: tuple[int, int], side: int) -> list[Window]:
    """Windows of a side on a lattice of half of it, and along the far edges."""
    spans = [_starts(count, min(side, count)) for count in shape]
    rows, columns = (min(side, count) for count in shape)
    return [Window((y, y + rows), (x, x + columns), shape) for y in spans[0] for x in spans[1]]


def _starts(count: int, side: int) -> list[int]:
    return sorted({*range(0, count - side + 1, max(1, side // 2)), count - side})


def chances(windows: Sequence[Window], weight: Tensor, height: Tensor | None = None) -> NDArray[np.float64]:
    """How often each window is seen: by its valid area; with `height` lowlands, hills and mountains alike in sum.

    Args:
        windows: the windows.
        weight: importance of the fine cells (H, W), areas times validity.
        height: of the fine cells in metres (H, W).
    """
    area = np.array([float(each.of(weight).sum()) for each in windows])
    if height is None:
        return np.asarray(area / area.sum())
    mean = [
        float((each.of(height) * each.of(weight)).sum()) / max(1e-12, a) for each, a in zip(windows, area, strict=True)
    ]
    zone = np.digitize(mean, _ZONES)
    total = np.array([area[zone == each].sum() for each in range(len(_ZONES) + 1)])
    share = np.divide(area, total[zone], out=np.zeros_like(area), where=area > 0)
    return np.asarray(share / share.sum())


def cut(samples: Samples, window: Window, times: Tensor) -> tuple[Tensor, Conditions]:
    """Some samples on a window."""
    return window.of(samples.fine)[times], samples.given.within(window).at(times)


@dataclass(eq=False)
class Patches:
    """Training patches of an archive.

    Args:
        pieces: times that are read together.
        read: the samples of a piece on the whole domain.
        windows: where patches may be.
        chances: how often each is seen.
        place: the domain on a window.
        together: pieces of a shard.
        size: samples of a batch.
        seed: of the order.
    """

    pieces: Sequence[range]
    read: Callable[[range], Samples]
    windows: Sequence[Window]
    chances: NDArray[np.float64]
    place: PlaceAt
    together: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        self.place = functools.lru_cache(maxsize=_PLACES)(self.place)
        self._device: torch.device | str = "cpu"
        self._shards: dict[int, Future[Samples]] = {}
        first = self.windows[0]
        cells = (first.rows[1] - first.rows[0]) * (first.columns[1] - first.columns[0])
        self._in_domain = first.shape[0] * first.shape[1] / cells
        times = self.together * len(self.pieces[0])
        self.steps = max(_LEAST_STEPS, math.ceil(_COVERAGE * times * self._in_domain / self.size))

    def __len__(self) -> int:
        return int(sum(map(len, self.pieces)) * self._in_domain)

    @property
    def alone(self) -> bool:
        """Whether one shard holds everything."""
        return self.together >= len(self.pieces)

    def batch(self, step: int, *, size: int, seed: int) -> Batch:
        """The batch of a step."""
        shard = self._shard(0 if self.alone else step // self.steps)
        random = np.random.default_rng([self.seed, seed, step])
        window = self.windows[int(random.choice(len(self.windows), p=self.chances))]
        times = torch.from_numpy(random.permutation(len(shard))[: min(size, len(shard))])
        fine, given = cut(shard, window, times)
        return Batch(fine.to(self._device), given.to(self._device), self.place(window).to(self._device))

    def to(self, device: torch.device | str) -> Patches:
        """The same, batches on another device."""
        self._device = device
        return self

    def close(self) -> None:
        """Stop reading ahead."""
        over(*self._shards.values())

    def _shard(self, number: int) -> Samples:
        """A shard; the next one is on its way then, and older ones are forgotten."""
        if number not in self._shards:
            self._shards = {number: aside(self._made, number)}
        shard = self._shards[number].result()
        if not self.alone:
            following = self._shards.get(number + 1) or aside(self._made, number + 1)
            self._shards = {number: self._shards[number], number + 1: following}
        return shard

    def _made(self, number: int) -> Samples:
        in_epoch = math.ceil(len(self.pieces) / self.together)
        epoch, turn = divmod(number, in_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pieces))
        chosen = sorted(order[turn * self.together : (turn + 1) * self.together])
        return joined([self.read(self.pieces[each]) for each in chosen])


@dataclass(frozen=True, eq=False)
class Judged:
    """Patches by which weights are chosen: the same ones each time, in memory."""

    samples: Samples
    windows: Sequence[Window]
    place: PlaceAt
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.samples) * len(self.windows)

    def batch(self, step: int, *, size: int, seed: int) -> Batch:
        """One window at all times."""
        window = self.windows[step % len(self.windows)]
        fine, given = cut(self.samples, window, torch.arange(len(self.samples)))
        return Batch(fine.to(self.device), given.to(self.device), self.place(window).to(self.device))

    def judged(self, size: int) -> Iterator[Batch]:
        """All of them, a window at a time."""
        return (self.batch(number, size=size, seed=0) for number in range(len(self.windows)))

    def thinned(self, most: int) -> Judged:
        """Fewer windows, spread evenly."""
        count = int(np.clip(most // len(self.samples), 1, len(self.windows)))
        kept = np.linspace(0, len(self.windows) - 1, count).round().astype(int)
        return replace(self, windows=[self.windows[each] for each in kept])

    def to(self, device: torch.device | str) -> Judged:
        """The same, batches on another device."""
        return replace(self, device=device)


def joined(parts: Sequence[Samples]) -> Samples:
    """Samples of several pieces as one."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name, each in vars(parts[0].given).items() if each is not None]
    given = {name: torch.cat([getattr(part.given, name) for part in parts]) for name in names}
    return Samples(torch.cat([part.fine for part in parts]), Conditions(**given))
