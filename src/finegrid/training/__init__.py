"""How a head is trained: settings, one loop, schedules, checkpoints, logs."""

from finegrid.training.batches import Samples
from finegrid.training.loop import Interrupted, Outcome, chosen_device, train
from finegrid.training.schedule import SCHEDULES
from finegrid.training.settings import Settings

__all__ = ["SCHEDULES", "Interrupted", "Outcome", "Samples", "Settings", "chosen_device", "train"]
