"""What is fuzzed: every reader of files that others may have made."""

from finegrid.benchmark.fuzzed.base import Reader
from finegrid.benchmark.fuzzed.files import FILES
from finegrid.benchmark.fuzzed.folders import FOLDERS
from finegrid.benchmark.fuzzed.models import MODELS

READERS: dict[str, Reader] = {**FILES, **MODELS, **FOLDERS}

__all__ = ["READERS", "Reader"]
