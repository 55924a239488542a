"""One table of a method's climate beside that of others: indices of VALUE by name, a row for each method.

>>> table = value_table({"ridge": ridge, "bicubic": bicubic}, truth)    # doctest: +SKIP
>>> print(table.markdown("pr"))                                          # doctest: +SKIP

Scores of `evaluate` say how near fields are to the truth day by day; this table says whether they have its climate
(`indices`). A method may be good at the one and bad at the other: the mean of an ensemble has a small error and too few
wet days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from finegrid.evaluation.alignment import align
from finegrid.evaluation.indices import INDICES
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.indices.measure import measure
from finegrid.evaluation.wording import NOTHING, labelled, number

if TYPE_CHECKING:
    import pandas as pd

_TIED = 1e-9


@dataclass(frozen=True)
class ValueTable:
    """Indices of several methods.

    Attributes:
        scores: one for each method, variable and index.
    """

    scores: tuple[IndexScore, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(dict.fromkeys(score.variable for score in self.scores))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(score.method for score in self.scores))

    def indices(self, variable: str) -> tuple[str, ...]:
        """Names of the indices that a variable has."""
        return tuple(name for name in INDICES if self.of(variable, name))

    def of(self, variable: str, index: str) -> dict[str, IndexScore]:
        """One index of every method by its name."""
        return {each.method: each for each in self.scores if (each.variable, each.index) == (variable, index)}

    def best(self, variable: str, index: str) -> tuple[str, ...]:
        """The methods nearest to the truth."""
        away = {name: score.distance for name, score in self.of(variable, index).items()}
        known = [distance for distance in away.values() if np.isfinite(distance)]
        return tuple(name for name, distance in away.items() if known and distance <= min(known) + _TIED)

    def without_empty(self) -> ValueTable:
        """The table without indices that cannot be had of any method, such as levels of a record that is too short."""
        known = {(each.variable, each.index) for each in self.scores if each.cells}
        return ValueTable(tuple(each for each in self.scores if (each.variable, each.index) in known))

    def markdown(self, variable: str | None = None) -> str:
        """Tables in Markdown, or that of one variable: value ± spread over cells, the best in bold, the truth below."""
        if variable is None:
            return "\n\n".join(f"### {name}\n\n{self.markdown(name)}" for name in self.variables)
        names = self.indices(variable)
        columns = [self.of(variable, name) for name in names]
        head = [variable, *(heading(column) for column in columns)]
        rows = [[method, *(self._cell(column, method) for column in columns)] for method in self.methods]
        rows.append(["truth", *(true_value(column) for column in columns)])
        return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values for JSON, a row for each method, variable and index."""
        return [score.to_dict() for score in self.scores]

    def to_json(self, path: str | Path) -> Path:
        """Write the rows and return where."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return target

    def to_dataframe(self) -> pd.DataFrame:
        """The rows as a table of pandas."""
        import pandas as pd

        return pd.DataFrame(self.to_dict())

    def _cell(self, column: Mapping[str, IndexScore], method: str) -> str:
        score = column[method]
        value = number(score.value)
        marked = f"**{value}**" if method in self.best(score.variable, score.index) else value
        return NOTHING if not score.cells else f"{marked} ± {number(score.spread, digits=2)}"


def heading(column: Mapping[str, IndexScore]) -> str:
    """Title of a column."""
    score = next(iter(column.values()))
    words = {"ratio": "ratio", "relative difference": "relative"}.get(score.comparison, "")
    title = f"{INDICES[score.index].title}, {words}" if words else INDICES[score.index].title
    return labelled(title, score.units)


def true_value(column: Mapping[str, IndexScore]) -> str:
    """The index of the truth."""
    score = next(iter(column.values()))
    return labelled(number(score.truth), score.statistic_units).replace("(", "").replace(")", "")


def value_table(
    predictions: Mapping[str, xr.Dataset] | xr.Dataset,
    truth: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    indices: str | Sequence[str] | None = None,
) -> ValueTable:
    """The climate of predictions beside that of the truth; fields need not fit in memory.

    Args:
        predictions: fine fields by method, or of one method, in the user's own names, with or without members.
        truth: fine fields on the same grid.
        variables: names in the truth; by default all that the first prediction has.
        indices: names in INDICES, or "all"; by default the usual ones that a variable has.

    Raises:
        InputError: when fields cannot be compared, an index is unknown or does not apply, or there are too few times.
    """
    given = {"prediction": predictions} if isinstance(predictions, xr.Dataset) else dict(predictions)
    cases = align(given, truth, None, variables=variables)
    return ValueTable(tuple(score for case in cases for score in measure(case, indices)))
