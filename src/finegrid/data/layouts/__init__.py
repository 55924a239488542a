"""Folders in the layouts of public benchmarks as coarse and fine fields: `open_layout(folder)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data.layouts import (
    chaosbench,
    climatebench,
    climsim,
    constrained,
    cordex_ml,
    rainshift,
    weather2k,
)
from finegrid.data.layouts.base import Layout, Opened, checked_folder

LAYOUTS: dict[str, Layout] = {
    each.name: each
    for each in (
        rainshift.LAYOUT,
        cordex_ml.LAYOUT,
        climatebench.LAYOUT,
        chaosbench.LAYOUT,
        climsim.LAYOUT,
        weather2k.LAYOUT,
        constrained.LAYOUT,
    )
}


def open_layout(folder: str | Path, name: str | None = None, **options: Any) -> Opened:
    """Read the folder of a benchmark.

    Args:
        folder: where its files are.
        name: of the layout; by default the one that the folder is in.
        **options: of the layout, such as the region or the experiment.

    Raises:
        InputError: when the folder is in none of the layouts, or in several; when a file is missing; on an unknown name
            or option.
    """
    return layout_of(folder, name).open(folder, **options)


def layout_of(folder: str | Path, name: str | None = None) -> Layout:
    """The layout of that name; without one, that which a folder is in.

    Raises:
        InputError: on an unknown name; as `recognised`.
    """
    return recognised(folder) if name is None else _named(name)


def recognised(folder: str | Path) -> Layout:
    """The layout that a folder is in, by the names of its files.

    Raises:
        InputError: when it is in none (says what was looked for), or in several.
    """
    path = checked_folder(folder)
    found = [layout for layout in LAYOUTS.values() if layout.matches(path)]
    if not found:
        looked = "; ".join(f"{layout.name}: {layout.files}" for layout in LAYOUTS.values())
        raise InputError(
            f"{path} is in none of the layouts. Looked for: {looked}. Check the path, or unpack the archives"
        )
    if len(found) > 1:
        names = ", ".join(layout.name for layout in found)
        raise InputError(f"{path} is in the layouts {names}; expected one; say which with name=... (--layout)")
    return found[0]


def _named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise InputError(f"There is no layout '{name}'. The names are {', '.join(LAYOUTS)}.{nearest(name, LAYOUTS)}")
    return LAYOUTS[name]


__all__ = ["LAYOUTS", "Layout", "Opened", "layout_of", "open_layout", "recognised"]
