"""How many bits of the truth an ensemble leaves to be told: the logarithmic score of its members, dressed.

    code-length    <-log2 p(k)>,    k = round((t - t_min) / q),    q = (t_max - t_min) / 1000

The truth t is one of the K = 1001 steps k of its own range. p is the chance that the ensemble gives to it: a normal
distribution with the mean of its M members and the deviation that one more draw would have, and a 256th of the chance
evenly over all steps (`code_models`, with the formula). An ideal coder that knows the prediction needs so many bits a
value to write the truth down without loss to that quantum (`evaluation.code_length` does it): evenly spread chances
need 9.97, a normal error of ten quanta 5.4, and what is certain none. Half the error is worth one bit.

The score is proper for the dressed distribution: no ensemble can gain by saying anything else than it believes. Unlike
the CRPS it is harsh to surprises, and blind to how far off they are beyond some deviations.

One member says nothing about its spread: its score is NaN. So is that of a constant truth, which has no range.

Sources: Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x; Roulston and Smith 2002,
doi:10.1175/1520-0493(2002)130<1653:EPFUIT>2.0.CO;2; Deletang et al. 2024, arXiv:2309.10668.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.code_models import chances_of, dressing
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import first

STEPS = 1000
"""Quanta in the range of the truth."""


def code_lengths_of_cells(block: Block) -> Array:
    """Bits of each point (1, time, y, x)."""
    lowest, extent = block.reference.lowest, block.reference.highest - block.reference.lowest
    known = block.known & np.isfinite(block.mean)
    if len(block.prediction) < 2 or not extent > 0:
        return np.full((1, *block.truth.shape), np.nan)
    quantum = extent / STEPS
    mean, deviation = dressing(block.prediction, lowest, quantum)
    symbols = np.rint(np.where(known, block.truth - lowest, 0.0) / quantum).astype(np.int64)
    return np.where(known, -np.log2(chances_of(symbols, mean, deviation, STEPS + 1)), np.nan)[None]


CODE_LENGTH = Metric("code-length", "code length in bits", code_lengths_of_cells, first, of_members=True, cellwise=True)
