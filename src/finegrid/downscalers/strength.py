"""How strong a relaxed constraint should be, on times that the raw fields have not learnt from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices, folds
from finegrid.downscalers.fitting import out_of_fold

# Blocks of times that are left out in turn where there are no validation times.
_FOLDS = 6


def learn_strength(of: Any, matched: Pair, fit_block: Indices, validate_block: Indices) -> None:
    """Learn the strength of the constraint of a fitted downscaler, where it has one that is to be learnt.

    Args:
        of: the downscaler.
        matched: the pair that it was fitted to.
        fit_block: times that it learnt from.
        validate_block: times that chose when to stop.

    Raises:
        InputError: when there should be validation times and are none.
    """
    if not of.conservation.learns:
        return
    judged = matched.at(_judging_times(fit_block, validate_block, validates=of.validates))
    blocks = [] if of.validates or not of.learns else folds(len(judged.coarse.time), _FOLDS)
    set_strength(of, judged, out_of_fold(of, judged, blocks) if blocks else of.fields(judged.coarse))


def set_strength(of: Any, judged: Pair, raw: Tensor) -> None:
    """Set the strength by raw fields (time, output, H, W) of times that they had not learnt from."""
    truth = to_tensor(judged.fine, of.domain.outputs)
    weight = torch.as_tensor(of.domain.grid.weights.copy())
    of.conservation.learn(raw, of.conservation.given(judged.coarse), truth, weight)


def _judging_times(fit_block: Indices, validate_block: Indices, *, validates: bool) -> Indices:
    """The times by which the strength is chosen: those of validation, or all where each can be left out in turn."""
    if validates and not len(validate_block):
        raise InputError(
            "a constraint of learned strength needs validation times; expected some; set validate=0.1 or "
            "data.split.validate, or give the strength: {name: relaxed, strength: 0.5}"
        )
    return validate_block if validates else fit_block
