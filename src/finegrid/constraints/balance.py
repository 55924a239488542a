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
    held      a Newton step, as far as is best, for q(m) + h/2 (m - m0)^T C (m - m0): m0 follows when that is nearly
              smallest, and h falls

A quick or Newton step is kept where it halves the smallest error so far. Else held is the way on, where nearly all
cells between coarse ones lie at their limits, or rain has to leave them, and M is singular or nearly so: it is the
proximal point method (Rockafellar, SIAM J. Control Optim. 14, 1976), which converges whenever (1) has a solution. Where
bounds contradict the coarse values there is none: the iteration ends after so many steps, and the violation tells.

The gradient is the implicit derivative of (1) (`implicit`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from finegrid.constraints.implicit import Implicit, conjugate_gradients
from finegrid.constraints.sparse import SparseMean

Index = Tensor | tuple[slice, Tensor]


@dataclass(frozen=True)
class Effort:
    """How well means are met.

    Attributes:
        error: relative error of the means at which the iteration ends.
        steps: its longest.
        newton: part of the residual that a Newton step may leave.
        gradient: that which a gradient may leave.
        everywhere: whether the error is that of the worst coarse cell, or the mean of all.
    """

    error: float
    steps: int
    newton: float
    gradient: float
    everywhere: bool


EXACT = Effort(error=1e-9, steps=80, newton=1e-3, gradient=1e-9, everywhere=True)
# While a network learns, what the worst cells lack is no matter: it learns as much as from exact means.
LEARNING = Effort(error=1e-4, steps=4, newton=1e-1, gradient=1e-2, everywhere=False)
# Coarse values are rounded to single precision, and may contradict one another by as much: steps then stop helping.
_ROUNDING, _IN_VAIN = 3e-8, 12
# Relative error below which means count as met.
_MET = 1e-6
# Numbers beyond this many times the usual value would drown it in rounding.
_HUGE = 1e9
# Held steps: the first h, as a part of the largest slope; how it falls; and what is nearly smallest.
_HELD, _LOOSENED, _NEARLY = 1e-2, 0.1, 0.2
_MOST_SEARCHED, _SEARCHED = 40, 0.3


class Response(ABC):
    """How fine cells answer to a shift, in columns (fine cells, batch): a frozen dataclass of such tensors."""

    @abstractmethod
    def value(self, shift: Tensor) -> Tensor:
        """psi(s)."""

    @abstractmethod
    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        """psi'(s), not negative, given psi(s) too."""

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
        effort: how well.
    """

    response: Response
    coarse: Tensor
    start: Tensor
    active: Tensor
    effort: Effort = EXACT

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
        return Problem(response, self.coarse[:, columns], self.start[:, columns], active, self.effort)

    def error(self, gap: Tensor) -> Tensor:
        """The relative error of what means lack (cells, batch), of each column; infinite where numbers overflow."""
        relative = gap.abs() / self.scale
        return (relative.amax(0) if self.effort.everywhere else relative.mean(0)).nan_to_num(torch.inf)


def balanced(problem: Problem, operator: SparseMean, *, learning: bool) -> Tensor:
    """Fine columns whose means are the coarse ones, equation (1).

    Args:
        problem: what to solve.
        operator: the mean.
        learning: whether gradients are wanted, and less than exact means will do in single precision.
    """
    effort = LEARNING if learning and problem.coarse.dtype != torch.float64 else EXACT
    problem = replace(problem, effort=effort)
    with torch.no_grad():
        shift = _solved(problem, operator)
    value = problem.response.value(shift)
    if not learning:
        return value
    slope = problem.response.slope(shift, value).detach()
    balance: Tensor = Implicit.apply(value, problem.coarse, slope, operator, problem.active, effort.gradient)  # type: ignore[no-untyped-call]
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
        return cls(numbers, shift, value, gap, problem.error(gap))

    def where(self, better: Tensor, other: _State) -> _State:
        """Column by column this state where it is better, else another."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _State(*(torch.where(better, mine, theirs) for mine, theirs in pairs))

    def picked(self, columns: Tensor) -> _State:
        return _State(*(each[..., columns] for each in vars(self).values()))


def _solved(problem: Problem, operator: SparseMean) -> Tensor:
    """The shift of the solution. Columns go their own ways: what one does, does not depend on the others."""
    start = torch.where(problem.active, problem.start, 0.0).expand_as(problem.coarse)
    here = _State.at(start, problem, operator)
    if operator.inverse_as(here.gap) is not None:
        here = _quickly(problem, operator, here)
    left = torch.nonzero(here.error > problem.effort.error)[:, 0]
    if not len(left):
        return here.shift
    shift = here.shift.clone()
    shift[:, left] = _surely(problem.picked(left), operator, here.picked(left))
    return shift


def _quickly(problem: Problem, operator: SparseMean, here: _State) -> _State:
    """Quick steps as long as each halves the error."""
    going = here.error > problem.effort.error
    while bool(going.any()):
        there = _State.at(here.numbers + _quick(problem, operator, here), problem, operator)
        going = going & (there.error <= 0.5 * here.error)
        here = there if bool(going.all()) else there.where(going, here)
        going = going & (here.error > problem.effort.error)
    return here


@dataclass(frozen=True)
class _Hold:
    """What held steps stay near to: numbers m0, h, and the weight of coarse cells (cells, 1)."""

    numbers: Tensor
    strength: Tensor
    weight: Tensor

    @classmethod
    def of(cls, here: _State, problem: Problem, operator: SparseMean) -> Self:
        slope = problem.response.slope(here.shift, here.value).amax(0)
        return cls(here.numbers, _HELD * torch.where(slope > 0, slope, 1.0), operator.weight.to(here.gap))

    def pull(self, here: _State) -> Tensor:
        """What keeps the means from the coarse values."""
        return self.strength * (here.numbers - self.numbers)

    def moved(self, here: _State, newton: Tensor, problem: Problem) -> _Hold:
        """Follows Newton steps at once, held ones when nothing else is left to gain."""
        left = torch.where(problem.active, here.gap - self.pull(here), 0.0).abs() / problem.scale
        done = left.amax(0) <= _NEARLY * here.error
        numbers = torch.where(newton | done, here.numbers, self.numbers)
        return _Hold(numbers, torch.where(done & ~newton, _LOOSENED * self.strength, self.strength), self.weight)

    def picked(self, columns: Tensor) -> _Hold:
        return _Hold(self.numbers[:, columns], self.strength[columns], self.weight)


def _surely(problem: Problem, operator: SparseMean, here: _State) -> Tensor:
    """Newton steps, and held ones where these do not help."""
    shift, best, hold = torch.empty_like(here.shift), here, _Hold.of(here, problem, operator)
    columns, vain = torch.arange(len(here.error), device=here.error.device), torch.zeros_like(here.error)
    for _ in range(problem.effort.steps):
        here, hold = _onwards(problem, operator, here, best.error, hold)
        vain = torch.where(here.error <= 0.5 * best.error, 0.0, vain + 1)
        best = here.where(here.error < best.error, best)
        done = (best.error <= problem.effort.error) | ((best.error <= _ROUNDING) & (vain >= _IN_VAIN))
        if bool(done.any()):
            shift[:, columns[done]] = best.shift[:, done]
            keep = torch.nonzero(~done)[:, 0]
            if not len(keep):
                return shift
            problem, hold = problem.picked(keep), hold.picked(keep)
            here, best, vain, columns = here.picked(keep), best.picked(keep), vain[keep], columns[keep]
    # What cannot be met is shared by the last steps, not by the best one.
    shift[:, columns] = best.where(best.error <= _MET, here).shift
    return shift


def _onwards(problem: Problem, operator: SparseMean, here: _State, record: Tensor, hold: _Hold) -> tuple[_State, _Hold]:
    slope = problem.response.slope(here.shift, here.value)
    step = conjugate_gradients(operator.stiffness(slope), hold.weight * here.gap, problem.active, problem.effort.newton)
    there = _State.at(here.numbers + step, problem, operator)
    newton = (there.error <= 0.5 * record) & (there.numbers.abs() <= _HUGE * problem.scale.amax(0)).all(0)
    if not bool(newton.all()):
        there = there.where(newton, _held(problem, operator, here, hold, slope))
    return there, hold.moved(there, newton, problem)


def _held(problem: Problem, operator: SparseMean, here: _State, hold: _Hold, slope: Tensor) -> _State:
    """A held step, between brackets: what it still has to gain falls along it."""
    matrix = operator.stiffness(slope).plus(hold.strength * hold.weight)
    step = conjugate_gradients(
        matrix, hold.weight * (here.gap - hold.pull(here)), problem.active, problem.effort.newton
    )
    gain = (hold.weight * (here.gap - hold.pull(here)) * step).sum(0)
    low, high, length = torch.zeros_like(gain), torch.full_like(gain, torch.inf), torch.ones_like(gain)
    for _ in range(_MOST_SEARCHED):
        there = _State.at(here.numbers + length * step, problem, operator)
        left = (hold.weight * (there.gap - hold.pull(there)) * step).sum(0).nan_to_num(nan=-torch.inf)
        found = left.abs() <= _SEARCHED * gain.abs()
        if bool(found.all()):
            break
        low, high = torch.where(left > 0, length, low), torch.where(left > 0, high, length)
        between = torch.where(torch.isinf(high), 4 * length, (low + high) / 2)
        length = torch.where(found, length, between)
    return there.where(torch.isfinite(there.error), here)


def _quick(problem: Problem, operator: SparseMean, here: _State) -> Tensor:
    slope = operator.mean_of(problem.response.slope(here.shift, here.value))
    alone = torch.where(problem.active & (slope > 0), here.gap / torch.where(slope > 0, slope, 1.0), 0.0)
    inverse = operator.inverse_as(alone)
    return alone if inverse is None else torch.where(problem.active, inverse @ alone, 0.0)
