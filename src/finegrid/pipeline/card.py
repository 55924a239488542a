"""The model card: what a model folder is, what it was measured to do, and what it is not for, as CARD.md.

Everything in it is read from the folder: nothing is claimed that was not measured there. It follows the sections of
Mitchell et al., "Model cards for model reporting", 2019, doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finegrid import __version__
from finegrid.conventions.documents import read_json, understood
from finegrid.conventions.paths import within
from finegrid.downscalers import Downscaler, load
from finegrid.evaluation.metrics import METRICS
from finegrid.evaluation.parts import Cost
from finegrid.evaluation.wording import labelled, number
from finegrid.pipeline.calibrated import Calibration

CARD = "CARD.md"
_SCORES = "scores.json"
_SHOWN = ("rmse", "crps", "bias", "spread-skill", "power-ratio", "high-quantile", "violation")
_ALWAYS = (
    "Scores hold for the region, the period and the kind of coarse field that they were measured with. They say "
    "nothing about other regions, another driving model or a warmer climate.",
    "Fine detail is what is likely given the coarse field; it is no observation.",
)


def write_card(folder: str | Path) -> Path:
    """Write the card of a model folder and return where."""
    target = Path(folder) / CARD
    target.write_text(card(folder), encoding="utf-8")
    return target


def card(folder: str | Path) -> str:
    """The card of a model folder in Markdown.

    Raises:
        InputError: when the folder holds no model.
    """
    path, downscaler = Path(folder), load(folder)
    info = downscaler.info()
    with understood(path / _SCORES, "remove it, and evaluate the model again"):
        return _written(path, downscaler, info, _json(path / _SCORES))


def _written(path: Path, downscaler: Downscaler, info: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    sections = {
        f"Model card: {scores.get('method') or downscaler.name}": _facts(downscaler, info),
        "What it does": _does(downscaler, info),
        "What it learnt from": _learnt(info),
        "How good it is": _scores(scores),
        "How sure it is": _calibration(path, downscaler),
        "What it costs": _cost(scores),
        "What it is not for": [*scores.get("notes", []), *downscaler.notes(), *_ALWAYS],
    }
    first, *others = sections
    parts = [f"# {first}", _list(sections[first])]
    parts += [f"## {title}\n\n{_list(sections[title])}" for title in others if sections[title]]
    return "\n\n".join(parts) + "\n"


def _facts(downscaler: Downscaler, info: Mapping[str, Any]) -> list[str]:
    return [f"Digest `{downscaler.digest[:16]}`, made with finegrid {__version__}, method `{info['downscaler']}`."]


def _does(downscaler: Downscaler, info: Mapping[str, Any]) -> list[str]:
    made = ", ".join(labelled(name, units) for name, units in info["variables"].items())
    given = ", ".join(labelled(name, units) for name, units in info["predictors"].items())
    drawn = "It draws members." if downscaler.random else "It has a single answer."
    return [
        f"Predicts {made} on {info['fine cells']} cells from fields on {info['coarse cells']} cells.",
        *([f"Further predictors: {given}."] if given else []),
        f"{drawn} Coarse cells whose means it keeps: {info['conserved cells']}.",
    ]


def _learnt(info: Mapping[str, Any]) -> list[str]:
    training: Mapping[str, Any] = info.get("training", {})
    told = [f"{info['training times']} times, {info['training period']}."]
    if training:
        cost = f"{training['parameters']:,} parameters, {training['steps']} steps"
        seconds = training.get("seconds")
        told.append(f"{cost}{'' if seconds is None else f', {number(seconds)} s'}, on {training.get('device', 'cpu')}.")
    return told


def _scores(scores: Mapping[str, Any]) -> list[str]:
    if not scores:
        return ["It has not been judged: its test block was too short."]
    told = [str(scores["verdict"]), f"Measured on: {scores['split']}."]
    return [*told, *("\n\n" + _table(scores["scores"], name) for name in dict.fromkeys(_variables(scores)))]


def _cost(scores: Mapping[str, Any]) -> list[str]:
    words = Cost.of(scores.get("cost", {})).words
    return [f"{what[0].upper()}{what[1:]}: {value}." for what, value in words.items()]


def _variables(scores: Mapping[str, Any]) -> list[str]:
    return [each["variable"] for each in scores["scores"]]


def _table(rows: Sequence[Mapping[str, Any]], variable: str) -> str:
    own = [row for row in rows if row["variable"] == variable and row["metric"] in _SHOWN and row["value"] is not None]
    methods = list(dict.fromkeys(row["method"] for row in own))
    lines = [f"| {variable} | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for metric in dict.fromkeys(row["metric"] for row in own):
        found = {row["method"]: row for row in own if row["metric"] == metric}
        units = next(iter(found.values()))["units"]
        cells = " | ".join(_cell(found[name]) if name in found else "" for name in methods)
        lines.append(f"| {labelled(METRICS[metric].title, units)} | {cells} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    value = number(row["value"])
    if row["low"] is None or row["low"] == row["high"]:
        return value
    return f"{value} ({number(row['low'])} to {number(row['high'])})"


def _calibration(folder: Path, downscaler: Downscaler) -> list[str]:
    calibration = Calibration.of(folder, downscaler)
    if calibration is None:
        return []
    facts = calibration.facts
    told = [f"Calibrated by `{calibration.calibrator.name}` on {facts['period']}. Guarantee: {facts['guarantee']}."]
    return told if facts.get("changes_members", True) else [*told, "Members are left as the model draws them."]


def _list(sentences: Sequence[str]) -> str:
    plain = "\n".join(f"- {each}" for each in sentences if not each.startswith("\n"))
    return plain + "".join(each for each in sentences if each.startswith("\n"))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = dict(read_json(within(path.parent, path.name))) if path.exists() else {}
    return found
