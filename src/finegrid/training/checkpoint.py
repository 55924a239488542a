"""The state of a run in one safetensors file, from which it goes on as if it had never stopped.

Kept are the weights, their running average, the best average so far, the optimiser's moments, the random state and the
counters. The file replaces its predecessor in one step, so that a kill while writing costs minutes and not the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.documents import json_of, understood
from finegrid.conventions.paths import within

FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """Counters of a run: the only mutable state besides tensors.

    Attributes:
        step: steps done. steps: steps planned. seconds: time spent. best: lowest validation loss. stale: validations
            since.
    """

    steps: int
    step: int = 0
    seconds: float = 0.0
    best: float = float("inf")
    stale: int = 0


_GROUPS = ("weights", "average", "best", "moments")


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a run needs to go on."""

    progress: Progress
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    random: Tensor = field(default_factory=torch.get_rng_state)

    def copied(self) -> State:
        """The same as it is now, whatever the run does next."""
        groups = {name: {key: each.detach().clone() for key, each in getattr(self, name).items()} for name in _GROUPS}
        return State(replace(self.progress), random=self.random, **groups)


def save(state: State, folder: Path, *, fingerprint: str) -> Path:
    """Write the state; `fingerprint` identifies the job."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group in _GROUPS
        for name, tensor in getattr(state, group).items()
    }
    tensors["random"] = state.random
    temporary = folder / f".{FILE}.partial"
    counters = json.dumps(asdict(state.progress))
    save_file(tensors, temporary, metadata={"progress": counters, "fingerprint": fingerprint})
    os.replace(temporary, folder / FILE)
    return folder / FILE


def load(folder: Path, *, fingerprint: str) -> State:
    """Read the state of the same job.

    Raises:
        InputError: when there is none, it is damaged, or it belongs to another job.
    """
    path = within(folder, FILE)
    if not path.exists():
        raise InputError(
            f"there is no checkpoint in {folder}; expected {FILE} of an interrupted run; fit without resume"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and fit without resume") from None
    if metadata.get("fingerprint") != fingerprint:
        raise InputError(
            f"{path} belongs to another job: the data, the recipe or the seed have changed since; expected the same "
            "ones; "
            "fit without resume, or in another folder"
        )
    groups = {group: _group(tensors, group) for group in _GROUPS}
    with understood(path, "delete it and fit without resume"):
        progress = Progress(**json_of(metadata["progress"]))
        if not all(isinstance(each, int | float) for each in vars(progress).values()):
            raise ValueError("its counters are no numbers")
        return State(progress, random=tensors["random"], **groups)


def forget(folder: Path) -> None:
    """Remove the state of a run that nobody will go on with."""
    (folder / FILE).unlink(missing_ok=True)


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}/"): each for name, each in tensors.items() if name.startswith(f"{group}/")}
