"""A calibrator in the model folder: `calibration.safetensors` and `calibration.json`, never a pickle.

A calibrator of events is `events.safetensors` and `events.json` beside it.

The description holds name and options, the variables, what the calibrator was fitted on, and the SHA-256 of the
arrays; its own SHA-256 is its last entry. Loading checks both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load as arrays_of
from safetensors.numpy import save as bytes_of

from finegrid.calibration.base import Calibrator
from finegrid.calibration.events.base import EventCalibrator
from finegrid.conventions import InputError
from finegrid.conventions.components import build
from finegrid.conventions.documents import read_json, understood
from finegrid.conventions.paths import within

VALUES, EVENTS = "calibration", "events"
FORMAT = 1
Either = TypeVar("Either", Calibrator, EventCalibrator)


def save(calibrator: Calibrator | EventCalibrator, folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Write both files; existing ones are replaced.

    Args:
        calibrator: a fitted one.
        folder: the model folder.
        facts: what it was fitted on, as plain values.
    """
    stem = EVENTS if isinstance(calibrator, EventCalibrator) else VALUES
    plain, arrays = calibrator.state()
    content = bytes_of({name: np.ascontiguousarray(each) for name, each in sorted(arrays.items())})
    described = {"format": FORMAT, "arrays": hashlib.sha256(content).hexdigest(), **plain, "facts": dict(facts)}
    described["sha256"] = _sha256(described)
    for ending, written in (("safetensors", content), ("json", json.dumps(described, indent=1).encode())):
        temporary = Path(folder) / f".{stem}.{ending}.partial"
        temporary.write_bytes(written)
        temporary.replace(Path(folder) / f"{stem}.{ending}")


def exists(folder: str | Path, stem: str = VALUES) -> bool:
    """Whether a model folder holds a calibrator."""
    return (Path(folder) / f"{stem}.json").exists()


def load(
    folder: str | Path, calibrators: Mapping[str, type[Either]], stem: str = VALUES
) -> tuple[Either, dict[str, Any]]:
    """The calibrator of a model folder, and what it was fitted on.

    Args:
        folder: the model folder.
        calibrators: those that it may be, by name.
        stem: of the files' names.

    Raises:
        InputError: when there is none, or a file was changed.
    """
    described, content = _read(Path(folder), stem)
    stated = described.pop("sha256", "")
    if _sha256(described) != stated or hashlib.sha256(content).hexdigest() != described.get("arrays"):
        raise InputError(
            f"the calibration in {folder} was changed after it was written: its SHA-256 is not the one it states; "
            "expected the files as `finegrid calibrate` wrote them; restore them from a copy, or calibrate again"
        )
    with understood(Path(folder) / f"{stem}.json", "restore it from a copy, or calibrate again"):
        if described["format"] > FORMAT:
            raise InputError(
                f"got a calibration of format {described['format']}; this finegrid reads up to {FORMAT}; upgrade "
                "finegrid"
            )
        table = {"name": described["name"], **described["options"]}
        calibrator: Either = build(table, calibrators, "calibrator")
        return calibrator.remember(described["variables"], arrays_of(content)), dict(described["facts"])


def _read(folder: Path, stem: str) -> tuple[dict[str, Any], bytes]:
    try:
        described = read_json(within(folder, f"{stem}.json"))
        if not isinstance(described, dict):
            raise ValueError("it holds no table")
        return described, within(folder, f"{stem}.safetensors").read_bytes()
    except InputError:
        raise
    except OSError:
        raise InputError(
            f"got {folder} without a calibration; expected {stem}.json and {stem}.safetensors in it; make them "
            "with `finegrid calibrate model/ --on ...`"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{folder / stem}.json is damaged ({error}); restore it from a copy, or calibrate again"
        ) from None


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
