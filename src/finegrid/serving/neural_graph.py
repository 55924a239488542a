"""A network on a simpler downscaler as a graph (`downscalers.neural`): features, first guess, networks, way back.

Heads with a distribution in every cell make a member of normal scores, fields that are an input of the graph: where
they are 0 it is the median of every cell.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import repeated
from finegrid.backbones.manner import Manner
from finegrid.bridge import _AROUND, _DEPARTURE_GAIN
from finegrid.conventions import InputError
from finegrid.conventions.components import word_of
from finegrid.downscalers import NeuralDownscaler
from finegrid.heads import Conditions, Head, PointHead, Seen
from finegrid.heads.distributions import Gaussian, Mixture
from finegrid.heads.dressed import DressedHead
from finegrid.heads.noises import Noise
from finegrid.heads.parametric import ParametricHead
from finegrid.serving.seen import Weather, constant, filled

_PLAIN = (Gaussian, Mixture)


class Refined(nn.Module):
    """Fine fields before the constraint: first guess and what networks add to it.

    Args:
        downscaler: a fitted one whose head needs the network once.
        first: its mean downscaler with its constraint; None starts from the coarse value.
    """

    def __init__(self, downscaler: NeuralDownscaler, first: nn.Module | None) -> None:
        super().__init__()
        plan, head = downscaler._trained
        if not isinstance(head, PointHead | DressedHead) and not _is_plain(head):
            raise _draws(downscaler)
        self.first, self.layout = first, plan.layout
        self.transforms = [constant(plan.layout.transforms[name]) for name in plan.layout.inputs]
        self.head = _constant(head.placed("cpu").eval())
        self.space = self.head.space

    def forward(self, weather: Weather) -> Tensor:
        """Fine fields (batch, output, H, W) before the constraint, in physical units."""
        start = repeated(filled(weather.outputs), self.layout.factor)
        reference = start if self.first is None else self.first(weather)
        given = Conditions(self._features(weather), weather.outputs, weather.own, reference)
        seen = self.space.see(given)
        return self._field(seen, weather.scores).to(reference.dtype)

    def _field(self, seen: Seen, scores: Tensor | None) -> Tensor:
        head = self.head
        if scores is None:
            residual = head.centre(seen)
        elif isinstance(head, DressedHead):
            residual = head.point.centre(seen) + head.deviations * scores
        else:
            field: Tensor = head._physical(seen.through(head.network), seen, scores)
            return field
        made: Tensor = self.space.physical(residual, seen)
        return made

    def _features(self, weather: Weather) -> Tensor:
        """`bridge.to_features`."""
        frames = [self._views(weather.frame(weather.coarse, offset)) for offset in self.layout.frames]
        waves = weather.waves(self.layout.cycles)[:, :, None, None]
        return torch.cat([*frames, waves.expand(-1, -1, *weather.coarse.shape[-2:])], dim=1)

    def _views(self, fields: Tensor) -> Tensor:
        each = zip(self.transforms, fields.unbind(1), strict=True)
        values = torch.stack([filled(link.forward(field, torch)) for link, field in each], dim=1)
        shown = {"value": lambda: values, "departure": lambda: self._departures(values)}
        return torch.cat([shown[view]() for view in self.layout.views], dim=1)

    def _departures(self, values: Tensor) -> Tensor:
        mode = "circular" if self.layout.coarse_grid.periodic else "replicate"
        wide = functional.pad(values, (_AROUND, _AROUND, 0, 0), mode=mode)
        tall = functional.pad(wide, (0, 0, _AROUND, _AROUND), mode="replicate")
        return _DEPARTURE_GAIN * (values - functional.avg_pool2d(tall, 2 * _AROUND + 1, stride=1))


def _constant(head: Any) -> Any:
    """The head with links whose numbers are tensors, without tiles and in single precision; the model keeps its own."""
    space = copy.copy(head.space)
    space.links = tuple(constant(link) for link in space.links)
    space.manner = Manner()
    made = copy.copy(head)
    made._modules = {**head._modules, "space": space}
    return made


def _is_plain(head: Head) -> bool:
    """Whether normal scores become values by formulas alone; tables and searches have no place in a graph."""
    return isinstance(head, ParametricHead) and all(isinstance(each, _PLAIN) for each in head.distributions)


def noise_of(downscaler: NeuralDownscaler) -> Noise:
    """Where the model takes its normal scores from."""
    head = downscaler._trained[1]
    if not isinstance(head, DressedHead | ParametricHead):
        raise _draws(downscaler)
    return head.placed("cpu").noise


def _draws(downscaler: NeuralDownscaler) -> InputError:
    """What to say of heads that draw members in another way."""
    several = " of several networks" if downscaler.networks > 1 else ""
    return InputError(
        f"got the head '{word_of(downscaler.head)}'{several}, which draws members in a way that no graph holds; "
        "expected the head point, or one network of gaussian, mixture or dressed; fit with one of these (--method "
        "resnet-on-ridge, gaussian-on-ridge), or downscale with finegrid"
    )
