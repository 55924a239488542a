"""Latent heads: a codec that says fine fields in few numbers, and a distribution of these numbers."""

from __future__ import annotations

from finegrid.heads.latent.codec import Codec
from finegrid.heads.latent.head import LatentHead

__all__ = ["Codec", "LatentHead"]
