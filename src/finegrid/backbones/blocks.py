"""Pieces that backbones share: padded convolutions, residual blocks, the way in and the way out.

Networks are cheap where there are few cells, so most of them work on the coarse grid. Fields on the fine
grid come in by pixel-unshuffle (the fy * fx fine cells of a coarse cell become channels) and go out by its
inverse, the pixel shuffle; factors may differ between y and x.

Sources: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", CVPR 2016 (pixel shuffle); He et al., "Deep Residual Learning for Image
Recognition", CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.windows import Window
from finegrid.conventions import InputError

PADDINGS = ("replicate", "zeros", "circular-longitude")
_SMALL = 1e-6
_QUIET = 0.05


class Convolution(nn.Module):
    """Convolution with an odd kernel that keeps the size of the field.

    Args:
        padding: what lies beyond the edge. ``replicate`` the edge itself; ``zeros``; ``circular-longitude``
            the other side in x (a domain all around the Earth) and the edge itself in y.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, padding: str = "replicate", bias: bool = True
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise InputError(f"got padding {padding!r}; expected one of {', '.join(PADDINGS)}; try padding='replicate'")
        self.margin = kernel // 2
        self.padding = padding if self.margin else "zeros"
        inner = self.margin if padding == "zeros" else 0
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=inner, bias=bias)

    def forward(self, field: Tensor) -> Tensor:
        margin = self.margin
        if self.padding == "replicate":
            field = functional.pad(field, (margin,) * 4, mode="replicate")
        elif self.padding == "circular-longitude":
            field = functional.pad(field, (margin, margin, 0, 0), mode="circular")
            field = functional.pad(field, (0, 0, margin, margin), mode="replicate")
        output: Tensor = self.convolution(field)
        return output


def quiet(convolution: Convolution) -> Convolution:
    """The last layer, made small: training begins close to what the network is added to."""
    with torch.no_grad():
        convolution.convolution.weight.mul_(_QUIET)
    return convolution


class Modulation(nn.Module):
    """A conditional norm: features of unit size at every cell, scaled and shifted by a vector.

        y = x / sqrt(mean over channels of x^2) * (1 + a(c)) + b(c)

    The norm is over the channels of a cell, so that a cell does not depend on how large the domain is. Without a
    condition nothing is done.

    Sources: Perez et al., "FiLM", AAAI 2018; Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019;
    Alet et al., "Skillful joint probabilistic weather forecasting from marginals", 2025 (noise through such norms).
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.turn = nn.Linear(condition, 2 * width) if condition else None

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        if self.turn is None:
            return features
        scale, shift = self.turn(checked_condition(condition, self.turn.in_features))[..., None, None].chunk(2, dim=1)
        size = (features.square().mean(1, keepdim=True) + _SMALL).rsqrt()
        return torch.addcmul(shift, features, size * (1 + scale))


def checked_condition(condition: Tensor | None, length: int) -> Tensor:
    """The condition, if it is what the backbone was built for."""
    if condition is None or condition.shape[-1] != length:
        got = "none" if condition is None else f"one of length {condition.shape[-1]}"
        raise InputError(
            f"got {got} as condition; the backbone was built for one of length {length}; pass such a vector, or build "
            "the backbone with condition=0"
        )
    return condition


class ResidualBlock(nn.Module):
    """Two convolutions around which the field is carried: ``carry(y) + conv(relu(norm(conv(y), condition)))``.

    Args:
        width: channels that come in.
        outputs: channels that leave, `width` by default; where they differ, a 1 x 1 convolution carries the field.
        dropout: part of the channels that are left out of a training step.
        condition: length of the vector that modulates it; 0 for none.
    """

    def __init__(
        self, width: int, outputs: int | None = None, *, padding: str, dropout: float = 0.0, condition: int = 0
    ) -> None:
        super().__init__()
        outputs = width if outputs is None else outputs
        self.first = Convolution(width, outputs, padding=padding)
        self.norm = Modulation(outputs, condition)
        self.drop = nn.Dropout2d(dropout)
        self.second = Convolution(outputs, outputs, padding=padding)
        self.carry = nn.Identity() if width == outputs else Convolution(width, outputs, kernel=1)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        inner = self.norm(self.first(features), condition)
        change: Tensor = self.second(self.drop(functional.relu(inner)))
        carried: Tensor = self.carry(features)
        return carried + change


class Stem(nn.Module):
    """The way in: weather (coarse fields) and place (static fields, learned position) become features.

    One convolution over both, written as a sum, because the place is the same for the whole batch.

    Args:
        shape: coarse (h, w); binding only with an embedding.
        fine: further inputs on the fine grid.
        embedding: channels of a learned field on the coarse grid that tells the network where it is; 0 for
            none.
    """

    def __init__(
        self,
        *,
        inputs: int,
        static: int,
        factor: tuple[int, int],
        shape: tuple[int, int],
        embedding: int,
        width: int,
        padding: str,
        fine: int = 0,
    ) -> None:
        super().__init__()
        self.static, self.fine, self.factor = static, fine, factor
        self.weather = Convolution(inputs + fine * factor[0] * factor[1], width, padding=padding)
        self.embedding = nn.Parameter(0.1 * torch.randn(1, embedding, *shape)) if embedding else None
        self.window: Window | None = None
        place = static * factor[0] * factor[1] + embedding
        self.place = Convolution(place, width, padding=padding, bias=False) if place else None

    def forward(self, coarse: Tensor, static: Tensor | None, fine: Tensor | None = None) -> Tensor:
        if self.fine:
            coarse = torch.cat([coarse, unshuffle(checked_fine(fine, self.fine), self.factor)], dim=1)
        features: Tensor = self.weather(coarse)
        place = []
        if self.embedding is not None:
            place.append(_checked_position(of_window(self.embedding, self.window), coarse.shape))
        if self.static:
            place.append(unshuffle(checked_static(static, self.static), self.factor))
        return features if self.place is None else features + self.place(torch.cat(place, dim=1))


def of_window(positions: Tensor, window: Window | None) -> Tensor:
    """What was learnt for places, on a window of the domain; all of it without one."""
    return positions if window is None else window.of(positions)


def _checked_position(embedding: Tensor, shape: torch.Size) -> Tensor:
    """The learned position, if it was learned on this domain."""
    if embedding.shape[-2:] != shape[-2:]:
        raise InputError(
            f"got coarse fields of {tuple(shape[-2:])} cells; "
            f"the position embedding was built for {tuple(embedding.shape[-2:])}; "
            "build the backbone with embedding=0 to use it on other domains"
        )
    return embedding


def checked_static(static: Tensor | None, channels: int) -> Tensor:
    """The static fields, if they are what the backbone was built for."""
    if static is None or static.shape[1] != channels:
        got = "none" if static is None else str(static.shape[1])
        raise InputError(
            f"got {got} static fields; the backbone was built for {channels}; "
            "pass the fields that it was built with, or build it with static=0"
        )
    return static


def checked_fine(fine: Tensor | None, channels: int) -> Tensor:
    """The inputs on the fine grid, if they are what the backbone was built for."""
    if fine is None or fine.shape[1] != channels:
        got = "none" if fine is None else str(fine.shape[1])
        raise InputError(
            f"got {got} inputs on the fine grid; the backbone was built for {channels}; pass so many, or build it with "
            "another number (fine=...)"
        )
    return fine


def shuffle(features: Tensor, factor: tuple[int, int]) -> Tensor:
    """Channels to fine cells: ``(batch, C * fy * fx, h, w) -> (batch, C, fy * h, fx * w)``."""
    (fy, fx), (batch, channels, height, width) = factor, features.shape
    split = features.reshape(batch, channels // (fy * fx), fy, fx, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, fy * height, fx * width)


def unshuffle(fine: Tensor, factor: tuple[int, int]) -> Tensor:
    """Fine cells to channels: the inverse of `shuffle`."""
    (fy, fx), (batch, channels, height, width) = factor, fine.shape
    split = fine.reshape(batch, channels, height // fy, fy, width // fx, fx)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // fy, width // fx)


def repeated(coarse: Tensor, factor: tuple[int, int]) -> Tensor:
    """Every fine cell gets the value of its coarse cell: ``(..., h, w) -> (..., fy * h, fx * w)``."""
    return coarse.repeat_interleave(factor[0], dim=-2).repeat_interleave(factor[1], dim=-1)
