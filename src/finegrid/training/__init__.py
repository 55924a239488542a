"""How a head is trained: settings, one loop, schedules, checkpoints, logs."""

from finegrid.training.augmentation import SYMMETRIES, Symmetry, symmetries_of
from finegrid.training.batches import Samples
from finegrid.training.device import chosen_device
from finegrid.training.divergence import Diverged
from finegrid.training.loop import Interrupted, Outcome, train
from finegrid.training.schedule import SCHEDULES
from finegrid.training.settings import Settings

__all__ = [
    "SCHEDULES",
    "SYMMETRIES",
    "Diverged",
    "Interrupted",
    "Outcome",
    "Samples",
    "Settings",
    "Symmetry",
    "chosen_device",
    "symmetries_of",
    "train",
]
