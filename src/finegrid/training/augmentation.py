"""Samples turned and mirrored, or mixed with each other: more fields than there are.

    turned   y'(i, j) = y(+-i, +-j)   or, on square domains,   y(+-j, +-i)
    mixed    y'_a = l y_a + (1 - l) y_b,      l ~ Beta(alpha, alpha), never below a half

Every sample of a batch is turned by itself, its fine field and all that is known about it alike, by one of the
symmetries of the domain. Which one is a function of the seed, the step and the position in the batch alone, so that a
run that was resumed sees what an uninterrupted one would have seen. Validation and prediction see fields as they are.

Rain by radar knows few directions, temperature beside a coast many: who asks for it says that the fields have none.

Mixing takes the fine field and all that is known about it with the same l. Means over coarse cells are linear, and so a
mixed field still has its mixed coarse values, and still lies below its mixed limits. Not linear are transforms of what
the network sees, such as the root or the logarithm of rain (the mean of two roots is mixed, not the root of the mean),
phases of time (a mixed one lies within the circle), and constraints between variables, such as saturation: of these a
mixed sample is no true case. What is missing in one of the two is missing in the mixed one. That l is never below a
half only names the nearer one of the two first.

Sources: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018; Chidambaram and
Ge, "On the limitations of temperature scaling for distributions with overlaps", ICLR 2024 (why it calibrates where no
temperature does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from finegrid.heads import Conditions

# Areas within a coarse cell that differ by less than this part count as alike when the cell is turned.
_ALIKE = 0.01
# A stream of random numbers of its own.
_MIXING = 5_201


@dataclass(frozen=True)
class Symmetry:
    """A way to turn fields (..., y, x).

    Attributes:
        flip_y: whether rows run backwards.
        flip_x: whether columns run backwards.
        transposed: whether rows become columns after that.
    """

    flip_y: bool = False
    flip_x: bool = False
    transposed: bool = False

    def __call__(self, fields: Tensor) -> Tensor:
        """The fields, turned."""
        backwards = [dim for dim, flip in ((-2, self.flip_y), (-1, self.flip_x)) if flip]
        turned = fields.flip(backwards) if backwards else fields
        return turned.transpose(-2, -1) if self.transposed else turned


SYMMETRIES = tuple(Symmetry(flip_y, flip_x, turn) for turn, flip_y, flip_x in product((False, True), repeat=3))
"""The eight of a square; the first four are those of a rectangle, and the very first changes nothing."""


def symmetries_of(weight: Tensor, factor: tuple[int, int], *, periodic: bool = False) -> tuple[Symmetry, ...]:
    """The symmetries of a domain: those after which a block mean is what it was.

    Args:
        weight: area times validity of each fine cell (H, W).
        factor: fine cells in a coarse cell along y and x.
        periodic: whether the domain goes around the globe along x.
    """
    square = weight.shape[0] == weight.shape[1] and factor[0] == factor[1] and not periodic
    valid, inside = weight > 0, _within_blocks(weight, factor)
    return tuple(
        symmetry
        for symmetry in (SYMMETRIES if square else SYMMETRIES[:4])
        if torch.equal(symmetry(valid), valid) and bool((symmetry(inside) - inside).abs().max() < _ALIKE)
    )


def turned(
    fine: Tensor, given: Conditions, symmetries: Sequence[Symmetry], generator: torch.Generator
) -> tuple[Tensor, Conditions]:
    """A batch whose samples are each turned by one of the symmetries, drawn with equal chances."""
    drawn = torch.randint(len(symmetries), (len(fine),), generator=generator)
    chosen = [torch.nonzero(drawn == number)[:, 0].to(fine.device) for number in range(len(symmetries))]

    def each(values: Tensor) -> Tensor:
        result = torch.empty_like(values)
        for symmetry, indices in zip(symmetries, chosen, strict=True):
            result[indices] = symmetry(values[indices])
        return result

    return _changed(fine, given, each)


def mixed(fine: Tensor, given: Conditions, alpha: float, *, seed: int, step: int) -> tuple[Tensor, Conditions]:
    """A batch whose samples are each mixed with another one of it; the same for the same seed and step.

    Args:
        fine: the fields.
        given: what is known about them.
        alpha: of Beta(alpha, alpha): small ones mix little, 1 mixes evenly; 0 changes nothing.
        seed: of the run.
        step: of the run.
    """
    if alpha == 0 or len(fine) < 2:
        return fine, given
    random = np.random.default_rng([seed, step, _MIXING])
    drawn = random.beta(alpha, alpha, len(fine))
    part = torch.from_numpy(np.maximum(drawn, 1 - drawn)).to(fine.device)
    other = torch.from_numpy(_others(len(fine), random)).to(fine.device)

    def each(values: Tensor) -> Tensor:
        own = part.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        return own * values + (1 - own) * values[other]

    return _changed(fine, given, each)


def _others(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """For each sample another one of a batch: the next on a ring in random order, so that none is its own."""
    ring = random.permutation(count)
    other = np.empty(count, np.int64)
    other[ring] = np.roll(ring, 1)
    return other


def _changed(fine: Tensor, given: Conditions, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Conditions]:
    """A batch, with all tensors that belong to its samples changed alike."""
    known: dict[str, Any] = {n: change(values) for n, values in vars(given).items() if isinstance(values, Tensor)}
    return change(fine), replace(given, **known)


def _within_blocks(weight: Tensor, factor: tuple[int, int]) -> Tensor:
    """The weight of each cell relative to the mean of its block."""
    means = functional.avg_pool2d(weight[None], factor)
    spread = means.repeat_interleave(factor[0], -2).repeat_interleave(factor[1], -1)[0]
    return torch.where(spread > 0, weight / spread.clamp(min=1e-12), 0.0)
