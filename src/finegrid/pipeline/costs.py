"""What a job costs, and how its output remembers: NAME.cost.json beside the file NAME, which itself is free of times.

seconds        wall time of the whole job: loading the model, reading, computing, writing
peak_memory    most bytes that a process of it held (resident), all of its libraries among them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finegrid.conventions.documents import json_of, read_json, read_text, understood
from finegrid.downscalers import Downscaler
from finegrid.evaluation.parts import Cost

_LEDGER, _SMALL = "ledger.jsonl", 1_000_000
# Seconds and bytes beyond all use.
_FOREVER = 1e18


def peak_memory() -> int | None:
    """Most bytes that this process, or one that it started, has held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(most) if sys.platform == "darwin" else 1024 * int(most)


def remember(output: Path, seconds: float) -> None:
    """Write beside an output what it cost."""
    content = json.dumps({"seconds": round(seconds, 3), "peak_memory": peak_memory()})
    _beside(output).write_text(content + "\n", encoding="utf-8")


def cost_of(files: str | Path | Sequence[str | Path], times: int, members: int) -> Cost:
    """What is remembered of the cost of a prediction; of several files nothing.

    Args:
        files: of the prediction.
        times: time steps in it.
        members: of it.
    """
    path = _beside(Path(files).expanduser()) if isinstance(files, str | Path) else None
    if path is None or not path.exists():
        return Cost()
    with understood(path, "remove it: it only says what the prediction cost"):
        known = read_json(path, most=_SMALL)
        seconds, memory = known["seconds"], known["peak_memory"]
        return Cost(
            seconds=_amount(seconds),
            memory=None if memory is None else int(_amount(memory)),
            times=times,
            members=members,
        )


def _amount(value: Any) -> float:
    """A number that may be an amount.

    Raises:
        ValueError: on anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FOREVER:
        raise ValueError(f"{value!r:.40} is no amount of time or memory")
    return float(value)


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.cost.json")


def training_of(folder: str | Path, downscaler: Downscaler) -> dict[str, Any]:
    """What a model folder says that its training cost, as arguments of `Cost`."""
    path = Path(folder)
    files = [path / name for name in ("model.json", "weights.safetensors")]
    return {
        **trained(downscaler),
        "fitting_seconds": _fitted(path / _LEDGER),
        "model_bytes": sum(each.stat().st_size for each in files if each.exists()),
    }


def trained(downscaler: Downscaler) -> dict[str, Any]:
    """What the training of a network cost, as arguments of `Cost`."""
    facts = downscaler.info().get("training", {})
    return {
        "training_seconds": facts.get("seconds"),
        "parameters": facts.get("parameters"),
        "device": str(facts.get("device", "")),
    }


def _fitted(ledger: Path) -> float | None:
    """Wall time of fitting and judging, of the last line of a ledger."""
    if not ledger.exists():
        return None
    with understood(ledger, "remove it: it only says what the model cost"):
        lines = read_text(ledger).splitlines()
        return _amount(json_of(lines[-1])["seconds"]) if lines else None
