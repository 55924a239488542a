"""Tasks with fixed data and splits, and methods run on them."""

from finegrid.benchmark.results import Result, ranked, write
from finegrid.benchmark.run import run
from finegrid.benchmark.task import Task
from finegrid.benchmark.tasks import TASKS, find_task
from finegrid.benchmark.trials import Trial

__all__ = ["TASKS", "Result", "Task", "Trial", "find_task", "ranked", "run", "write"]
