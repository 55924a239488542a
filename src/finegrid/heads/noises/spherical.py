"""White noise on the sphere: as much variance in every degree's harmonics, wherever the poles are.

    e(lat, lon) = 1 / (L + 1) sum_(l <= L) sum_(m <= l) P_lm(sin lat) (a_lm cos(m lon) + b_lm sin(m lon))

with a, b ~ N(0, 1) and P_lm the associated Legendre functions of which sum_m P_lm^2 (cos^2 + sin^2) = 2 l + 1
everywhere, so that e has variance one everywhere. White noise in the cells of a latitude-longitude grid is no such
thing: its cells are narrow near the poles, and there it is finer and weaker noise than at the equator. L is the
finest degree that the grid shows.

Source: Price et al., "Probabilistic weather forecasting with machine learning" (GenCast), Nature 637, 2025,
doi:10.1038/s41586-024-08252-9; the recursion of P_lm is that of Holmes and Featherstone, Journal of Geodesy 76, 2002,
doi:10.1007/s00190-002-0216-2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.base import Place
from finegrid.heads.draws import Draws
from finegrid.heads.noises.base import Noise

# Beyond it the table of Legendre functions takes more than half a gigabyte.
_MOST_DEGREES = 360
# Part of a step by which coordinates may be rounded.
_ROUNDED = 0.02


class Spherical(Noise):
    """Normal, isotropic and white up to a degree.

    Args:
        place: the domain.
        outputs: predicted fields.
        degrees: L; None is the finest that the grid shows, at most 360.

    Raises:
        InputError: where the domain is not a latitude-longitude grid around the Earth, or cannot show so many degrees.
    """

    legendre: Tensor

    def __init__(self, place: Place, outputs: int, *, degrees: int | None = None) -> None:
        super().__init__(place, outputs)
        latitudes = _latitudes(place)
        shown = min(self.shape[0] - 1, (self.shape[1] - 1) // 2)
        if degrees is not None and not 1 <= degrees <= shown:
            raise InputError(
                f"got degrees: {degrees} for spherical noise on {self.shape[0]} x {self.shape[1]} cells; expected 1 to "
                f"{shown}, the finest that they show; leave degrees out"
            )
        self.degrees = min(shown, _MOST_DEGREES) if degrees is None else degrees
        table = legendre(latitudes, self.degrees) / (self.degrees + 1)
        self.register_buffer("legendre", table.float(), persistent=False)

    def forward(self, draws: Draws, channels: int) -> Tensor:
        count = self.degrees + 1
        numbers = draws.normal(channels, count, count, 2)
        waves = torch.einsum("ncmlp,mly->ncymp", numbers, self.legendre)
        waves = waves * torch.where(torch.arange(count, device=waves.device) > 0, 0.5, 1.0)[:, None]
        width = self.shape[1]
        # The mean along a circle of latitude has no phase: its second number is left out by the transform.
        fields: Tensor = torch.fft.irfft(torch.view_as_complex(waves.contiguous()), n=width, dim=-1, norm="forward")
        return fields


def legendre(latitudes: Tensor, degrees: int) -> Tensor:
    """Normalised associated Legendre functions (order m, degree l, latitude) in double precision, 0 where m > l."""
    up, out = torch.sin(torch.deg2rad(latitudes.double())), torch.cos(torch.deg2rad(latitudes.double()))
    table = up.new_zeros(degrees + 1, degrees + 1, len(up))
    orders = torch.arange(degrees + 1, dtype=torch.float64)[:, None]
    table[0, 0] = 1.0
    for degree in range(1, degrees + 1):
        table[degree, degree] = table[degree - 1, degree - 1] * out * _sectoral(degree)
        m, l = orders[:degree], float(degree)  # noqa: E741 - the names of the formula
        first = torch.sqrt((2 * l - 1) * (2 * l + 1) / ((l - m) * (l + m)))
        second = torch.sqrt((2 * l + 1) * (l + m - 1) * (l - m - 1) / ((2 * l - 3) * (l - m) * (l + m)))
        before = table[:degree, degree - 2] if degree > 1 else 0.0
        table[:degree, degree] = first * up * table[:degree, degree - 1] - second.nan_to_num(nan=0.0) * before
    return table


def _sectoral(degree: int) -> float:
    return math.sqrt(3.0 if degree == 1 else (2 * degree + 1) / (2 * degree))


def _latitudes(place: Place) -> Tensor:
    """Latitudes of the rows (H,) of a grid around the Earth."""
    if place.latitude is None or place.longitude is None:
        raise InputError(
            "got a domain without latitudes and longitudes for spherical noise; expected a latitude-longitude grid "
            "around the Earth; use noise: white"
        )
    latitude, longitude = place.latitude.double(), place.longitude.double()
    rows, columns = latitude[:, 0], longitude[0]
    step, turn = (rows[1:] - rows[:-1]).abs(), torch.remainder(columns[1:] - columns[:-1] + 180, 360) - 180
    straight = (latitude - rows[:, None]).abs().max() < 1e-3 and (longitude - columns).abs().max() < 1e-3
    width, height = 360 / len(columns), 180 / len(rows)
    around = len(turn) > 1 and (turn.abs() - width).abs().max() < _ROUNDED * width and step.max() < 1.5 * height
    if not (straight and around and 90 - rows.max() < 1.2 * height and 90 + rows.min() < 1.2 * height):
        raise InputError(
            f"got a domain of {len(rows)} x {len(columns)} cells from {rows.min():g} to {rows.max():g} degrees north "
            f"and {columns[0]:g} to {columns[-1]:g} degrees east for spherical noise; expected a latitude-longitude "
            "grid around the whole Earth with columns of equal width; use noise: white"
        )
    return rows
