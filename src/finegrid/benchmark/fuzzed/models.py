"""What finegrid writes and reads again: models and what lies beside them, unfinished jobs, boards of scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finegrid.benchmark.fuzzed.base import Reader, small_fields
from finegrid.benchmark.leaderboard import Entry, Leaderboard
from finegrid.calibration import CALIBRATORS, EVENT_CALIBRATORS
from finegrid.calibration import store as calibrations
from finegrid.data.coarsen import coarsen
from finegrid.downscalers import BoostedTrees, Downscaler, NeuralDownscaler, Ridge, load
from finegrid.pipeline.card import card
from finegrid.pipeline.costs import cost_of, remember
from finegrid.pipeline.guarding import guard_of, learn
from finegrid.pipeline.manifest import Manifest, Record, differences
from finegrid.training import Settings
from finegrid.training.checkpoint import Progress, State, save
from finegrid.training.checkpoint import load as load_state

_NETWORK = {"name": "resnet", "width": 4, "depth": 1, "embedding": 0}


def _saved(make: Callable[[], Downscaler], *, guard: bool = False) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        fine = small_fields(times=40)[["tas"]]
        model = make().fit(coarsen(fine, 4), fine)
        model.save(path)
        if guard:
            learn(model, coarsen(fine, 4), path, seasonal=False)
        return path

    return made


def _ridge() -> Downscaler:
    return Ridge(half_widths=(1,), penalties=(1.0,))


def _network() -> Downscaler:
    return NeuralDownscaler(backbone=_NETWORK, settings=Settings(budget=None, steps=2, batch=8, device="cpu"))


def _used(path: Path) -> str:
    model = load(path)
    guard_of(path, model)
    made = model.predict(coarsen(small_fields()[["tas"]], 4))
    return str(np.asarray(made.tas.values).tobytes().hex()[:4000])


def _loaded(path: Path) -> str:
    model = load(path)
    guard_of(path, model)
    return model.digest


def _sealed(folder: Path) -> None:
    """Checksums as they should be, of files that may be damaged."""
    for path in folder.glob("*.json"):
        stem = "weights" if path.stem == "model" else path.stem
        content = folder / f"{stem}.safetensors"
        try:
            values = json.loads(path.read_bytes())
            values["weights" if path.stem == "model" else "arrays"] = hashlib.sha256(content.read_bytes()).hexdigest()
            values.pop("sha256", None)
            values["sha256"] = hashlib.sha256(json.dumps(values).encode()).hexdigest()
            path.write_text(json.dumps(values), encoding="utf-8")
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            continue


def _calibration(path: Path) -> Path:
    truth = small_fields(times=200)[["tas"]]
    drawn = truth.expand_dims(member=5) + np.random.default_rng(0).normal(size=(5, 1, 1, 1))
    drawn = drawn.transpose("member", "time", ...)
    path.mkdir(parents=True)
    facts = {"model": "none", "period": "2001", "guarantee": ""}
    calibrations.save(CALIBRATORS["recalibration"]().fit(drawn, truth), path, facts)
    level = float(truth.tas.quantile(0.7))
    calibrations.save(EVENT_CALIBRATORS["isotonic"]().fit(drawn, truth, {"tas": [level]}), path, facts)
    return path


def _calibrated(path: Path) -> str:
    first, _ = calibrations.load(path, CALIBRATORS)
    second, _ = calibrations.load(path, EVENT_CALIBRATORS, calibrations.EVENTS)
    told = []
    for settings, arrays in (first.state(), second.state()):
        told += [
            settings,
            sorted((name, hashlib.sha256(values.tobytes()).hexdigest()) for name, values in arrays.items()),
        ]
    return str(told)


def _carded(path: Path) -> Path:
    _saved(_ridge)(path)
    row = {"variable": "tas", "metric": "rmse", "method": "ridge", "value": 0.4, "units": "K", "low": 0.3, "high": 0.5}
    told: dict[str, Any] = {
        "verdict": "better",
        "split": "last fifth",
        "scores": [row, {**row, "method": "bicubic"}],
        "notes": ["one"],
    }
    told |= {"method": "ridge", "cost": {"seconds": 1.0}}
    (path / "scores.json").write_text(json.dumps(told), encoding="utf-8")
    return path


def _cost(path: Path) -> Path:
    path.mkdir(parents=True)
    remember(path / "out.nc", 3.0)
    return path


def _unfinished(path: Path) -> Path:
    path.mkdir(parents=True)
    manifest = Manifest(path, {"model": {"digest": "abc"}, "blocks": {"steps": 3}}, [["a.nc", 3, 4]], 5)
    manifest.write()
    for number in range(4):
        manifest.add(Record(number, {"tas": 123456789 + number}, 987654321, (0.1, 0, 16)))
    return path


def _resumed(path: Path) -> Any:
    found = Manifest.read(path)
    if found is None:
        return None
    told = differences(found.identity, {"model": {"digest": "other"}, "blocks": 4})
    return found.run, told, sorted(found.records)


def _state(path: Path) -> Path:
    import torch

    weights = {"w": torch.ones(3)}
    save(State(Progress(steps=3), weights, weights, {}), path, fingerprint="job")
    return path


def _leaderboard(path: Path) -> Path:
    target = path.with_suffix(".json")
    score = {"value": 1.0, "low": 0.5, "high": 1.5, "units": "K"}
    Leaderboard((Entry("task", "last fifth", "ridge", {"tas": {"rmse": score}}),)).write(target)
    return target


def _read_board(path: Path) -> str:
    board = Leaderboard.read(path)
    board.write(path)
    return board.markdown()


MODELS: dict[str, Reader] = {
    "model": Reader(_saved(_ridge, guard=True), _used, checked=True),
    "network": Reader(_saved(_network), _used, checked=True),
    "model-sealed": Reader(_saved(_ridge, guard=True), _loaded, seal=_sealed),
    "trees-sealed": Reader(_saved(lambda: BoostedTrees(trees=3)), _loaded, seal=_sealed),
    "network-sealed": Reader(_saved(_network), _loaded, seal=_sealed),
    "calibration": Reader(_calibration, _calibrated, checked=True),
    "calibration-sealed": Reader(_calibration, _calibrated, seal=_sealed),
    "checkpoint": Reader(_state, lambda path: load_state(path, fingerprint="job").progress),
    "card": Reader(_carded, card, only="scores.json"),
    "cost": Reader(_cost, lambda path: cost_of(path / "out.nc", 3, 1)),
    "unfinished-job": Reader(_unfinished, _resumed),
    "leaderboard": Reader(_leaderboard, _read_board),
}
