"""Members that a second network cannot tell from the truth: a generator with noise, and its discriminator.

    r_m = G(seen, e_m; z_m),                              noise as in `noise_injected`
    generator       S(members, y) + a < softplus(-D(x_m | seen)) >
    discriminator   a < softplus(D(x_m | seen)) + softplus(-D(y | seen)) >

S is a score of the ensemble, the fair CRPS of two members: in the source it is the mean square error, which is least
where the generator ignores its noise, and the published generator does. D is a U-Net or whatever the backbone is,
with one answer a cell, of which each sees its surroundings; it sees what the generator sees, and fields as departures
from the first guess after the constraint, in units of that guess's error, compressed by the inverse hyperbolic sine
(rain has departures of thirty units). Its layers have spectral norms, so that its slope is bounded and both can learn
at the same rate. Both learn in one step: the generator's term holds the discriminator's numbers fixed, the
discriminator's term the members.

Source: Harder et al., "Hard-constrained deep learning for climate downscaling", JMLR 24(365), 2023 (the conditional
GAN); Miyato et al., "Spectral normalization for generative adversarial networks", ICLR 2018; Schönfeld et al., "A
U-Net based discriminator for generative adversarial networks", CVPR 2020 (an answer for each cell).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from finegrid.conventions import InputError
from finegrid.heads.base import Projection
from finegrid.heads.draws import Draws
from finegrid.heads.ensemble_score import ensemble_score
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.injected import InjectedNetwork, checked_members
from finegrid.heads.space import Problem, Seen
from finegrid.losses import ENSEMBLE_LOSSES, Loss


class AdversarialHead(GenerativeHead):
    """A generator and a discriminator, of which only the first is used in prediction.

    Args:
        problem: what it is built for.
        loss: score of an ensemble, by which members are bound to the truth.
        adversarial: weight of what the discriminator says beside it; 0 trains the generator alone.
        vector: length of the noise vector of a member.
        fields: fields of noise on the fine grid that a member sees besides.
        train_members: members by which the score is estimated in a training step.
        mean: whether a mean network makes the centre.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = ENSEMBLE_LOSSES
    usual_loss: ClassVar[str] = "crps"

    def __init__(
        self,
        problem: Problem,
        *,
        loss: Loss,
        adversarial: float = 0.005,
        vector: int = 8,
        fields: int = 0,
        train_members: int = 2,
        mean: bool = False,
    ) -> None:
        super().__init__(problem, mean=mean)
        if adversarial < 0:
            raise InputError(f"got adversarial: {adversarial}; expected 0 or more; change downscaler.head")
        self.adversarial, self.train_members = adversarial, checked_members(train_members)
        around = problem.about(mean)
        self.generator = InjectedNetwork(around, vector=vector, fields=fields)
        self.discriminator = _bounded(around.network(outputs=1, fine=problem.space.outputs)) if adversarial else None
        self._ensemble_loss = loss

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        several = seen.repeated(self.train_members)
        residual = self._draw(several, Draws.fresh(len(several), fine.device), None)
        value = ensemble_score(self.space, self._ensemble_loss, residual, several, fine)
        if self.discriminator is None:
            return value
        # Members are alike, so one of them is enough for the discriminator.
        made = self.space.admissible(residual[: len(fine)], seen)
        return value + self.adversarial * self._contest(self.discriminator, made, fine, seen)

    def _contest(self, discriminator: nn.Module, made: Tensor, fine: Tensor, seen: Seen) -> Tensor:
        """What both networks lose to each other (batch,); each part teaches one of them."""
        known = torch.isfinite(fine)
        made, true = (self._shown(each, known, seen) for each in (made, fine))
        weight = self.space.weight_of(fine).mean(1, keepdim=True)
        fixed = {name: each.detach() for name, each in discriminator.named_parameters()}
        taken = functional_call(discriminator, fixed, (seen.coarse, seen.static, _beside(seen, made)))
        of_made, of_true = (seen.through(discriminator, each) for each in (made.detach(), true))
        lost = functional.softplus(-taken) + functional.softplus(of_made) + functional.softplus(-of_true)
        return (lost * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-12)

    def _shown(self, field: Tensor, known: Tensor, seen: Seen) -> Tensor:
        """A physical field as the discriminator sees it; nothing where the truth is missing, for truth and members."""
        return (torch.where(known, field - seen.given.reference, 0.0) / self.space.scale).asinh()

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        made: Tensor = self.generator(seen, draws)
        return made


def _beside(seen: Seen, field: Tensor) -> Tensor:
    return field if seen.fine is None else torch.cat([seen.fine, field], dim=1)


def _bounded(network: nn.Module) -> nn.Module:
    """The network with a spectral norm on every convolution."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            spectral_norm(module)
    return network
