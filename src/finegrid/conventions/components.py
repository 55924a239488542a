"""Components by name: from `{name: unet, width: 64}` to the thing itself, by the plain dict of its stage.

A recipe and the command line name a backbone, a loss or a constraint in words; the stage's dict says what
they are. The arguments are read from the signature of the constructor (or function), so that a new component
needs no schema. What only the program can know, such as the number of channels, is `given` by the caller and
is not the user's to set.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from finegrid.conventions.errors import InputError

Component = TypeVar("Component")
Components = Mapping[str, Callable[..., Component]]
Table = Mapping[str, Any]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def word_of(table: str | Table) -> str:
    """The name in a table, or the bare name."""
    return table if isinstance(table, str) else str(table.get("name", ""))


def table_of(table: str | Table) -> dict[str, Any]:
    """A table of its own, also of a bare name."""
    return {"name": table} if isinstance(table, str) else dict(table)


def build(table: str | Table, components: Components[Component], kind: str, /, **given: Any) -> Component:
    """Call the component that `table` names, with its arguments and those given.

    Args:
        table: `{name: ..., **arguments}`, or the bare name.
        components: the stage's dict of names.
        kind: what it is in the user's words, such as "backbone", for the error message.
        **given: arguments that the program decides.

    Raises:
        InputError: on an unknown name, an unknown argument (lists the valid ones) or a missing one.
    """
    name, arguments = _checked(table, components, kind, given)
    missing = [key for key, option in _options(components[name], given).items() if option.default is option.empty]
    for key in missing:
        if key not in arguments:
            raise InputError(f"{kind} '{name}' needs a value for '{key}'. Write {{name: {name}, {key}: ...}}.")
    return components[name](**given, **arguments)


def bind(table: str | Table, components: Components[Component], kind: str, /, *data: str) -> Callable[..., Component]:
    """The function that `table` names with its arguments filled in; `data` are parameters of the call."""
    name, arguments = _checked(table, components, kind, data)
    return functools.partial(components[name], **arguments)


def completed(table: str | Table, components: Components[Any], kind: str, /, *given: str) -> dict[str, Any]:
    """The table with every default of the component written out, except the `given` arguments."""
    name, arguments = _checked(table, components, kind, given)
    options = _options(components[name], given)
    defaults = {key: option.default for key, option in options.items() if option.default is not option.empty}
    defaults |= {key: make() for key, make in _factories(components[name]).items() if key in defaults}
    return {"name": name, **defaults, **arguments}


def nearest(word: str, valid: Iterable[str]) -> str:
    """What to append to an error message: " Did you mean 'width'?", or nothing when no valid word is near."""
    close = get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def _checked(
    table: str | Table, components: Components[Any], kind: str, given: Collection[str]
) -> tuple[str, dict[str, Any]]:
    arguments = table_of(table)
    name = str(arguments.pop("name", ""))
    if name not in components:
        raise InputError(
            f"There is no {kind} '{name}'. The names are {', '.join(sorted(components))}; "
            f"write {{name: ...}} with one of them.{nearest(name, components)}"
        )
    options = _options(components[name], given)
    for key in arguments:
        if key not in options:
            valid = ", ".join(options) or "none"
            hint = nearest(key, options)
            raise InputError(f"The {kind} '{name}' has no argument '{key}'. Its arguments are: {valid}.{hint}")
    return name, arguments


def _factories(component: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """What makes the defaults of a dataclass that are made anew each time; its signature does not show them."""
    every = dataclasses.fields(component) if dataclasses.is_dataclass(component) else ()
    return {each.name: each.default_factory for each in every if each.default_factory is not dataclasses.MISSING}


def _options(component: Callable[..., Any], given: Collection[str]) -> dict[str, inspect.Parameter]:
    """The arguments that are the user's to set."""
    parameters = inspect.signature(component).parameters
    return {key: each for key, each in parameters.items() if each.kind in _NAMED and key not in given}
