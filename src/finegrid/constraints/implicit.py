"""Linear systems of the balance, and the gradient of its solution.

For y = psi(S m) with A y = x (`balance`), g the gradient of y, and w with M(psi') w = S^T psi' g, the gradient of x is
C w, and raw values see g - A^T C w through psi at a fixed shift.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finegrid.constraints.products import Matrix
from finegrid.constraints.sparse import SparseMean

_MOST_PRODUCTS = 60


def conjugate_gradients(
    matrix: Matrix, right: Tensor, active: Tensor, tolerance: float, guess: Tensor | None = None
) -> Tensor:
    """The solution of M x = right on the active cells, preconditioned by the diagonal."""
    diagonal = matrix.diagonal
    usable = active & (diagonal > 0)
    inverse = torch.where(usable, 1 / torch.where(usable, diagonal, 1.0), 0.0)
    right = torch.where(usable, right, 0.0)
    solution = torch.zeros_like(right) if guess is None else torch.where(usable, guess, 0.0)
    residual = right if guess is None else right - torch.where(usable, matrix(solution), 0.0)
    # A column that is done stays as it is, whatever the others still need.
    goal = tolerance**2 * (right * inverse * right).sum(0)
    direction = near = inverse * residual
    size = (residual * near).sum(0)
    for _ in range(_MOST_PRODUCTS):
        going = size > goal
        if not bool(going.any()):
            break
        product = torch.where(usable, matrix(direction), 0.0)
        curvature = (direction * product).sum(0)
        usual = going & (curvature > 0)
        rate = torch.where(usual, size / torch.where(usual, curvature, 1.0), 0.0)
        solution, residual = solution + rate * direction, residual - rate * product
        near = inverse * residual
        smaller = (residual * near).sum(0)
        direction = near + torch.where(size > 0, smaller / torch.where(size > 0, size, 1.0), 0.0) * direction
        size = smaller
    return solution


class Implicit(torch.autograd.Function):
    """The values as they are, with the gradient that balances them."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, coarse: Tensor, slope: Tensor, operator: SparseMean, active: Tensor, tolerance: float
    ) -> Tensor:
        ctx.save_for_backward(slope, active)
        ctx.operator, ctx.tolerance = operator, tolerance
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        (slope, active), operator = ctx.saved_tensors, ctx.operator
        right = operator.spread_back(slope * gradient)
        guess = _guess(right, slope, operator)
        solution = conjugate_gradients(operator.stiffness(slope), right, active, ctx.tolerance, guess)
        weighed = operator.weight.to(solution) * solution
        return gradient - operator.mean_back(weighed), weighed, None, None, None, None


def _guess(right: Tensor, slope: Tensor, operator: SparseMean) -> Tensor | None:
    """The solution if the slopes were the same in every coarse cell and its neighbours."""
    inverse = operator.inverse_as(right)
    if inverse is None:
        return None
    steep = operator.mean_of(slope).sqrt()
    scale = torch.where(steep > 0, 1 / torch.where(steep > 0, steep, 1.0), 0.0)
    weight = operator.weight.to(right)
    lacking = torch.where(weight > 0, scale * right / torch.where(weight > 0, weight, 1.0), 0.0)
    return scale * (inverse @ lacking)
