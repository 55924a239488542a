"""Pieces of a report: a figure as a picture in the page, tables of words."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from html import escape

from matplotlib.figure import Figure

_DPI = 150


def picture(figure: Figure, alternative: str, caption: str, *, narrow: bool = False) -> str:
    """A figure as SVG inside the page, with what it shows in words below."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=_DPI, bbox_inches="tight", metadata={"Date": None})
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    kind = "narrow" if narrow else "wide"
    image = f'<img src="data:image/svg+xml;base64,{content}" alt="{escape(alternative)}">'
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="{kind}"><div class="scroll">{image}</div>{below}</figure>'


def with_contents(page: str) -> str:
    """The page with a list of its sections, each of which it leads to, in front of the first one."""
    pieces = re.split(r"<h2>(.*?)</h2>", page)
    titles = pieces[1::2]
    links = "".join(f'<a href="#s{number}">{title}</a>' for number, title in enumerate(titles, 1))
    for number, title in enumerate(titles, 1):
        pieces[2 * number - 1] = f'<span id="s{number}"></span><h2>{title}</h2>'
    head, first, section = pieces[0].rpartition("<section")
    return "".join([head, f"<nav>{links}</nav>\n" if titles else "", first, section, *pieces[1:]])


def words_table(content: str) -> str:
    """A table of words that may be wider than the page."""
    return f'<div class="scroll"><table class="words">{content}</table></div>'


def facts_table(facts: Mapping[str, str] | None) -> str:
    """Facts by name; nothing where there are none."""
    if not facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(str(value))}</td></tr>' for key, value in facts.items()
    )
    return words_table(f"<tbody>{rows}</tbody>")
