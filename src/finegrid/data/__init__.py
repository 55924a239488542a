"""What is downscaled.

Files opened and written, samples, pairs of coarse and fine fields, splits, predictors, transforms.
"""

from finegrid.data import samples
from finegrid.data.adjustments import ADJUSTMENTS, Adjustment, adjustment
from finegrid.data.coarsen import coarsen
from finegrid.data.inputs import CoarseInputs
from finegrid.data.open import open_fields
from finegrid.data.pairs import Pair, pair
from finegrid.data.predictors import static_fields
from finegrid.data.splits import Blocks, split_times
from finegrid.data.transforms import TRANSFORMS, Transform
from finegrid.data.write import Writer, write

__all__ = [
    "ADJUSTMENTS",
    "TRANSFORMS",
    "Adjustment",
    "Blocks",
    "CoarseInputs",
    "Pair",
    "Transform",
    "Writer",
    "adjustment",
    "coarsen",
    "open_fields",
    "pair",
    "samples",
    "split_times",
    "static_fields",
    "write",
]
