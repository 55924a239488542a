"""Members by noise inside the network: one call a member, trained by the score of the ensemble itself.

    r_m = network(seen, e_m; z_m),      z ~ N(0, I) one vector for the whole field, e ~ N(0, 1) at fine cells, if any
    loss = fair CRPS of M members, after the constraint

The vector z enters the conditional norms of every block (`backbones.blocks.Modulation`). Since it is the same for all
cells, members are fields with structure although the score looks at cells alone (or at means over blocks of several
sizes). Fields of noise e let small scales vary on their own; the source has none, and members of small training sets
are sharper without.

The score is a sum by default: CRPS of cells and of means over blocks, so that spread is right at every scale; of
differences between neighbours, without which members are noisier than the truth; and the energy score of whole fields,
which sees outliers that single cells hide.

Source: Alet et al., "Skillful joint probabilistic weather forecasting from marginals" (FGN), 2025; Lang et al.,
"AIFS-CRPS: ensemble forecasting using a model trained with a loss function based on the CRPS", 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from finegrid.heads.base import Projection
from finegrid.heads.draws import Draws
from finegrid.heads.ensemble_score import ensemble_score
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.injected import InjectedNetwork, checked_members
from finegrid.heads.space import Problem, Seen
from finegrid.losses import ENSEMBLE_LOSSES, Loss


class NoiseInjectedHead(GenerativeHead):
    """An ensemble from one network.

    Args:
        problem: what it is built for.
        loss: score of an ensemble.
        vector: length of the noise vector of a member.
        fields: fields of noise on the fine grid that a member sees besides.
        train_members: members by which the score is estimated in a training step.
        mean: whether a mean network makes the centre.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = ENSEMBLE_LOSSES
    usual_loss: ClassVar[str | Mapping[str, Any]] = {
        "name": "sum",
        "terms": {"multi-scale-crps": 1.0, "energy": 0.5, "increment-crps": 0.5},
    }

    def __init__(
        self,
        problem: Problem,
        *,
        loss: Loss,
        vector: int = 8,
        fields: int = 0,
        train_members: int = 2,
        mean: bool = False,
    ) -> None:
        super().__init__(problem, mean=mean)
        self.train_members = checked_members(train_members)
        self.network = InjectedNetwork(problem.about(mean), vector=vector, fields=fields)
        self._ensemble_loss = loss

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        several = seen.repeated(self.train_members)
        residual = self._draw(several, Draws.fresh(len(several), fine.device), None)
        return ensemble_score(self.space, self._ensemble_loss, residual, several, fine)

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        made: Tensor = self.network(seen, draws)
        return made
