"""Attribution as a part of a report: shares of the coarse variables, and maps of what the prediction hangs on.

What `finegrid attribute` has put into the folder of a model is taken (`attribution.nc`). Where there is nothing, and it
is asked for, some times of the period are attributed: the first variable in the middle of the domain, by integrated
gradients of a network and by occlusion of other models. (The mean over the area would say little of a model that
conserves: it is that of the coarse field.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.attribution.aggregate import Aggregate, aggregate
from finegrid.benchmark.attribution.fields import USUAL, attribute
from finegrid.benchmark.attribution.files import words_of
from finegrid.benchmark.attribution.occlusion import Occlusion
from finegrid.benchmark.attribution.targets import Target
from finegrid.conventions import harmonise
from finegrid.data import open_fields
from finegrid.downscalers import Downscaler, NeuralDownscaler, load
from finegrid.evaluation.parts import Part, Picture
from finegrid.evaluation.parts.base import markdown_table
from finegrid.grids import Grid
from finegrid.pipeline.material import times_of_period

FILE = "attribution.nc"
# Times that are attributed, and variables that fit side by side.
_MOST, _DRAWN = 12, 3


def attribution_parts(
    model: str | Path, coarse: str | Path | Sequence[str | Path] | None, period: str, *, wanted: bool = False
) -> list[Part]:
    """The attribution of a model; nothing where its folder holds none and none is wanted.

    Args:
        model: its folder.
        coarse: files of the input.
        period: of which some times are attributed.
        wanted: whether to attribute where nothing is kept.

    Raises:
        InputError: when the input does not suit the model.
    """
    downscaler, path = load(model), Path(model) / FILE
    if path.exists() and (kept := open_fields(path)).attrs.get("finegrid_model") == downscaler.digest:
        return [part_of(kept.load())]
    if not wanted or coarse is None:
        return []
    return [part_of(some(downscaler, open_fields(coarse), period))]


def some(downscaler: Downscaler, coarse: xr.Dataset, period: str) -> xr.Dataset:
    """Attributions of at most a dozen times of a period, far from each other."""
    standard, names = harmonise(coarse)
    times = standard.time.values[times_of_period(coarse, period)]
    chosen = times[np.unique(np.linspace(0, len(times) - 1, _MOST).round().astype(int))]
    method = USUAL if isinstance(downscaler, NeuralDownscaler) else Occlusion.name
    target = Target(at=_middle(downscaler.domain.true_grid))
    # Each by itself, for a model may look at the steps beside it.
    found = [
        attribute(downscaler, coarse, target=target, method=method, time=str(each)[:19].replace(" ", "T"))
        for each in chosen
    ]
    joined = xr.concat(found, names.coordinates["time"].dimension, combine_attrs="override")
    worst = max(float(each.attrs["completeness_error"]) for each in found)
    return joined.assign_attrs(completeness_error=worst)


def _middle(grid: Grid) -> tuple[float, float]:
    """Latitude and longitude of the valid cell that is nearest to the middle row and column."""
    rows, columns = np.indices(grid.shape)
    away = (rows - (grid.shape[0] - 1) / 2) ** 2 + (columns - (grid.shape[1] - 1) / 2) ** 2
    valid = away if grid.mask is None else np.where(grid.mask, away, np.inf)
    place = np.unravel_index(int(valid.argmin()), grid.shape)
    lat, lon = grid.centres
    return float(lat[place]), float(lon[place])


def part_of(attributions: xr.Dataset) -> Part:
    """The part of a report.

    Args:
        attributions: what `attribute` gave, or `finegrid attribute` wrote.
    """
    found = aggregate(attributions)
    rows = [[name, f"{100 * share:.1f} %"] for name, share in sorted(found.share.items(), key=lambda each: -each[1])]
    words = " ".join(words_of(found, attributions.attrs))
    about = ("attribution_target", "attribution_method", "attribution_baseline")
    plain: dict[str, Any] = {key.removeprefix("attribution_"): str(attributions.attrs[key]) for key in about}
    plain |= {"times": found.times, "share": {name: float(share) for name, share in found.share.items()}}
    return Part(
        "attribution",
        "What the prediction hangs on",
        ((words, markdown_table(("coarse variable", "share of what counts"), rows)),),
        plain | {"words": words},
        (_picture(found),),
    )


def _picture(found: Aggregate) -> Picture:
    shown = sorted(found.share, key=lambda name: -found.share[name])[:_DRAWN]
    left = len(found.share) - len(shown)
    more = f" {left} variables that count less are not drawn." if left else ""
    caption = (
        "Which coarse cells raise the number (red) or lower it (blue) against the baseline, how much they matter "
        f"whichever way, and how that falls off with distance. The star or box is the target.{more}"
    )
    only = replace(
        found,
        signed=found.signed[shown],
        size=found.size[shown],
        share={name: found.share[name] for name in shown},
        distance=found.distance.sel(variable=shown),
    )
    return Picture(partial(_drawn, only), f"Maps of the attribution to {', '.join(shown)}", caption)


def _drawn(found: Aggregate) -> Any:
    from finegrid.benchmark.attribution.figures import drawn  # matplotlib is heavy

    return drawn(found)
