"""The first guess of a network as a function of the coarse fields that torch can differentiate.

A first guess comes from a simple downscaler, of which torch sees nothing. Where it is affine in the coarse fields, as
ridge, interpolation and the mean map are,

    g(z) = g(z0) + J (z - z0),      J_ij = (g_i(z0 + d e_j) - g_i(z0)) / d

with steps d larger than the fields vary, since an affine map knows no small ones and rounding does. J is found once and
used for all times at which it reproduces the change from the baseline to the inputs; it is found anew where it does
not, and where it then does not either the first guess is not affine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from finegrid.benchmark.attribution.base import chunks
from finegrid.conventions import InputError

Guess = Callable[[Tensor], Tensor]
"""Vectors (batch, value) to first guesses (batch, output, H, W)."""

# Steps in units of the usual change.
_STEP = 8.0
# Relative error of the change that counts as rounding.
_AFFINE = 1e-3
_AT_ONCE = 256
# Entries of J that are kept: half a gigabyte.
_MOST = 1 << 25


class AffineGuess:
    """First guesses through which gradients pass; it remembers the matrix from one time to the next."""

    def __init__(self) -> None:
        self._matrix: sparse.csr_array | None = None

    def settle(self, guess: Guess, inputs: Tensor, baseline: Tensor, usual: Tensor, name: str) -> Guess:
        """The first guess of one time, ready for gradients.

        Args:
            guess: the first guess.
            inputs: a vector (value,).
            baseline: vectors (baseline, value).
            usual: by how much each value usually differs from the baseline (value,).
            name: of the downscaler that makes it, for messages.

        Raises:
            InputError: when it is not affine between the inputs and the baselines.
        """
        if self._matrix is None or not self._holds(guess, inputs, baseline):
            self._matrix = _matrix(guess, inputs, _STEP * usual)
            if not self._holds(guess, inputs, baseline):
                raise InputError(
                    f"got a network that refines '{name}', which is not linear in the coarse fields here; expected a "
                    "linear first guess, such as ridge, or none; use --method shapley or --method occlusion, which "
                    "only need predictions"
                )
        matrix = self._matrix
        return lambda points: _Linear.apply(points, guess, matrix)  # type: ignore[no-untyped-call]

    def _holds(self, guess: Guess, inputs: Tensor, baseline: Tensor) -> bool:
        """Whether the matrix reproduces the changes from the baselines, and from half-way."""
        if self._matrix is None or self._matrix.shape[1] != inputs.numel():
            return False
        starts = torch.cat([baseline, (baseline + inputs) / 2])
        made = guess(torch.cat([inputs[None], starts])).flatten(1).double().numpy()
        change = made[:1] - made[1:]
        expected = (self._matrix @ _without_missing(inputs - starts).T).T
        size = max(np.nanmax(np.abs(change)), 1e-6 * np.nanmax(np.abs(made)))
        return bool(np.nanmax(np.abs(change - expected)) <= _AFFINE * size)


class _Linear(torch.autograd.Function):
    """The first guess with the gradient of an affine map."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, guess: Guess, matrix: sparse.csr_array) -> Tensor:
        ctx.matrix = matrix
        return guess(points.detach())

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        slope = slopes[0]
        back = (ctx.matrix.T @ slope.flatten(1).double().cpu().numpy().T).T
        return torch.from_numpy(np.ascontiguousarray(back)).to(slope), None, None


def _matrix(guess: Guess, inputs: Tensor, step: Tensor) -> sparse.csr_array:
    """J (fine value, value), some columns at a time."""
    start = guess(inputs[None]).flatten(1).double()
    columns, entries = [], 0
    for some in chunks(inputs.numel(), _AT_ONCE):
        moved = inputs.repeat(len(some), 1)
        moved[torch.arange(len(some)), some] += step[some]
        change = (guess(moved).flatten(1).double() - start) / step[some].double()[:, None]
        # What rounding leaves of a cell that nothing reaches would fill the matrix.
        change[~torch.isfinite(change)] = 0.0
        columns.append(sparse.csr_array(change.numpy()))
        entries += columns[-1].nnz
        if entries > _MOST:
            raise InputError(
                f"got {inputs.numel()} coarse values and {start.numel()} fine ones, too many to differentiate the "
                "first guess; expected a smaller domain; use --method occlusion, which only needs predictions"
            )
    return sparse.csr_array(sparse.vstack(columns).T)


def _without_missing(vectors: Tensor) -> NDArray[np.float64]:
    return vectors.double().nan_to_num(nan=0.0).numpy()
