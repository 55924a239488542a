"""Variance by scale around the whole globe: spherical harmonics.

    f(lat, lon) = sum_(l <= L) sum_(m <= l) P_lm(sin lat) (a_lm cos(m lon) + b_lm sin(m lon))
    power_l     = sum_m (a_lm^2 + b_lm^2)

with P_lm the associated Legendre functions of which sum_m P_lm^2 = 2 l + 1 everywhere. The mean of f^2 over the sphere
is then the sum of power_l, and power_0 the square of its mean. l counts waves around the globe wherever its poles are,
which a Fourier transform along the rows does not: there the same wave is shorter near the poles.

Along a row the coefficients of each m are those of the fast Fourier transform. Over the rows a_lm and b_lm are fitted
by least squares, weighted by the areas of the rows: exact for fields without waves beyond L, on any rows, Gaussian or
evenly spaced. L = min(rows - 2, (columns - 1) / 2): up to there the condition number of the fit is below two, poles
included.

The recursion of P_lm is that of Holmes and Featherstone, Journal of Geodesy 76, 2002, doi:10.1007/s00190-002-0216-2.
In double precision it holds to about l = 1900.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array
from finegrid.grids import Grid

_LEAST_ROWS = 6
# Part of a column by which longitudes may be rounded.
_ROUNDED = 0.02
# Orders whose Legendre functions are held at once: 130 MB at a quarter of a degree.
_ORDERS_AT_ONCE = 32


def is_global(grid: Grid) -> bool:
    """Whether the rows and evenly spaced columns of a latitude-longitude grid cover the whole sphere."""
    if not (grid.in_degrees and grid.periodic and min(grid.shape) >= _LEAST_ROWS):
        return False
    widths, half = np.diff(grid.x_edges), np.diff(grid.y_edges).max() / 2
    even = np.ptp(widths) < 2 * _ROUNDED * widths.mean()
    return bool(even and grid.y_edges[0] < half - 90 and grid.y_edges[-1] > 90 - half)


def most_degrees(grid: Grid) -> int:
    """L, the largest total wavenumber that a global grid shows."""
    return min(grid.shape[0] - 2, (grid.shape[1] - 1) // 2)


def spherical_power(fields: Array, grid: Grid) -> Array:
    """Mean square (..., L + 1) of complete fields (..., y, x) in each total wavenumber l = 0, ..., L.

    Raises:
        InputError: when the grid is not global.
    """
    if not is_global(grid):
        raise InputError(
            f"got a grid of {grid.shape[0]} x {grid.shape[1]} cells that does not cover the sphere; expected latitudes "
            "and evenly spaced longitudes around the whole globe; take the cosine transform "
            "(metrics.spectrum.variances) on a limited domain"
        )
    waves = np.fft.rfft(fields, axis=-1).reshape(-1, grid.shape[0], grid.shape[1] // 2 + 1) / grid.shape[1]
    power = np.zeros((len(waves), most_degrees(grid) + 1))
    for order, functions in _functions_of(grid):
        power[:, order:] += (4 if order else 1) * _fitted(functions, waves[..., order].T, grid)
    return power.reshape(*fields.shape[:-2], -1)


def _fitted(functions: Array, waves: NDArray[np.complex128], grid: Grid) -> Array:
    """Squared coefficients (field, degree) of the functions (degree, row) that come nearest to waves (row, field)."""
    weighted = functions * (grid.area[:, 0] / grid.area[:, 0].sum())
    parts = np.concatenate([waves.real, waves.imag], axis=1)
    real, imaginary = np.split(np.linalg.solve(weighted @ functions.T, weighted @ parts), 2, axis=1)
    return np.asarray((real**2 + imaginary**2).T)


def _functions_of(grid: Grid) -> Iterator[tuple[int, Array]]:
    """Each order m and its Legendre functions (degree, row) of degrees m to L."""
    degrees = most_degrees(grid)
    for start in range(0, degrees + 1, _ORDERS_AT_ONCE):
        orders = np.arange(start, min(start + _ORDERS_AT_ONCE, degrees + 1))
        table = legendre(grid.y, degrees, orders)
        yield from ((order, table[order:, index]) for index, order in enumerate(orders.tolist()))


def legendre(latitudes: Array, degrees: int, orders: NDArray[np.int64]) -> Array:
    """Normalised associated Legendre functions (degree, order, latitude) of degrees 0 to `degrees`; 0 where m > l."""
    up, first = np.sin(np.deg2rad(latitudes)), _sectoral(latitudes, degrees)[orders]
    table = np.zeros((degrees + 1, len(orders), len(up)))
    for degree in range(int(orders.min()), degrees + 1):
        near, far = _recursion(degree, orders)
        if degree > 0:
            table[degree] += near[:, None] * (up * table[degree - 1])
        if degree > 1:
            table[degree] -= far[:, None] * table[degree - 2]
        table[degree][orders == degree] = first[orders == degree]
    return table


def _sectoral(latitudes: Array, degrees: int) -> Array:
    """Functions (degree, latitude) whose order is their degree."""
    every, out = np.arange(1, degrees + 1), np.cos(np.deg2rad(latitudes))
    factors = np.sqrt(np.where(every == 1, 3.0, (2 * every + 1) / (2 * every)))[:, None] * out
    return np.concatenate([np.ones((1, len(out))), factors.cumprod(axis=0)])


def _recursion(degree: int, orders: NDArray[np.int64]) -> tuple[Array, Array]:
    """Factors of the functions one and two degrees lower, for each order; 0 where there is nothing lower."""
    l, m = float(degree), np.minimum(orders, degree - 1).astype(np.float64)  # noqa: E741 - the names of the formula
    rest = (l - m) * (l + m)
    near = np.sqrt((2 * l - 1) * (2 * l + 1) / rest) if degree > 0 else np.zeros(len(m))
    far = np.sqrt((2 * l + 1) * (l + m - 1) * (l - m - 1) / ((2 * l - 3) * rest)) if degree > 1 else np.zeros(len(m))
    return np.where(orders < degree, near, 0.0), np.where(orders < degree, far, 0.0)
