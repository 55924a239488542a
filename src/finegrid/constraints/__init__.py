"""Admissible fields: what a fine field owes to its coarse field; `base` says how to use constraints."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import CONSERVED, Aggregation, Constraint, HardConstraint, unmet, violation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.composed import ComposedConstraint, NaturalConstraint
from finegrid.constraints.humidity import HumidityConstraint
from finegrid.constraints.multiplicative import MultiplicativeConstraint
from finegrid.constraints.none import NoConstraint
from finegrid.constraints.ordered import OrderedConstraint
from finegrid.constraints.radiation import RadiationConstraint
from finegrid.constraints.relaxed import RelaxedConstraint
from finegrid.constraints.scaled_add import ScaledAddConstraint
from finegrid.constraints.shifted import ShiftedConstraint
from finegrid.constraints.soft import SoftConstraint
from finegrid.constraints.softmax import SoftmaxConstraint
from finegrid.constraints.sparse import SparseMean
from finegrid.constraints.total import TotalConstraint
from finegrid.constraints.wind import WindConstraint

CONSTRAINTS: dict[str, Callable[..., Constraint]] = {
    "none": NoConstraint,
    "soft": SoftConstraint,
    "add": AddConstraint,
    "scaled-add": ScaledAddConstraint,
    "multiplicative": MultiplicativeConstraint,
    "softmax": SoftmaxConstraint,
    "bounded": BoundedConstraint,
    "natural": NaturalConstraint,
    "relaxed": RelaxedConstraint,
    "ordered": OrderedConstraint,
    "total": TotalConstraint,
    "humidity": HumidityConstraint,
    "radiation": RadiationConstraint,
    "wind": WindConstraint,
    "composed": ComposedConstraint,
}

__all__ = [
    "CONSERVED",
    "CONSTRAINTS",
    "AddConstraint",
    "Aggregation",
    "BoundedConstraint",
    "ComposedConstraint",
    "Constraint",
    "HardConstraint",
    "HumidityConstraint",
    "MultiplicativeConstraint",
    "NaturalConstraint",
    "NoConstraint",
    "OrderedConstraint",
    "RadiationConstraint",
    "RelaxedConstraint",
    "ScaledAddConstraint",
    "ShiftedConstraint",
    "SoftConstraint",
    "SoftmaxConstraint",
    "SparseMean",
    "TotalConstraint",
    "WindConstraint",
    "unmet",
    "violation",
]
