"""Loss and gradient are looked at before every step: one that is not finite would spoil all weights for good."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from finegrid.conventions import InputError
from finegrid.training import checkpoint
from finegrid.training.checkpoint import State
from finegrid.training.settings import Settings

_LOWER = 3
"""Part of the learning rate that is proposed, and of the norm that gradients are clipped to."""


class Diverged(InputError):
    """The loss or its gradient is not finite; the weights are still those before."""


def check_finite(loss: Tensor, norm: Tensor, step: int, settings: Settings) -> None:
    """Stop before a step that has no direction.

    Args:
        loss: mean over the batch.
        norm: of the gradient, before it is clipped.
        step: steps done so far.
        settings: what was tried.

    Raises:
        Diverged: says at which step, and what to lower.
    """
    if not math.isfinite(loss.item()):
        raise diverged("the loss", step + 1, settings)
    if not math.isfinite(norm.item()):
        raise diverged("the gradient of the loss", step + 1, settings)


def kept(stop: Diverged, good: State | None, folder: Path, fingerprint: str) -> Diverged:
    """The same told with where the last state is whose loss and gradient were finite; saves it, if there is one."""
    if good is None:
        return stop
    path = checkpoint.save(good, folder, fingerprint=fingerprint)
    return Diverged(
        f"{stop}; the last good state, of step {good.progress.step}, is in {path}: resume with the lower value"
    )


def diverged(what: str, step: int, settings: Settings) -> Diverged:
    """What to raise where something is not finite at a step."""
    rate, clip = settings.learning_rate, settings.clip
    clipped = f"{1.0 if clip is None else clip / _LOWER:.2g} (it is {'none' if clip is None else f'{clip:g}'})"
    return Diverged(
        f"{what} is not a number at step {step}; expected it to be finite and to fall, and stopped before it spoilt "
        f"the weights; set training.learning_rate to {rate / _LOWER:.2g} (it is {rate:g}) or training.clip to "
        f"{clipped}, and check the data for absurd values"
    )
