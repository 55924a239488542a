"""Indices of the climate by name, the set of VALUE: each a statistic of a cell over time (see `base`)."""

from finegrid.evaluation.indices.base import Index
from finegrid.evaluation.indices.cycle import CYCLE, CYCLE_PHASE
from finegrid.evaluation.indices.memory import LAG1
from finegrid.evaluation.indices.moments import DEVIATION, MEAN, P02, P98, SKEWNESS
from finegrid.evaluation.indices.rain import R01, R20, R98P, R98P_MEAN, SDII
from finegrid.evaluation.indices.space import LENGTH
from finegrid.evaluation.indices.spells import DRY_SPELL, DRY_SPELL_90, WET_SPELL, WET_SPELL_90

INDICES: dict[str, Index] = {
    index.name: index
    for index in (
        *(MEAN, DEVIATION, SKEWNESS, P02, P98),
        *(R01, SDII, R20, R98P, R98P_MEAN),
        *(WET_SPELL, WET_SPELL_90, DRY_SPELL, DRY_SPELL_90),
        *(CYCLE, CYCLE_PHASE, LAG1, LENGTH),
    )
}

__all__ = ["INDICES", "Index"]
