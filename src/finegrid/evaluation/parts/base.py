"""What a part of a report is: tables, pictures and plain values, for its page, its Markdown and its JSON alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # matplotlib is heavy
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn when a page is written.

    Attributes:
        draw: makes the figure.
        alternative: what it shows, for who cannot see it.
        caption: how to read it.
        narrow: whether it needs less than the width of the page.
    """

    draw: Callable[[], Figure]
    alternative: str
    caption: str
    narrow: bool = False


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        key: its name in JSON.
        title: for people.
        tables: in Markdown, with a sentence before each; an empty table leaves the sentence alone.
        plain: the same as plain values.
        pictures: for the page.
    """

    key: str
    title: str
    tables: tuple[tuple[str, str], ...]
    plain: Any
    pictures: tuple[Picture, ...] = ()

    def markdown(self) -> str:
        """The part in Markdown."""
        words = [each for table in self.tables for each in table if each]
        return "\n\n".join([f"## {self.title}", *words])

    def html(self) -> str:
        """The part as a section of a page."""
        told = [f"<p>{escape(words)}</p>{html_table(table) if table else ''}" for words, table in self.tables]
        return f"<section><h2>{escape(self.title)}</h2>{''.join([*told, *map(_drawn, self.pictures)])}</section>"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _drawn(each: Picture) -> str:
    from finegrid.evaluation.page import picture

    return picture(each.draw(), each.alternative, each.caption, narrow=each.narrow)


def html_table(table: str) -> str:
    """A table in Markdown as one of a page."""
    from finegrid.evaluation.page import words_table  # matplotlib is heavy

    head, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines())
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return words_table(f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>")
