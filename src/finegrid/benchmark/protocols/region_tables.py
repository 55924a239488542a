"""What a study of geographic shift found: scores, gaps, tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from finegrid.benchmark.protocols.base import Answer, Table, plain
from finegrid.evaluation.figures import BLUE, GREY, tidy

EVERYWHERE, NONE = "all regions", "none"
_COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", GREY)


@dataclass(frozen=True)
class Seen:
    """CRPS of a method in a region.

    Attributes:
        method: its name.
        learnt: regions that it learnt in.
        region: where it was judged.
        value: the score.
        low: lower end of its 95 % interval.
        high: upper end.
        units: of the score.
    """

    method: str
    learnt: tuple[str, ...]
    region: str
    value: float
    low: float
    high: float
    units: str


@dataclass(frozen=True)
class Gap:
    """How much worse a method is in a region that it has not learnt from.

    Attributes:
        method: its name.
        region: that it did not learn from, or all of them in turn.
        alignment: of the coarse fields.
        outside: CRPS of what learnt in all other regions.
        inside: CRPS of what learnt there, too, on the same patches.
        low: lower end of the paired 95 % interval of the difference.
        high: upper end.
        units: of the scores.
    """

    method: str
    region: str
    alignment: str
    outside: float
    inside: float
    low: float
    high: float
    units: str

    @property
    def value(self) -> float:
        """The gap."""
        return self.outside - self.inside

    @property
    def relative(self) -> float:
        """The gap over the score inside."""
        return self.value / self.inside

    @property
    def tied(self) -> bool:
        """Whether the interval includes zero."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shift(Answer):
    """What a study found; its rows are scores of all methods, training sets and regions.

    Attributes:
        names: of all regions.
        gaps: by method, region and alignment.
        distances: between the coarse values of two regions.
    """

    protocol: ClassVar[str] = "regions"
    rows: tuple[Seen, ...]
    names: tuple[str, ...]
    gaps: tuple[Gap, ...]
    distances: Mapping[tuple[str, str], float]

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the study."""
        return tuple(dict.fromkeys(each.method for each in self.rows))

    def of(self, method: str, alignment: str = NONE) -> dict[str, Gap]:
        """Gaps of a method by region."""
        return {each.region: each for each in self.gaps if (each.method, each.alignment) == (method, alignment)}

    def by_number(self, method: str) -> dict[int, float]:
        """Mean relative gap in regions that were not learnt from, by the number of training regions."""
        inside = {each.region: each.value for each in self.rows if self._is(each, method, len(self.names))}
        found: dict[int, list[float]] = {}
        for each in self.rows:
            if each.method == method and each.region not in each.learnt:
                found.setdefault(len(each.learnt), []).append(each.value / inside[each.region] - 1)
        return {number: float(np.mean(values)) for number, values in sorted(found.items())}

    def diversity(self, learnt: Sequence[str]) -> float:
        """Mean distance between the regions of a set; zero of a single one."""
        pairs = [self.distances[pair] for pair in combinations(learnt, 2)]
        return float(np.mean(pairs)) if pairs else 0.0

    def nearest(self, learnt: Sequence[str], region: str) -> float:
        """Distance of a region from the most similar one of a set."""
        return min(self.distances.get((one, region), self.distances.get((region, one), np.inf)) for one in learnt)

    def correlations(self, method: str) -> dict[str, float]:
        """Rank correlation of the relative gap with the number, the diversity and the nearness of training regions."""
        inside = {each.region: each.value for each in self.rows if self._is(each, method, len(self.names))}
        rows = [each for each in self.rows if each.method == method and each.region not in each.learnt]
        gap = np.array([each.value / inside[each.region] - 1 for each in rows])
        causes = {
            "number": [len(each.learnt) for each in rows],
            "diversity": [self.diversity(each.learnt) for each in rows],
            "distance to the nearest": [self.nearest(each.learnt, each.region) for each in rows],
        }
        return {name: _rank_correlation(np.array(values, dtype=float), gap) for name, values in causes.items()}

    @staticmethod
    def _is(each: Seen, method: str, number: int) -> bool:
        return each.method == method and len(each.learnt) == number

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Gaps, alignments, numbers of regions, and the matrix of each method."""
        yield "Gap by region: CRPS outside less inside (paired 95 % interval; ~ includes zero)", self._gap_rows()
        yield "Mean gap over all regions, by alignment of the coarse fields", self._alignment_rows()
        yield "Relative gap by the number of regions learnt in, and its rank correlations", self._number_rows()
        for method in self.methods:
            yield f"CRPS of {method}, by region", self._matrix_rows(method)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        gaps = [{**plain(each), "gap": each.value, "relative": each.relative, "tied": each.tied} for each in self.gaps]
        pairs = [{"regions": list(pair), "distance": value} for pair, value in self.distances.items()]
        return {**super().to_dict(), "gaps": gaps, "distances": pairs}

    def picture(self) -> Figure:
        """The relative gap against the number of training regions."""
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for number, method in enumerate(self.methods):
            found = self.by_number(method)
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(list(found), [100 * each for each in found.values()], "o-", color=colour, label=method)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlabel("regions learnt in (the one that is judged is none of them)", fontsize=10)
        axes.set_ylabel("CRPS above that of what learnt here, too (%)", fontsize=10)
        axes.set_xticks(range(1, len(self.names)))
        axes.legend(fontsize=9, frameon=False)
        tidy(axes)
        return figure

    def _gap_rows(self) -> Table:
        regions = [*self.names, EVERYWHERE]
        rows = [["method", *regions]]
        for method in self.methods:
            own = self.of(method)
            rows.append([method, *(_cell(own[each]) if each in own else "" for each in regions)])
        return rows

    def _alignment_rows(self) -> Table:
        ways = list(dict.fromkeys(each.alignment for each in self.gaps))
        rows = [["method", *ways]]
        for method in self.methods:
            found = [self.of(method, how).get(EVERYWHERE) for how in ways]
            rows.append([method, *("" if each is None else _cell(each) for each in found)])
        return rows

    def _number_rows(self) -> Table:
        numbers = sorted({number for method in self.methods for number in self.by_number(method)})
        causes = list(self.correlations(self.methods[0]))
        rows = [["method", *map(str, numbers), *(f"with {cause}" for cause in causes)]]
        for method in self.methods:
            found, linked = self.by_number(method), self.correlations(method)
            cells = [f"{100 * found[each]:+.1f} %" for each in numbers]
            rows.append([method, *cells, *(f"{linked[each]:+.2f}" for each in causes)])
        return rows

    def _word(self, learnt: tuple[str, ...]) -> str:
        left = [name for name in self.names if name not in learnt]
        return "all" if not left else f"all but {left[0]}" if len(left) == 1 else ", ".join(learnt)

    def _matrix_rows(self, method: str) -> Table:
        rows, own = [["learnt in", *self.names]], [each for each in self.rows if each.method == method]
        for learnt in dict.fromkeys(each.learnt for each in own):
            values = {each.region: each.value for each in own if each.learnt == learnt}
            rows.append([self._word(learnt), *(f"{values[each]:.3g}" for each in self.names)])
        return rows


def _cell(gap: Gap) -> str:
    mark = " ~" if gap.tied else ""
    return f"{gap.value:+.3g}{mark} ({gap.low:+.2g} to {gap.high:+.2g}; {100 * gap.relative:+.0f} %)"


def _rank_correlation(cause: np.ndarray, effect: np.ndarray) -> float:
    if len(cause) < 3 or not np.ptp(cause) or not np.ptp(effect):
        return np.nan
    return float(spearmanr(cause, effect).statistic)
