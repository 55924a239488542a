"""A job in one YAML file: which data, which downscaler, how long to train.

A recipe is checked when it is read, so that a mistyped key stops the job before any data is opened, and is
written with every default into the model folder, so that the job can be read and repeated years later.
Components are tables `{name: ..., **arguments}`; their arguments are checked against the component itself
when it is built (`finegrid.conventions.components`).
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import field, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.conventions.documents import read_text
from finegrid.conventions.paths import local_path
from finegrid.conventions.spans import Period, overlap, period
from finegrid.training.settings import Settings

_STRICT = ConfigDict(extra="forbid")
_SHOW_EXAMPLE = "`finegrid recipe --example` prints a recipe to start from."


# A recipe has some hundred lines; with names that stand for others (&name, *name) written out, not many more.
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1_000_000, 20_000, 32


class _Loader(yaml.SafeLoader):
    """YAML in which on, off, yes and no are words, as in version 1.2 of it: `on` is a key of `calibrate`.

    Keys that are there twice, deep nesting, and aliases that stand for ever more of each other are refused.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, of which it is counted how many values it stands for."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} times")
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if alias and id(node) not in self._sizes:
            raise yaml.YAMLError("an alias stands for what it is in")
        size = self._sizes[id(node)] = 1 + sum(self._sizes[id(each)] for each in _children(node))
        if size > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES} values")
        return node

    def construct_scalar(self, node: Any) -> Any:
        """The text of a node, which can be written again."""
        text = super().construct_scalar(node)
        text.encode()
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The table of a node, whose keys are there once."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [str(name) for name, count in names.items() if count > 1 and name != "<<"]
        if twice:
            raise yaml.YAMLError(f"the key '{twice[0]}' is there twice{node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in each if tag != _BOOL]
    for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | os.PathLike) else value


def _pairs_of_names(value: Any) -> Any:
    names = _several(value)
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return {name: name for name in names} if listed else names


def _table(value: Any) -> Any:
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ValueError("a component needs a name. Write it as {name: ...}, followed by its arguments")
    return table


def _table_or_none(value: Any) -> Any:
    return None if value is None else _table(value)


def _part(value: Any) -> float | str:
    is_fraction = isinstance(value, int | float) and value <= 1
    return float(value) if is_fraction else period(value)


Files = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Table = Annotated[dict[str, Any], BeforeValidator(_table)]
Part = Annotated[Annotated[float, Field(ge=0, lt=1)] | Period, BeforeValidator(_part)]
Interval = tuple[float, float]

FILE = "recipe.yaml"
"""Its name in a model folder."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Split:
    """Blocks of time, all periods ("1983/1996") or all fractions of the time axis in its order.

    `gap` is the number of time steps left out between neighbouring blocks, so that weather that lasts over
    the border is not seen on both sides; records too short for one do without.
    """

    train: Part = 0.7
    validate: Part = 0.1
    test: Part = 0.2
    gap: NonNegativeInt = 1

    @property
    def parts(self) -> dict[str, float | str]:
        """Train, validate and test by name."""
        return {"train": self.train, "validate": self.validate, "test": self.test}

    def __post_init__(self) -> None:
        periods = {name: part for name, part in self.parts.items() if isinstance(part, str)}
        fractions = [part for part in self.parts.values() if isinstance(part, float)]
        if periods and fractions:
            raise ValueError("periods and fractions are mixed. Give all of train, validate and test as the same kind")
        if sum(fractions) > 1 + 1e-9:
            raise ValueError(f"the fractions add up to {sum(fractions):g}. Give fractions with a sum of at most 1")
        for one, other in (("train", "validate"), ("train", "test"), ("validate", "test")):
            if periods and overlap(periods[one], periods[other]):
                raise ValueError(
                    f"{one} ({periods[one]}) and {other} ({periods[other]}) share times, which flatters the "
                    "scores. Give periods that do not overlap"
                )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Crop:
    """The part of the fine domain to use, as [low, high] in its own coordinates; None is all of it."""

    y: Interval | None = None
    x: Interval | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Data:
    """Which files and variables; file names are read from the folder in which the program runs.

    `variables` maps fine names to coarse ones (None: all that both files have); `predictors` are coarse only; `static`
    are files of fields without time; `frames` are offsets in time steps (None: those of
    the method); `cycles` become sines and cosines (None: the hour when there are several steps a day, the day of year
    after most of a year); `transforms` names one per variable where standardising does not suit it.
    """

    coarse: Files
    fine: Files
    static: Names = ()
    variables: Annotated[dict[str, str] | None, BeforeValidator(_pairs_of_names)] = None
    predictors: Names = ()
    split: Split = field(default_factory=Split)
    frames: Annotated[tuple[int, ...] | None, BeforeValidator(_several)] = None
    cycles: tuple[Literal["hour", "day_of_year"], ...] | None = None
    transforms: dict[str, str] = field(default_factory=dict)
    crop: Crop = field(default_factory=Crop)


def _default_downscaler() -> dict[str, Any]:
    return {
        "name": "neural",
        "backbone": None,
        "head": {"name": "point"},
        "mean": {"name": "ridge"},
        "loss": None,
        "constraint": {"name": "add"},
    }


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """A whole job: data, bias adjustment, downscaler, training, and a calibration `on` a period of its own."""

    data: Data
    adjust: Annotated[dict[str, Any] | None, BeforeValidator(_table_or_none)] = None
    downscaler: Table = field(default_factory=_default_downscaler)
    training: Settings = field(default_factory=Settings)
    calibrate: Annotated[dict[str, Any] | None, BeforeValidator(_table_or_none)] = None

    @classmethod
    def of(cls, settings: Any, *, source: str = "recipe") -> Self:
        """Check nested settings, as read from YAML or JSON; `source` names the file in errors.

        Raises:
            InputError: on an unknown key (names the nearest valid one), a missing one or a wrong value.
        """
        if not isinstance(settings, Mapping):
            raise InputError(f"{source} holds no settings, but a recipe is a table of them. {_SHOW_EXAMPLE}")
        try:
            return TypeAdapter(cls).validate_python(settings)
        except ValidationError as error:
            complaints = [_complaint(each["type"], each["loc"], each["msg"]) for each in error.errors()]
            raise InputError(f"{source}: " + "\n".join(complaints)) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read and check a YAML file."""
        try:
            text = read_text(local_path(path), most=_MOST_BYTES)
            settings = yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe one)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}. {_SHOW_EXAMPLE}") from None
        except InputError:
            raise
        except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError, LookupError, TypeError) as error:
            where = " ".join(str(error).split())
            raise InputError(f"{path} is not YAML: {where}. {_SHOW_EXAMPLE}") from None
        return cls.of(settings, source=str(path))

    def write(self, path: str | Path) -> None:
        """Write the recipe as YAML, every default included."""
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values for JSON or YAML; `Recipe.of` is the inverse."""
        settings: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return settings

    @staticmethod
    def example() -> str:
        """A commented recipe with every key, to start from."""
        return (files("finegrid.pipeline") / "example.yaml").read_text(encoding="utf-8")


def _complaint(kind: str, location: tuple[int | str, ...], message: str) -> str:
    words = [str(each) for each in location]
    if kind == "unexpected_keyword_argument":
        return _unknown_key(words[-1], _section(words[:-1]), ".".join(words[:-1]) or "the recipe")
    where = ".".join(words) or "the recipe"
    if kind in ("missing", "missing_argument"):
        return f"{where} is missing. {_SHOW_EXAMPLE}"
    return f"{where}: {message.removeprefix('Value error, ')}."


def _unknown_key(key: str, section: Any, where: str) -> str:
    valid = [each.name for each in fields(section)]
    elsewhere = [name for name, other in _SECTIONS.items() if key in (each.name for each in fields(other))]
    hint = f" Write it under '{elsewhere[0]}'." if elsewhere else nearest(key, valid)
    return f"{where} has no key '{key}'. The keys are {', '.join(valid)}.{hint}"


def _section(words: list[str]) -> Any:
    return _SECTIONS.get(".".join(words), Recipe)


_SECTIONS = {"data": Data, "data.split": Split, "data.crop": Crop, "training": Settings}
