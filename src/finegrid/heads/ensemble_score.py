"""How well members agree with the truth, after the constraint, as heads are trained by it."""

from __future__ import annotations

from torch import Tensor

from finegrid.heads.space import Seen, Space
from finegrid.losses import Loss


def ensemble_score(space: Space, loss: Loss, residual: Tensor, several: Seen, fine: Tensor) -> Tensor:
    """Score of each sample (batch,), with what a soft constraint adds.

    Args:
        space: of the residuals.
        loss: score of an ensemble; it gets fields in units of `space.scale`.
        residual: residuals of all members, one member after the other (members * batch, output, H, W).
        several: what these members were made from.
        fine: true fields in physical units (batch, output, H, W), NaN where missing.
    """
    scale, place = space.scale, space.place
    members = space.admissible(residual, several).reshape(-1, *fine.shape)
    value = loss(members / scale, fine / scale, place.weight)
    if place.penalty is None:
        return value
    penalty = place.penalty(space.physical(residual, several), several.given)
    return value + penalty.reshape(len(members), -1).mean(0)
