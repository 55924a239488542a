"""Further parts of a report: tables that stand in its page, its Markdown and its JSON alike.

between variables    whether they go together as in truth (`relations`)
climate change       of the prediction, the truth and the coarse model, and whether it is kept (`change`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation import relations as together
from finegrid.evaluation.change import ClimateChange, change


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        key: its name in JSON.
        title: for people.
        tables: in Markdown, with a sentence before each.
        plain: the same as plain values.
    """

    key: str
    title: str
    tables: tuple[tuple[str, str], ...]
    plain: Any

    def markdown(self) -> str:
        """The part in Markdown."""
        return "\n\n".join([f"## {self.title}", *(words for table in self.tables for words in table)])

    def html(self) -> str:
        """The part as a section of a page."""
        body = "".join(f"<p>{escape(words)}</p>{_html(table)}" for words, table in self.tables)
        return f"<section><h2>{escape(self.title)}</h2>{body}</section>"


def between_variables(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str] | None = None) -> list[Part]:
    """Relations between variables; nothing where there is one variable."""
    try:
        rows = together.relations(prediction, truth, variables=variables)
    except InputError:
        return []
    if not rows:
        return []
    words = "Whether variables go together as in truth; a relation without a score says why."
    return [
        Part("relations", "Between variables", ((words, together.markdown(rows)),), [row.to_dict() for row in rows])
    ]


def climate_change(
    prediction: xr.Dataset,
    periods: tuple[str, str],
    others: Mapping[str, xr.Dataset | None],
    variables: Sequence[str] | None = None,
) -> Part:
    """Change from one period to another.

    Args:
        prediction: fine fields of both.
        periods: historical and future.
        others: fields of the `truth` and of the `coarse` model, where there are.
        variables: names in the prediction.

    Raises:
        InputError: as `change`.
    """
    found = change(prediction, historical=periods[0], future=periods[1], variables=variables, **others)
    return Part("change", f"Change from {periods[0]} to {periods[1]}", tuple(_tables(found)), found.to_dict())


def _tables(found: ClimateChange) -> list[tuple[str, str]]:
    tables = [("Changes of the mean over the area, by source.", found.table())]
    if found.preservation is not None:
        words = (
            "Whether the change is that of the coarse model, in coarse cells: a downscaler that conserves keeps the "
            "change of the mean; other departures are added value or artefact, which has to be argued."
        )
        tables.append((words, found.preservation.table()))
    return tables


def _html(table: str) -> str:
    from finegrid.evaluation.page import words_table  # matplotlib is heavy

    head, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines())
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return words_table(f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>")
