"""Attributions to be seen: a map for each variable, and how the parts fall off with distance from the target.

Red is what raises the number against the baseline, blue what lowers it, on one scale for all variables that is
symmetric about zero; both colours can be told apart with any colour vision.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from finegrid.benchmark.attribution.aggregate import Aggregate
from finegrid.conventions import InputError, harmonise
from finegrid.evaluation.figures import tidy
from finegrid.evaluation.maps import Panel, draw
from finegrid.evaluation.planes import Plane
from finegrid.evaluation.wording import labelled

_SIGNED, _SIZE = "RdBu_r", "cividis"
_WIDTH, _DPI = 4.0, 130
# Colours of Okabe and Ito that differ from those of the maps.
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")


def figure(found: Aggregate, path: str | Path) -> Path:
    """Draw maps and distances into a PNG file, which appears when it is complete.

    Args:
        found: attributions over times.
        path: the file to write.

    Raises:
        InputError: when it cannot be written.
    """
    target = Path(path)
    content = io.BytesIO()
    drawn(found).savefig(content, format="png", dpi=_DPI)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(content.getvalue())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"could not write {target} ({error}); expected a folder that may be written to") from error
    return target


def drawn(found: Aggregate) -> Figure:
    """The picture: a row of maps for each kind of mean, a column for each variable, distances below."""
    kinds = {"mean": found.signed, "mean size": found.size} if found.times > 1 else {"": found.signed}
    names = list(map(str, found.signed.data_vars))
    map_height = _WIDTH * Plane(found.grid).height_over_width + 0.4
    heights = [*(map_height for _ in kinds), 2.2]
    size = (max(_WIDTH * len(names) + 1.2, 5.6), sum(heights) + 0.9)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08))
    grid = figure.add_gridspec(len(heights), len(names), height_ratios=heights)
    for row, (kind, fields) in enumerate(kinds.items()):
        axes = [figure.add_subplot(grid[row, column]) for column in range(len(names))]
        _maps(figure, axes, found, kind, fields)
    _distances(figure.add_subplot(grid[len(kinds), :]), found)
    times = "" if found.times == 1 else f", {found.times} times"
    words = found.signed.attrs
    method = f"{words['attribution_method']}, baseline: {words['attribution_baseline']}"
    figure.suptitle(f"What the {words['attribution_target']} is made of{times}\n{method}", fontsize=11)
    return figure


def _maps(figure: Figure, drawn_on: list[Axes], found: Aggregate, kind: str, fields: xr.Dataset) -> None:
    """A row of maps on one colour scale."""
    planes = _planes(fields)
    largest = max((float(np.nanmax(np.abs(plane), initial=0.0)) for plane in planes.values()), default=0.0) or 1.0
    signed = kind != "mean size"
    scale, norm = (_SIGNED, Normalize(-largest, largest)) if signed else (_SIZE, Normalize(0.0, largest))
    for column, (axes, (name, plane)) in enumerate(zip(drawn_on, planes.items(), strict=True)):
        title = f"{name}, {kind}" if kind else name
        panel = Panel(f"{title} ({found.share[name]:.0%} of all)", plane, found.grid, scale)
        draw(axes, panel, found.grid, norm, first=column == 0)
        axes.title.set_fontsize(10)
        _mark(axes, found)
    bar = figure.colorbar(ScalarMappable(norm, scale), ax=drawn_on, location="right", fraction=0.05, pad=0.02)
    units = str(next(iter(fields.data_vars.values())).attrs.get("units", ""))
    bar.set_label(labelled("part of the change from the baseline" if signed else "size of the part", units), fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _planes(fields: xr.Dataset) -> dict[str, np.ndarray]:
    """Maps (y, x) in standard orientation."""
    standard, _ = harmonise(fields, static=True)
    return {str(name): np.asarray(field.transpose("y", "x").values) for name, field in standard.data_vars.items()}


def _mark(axes: Axes, found: Aggregate) -> None:
    """A box around the target, or a star at it."""
    words, plane = found.signed.attrs, Plane(found.grid)
    around = withStroke(linewidth=3, foreground="white")
    if "target_box" in words:
        line = plane.points(_outline(*map(float, words["target_box"])))
        axes.plot(line[:, 0], line[:, 1], color="black", linewidth=1.4, path_effects=[around])
        return
    place = plane.points(np.array([[words["target_longitude"], words["target_latitude"]]], dtype=np.float64))[0]
    axes.plot(*place, marker="*", color="black", markersize=11, markeredgecolor="white", linestyle="none")


def _outline(south: float, north: float, west: float, east: float) -> np.ndarray:
    """Longitudes and latitudes (n, 2) along the sides of a box."""
    along, back = np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    x = np.concatenate([along, np.ones(50), back, np.zeros(50)])
    y = np.concatenate([np.zeros(50), along, np.ones(50), back])
    return np.stack([west + (east - west) * x, south + (north - south) * y], axis=-1)


def _distances(axes: Axes, found: Aggregate) -> None:
    for index, name in enumerate(found.distance["variable"].values):
        line = 100 * found.distance.sel(variable=name)
        (drawn_line,) = axes.plot(found.distance["distance"], line, marker="o", markersize=3.5, label=str(name))
        drawn_line.set(color=_LINES[index % len(_LINES)], linestyle=_DASHES[index % len(_DASHES)])
    axes.set_xlabel("distance from the middle of the target (km)", fontsize=9)
    axes.set_ylabel("share of the sizes (%)", fontsize=9)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=9, frameon=False)
    tidy(axes)
