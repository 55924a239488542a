"""From noise to fields in steps; `base` says what they share."""

from __future__ import annotations

from finegrid.heads.diffusion.samplers.base import Course, Sampler
from finegrid.heads.diffusion.samplers.euler import Euler
from finegrid.heads.diffusion.samplers.heun import Heun
from finegrid.heads.diffusion.samplers.multistep import Multistep

SAMPLERS: dict[str, type[Sampler]] = {"euler": Euler, "heun": Heun, "multistep": Multistep}

__all__ = ["SAMPLERS", "Course", "Euler", "Heun", "Multistep", "Sampler"]
