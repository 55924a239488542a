"""Base noises of heads, by name."""

from __future__ import annotations

from finegrid.heads.noises.base import Noise
from finegrid.heads.noises.heavy_tailed import HeavyTailed
from finegrid.heads.noises.smooth import Smooth
from finegrid.heads.noises.spherical import Spherical
from finegrid.heads.noises.white import White

NOISES: dict[str, type[Noise]] = {
    "white": White,
    "smooth": Smooth,
    "spherical": Spherical,
    "heavy-tailed": HeavyTailed,
}

__all__ = ["NOISES", "HeavyTailed", "Noise", "Smooth", "Spherical", "White"]
