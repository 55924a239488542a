"""How strong a relaxed constraint should be, on times that the raw fields have not learnt from."""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.domain import Domain

FOLDS = 6
"""Blocks of times that are left out in turn where there are no validation times."""


def judging_times(fit_block: Indices, validate_block: Indices, *, validates: bool) -> Indices:
    """The times by which the strength is chosen: those of validation, or all where each can be left out in turn.

    Raises:
        InputError: when there should be validation times and are none.
    """
    if validates and not len(validate_block):
        raise InputError(
            "a constraint of learned strength needs validation times; expected some; set validate=0.1 or "
            "data.split.validate, or give the strength: {name: relaxed, strength: 0.5}"
        )
    return validate_block if validates else fit_block


def learn_strength(conservation: Conservation, domain: Domain, judged: Pair, raw: Tensor) -> None:
    """Set the strength of a constraint by raw fields (time, output, H, W) of these times."""
    truth = to_tensor(judged.fine, domain.outputs)
    weight = torch.as_tensor(domain.grid.weights.copy())
    conservation.learn(raw, conservation.given(judged.coarse), truth, weight)
