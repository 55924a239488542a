"""What downscalers see of coarse fields, from tensors alone: frames, waves of time, windows, cells without holes.

The numbers are those of `bridge.to_features` and `downscalers.features`; the way there needs no dates, and no branch
that depends on values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from finegrid.data.transforms import Quantile, Transform
from finegrid.serving.signature import Signature

_OVERTONES = (1, 2)


@dataclass(frozen=True, eq=False)
class Weather:
    """The inputs of a graph.

    Attributes:
        signature: which they are.
        coarse: fields on blocks (batch, frame, channel, h, w), NaN where missing.
        own: values that are conserved (batch, output, h, w) on cells of their own, or those on blocks.
        around: fields around (batch, frame, channel, h, w); None where nobody sees them.
        clock: hour and phase of the year (batch), those that are inputs.
        scores: normal scores (batch, output, H, W); None where nothing is drawn.
    """

    signature: Signature
    coarse: Tensor
    own: Tensor
    around: Tensor | None
    clock: dict[str, Tensor]
    scores: Tensor | None = None

    @classmethod
    def of(cls, signature: Signature, tensors: Sequence[Tensor]) -> Weather:
        """The inputs of a graph in their order."""
        given = dict(zip(signature.names, tensors, strict=True))
        frames, channels = len(signature.frames), len(signature.domain.inputs.channels)

        def framed(name: str) -> Tensor:
            values = given[name]
            return values.reshape(-1, frames, channels, *values.shape[2:])

        coarse = framed("coarse")
        now = coarse[:, signature.frames.index(0), : len(signature.domain.outputs)]
        around = framed("around") if signature.sees_around else None
        clock = {name: given[name] for name in signature.clock}
        return cls(signature, coarse, given.get("conserved", now), around, clock, given.get("scores"))

    @property
    def outputs(self) -> Tensor:
        """Coarse values of the predicted fields on blocks (batch, output, h, w), NaN where missing."""
        return self.coarse[:, self.signature.frames.index(0), : len(self.signature.domain.outputs)]

    def frame(self, fields: Tensor, offset: int) -> Tensor:
        """Fields (batch, frame, ...) at one frame."""
        return fields[:, self.signature.frames.index(offset)]

    def waves(self, cycles: Sequence[str]) -> Tensor:
        """Sines and cosines of the phases (batch, 4 * number of cycles), as `data.predictors.cycles`."""
        columns = [
            wave(overtone * 2 * torch.pi * self._phase(kind))
            for kind in cycles
            for overtone in _OVERTONES
            for wave in (torch.sin, torch.cos)
        ]
        return torch.stack(columns, dim=-1) if columns else self.coarse.flatten(1)[:, :0]

    def _phase(self, kind: str) -> Tensor:
        return self.clock["hour"] / 24 if kind == "hour" else self.clock["phase_of_year"]


def known(values: Tensor) -> Tensor:
    """Where there is a value; infinite ones have been refused, and in a graph they would cost four nodes each."""
    return ~torch.isnan(values)


def filled(values: Tensor) -> Tensor:
    """Values with 0 where they are missing."""
    return torch.where(torch.isnan(values), 0.0, values)


class KnotLine(Quantile):
    """The quantile transform with a search for the piece that a graph can hold: by halves, one comparison each."""

    @staticmethod
    def _line(values: Tensor, source: Tensor, target: Tensor, xp: object) -> Tensor:  # type: ignore[override]
        inner = source[1:-1]
        piece = torch.zeros_like(values, dtype=torch.int64)
        for power in reversed(range(max(1, int(inner.numel()).bit_length()))):
            ahead = piece + (1 << power)
            reached = (ahead <= inner.numel()) & (inner[(ahead - 1).clamp(max=max(0, inner.numel() - 1))] < values)
            piece = torch.where(reached, ahead, piece)
        slope = (target[1:] - target[:-1]) / (source[1:] - source[:-1])
        return target[piece] + slope[piece] * (values - source[piece])


def constant(transform: Transform) -> Transform:
    """A transform whose numbers are tensors."""
    numbers = {name: torch.as_tensor(np.array(number)).float() for name, number in transform.numbers.items()}
    kind = KnotLine if isinstance(transform, Quantile) and len(transform.values_at) > 2 else type(transform)
    return kind(**numbers)


def window_index(shape: tuple[int, int], half_width: int, *, periodic: bool) -> NDArray[np.int64]:
    """Cells (window, cell) in the window of every cell, as `downscalers.features.base.window` orders them."""
    steps = np.arange(-half_width, half_width + 1)
    rows = np.clip(np.arange(shape[0])[:, None] + steps, 0, shape[0] - 1)
    columns = np.arange(shape[1])[:, None] + steps
    columns = columns % shape[1] if periodic else np.clip(columns, 0, shape[1] - 1)
    cells = rows[:, None, :, None] * shape[1] + columns[None, :, None, :]
    return np.ascontiguousarray(cells.transpose(2, 3, 0, 1).reshape(len(steps) ** 2, -1))


def windows_of(values: Tensor, index: Tensor) -> Tensor:
    """Values (batch, channel, h, w) in the window of every cell, (batch, channel * window, cell)."""
    picked = values.flatten(2).index_select(2, index.flatten())
    return picked.reshape(*picked.shape[:2], *index.shape).flatten(1, 2)


def without_holes(values: Tensor) -> Tensor:
    """`downscalers.features.base.filled` as a loop with a condition: ring by ring inwards, 0 where nothing is known."""

    def going(part: Tensor, missing: Tensor, reached: Tensor) -> Tensor:
        return missing.any() & reached

    def nearer(part: Tensor, missing: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        there = (~missing).to(part.dtype)
        sums = functional.avg_pool2d(torch.where(missing, 0.0, part), 3, 1, 1)
        counts = functional.avg_pool2d(there, 3, 1, 1)
        here = missing & (counts > 0)
        return torch.where(here, sums / counts.clamp(min=1e-3), part), missing & ~here, here.any()

    start = (values.clone(), torch.isnan(values), torch.ones((), dtype=torch.bool))
    part, missing, _ = torch.while_loop(going, nearer, start)  # type: ignore[no-untyped-call]
    return torch.where(missing, 0.0, part)
