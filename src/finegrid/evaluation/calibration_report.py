"""The report of a calibration: one HTML file that says how honest a model was, how honest it is now, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from finegrid.evaluation import calibration_figures as figures
from finegrid.evaluation.coverage import Coverage
from finegrid.evaluation.page import facts_table, picture
from finegrid.evaluation.reliability import Reliability
from finegrid.evaluation.wording import number
from finegrid.grids import Grid

_READING = (
    "The scores are those of times that neither the model nor the calibration has seen: a calibration of the first "
    "half of the period is judged on the second. The one that is kept has learnt from all of it.",
    "Coverage is how often the truth lies inside. Of two intervals with the same coverage the narrower one is better; "
    "the Winkler score weighs both. CRPS = reliability - resolution + uncertainty: reliability is what wrong chances "
    "cost, resolution what the forecast knows beyond the climate, uncertainty what there is to know.",
    "A guarantee for cases that can change places holds on the average over such cases, not for each place or day, and "
    "not where the climate has changed.",
)


@dataclass(frozen=True, eq=False)
class Judged:
    """One variable: intervals and members, before and after; None where there is no ensemble."""

    before: Coverage | None
    after: Coverage
    members_before: Reliability | None
    members_after: Reliability | None


def write(
    path: Path, judged: Mapping[str, Judged], *, grid: Grid, title: str, verdict: str, facts: Mapping[str, str]
) -> Path:
    """Write the page.

    Args:
        path: the file.
        judged: by variable.
        grid: of the fields.
        title: of the page.
        verdict: in a sentence.
        facts: about the calibration.
    """
    frame = Template((resources.files("finegrid.evaluation") / "report.html").read_text(encoding="utf-8"))
    page = frame.substitute(
        title=escape(title),
        facts=escape(f"Written {datetime.now(UTC):%d %B %Y}"),
        verdict=escape(verdict),
        variables="\n".join(_variable(name, each, grid) for name, each in judged.items()),
        training="",
        notes="\n".join(f"<li>{escape(note)}</li>" for note in _READING),
        sources="",
        provenance=facts_table(facts),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _variable(name: str, judged: Judged, grid: Grid) -> str:
    after, promised = judged.after, f"{100 * judged.after.level:g} %"
    parts = [f"<h2>{escape(name)}</h2>", _table(judged)]
    members = {"before": judged.members_before, "after": judged.members_after}
    drawn = {key: each for key, each in members.items() if each is not None}
    if drawn:
        parts.append(
            picture(
                figures.chances(drawn, after.units),
                f"Histogram of chances, reliability of quantiles and of an event for {name}",
                "Left: flat where the ensemble is honest; high ends mean that it is too sure, a slope a bias. Middle "
                "and right: on the diagonal, chances come true. The event is above the 90th percentile of the truth.",
            )
        )
    parts.append(
        picture(
            figures.maps(after, grid),
            f"Maps of coverage and width of the intervals of {name}",
            f"{promised} intervals after calibration: how often the truth is inside in each cell (white: as promised; "
            "red: too seldom), and how wide they are on the average.",
        )
    )
    if len(after.groups) > 1:
        parts.append(
            picture(
                figures.groups(after.groups, after.level),
                f"Coverage of the intervals of {name} by region and season",
                f"{promised} intervals after calibration, by region (blocks of cells, numbered from the south-west, "
                "row by row) and season.",
                narrow=True,
            )
        )
    return '<section class="variable">' + "\n".join(parts) + "</section>"


def _table(judged: Judged) -> str:
    head = "".join(f'<th scope="col">{word}</th>' for word in ("", "before", "after"))
    rows = []
    for words, one, other in _rows(judged):
        cells = "".join(f"<td>{escape(each)}</td>" for each in (one, other))
        rows.append(f'<tr><th scope="row">{escape(words)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="scores"><caption>On the second half of the period; small is better but for '
        f"coverage and resolution.</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _rows(judged: Judged) -> list[tuple[str, str, str]]:
    units, level = f" {judged.after.units}".rstrip(), 100 * judged.after.level
    one, other = judged.before, judged.after
    rows = [
        (f"coverage of {level:g} % intervals", _covered(one), _covered(other)),
        ("mean width", _in_units(None if one is None else one.width, units), _in_units(other.width, units)),
        ("Winkler score", _in_units(None if one is None else one.winkler, units), _in_units(other.winkler, units)),
    ]
    first, second = judged.members_before, judged.members_after
    for part in ("crps", "reliability", "resolution", "uncertainty") if first or second else ():
        words = "CRPS of the members" if part == "crps" else f"its {part}"
        values = (_in_units(None if each is None else getattr(each, part), units) for each in (first, second))
        rows.append((words, *values))  # type: ignore[arg-type]
    return rows


def _in_units(value: float | None, units: str) -> str:
    return "–" if value is None else f"{number(value)}{units}"


def _covered(found: Coverage | None) -> str:
    if found is None:
        return "–"
    low, high = found.bounds
    sure = "" if low != low else f" (95 %: {100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * found.coverage:.1f} %{sure}"
