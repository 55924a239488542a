"""The weighted mean over coarse cells of any shape: fine cells may be shared between several of them.

With a(i, j) the area that coarse cell i shares with the valid fine cell j,

    mean      (A y)_i = sum_j a(i, j) y_j / c_i,       c_i = sum_j a(i, j)
    spread    (S m)_j = sum_i a(i, j) m_i / f_j,       f_j the area of fine cell j

S is the adjoint of A in the products weighted by c and f: a fine cell of which only a part lies in a coarse cell
answers to it by that part. Constraints on shared cells are solved for one number per coarse cell (`balance`), for which
this module has the matrix

    M(d) = C A diag(d) S,      M(d)(i, k) = sum_j a(i, j) a(k, j) d_j / f_j

symmetric and, for d > 0, positive where the coarse cells differ: itself a sparse linear map of d. Inside, fields are
columns (cells, batch), on which sparse products are fastest; outside they are (..., H, W) like everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from finegrid.constraints.products import Matrix, Pairs, Product, Stiffness, scaled_rows

# Coarse cells up to which an inverse is kept, and the entry of it from which cells cannot be told apart.
_DENSE, _ILL = 1024, 1e6


class SparseMean(nn.Module):
    """An `Aggregation` over overlapping cells.

    Args:
        shared: areas (coarse cells, fine cells) that constrained coarse cells share with valid fine cells; empty rows
            for coarse cells that are not constrained.
        fine: rows and columns of the fine field.
        coarse: rows and columns of the coarse field.
        area: areas of the fine cells, in the unit of the shared ones; by default what they share in all. Where no fine
            cell is in two coarse cells it does not matter: every fine cell is all of its coarse cell's.

    Attributes:
        weight: c_i (coarse cells, 1), in units of the mean shared area.
        touched: fine cells that a constrained coarse cell touches (H, W).
        exclusive: those that only one touches (fine cells, 1).
        inverse_part: one over the part of each fine cell that lies in constrained coarse cells (fine cells, 1).
        inverse: (A S)^-1 in float64 where it is small enough and exists.
    """

    weight: Tensor
    touched: Tensor
    exclusive: Tensor
    inverse_part: Tensor

    def __init__(
        self,
        shared: sparse.csr_array,
        fine: tuple[int, int],
        coarse: tuple[int, int],
        *,
        area: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse
        self._inverses: dict[torch.dtype, Tensor] = {}
        shared = sparse.csr_array(shared, dtype=np.float64)
        unit = max(float(shared.data.mean()), 1e-300) if shared.nnz else 1.0
        shared = sparse.csr_array(shared / unit)
        cover, weight = (np.asarray(shared.sum(axis=axis)) for axis in (0, 1))
        self.disjoint = bool((np.diff(sparse.csr_array(shared.T).indptr) <= 1).all())
        self.whole = bool((cover > 0).all())
        if area is not None and not self.disjoint:
            cover = np.where(cover > 0, np.maximum(cover, area.ravel() / unit), 0.0)
        self._mean = Product(scaled_rows(shared, weight))
        self._spread = Product(scaled_rows(sparse.csr_array(shared.T), cover))
        self._matrix = Stiffness(shared, cover)
        self._pairs = Pairs(shared)
        self.register_buffer("weight", torch.as_tensor(weight)[:, None], persistent=False)
        self.register_buffer("touched", torch.as_tensor(cover > 0).reshape(fine), persistent=False)
        part = np.asarray(self._spread(torch.ones(shared.shape[0], 1, dtype=torch.float64))[:, 0])
        self.register_buffer("inverse_part", _inverted(part), persistent=False)
        single = np.asarray((shared > 0).sum(axis=0)) == 1
        self.register_buffer("exclusive", torch.as_tensor(single)[:, None], persistent=False)

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean over each coarse cell, (..., H, W) -> (..., h, w)."""
        return self.as_coarse(self.mean_of(self.fine_columns(fine)), fine)

    def max(self, fine: Tensor) -> Tensor:
        """Largest valid value that each coarse cell touches, (..., H, W) -> (..., h, w); 0 where there is none."""
        return self.as_coarse(self.max_of(self.fine_columns(fine)), fine)

    def spread(self, coarse: Tensor) -> Tensor:
        """Every fine cell gets the values of its coarse cells by its parts in them; 0 where there is none."""
        return self.as_fine(self._spread(self.coarse_columns(coarse)), coarse)

    def coarse_columns(self, fields: Tensor) -> Tensor:
        """Fields (..., y, x) as (cells, batch)."""
        return fields.reshape(-1, fields.shape[-2] * fields.shape[-1]).mT.contiguous()

    def fine_columns(self, fields: Tensor) -> Tensor:
        """The same; fine cells that no coarse cell touches may hold anything and count as 0."""
        columns = self.coarse_columns(fields)
        return columns if self.whole else torch.where(self.touched.reshape(-1, 1), columns, 0.0)

    def as_fine(self, columns: Tensor, like: Tensor) -> Tensor:
        """Columns (fine cells, batch) as a field with the leading dimensions of another."""
        return columns.mT.reshape(*like.shape[:-2], *self.fine)

    def as_coarse(self, columns: Tensor, like: Tensor) -> Tensor:
        """Columns (coarse cells, batch) likewise."""
        return columns.mT.reshape(*like.shape[:-2], *self.coarse)

    def max_of(self, columns: Tensor) -> Tensor:
        """The largest of fine columns."""
        return self._pairs.largest(columns)

    def mean_of(self, columns: Tensor) -> Tensor:
        """The mean of fine columns."""
        return self._mean(columns)

    def spread_of(self, columns: Tensor) -> Tensor:
        """The spread of coarse columns."""
        return self._spread(columns)

    def blend_of(self, columns: Tensor) -> Tensor:
        """Fine columns that are the weighted means of the coarse cells that they lie in; 0 where there is none."""
        return self._spread(columns) * self.inverse_part.to(columns)

    def mean_back(self, columns: Tensor) -> Tensor:
        """The transpose of the mean: coarse columns to fine ones."""
        return self._mean.back(columns)

    def spread_back(self, columns: Tensor) -> Tensor:
        """The transpose of the spread: fine columns to coarse ones."""
        return self._spread.back(columns)

    def stiffness(self, slope: Tensor) -> Matrix:
        """M(d) for slopes d (fine cells, batch)."""
        return self._matrix(slope)

    def inverse_as(self, like: Tensor) -> Tensor | None:
        """`inverse` in the precision of a tensor."""
        if self.inverse is not None and like.dtype not in self._inverses:
            self._inverses[like.dtype] = self.inverse.to(like.dtype)
        return self._inverses.get(like.dtype)

    @cached_property
    def inverse(self) -> Tensor | None:
        """(A S)^-1 between constrained cells, 0 elsewhere; None for many cells, or ones that cannot be told apart."""
        used = torch.nonzero(self.weight[:, 0] > 0)[:, 0]
        if not 0 < len(used) <= _DENSE:
            return None
        unit = torch.eye(len(self.weight), dtype=torch.float64, device=used.device)[:, used]
        product = self.mean_of(self.spread_of(unit.contiguous()))[used]
        solved, info = torch.linalg.inv_ex(product)
        if bool(info) or not bool(solved.abs().max() < _ILL):
            return None
        whole = torch.zeros(len(self.weight), len(self.weight), dtype=torch.float64, device=used.device)
        whole[used[:, None], used] = solved
        return whole

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseMean:
        return self  # cells do not change, and averages of networks need no cells of their own

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseMean:
        for part in (self._mean, self._spread, self._matrix, self._pairs):
            part.move(function)
        self.__dict__.pop("inverse", None)
        self._inverses.clear()
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        return self


def _inverted(part: np.ndarray) -> Tensor:
    return torch.as_tensor(np.divide(1.0, part, out=np.zeros_like(part), where=part > 0))[:, None]
