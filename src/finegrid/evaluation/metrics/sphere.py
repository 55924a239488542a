"""Variance by scale around the whole globe: spherical harmonics.

    f(lat, lon) = sum_(l <= L) sum_(m <= l) P_lm(sin lat) (a_lm cos(m lon) + b_lm sin(m lon))
    power_l     = sum_m (a_lm^2 + b_lm^2)

with P_lm the associated Legendre functions of which sum_m P_lm^2 = 2 l + 1 everywhere. The mean of f^2 over the sphere
is then the sum of power_l, and power_0 the square of its mean. l counts waves around the globe wherever its poles are,
which a Fourier transform along the rows does not: there the same wave is shorter near the poles.

Along a row the coefficients of each m are those of the fast Fourier transform. Over the rows a_lm and b_lm are fitted
by least squares, weighted by the areas of the rows: exact for fields without waves beyond L, on any rows, Gaussian or
evenly spaced. L = min(rows - 2, (columns - 1) / 2): up to there the condition number of the fit is below two, poles
included. Where rows lie mirrored at the equator, the functions are even or odd there, and the sums and differences of
both hemispheres are fitted apart: an eighth of the products. What does not depend on the fields is kept for two grids
of up to 256 degrees; that of a quarter of a degree would take more than a gigabyte, and is made anew for each call.

The recursion of P_lm is that of Holmes and Featherstone, Journal of Geodesy 76, 2002, doi:10.1007/s00190-002-0216-2.
In double precision it holds to about l = 1900.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array
from finegrid.grids import Grid

_LEAST_ROWS = 6
# Part of a column by which longitudes may be rounded.
_ROUNDED = 0.02
# Orders whose Legendre functions are held at once: 70 MB at a quarter of a degree.
_ORDERS_AT_ONCE = 32
# Degrees up to which fits are kept from call to call: 50 MB for a grid.
_KEPT_DEGREES = 256


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
    for fit in _fits(grid):
        power[:, fit.degrees] += (4 if fit.order else 1) * fit.squares(waves[..., fit.order].T)
    return power.reshape(*fields.shape[:-2], -1)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Least squares of the Legendre functions of one order.

    Attributes:
        order: m.
        degrees: l of the functions, from the lowest in steps.
        parity: 1 for functions that are even at the equator, -1 for odd ones, 0 where rows are not mirrored there.
        weights: square roots of the weights of the rows (row,), of one hemisphere where there is a parity.
        functions: times these (degree, row).
        factor: Cholesky factor of their products (degree, degree), lower.
    """

    order: int
    degrees: slice
    parity: int
    weights: Array
    functions: Array
    factor: Array

    def squares(self, waves: NDArray[np.complex128]) -> Array:
        """Squared coefficients (field, degree) of the functions that come nearest to waves (row, field)."""
        both = (waves + self.parity * waves[::-1]) / 2 if self.parity else waves
        weighted = both[: len(self.weights)] * self.weights[:, None]
        projected = self.functions @ np.concatenate([weighted.real, weighted.imag], axis=1)
        real, imaginary = np.split(cho_solve((self.factor, True), projected, check_finite=False), 2, axis=1)
        return np.asarray((real**2 + imaginary**2).T)


def _fits(grid: Grid) -> Iterable[_Fit]:
    """The fits of all orders."""
    return _kept_fits(grid) if most_degrees(grid) <= _KEPT_DEGREES else _made_fits(grid)


@lru_cache(maxsize=2)
def _kept_fits(grid: Grid) -> tuple[_Fit, ...]:
    return tuple(_made_fits(grid))


def _made_fits(grid: Grid) -> Iterator[_Fit]:
    degrees, latitudes, area = most_degrees(grid), grid.y, grid.area[:, 0] / grid.area[:, 0].sum()
    mirrored = np.allclose(latitudes, -latitudes[::-1]) and np.allclose(area, area[::-1])
    if mirrored:
        latitudes, area = latitudes[: -(-len(area) // 2)], (area + area[::-1])[: -(-len(area) // 2)]
        area[len(grid.y) // 2 :] /= 2  # a row on the equator is its own image
    for start in range(0, degrees + 1, _ORDERS_AT_ONCE):
        orders = np.arange(start, min(start + _ORDERS_AT_ONCE, degrees + 1))
        table = legendre(latitudes, degrees, orders)
        table *= np.sqrt(area)
        for index, order in enumerate(orders.tolist()):
            for first, parity in ((order, 1), (order + 1, -1)) if mirrored else ((order, 0),):
                chosen = slice(first, None, 2 if mirrored else 1)
                functions = table[chosen, index]
                if len(functions):
                    factor, _ = cho_factor(functions @ functions.T, lower=True, overwrite_a=True, check_finite=False)
                    yield _Fit(order, chosen, parity, np.sqrt(area), functions, factor)


def legendre(latitudes: Array, degrees: int, orders: NDArray[np.int64]) -> Array:
    """Normalised associated Legendre functions (degree, order, latitude) of degrees 0 to `degrees`; 0 where m > l."""
    up, first = np.sin(np.deg2rad(latitudes)), _sectoral(latitudes, degrees)[orders]
    # In memory the functions of one order lie together, as they are used.
    table = np.zeros((len(orders), degrees + 1, len(up))).swapaxes(0, 1)
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
