"""A score over some dimensions and by groups: labelled fields, lazy where prediction and truth are.

>>> score(prediction, truth, metric="crps", over="time")                       # a map                # doctest: +SKIP
>>> score(prediction, truth, metric="rmse", over=("lat", "lon"))               # a series             # doctest: +SKIP
>>> score(prediction, truth, metric="bias", by=("time.season", regions))       # a table of groups    # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import xarray as xr

from finegrid.conventions import Names, harmonise, restore
from finegrid.evaluation.metrics import Metric
from finegrid.evaluation.reductions.groups import Groups
from finegrid.evaluation.reductions.pairs import Pair, as_dataset, axes_of, pairs_of
from finegrid.evaluation.reductions.request import MEMBER, By, Request, kept_of, labels_of, metric_of
from finegrid.evaluation.reductions.sums import Plan, scores_of

Fields = TypeVar("Fields", xr.Dataset, xr.DataArray)

_UNNAMED = "field"
# What is said of the values of a field is not true of a score of them.
_OF_VALUES = ("standard_name", "cell_methods", "valid_min", "valid_max", "valid_range", "actual_range")


def score(
    prediction: Fields,
    truth: Fields,
    *,
    metric: str | Metric,
    over: str | Sequence[str] | None = None,
    by: By | Sequence[By] = (),
    threshold: float | None = None,
) -> Fields:
    """Score a prediction over some dimensions, by groups, or both, on the times that both fields share.

    The mean is weighted by the areas of the cells, and cells and times count in which truth and all members are known.
    What is lazy stays so: nothing is read before the result is computed.

    Args:
        prediction: fine fields in the user's own names, with or without members. The metric judges them together, as it
            does in `evaluate`.
        truth: fine fields on the same grid, the mean of its members where it has some. Its units are used, and the
            result has its names. A DataArray is compared with a DataArray of any name, the variables of a Dataset with
            those of the same.
        metric: a name in METRICS, or a metric.
        over: dimensions of the truth to average over, by default all; the others stay. A metric that judges whole
            fields has to be averaged over those of space.
        by: groups to average within: "time.season" and other parts of the time, the name of a coordinate of the truth,
            labels over some of its dimensions, or "member" to judge each member by itself; several of them for all
            combinations. Cases with a missing label are left out.
        threshold: of metrics of an event, in the units of the truth; by default the 95th percentile of all of it.

    Returns:
        Scores with a dimension for each kind of group, in ascending order of the labels, and those that stay; NaN where
        nothing is known. Units are those of the metric; names and coordinates those of the truth.

    Raises:
        InputError: on an unknown metric, dimension or label, labels that do not fit, a metric that cannot leave what is
            asked for, or fields that cannot be compared.
    """
    name = _name(truth)
    true, given = as_dataset(truth, name, "truth"), as_dataset(prediction, name, "prediction")
    axes, member = axes_of(harmonise(true, source="truth")[1]), harmonise(given, source="prediction")[1].member
    single, labels = labels_of(by, given, member)
    groups = tuple(Groups.of(each, truth, axes) for each in labels)
    asked = Request(metric_of(metric), kept_of(over, axes, member), groups, single, threshold)
    asked.check(axes)
    pairs = pairs_of(given, true, groups, axes)
    found = xr.Dataset({key: _scored(pair, asked) for key, pair in pairs.each.items()}, attrs=true.attrs)
    like_truth: Fields = _like(truth, _restored(found, pairs.names), name)
    return like_truth


def _name(truth: xr.Dataset | xr.DataArray) -> str:
    return str(truth.name) if isinstance(truth, xr.DataArray) and truth.name is not None else _UNNAMED


def _like(truth: xr.Dataset | xr.DataArray, found: xr.Dataset, name: str) -> Any:
    return found[name].rename(truth.name) if isinstance(truth, xr.DataArray) else found


def _scored(pair: Pair, asked: Request) -> xr.DataArray:
    """The scores of a variable in standard form."""
    counts = tuple(len(group.labels) for group in asked.groups)
    members = pair.prediction.sizes["member"] if asked.each_member else None
    values = scores_of(pair, Plan(asked.metric, asked.kept, counts, members, asked.threshold))
    coords = {name: each for name, each in pair.truth.coords.items() if _stays(each, asked.kept)}
    if asked.each_member and "member" in pair.prediction.coords:
        coords["member"] = pair.prediction["member"]
    return xr.DataArray(
        values,
        dims=[*([MEMBER] if asked.each_member else []), *(group.name for group in asked.groups), *asked.kept],
        coords={**coords, **{group.name: group.labels for group in asked.groups}},
        name=pair.truth.name,
        attrs=_attributes(pair.truth, asked.metric),
    )


def _stays(coordinate: xr.DataArray, kept: tuple[str, ...]) -> bool:
    dims = set(coordinate.dims) - {"bounds", "vertices"}
    return dims <= set(kept) if dims else {"y", "x"} <= set(kept)


def _attributes(truth: xr.DataArray, metric: Metric) -> dict[str, Any]:
    """What is known of the variable, with the units and the name of the score."""
    known = {key: each for key, each in truth.attrs.items() if key not in (*_OF_VALUES, "units")}
    units = truth.attrs.get("units") if metric.in_units else "1"
    title = f"{metric.title} of {truth.attrs.get('long_name', truth.name)}"
    return {**known, "long_name": title} | ({} if units is None else {"units": units})


def _restored(found: xr.Dataset, names: Names) -> xr.Dataset:
    """The scores in the words of the truth; without a map there is no reference system."""
    gone = [axis for axis in ("y", "x") if axis not in found.dims]
    if len(gone) == 1:  # rows and columns are restored together
        found = found.expand_dims({gone[0]: [0.0]}, axis=-1)
    restored = restore(found, names)
    if not gone:
        return restored
    if len(gone) == 1:
        restored = restored.isel({axes_of(names)[gone[0]]: 0}, drop=True)
    return restored if names.grid_mapping is None else restored.drop_vars(names.grid_mapping, errors="ignore")
