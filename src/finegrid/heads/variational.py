"""Members from perturbations that know the flow: an encoder shows what they should have been, a prior learns to guess.

    q(z | y, seen) = N(mean_q, deviation_q),    p(z | seen) = N(mean_p, deviation_p),    r_m = decoder(seen, z_m)
    loss = (1 - s) S(members of q, y) + s S(members of p, y) + lambda KL(q || p)

z are `fields` fields on the fine grid; all three networks are the backbone of the recipe. S is a score of the
ensemble (fair CRPS of two members), and KL the mean over all numbers of z. With the absolute error as S (`loss:
mae`), as in variational autoencoders of old, nothing but the prior asks for spread; it is here to compare.

Members of prediction come from the prior, which members of q alone never show to the decoder: a part s of the score
is of members of p. It also keeps the head honest where q has collapsed onto p: then it is a noise-injected ensemble.

Source: Zhong et al., "FuXi-ENS: a machine learning model for efficient and accurate ensemble weather prediction",
Science Advances 2025 (CRPS and KL, perturbations that depend on the flow); Kingma and Welling, "Auto-encoding
variational Bayes", ICLR 2014. Departures: the members of the prior in the score; one step instead of a forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.base import Projection
from finegrid.heads.draws import Draws
from finegrid.heads.ensemble_score import ensemble_score
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.space import Problem, Seen
from finegrid.losses import ENSEMBLE_LOSSES, Loss, mae

# Logarithms of deviations stay within these, so that no step of training makes them overflow.
_LOG_RANGE = 5.0


def _mean_absolute_error(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Of each member on its own, which asks for no spread."""
    return mae(prediction, truth.expand_as(prediction), weight).mean(0)


@dataclass(frozen=True, eq=False)
class _Normal:
    """Independent normal numbers: mean and logarithm of the deviation (n, fields, H, W)."""

    mean: Tensor
    log_deviation: Tensor

    @classmethod
    def of(cls, answer: Tensor) -> _Normal:
        mean, logarithm = answer.chunk(2, dim=1)
        return cls(mean, _LOG_RANGE * torch.tanh(logarithm / _LOG_RANGE))

    def drawn(self, noise: Tensor) -> Tensor:
        """One draw for each sample of the noise, which may be of several members."""
        members = len(noise) // len(self.mean)
        mean, deviation = (each.repeat(members, 1, 1, 1) for each in (self.mean, self.log_deviation.exp()))
        return mean + deviation * noise

    def divergence(self, other: _Normal) -> Tensor:
        """Kullback-Leibler divergence from another one, mean over all numbers (n,)."""
        ratio = 2 * (self.log_deviation - other.log_deviation)
        shift = (self.mean - other.mean).square() * (-2 * other.log_deviation).exp()
        return ((ratio.exp() + shift - 1 - ratio) / 2).mean((1, 2, 3))


class VariationalHead(GenerativeHead):
    """Encoder, prior and decoder; the encoder is used in training alone.

    Args:
        problem: what it is built for.
        loss: score of an ensemble, or mae.
        fields: fields of the perturbation.
        divergence: lambda, the cost of a nat a number of z.
        from_prior: s, part of the score that is of members of the prior.
        train_members: members by which the score is estimated in a training step.
        mean: whether a mean network makes the centre.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = {**ENSEMBLE_LOSSES, "mae": _mean_absolute_error}
    usual_loss: ClassVar[str] = "multi-scale-crps"

    def __init__(
        self,
        problem: Problem,
        *,
        loss: Loss,
        fields: int = 2,
        divergence: float = 0.3,
        from_prior: float = 0.5,
        train_members: int = 2,
        mean: bool = False,
    ) -> None:
        super().__init__(problem, mean=mean)
        if fields < 1 or divergence <= 0 or not 0 <= from_prior <= 1 or train_members < 2:
            raise InputError(
                f"got fields: {fields}, divergence: {divergence}, from_prior: {from_prior}, train_members: "
                f"{train_members} for the head variational; expected at least 1 field, a cost above 0, a part between "
                "0 and 1, and at least 2 members, without which there is no score of spread; change downscaler.head"
            )
        self.fields, self.train_members = fields, train_members
        self.divergence, self.from_prior = divergence, from_prior
        around, outputs = problem.about(mean), problem.space.outputs
        self.encoder = around.network(outputs=2 * fields, fine=2 * outputs)
        self.prior = around.network(outputs=2 * fields)
        self.decoder = around.network(fine=fields)
        self._ensemble_loss = loss

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        known = torch.isfinite(fine).to(seen.start.dtype)
        posterior = _Normal.of(seen.through(self.encoder, self.space.residual(fine, seen), known))
        prior = _Normal.of(seen.through(self.prior))
        value = self.divergence * posterior.divergence(prior)
        for part, source in ((1 - self.from_prior, posterior), (self.from_prior, prior)):
            if part:
                value = value + part * self._scored(source, fine, seen)
        return value

    def _scored(self, source: _Normal, fine: Tensor, seen: Seen) -> Tensor:
        several = seen.repeated(self.train_members)
        noise = Draws.fresh(len(several), fine.device).normal(*source.mean.shape[1:])
        residual = several.through(self.decoder, source.drawn(noise))
        return ensemble_score(self.space, self._ensemble_loss, residual, several, fine)

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        prior = _Normal.of(seen.through(self.prior))
        return seen.through(self.decoder, prior.drawn(draws.normal(*prior.mean.shape[1:])))
