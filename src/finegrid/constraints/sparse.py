"""The weighted mean over coarse cells of any shape: fine cells may be shared between several of them.

With a(i, j) the area that coarse cell i shares with the valid fine cell j,

    mean      (A y)_i = sum_j a(i, j) y_j / c_i,       c_i = sum_j a(i, j)
    spread    (S m)_j = sum_i a(i, j) m_i / f_j,       f_j = sum_i a(i, j)

S is the adjoint of A in the products weighted by c and f. Constraints on shared cells are solved for one number per
coarse cell (`balance`), for which this module has the matrix

    M(d) = C A diag(d) S,      M(d)(i, k) = sum_j a(i, j) a(k, j) d_j / f_j

symmetric and, for d > 0, positive where the coarse cells differ: itself a sparse linear map of d. Inside, fields are
columns (cells, batch), on which sparse products are fastest; outside they are (..., H, W) like everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

# Coarse cells up to which an inverse is kept, and the entry of it from which cells cannot be told apart.
_DENSE, _ILL = 1024, 1e6


class SparseMean(nn.Module):
    """An `Aggregation` over overlapping cells.

    Args:
        shared: areas (coarse cells, fine cells) that constrained coarse cells share with valid fine cells; empty rows
            for coarse cells that are not constrained.
        fine: rows and columns of the fine field.
        coarse: rows and columns of the coarse field.

    Attributes:
        weight: c_i (coarse cells, 1), in units of the mean shared area.
        touched: fine cells that a constrained coarse cell touches (H, W).
        exclusive: those that only one touches (fine cells, 1).
        entries: every pair of cells that share area.
        inverse: (A S)^-1 in float64 where it is small enough and exists.
    """

    weight: Tensor
    touched: Tensor
    exclusive: Tensor

    def __init__(self, shared: sparse.csr_array, fine: tuple[int, int], coarse: tuple[int, int]) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse
        self._inverses: dict[torch.dtype, Tensor] = {}
        shared = sparse.csr_array(shared, dtype=np.float64)
        shared = sparse.csr_array(shared / max(float(shared.data.mean()), 1e-300)) if shared.nnz else shared
        cover, weight = (np.asarray(shared.sum(axis=axis)) for axis in (0, 1))
        self._mean = _Pair(_scaled_rows(shared, weight))
        self._spread = _Pair(_scaled_rows(sparse.csr_array(shared.T), cover))
        self._matrix = _Stiffness(shared, cover)
        self.entries = Entries(shared, weight)
        self.disjoint = bool((np.diff(sparse.csr_array(shared.T).indptr) <= 1).all())
        self.whole = bool((cover > 0).all())
        self.register_buffer("weight", torch.as_tensor(weight)[:, None], persistent=False)
        self.register_buffer("touched", torch.as_tensor(cover > 0).reshape(fine), persistent=False)
        single = np.asarray((shared > 0).sum(axis=0)) == 1
        self.register_buffer("exclusive", torch.as_tensor(single)[:, None], persistent=False)

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean over each coarse cell, (..., H, W) -> (..., h, w)."""
        return self.as_coarse(self.mean_of(self.columns(fine)), fine)

    def max(self, fine: Tensor) -> Tensor:
        """Largest valid value that each coarse cell touches, (..., H, W) -> (..., h, w); 0 where there is none."""
        return self.as_coarse(self.max_of(self.columns(fine)), fine)

    def spread(self, coarse: Tensor) -> Tensor:
        """Every fine cell gets the mean of the coarse cells that it lies in; 0 where there is none."""
        columns = self._spread(coarse.reshape(-1, self.coarse[0] * self.coarse[1]).mT)
        return self.as_fine(columns, coarse)

    def columns(self, fields: Tensor) -> Tensor:
        """Fields (..., y, x) as (cells, batch); fine cells that no coarse cell touches count as 0."""
        columns = fields.flatten(-2).flatten(0, -2).mT
        if columns.shape[0] == self.touched.numel() and not self.whole:
            columns = torch.where(self.touched.reshape(-1, 1), columns, 0.0)
        return columns.contiguous()

    def as_fine(self, columns: Tensor, like: Tensor) -> Tensor:
        """Columns (fine cells, batch) as a field with the leading dimensions of another."""
        return columns.mT.reshape(*like.shape[:-2], *self.fine)

    def as_coarse(self, columns: Tensor, like: Tensor) -> Tensor:
        """Columns (coarse cells, batch) likewise."""
        return columns.mT.reshape(*like.shape[:-2], *self.coarse)

    def max_of(self, columns: Tensor) -> Tensor:
        """The largest of fine columns."""
        return self.entries.largest(columns)

    def mean_of(self, columns: Tensor) -> Tensor:
        """The mean of fine columns."""
        return self._mean(columns)

    def spread_of(self, columns: Tensor) -> Tensor:
        """The spread of coarse columns."""
        return self._spread(columns)

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

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseMean:
        for part in (self._mean, self._spread, self._matrix, self.entries):
            part.move(function)
        self.__dict__.pop("inverse", None)
        self._inverses.clear()
        super()._apply(function, recurse)
        return self


class Entries:
    """The pairs of a coarse and a fine cell that share area, as cells of their own: then none is in two coarse cells.

    Attributes:
        coarse: the coarse cell of each pair.
        fine: its fine cell.
    """

    def __init__(self, shared: sparse.csr_array, weight: np.ndarray) -> None:
        self.coarse = torch.as_tensor(np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr)))
        self.fine = torch.as_tensor(shared.indices.astype(np.int64))
        part = _scaled_rows(shared, weight)
        places = (part.data, np.arange(part.nnz), part.indptr)
        self._mean = _Pair(sparse.csr_array(places, shape=(shared.shape[0], part.nnz)))

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over the pairs of each coarse cell, (pairs, batch) -> (coarse cells, batch)."""
        return self._mean(values)

    def largest(self, columns: Tensor) -> Tensor:
        """The largest fine value of each coarse cell; 0 where there is none."""
        shape = self._mean.shape[0], columns.shape[1]
        start = torch.full(shape, -torch.inf, dtype=columns.dtype, device=columns.device)
        index = self.coarse[:, None].expand(-1, columns.shape[1])
        found = start.scatter_reduce(0, index, columns[self.fine], "amax")
        return torch.where(torch.isneginf(found), 0.0, found)

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        device = function(torch.empty(0)).device
        self.coarse, self.fine = self.coarse.to(device), self.fine.to(device)
        self._mean.move(function)


class Matrix:
    """One symmetric sparse matrix per column of the batch, all with the same pattern."""

    def __init__(self, values: Tensor, pattern: _Stiffness) -> None:
        self._values, self._pattern = values, pattern

    def __call__(self, columns: Tensor) -> Tensor:
        """The products with columns (coarse cells, batch)."""
        return self._pattern.row_sums(self._values * columns[self._pattern.other])

    @property
    def diagonal(self) -> Tensor:
        """The diagonals (coarse cells, batch)."""
        return self._values[self._pattern.diagonal]


class _Pair:
    """A sparse matrix and its transpose, in every dtype and on every device that is asked for."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self._forward, self._backward = _tensor(matrix), _tensor(sparse.csr_array(matrix.T))
        self._known: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, columns: Tensor) -> Tensor:
        product: Tensor = _Times.apply(columns, *self._as(columns.dtype))  # type: ignore[no-untyped-call]
        return product

    def back(self, columns: Tensor) -> Tensor:
        """The transpose times columns."""
        return self._as(columns.dtype)[1] @ columns

    @property
    def shape(self) -> torch.Size:
        return self._forward.shape

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        self._forward, self._backward = _moved(self._forward, function), _moved(self._backward, function)
        self._known.clear()

    def _as(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if dtype not in self._known:
            with _quiet():
                self._known[dtype] = (self._forward.to(dtype), self._backward.to(dtype))
        return self._known[dtype]


class _Times(torch.autograd.Function):
    """A sparse product whose gradient is the product with the transpose."""

    @staticmethod
    def forward(columns: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        return matrix @ columns

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.matrix, ctx.transpose = inputs[1], inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Once more through the function: gradients have gradients.
        return _Times.apply(gradient.contiguous(), ctx.transpose, ctx.matrix), None, None  # type: ignore[no-untyped-call]


class _Stiffness:
    """The entries of M(d) as a sparse linear map of d, and their places."""

    def __init__(self, shared: sparse.csr_array, cover: np.ndarray) -> None:
        cells = shared.shape[0]
        by_fine = sparse.csr_array(shared.T)
        one, other, fine, weight = _pairs(by_fine, cover)
        # The diagonal is there also where a coarse cell is not constrained.
        keys, place = np.unique(
            np.concatenate([one * cells + other, np.arange(cells) * (cells + 1)]), return_inverse=True
        )
        shape = (len(keys), shared.shape[1])
        entries = sparse.csr_array((weight, (place[: len(one)], fine)), shape=shape)
        rows = sparse.csr_array((np.ones(len(keys)), (keys // cells, np.arange(len(keys)))), shape=(cells, len(keys)))
        self._entries, self._rows = _Pair(entries), _Pair(rows)
        self.other = torch.as_tensor(keys % cells)
        self.diagonal = torch.as_tensor(np.searchsorted(keys, np.arange(cells) * (cells + 1)))

    def __call__(self, slope: Tensor) -> Matrix:
        return Matrix(self._entries(slope), self)

    def row_sums(self, entries: Tensor) -> Tensor:
        return self._rows(entries)

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        self._entries.move(function)
        self._rows.move(function)
        device = function(torch.empty(0)).device
        self.other, self.diagonal = self.other.to(device), self.diagonal.to(device)


def _pairs(by_fine: sparse.csr_array, cover: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every two coarse cells that share a fine cell: the two, the fine cell, and a(i, j) a(k, j) / f(j)."""
    count = np.diff(by_fine.indptr).astype(np.int64)
    fine = np.repeat(np.arange(by_fine.shape[0]), count**2)
    start = np.repeat(by_fine.indptr[:-1].astype(np.int64), count**2)
    within = np.arange(len(fine)) - np.repeat(np.cumsum(count**2) - count**2, count**2)
    first, second = start + within // count[fine], start + within % count[fine]
    weight = by_fine.data[first] * by_fine.data[second] / cover[fine]
    return by_fine.indices[first].astype(np.int64), by_fine.indices[second].astype(np.int64), fine, weight


def _scaled_rows(matrix: sparse.csr_array, total: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(matrix * np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[:, None])


def _tensor(matrix: sparse.csr_array) -> Tensor:
    with _quiet():
        return torch.sparse_csr_tensor(
            torch.as_tensor(matrix.indptr.astype(np.int64)),
            torch.as_tensor(matrix.indices.astype(np.int64)),
            torch.as_tensor(matrix.data),
            size=matrix.shape,
            check_invariants=False,
        )


def _moved(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A sparse matrix on the device that a module moves to; its dtype stays."""
    with _quiet():
        return matrix.to(function(torch.empty(0)).device)


class _quiet(warnings.catch_warnings):
    """Sparse tensors work; that their interface may change is no news to users."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        warnings.filterwarnings("ignore", message=r"Sparse (CSR tensor support|invariant checks)")
