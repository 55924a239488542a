"""What each layout is to the benchmark: which question it asks, which of its fields stand for which, which methods."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finegrid.benchmark.layouts.task import FieldsTask, ForecastsTask, LayoutTask, StatesTask
from finegrid.benchmark.layouts.words import Options, options_of
from finegrid.benchmark.methods import Options as Methods
from finegrid.benchmark.methods import patchwork, sharing
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import nearest
from finegrid.data.layouts import Layout, Opened, layout_of

FORECASTS, COLUMNS, STATIONS = "forecasts", "columns", "stations"
_NOMINAL: Mapping[str, Any] = {"cycles": (), "backbone": {"embedding": 0}}
_LONGEST = 60


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One layout.

    Attributes:
        asked: the question, where it is not one of downscaling.
        matched: coarse names of what is predicted, where these differ.
        alone: whether the inputs are predictors alone.
        opening: options of the layout that the task needs unless others are given.
        options: of every method that has them.
        nominal: whether dates are nominal.
        usual: what is judged unless variables are asked for; all where none of these is there.
        methods: what is run unless others are asked for.
    """

    asked: str = ""
    matched: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    opening: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    nominal: bool = False
    usual: tuple[str, ...] = ()
    methods: Methods = field(default_factory=dict)


_ALONE = ("mean-map+none", "ridge+none", "pcr+none", "random-features+none", "analogues+none", "resnet+none")
KINDS: dict[str, Kind] = {
    # Of two sources that disagree, so that nothing is to be conserved.
    "rainshift": Kind(
        matched={"precipitation": "tp"},
        methods=sharing(("bicubic+none", "mean-map+none", "ridge+none", "analogues+none", "resnet-on-ridge+none")),
    ),
    "cordex-ml-bench": Kind(alone=True, methods=sharing(_ALONE)),
    "climatebench": Kind(
        alone=True,
        opening={"factor": 4},
        options={"cycles": ()},
        nominal=True,
        methods={
            "mean-map+none": {},
            "ridge+none": {},
            "pattern-scaling+none": {"predictor": "CO2", "by": "all"},
            "resnet+none": {},
        },
    ),
    "constrained-downscaling": Kind(options=_NOMINAL, nominal=True, methods=patchwork()),
    "chaosbench": Kind(asked=FORECASTS, opening={"lead": 0}, usual=("z@500", "t@850", "q@700")),
    "climsim": Kind(asked=COLUMNS),
    "weather2k": Kind(asked=STATIONS, usual=("tas", "hurs", "sfcWind", "ps")),
}


def task_of(
    folder: str | Path,
    *,
    layout: str | None = None,
    options: Sequence[str] = (),
    entries: Mapping[str, str] | None = None,
) -> LayoutTask:
    """The task that a folder in the layout of a public benchmark is.

    Args:
        folder: where the files are.
        layout: its name; by default the one that the folder is in.
        options: of the layout, as they are typed: "region=blacksea"; beside them "predict=pr,tasmax" and "thin=24".
        entries: files of predictions by others.

    Raises:
        InputError: when the folder is in no known layout, or lacks a part; on an unknown option or variable.
    """
    known = layout_of(folder, layout)
    kind, given = KINDS[known.name], options_of(known, options)
    opening = {**kind.opening, **given.opening}
    opened = known.open(folder, **opening)
    facts: dict[str, Any] = {
        "name": _named(known, opened),
        "title": _title(known, opened) + (", from predictors alone" if kind.alone else ""),
        "sample": known.name,
        "variables": _variables(kind, opened, given),
        "methods": kind.methods,
        "options": kind.options,
        "folder": str(folder),
        "layout": known.name,
        "opening": opening,
        "chosen": {**given.opening, **({"predict": list(given.variables)} if given.variables else {})},
        "thin": given.thin,
        "nominal": kind.nominal,
        "asked": kind.asked,
        "entries": dict(entries or {}) if kind.asked else {},
    }
    if kind.asked == FORECASTS:
        return (ForecastsTask if entries else StatesTask)(**facts)
    if kind.asked:
        return LayoutTask(**facts)
    return FieldsTask(**facts, predictors=_predictors(kind, opened), matched=kind.matched, alone=kind.alone)


def _variables(kind: Kind, opened: Opened, given: Options) -> tuple[str, ...]:
    """What is predicted, as was asked, or what is usual."""
    fields = harmonise(opened.fine.isel(time=slice(0, 1)))[0] if kind.asked == FORECASTS else opened.fine
    names = tuple(map(str, fields.data_vars))
    for name in given.variables:
        if name not in names:
            known = ", ".join(names)
            raise InputError(f"--option: got predict={name}; expected some of {known}.{nearest(name, names)}")
    return given.variables or tuple(name for name in kind.usual if name in names) or names


def _predictors(kind: Kind, opened: Opened) -> tuple[str, ...]:
    taken = {*opened.fine.data_vars, *kind.matched.values()}
    known = [str(name) for name in opened.coarse.data_vars if name not in taken]
    return tuple(name for name in known if kind.alone or opened.coarse[name].ndim > 1)


def _named(layout: Layout, opened: Opened) -> str:
    """A name that can be one of a folder, the same for the same choice."""
    word = re.sub(r"[^\w.]+", "-", "-".join([layout.name, *opened.chosen.values()])).strip("-")
    return word if len(word) <= _LONGEST else f"{word[:_LONGEST]}-{hashlib.sha256(word.encode()).hexdigest()[:6]}"


def _title(layout: Layout, opened: Opened) -> str:
    chosen = ", ".join(f"{key} {value}" for key, value in opened.chosen.items())
    return f"{layout.title}{f' ({chosen})' if chosen else ''}"
