"""U-Net: features at ever halved resolution give every cell the large-scale weather, skips the detail.

It runs on the coarse grid (and ends in a pixel shuffle) or, with ``resolution="fine"``, on the fine grid,
at fy * fx times the cost. Each level halves the resolution by a mean and doubles the channels; on the way
up the features are repeated and joined with those of the same level. Sizes that 2^depth does not divide are
extended at the high end of y and x and cropped again: by repeating the edge, or by going around the Earth
with ``padding="circular-longitude"`` (then the seam is exact only where the division is).

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import Convolution, Stem, repeated, shuffle
from finegrid.conventions import InputError

RESOLUTIONS = ("coarse", "fine")


class UNet(nn.Module):
    """U-Net over `depth` halvings, with `width` channels at the top.

    Args:
        resolution: the grid on which it runs, ``coarse`` or ``fine``.
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
        width: int = 48,
        depth: int = 2,
        embedding: int = 8,
        resolution: str = "coarse",
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        if resolution not in RESOLUTIONS:
            raise InputError(f"got resolution {resolution!r}; expected coarse or fine; try resolution='coarse'")
        at_coarse = resolution == "coarse"
        self.before = (1, 1) if at_coarse else factor
        self.after = factor if at_coarse else (1, 1)
        grid = (shape[0] * self.before[0], shape[1] * self.before[1])
        self.stem = Stem(
            inputs=inputs,
            static=static,
            factor=self.after,
            shape=grid,
            embedding=embedding,
            width=width,
            padding=padding,
        )
        self.around = padding == "circular-longitude"
        self.depth = depth
        widths = [width * 2**level for level in range(depth + 1)]
        self.top = _pair(width, width, padding)
        self.down = nn.ModuleList(_pair(widths[level], widths[level + 1], padding) for level in range(depth))
        self.up = nn.ModuleList(
            _pair(widths[level] + widths[level + 1], widths[level], padding) for level in reversed(range(depth))
        )
        self.leave = Convolution(width, outputs * self.after[0] * self.after[1], padding=padding)

    def forward(self, coarse: Tensor, static: Tensor | None = None) -> Tensor:
        features = functional.relu(self.stem(repeated(coarse, self.before), static))
        height, width = features.shape[-2:]
        features = self._levels(_extended(features, 2**self.depth, around=self.around))
        return shuffle(self.leave(features[..., :height, :width]), self.after)

    def _levels(self, features: Tensor) -> Tensor:
        features = self.top(features)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(functional.avg_pool2d(features, 2))
        for up in self.up:
            features = up(torch.cat([repeated(features, (2, 2)), skips.pop()], dim=1))
        return features


def _pair(inputs: int, outputs: int, padding: str) -> nn.Sequential:
    first, second = (
        Convolution(inputs, outputs, padding=padding),
        Convolution(outputs, outputs, padding=padding),
    )
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _extended(field: Tensor, multiple: int, *, around: bool) -> Tensor:
    """The field, extended in y and x until `multiple` divides both; by index, as a pad may exceed it."""
    height, width = field.shape[-2:]
    rows = torch.arange(-(-height // multiple) * multiple, device=field.device).clamp(max=height - 1)
    columns = torch.arange(-(-width // multiple) * multiple, device=field.device)
    columns = columns % width if around else columns.clamp(max=width - 1)
    if len(rows) == height and len(columns) == width:
        return field
    return field[..., rows, :][..., columns]
