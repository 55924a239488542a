"""SRResNet as published with the hard constraint layers: the reference network, not the fast one.

One 3x3 convolution on the coarse grid, transposed convolutions up to the fine grid (one per prime factor,
so two of 2x2 for a factor of 4), and everything else on the fine grid: a convolution, `depth` residual
blocks with a ReLU after the sum and no bias, a convolution, and a 1x1 convolution to the outputs. All with
32 channels: 100 833 parameters for one field and a factor of 4. At the same width a layer costs 16 times that of
`resnet`, which works on the coarse grid.

Departures: static fields and other inputs on the fine grid, which the source does not have, join at the first fine
convolution; blocks are modulated by a condition where there is one. The padding with zeros is the published one.

Source: Harder et al., JMLR 24(365), 2023, and its public code (RolnickLab/constrained-downscaling); the
architecture follows Ledig et al., "Photo-Realistic Single Image Super-Resolution", CVPR 2017.
"""

from __future__ import annotations

from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import Convolution, Modulation, checked_fine, checked_static


class SRResNet(nn.Module):
    """Fully convolutional on the fine grid; `shape` is ignored."""

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        factor: tuple[int, int],
        shape: tuple[int, int] | None = None,
        static: int = 0,
        fine: int = 0,
        condition: int = 0,
        width: int = 32,
        depth: int = 4,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        del shape
        self.static, self.fine = static, fine
        self.enter = Convolution(inputs, width, padding=padding)
        steps = zip_longest(primes(factor[0]), primes(factor[1]), fillvalue=1)
        self.raise_resolution = nn.Sequential(*(nn.ConvTranspose2d(width, width, step, stride=step) for step in steps))
        self.merge = Convolution(width + static + fine, width, padding=padding)
        self.blocks = nn.ModuleList(_RectifiedBlock(width, padding=padding, condition=condition) for _ in range(depth))
        self.finish = Convolution(width, width, padding=padding)
        self.leave = Convolution(width, outputs, kernel=1, padding=padding)

    def forward(
        self,
        coarse: Tensor,
        static: Tensor | None = None,
        fine: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        features = self.raise_resolution(functional.relu(self.enter(coarse)))
        joined = [features]
        if self.static:
            joined.append(checked_static(static, self.static).expand(len(features), -1, -1, -1))
        if self.fine:
            joined.append(checked_fine(fine, self.fine))
        features = functional.relu(self.merge(torch.cat(joined, dim=1)))
        for block in self.blocks:
            features = block(features, condition)
        made: Tensor = self.leave(functional.relu(self.finish(features)))
        return made


class _RectifiedBlock(nn.Module):
    """The residual block of the source: no bias, and a ReLU after the sum."""

    def __init__(self, width: int, *, padding: str, condition: int) -> None:
        super().__init__()
        self.first = Convolution(width, width, padding=padding, bias=False)
        self.norm = Modulation(width, condition)
        self.second = Convolution(width, width, padding=padding, bias=False)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        change = self.second(functional.relu(self.norm(self.first(features), condition)))
        return functional.relu(features + change)


def primes(number: int) -> list[int]:
    """Prime factors in ascending order; none for 1."""
    smallest = next((divisor for divisor in range(2, number + 1) if number % divisor == 0), None)
    return [] if smallest is None else [smallest, *primes(number // smallest)]
