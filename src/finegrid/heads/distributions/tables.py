"""Quantile functions that torch does not have, by tables in double precision from SciPy and straight lines between.

Both are the value at a normal score z for one shape. Logarithms are smooth where the values span many decades:

    Student-t   log(t / z)   over 1 / degrees of freedom from 0 to 1 and z from 0 to 8.5     (t is odd in z)
    gamma       log x        over log shape, shapes from 0.03 to 3000, and z from -8.5 to 8.5

Errors are below 0.1 % where it matters (tested).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.special import gammainccinv, gammaincinv, gammaln, ndtr, stdtrit
from torch import Tensor

_HIGHEST = 8.5
_SHAPES = (0.03, 3000.0)
# The smallest number of single precision: quantiles of very small shapes are nothing.
_LEAST_LOG = -87.0
# Beyond it Student's distribution is normal to single precision.
_NORMAL = 1e9


@dataclass(frozen=True, eq=False)
class _Table:
    values: Tensor
    rows: tuple[float, float]
    columns: tuple[float, float]

    def __call__(self, row: Tensor, column: Tensor) -> Tensor:
        """Bilinear; beyond the edges the value at the edge."""
        values = self.values.to(row)
        i, along = _place(row, self.rows, values.shape[0])
        j, across = _place(column, self.columns, values.shape[1])
        flat, width = values.flatten(), values.shape[1]
        first = i * width + j
        upper = torch.lerp(flat[first], flat[first + 1], across)
        lower = torch.lerp(flat[first + width], flat[first + width + 1], across)
        return torch.lerp(upper, lower, along)


def student_value(score: Tensor, degrees: Tensor) -> Tensor:
    """Value of Student's t with these degrees of freedom (at least 1) at normal scores; shapes broadcast."""
    return score * torch.exp(_student()(1 / degrees, score.abs()))


def gamma_value(score: Tensor, shape: Tensor) -> Tensor:
    """Value of a gamma variable of scale 1 at normal scores; shapes broadcast."""
    return torch.exp(_gamma()(torch.log(shape), score))


@lru_cache(maxsize=1)
def _student() -> _Table:
    inverse, score = np.linspace(0.0, 1.0, 257)[:, None], np.linspace(0.0, _HIGHEST, 513)[None]
    degrees = np.minimum(1 / np.maximum(inverse, 1 / _NORMAL), _NORMAL)
    at_zero = gammaln(degrees / 2) - gammaln((degrees + 1) / 2) + 0.5 * np.log(degrees / 2)
    values = np.where(inverse > 0, -stdtrit(degrees, ndtr(-score[:, 1:])), score[:, 1:])
    ratio = np.log(values / score[:, 1:])
    return _Table(
        torch.from_numpy(np.hstack([np.where(inverse > 0, at_zero, 0.0), ratio])), (0.0, 1.0), (0.0, _HIGHEST)
    )


@lru_cache(maxsize=1)
def _gamma() -> _Table:
    low, high = (math.log(each) for each in _SHAPES)
    shape, score = np.exp(np.linspace(low, high, 257))[:, None], np.linspace(-_HIGHEST, _HIGHEST, 513)[None]
    values = np.where(score < 0, gammaincinv(shape, ndtr(score)), gammainccinv(shape, ndtr(-score)))
    logs = np.log(np.maximum(values, math.exp(_LEAST_LOG)))
    return _Table(torch.from_numpy(logs), (low, high), (-_HIGHEST, _HIGHEST))


def _place(coordinate: Tensor, ends: tuple[float, float], size: int) -> tuple[Tensor, Tensor]:
    """Number of the knot before, and the part of the way to the next one."""
    steps = ((coordinate - ends[0]) * ((size - 1) / (ends[1] - ends[0]))).clamp(0, size - 1)
    knot = steps.nan_to_num(nan=0.0).long().clamp(max=size - 2)
    return knot, steps - knot
