"""Admissible fields: what a fine field owes to its coarse field; `base` says how to use constraints."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import Aggregation, Constraint, HardConstraint, violation
from finegrid.constraints.multiplicative import MultiplicativeConstraint
from finegrid.constraints.none import NoConstraint
from finegrid.constraints.scaled_add import ScaledAddConstraint
from finegrid.constraints.soft import SoftConstraint
from finegrid.constraints.softmax import SoftmaxConstraint

CONSTRAINTS: dict[str, Callable[..., Constraint]] = {
    "none": NoConstraint,
    "soft": SoftConstraint,
    "add": AddConstraint,
    "scaled-add": ScaledAddConstraint,
    "multiplicative": MultiplicativeConstraint,
    "softmax": SoftmaxConstraint,
}

__all__ = [
    "CONSTRAINTS",
    "AddConstraint",
    "Aggregation",
    "Constraint",
    "HardConstraint",
    "MultiplicativeConstraint",
    "NoConstraint",
    "ScaledAddConstraint",
    "SoftConstraint",
    "SoftmaxConstraint",
    "violation",
]
