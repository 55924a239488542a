"""What a run of the benchmark found, as a table in Markdown, as JSON and as a report.

bench/scores.json, report.html, table.md   the last run
bench/ledger.jsonl                         a line for every method and seed of every run
bench/trials/                              what was fitted and predicted (`trials`)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any

from finegrid import __version__
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Trial
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.evaluation import Evaluation, Score
from finegrid.evaluation.floor_tables import markdown
from finegrid.pipeline.ledger import Run, append

SCORES, REPORT, TABLE, LEDGER, LOG = "scores.json", "report.html", "table.md", "ledger.jsonl", "log.jsonl"


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found.

    Attributes:
        task: what was done.
        trials: by label.
        evaluation: scores by label; of single methods when there is one seed.
        inapplicable: reasons by method name.
        seconds: wall time of everything.
    """

    task: Task
    trials: Mapping[str, Trial]
    evaluation: Evaluation
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def scores(self, metric: str = "rmse", variable: str | None = None) -> dict[str, list[float]]:
        """Values of all seeds by method, of the first variable unless another is named."""
        found: dict[str, list[float]] = {}
        for label, score in self.evaluation.of(variable or self.evaluation.variables[0], metric).items():
            found.setdefault(self.trials[label].method, []).append(score.value)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: method names those of the command line, seeds in a field of their own."""
        plain = self.evaluation.to_dict()
        rows, climate = (
            [{**score, **self._names(score["method"])} for score in plain.get(key, [])] for key in ("scores", "indices")
        )
        best = self._names(plain["method"])
        return {
            **plain,
            **best,
            "task": self.task.name,
            "seconds": self.seconds,
            "scores": rows,
            **({"indices": climate} if climate else {}),
            "not_applicable": dict(self.inapplicable),
        }

    def _names(self, label: str) -> dict[str, Any]:
        trial = self.trials[label]
        return {"method": trial.method} if trial.seed is None else {"method": trial.method, "seed": trial.seed}


def ranked(result: Result) -> str:
    """Tables in Markdown, one for each variable: methods from the smallest error to the largest, with intervals."""
    parts = [f"# {result.task.name}", result.task.title, result.evaluation.split]
    for variable in result.evaluation.variables:
        parts.append(f"## {variable}\n\n" + "\n".join(_rows(result, variable)))
        floor = result.evaluation.floor(variable)
        parts += [] if floor is None else [markdown(floor)]
    climate = result.evaluation.value_table
    parts += [f"## Climate of {variable}\n\n{climate.markdown(variable)}" for variable in climate.variables]
    if result.inapplicable:
        parts.append("\n".join(f"- {name}: not applicable: {why}" for name, why in result.inapplicable.items()))
    return "\n\n".join(parts) + "\n"


def _rows(result: Result, variable: str) -> list[str]:
    evaluation = result.evaluation
    errors = evaluation.of(variable, "rmse")
    units = next(iter(errors.values())).units
    floor = evaluation.floor(variable)
    columns = (
        f"RMSE ({units})",
        "95 % interval",
        *([f"floor (M = {floor.members})"] if floor else []),
        f"MAE ({units})",
        f"CRPS ({units})",
        "fine-scale power",
        "departure",
        "negative",
        "fit (s)",
    )
    head = f"| method | {' | '.join(columns)} |"
    rows = [head, "|" + "---|" * (len(columns) + 1)]
    for score in sorted(errors.values(), key=lambda each: each.value):
        trial = result.trials[score.method]
        others = [evaluation.of(variable, metric).get(score.method) for metric in _COLUMNS]
        mark = f"**{score.value:.3f}**" if score.best else f"{score.value:.3f}{' ~' if score.tied else ''}"
        cells = [
            score.method,
            mark,
            f"{score.low:.3f} to {score.high:.3f}",
            *([f"{score.floor:.3f}"] if floor else []),
            *map(_plain, others),
            "" if isnan(trial.seconds) else f"{trial.seconds:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


_COLUMNS = ("mae", "crps", "power-ratio", "violation", "negatives")


def _plain(score: Score | None) -> str:
    return "" if score is None else f"{score.value:.3g}"


def write(result: Result, out: Path, *, sections: Sequence[str] = ()) -> None:
    """Write the files of a run, each whole or not at all; the report has more sections where they are given."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".run-") as name:
        folder = Path(name)
        content = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
        (folder / SCORES).write_text(content, encoding="utf-8")
        (folder / TABLE).write_text(ranked(result), encoding="utf-8")
        result.evaluation.report(
            folder / REPORT,
            training_log=_log(result, folder),
            provenance={"finegrid": __version__},
            sections=sections,
        )
        for file in (SCORES, TABLE, REPORT):
            os.replace(folder / file, out / file)
    for trial in result.trials.values():
        if trial.downscaler is not None:
            append(out / LEDGER, _ledger_line(result, trial, trial.downscaler))


def _log(result: Result, folder: Path) -> Path | None:
    shown = result.trials[result.evaluation.method].downscaler
    if not isinstance(shown, NeuralDownscaler) or not shown.training_log:
        return None
    lines = "".join(json.dumps(record) + "\n" for record in shown.training_log)
    (folder / LOG).write_text(lines, encoding="utf-8")
    return folder / LOG


def _ledger_line(result: Result, trial: Trial, downscaler: Downscaler) -> Run:
    more = {"task": result.task.name, "seed": trial.seed}
    mine = replace(result.evaluation, method=trial.label)
    return Run.of(downscaler, method=trial.method, seconds=trial.seconds, evaluation=mine, **more)
