"""The bias adjustment that a downscaler carries: in its model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from finegrid.data.adjustments import Adjustment, adjustment
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices

_PREFIX = "adjust/"


def adjusted(
    table: str | Mapping[str, Any] | None, matched: Pair, times: Indices, *, progress: bool
) -> tuple[Adjustment | None, Pair]:
    """The adjustment of a table, fitted to some times of a pair, and the pair with its coarse fields adjusted."""
    found = adjustment(table)
    if found is None:
        return None, matched
    found.fit(matched.at(times), progress=progress)
    return found, replace(matched, coarse=found(matched.coarse, progress=progress))


def state_of(fitted: Adjustment | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a fitted adjustment adds to the state of its downscaler, and to its tensors."""
    if fitted is None:
        return {}, {}
    return {"adjustment": fitted.facts}, {f"{_PREFIX}{k}": torch.from_numpy(v) for k, v in fitted.numbers.items()}


def remembered(
    table: str | Mapping[str, Any] | None, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Adjustment | None:
    """The adjustment of a table, fitted as `state_of` described it."""
    known = {name.removeprefix(_PREFIX): each.numpy() for name, each in tensors.items() if name.startswith(_PREFIX)}
    bare = adjustment(table)
    return None if bare is None else bare.remember(known, plain.get("adjustment", {}))
