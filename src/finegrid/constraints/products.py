"""Sparse products in columns (cells, batch), with their transposes for gradients, in any dtype and on any device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

# Entries of a matrix with rows of one length, as a multiple of those that are no zeros.
_PADDED = 2


class Pairs:
    """The pairs of a coarse and a fine cell that share area."""

    def __init__(self, shared: sparse.csr_array) -> None:
        self._cells = shared.shape[0]
        self._coarse = torch.as_tensor(np.repeat(np.arange(self._cells), np.diff(shared.indptr)))
        self._fine = torch.as_tensor(shared.indices.astype(np.int64))

    def largest(self, columns: Tensor) -> Tensor:
        """The largest value of each coarse cell, (fine cells, batch) -> (coarse cells, batch); 0 of none."""
        start = torch.full((self._cells, columns.shape[1]), -torch.inf, dtype=columns.dtype, device=columns.device)
        index = self._coarse[:, None].expand(-1, columns.shape[1])
        found = start.scatter_reduce(0, index, columns[self._fine], "amax")
        return torch.where(torch.isneginf(found), 0.0, found)

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        device = function(torch.empty(0)).device
        self._coarse, self._fine = self._coarse.to(device), self._fine.to(device)


class Matrix:
    """One symmetric sparse matrix per column of the batch, all with the same pattern."""

    def __init__(self, values: Tensor, pattern: Stiffness) -> None:
        self._values, self._pattern = values, pattern

    def __call__(self, columns: Tensor) -> Tensor:
        """The products with columns (coarse cells, batch)."""
        # `index_select` does on one core what `columns[other]` wakes all of them for.
        return self._pattern.row_sums(self._values * columns.index_select(0, self._pattern.other))

    @property
    def diagonal(self) -> Tensor:
        """The diagonals (coarse cells, batch)."""
        return self._values.index_select(0, self._pattern.diagonal)

    def plus(self, diagonal: Tensor) -> Matrix:
        """The same with something added to the diagonals (coarse cells, batch)."""
        return Matrix(self._values.index_add(0, self._pattern.diagonal, diagonal), self._pattern)


class Product:
    """A sparse matrix and its transpose, in every dtype and on the device that is asked for."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self._forward, self._backward = _tensor(matrix), _tensor(sparse.csr_array(matrix.T))
        self._known: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, columns: Tensor) -> Tensor:
        forward, backward = self._as(columns.dtype)
        if not (torch.is_grad_enabled() and columns.requires_grad):
            return forward @ columns
        product: Tensor = _Times.apply(columns, forward, backward)  # type: ignore[no-untyped-call]
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


class Stiffness:
    """M(d) of `sparse`: its entries as a sparse linear map of d, and their places."""

    def __init__(self, shared: sparse.csr_array, cover: np.ndarray) -> None:
        cells = shared.shape[0]
        by_fine = sparse.csr_array(shared.T)
        one, other, fine, weight = _pairs(by_fine, cover)
        # The diagonal is there also where a coarse cell is not constrained.
        keys, place = np.unique(
            np.concatenate([one * cells + other, np.arange(cells) * (cells + 1)]), return_inverse=True
        )
        row, count = keys // cells, np.bincount(keys // cells, minlength=cells)
        # Rows of one length, where that adds few zeros: sums of a dense array are several times faster.
        self._width = int(count.max()) if cells * count.max() <= _PADDED * len(keys) else None
        first = np.cumsum(count) - count
        index = np.arange(len(keys)) + ((np.arange(cells) * self._width - first)[row] if self._width else 0)
        size = cells * self._width if self._width else len(keys)
        shape = (size, shared.shape[1])
        self._entries = Product(sparse.csr_array((weight, (index[place[: len(one)]], fine)), shape=shape))
        self._rows = Product(sparse.csr_array((np.ones(len(keys)), (row, index)), shape=(cells, size)))
        others = np.zeros(size, dtype=np.int64)
        others[index] = keys % cells
        self.other = torch.as_tensor(others)
        self.diagonal = torch.as_tensor(index[np.searchsorted(keys, np.arange(cells) * (cells + 1))])

    def __call__(self, slope: Tensor) -> Matrix:
        return Matrix(self._entries(slope), self)

    def row_sums(self, entries: Tensor) -> Tensor:
        """Sums of the entries of every row."""
        if self._width is None:
            return self._rows(entries)
        return entries.reshape(-1, self._width, entries.shape[1]).sum(1)

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


def scaled_rows(matrix: sparse.csr_array, total: np.ndarray) -> sparse.csr_array:
    """The matrix with its rows divided by their totals; empty ones stay empty."""
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

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message=r"Sparse (CSR tensor support|invariant checks)")
