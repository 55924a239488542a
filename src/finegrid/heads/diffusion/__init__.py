"""Diffusion: levels of noise, the denoiser, samplers, and the head; `walk` and `stepped` serve flow matching too."""

from __future__ import annotations

from finegrid.heads.diffusion.head import DiffusionHead
from finegrid.heads.diffusion.levels import Levels
from finegrid.heads.diffusion.network import NumberedNetwork
from finegrid.heads.diffusion.samplers import SAMPLERS
from finegrid.heads.diffusion.walk import Walk

__all__ = ["SAMPLERS", "DiffusionHead", "Levels", "NumberedNetwork", "Walk"]
