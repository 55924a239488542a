"""Interpolations and regressions as graphs: fixed maps of coarse fields.

interpolation   y = W x,  with weights scaled up where a source is missing (`grids.applying`)
regression      y(i) = x(I) + b(i) . z(I)  (`downscalers.linear`)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from finegrid.backbones.blocks import repeated, shuffle
from finegrid.conventions import InputError, natural_limits
from finegrid.downscalers import Downscaler, LinearMap, MeanMap
from finegrid.downscalers.features import Around, Components, Convolutions, Features, Window
from finegrid.downscalers.features.around import _SHAPES
from finegrid.grids import OPERATORS, Operator
from finegrid.serving.means import Rows
from finegrid.serving.seen import Weather, filled, known, window_index, windows_of, without_holes
from finegrid.serving.signature import Signature


class Remapped(nn.Module):
    """Outputs interpolated to the fine grid, and the mean map of what that lacks."""

    def __init__(self, downscaler: Downscaler) -> None:
        super().__init__()
        domain = downscaler.domain
        is_map = isinstance(downscaler, MeanMap)
        make = Operator.bicubic if is_map else OPERATORS[downscaler.name]
        matrix = make(domain.inputs.grid, domain.grid.masked(None)).matrix
        self.shape = domain.grid.shape
        self.signed = bool((matrix.data < 0).any())
        self.rows = Rows(matrix)
        self.positive = Rows(matrix.maximum(0)) if self.signed else self.rows
        self.size = Rows(abs(matrix)) if self.signed else self.rows
        self.map = downscaler._map if isinstance(downscaler, MeanMap) else None

    def forward(self, weather: Weather) -> Tensor:
        """Fine fields (batch, output, H, W) before the constraint."""
        values = weather.outputs.flatten(2).double()
        there, zeroed = known(values).double(), filled(values)
        valid = self.positive(there)
        mean = self.positive(zeroed) / torch.where(valid > 0, valid, 1.0)
        if self.signed:
            mean = torch.where(self.size(1 - there) > 0, mean, self.rows(zeroed))
        fine = torch.where(valid > 0, mean, 0.0).float().reshape(*mean.shape[:2], *self.shape)
        return fine if self.map is None else fine + self.map


class Predictors(nn.Module):
    """What a regression sees (`downscalers.features`)."""

    def __init__(self, features: Features, signature: Signature) -> None:
        super().__init__()
        self.features, self.signature = features, signature
        for name, number in features.numbers.items():
            self.register_buffer(name.replace("/", "_"), number.detach().clone(), persistent=False)
        grid = features.domain.inputs.grid
        for name, width in (("index", self._half_width), ("patches", 1)):
            index = torch.as_tensor(window_index(grid.shape, width or 0, periodic=grid.periodic))
            self.register_buffer(name, index, persistent=False)
        self.positive = _positive(features) if isinstance(features, Around) else ()
        places = [features.domain.inputs.channels.index(name) for name in features.channels]
        self.register_buffer("places", torch.as_tensor(places), persistent=False)

    @property
    def _half_width(self) -> int | None:
        features = self.features
        return features.half_widths[0] if isinstance(features, Window) else getattr(features, "half_width", None)

    def forward(self, weather: Weather) -> tuple[Tensor | None, Tensor]:
        """Local predictors (batch, predictor, cell) or None, and common ones (batch, predictor), waves included."""
        local, common = self._weather(weather)
        waves = weather.waves(self.features.cycles or ())
        return local, waves if common is None else torch.cat([common, waves], dim=1)

    def _weather(self, weather: Weather) -> tuple[Tensor | None, Tensor | None]:
        features = self.features
        if isinstance(features, Window):
            return self._windows(weather), None
        if isinstance(features, Convolutions):
            return self._convolved(weather, features)
        around = self._around(weather)
        if isinstance(features, Components):
            local = None if features.half_width is None else self._windows(weather)
            return local, around @ self.get_buffer("patterns")
        return None, around

    def _windows(self, weather: Weather) -> Tensor:
        standard = self._standard(weather.coarse)
        return windows_of(without_holes(self._framed(weather, standard)), self.get_buffer("index"))

    def _standard(self, fields: Tensor) -> Tensor:
        """Standardised fields (batch, frame, channel, h, w)."""
        chosen = fields.index_select(2, self.get_buffer("places"))
        return (chosen - self.get_buffer("mean")) / self.get_buffer("deviation")

    def _framed(self, weather: Weather, fields: Tensor) -> Tensor:
        """All frames beside each other; what is missing in another one is as in the time itself."""
        now = weather.frame(fields, 0)
        parts = [weather.frame(fields, offset) for offset in self.features.frames]
        return torch.cat([torch.where(known(each), each, now) for each in parts], dim=1)

    def _around(self, weather: Weather) -> Tensor:
        """Standardised values of all cells that are usually known, all frames (batch, predictor)."""
        if weather.around is None:
            raise RuntimeError("a method that looks around, and no cells around")
        mean, deviation, used = (self.get_buffer(f"around_{key}") for key in ("mean", "deviation", "used"))
        shaped = self._shaped(weather.around.index_select(2, self.get_buffer("places")))
        standard = (shaped.flatten(2) - mean) / deviation
        is_used = torch.zeros(standard.shape[2], dtype=torch.bool).scatter(0, used, True)
        whole = torch.where(is_used, standard, torch.nan).reshape(shaped.shape)
        framed = without_holes(self._framed(weather, whole))
        frames = len(self.features.frames)
        return framed.reshape(framed.shape[0], frames, -1).index_select(2, used).flatten(1)

    def _shaped(self, fields: Tensor) -> Tensor:
        """Fields (batch, frame, shaped channel, h, w), those that cannot be negative in every shape."""
        features, parts = self.features, []
        shapes = features.shapes if isinstance(features, Around) else ("value",)
        for index, positive in enumerate(self.positive):
            field = fields[:, :, index : index + 1]
            relative = field / self.get_buffer("usual")[index]
            parts += [_SHAPES[each](relative) for each in shapes] if positive else [field]
        return torch.cat(parts, dim=2)

    def _convolved(self, weather: Weather, features: Convolutions) -> tuple[Tensor, Tensor]:
        now = without_holes(weather.frame(self._standard(weather.coarse), 0))
        patches = windows_of(now, self.get_buffer("patches"))
        answers = self.get_buffer("filters") @ patches - self.get_buffer("offset")[:, None]
        scaled = answers / self.get_buffer("scale")
        rectified = torch.cat([(scaled - features.bias).relu(), (-scaled - features.bias).relu()], dim=1)
        activations = 0.1 * rectified / self.get_buffer("spread")
        return torch.cat([self._windows(weather), activations], dim=1), activations.mean(2)


def _positive(features: Around) -> tuple[bool, ...]:
    """Which fields are seen relative to their usual size: those that cannot be negative.

    Raises:
        InputError: where the numbers say otherwise than the names, as a file's own attributes are not in the model.
    """
    domain = features.domain
    known = [{**domain.attributes.get(name, {}), "units": domain.inputs.units[name]} for name in features.channels]
    found = tuple(natural_limits(name, each)[0] == 0.0 for name, each in zip(features.channels, known, strict=True))
    columns = sum(len(features.shapes) if each else 1 for each in found)
    cells = (domain.inputs.wide or domain.inputs.grid).size
    if columns * cells != features.numbers["around/mean"].numel():
        raise InputError(
            f"got the predictors {', '.join(features.channels)}, of which one cannot be negative without its name "
            "saying so; expected names such as pr or hurs; rename it in the coarse file, and fit again"
        )
    return found


class Regressed(nn.Module):
    """A linear map from predictors to fine cells."""

    weights: Tensor
    limits: Tensor

    def __init__(self, downscaler: LinearMap, signature: Signature) -> None:
        super().__init__()
        if downscaler._weights is None:
            raise RuntimeError("a linear map without weights")
        domain = downscaler.domain
        self.predictors = Predictors(downscaler._known_features(), signature)
        self.start, self.clips = downscaler._start, downscaler.clips
        self.factor, self.shape, self.grid = domain.factor, domain.inputs.grid.shape, domain.grid.shape
        self.register_buffer("weights", downscaler._weights.float(), persistent=False)
        limits = torch.tensor([domain.limits(name) for name in domain.outputs], dtype=torch.float32)
        self.register_buffer("limits", limits.T[:, :, None, None], persistent=False)

    def forward(self, weather: Weather) -> Tensor:
        """Fine fields (batch, output, H, W) before the constraint."""
        local, common = self.predictors(weather)
        one = torch.ones_like(weather.coarse.flatten(1)[:, :1])
        shared = torch.cat([common, one], dim=1)
        if local is None:
            answer = shared @ self.weights[0]
            fine = answer.reshape(answer.shape[0], -1, *self.grid)
        else:
            every = torch.cat([local.permute(2, 0, 1), shared.expand(local.shape[2], -1, -1)], dim=2)
            answer = torch.matmul(every, self.weights).permute(1, 2, 0)
            fine = shuffle(answer.reshape(*answer.shape[:2], *self.shape), self.factor)
        if self.start == "coarse":
            fine = fine + repeated(filled(weather.outputs), self.factor)
        return torch.minimum(torch.maximum(fine, self.limits[0]), self.limits[1]) if self.clips else fine


REGRESSIONS = ("linear", "ridge", "ridge-around", "lasso", "pcr", "sketched", "random-features")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "conservative", "mean-map")


def raw_graph(downscaler: Downscaler, signature: Signature) -> nn.Module:
    """A statistical method before its constraint.

    Raises:
        InputError: for one that is no fixed map of fields.
    """
    made: dict[str, Callable[[Any], nn.Module]] = {
        **dict.fromkeys(INTERPOLATIONS, Remapped),
        **dict.fromkeys(REGRESSIONS, lambda each: Regressed(each, signature)),
    }
    if downscaler.name not in made:
        raise InputError(
            f"got the method '{downscaler.name}', which is no fixed map of fields; expected one of "
            f"{', '.join(made)}, or a network with the head point; fit one of these to export it"
        )
    return made[downscaler.name](downscaler)
