"""A distribution of latents: members are drawn where fields are few numbers, and decoded in one call.

    z ~ p(z | seen) by diffusion,     r = G(seen, z, e)

Latents are sixteen times fewer than fine values, and lie on a grid of large cells, so that forty steps of a sampler
cost less than the one call of the decoder. What is expected of them (mean and deviation given the coarse fields, by
which the codec counts bits) is taken away first: the diffusion makes standardised departures, for which any head of
the same kind does. Codec and diffusion learn in the same run: the codec by itself, the diffusion on its latents as
they are.

Source: Zhuang and Duraisamy, "LaDCast: a latent diffusion model for medium-range ensemble weather forecasting", 2025;
Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022. Departures: convolutions
instead of transformers; the codec and the diffusion see the coarse fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import build
from finegrid.heads.base import Conditions, Head, Projection
from finegrid.heads.diffusion import DiffusionHead
from finegrid.heads.draws import Draws
from finegrid.heads.ensemble_score import ensemble_score
from finegrid.heads.flow import FlowHead
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.latent.codec import Codec, Expected
from finegrid.heads.latent.grid import LatentGrid
from finegrid.heads.space import Problem, Seen
from finegrid.losses import ENSEMBLE_LOSSES, Loss

_MEMBERS = 2
# Part of a latent cell whose truth has to be known.
_KNOWN = 0.5
_INNER: dict[str, type[Head]] = {"diffusion": DiffusionHead, "flow": FlowHead}


class LatentHead(GenerativeHead):
    """A codec, and a head over its latents.

    Args:
        problem: what it is built for.
        loss: score of fields that are decoded with different noise.
        inner: distribution of latents, ``diffusion`` or ``flow``, by name or table.
        compression: fine values for a latent, at least.
        rate: lambda, the cost of a bit a fine value.
        texture: fields of noise that the decoder sees; 0 for a decoder without chance.
        codec: folder of a saved model whose head is latent: its codec is taken as it is, and not trained.
        mean: whether a mean network makes the centre.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = ENSEMBLE_LOSSES
    usual_loss: ClassVar[str] = "multi-scale-crps"

    def __init__(
        self,
        problem: Problem,
        *,
        loss: Loss,
        inner: str | Mapping[str, Any] = "diffusion",
        compression: int = 16,
        rate: float = 0.02,
        texture: int = 1,
        codec: str | None = None,
        mean: bool = False,
    ) -> None:
        super().__init__(problem, mean=mean)
        if rate < 0 or texture < 0:
            raise InputError(
                f"got rate: {rate}, texture: {texture} for the head latent; expected 0 or more of each; change "
                "downscaler.head"
            )
        if codec is not None and mean:
            raise InputError(
                "got codec and mean: true for the head latent; expected one of them, since a codec is made for "
                "residuals about its own first guess; leave mean out"
            )
        self.rate, self.folder = rate, codec
        around, grid = problem.about(mean), LatentGrid.of(problem, compression)
        self.codec = Codec(around, grid, texture=texture)
        self.codec.requires_grad_(codec is None)
        self.inner = build(inner, _INNER, "head of latents", problem=grid.problem(around), mean=False)
        self._ensemble_loss = loss
        self.register_buffer("size", torch.ones(grid.channels, 1, 1))

    size: Tensor
    """Of the departures of times that the networks have not learnt from, 1 until it is known."""

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        return self._value(fine, seen, lambda members: Draws.fresh(members * len(seen), fine.device))

    def _judged(self, fine: Tensor, seen: Seen) -> Tensor:
        """The training loss at noise that is always the same.

        Members would say more, at the cost of all their steps for each judgement.
        """
        return self._value(fine, seen, lambda members: Draws.of(0, range(members), range(len(seen)), fine.device))

    def _value(self, fine: Tensor, seen: Seen, draws: Callable[[int], Draws]) -> Tensor:
        """What codec and inner head lose (batch,), with the random numbers of so many members."""
        expected, latents = self.codec.expected(seen), self._latents(fine, seen, draws(1))
        departures = self._departures(latents, expected, fine).detach()
        value: Tensor = self.inner.loss(departures, self.codec.grid.conditions(seen))
        if self.folder is not None:
            return value
        value = value + self._distortion(expected.standardised(latents), fine, seen, draws)
        return value + self.rate * self._bits(latents, expected, fine)

    def _latents(self, fine: Tensor, seen: Seen, draws: Draws) -> Tensor:
        return self.codec.rounded(self.codec.encoded(self.space.residual(fine, seen), seen), draws)

    def _departures(self, latents: Tensor, expected: Expected, fine: Tensor) -> Tensor:
        """What the inner head learns: NaN where little of the truth is known."""
        known = self._share_known(fine) > _KNOWN
        return torch.where(known, expected.standardised(latents), torch.nan)

    def _share_known(self, fine: Tensor) -> Tensor:
        known = torch.isfinite(fine).all(1, keepdim=True).to(self.space.gain.dtype)
        return self.codec.grid.over_fine(known)

    def _distortion(self, departures: Tensor, fine: Tensor, seen: Seen, draws: Callable[[int], Draws]) -> Tensor:
        members = _MEMBERS if self.codec.texture else 1
        several = seen.repeated(members)
        residual = self.codec.decoded(departures.repeat(members, 1, 1, 1), several, draws(members))
        return ensemble_score(self.space, self._ensemble_loss, residual, several, fine)

    def _bits(self, latents: Tensor, expected: Expected, fine: Tensor) -> Tensor:
        """Bits a fine value (batch,)."""
        bits = expected.bits(latents) * (self._share_known(fine) > 0)
        return bits.sum((1, 2, 3)) / fine[0].numel()

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        departures = self.inner.sample(self.codec.grid.conditions(seen), draws)[0]
        return self.codec.decoded(self.size * departures, seen, draws)

    @torch.no_grad()
    def settle(self, fine: Tensor, given: Conditions) -> None:
        super().settle(fine, given)
        seen = self._centred(self.space.see(given))
        latents = self._latents(fine, seen, Draws.of(0, (0,), range(len(seen)), fine.device))
        departures = self._departures(latents, self.codec.expected(seen), fine)
        self.size.copy_(departures.square().nanmean((0, 2, 3)).sqrt().nan_to_num(1.0)[:, None, None])
        self.inner.settle(departures / self.size, self.codec.grid.conditions(seen))
