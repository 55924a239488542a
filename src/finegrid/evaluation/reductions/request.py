"""What is asked for: a metric, dimensions to average it over, and groups; refused where that has no meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.evaluation.metrics import METRICS, Metric
from finegrid.evaluation.reductions.groups import Groups

By = str | xr.DataArray

MEMBER = "member"
_PLACES = ("y", "x")


@dataclass(frozen=True, eq=False)
class Request:
    """A metric over some dimensions and by some groups.

    Attributes:
        metric: what is asked for.
        kept: those of time, y and x that stay.
        groups: kinds of labels.
        each_member: whether each member is judged by itself.
        threshold: of the event, where it is given.
    """

    metric: Metric
    kept: tuple[str, ...]
    groups: tuple[Groups, ...] = ()
    each_member: bool = False
    threshold: float | None = None

    def check(self, axes: Mapping[str, str]) -> None:
        """Refuse what has no meaning.

        Raises:
            InputError: for a map of a metric of whole fields, groups along a dimension that stays, and the like.
        """
        self._check_metric()
        self._check_places(axes)
        for group in self.groups:
            staying = [axes[axis] for axis in self.kept if axes[axis] in group.codes.dims]
            if staying:
                raise InputError(
                    f"got '{group.name}' to group by, which are labels along '{staying[0]}', a dimension that is not "
                    f"averaged over; expected one that is; add '{staying[0]}' to over=[...], or leave over out"
                )
        names = [*(group.name for group in self.groups), *(axes[axis] for axis in self.kept)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"got two dimensions called {', '.join(twice)}; expected names of their own; rename labels"
            )

    def _check_metric(self) -> None:
        if self.metric.extreme:
            raise InputError(
                f"got the metric '{self.metric.name}', a comparison with a coarse field; expected another one; "
                "pass coarse=... to finegrid.evaluate for it"
            )
        if self.each_member and self.metric.of_members:
            raise InputError(
                f"got '{MEMBER}' to group '{self.metric.name}' by, which says nothing about a single member; expected "
                f"another metric, such as rmse; leave '{MEMBER}' out"
            )

    def _check_places(self, axes: Mapping[str, str]) -> None:
        """Maps need a metric of cells, regions one that at least counts cells."""
        staying = [axes[axis] for axis in _PLACES if axis in self.kept]
        regions = [each.name for each in self.groups if {axes[axis] for axis in _PLACES} & set(each.codes.dims)]
        counting = self.metric.summed is not None
        if self.metric.cellwise or not (staying or (regions and not counting)):
            return
        wanted = f"scores that keep {' and '.join(staying)}" if staying else f"groups '{regions[0]}'"
        judged = "counts cases of many cells" if counting else "judges whole fields"
        cells = [name for name, each in METRICS.items() if each.cellwise]
        counts = [name for name, each in METRICS.items() if each.summed is not None]
        raise InputError(
            f"got {wanted} of the metric '{self.metric.name}', which {judged}; expected groups of times, and scores "
            f"over {' and '.join(axes[axis] for axis in _PLACES)}. There are maps of {', '.join(cells)}"
            + ("" if staying else f"; regions also of {', '.join(counts)}")
        )


def metric_of(metric: str | Metric) -> Metric:
    """A metric by its name, or itself.

    Raises:
        InputError: on an unknown name.
    """
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise InputError(
            f"There is no metric '{metric}'. The names are {', '.join(METRICS)}.{nearest(str(metric), METRICS)}"
        )
    return METRICS[metric]


def kept_of(over: str | Sequence[str] | None, axes: Mapping[str, str], member: str) -> tuple[str, ...]:
    """Those of time, y and x that are not averaged over.

    Raises:
        InputError: on a dimension that the truth does not have.
    """
    if over is None:
        return ()
    wanted = (over,) if isinstance(over, str) else tuple(over)
    for dim in wanted:
        if dim not in (*axes.values(), member, MEMBER):
            raise InputError(
                f"got '{dim}' to average over; expected dimensions of the truth: {', '.join(axes.values())}."
                + nearest(str(dim), dict.fromkeys(axes.values()))
            )
    return tuple(axis for axis, dim in axes.items() if dim not in wanted)


def labels_of(by: By | Sequence[By], prediction: xr.Dataset, member: str) -> tuple[bool, list[By]]:
    """Whether members are judged one by one, and the other labels.

    Raises:
        InputError: when there are no members.
    """
    given: list[By] = [by] if isinstance(by, str | xr.DataArray) else list(by)
    labels = [each for each in given if isinstance(each, xr.DataArray) or each not in (member, MEMBER)]
    single = len(labels) < len(given)
    if single and member not in prediction.dims:
        raise InputError(f"got '{MEMBER}' to group by, and a prediction without members; expected some; leave it out")
    return single, labels
