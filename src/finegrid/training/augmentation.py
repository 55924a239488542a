"""Samples turned and mirrored: eight fields for one, where no direction of the domain is special.

    y'(i, j) = y(+-i, +-j)   or, on square domains,   y(+-j, +-i)

Every sample of a batch is turned by itself, its fine field and all that is known about it alike, by one of the
symmetries of the domain. Which one is a function of the seed, the step and the position in the batch alone, so that a
run that was resumed sees what an uninterrupted one would have seen. Validation and prediction see fields as they are.

Rain by radar knows few directions, temperature beside a coast many: who asks for it says that the fields have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from finegrid.heads import Conditions

# Areas within a coarse cell that differ by less than this part count as alike when the cell is turned.
_ALIKE = 0.01


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

    known: dict[str, Any] = {name: each(values) for name, values in vars(given).items() if isinstance(values, Tensor)}
    return each(fine), replace(given, **known)


def _within_blocks(weight: Tensor, factor: tuple[int, int]) -> Tensor:
    """The weight of each cell relative to the mean of its block."""
    means = functional.avg_pool2d(weight[None], factor)
    spread = means.repeat_interleave(factor[0], -2).repeat_interleave(factor[1], -1)[0]
    return torch.where(spread > 0, weight / spread.clamp(min=1e-12), 0.0)
