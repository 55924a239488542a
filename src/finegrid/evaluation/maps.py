"""Maps of fields on their own grid, with coastlines; rotated and projected grids as they are computed.

One colour scale serves all fields of a quantity, another one all errors, symmetric about zero, so that
panels can be compared by eye. Colours can be told apart with any colour vision (viridis, cividis, red and
blue).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.coastlines import within
from finegrid.evaluation.planes import Plane
from finegrid.evaluation.scores import View
from finegrid.evaluation.viewing import TRUTH
from finegrid.evaluation.wording import labelled
from finegrid.grids import Grid

# Colour scales leave out this part of the values at either end, so that one cell does not bleach the map.
_SHOWN = (0.5, 99.5)
_COASTLINE_WIDTH, _HALO_WIDTH = 0.8, 1.8
_WIDE = 90.0
_PANEL_WIDTH = 4.0
_FIELDS, _DIFFERENCES, _ERRORS = "viridis", "RdBu_r", "cividis"
GREY, _GRATICULE = "#d9d9d9", "#808080"


@dataclass(frozen=True)
class Panel:
    """One map: its title, its values (y, x) on a grid, and which colour scale it shares."""

    title: str
    values: Array
    grid: Grid
    scale: str


def maps(view: View, method: str) -> Figure:
    """Coarse field, prediction and truth; below, errors of the prediction and the strongest baseline."""
    mean = f", mean of {view.members}" if view.members > 1 else ""
    prediction = Panel(f"{method}{mean}", view.prediction, view.grid, _FIELDS)
    return _sheet(view, [[*_coarse(view), prediction, _truth(view)], _error_panels(view, method)])


def members(view: View) -> Figure:
    """Coarse field, truth and mean over the members; below, some members: each as rough as the truth should be."""
    if view.ensemble is None:
        raise ValueError("a single prediction has no members to draw")
    mean = Panel(f"mean of {view.members} members", view.prediction, view.grid, _FIELDS)
    each = [Panel(f"member {n}", values, view.grid, _FIELDS) for n, values in enumerate(view.ensemble.members, 1)]
    return _sheet(view, [[*_coarse(view), _truth(view), mean], each])


def _sheet(view: View, rows: list[list[Panel]]) -> Figure:
    """Rows of maps, with a colour bar for each scale."""
    columns, panels = max(map(len, rows)), [panel for row in rows for panel in row]
    bars = len({frozenset(panel.scale for panel in row) for row in rows})
    height = len(rows) * (_PANEL_WIDTH * Plane(view.grid).height_over_width + 0.45) + 0.7 * bars
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    figure = Figure(figsize=(_PANEL_WIDTH * columns, float(np.clip(height, 5, 16))), layout=layout)
    drawn = {}
    for number, row in enumerate(rows):
        for column, panel in enumerate(row):
            axes = figure.add_subplot(len(rows), columns, number * columns + column + 1)
            drawn[axes] = panel
            draw(axes, panel, view.grid, _norm(panel, panels), first=column == 0)
    for scale in dict.fromkeys(panel.scale for panel in panels):
        shared = [axes for axes, panel in drawn.items() if panel.scale == scale]
        _colour_bar(figure, shared, drawn[shared[0]], panels, view.units)
    return figure


def _coarse(view: View) -> list[Panel]:
    if view.coarse is None or view.coarse_grid is None:
        return []
    return [Panel("coarse field", view.coarse, view.coarse_grid, _FIELDS)]


def _truth(view: View) -> Panel:
    return Panel(TRUTH, view.truth, view.grid, _FIELDS)


def _error_panels(view: View, method: str) -> list[Panel]:
    panels = [Panel(f"error of {method}", view.prediction - view.truth, view.grid, _DIFFERENCES)]
    if view.rival_field is not None:
        panels.append(Panel(f"error of {view.rival}", view.rival_field - view.truth, view.grid, _DIFFERENCES))
    return [*panels, Panel(f"RMSE of {method}, all times", view.errors[method], view.grid, _ERRORS)]


def _norm(panel: Panel, panels: list[Panel]) -> Normalize:
    alike = [each for each in panels if each.scale == panel.scale]
    if panel.scale == _FIELDS:
        # What a prediction invents beyond the truth's range is for the ends of the scale.
        alike = [each for each in panels if each.title == TRUTH]
    values = np.concatenate([each.values.ravel() for each in alike])
    values = values[np.isfinite(values)]
    if panel.scale == _DIFFERENCES:
        largest = float(np.percentile(np.abs(values), _SHOWN[1])) or 1.0
        return Normalize(-largest, largest)
    low, high = (float(end) for end in np.percentile(values, _SHOWN))
    low = 0.0 if panel.scale == _ERRORS else low
    return Normalize(low, high if high > low else low + 1.0)


def draw(axes: Axes, panel: Panel, domain: Grid, norm: Normalize, *, first: bool) -> None:
    """One map."""
    plane = Plane(domain)
    mesh = plane.own_mesh if panel.grid is domain else plane.mesh(panel.grid)
    axes.set_facecolor(GREY)
    axes.pcolormesh(*mesh, panel.values, cmap=panel.scale, norm=norm, rasterized=True)
    axes.add_collection(coastlines(plane), autolim=False)
    west, east, south, north = plane.limits
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(plane.stretch)
    axes.set_title(panel.title, fontsize=12)
    axes.tick_params(labelsize=9, labelleft=first)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    _label(axes, domain, first=first)


def _label(axes: Axes, grid: Grid, *, first: bool) -> None:
    if grid.is_latlon:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _degrees(value, "E", "W")))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _degrees(value, "N", "S")))
        return
    if grid.in_degrees or grid.is_curvilinear:
        axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        _graticule(axes, grid)
        return
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}".replace("-", "−")))
        if name == "x" or first:
            axis.set_label_text(f"{name} (km)", fontsize=9)


def _graticule(axes: Axes, grid: Grid) -> None:
    """Meridians and parallels over a grid whose own coordinates mean nothing to a reader."""
    for values, sides in zip(grid.centres, (("N", "S"), ("E", "W")), strict=True):
        levels = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(values.min(), values.max())
        lines = axes.contour(
            *Plane(grid).centres, values, levels, colors=_GRATICULE, linewidths=0.6, linestyles="solid"
        )
        names = {level: _degrees(level, *sides) for level in levels}
        for label in axes.clabel(lines, fmt=names, fontsize=8, inline=False):
            label.set_color("black")
            label.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _degrees(value: float, positive: str, negative: str) -> str:
    if positive == "E":
        value = (value + 180) % 360 - 180
    side = "" if value == 0 else positive if value > 0 else negative
    return f"{abs(value):g}°{side}"


def _colour_bar(figure: Figure, shared: list[Axes], panel: Panel, panels: list[Panel], units: str) -> None:
    across = len({place.colspan.start for axes in shared if (place := axes.get_subplotspec()) is not None})
    bar = figure.colorbar(
        ScalarMappable(_norm(panel, panels), panel.scale),
        ax=shared,
        location="bottom",
        extend="max" if panel.scale == _ERRORS else "both",
        fraction=0.05,
        pad=0.02,
        aspect=18 * across,
        shrink=0.9,
    )
    meaning = {_FIELDS: "value", _DIFFERENCES: "prediction − truth", _ERRORS: "RMSE over time"}[panel.scale]
    bar.set_label(labelled(meaning, units), fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.locator = MaxNLocator(4 * across, steps=[1, 2, 5, 10])
    bar.update_ticks()


def coastlines(plane: Plane) -> LineCollection:
    """Coastlines of a map, white around, for any colours below."""
    longitude, latitude = plane.domain.corners[..., 0], plane.domain.corners[..., 1]
    west, east = float(longitude.min()), float(longitude.max())
    # Half a cell more, so that lines run up to the edge of the map.
    margin = 0.5
    south, north = max(-90.0, float(latitude.min()) - margin), min(90.0, float(latitude.max()) + margin)
    lines = [plane.points(line) for line in within(west - margin, east + margin, south, north)]
    known = [line[np.isfinite(line).all(axis=1)] for line in lines]
    thin = 0.5 if east - west > _WIDE else 1.0
    outline = LineCollection([line for line in known if len(line) > 1], colors="black")
    outline.set_linewidth(thin * _COASTLINE_WIDTH)
    outline.set_path_effects([withStroke(linewidth=thin * _HALO_WIDTH, foreground="white", alpha=0.7)])
    return outline
