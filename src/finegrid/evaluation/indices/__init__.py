"""Indices of the climate by name, the set of VALUE and extremes: each a statistic of a cell over time (see `base`)."""

from finegrid.evaluation.indices.base import Index
from finegrid.evaluation.indices.cycle import CYCLE, CYCLE_PHASE
from finegrid.evaluation.indices.extremes import CDD, CWD, RX1DAY, RX5DAY, TNN, TXX
from finegrid.evaluation.indices.heat import HEAT_WAVE
from finegrid.evaluation.indices.memory import LAG1
from finegrid.evaluation.indices.moments import DEVIATION, MEAN, P02, P98, SKEWNESS
from finegrid.evaluation.indices.rain import R01, R20, R98P, R98P_MEAN, SDII
from finegrid.evaluation.indices.return_levels import RETURN_LEVEL, RETURN_LEVEL_OF_PEAKS
from finegrid.evaluation.indices.space import LENGTH
from finegrid.evaluation.indices.spells import DRY_SPELL, DRY_SPELL_90, WET_SPELL, WET_SPELL_90

_VALUE = (
    *(MEAN, DEVIATION, SKEWNESS, P02, P98),
    *(R01, SDII, R20, R98P, R98P_MEAN),
    *(WET_SPELL, WET_SPELL_90, DRY_SPELL, DRY_SPELL_90),
    *(CYCLE, CYCLE_PHASE, LAG1, LENGTH),
)
_EXTREMES = (RX1DAY, RX5DAY, CDD, CWD, TXX, TNN, HEAT_WAVE, RETURN_LEVEL, RETURN_LEVEL_OF_PEAKS)

INDICES: dict[str, Index] = {index.name: index for index in (*_VALUE, *_EXTREMES)}

ALL = "all"
USUAL_INDICES = tuple(index.name for index in _VALUE)
"""Indices of a table unless others are asked for: more columns cannot be read."""

__all__ = ["ALL", "INDICES", "USUAL_INDICES", "Index"]
