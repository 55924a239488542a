"""Distances between predicted and true fine fields, one value per sample; `base` says how they average.

`LOSSES` are of one prediction, `ENSEMBLE_LOSSES` of members.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from finegrid.losses.amse import amse
from finegrid.losses.base import Loss
from finegrid.losses.combined import Combined
from finegrid.losses.crps import crps
from finegrid.losses.energy import energy
from finegrid.losses.huber import huber
from finegrid.losses.increments import increment_crps
from finegrid.losses.mae import mae
from finegrid.losses.mse import mse
from finegrid.losses.scales import multi_scale_crps
from finegrid.losses.spectral import spectral
from finegrid.losses.tail import tail_crps
from finegrid.losses.variogram import variogram

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": mse, "mae": mae, "huber": huber, "amse": amse}
LOSSES["sum"] = Combined(LOSSES)

ENSEMBLE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "crps": crps,
    "multi-scale-crps": multi_scale_crps,
    "increment-crps": increment_crps,
    "tail-crps": tail_crps,
    "energy": energy,
    "variogram": variogram,
    "spectral": spectral,
}
ENSEMBLE_LOSSES["sum"] = Combined(ENSEMBLE_LOSSES)

__all__ = [
    "ENSEMBLE_LOSSES",
    "LOSSES",
    "Loss",
    "amse",
    "crps",
    "energy",
    "huber",
    "increment_crps",
    "mae",
    "mse",
    "multi_scale_crps",
    "spectral",
    "tail_crps",
    "variogram",
]
