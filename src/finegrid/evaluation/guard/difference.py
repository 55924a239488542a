"""What differs between new input and that of training: numbers for sentences and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.guard.traits import Trait


@dataclass(frozen=True)
class Difference:
    """A trait of the new input beside that of training.

    Attributes:
        trait: which.
        units: of the values; "" for pure numbers.
        amount: whether it is of a quantity that cannot be negative.
        new: mean over the new times.
        training: mean over the training times that it is compared with.
        usual: deviation of such a mean from block to block of the training record.
        z: the difference in usual deviations; of cube roots for amounts.
    """

    trait: Trait
    units: str
    amount: bool
    new: float
    training: float
    usual: float
    z: float


@dataclass(frozen=True, eq=False)
class Shown:
    """What a picture shows of one variable.

    Attributes:
        units: its units.
        amount: whether it cannot be negative.
        training: traits (row, kind) of training times.
        new: the same of new times.
        change: mean of the new times less that of training, of each cell (y, x); None on other cells.
    """

    units: str
    amount: bool
    training: Array
    new: Array
    change: Array | None
