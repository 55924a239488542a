"""Residual network on the coarse grid with a pixel shuffle at the end: the default, made for small computers.

Every convolution sees h * w instead of H * W cells, so a network of 64 channels costs a fraction of
`srresnet`. What a fine cell needs beyond its surroundings comes from the place: static fields
(pixel-unshuffled) and a learned position embedding enter the stem; an optional bias per fine cell and
output learns the mean pattern of a fixed domain directly.

Sources: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPR Workshops
2017 (residual blocks without normalisation, features added over the whole body); Shi et al., CVPR 2016
(pixel shuffle).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import Convolution, ResidualBlock, Stem, of_window, quiet, shuffle
from finegrid.backbones.windows import Window


class ResNet(nn.Module):
    """Residual blocks on the coarse grid.

    Args:
        embedding: channels of the learned position on the coarse grid; 0 lets the network serve other
            domains.
        dropout: part of the channels that each block leaves out of a training step.
        cell_bias: adds a learned field ``(outputs, H, W)``, starting at zero; ties the network to its domain.
    """

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        factor: tuple[int, int],
        shape: tuple[int, int],
        static: int = 0,
        fine: int = 0,
        condition: int = 0,
        width: int = 64,
        depth: int = 3,
        embedding: int = 8,
        dropout: float = 0.2,
        cell_bias: bool = False,
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        (fy, fx), (h, w) = factor, shape
        self.factor = factor
        self.stem = Stem(
            inputs=inputs,
            static=static,
            fine=fine,
            factor=factor,
            shape=shape,
            embedding=embedding,
            width=width,
            padding=padding,
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(width, padding=padding, dropout=dropout, condition=condition) for _ in range(depth)
        )
        self.leave = quiet(Convolution(width, outputs * fy * fx, padding=padding))
        self.window: Window | None = None
        self.cell_bias = nn.Parameter(torch.zeros(1, outputs, fy * h, fx * w)) if cell_bias else None

    def forward(
        self,
        coarse: Tensor,
        static: Tensor | None = None,
        fine: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        entered = features = functional.relu(self.stem(coarse, static, fine))
        for block in self.blocks:
            features = block(features, condition)
        made = shuffle(self.leave(entered + features), self.factor)
        return made if self.cell_bias is None else made + of_window(self.cell_bias, self.window)
