"""Distributions over fine fields, each owning its network; `base` says what they share."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.heads.base import Conditions, Head, Place
from finegrid.heads.point import PointHead

HEADS: dict[str, Callable[..., Head]] = {"point": PointHead}

__all__ = ["HEADS", "Conditions", "Head", "Place", "PointHead"]
