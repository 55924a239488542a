"""What a verification by lead time found, as plain values and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from finegrid.evaluation.leads.metrics import LEAD_METRICS
from finegrid.evaluation.wording import labelled, number, range_of

_MOST_LEADS = 6


@dataclass(frozen=True)
class LeadScore:
    """One score of one system at one lead.

    Attributes:
        model: name of the system.
        truth: name of what it was verified against.
        variable: of what.
        metric: a name in LEAD_METRICS.
        lead: lead time in days.
        value: the score; NaN where it cannot be had.
        low: lower end of its 95 % interval; NaN with too few initial times.
        high: upper end.
        units: of the score.
        best: whether no system is nearer to perfect.
        tied: whether it cannot be told apart from the best one.
    """

    model: str
    truth: str
    variable: str
    metric: str
    lead: float
    value: float
    low: float
    high: float
    units: str
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Difference:
    """How much larger the RMSE of a system is than that of another one, on the same draws of initial times.

    Attributes:
        model, other: names of the systems.
        truth, variable, lead: see `LeadScore`.
        value: RMSE of `model` less that of `other`.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    model: str
    other: str
    truth: str
    variable: str
    lead: float
    value: float
    low: float
    high: float

    @property
    def tied(self) -> bool:
        """Whether the two cannot be told apart: the interval includes zero, or there is none."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Drift:
    """Change of the bias with the lead time, by least squares over the leads.

    Attributes:
        model, truth, variable: see `LeadScore`.
        slope: in units of the variable a day.
        low: lower end of its 95 % interval.
        high: upper end.
        units: of the variable.
    """

    model: str
    truth: str
    variable: str
    slope: float
    low: float
    high: float
    units: str

    @property
    def drifts(self) -> bool:
        """Whether there is a drift beyond chance."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Horizon:
    """Where the skill of a system over a simple forecast ends.

    Attributes:
        model, truth, variable: see `LeadScore`.
        baseline: name of the simple forecast.
        lead: first lead in days at which the RMSE is not smaller beyond chance; NaN where it is smaller at all leads.
    """

    model: str
    baseline: str
    truth: str
    variable: str
    lead: float


@dataclass(frozen=True)
class LeadScores:
    """Scores of systems by lead time against one truth or several.

    Attributes:
        scores: of every system, truth, variable, metric and lead.
        differences: between every two systems.
        drifts: of the bias.
        horizons: of skill over the baselines.
        inits: number of initial times.
        block: initial times in a block of the bootstrap.
        notes: what a reader has to know.
    """

    scores: tuple[LeadScore, ...]
    differences: tuple[Difference, ...] = field(repr=False)
    drifts: tuple[Drift, ...] = field(repr=False)
    horizons: tuple[Horizon, ...] = field(repr=False)
    inits: int
    block: int
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the systems."""
        return tuple(dict.fromkeys(score.model for score in self.scores))

    @property
    def truths(self) -> tuple[str, ...]:
        """Names of the truths."""
        return tuple(dict.fromkeys(score.truth for score in self.scores))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(dict.fromkeys(score.variable for score in self.scores))

    @property
    def leads(self) -> tuple[float, ...]:
        """Lead times in days."""
        return tuple(dict.fromkeys(score.lead for score in self.scores))

    def of(self, variable: str, metric: str, truth: str | None = None) -> dict[str, list[LeadScore]]:
        """Scores of every system by its name, one for each lead; against the first truth unless another is named."""
        wanted = (variable, metric, truth or self.truths[0])
        found: dict[str, list[LeadScore]] = {}
        for score in self.scores:
            if (score.variable, score.metric, score.truth) == wanted:
                found.setdefault(score.model, []).append(score)
        return found

    def tables(self) -> list[tuple[str, Sequence[Sequence[str]]]]:
        """Headings and tables: a row for each system, a column for each of at most six leads."""
        found: list[tuple[str, Sequence[Sequence[str]]]] = []
        for truth in self.truths:
            for variable in self.variables:
                where = f"{variable} against {truth}"
                for metric in (each for each in LEAD_METRICS if self.of(variable, each, truth)):
                    found.append((f"{where}: {LEAD_METRICS[metric].title}", self._table(variable, metric, truth)))
                summary = self._summary(variable, truth)
                found += [(f"{where}: drift of the bias, and where skill ends", summary)] if summary else []
        return found

    def markdown(self) -> str:
        """All tables in Markdown."""
        return "\n\n".join(f"### {heading}\n\n{table(rows)}" for heading, rows in self.tables())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        lists = {name: getattr(self, name) for name in ("scores", "differences", "drifts", "horizons")}
        plain = {name: [_plain(asdict(each)) for each in rows] for name, rows in lists.items()}
        return {"inits": self.inits, "block": self.block, "notes": list(self.notes), **plain}

    def _table(self, variable: str, metric: str, truth: str) -> list[list[str]]:
        found, shown = self.of(variable, metric, truth), _some(len(self.leads))
        units = next(iter(found.values()))[0].units
        head = [labelled(LEAD_METRICS[metric].title, units), *(f"{self.leads[index]:.3g} d" for index in shown)]
        return [head, *([name, *(_cell(scores[index]) for index in shown)] for name, scores in found.items())]

    def _summary(self, variable: str, truth: str) -> list[list[str]]:
        """Drift of the bias, and where skill ends; nothing for a single lead."""
        mine = [each for each in self.drifts if (each.variable, each.truth) == (variable, truth)]
        here = [each for each in self.horizons if (each.variable, each.truth) == (variable, truth)]
        ends = {(each.model, each.baseline): _until(each.lead) for each in here}
        baselines = list(dict.fromkeys(each.baseline for each in here))
        if not mine:
            return []
        head = ["system", labelled("drift of the bias a day", mine[0].units), "95 % interval"]
        rows = [[*head, *(f"better than {each} before" for each in baselines)]]
        for drift in mine:
            until = [ends.get((drift.model, each), "") for each in baselines]
            rows.append([drift.model, number(drift.slope), range_of(drift.low, drift.high), *until])
        return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as Markdown, the first being the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _some(count: int) -> list[int]:
    """At most six numbers below `count`, evenly spread, the first and the last among them."""
    return [int(each) for each in np.unique(np.linspace(0, count - 1, min(count, _MOST_LEADS)).round())]


def _cell(score: LeadScore) -> str:
    value = number(score.value)
    return f"**{value}**" if score.best else f"{value} ~" if score.tied else value


def _until(lead: float) -> str:
    return "all leads" if np.isnan(lead) else f"{lead:.3g} d"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(each, float) and not np.isfinite(each) else each for key, each in row.items()}
