"""Whether samples of a network may be turned and mirrored (`training.augmentation`), and how: what forbids it.

A turned field is a field of the same domain only where nothing knows its place: no static fields, no learned position,
no transform of its own for each cell, no component of a vector, and coarse cells that are blocks of fine ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finegrid.conventions import InputError
from finegrid.conventions.variables import standard_name_of
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.plan import Plan
from finegrid.training import Symmetry, symmetries_of

# Parts of CF standard names of what has a direction, and of angles.
_DIRECTED = ("eastward", "northward", "x_wind", "y_wind", "grid_eastward", "from_direction", "to_direction")
_OF_A_PLACE = ("embedding", "cell_bias")


def symmetries(plan: Plan, head: nn.Module, domain: Domain) -> tuple[Symmetry, ...]:
    """The symmetries by which training samples may be turned.

    Raises:
        InputError: says what has a place or a direction.
    """
    reason = next(_obstacles(plan, head, domain), None)
    found = symmetries_of(_weight(domain), domain.factor, periodic=domain.inputs.grid.periodic)
    if reason is None and len(found) == 1:
        reason = "the domain has no symmetry: its cells or its missing ones look different when they are mirrored"
    if reason is not None:
        raise InputError(
            f"got training.augment: flips, but {reason}; expected fields without a place or a direction; set "
            "training.augment: none, or leave that out"
        )
    return found


def _obstacles(plan: Plan, head: nn.Module, domain: Domain) -> Iterator[str]:
    if domain.inputs.own is not None:
        yield "the coarse cells are no blocks of fine ones"
    if plan.static is not None:
        yield f"the static fields {', '.join(map(str, plan.static.data_vars))} have a place"
    for module in head.modules():
        for name in _OF_A_PLACE:
            if getattr(module, name, None) is not None:
                yield f"the backbone learns a place ({name}; set backbone.{name}: {_off(name)})"
    kinds = {**plan.layout.transforms, **dict(zip(domain.outputs, plan.links, strict=True))}
    for name, kind in kinds.items():
        if any(number.ndim >= 2 for number in kind.numbers.values()):
            yield f"the transform {kind.name} of {name} has numbers of its own for each cell"
    for name in dict.fromkeys((*domain.outputs, *domain.inputs.channels)):
        if _directed(name, domain.attributes.get(name, {})):
            yield f"{name} has a direction, which a mirror turns"


def _directed(name: str, attributes: Mapping[str, Any]) -> bool:
    standard = standard_name_of(name, attributes)
    return any(word in standard for word in _DIRECTED)


def _off(name: str) -> str:
    return "0" if name == "embedding" else "false"


def _weight(domain: Domain) -> Tensor:
    valid = 1.0 if domain.grid.mask is None else domain.grid.mask
    return torch.tensor(domain.grid.area * valid / domain.grid.area.mean())
