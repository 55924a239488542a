"""A calibrator in the model folder: `calibration.safetensors` and `calibration.json`, never a pickle.

The description holds name and options, the variables, what the calibrator was fitted on, and the SHA-256 of the
arrays; its own SHA-256 is its last entry. Loading checks both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as arrays_of
from safetensors.numpy import save as bytes_of

from finegrid.calibration.base import Calibrator
from finegrid.conventions import InputError
from finegrid.conventions.components import build

ARRAYS, DESCRIPTION = "calibration.safetensors", "calibration.json"
FORMAT = 1


def save(calibrator: Calibrator, folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Write both files; existing ones are replaced.

    Args:
        calibrator: a fitted one.
        folder: the model folder.
        facts: what it was fitted on, as plain values.
    """
    plain, arrays = calibrator.state()
    content = bytes_of({name: np.ascontiguousarray(each) for name, each in sorted(arrays.items())})
    described = {"format": FORMAT, "arrays": hashlib.sha256(content).hexdigest(), **plain, "facts": dict(facts)}
    described["sha256"] = _sha256(described)
    for name, written in ((ARRAYS, content), (DESCRIPTION, json.dumps(described, indent=1).encode())):
        temporary = Path(folder) / f".{name}.partial"
        temporary.write_bytes(written)
        temporary.replace(Path(folder) / name)


def exists(folder: str | Path) -> bool:
    """Whether a model folder holds a calibrator."""
    return (Path(folder) / DESCRIPTION).exists()


def load(folder: str | Path, calibrators: Mapping[str, type[Calibrator]]) -> tuple[Calibrator, dict[str, Any]]:
    """The calibrator of a model folder, and what it was fitted on.

    Raises:
        InputError: when there is none, or a file was changed.
    """
    described, content = _read(Path(folder))
    stated = described.pop("sha256", "")
    if _sha256(described) != stated or hashlib.sha256(content).hexdigest() != described["arrays"]:
        raise InputError(
            f"the calibration in {folder} was changed after it was written: its SHA-256 is not the one it states; "
            "expected the files as `finegrid calibrate` wrote them; restore them from a copy, or calibrate again"
        )
    if described["format"] > FORMAT:
        raise InputError(
            f"got a calibration of format {described['format']}; this finegrid reads up to {FORMAT}; upgrade finegrid"
        )
    table = {"name": described["name"], **described["options"]}
    calibrator: Calibrator = build(table, calibrators, "calibrator")
    return calibrator.remember(described["variables"], arrays_of(content)), described["facts"]


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        return json.loads((folder / DESCRIPTION).read_text()), (folder / ARRAYS).read_bytes()
    except OSError:
        raise InputError(
            f"got {folder} without a calibration; expected {DESCRIPTION} and {ARRAYS} in it; make them with "
            "`finegrid calibrate model/ --on ...`"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{folder / DESCRIPTION} is damaged ({error}); restore it from a copy, or calibrate again"
        ) from None


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
