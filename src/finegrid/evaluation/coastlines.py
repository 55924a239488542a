"""Coastlines for maps, without a mapping library.

Natural Earth (naturalearthdata.com) land polygons at 1:50 million and 1:110 million, public domain, by way of
the TopoJSON of world-atlas 2.0.2. The package file holds them as polylines in steps of 1/400 degree (280 m,
finer than the data), as differences from point to point. The seams along 180 degrees and the South Pole,
which close the polygons but are no coast, are left out.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError

Line = NDArray[np.float64]

RESOLUTIONS = ("50m", "110m")
STEPS_PER_DEGREE = 400

# Above this width in degrees the fine coast is smaller than a pixel of a report's map.
_WIDE = 90.0


@lru_cache(maxsize=len(RESOLUTIONS))
def _lines(resolution: str) -> tuple[Line, ...]:
    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as stored:
        starts, steps, counts = (stored[f"{part}_{resolution}"] for part in ("starts", "steps", "counts"))
    lines = []
    for start, part in zip(starts, np.split(steps, np.cumsum(counts)[:-1]), strict=True):
        points = np.concatenate([[start], start + np.cumsum(part, axis=0, dtype=np.int32)])
        line = points / STEPS_PER_DEGREE
        line.setflags(write=False)
        lines.append(line)
    return tuple(lines)


def coastlines(resolution: str = "110m") -> list[Line]:
    """All coastlines as arrays (n, 2) of longitude and latitude in degrees; "50m" is the finer one.

    A line that crosses the date line runs on beyond 180 (or -180) instead of jumping around the map.
    """
    if resolution not in RESOLUTIONS:
        raise InputError(f'got coastlines at {resolution!r}; expected "50m" or "110m"; use coastlines("50m")')
    return list(_lines(resolution))


def within(west: float, east: float, south: float, north: float, *, resolution: str | None = None) -> list[Line]:
    """Coastlines cut at a box, whose longitudes may run beyond 180 (170..190) or lie in 0..360.

    Args:
        west: western edge of the box in degrees.
        east: eastern edge, greater than west.
        south: southern edge.
        north: northern edge.
        resolution: "50m" or "110m"; by default the one that suits the width of the box.
    """
    if not (west < east and south < north):
        raise InputError(
            f"got the box {west}..{east}, {south}..{north}; expected west < east and south < north; "
            "write a box across the date line as 170..190"
        )
    lines = coastlines(resolution or ("110m" if east - west > _WIDE else "50m"))
    lower, upper = np.array([west, south]), np.array([east, north])
    pieces: list[Line] = []
    # One turn more on either side, for the lines that run on across the date line.
    for turn in np.arange(np.floor((west + 180) / 360) - 1, np.floor((east + 180) / 360) + 2) * 360.0:
        for line in lines:
            moved = line + np.array([turn, 0.0])
            if (moved.max(axis=0) >= lower).all() and (moved.min(axis=0) <= upper).all():
                pieces.extend(_clipped(moved, lower, upper))
    return pieces


def _clipped(line: Line, lower: Line, upper: Line) -> list[Line]:
    """Parts of a polyline inside a box (Liang and Barsky 1984): of each segment, `enter`..`leave` of 0..1."""
    start, step = line[:-1], np.diff(line, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.stack([(lower - start) / step, (upper - start) / step])
    # A segment along an axis never crosses it: it is inside all the way, or nowhere.
    level, outside = step == 0, (start < lower) | (start > upper)
    first = np.where(level, np.where(outside, np.inf, -np.inf), crossings.min(axis=0))
    last = np.where(level, np.inf, crossings.max(axis=0))
    enter, leave = np.maximum(first.max(axis=1), 0.0), np.minimum(last.min(axis=1), 1.0)
    kept = np.flatnonzero(enter < leave)
    if not len(kept):
        return []
    together = (np.diff(kept) == 1) & (leave[kept[:-1]] == 1) & (enter[kept[1:]] == 0)
    runs = np.split(kept, np.flatnonzero(~together) + 1)
    return [
        np.concatenate(
            [start[run[:1]] + enter[run[0]] * step[run[:1]], start[run] + leave[run, None] * step[run]],
        )
        for run in runs
    ]
