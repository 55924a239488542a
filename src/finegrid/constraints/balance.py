"""Exact means where coarse cells share fine cells: one number per coarse cell, by a guarded Newton iteration.

Every hard constraint answers to a shift s of its fine cells with values y = psi(s) that do not decrease in s: yt + s
(add), p exp(s) (multiplicative, softmax), yt + s r (scaled-add), min(max(yt + s, low), high) (bounded). The constrained
field is the one whose shift is spread from coarse numbers m (one each) and whose means are right,

    y = psi(S m),      A y = x                                                              (1)

For psi = yt + s this is the orthogonal projection yt + S (A S)^-1 (x - A yt), for p exp(s) the field nearest to p in
the Kullback-Leibler sense, the limit of iterative proportional fitting (Csiszar, Ann. Probab. 3, 1975); for the clip it
is the projection onto the fields between the bounds. (1) is where the convex function

    q(m) = sum_j f_j Psi_j((S m)_j) - sum_i c_i x_i m_i,      Psi' = psi                     (2)

is smallest: its gradient is C (A psi(S m) - x) and its second derivative M(psi') (`sparse`). Three kinds of step:

    quick     (A S)^-1 times what each cell lacks over its own slope, where the inverse is at hand
    Newton    M(psi') d = C (x - A y), by conjugate gradients
    alone     every coarse cell goes by itself to where its mean would be right, d_i: sum_j a(i, j) psi_j(s_j + d_i) =
              c_i x_i. As S has rows that sum to one and q is convex, q falls at every such step; for p exp(s) it is
              generalised iterative scaling (Darroch and Ratcliff, Ann. Math. Stat. 43, 1972)

A quick or Newton step is kept where it halves the smallest error so far, else the step alone is taken, so that the
iteration converges whenever (1) has a solution. For p exp(s) a Newton step that is shortened to log(1 + |d|) / |d|
makes q fall by itself (Bach, Electron. J. Stat. 4, 2010, section 2.2: the third derivative is bounded by the second).
Where bounds contradict the coarse values there is no solution: the iteration ends after `_MOST_STEPS`, and the
violation tells.

The gradient is the implicit derivative of (1) (`implicit`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from finegrid.constraints.implicit import Implicit, conjugate_gradients
from finegrid.constraints.sparse import SparseMean

Index = Tensor | tuple[slice, Tensor]

# Relative error of the means at which the iteration ends, and its longest; while a network learns, less will do.
_EXACT, _LEARNING = 1e-9, 1e-4
_MOST_STEPS, _FEW_STEPS = 60, 10
_MOST_SEARCHED = 40
# Part of the residual that a Newton step may leave, that of a search alone, and that of a gradient in single precision.
_NEWTON, _SEARCHED, _GRADIENT = 1e-3, 0.05, 1e-2


class Response(ABC):
    """How fine cells answer to a shift, in columns (fine cells, batch): a frozen dataclass of such tensors."""

    @abstractmethod
    def value(self, shift: Tensor) -> Tensor:
        """psi(s)."""

    @abstractmethod
    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        """psi'(s), not negative, given psi(s) too."""

    def shortened(self, step: Tensor) -> Tensor | None:
        """A Newton step along which q surely falls; None where that is not known."""
        return None

    def picked(self, index: Index) -> Self:
        """The response of some of the cells or columns."""
        return type(self)(*(each[index] for each in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Problem:
    """What to solve, in columns (cells, batch).

    Attributes:
        response: how fine cells answer.
        coarse: means to reach, finite.
        start: first guess of m.
        active: coarse cells whose means have to be reached.
    """

    response: Response
    coarse: Tensor
    start: Tensor
    active: Tensor

    @cached_property
    def scale(self) -> Tensor:
        """What errors are measured by: the larger of a coarse value and the usual one of its field."""
        active = self.active.expand_as(self.coarse)
        typical = torch.where(active, self.coarse.abs(), 0.0).sum(0) / active.sum(0).clamp(min=1)
        return torch.maximum(self.coarse.abs(), typical) + torch.finfo(self.coarse.dtype).tiny

    def picked(self, columns: Tensor) -> Problem:
        """The problem in some of the columns."""
        active = self.active[:, columns] if self.active.shape[1] > 1 else self.active
        response = self.response.picked((slice(None), columns))
        return Problem(response, self.coarse[:, columns], self.start[:, columns], active)


def balanced(problem: Problem, operator: SparseMean, *, learning: bool) -> Tensor:
    """Fine columns whose means are the coarse ones, equation (1).

    Args:
        problem: what to solve.
        operator: the mean.
        learning: whether gradients are wanted, and means to 1e-4 will do.
    """
    single = learning and problem.coarse.dtype != torch.float64
    with torch.no_grad():
        shift = _solved(problem, operator, *((_LEARNING, _FEW_STEPS) if single else (_EXACT, _MOST_STEPS)))
    value = problem.response.value(shift)
    if not learning:
        return value
    slope = problem.response.slope(shift, value).detach()
    balance: Tensor = Implicit.apply(
        value, problem.coarse, slope, operator, problem.active, _GRADIENT if single else _EXACT
    )  # type: ignore[no-untyped-call]
    return balance


@dataclass(frozen=True)
class _State:
    """Where the iteration is: numbers m, shift, values, what the means lack, and the largest relative error."""

    numbers: Tensor
    shift: Tensor
    value: Tensor
    gap: Tensor
    error: Tensor

    @classmethod
    def at(cls, numbers: Tensor, problem: Problem, operator: SparseMean) -> Self:
        shift = operator.spread_of(numbers)
        value = problem.response.value(shift)
        gap = torch.where(problem.active, problem.coarse - operator.mean_of(value), 0.0)
        return cls(numbers, shift, value, gap, (gap.abs() / problem.scale).amax(0).nan_to_num(torch.inf))

    def where(self, better: Tensor, other: _State) -> _State:
        """Column by column this state where it is better, else another."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _State(*(torch.where(better, mine, theirs) for mine, theirs in pairs))

    def picked(self, columns: Tensor) -> _State:
        return _State(*(each[..., columns] for each in vars(self).values()))


def _solved(problem: Problem, operator: SparseMean, tolerance: float, most: int) -> Tensor:
    """The shift of the solution. Columns go their own ways: what one does, does not depend on the others."""
    start = torch.where(problem.active, problem.start, 0.0).expand_as(problem.coarse)
    here = _State.at(start, problem, operator)
    if operator.inverse_as(here.gap) is not None:
        here = _quickly(problem, operator, here, tolerance)
    left = torch.nonzero(here.error > tolerance)[:, 0]
    if not len(left):
        return here.shift
    shift = here.shift.clone()
    shift[:, left] = _surely(problem.picked(left), operator, here.picked(left), tolerance, most)
    return shift


def _quickly(problem: Problem, operator: SparseMean, here: _State, tolerance: float) -> _State:
    """Quick steps as long as each halves the error."""
    going = here.error > tolerance
    while bool(going.any()):
        there = _State.at(here.numbers + _quick(problem, operator, here), problem, operator)
        going = going & (there.error <= 0.5 * here.error)
        here = there if bool(going.all()) else there.where(going, here)
        going = going & (here.error > tolerance)
    return here


def _surely(problem: Problem, operator: SparseMean, here: _State, tolerance: float, most: int) -> Tensor:
    """Newton steps, and steps alone where these do not help."""
    shift, record = torch.empty_like(here.shift), here.error
    columns = torch.arange(len(record), device=record.device)
    for _ in range(most):
        step = _newton(problem, operator, here)
        sure = problem.response.shortened(step)
        there = _State.at(here.numbers + (step if sure is None else sure), problem, operator)
        better = there.error <= 0.5 * record
        if sure is None and not bool(better.all()):
            other = _State.at(here.numbers + _alone(problem, operator, here), problem, operator)
            there = there.where(better, other)
        here, record = there, torch.minimum(record, there.error)
        done = here.error <= tolerance
        if bool(done.any()):
            shift[:, columns[done]] = here.shift[:, done]
            keep = torch.nonzero(~done)[:, 0]
            if not len(keep):
                return shift
            problem, here, record, columns = problem.picked(keep), here.picked(keep), record[keep], columns[keep]
    shift[:, columns] = here.shift
    return shift


def _quick(problem: Problem, operator: SparseMean, here: _State) -> Tensor:
    slope = operator.mean_of(problem.response.slope(here.shift, here.value))
    alone = torch.where(problem.active & (slope > 0), here.gap / torch.where(slope > 0, slope, 1.0), 0.0)
    inverse = operator.inverse_as(alone)
    return alone if inverse is None else torch.where(problem.active, inverse @ alone, 0.0)


def _newton(problem: Problem, operator: SparseMean, here: _State) -> Tensor:
    matrix = operator.stiffness(problem.response.slope(here.shift, here.value))
    return conjugate_gradients(matrix, operator.weight.to(here.gap) * here.gap, problem.active, _NEWTON)


def _alone(problem: Problem, operator: SparseMean, here: _State) -> Tensor:
    """Every coarse cell by itself, by Newton's method between brackets."""
    entries = operator.entries
    response, base = problem.response.picked(entries.fine), here.shift[entries.fine]

    def lacking(step: Tensor) -> tuple[Tensor, Tensor]:
        shift = base + step[entries.coarse]
        value = response.value(shift)
        slope = response.slope(shift, value)
        return problem.coarse - entries.mean(value), entries.mean(slope)

    left, right = _brackets(here, lacking)
    step, near = torch.zeros_like(here.gap), _SEARCHED * here.gap.abs()
    for _ in range(_MOST_SEARCHED):
        gap, slope = lacking(step)
        if bool((gap.abs() <= near).all()):
            break
        left, right = torch.where(gap > 0, step, left), torch.where(gap < 0, step, right)
        newton = step + gap / torch.where(slope > 0, slope, 1.0)
        inside = (slope > 0) & (newton > left) & (newton < right)
        step = torch.where(gap == 0, step, torch.where(inside, newton, (left + right) / 2))
    return torch.where(problem.active, step, 0.0)


def _brackets(here: _State, lacking: Any) -> tuple[Tensor, Tensor]:
    """Steps at which means are too low and too high, by doubling."""
    width = torch.full_like(here.gap, float(here.gap.abs().max()))
    left, right = -width, width
    for _ in range(_MOST_SEARCHED):
        low, high = lacking(left)[0] < 0, lacking(right)[0] > 0
        if not bool((low | high).any()):
            break
        left, right = torch.where(low, 2 * left, left), torch.where(high, 2 * right, right)
    return left, right
