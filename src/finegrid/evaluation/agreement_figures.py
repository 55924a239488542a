"""Agreement of coarse and fine data to be seen: a map of the bias for each season, and a section of a report.

Maps are drawn over the longitudes and latitudes of the cells' corners, so that rectangular, rotated, projected and
curvilinear grids look alike. Red is where the fine data are higher, blue where they are lower, on one scale that is
symmetric about zero; cells with a dot are those whose bias may be chance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from finegrid.evaluation.agreement import Agreement, words_of
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.coastlines import within
from finegrid.evaluation.maps import GREY
from finegrid.evaluation.page import picture
from finegrid.evaluation.seasonal import SeasonAgreement
from finegrid.evaluation.wording import decimals_of, labelled, pretty, rounded

_TITLES = {
    "DJF": "December – February",
    "MAM": "March – May",
    "JJA": "June – August",
    "SON": "September – November",
}
# Colours leave out the most extreme values, so that one cell does not bleach the map.
_SHOWN = 99.5
_COLOURS = "RdBu_r"
_PANEL_WIDTH = 4.6
_DOT = 0.11
_HEADLINES = {
    "same": "Yes: the coarse data are the fine data, coarsened.",
    "close": "Nearly: they show the same weather, without a bias that matters.",
    "biased": "Only up to a bias: they show the same weather, but on different levels.",
    "scattered": "Only in part: they differ from time to time.",
    "unrelated": "No: they do not show the same weather.",
}
_READING = (
    "Bias: mean of the fine data minus coarse data, by area. Significant: cells whose bias is not chance (false "
    "discovery rate 0.1). Spread: root mean square of the difference about each cell's seasonal mean. Variability: the "
    "same of the coarse field. Intervals: moving-block bootstrap over time."
)
_CAPTION = (
    "Bias of each coarse cell: mean of the fine data minus coarse data. Red: the fine data are higher; blue: they are "
    "lower. A dot marks a cell whose bias may be chance (false discovery rate 0.1); grey is not compared."
)


@dataclass(frozen=True)
class Box:
    """What a map shows, in degrees; longitudes may run beyond 180."""

    west: float
    east: float
    south: float
    north: float

    @property
    def stretch(self) -> float:
        """A degree of latitude in degrees of longitude, in the middle of the map."""
        return float(1 / max(np.cos(np.deg2rad((self.south + self.north) / 2)), 0.2))


def bias_maps(found: Agreement) -> Figure:
    """One map of the bias a season, on one colour scale."""
    longitude, latitude = _corners(found)
    box = _box(found, longitude, latitude)
    norm, columns = _norm(found), min(2, len(found.seasons))
    rows = -(-len(found.seasons) // columns)
    shape = np.clip((box.north - box.south) * box.stretch / (box.east - box.west), 0.3, 1.6)
    size = _PANEL_WIDTH * columns + 0.4, rows * (_PANEL_WIDTH * float(shape) + 0.5) + 0.9
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08))
    drawn = [figure.add_subplot(rows, columns, index + 1) for index in range(len(found.seasons))]
    for axes, season in zip(drawn, found.seasons, strict=True):
        axes.pcolormesh(longitude, latitude, season.bias_map, cmap=_COLOURS, norm=norm, rasterized=True)
        _frame(axes, box)
        _dot(axes, found, season, box)
        _title(axes, season, found.units)
    _colour_bar(figure, drawn, norm, found.units)
    return figure


def section(found: Agreement) -> str:
    """A section of a report in HTML: verdict and advice, figures of each season, and the maps."""
    advice = "\n".join(f"<p>{_with_code(sentence)}</p>" for sentence in found.advice)
    alternative = f"Maps of the bias of {found.name} between fine and coarse data"
    return (
        '<section class="agreement">\n<h3>Do coarse and fine data agree?</h3>\n'
        f"<p><strong>{escape(_HEADLINES[found.verdict])}</strong></p>\n{advice}\n{_table(found)}\n"
        f"{picture(bias_maps(found), alternative, _CAPTION, narrow=True)}\n</section>"
    )


def _corners(found: Agreement) -> tuple[Array, Array]:
    """Longitudes and latitudes of the corners (h + 1, w + 1), without a jump where the date line is crossed."""
    longitude, latitude = found.grid.corners[..., 0], found.grid.corners[..., 1]
    return np.unwrap(np.unwrap(longitude, axis=1, period=360.0), axis=0, period=360.0), latitude


def _box(found: Agreement, longitude: Array, latitude: Array) -> Box:
    """Around the cells that are compared, and half a cell more."""
    compared = np.pad(np.isfinite(found.overall.bias_map), 1)
    touched = compared[:-1, :-1] | compared[:-1, 1:] | compared[1:, :-1] | compared[1:, 1:]
    west, east = longitude[touched].min(), longitude[touched].max()
    south, north = latitude[touched].min(), latitude[touched].max()
    around = min(0.5 * np.sqrt((east - west) * (north - south) / compared.sum()), (360 - east + west) / 2)
    half = max(around, 0.0)
    return Box(west - half, east + half, max(south - half, -90.0), min(north + half, 90.0))


def _norm(found: Agreement) -> Normalize:
    sizes = np.concatenate([np.abs(season.bias_map[np.isfinite(season.bias_map)]) for season in found.seasons])
    largest = float(np.percentile(sizes, _SHOWN)) or 1.0
    return Normalize(-largest, largest)


def _frame(axes: Axes, box: Box) -> None:
    axes.set_facecolor(GREY)
    axes.add_collection(_coastlines(box), autolim=False)
    axes.set_xlim(box.west, box.east)
    axes.set_ylim(box.south, box.north)
    axes.set_aspect(box.stretch)
    axes.tick_params(labelsize=9)
    for axis, sides in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(partial(_degrees, sides=sides)))


def _degrees(value: float, _: int | None, *, sides: str) -> str:
    value = (value + 180) % 360 - 180 if sides == "EW" else value
    return f"{abs(value):g}°{'' if value == 0 else sides[int(value < 0)]}"


def _coastlines(box: Box) -> LineCollection:
    outline = LineCollection(within(box.west, box.east, box.south, box.north), colors="black", linewidth=0.8)
    outline.set_path_effects([withStroke(linewidth=1.8, foreground="white", alpha=0.7)])
    return outline


def _dot(axes: Axes, found: Agreement, season: SeasonAgreement, box: Box) -> None:
    """Mark cells that are compared and not significant."""
    chosen = np.isfinite(season.bias_map) & ~season.significant
    latitude, longitude = (centre[chosen] for centre in found.grid.centres)
    # The centre of a cell beyond the date line is written 360 degrees away from its corners.
    longitude = box.west + (longitude - box.west) % 360
    cells = np.sqrt(np.isfinite(season.bias_map).sum())
    size = np.clip(_DOT * 72 * _PANEL_WIDTH / cells, 1.0, 5.0)
    axes.scatter(longitude, latitude, s=size**2, color="black", linewidths=0, zorder=3)


def _title(axes: Axes, season: SeasonAgreement, units: str) -> None:
    mean = f"{rounded(season.bias, decimals_of('bias', season.spread))}\u00a0{pretty(units)}".rstrip()
    axes.set_title(_TITLES[season.season], fontsize=12, loc="left")
    axes.set_title(f"mean {mean}", fontsize=10, loc="right")


def _colour_bar(figure: Figure, drawn: list[Axes], norm: Normalize, units: str) -> None:
    width = 30 * min(len(drawn), 2)
    bar = figure.colorbar(
        ScalarMappable(norm, _COLOURS),
        ax=drawn,
        location="bottom",
        extend="both",
        fraction=0.05,
        pad=0.02,
        aspect=width,
    )
    words = f"fine data lower  ←  {labelled('bias', units)}  →  fine data higher"
    bar.set_label(f"{words}\ndots: the bias may be chance", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.locator = MaxNLocator(8, steps=[1, 2, 5, 10])
    bar.update_ticks()


def _table(found: Agreement) -> str:
    head, *rows = words_of(found)
    top = "".join(f'<th scope="col">{escape(word)}</th>' for word in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(word)}</td>" for word in rest)}</tr>'
        for first, *rest in rows
    )
    table = f"<caption>{escape(_READING)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="scores">{table}</table></div>'


def _with_code(sentence: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(sentence))
