"""The state of a run put together from its head and its optimiser, and taken apart again.

Where ranks hold parts of every weight (`ranks`), all of them have to ask at the same time: what is saved is whole, and
a run can go on with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finegrid.training.checkpoint import Progress, State


def whole(value: Tensor) -> Tensor:
    """All of a tensor of which every rank may hold a part."""
    full: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full


def state_of(
    progress: Progress,
    head: nn.Module,
    average: nn.Module,
    best: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> State:
    """What a checkpoint holds."""
    moments = {
        f"{index}/{name}": whole(torch.as_tensor(value))
        for index, each in optimiser.state_dict()["state"].items()
        for name, value in each.items()
    }
    weights = {name: whole(each) for name, each in head.state_dict().items()}
    return State(progress, weights, average.state_dict(), best, moments)


@torch.no_grad()
def restore(state: State, head: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Weights, their averages and moments as they were."""
    for name, own in head.state_dict().items():
        own.copy_(_part(state.weights[name], own))
    average.load_state_dict(dict(state.average))
    known, owners = optimiser.state_dict(), list(head.parameters())
    for key, value in state.moments.items():
        index, name = key.split("/")
        moments = known["state"].setdefault(int(index), {})
        moments[name] = _part(value, owners[int(index)]) if value.ndim else value
    optimiser.load_state_dict(known)


def _part(value: Tensor, like: Any) -> Tensor:
    """What this rank holds of a tensor, if it holds a part of another one of the same shape."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
