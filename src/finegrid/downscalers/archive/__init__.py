"""Learning from archives that are larger than memory: statistics in one pass, then patches that a thread reads ahead.

blocks     pieces of an archive as it is stored, read one ahead of the other
survey     one pass: missing cells, extremes, climatology, and the weights of a ridge regression (`normal`)
patches    what a training step sees: a window of the domain at some times, out of a shard in memory
learning   how a network learns from them
"""

from __future__ import annotations

from finegrid.downscalers.archive.learning import learn_from_archive, placeless
from finegrid.downscalers.archive.survey import fit_in_pieces

__all__ = ["fit_in_pieces", "learn_from_archive", "placeless"]
