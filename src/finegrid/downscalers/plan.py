"""What surrounds the networks of a neural downscaler, and how to build the head from it.

All of it is learnt from the training block before the first step, and is all that a model file needs besides the
weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones import BACKBONES, Backbone
from finegrid.bridge import Layout, to_features, to_tensor
from finegrid.conventions import InputError
from finegrid.conventions.components import bind, build, word_of
from finegrid.data.pairs import Pair
from finegrid.data.transforms import TRANSFORMS, Transform
from finegrid.downscalers.conservation import Conservation, Given
from finegrid.heads import HEADS, Committee, Conditions, Head, Place, PointHead, Problem, Space
from finegrid.training import Samples

Table = str | Mapping[str, Any]


def kind_of(head: Table) -> type[Head]:
    """The class of a head; the usual one for a name that `build` will refuse."""
    return HEADS.get(word_of(head), PointHead)


def backbone_of(backbone: Table | None, head: Table) -> Table:
    """The backbone that is asked for; None asks for the usual one of the head."""
    return kind_of(head).usual_backbone if backbone is None else backbone


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about a neural downscaler but its weights.

    Attributes:
        layout: which channels, grids and transforms.
        links: transform of each output.
        gain: deviation of the first guess's error in transformed units (output,).
        scale: the same in physical units (output,).
        static: static fields on the fine grid, None for none.
        sees_reference: whether the first guess is an input.
    """

    layout: Layout
    links: tuple[Transform, ...]
    gain: Tensor
    scale: Tensor
    static: xr.Dataset | None
    sees_reference: bool

    @classmethod
    def of(
        cls,
        layout: Layout,
        links: Sequence[Transform],
        training: Pair,
        reference: Tensor,
        static: xr.Dataset | None,
        *,
        sees_reference: bool,
    ) -> Self:
        """The plan for a training block and its first guesses."""
        gain, scale = _deviations(to_tensor(training.fine, layout.outputs), reference, links)
        return cls(layout, tuple(links), gain, scale, static, sees_reference)

    def head(
        self,
        head: Table,
        backbone: Table,
        loss: Table | None,
        conservation: Conservation,
        *,
        networks: int,
        place: Place | None = None,
    ) -> Head:
        """An untrained head for the domain, or for a `place` within it that is no domain around the Earth."""
        name, kind = word_of(head), kind_of(head)
        problem, given = self._problem(backbone, place or self.place(conservation), whole=place is None), {}
        if kind.losses:
            words = ("prediction", "truth", "weight")
            given["loss"] = bind(loss or kind.usual_loss, kind.losses, f"loss of the head {name}", *words)
        elif loss is not None:
            raise InputError(
                f"got loss: {loss} for the head '{name}', which has its own; expected none; leave downscaler.loss out"
            )
        if kind is PointHead:
            return build(head, HEADS, "head", problem=problem, networks=networks, **given)
        every = [build(head, HEADS, "head", problem=problem, **given) for _ in range(networks)]
        return every[0] if networks == 1 else Committee(every)

    def _problem(self, backbone: Table, place: Place, *, whole: bool) -> Problem:
        """What heads are built for."""
        layout = self.layout
        rows, columns = (size // cells for size, cells in zip(place.weight.shape, layout.factor, strict=True))
        make = functools.partial(
            _built,
            backbone,
            inputs=layout.channels,
            factor=layout.factor,
            shape=(rows, columns),
            static=0 if self.static is None else len(self.static.data_vars),
            padding="circular-longitude" if whole and layout.coarse_grid.periodic else "replicate",
        )
        space = Space(
            links=self.links,
            gain=self.gain,
            scale=self.scale,
            factor=layout.factor,
            place=place,
            sees_reference=self.sees_reference,
        )
        first_guess = len(layout.outputs) if self.sees_reference else 0
        return Problem(space, make, fine=first_guess, variables=layout.outputs, inputs=layout.channels)

    def place(self, conservation: Conservation) -> Place:
        """The domain as the head sees it; static fields in units of their variation over it."""
        grid = self.layout.grid
        valid = 1.0 if grid.mask is None else grid.mask
        weight = torch.as_tensor(np.asarray(grid.area * valid / grid.area.mean()), dtype=torch.float32)
        penalty = conservation.penalty if conservation.has_penalty else None
        # Only noise on the sphere asks, which is for such grids alone; of others it would be a projection at each load.
        angles = (
            [torch.as_tensor(np.array(each), dtype=torch.float32) for each in grid.centres] if grid.is_latlon else []
        )
        return Place(self._standardised(), weight, conservation.project, penalty, *angles)

    def conditions(self, coarse: xr.Dataset, given: Given, reference: Tensor) -> Conditions:
        """What the head is told about coarse fields."""
        values = to_tensor(coarse, self.layout.outputs)
        return Conditions(to_features(coarse, self.layout), values, given.conserved, reference, given.high)

    def samples(self, part: Pair, given: Given, reference: Tensor) -> Samples:
        """Training samples of a pair with its first guesses."""
        fine = to_tensor(part.fine, self.layout.outputs)
        if part.grid.mask is not None:
            fine = torch.where(torch.as_tensor(part.grid.mask.copy()), fine, torch.nan)
        return Samples(fine, self.conditions(part.coarse, given, reference))

    def _standardised(self) -> Tensor | None:
        if self.static is None:
            return None
        planes = to_tensor(self.static, list(map(str, self.static.data_vars)))
        mean, deviation = planes.mean((-2, -1), keepdim=True), planes.std((-2, -1), keepdim=True)
        return (planes - mean) / torch.where(deviation > 0, deviation, 1.0)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors for a model file."""
        tensors = {"gain": self.gain, "scale": self.scale}
        for index, name in enumerate(self.layout.inputs):
            tensors |= _numbers(f"inputs/{index}", self.layout.transforms[name])
        for index, link in enumerate(self.links):
            tensors |= _numbers(f"links/{index}", link)
        statics = [] if self.static is None else list(map(str, self.static.data_vars))
        if self.static is not None:
            tensors["static"] = to_tensor(self.static, statics)[0]
        kinds = {name: self.layout.transforms[name].name for name in self.layout.inputs}
        plain = {
            "cycles": list(self.layout.cycles),
            "frames": list(self.layout.frames),
            "views": list(self.layout.views),
            "static": statics,
            "transforms": kinds,
            "links": [link.name for link in self.links],
            "sees_reference": self.sees_reference,
        }
        return plain, tensors

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], tensors: Mapping[str, Tensor], bare: Layout) -> Self:
        """The plan that `state` described, for a layout without transforms."""
        transforms = {
            name: _transform(plain["transforms"][name], part(tensors, f"inputs/{index}/"))
            for index, name in enumerate(bare.inputs)
        }
        layout = bare.with_features(
            frames=plain["frames"], cycles=plain["cycles"], views=plain["views"], transforms=transforms
        )
        links = [_transform(name, part(tensors, f"links/{i}/")) for i, name in enumerate(plain["links"])]
        static = None
        if plain["static"]:
            planes = {name: (("y", "x"), tensors["static"][i].numpy()) for i, name in enumerate(plain["static"])}
            static = xr.Dataset(planes, coords=bare.grid.coords())
        return cls(layout, tuple(links), tensors["gain"], tensors["scale"], static, plain["sees_reference"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _built(backbone: Table, **problem: Any) -> Backbone:
    made: Backbone = build(backbone, BACKBONES, "backbone", **problem)
    return made


def _deviations(truth: Tensor, reference: Tensor, links: Sequence[Transform]) -> tuple[Tensor, Tensor]:
    """Root mean square error of the first guess, transformed and physical, per output."""
    gains, scales = [], []
    for output, link in enumerate(links):
        # Per-cell transforms need whole fields, so missing truth counts as a first guess without error.
        known = torch.isfinite(truth[:, output])
        actual = torch.where(known, truth[:, output], reference[:, output])
        change = link.forward(actual, torch) - link.forward(reference[:, output], torch)
        gains.append((change.double().square().sum() / known.sum()).sqrt())
        scales.append(((actual - reference[:, output]).double().square().sum() / known.sum()).sqrt())
    return _not_zero(torch.stack(gains)).float(), _not_zero(torch.stack(scales)).float()


def _not_zero(deviation: Tensor) -> Tensor:
    return torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def _numbers(prefix: str, transform: Transform) -> dict[str, Tensor]:
    return {f"{prefix}/{key}": torch.as_tensor(np.array(number)) for key, number in transform.numbers.items()}


def _transform(name: str, numbers: Mapping[str, Tensor]) -> Transform:
    return TRANSFORMS[name](**{key: each.numpy() for key, each in numbers.items()})
