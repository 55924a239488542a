"""Problems of heads whose right answer is known, without files: the domain, conditions and pairs, built by hand.

The fine field is the coarse value, spread over its cell, plus a residual of which the distribution is known:

    linear-Gaussian    r = slope * spread(x) + L e,   e ~ N(0, I):    mean slope * spread(x), covariance L L'
    bimodal            r = +1 with probability 0.3, else -1, the same at all cells of a field, plus a little noise
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from finegrid.backbones import BACKBONES
from finegrid.backbones.blocks import repeated
from finegrid.data.transforms import Standardise
from finegrid.heads import Conditions, Draws, Head, Place, Problem, Space
from finegrid.training import Samples, Settings, train

PLAIN = Standardise(np.float32(0.0), np.float32(1.0))


@dataclass(frozen=True)
class Toy:
    """A pair of which everything is known.

    Attributes:
        problem: what a head is built from.
        given: conditions of n samples.
        fine: true fields (n, 1, H, W).
        mean: of the residual, given the coarse field (n, 1, H, W).
        covariance: of the residual over cells (H * W, H * W).
    """

    problem: Problem
    given: Conditions
    fine: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def samples(self) -> Samples:
        return Samples(self.fine, self.given)


def space(
    *,
    shape: tuple[int, int] = (2, 2),
    factor: tuple[int, int] = (2, 2),
    outputs: int = 1,
    static: Tensor | None = None,
    project: Callable[[Tensor, Conditions], Tensor] | None = None,
    links: tuple[Standardise, ...] | None = None,
    gain: float = 1.0,
) -> Space:
    """A residual space in which a residual of one is one physical unit, unless `links` or `gain` say otherwise."""
    fine = (shape[0] * factor[0], shape[1] * factor[1])
    place = Place(static=static, weight=torch.ones(fine), project=project or (lambda fine, given: fine))
    size = torch.full((outputs,), gain)
    return Space(links=links or (PLAIN,) * outputs, gain=size, scale=size, factor=factor, place=place)


def problem(
    own: Space, *, shape: tuple[int, int] = (2, 2), inputs: int = 1, backbone: str = "resnet", **options: object
) -> Problem:
    """What a head is built for: a small network over that space."""
    static = 0 if own.place.static is None else own.place.static.shape[1]
    sizes = {"width": 32, "depth": 2, "embedding": 0} | ({"dropout": 0.0} if backbone == "resnet" else {}) | options
    make = functools.partial(
        BACKBONES[backbone], inputs=inputs, factor=own.factor, shape=shape, static=static, padding="replicate", **sizes
    )
    return Problem(
        own, make, fine=own.outputs, variables=tuple(f"v{each}" for each in range(own.outputs)), inputs=inputs
    )


def conditions(coarse: Tensor, factor: tuple[int, int] = (2, 2)) -> Conditions:
    """Conditions of coarse fields (n, output, h, w), whose first guess is the coarse value itself."""
    return Conditions(coarse, coarse, coarse, repeated(coarse, factor))


def linear_gaussian(
    count: int = 512,
    *,
    slope: float = 0.5,
    spread: float = 1.0,
    length: float = 2.0,
    shape: tuple[int, int] = (2, 2),
    seed: int = 0,
    **options: object,
) -> Toy:
    """Residuals with a linear mean and a covariance that falls off exponentially with distance, on 2 x 2 fine cells
    in each of the coarse ones.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, *shape, generator=generator)
    mean = slope * repeated(coarse, (2, 2))
    covariance = spread**2 * torch.exp(-distances(*mean.shape[-2:]) / length)
    noise = torch.randn(count, len(covariance), generator=generator) @ torch.linalg.cholesky(covariance).T
    return _toy(coarse, mean + noise.reshape(mean.shape), mean, covariance, **options)


def bimodal(count: int = 512, *, chance: float = 0.3, noise: float = 0.1, seed: int = 0, **options: object) -> Toy:
    """Residuals of +1 everywhere with probability `chance`, else of -1, plus noise of each cell."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 2, 2, generator=generator)
    sign = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < chance, 1.0, -1.0)
    residual = sign + noise * torch.randn(count, 1, 4, 4, generator=generator)
    mean = torch.full_like(residual, 2 * chance - 1)
    between = 4 * chance * (1 - chance)
    return _toy(coarse, residual, mean, between * torch.ones(16, 16) + noise**2 * torch.eye(16), **options)


def _toy(coarse: Tensor, residual: Tensor, mean: Tensor, covariance: Tensor, **options: object) -> Toy:
    shape = (coarse.shape[-2], coarse.shape[-1])
    own = problem(space(shape=shape), shape=shape, **options)  # type: ignore[arg-type]
    given = conditions(coarse)
    return Toy(own, given, given.reference + residual, mean, covariance)


def distances(height: int, width: int) -> Tensor:
    """Between all pairs of cells (H * W, H * W), in cells."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).float()
    return torch.cdist(places, places)


def fitted(head: Head, toy: Toy, *, steps: int = 500, batch: int = 128, seed: int = 0, rate: float = 3e-3) -> Head:
    """The head, trained for some steps by the project's own loop."""
    torch.manual_seed(seed)
    settings = Settings(budget=None, steps=steps, batch=batch, learning_rate=rate, ema=0.99, seed=seed, device="cpu")
    train(head, toy.samples, settings)
    head.settle(toy.fine, toy.given)
    return head


@torch.no_grad()
def drawn(head: Head, toy: Toy, members: int = 64, *, times: int = 32, seed: int = 1) -> Tensor:
    """Residuals of members (members, times, output, H, W) of the first samples."""
    given = toy.given.at(slice(0, times))
    fields = head.sample(given, Draws.of(seed, range(members), range(times)))
    return fields - given.reference


def moments(residuals: Tensor, toy: Toy) -> tuple[Tensor, Tensor]:
    """Mean over members (times, output, H, W), and covariance over cells of what departs from the true mean."""
    members, times = residuals.shape[:2]
    departures = (residuals - toy.mean[:times]).reshape(members * times, -1)
    return residuals.mean(0), departures.T @ departures / len(departures)


def share_above(residuals: Tensor) -> float:
    """Share of fields whose mean is above zero, which is the weight of the upper mode."""
    return float((residuals.mean((-3, -2, -1)) > 0).float().mean())
