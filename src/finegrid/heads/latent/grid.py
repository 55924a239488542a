"""The grid of the latents: the coarse one, or one of a few coarse cells a side where these hold few fine cells.

A latent cell is m x m coarse cells, m as small as it may be with m^2 fy fx >= c for a compression c; it has m^2 fy fx
// c numbers for each predicted field. Then the latents are at least c times fewer than the fine values, but for cells
that reach over the edge where m does not divide the domain.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from finegrid.backbones.blocks import repeated
from finegrid.backbones.unet import extended
from finegrid.conventions import InputError
from finegrid.heads.base import Conditions, Place
from finegrid.heads.space import Problem, Seen, Space


class _Plain:
    """Latents are their own transform."""

    def forward(self, values: Tensor, xp: object = torch, /) -> Tensor:
        return values

    def inverse(self, values: Tensor, xp: object = torch, /) -> Tensor:
        return values


@dataclass(frozen=True)
class LatentGrid:
    """Where the latents are.

    Attributes:
        factor: fine cells in a coarse cell along y and x.
        side: m, coarse cells in a latent cell along each side.
        channels: numbers of a latent cell.
    """

    factor: tuple[int, int]
    side: int
    channels: int

    @classmethod
    def of(cls, problem: Problem, compression: int) -> LatentGrid:
        """The grid for a problem.

        Raises:
            InputError: on a compression below 1.
        """
        if compression < 1:
            raise InputError(f"got compression: {compression}; expected 1 or more, such as 16; change downscaler.head")
        cells = problem.space.factor[0] * problem.space.factor[1]
        side = next(side for side in range(1, compression + 1) if side**2 * cells >= compression)
        return cls(problem.space.factor, side, problem.space.outputs * (side**2 * cells // compression))

    def shape(self, fine: tuple[int, int]) -> tuple[int, int]:
        """Latent cells of a fine domain along y and x."""
        coarse = (fine[0] // self.factor[0], fine[1] // self.factor[1])
        return -(-coarse[0] // self.side), -(-coarse[1] // self.side)

    def over_coarse(self, fields: Tensor) -> Tensor:
        """Means over latent cells of fields on the coarse grid (..., h, w); the edge is repeated."""
        return functional.avg_pool2d(extended(fields, self.side, around=False), self.side)

    def over_fine(self, fields: Tensor) -> Tensor:
        """Means over latent cells of fields on the fine grid (..., H, W)."""
        return self.over_coarse(functional.avg_pool2d(fields, self.factor))

    def on_fine(self, latents: Tensor, shape: tuple[int, int]) -> Tensor:
        """Latents (n, channel, rows, columns), repeated to a fine grid of that shape."""
        cell = (self.side * self.factor[0], self.side * self.factor[1])
        return repeated(latents, cell)[..., : shape[0], : shape[1]]

    def problem(self, outer: Problem) -> Problem:
        """The problem of the distribution of latents, in units of their own."""
        place = outer.space.place
        height, width = place.weight.shape[-2:]
        ones = torch.ones(self.channels)
        own = Space(
            links=(_Plain(),) * self.channels,
            gain=ones,
            scale=ones,
            factor=(1, 1),
            place=self._place(place),
            sees_reference=False,
        )
        build = functools.partial(outer.build, factor=(1, 1), shape=self.shape((height, width)))
        names = tuple(f"latent {number}" for number in range(self.channels))
        return Problem(own, build, fine=0, variables=names)

    def conditions(self, seen: Seen) -> Conditions:
        """What is known of latents: the coarse fields, and that they are about 0."""
        features = self.over_coarse(seen.coarse)
        none = features.new_zeros(len(features), self.channels, *features.shape[-2:])
        return Conditions(features, none, none, none)

    def _place(self, place: Place) -> Place:
        static = None if place.static is None else self.over_fine(place.static)
        weight = self.over_fine(place.weight[None, None])[0, 0]
        angles = (place.latitude, place.longitude)
        latitude, longitude = (None if each is None else self.over_fine(each[None, None])[0, 0] for each in angles)
        return Place(static, weight, _as_it_is, latitude=latitude, longitude=longitude)


def _as_it_is(fine: Tensor, given: Conditions) -> Tensor:
    """Latents obey no constraint."""
    return fine
