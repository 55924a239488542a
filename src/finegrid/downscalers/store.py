"""The model folder: `weights.safetensors` and `model.json`, never a pickle.

`model.json` holds the kind of downscaler, its options, its domain, the versions it was made with and the SHA-256 of
the weights; its own SHA-256 is its last entry. Loading checks both, so that a changed byte is noticed before it
becomes a wrong forecast.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from finegrid import __version__
from finegrid.conventions import InputError
from finegrid.conventions.documents import MOST_BYTES, json_of
from finegrid.conventions.paths import local_path, within

FORMAT = 1
WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"
_PACKAGES = ("torch", "xarray", "numpy", "safetensors")


def save(description: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model folder; existing model files are replaced.

    Args:
        description: kind, options and state of the downscaler, as plain values.
        tensors: all numbers that it learnt.
        folder: made when it does not exist.
    """
    complete, weights = _contents(description, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS, weights)
    _replace(folder / DESCRIPTION, json.dumps(complete, indent=1).encode())


def digest(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the description as it is written, which includes that of the weights."""
    return str(_contents(description, tensors)[0]["sha256"])


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save` wrote, verified.

    Raises:
        InputError: when the folder holds no model, a file was changed, or a newer finegrid wrote it.
    """
    folder = local_path(folder)
    description = _description(folder)
    weights = _content(within(folder, WEIGHTS), folder)
    found = hashlib.sha256(weights).hexdigest()
    if found != description.get("weights"):
        raise _changed(folder / WEIGHTS, found, str(description.get("weights")))
    try:
        return description, tensors_of(weights)
    except SafetensorError as error:
        raise InputError(
            f"{folder / WEIGHTS} is damaged ({error}); restore it from a copy, or fit the model again"
        ) from None


def _contents(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], bytes]:
    weights = bytes_of({name: each.detach().cpu().contiguous() for name, each in sorted(tensors.items())})
    complete = {
        "format": FORMAT,
        "versions": {"finegrid": __version__, **{name: importlib.metadata.version(name) for name in _PACKAGES}},
        "weights": hashlib.sha256(weights).hexdigest(),
        **_plain(description),
    }
    return {**complete, "sha256": _sha256(complete)}, weights


def _description(folder: Path) -> dict[str, Any]:
    path = within(folder, DESCRIPTION)
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES:,} bytes; expected a description; fit the model again")
    content = _content(path, folder)
    try:
        description: dict[str, Any] = json_of(content)
        stated = description.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it from a copy, or fit the model again") from None
    found = _sha256(description)
    if found != stated:
        raise _changed(path, found, str(stated))
    if not isinstance(description.get("format"), int) or not isinstance(description.get("versions"), dict):
        raise InputError(f"{path} states no format and versions; expected those of finegrid; fit the model again")
    if description["format"] > FORMAT:
        raise InputError(
            f"{path} has the format {description['format']}; this finegrid {__version__} reads up to {FORMAT}; "
            "upgrade to "
            f"finegrid {description['versions'].get('finegrid', '')}"
        )
    return description


def _content(path: Path, folder: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(
            f"{folder} is not a model folder: {path.name} is missing; expected what `finegrid fit ... --out` wrote; "
            "give that "
            "folder"
        ) from None


def _changed(path: Path, found: str, stated: str) -> InputError:
    return InputError(
        f"{path} was changed after it was written: its SHA-256 is {found[:12]}..., expected {stated[:12]}...; "
        "restore it from a "
        "copy, or fit the model again"
    )


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Values as JSON has them, in their order (that of variables is that of channels): what is hashed is read back."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Tensor):
        return value.tolist()
    return value
