"""Distances between a predicted and a true fine field, one value per sample; `base` says how they average."""

from __future__ import annotations

from finegrid.losses.base import Loss
from finegrid.losses.huber import huber
from finegrid.losses.mae import mae
from finegrid.losses.mse import mse

LOSSES: dict[str, Loss] = {"mse": mse, "mae": mae, "huber": huber}

__all__ = ["LOSSES", "Loss", "huber", "mae", "mse"]
