"""Fits and benchmarks that are killed at random moments, and what the same command makes of them afterwards."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from finegrid.benchmark.faults import task_at_hand
from finegrid.benchmark.figures import Bench, Figure
from finegrid.data import write
from finegrid.pipeline.workplace import unfinished

_KILLS = 10
_STEPS, _CHECKPOINTS = 150, 0.01


def fits(bench: Bench) -> list[Figure]:
    """`finegrid fit` killed at random moments, then `--resume`: the weights, and the scores that go with them."""
    folder = bench.out / "fault-fits"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task = task_at_hand()
    coarse, fine = task.material().at(task.material().learning)
    for name, fields in (("coarse", coarse), ("fine", fine)):
        write(fields, folder / f"{name}.nc")
    names = ", ".join(task.variables)
    (folder / "recipe.yaml").write_text(
        f"data: {{coarse: {folder / 'coarse.nc'}, fine: {folder / 'fine.nc'}, variables: [{names}]}}\n"
        "downscaler: {name: neural, backbone: {name: resnet, width: 16}, mean: {name: ridge}}\n"
        f"training: {{budget: null, steps: {_STEPS}, batch: 16, checkpoint_minutes: {_CHECKPOINTS}}}\n"
    )
    command = [sys.executable, "-m", "finegrid", "fit", str(folder / "recipe.yaml"), "--resume", "--out"]
    whole, part = folder / "whole", folder / "part"
    seconds = _timed([*command, str(whole)])
    chance, same, kept = random.Random(0), [], []
    for _ in range(_KILLS):
        _killed([*command, str(part)], chance.uniform(0, seconds))
        kept.append((unfinished(part) / "checkpoint.safetensors").exists())
        subprocess.run([*command, str(part)], check=True, capture_output=True)
        same.append(_weights(part) == _weights(whole) and _scores(part) == _scores(whole))
        bench.say(f"killed {'after' if kept[-1] else 'before'} a checkpoint: {'the same' if same[-1] else 'DIFFERS'}")
        shutil.rmtree(part)
    words = f"{sum(same)} of {_KILLS} the same weights and scores; {sum(kept)} were killed after a checkpoint"
    return [Figure("fit killed at random moments, then --resume", "the same bits", words, all(same))]


def benchmarks(bench: Bench) -> list[Figure]:
    """`finegrid benchmark` killed at random moments, then given again: the scores."""
    folder = bench.out / "fault-benchmarks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asked = [task_at_hand().name, "--methods", "bicubic,ridge,resnet-on-ridge", "--steps", "60", "--out"]
    command = [sys.executable, "-m", "finegrid", "benchmark", *asked]
    whole, part = folder / "whole", folder / "part"
    seconds = _timed([*command, str(whole)])
    chance, same = random.Random(0), []
    for _ in range(_KILLS):
        _killed([*command, str(part)], chance.uniform(0, seconds))
        subprocess.run([*command, str(part)], check=True, capture_output=True)
        same.append(_results(part) == _results(whole))
        bench.say("the same" if same[-1] else "DIFFERS")
        shutil.rmtree(part)
    words = f"{sum(same)} of {_KILLS} the same scores"
    return [Figure("benchmark killed at random moments, then given again", "the same scores", words, all(same))]


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _killed(command: list[str], after: float) -> None:
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=silent, stderr=silent) as run:
        with suppress(subprocess.TimeoutExpired):
            run.wait(after)
        run.send_signal(signal.SIGKILL)


def _weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def _scores(folder: Path) -> Any:
    """What was found, without what a clock or a meter says."""
    return _without(json.loads((folder / "scores.json").read_text(encoding="utf-8")))


def _results(folder: Path) -> list[Any]:
    return [_without(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


_BY_THE_CLOCK = ("seconds", "memory", "created", "cost", "written", "date", "machine")


def _without(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without(each) for key, each in values.items() if not any(word in key for word in _BY_THE_CLOCK)}
    return [_without(each) for each in values] if isinstance(values, list) else values
