"""Options of a layout as they are typed: `region=blacksea`, `lead=3`, `names=tcw,tas`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data.layouts import Layout

OWN = ("predict", "thin")
"""Options of a task that are none of the layout."""
_YES = ("yes", "true", "1")


@dataclass(frozen=True)
class Options:
    """What was typed.

    Attributes:
        opening: arguments of the layout.
        variables: what is predicted; empty for all.
        thin: of each part every so many-th time is taken.
    """

    opening: Mapping[str, Any] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    thin: int = 1


def options_of(layout: Layout, words: Sequence[str]) -> Options:
    """Options of words such as `region=blacksea`.

    Raises:
        InputError: on words of another form, unknown options, and values of another kind.
    """
    opening: dict[str, Any] = {}
    variables: tuple[str, ...] = ()
    thin = 1
    for word in words:
        key, _, text = word.partition("=")
        if not key or not text:
            raise InputError(f"--option: got {word}; expected a name and a value, such as region=blacksea")
        if key == "predict":
            variables = tuple(_listed(text))
        elif key == "thin":
            thin = _number(key, text)
        else:
            opening[key] = _value(layout, key, text)
    return Options(opening, variables, thin)


def first_choices(
    layout: Layout, folder: str | Path, words: Sequence[str]
) -> tuple[Mapping[str, tuple[str, ...]], list[str]]:
    """What a folder holds to choose from, and the options as typed with the first of each that was not chosen."""
    chosen = dict(word.partition("=")[::2] for word in words)
    offered = layout.offers(Path(folder).expanduser(), **chosen)
    more = [f"{key}={values[0]}" for key, values in offered.items() if values and key not in chosen]
    return offered, [*words, *more]


def _value(layout: Layout, key: str, text: str) -> Any:
    """A value of the kind that the layout wants, by the annotation of its argument."""
    known = inspect.signature(layout.reads).parameters
    if key not in layout.options:
        names = (*layout.options, *OWN)
        raise InputError(
            f"--option: got '{key}' for {layout.name}; expected some of {', '.join(names)}.{nearest(key, names)}"
        )
    kind = str(known[key].annotation)
    if "bool" in kind:
        return text.lower() in _YES
    if "float" in kind:
        return tuple(float(each) for each in _listed(text))
    if "int" in kind:
        return _number(key, text)
    if "Sequence" in kind and ("," in text or not kind.startswith("str")):
        return _listed(text)
    return text


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _number(key: str, text: str) -> int:
    if not text.lstrip("-").isdigit():
        raise InputError(f"--option: got {key}={text}; expected a whole number")
    return int(text)
