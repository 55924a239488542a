"""Whether new input is like that from which a model has learnt."""

from finegrid.evaluation.guard.alignment import Alignment
from finegrid.evaluation.guard.guard import Guard
from finegrid.evaluation.guard.verdict import Verdict

__all__ = ["Alignment", "Guard", "Verdict"]
