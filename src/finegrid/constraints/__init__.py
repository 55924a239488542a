"""Admissible fields: what a fine field owes to its coarse field; `base` says how to use constraints."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import CONSERVED, Aggregation, Constraint, HardConstraint, unmet, violation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.multiplicative import MultiplicativeConstraint
from finegrid.constraints.none import NoConstraint
from finegrid.constraints.scaled_add import ScaledAddConstraint
from finegrid.constraints.soft import SoftConstraint
from finegrid.constraints.softmax import SoftmaxConstraint
from finegrid.constraints.sparse import SparseMean

CONSTRAINTS: dict[str, Callable[..., Constraint]] = {
    "none": NoConstraint,
    "soft": SoftConstraint,
    "add": AddConstraint,
    "scaled-add": ScaledAddConstraint,
    "multiplicative": MultiplicativeConstraint,
    "softmax": SoftmaxConstraint,
    "bounded": BoundedConstraint,
}

__all__ = [
    "CONSERVED",
    "CONSTRAINTS",
    "AddConstraint",
    "Aggregation",
    "BoundedConstraint",
    "Constraint",
    "HardConstraint",
    "MultiplicativeConstraint",
    "NoConstraint",
    "ScaledAddConstraint",
    "SoftConstraint",
    "SoftmaxConstraint",
    "SparseMean",
    "unmet",
    "violation",
]
