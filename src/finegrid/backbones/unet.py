"""U-Net: features at ever halved resolution give every cell the large-scale weather, skips the detail.

It runs on the coarse grid (and ends in a pixel shuffle), on the fine grid, at fy * fx times the cost, or with
``resolution="half"`` where a cell of the network is two by two fine cells (one along a side whose factor is odd):
enough for heads that make texture, at a quarter of the cost of the fine grid. Each level halves the resolution by a
mean and doubles the channels; on the way up the features are repeated and joined with those of the same level. Sizes
that 2^depth does not divide are extended at the high end of y and x and cropped again: by repeating the edge, or by
going around the Earth with ``padding="circular-longitude"`` (then the seam is exact only where the division is).

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015. Departure:
its blocks are residual ones (He et al., CVPR 2016); with plain pairs of convolutions a network that sees noise now and
then lost all its features early in training, and never found them again.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import Convolution, ResidualBlock, Stem, quiet, repeated, shuffle
from finegrid.conventions import InputError

RESOLUTIONS = ("coarse", "half", "fine")


class UNet(nn.Module):
    """U-Net over `depth` halvings, with `width` channels at the top.

    Args:
        resolution: the grid on which it runs, ``coarse``, ``half`` or ``fine``.
        embedding: channels of the learned position on that grid; 0 lets the network serve other domains.
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
        width: int = 48,
        depth: int = 2,
        embedding: int = 8,
        dropout: float = 0.0,
        resolution: str = "coarse",
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        if resolution not in RESOLUTIONS:
            raise InputError(f"got resolution {resolution!r}; expected coarse, half or fine; try resolution='coarse'")
        self.after = _cell(factor, resolution)
        self.before = (factor[0] // self.after[0], factor[1] // self.after[1])
        grid = (shape[0] * self.before[0], shape[1] * self.before[1])
        self.stem = Stem(
            inputs=inputs,
            static=static,
            fine=fine,
            factor=self.after,
            shape=grid,
            embedding=embedding,
            width=width,
            padding=padding,
        )
        self.around = padding == "circular-longitude"
        self.depth, self.stride = depth, 2**depth
        widths = [width * 2**level for level in range(depth + 1)]
        block = functools.partial(ResidualBlock, padding=padding, dropout=dropout, condition=condition)
        self.top = block(width)
        self.down = nn.ModuleList(block(widths[level], widths[level + 1]) for level in range(depth))
        self.up = nn.ModuleList(
            block(widths[level] + widths[level + 1], widths[level]) for level in reversed(range(depth))
        )
        self.leave = quiet(Convolution(width, outputs * self.after[0] * self.after[1], padding=padding))

    def forward(
        self,
        coarse: Tensor,
        static: Tensor | None = None,
        fine: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        features = functional.relu(self.stem(repeated(coarse, self.before), static, fine))
        height, width = features.shape[-2:]
        features = self._levels(extended(features, 2**self.depth, around=self.around), condition)
        return shuffle(self.leave(features[..., :height, :width]), self.after)

    def _levels(self, features: Tensor, condition: Tensor | None) -> Tensor:
        features = self.top(features, condition)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(functional.avg_pool2d(features, 2), condition)
        for up in self.up:
            features = up(torch.cat([repeated(features, (2, 2)), skips.pop()], dim=1), condition)
        return features


def _cell(factor: tuple[int, int], resolution: str) -> tuple[int, int]:
    """Fine cells in a cell of the network along y and x."""
    if resolution == "coarse":
        return factor
    return (1, 1) if resolution == "fine" else (2 - factor[0] % 2, 2 - factor[1] % 2)


def extended(field: Tensor, multiple: int, *, around: bool) -> Tensor:
    """The field, extended in y and x until `multiple` divides both; by index, as a pad may exceed it."""
    height, width = field.shape[-2:]
    rows = torch.arange(-(-height // multiple) * multiple, device=field.device).clamp(max=height - 1)
    columns = torch.arange(-(-width // multiple) * multiple, device=field.device)
    columns = columns % width if around else columns.clamp(max=width - 1)
    if len(rows) == height and len(columns) == width:
        return field
    return field[..., rows, :][..., columns]
