"""Variance by scale as tensors: cosine transform and rings of wavenumbers, as `evaluation` has them for arrays.

The orthonormal transform of type II of a field f of M x N cells is C_M f C_N', with

    C_N[k, i] = sqrt((1 or 2) / N) cos(pi k (i + 1/2) / N)          (1 for k = 0)

On a limited domain it does not leak large scales into small ones as the Fourier transform does (Denis, Cote and
Laprise 2002, doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2). Matrix products are quick for the sizes of patches
and regions. Rings are one wavenumber of the shorter side wide: a(m, n) = sqrt((m / M)^2 + (n / N)^2), ring = 1 +
floor(a min(M, N)), and ring 0 is the mean alone.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def cosine_transform(fields: Tensor) -> Tensor:
    """Coefficients (..., M, N) of complete fields (..., M, N)."""
    rows, columns = (basis(size).to(fields) for size in fields.shape[-2:])
    return rows @ fields @ columns.mT


def inverse_cosine_transform(coefficients: Tensor) -> Tensor:
    """Fields (..., M, N) of coefficients (..., M, N)."""
    rows, columns = (basis(size).to(coefficients) for size in coefficients.shape[-2:])
    return rows.mT @ coefficients @ columns


def rings_of(shape: tuple[int, int]) -> Tensor:
    """Number of the ring of each wavenumber (M, N)."""
    rows, columns = (torch.arange(size, dtype=torch.float64) / size for size in shape)
    rings = 1 + torch.floor(torch.hypot(rows[:, None], columns[None]) * min(shape) + 1e-9).long()
    rings[0, 0] = 0
    return rings


def ring_sums(values: Tensor, rings: Tensor) -> Tensor:
    """Sums over the wavenumbers of each ring (..., ring)."""
    summed = values.new_zeros(*values.shape[:-2], int(rings.max()) + 1)
    return summed.index_add(-1, rings.to(values.device).flatten(), values.flatten(-2))


@lru_cache(maxsize=64)
def basis(size: int) -> Tensor:
    """C_N in double precision (wavenumber, cell)."""
    order, cell = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    waves = math.sqrt(2 / size) * torch.cos(math.pi * order * (cell + 0.5) / size)
    waves[0] /= math.sqrt(2)
    return waves
