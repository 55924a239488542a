"""The report: one HTML file that needs nothing else, to be read by people who decide and people who check.

Figures are SVG pictures inside the page (maps as pixels within them), styles are inline, nothing is loaded
from anywhere. The frame is `report.html` beside this module; `$name` in it is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from finegrid.conventions import InputError
from finegrid.conventions.documents import json_of
from finegrid.evaluation import figures, floor_tables, maps
from finegrid.evaluation.agreement import Agreement
from finegrid.evaluation.agreement_figures import section
from finegrid.evaluation.metrics import METRICS
from finegrid.evaluation.page import facts_table, picture, with_contents, words_table
from finegrid.evaluation.parts.base import html_table
from finegrid.evaluation.parts.ranking import ranked
from finegrid.evaluation.portrait import climates
from finegrid.evaluation.scores import Score, Scores, View
from finegrid.evaluation.verdict import verdict
from finegrid.evaluation.wording import FEW, MANY, WIDE, cell, floor_cell, floor_label, heading, number, units_of

_SOURCE_COLUMNS = ("field", "file", "title", "institution", "licence", "reference", "size")


def write_report(
    evaluation: Scores,
    path: str | Path,
    *,
    training_log: str | Path | None = None,
    provenance: Mapping[str, str] | None = None,
    agreements: Sequence[Agreement] = (),
    sections: Sequence[str] = (),
) -> Path:
    """Write the report of an evaluation as one self-contained HTML file.

    Args:
        evaluation: what `evaluate` returned.
        path: the file, or a folder to write `report.html` into.
        training_log: JSON lines with `step`, `loss`, `validation_loss` and `seconds`.
        provenance: more about where things are from, such as the model's version and seed.
        agreements: whether coarse and fine data agree, by variable, where that was asked.
        sections: HTML of more of them, behind those of the variables.
    """
    target = Path(path) / "report.html" if Path(path).is_dir() else Path(path)
    frame = Template((resources.files("finegrid.evaluation") / "report.html").read_text(encoding="utf-8"))
    page = frame.substitute(
        title=escape(evaluation.task or "Downscaling evaluation"),
        facts=escape(_facts(evaluation)),
        verdict=escape(verdict(evaluation)),
        variables="\n".join(_variable(evaluation, view, agreements) for view in evaluation.views),
        training="\n".join([*sections, _training(training_log)]),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in (*evaluation.notes, *_reading())),
        sources=_sources(evaluation),
        provenance=facts_table(provenance),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(with_contents(page), encoding="utf-8")
    return target


def _facts(evaluation: Scores) -> str:
    facts = [f"Method: {evaluation.method}"]
    facts += [f"Data: {evaluation.split}"] if evaluation.split else []
    facts += [f"Time to predict: {number(evaluation.seconds)} s"] if evaluation.seconds is not None else []
    return " · ".join([*facts, f"Written {datetime.now(UTC):%d %B %Y}"])


def _variable(evaluation: Scores, view: View, agreements: Sequence[Agreement]) -> str:
    title = view.label if view.label == view.variable else f"{view.label} ({view.variable})"
    method = evaluation.method
    parts = [
        f"<h2>{escape(_sentence(title))}</h2>",
        html_table(ranked(evaluation, view.variable)),
        _table(evaluation, view.variable),
        picture(
            figures.intervals(evaluation, view.variable),
            f"Error of each method for {view.label}, with 95 % intervals",
            "Error of each method. Where intervals overlap, the table says whether the difference is real.",
            narrow=True,
        ),
        picture(
            maps.maps(view, method),
            f"Maps of {view.label}: coarse field, {method}, truth and errors",
            f"{_sentence(view.label)} at {view.time}: the time whose error is the median one, neither the "
            "best nor the "
            "worst. "
            "Fields share one colour scale, errors another; grey is missing.",
        ),
    ]
    if len(view.wavenumbers):
        left = len(view.spectra) - 2 - len(figures.drawn(view, method))
        more = f" {left} methods with larger errors are not drawn." if left else ""
        parts.append(
            picture(
                figures.spectra(view, method),
                f"Variance of {view.label} by wavelength",
                "Variance by scale, mean over all times (two-dimensional cosine transform). A line below "
                "the truth at the "
                "right means that fine detail is missing." + more,
                narrow=True,
            )
        )
    parts += _members(evaluation, view)
    parts += climates(evaluation, view)
    parts += [floor_tables.html(floor) for floor in evaluation.floors if floor.variable == view.variable]
    parts += [section(found) for found in agreements if found.name == view.variable]
    return '<section class="variable">' + "\n".join(parts) + "</section>"


def _members(evaluation: Scores, view: View) -> list[str]:
    """Some members beside the truth; nothing for a single prediction."""
    if view.ensemble is None:
        return []
    return [
        f"<h3>{escape(_sentence(evaluation.method))} as an ensemble of {view.members} members</h3>",
        picture(
            maps.members(view),
            f"Maps of {view.label}: truth, mean over members and single members",
            "The same time. A member is one possible field, as rough as the truth and with extremes as large; "
            f"the first {len(view.ensemble.members)} are drawn. Their mean is smooth by right. One colour scale for "
            "all.",
        ),
    ]


def _table(evaluation: Scores, variable: str) -> str:
    columns = {name: evaluation.of(variable, name) for name in evaluation.metrics(variable)}
    if len(columns) > (WIDE if len(evaluation.methods) <= FEW else MANY):
        return _tall_table(evaluation, columns)
    head = "".join(_head(name, units_of(scores)) for name, scores in columns.items())
    rows = []
    for method in evaluation.methods:
        own = ' class="own"' if method == evaluation.method else ""
        cells = "".join(_cell(scores[method], evaluation) for scores in columns.values())
        rows.append(f'<tr{own}><th scope="row">{escape(method)}</th>{cells}</tr>')
    if (floor := evaluation.floor(variable)) is not None:
        cells = "".join(f"<td>{escape(floor_cell(scores))}</td>" for scores in columns.values())
        rows.append(f'<tr><th scope="row">{escape(floor_label(floor))}</th>{cells}</tr>')
    return _framed(f'<th scope="col">Method</th>{head}', rows)


def _tall_table(evaluation: Scores, columns: Mapping[str, Mapping[str, Score]]) -> str:
    """Many metrics, a row for each."""
    floor = evaluation.floor(next(iter(next(iter(columns.values())).values())).variable)
    names = [*evaluation.methods, *([] if floor is None else [floor_label(floor)])]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for name, scores in columns.items():
        cells = "".join(_cell(scores[method], evaluation) for method in evaluation.methods)
        cells += "" if floor is None else f"<td>{escape(floor_cell(scores))}</td>"
        rows.append(f"<tr>{_head(name, units_of(scores), scope='row')}{cells}</tr>")
    return _framed(f'<th scope="col">Metric</th>{head}', rows)


def _framed(head: str, rows: Sequence[str]) -> str:
    caption = (
        "Best in bold; ≈ cannot be told apart from the best (the paired 95 % interval of the difference "
        "includes zero, or "
        "the difference is below a thousandth or internal variability). Small print: 95 % intervals."
    )
    return (
        f'<div class="scroll"><table class="scores"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _head(metric: str, units: str, *, scope: str = "col") -> str:
    title = escape(_sentence(heading(metric, units)))
    ideal = f"{METRICS[metric].best:g}".replace("inf", "∞")
    return f'<th scope="{scope}">{title}<small>ideal {ideal}</small></th>'


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _cell(score: Score, evaluation: Scores) -> str:
    tie = '<span class="tie" title="tied with the best">≈</span>'
    value, extent = cell(score, evaluation, bold="<strong>{}</strong>", tie=tie)
    return f"<td>{value}<small>{escape(extent.strip('()'))}</small></td>"


def _training(path: str | Path | None) -> str:
    if path is None:
        return ""
    log = read_training_log(path)
    caption = "Loss by training step. Where validation rises while training falls, the method learns by heart."
    drawn = picture(figures.training(log), "Training and validation loss by step", caption, narrow=True)
    return f"<section><h2>Training</h2>{drawn}</section>"


def read_training_log(path: str | Path) -> list[dict[str, float]]:
    """Rows of a log in JSON lines.

    Raises:
        InputError: when the file is missing or a line is not a JSON object with a `step`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        rows = [json_of(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not rows or not all(isinstance(row, dict) and "step" in row for row in rows):
        raise _unreadable(path, "a line without 'step', or none at all")
    return rows


def _unreadable(path: str | Path, found: str) -> InputError:
    return InputError(
        f"got {path} as training log ({found}); expected one JSON object a line with step, loss, "
        "validation_loss and "
        "seconds; pass training_log=None to leave the figure out"
    )


def _sources(evaluation: Scores) -> str:
    columns = [name for name in _SOURCE_COLUMNS if any(name in row for row in evaluation.sources)]
    head = "".join(f'<th scope="col">{_sentence(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(row.get(name, '–'))}</td>" for name in columns) + "</tr>"
        for row in evaluation.sources
    )
    return words_table(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")


def _reading() -> Sequence[str]:
    return (
        "All means are weighted by the area of the cells. RMSE, mean absolute error, bias, correlation and structural "
        "similarity judge the mean over members; fine-scale power and the 99.9th percentile (ratios to the truth), "
        "negative values (their share), the departure from the coarse field (the largest, relative) and CRPS (fair; "
        "the absolute error where there is one member) judge the members themselves. Where an ensemble is honest, "
        "spread over error is one, and the departure of the truth's ranks from a flat histogram (summed) small.",
        "Scores hold for this region, period and reference only; they say nothing about other climates.",
    )
