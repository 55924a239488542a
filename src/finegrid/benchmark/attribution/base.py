"""What an attribution is: the part that each input has in how far a scalar of the prediction departs from a baseline.

    sum_j a_j = f(x) - f(b)            completeness

f is the scalar, x are the inputs, b is the baseline: inputs that say nothing. Whether a method is complete, how exactly
for these inputs, is measured and comes with every answer (`Attributed.error`): the departure of the sum relative to
f(x) - f(b), or to a hundredth of sum_j |a_j| where parts that cancel leave less than that.

Shapes: inputs (sample, ...), functions take points (batch, ...) and give one value for each (batch,). A method asks for
values at many points between x and b, in calls of at most `batch` points. Missing inputs (NaN) stay missing at every
point and have no part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError

Function = Callable[[Tensor], Tensor]
"""Points (batch, ...) to values (batch,)."""

# Part of the sum of sizes below which a departure from completeness is not measured against the change itself.
_CANCELLED = 0.01


@dataclass(frozen=True, eq=False)
class Attributed:
    """Parts of inputs in a change.

    Attributes:
        values: parts, like the inputs.
        change: f(x) - f(b) of each sample (sample,), the mean over baselines where there are several.
        error: relative departure from completeness of each sample (sample,), before any correction.
    """

    values: Tensor
    change: Tensor
    error: Tensor


@dataclass(frozen=True, kw_only=True)
class Attribution(ABC):
    """A way to attribute.

    Args:
        batch: most points in one call of the function.
    """

    batch: int = 256

    name: ClassVar[str]
    needs_gradients: ClassVar[bool] = False
    several: ClassVar[bool] = False
    """Whether the first dimension of its baseline numbers several, all of which count for every sample."""
    complete: ClassVar[bool] = True
    """Whether its parts sum to the change."""

    def attribute(
        self, function: Function, inputs: Tensor, baseline: Tensor, *, groups: Tensor | None = None
    ) -> Tensor:
        """Parts of the inputs, like the inputs.

        Args:
            function: points (batch, ...) to values (batch,).
            inputs: (sample, ...).
            baseline: (sample or 1, ...), or (baseline, ...) for methods with several.
            groups: numbers (...) of inputs that are changed together, for methods that change them; see `blocks`.

        Raises:
            InputError: when shapes do not fit, or the function has no gradient that a method needs.
        """
        return self.explain(function, inputs, baseline, groups=groups).values

    def explain(
        self, function: Function, inputs: Tensor, baseline: Tensor, *, groups: Tensor | None = None
    ) -> Attributed:
        """The same with the change and how completely it is attributed."""
        start = self._checked(inputs, baseline, groups)
        return self._explained(function, inputs.detach(), start.detach(), groups)

    @abstractmethod
    def _explained(self, function: Function, inputs: Tensor, baseline: Tensor, groups: Tensor | None) -> Attributed:
        """`baseline` is like the inputs, or (baseline, ...)."""

    def _checked(self, inputs: Tensor, baseline: Tensor, groups: Tensor | None) -> Tensor:
        """The baseline in the shape that the method wants."""
        known = (len(baseline),) if self.several else (1, len(inputs))
        if baseline.shape[1:] != inputs.shape[1:] or len(baseline) not in known:
            raise InputError(
                f"got a baseline of shape {tuple(baseline.shape)} for inputs {tuple(inputs.shape)}; expected "
                f"({'any number' if self.several else '1 or ' + str(len(inputs))}, then the shape of an input); "
                "reshape it"
            )
        if groups is not None and groups.shape != inputs.shape[1:]:
            raise InputError(
                f"got groups of shape {tuple(groups.shape)}; expected a number for each input, "
                f"{tuple(inputs.shape[1:])}; make them with attribution.blocks(inputs.shape[1:], size)"
            )
        return baseline if self.several else baseline.expand_as(inputs)


def blocks(shape: tuple[int, ...], size: int) -> Tensor:
    """Numbers of groups (..., h, w): squares of `size` cells, each channel by itself.

    Args:
        shape: of one input (..., h, w).
        size: cells along a side; those at the high ends of y and x may have fewer.
    """
    *lead, height, width = shape
    rows, columns = torch.arange(height) // size, torch.arange(width) // size
    plane = rows[:, None] * (int(columns[-1]) + 1) + columns
    channels = torch.arange(int(torch.tensor(lead).prod()) if lead else 1)
    return (channels[:, None, None] * (int(plane.max()) + 1) + plane).reshape(shape)


def values_at(function: Function, points: Iterator[Tensor]) -> Tensor:
    """Values of all points in double precision."""
    with torch.no_grad():
        return torch.cat([function(each).double() for each in points])


def chunks(count: int, size: int) -> Iterator[Tensor]:
    """Consecutive numbers below `count`, at most `size` at a time."""
    return iter(torch.split(torch.arange(count), max(1, size)))


def ends(function: Function, inputs: Tensor, baseline: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Values at the inputs and at the baselines."""
    at_inputs, at_baseline = (values_at(function, iter(torch.split(each, batch))) for each in (inputs, baseline))
    return at_inputs, at_baseline


def completeness(values: Tensor, change: Tensor) -> Tensor:
    """Relative departure from completeness (sample,); see the module docstring."""
    flat = values.double().flatten(1).nan_to_num(nan=0.0)
    size = torch.maximum(change.abs(), _CANCELLED * flat.abs().sum(1))
    return torch.where(size > 0, (flat.sum(1) - change).abs() / size, 0.0)


def without_missing(values: Tensor, difference: Tensor) -> Tensor:
    """Parts, none where input and baseline are the same or missing."""
    return torch.where(difference.abs() > 0, values, torch.zeros_like(values))
