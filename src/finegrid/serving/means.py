"""The weighted mean over coarse cells without anything that a graph cannot hold: `constraints.Aggregation`.

Blocks are means by reshaping. Cells of other shapes are rows of one length, of indices and weights, padded with zeros:
the same sums as those of a sparse matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from finegrid.bridge import BlockMean
from finegrid.constraints import SparseMean

# Entries of a row up to which they are added up one by one, which needs no memory besides.
_ONE_BY_ONE = 32


class Rows(nn.Module):
    """A sparse matrix (targets, sources) as rows of one length."""

    index: Tensor
    weight: Tensor

    def __init__(self, matrix: sparse.csr_array) -> None:
        super().__init__()
        index, weight = padded(matrix)
        self.register_buffer("index", torch.as_tensor(index), persistent=False)
        self.register_buffer("weight", torch.as_tensor(weight), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Products with values (..., sources) -> (..., targets), in their precision."""
        weight = self.weight.to(values.dtype)
        count = weight.shape[1]
        if count > _ONE_BY_ONE:
            picked = values.index_select(-1, self.index.flatten())
            return (picked.reshape(*values.shape[:-1], *self.index.shape) * weight).sum(-1)
        total = values.index_select(-1, self.index[:, 0]) * weight[:, 0]
        for entry in range(1, count):
            total = total + values.index_select(-1, self.index[:, entry]) * weight[:, entry]
        return total


def padded(matrix: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and weights (targets, entries) of a sparse matrix; what a row lacks has the weight 0."""
    matrix = sparse.csr_array(matrix)
    count = np.diff(matrix.indptr)
    width = max(1, int(count.max()))
    row = np.repeat(np.arange(len(count)), count)
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], count)
    index, weight = np.zeros((len(count), width), np.int64), np.zeros((len(count), width))
    index[row, place], weight[row, place] = matrix.indices, matrix.data
    return index, weight


class BlockRows(nn.Module):
    """`BlockMean`, without the tables that it keeps for its own use."""

    share: Tensor
    valid: Tensor
    disjoint = True
    whole = True

    def __init__(self, operator: BlockMean) -> None:
        super().__init__()
        self.factor = operator.factor
        self.register_buffer("share", operator.share.detach().cpu().clone(), persistent=False)
        self.register_buffer("valid", operator.valid.detach().cpu().clone(), persistent=False)
        self._full = bool(operator.valid.all())

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean of each block, (..., H, W) -> (..., h, w)."""
        split = self._split(fine)
        filled = split if self._full else torch.where(self.valid, split, 0.0)
        return (filled * self.share.to(fine.dtype)).sum(-3).sum(-1)

    def max(self, fine: Tensor) -> Tensor:
        """Largest valid value of each block, (..., H, W) -> (..., h, w); 0 where none is valid."""
        split = self._split(fine)
        if self._full:
            return split.amax((-3, -1))
        largest = torch.where(self.valid, split, torch.finfo(fine.dtype).min).amax((-3, -1))
        return torch.where(self.valid.any(-1).any(-2), largest, 0.0)

    def spread(self, coarse: Tensor) -> Tensor:
        """Every fine cell gets the value of its coarse cell, (..., h, w) -> (..., H, W)."""
        (fy, fx), (*lead, h, w) = self.factor, coarse.shape
        return coarse[..., :, None, :, None].expand(*lead, h, fy, w, fx).reshape(*lead, h * fy, w * fx)

    def _split(self, fine: Tensor) -> Tensor:
        (fy, fx), (*lead, height, width) = self.factor, fine.shape
        return fine.reshape(*lead, height // fy, fy, width // fx, fx)


class SharedRows(nn.Module):
    """`SparseMean` by rows of one length; its largest values are not needed."""

    touched: Tensor
    bound: Tensor

    def __init__(self, operator: SparseMean) -> None:
        super().__init__()
        self.fine, self.coarse = operator.fine, operator.coarse
        self.disjoint, self.whole = operator.disjoint, operator.whole
        self._mean, self._spread = (Rows(_csr(each._forward)) for each in (operator._mean, operator._spread))
        self.register_buffer("touched", operator.touched.cpu(), persistent=False)
        self.register_buffer("bound", (operator.weight[:, 0] > 0).reshape(operator.coarse).cpu(), persistent=False)

    def mean(self, fine: Tensor) -> Tensor:
        """Weighted mean over each coarse cell, (..., H, W) -> (..., h, w); what no cell touches may hold anything."""
        filled = fine if self.whole else torch.where(self.touched, fine, 0.0)
        mean: Tensor = self._mean(filled.flatten(-2))
        return mean.reshape(*fine.shape[:-2], *self.coarse)

    def spread(self, coarse: Tensor) -> Tensor:
        """Every fine cell gets the values of its coarse cells by its parts in them."""
        fine: Tensor = self._spread(coarse.flatten(-2))
        return fine.reshape(*coarse.shape[:-2], *self.fine)


def rows_of(operator: BlockMean | SparseMean) -> BlockRows | SharedRows:
    """The mean in a form that a graph can hold."""
    return BlockRows(operator) if isinstance(operator, BlockMean) else SharedRows(operator)


def _csr(matrix: Any) -> sparse.csr_array:
    parts = (each.cpu().numpy() for each in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    return sparse.csr_array(tuple(parts), shape=tuple(matrix.shape))
