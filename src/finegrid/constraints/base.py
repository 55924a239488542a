"""What a constraint is, and how far a field is from obeying it.

A constraint turns the raw fine field of a network into an admissible one: the weighted mean of the fine
cells of every coarse cell equals that cell's value (water, energy and momentum do not appear or vanish by
downscaling). Constraints act in PHYSICAL units, on tensors ``(..., channel, H, W)`` and ``(..., channel, h,
w)``, and know the two grids only through an `Aggregation`, so that area weights and missing cells are
decided in one place.

Where no fine cell lies in two coarse cells (`Aggregation.disjoint`: blocks, days, regions) every constraint is a closed
formula or a search in one variable. Float32 is enough there because the layers work with differences from the coarse
value and then correct what rounding left once more: at 300 K the mean is off by less than one unit in the last place
of the fine values. Where coarse cells share fine cells, all constraints are one equation (`balance`), solved in
float64 unless a network is learning.

Notation in this folder: x coarse value, yt raw fine value, m = mean(yt), y constrained fine value.

Source: Harder et al., "Hard-Constrained Deep Learning for Climate Downscaling", JMLR 24(365), 2023.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from finegrid.constraints.balance import Problem, balanced
from finegrid.constraints.sparse import SparseMean

CONSERVED = 1e-5
"""Largest relative error of a mean that counts as rounding: fields are kept as float32."""


class Aggregation(Protocol):
    """The linear map from fine to coarse cells, as tensors: any floating dtype in, the same dtype out.

    Fine cells that are not valid hold any value, even NaN, and must not reach a result or a gradient. A
    coarse cell without any valid fine cell gets 0 from `mean` and `max`.

    Attributes:
        disjoint: no fine cell belongs to two coarse cells, so that `mean` undoes `spread`.
        whole: every fine cell belongs to some coarse cell.
    """

    @property
    def disjoint(self) -> bool: ...
    @property
    def whole(self) -> bool: ...

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean over the valid fine cells of each coarse cell, ``(..., H, W) -> (..., h, w)``."""
        ...

    def max(self, fine: Tensor) -> Tensor:
        """Largest valid fine value of each coarse cell, ``(..., H, W) -> (..., h, w)``."""
        ...

    def spread(self, coarse: Tensor) -> Tensor:
        """Gives each fine cell the value of its coarse cell, ``(..., h, w) -> (..., H, W)``."""
        ...


@runtime_checkable
class Constraint(Protocol):
    """Admissible fields: see the module docstring for shapes and units.

    Attributes:
        conserves: the projected field reproduces the coarse one to rounding.
        needs_positive: only for units without negative values (kelvin, rain, humidity); refuse winds and
            degC.
        statistics: names of what the constructor is told about its channels, as keywords: numbers of the training
            data (``scale``, the mean of |coarse|, ``low`` and ``high``, the extremes of fine), what nature allows
            (``lowest``, ``highest``), ``variables``, ``standard`` (units), ``turn`` (axes) and ``make``.

    Some have more: ``roles`` (relations between variables: see `relation`), ``derived`` (channels without a coarse
    value of their own), and ``takes_high`` (`project` takes upper limits of single cells as ``high``).
    """

    @property
    def conserves(self) -> bool: ...
    @property
    def needs_positive(self) -> bool: ...
    @property
    def statistics(self) -> tuple[str, ...]: ...

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """Makes the raw output of a network admissible; differentiable."""
        ...

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """Repairs a field that is physical already (calibrated, rounded); changes no admissible field."""
        ...

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """How far each sample is from conserving; see `violation`."""
        ...


def violation(fine: Tensor, coarse: Tensor, operator: Aggregation, *, typical: Tensor | None = None) -> Tensor:
    """Largest relative error of conservation in each sample, ``(...,)``, dimensionless, float64.

    ``max |mean(y) - x| / max(|x|, typical)`` over channels and coarse cells. Coarse cells that are missing
    or hold no valid fine cell are left out. A NaN in a valid fine cell gives NaN.

    Args:
        typical: size of each channel, broadcastable to ``(channel, h, w)``, in the units of the channel; by
            default the mean of |x| over everything in this call, so that a dry day is measured against the
            usual rain.
    """
    return relative_error(fine, coarse, operator, typical=typical).amax((-3, -2, -1))


def unmet(fine: Tensor, coarse: Tensor, operator: Aggregation, *, typical: Tensor | None = None) -> Tensor:
    """How many coarse values of each channel are not reproduced to rounding, (channel,): infeasible ones, mostly."""
    wrong = ~(relative_error(fine, coarse, operator, typical=typical) <= CONSERVED)
    return wrong.sum([dim for dim in range(-wrong.ndim, 0) if dim != -3])


def relative_error(fine: Tensor, coarse: Tensor, operator: Aggregation, *, typical: Tensor | None = None) -> Tensor:
    """`violation` before its maximum: one value per channel and coarse cell, 0 where nothing is known."""
    fine, coarse = fine.detach().double(), coarse.detach().double()
    filled = operator.mean(torch.ones(fine.shape[-3:], dtype=fine.dtype, device=fine.device)) > 0
    known = torch.isfinite(coarse) & filled
    target = torch.where(torch.isfinite(coarse), coarse, 0.0).expand(known.shape)
    size = torch.where(known, target.abs(), 0.0)
    if typical is None:
        others = [dim for dim in range(-size.ndim, 0) if dim != -3]
        typical = size.sum(others, keepdim=True) / known.sum(others, keepdim=True).clamp(min=1)
    error = torch.where(known, (operator.mean(fine) - target).abs(), 0.0)
    return torch.where(error == 0, 0.0, error / torch.maximum(size, typical.to(size)))


def per_channel(value: float | Sequence[float]) -> Tensor:
    """One number, or one per channel, in the shape that broadcasts against ``(..., channel, H, W)``."""
    return torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)


def by_column(value: Tensor, columns: Tensor) -> Tensor:
    """A number per channel for columns (cells, batch), in which the channel is the last dimension of the batch."""
    flat = value.reshape(-1).to(columns)
    return flat.repeat(columns.shape[1] // flat.numel())


class _Rectify(torch.autograd.Function):
    """max(0, raw), with the gradient that would raise a negative value let through."""

    generate_vmap_rule = True

    @staticmethod
    def forward(raw: Tensor) -> Tensor:
        return raw.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        return torch.where(raw > 0, gradient, gradient.clamp(max=0))


def rectified(raw: Tensor) -> Tensor:
    """What is not below zero."""
    positive: Tensor = _Rectify.apply(raw)  # type: ignore[no-untyped-call]
    return positive


class HardConstraint(nn.Module, ABC):
    """A layer that conserves exactly; a variant says how it shares the correction out among the fine cells.

    While a network learns (`fine` requires a gradient) the correction of rounding is left out: it changes no gradient,
    and a step costs half as much. Cells that no coarse value says anything about, since it is missing (NaN) or they lie
    at the edge, stay as they are, or at zero where nothing is below it. Half-precision output of a network is lifted to
    the precision of the coarse field, because no constraint can hold to 1e-6 in numbers with an error of 1e-3.
    """

    conserves: ClassVar[bool] = True
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        fine = fine.to(torch.promote_types(fine.dtype, coarse.dtype))
        known = torch.isfinite(coarse)
        every = bool(known.all())
        target = (coarse if every else torch.where(known, coarse, 0.0)).to(fine.dtype)
        if isinstance(operator, SparseMean) and not operator.disjoint:
            return self._balanced(fine, target, known, operator)
        projected = self._conserve(fine, target, operator)
        if not fine.requires_grad:
            projected = self._polish(projected, target, operator)
        if every and operator.whole:
            return projected
        return torch.where(operator.spread(known.to(fine.dtype)) > 0, projected, self._free(fine))

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self.project(fine, coarse, operator)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return violation(fine, coarse, operator)

    def _balanced(self, fine: Tensor, coarse: Tensor, known: Tensor, operator: SparseMean) -> Tensor:
        """The layer where coarse cells share fine cells."""
        learning = fine.requires_grad or coarse.requires_grad
        lead = (*fine.shape[:-2], *coarse.shape[-2:])
        x, active = operator.coarse_columns(coarse.expand(lead)), operator.weight > 0
        every = bool(known.all())
        active = active if every else active & operator.coarse_columns(known.expand(lead))
        raw = operator.fine_columns(fine)
        raw, x = (raw, x) if learning else (raw.double(), x.double())
        columns = balanced(self._problem(raw, x, operator, active), operator, learning=learning)
        projected = operator.as_fine(columns, fine).to(fine.dtype)
        if every:
            return projected if operator.whole else torch.where(operator.touched, projected, self._free(fine))
        reached = operator.as_fine(operator.spread_of(active.to(x.dtype)) > 0, fine)
        return torch.where(reached, projected, self._free(fine))

    def _free(self, fine: Tensor) -> Tensor:
        """Cells without a coarse value."""
        return rectified(fine) if self.needs_positive else fine

    @abstractmethod
    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        """How fine cells answer to a shift, in columns (fine cells, batch), and what of the coarse cells is reached."""

    @abstractmethod
    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """The layer where every coarse value is known; finite in value and gradient for finite input."""

    @abstractmethod
    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """Removes what rounding left of the violation; sees no gradient."""
