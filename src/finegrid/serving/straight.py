"""Constraints as a graph can hold them: every number the same, without a branch that depends on values.

Constraints skip what nearly no field needs (`if anything lacks`) and search until all is found. A graph has no such
branches, so everything is always added, which where nothing lacks is a zero, and the search is a loop with a condition.
What is built of other constraints is taken as it is, with these in place of them.

Where coarse cells share fine cells, means are met by an iteration (`constraints.balance`), except for `add`, which is
one linear map, y = yt + S (A S)^-1 (x - A yt).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from finegrid.constraints import (
    AddConstraint,
    Aggregation,
    BoundedConstraint,
    ComposedConstraint,
    Constraint,
    HumidityConstraint,
    MultiplicativeConstraint,
    NoConstraint,
    OrderedConstraint,
    RelaxedConstraint,
    ScaledAddConstraint,
    ShiftedConstraint,
    SoftConstraint,
    SoftmaxConstraint,
    SparseMean,
    TotalConstraint,
    WindConstraint,
)
from finegrid.constraints.bounded import _EXACT, _MOST_STEPS, _Clip
from finegrid.conventions import InputError
from finegrid.conventions.components import word_of
from finegrid.downscalers.conservation import Conservation
from finegrid.serving.seen import filled, known

Layer = Callable[[Tensor, Tensor, Aggregation], Tensor]
_AS_THEY_ARE = (NoConstraint, SoftConstraint)
_BUILT_OF_OTHERS = (
    ComposedConstraint,
    HumidityConstraint,
    OrderedConstraint,
    RelaxedConstraint,
    ShiftedConstraint,
    TotalConstraint,
    WindConstraint,
)


def straight(conservation: Conservation) -> nn.Module:
    """The constraint of a downscaler with a `project(fine, coarse, operator)` that a graph can hold.

    Raises:
        InputError: for a constraint that needs more than the fields, or an iteration.
    """
    if conservation.sunlit:
        raise InputError(
            f"got the constraint '{word_of(conservation.table)}', whose limit is the sun's position; expected one that "
            "needs the fields alone; fit with the constraint bounded or natural to export the model"
        )
    return _straight(conservation.constraint, conservation)


def _straight(constraint: Constraint | nn.Module, conservation: Conservation) -> nn.Module:
    if isinstance(constraint, _AS_THEY_ARE):
        return constraint
    if isinstance(constraint, _BUILT_OF_OTHERS):
        return _rebuilt(constraint, lambda part: _straight(part, conservation))
    operator = conservation.operator
    if isinstance(operator, SparseMean) and not operator.disjoint:
        return _shared(constraint, operator, conservation)
    if isinstance(operator, SparseMean) and not isinstance(constraint, AddConstraint | MultiplicativeConstraint):
        raise _iterates(conservation)
    if isinstance(constraint, BoundedConstraint):
        return StraightBounded(constraint)
    layers: dict[type, Callable[..., tuple[Layer, Layer]]] = {
        AddConstraint: lambda each: (each._conserve, each._polish),
        SoftmaxConstraint: lambda each: (each._conserve, each._polish),
        MultiplicativeConstraint: lambda each: (partial(_multiplied, each.floor), each._polish),
        ScaledAddConstraint: lambda each: (partial(_scaled_add, each),) * 2,
    }
    if type(constraint) not in layers:
        raise InputError(
            f"got the constraint '{word_of(conservation.table)}', which cannot be exported; expected one of none, add, "
            "scaled-add, multiplicative, softmax, bounded, natural or relaxed; fit with one of these"
        )
    return StraightHard(constraint, *layers[type(constraint)](constraint))


def _shared(constraint: Any, operator: SparseMean, conservation: Conservation) -> nn.Module:
    if not isinstance(constraint, AddConstraint) or operator.inverse is None:
        raise _iterates(conservation)
    return StraightShared(operator)


def _iterates(conservation: Conservation) -> InputError:
    return InputError(
        f"got the constraint '{word_of(conservation.table)}' on coarse cells that are no blocks of fine cells, which "
        "is solved by an iteration; expected add or none there (add for up to 1024 coarse cells); fit with one of "
        "these, or with coarse fields on blocks (finegrid regrid)"
    )


def _rebuilt(constraint: nn.Module, form: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy whose parts are in another form; the constraint itself stays as it is."""
    made = copy.copy(constraint)
    made._modules = {name: _part(each, form) for name, each in constraint._modules.items()}
    return made


def _part(part: nn.Module | None, form: Callable[[nn.Module], nn.Module]) -> nn.Module | None:
    if isinstance(part, nn.ModuleList):
        return nn.ModuleList(form(each) for each in part)
    return None if part is None else form(part)


class StraightHard(nn.Module):
    """A layer of `HardConstraint`, where no fine cell belongs to two coarse cells."""

    def __init__(self, constraint: Any, layer: Layer, polish: Layer) -> None:
        super().__init__()
        self.constraint, self._layer, self._polish = constraint, layer, polish

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """As that of the constraint."""
        fine = fine.to(torch.promote_types(fine.dtype, coarse.dtype))
        there, target = known(coarse), filled(coarse).to(fine.dtype)
        projected = self._polish(self._layer(fine, target, operator), target, operator)
        free = fine.clamp(min=0) if self.constraint.needs_positive else fine
        return torch.where(operator.spread(there.to(fine.dtype)) > 0, projected, free)


def _multiplied(floor: float, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
    """`MultiplicativeConstraint`."""
    positive = fine.clamp(min=0)
    mean = operator.mean(positive)
    lacking = (floor * coarse - mean).clamp(min=0)
    wet = coarse > torch.finfo(coarse.dtype).tiny / floor
    factor = coarse / torch.where(wet, mean + lacking, 1.0)
    level = torch.where(wet, factor * lacking, coarse)
    return positive * operator.spread(torch.where(wet, factor, 0.0)) + operator.spread(level)


def _scaled_add(constraint: ScaledAddConstraint, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
    """`ScaledAddConstraint`."""
    gap = operator.mean(operator.spread(coarse) - fine)
    room = torch.where(operator.spread(gap) < 0, fine - constraint.low, constraint.high - fine).clamp(min=0)
    mean_room = operator.mean(room)
    lacking = (gap.abs() - mean_room).clamp(min=0)
    share = mean_room + lacking
    rate = gap / torch.where(share > 0, share, 1.0)
    return fine + operator.spread(rate) * room + operator.spread(rate * lacking)


class StraightBounded(nn.Module):
    """`BoundedConstraint`, where no fine cell belongs to two coarse cells."""

    takes_high = True

    def __init__(self, constraint: BoundedConstraint) -> None:
        super().__init__()
        self.constraint = constraint
        self._add = StraightHard(constraint._add, constraint._add._conserve, constraint._add._polish)

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation, *, high: Tensor | None = None) -> Tensor:
        """As that of the constraint."""
        dtype = torch.promote_types(fine.dtype, coarse.dtype)
        lower, upper = self.constraint.low.to(dtype), self.constraint.high.to(dtype)
        upper = upper if high is None else torch.minimum(upper, high.to(dtype))
        lower = torch.minimum(lower, upper)
        shifted = self._add.project(fine, coarse, operator)
        beyond = operator.max(torch.maximum(lower - shifted, shifted - upper)) > 0
        clipped = _clipped(fine.to(dtype), coarse, lower, upper, operator, beyond)
        shifted = torch.where(operator.spread(beyond.to(dtype)) > 0, clipped, shifted)
        return torch.minimum(torch.maximum(shifted, lower), upper)


def _clipped(
    fine: Tensor, coarse: Tensor, lower: Tensor, upper: Tensor, operator: Aggregation, beyond: Tensor
) -> Tensor:
    """The nearest fields between the limits with the right means, in blocks that are beyond them."""
    there, target = known(coarse), filled(coarse)
    clip = _Clip(fine.double(), target.double(), lower.double(), upper.double(), operator)
    level = _level(clip, operator, fine.double(), beyond & there)
    return torch.where(operator.spread(there.to(fine.dtype)) > 0, clip(level).to(fine.dtype), fine)


def _level(clip: _Clip, operator: Aggregation, fine: Tensor, wanted: Tensor) -> Tensor:
    """`_Clip.level` as a loop with a condition; only blocks that are wanted are waited for."""
    left, right = clip._brackets()
    level = torch.minimum(torch.maximum(clip._coarse - operator.mean(fine), left), right)
    scale = torch.maximum(clip._coarse.abs(), clip._coarse.abs().mean((-2, -1), keepdim=True))
    step = torch.zeros((), dtype=torch.int64)

    def going(left: Tensor, right: Tensor, level: Tensor, open_: Tensor, step: Tensor) -> Tensor:
        return open_.any() & (step < _MOST_STEPS)

    def nearer(
        left: Tensor, right: Tensor, level: Tensor, open_: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        gap, slope = clip._gap(level)
        found = gap.abs() <= _EXACT * scale
        left, right = torch.where(gap > 0, level, left), torch.where(gap < 0, level, right)
        newton = level + gap / torch.where(slope > 0, slope, 1.0)
        newton = torch.where((slope > 0) & (newton > left) & (newton < right), newton, (left + right) / 2)
        return left, right, torch.where(found, level, newton), wanted & ~found, step + 1

    start = (left, right, level, wanted.clone(), step)
    found: Tensor = torch.while_loop(going, nearer, start)[2]  # type: ignore[no-untyped-call]
    return found


class StraightShared(nn.Module):
    """`AddConstraint` where coarse cells share fine cells: one matrix; a missing value makes its field missing."""

    inverse: Tensor

    def __init__(self, operator: SparseMean) -> None:
        super().__init__()
        inverse = operator.inverse
        if inverse is None:
            raise RuntimeError("coarse cells that cannot be told apart")
        self.register_buffer("inverse", inverse.cpu(), persistent=False)

    def project(self, fine: Tensor, coarse: Tensor, operator: Any) -> Tensor:
        """As that of the constraint."""
        wide = fine.double()
        target = torch.where(operator.bound, coarse.double(), 0.0)
        lacking = (target - operator.mean(wide)).flatten(-2)
        numbers = torch.matmul(lacking, self.inverse.mT).reshape(target.shape)
        projected = (wide + operator.spread(numbers)).to(fine.dtype)
        return projected if operator.whole else torch.where(operator.touched, projected, fine)
