"""Which calibrator suits a model best, by predictions that it has not learnt from.

Each candidate learns from the first half of the calibration period and is judged on the second: by the CRPS of the
members that it makes, after they were projected again, or by the Winkler score of its intervals where a model has a
single answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from finegrid.calibration import CALIBRATORS, Calibrator
from finegrid.calibration.groups import check_names
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import build, table_of
from finegrid.data.working import Workers, alone
from finegrid.evaluation.calibration_report import Judged
from finegrid.evaluation.coverage import Coverage, coverage
from finegrid.evaluation.reliability import Reliability, reliability
from finegrid.pipeline.calibrated import Period
from finegrid.pipeline.quantiles import over_members

BEST = "best"
LEVEL = 0.9
_WORSE = 1.01
_OF_THE_JOB = ("on", "members", "seed", "overlap")
# All of these have a guarantee.
_OF_MEMBERS: tuple[dict[str, Any], ...] = (
    {"name": "recalibration"},
    {"name": "crude"},
    {"name": "recalibration", "groups": ["regime"]},
    {"name": "crude", "groups": ["regime"]},
)
_OF_ONE: tuple[dict[str, Any], ...] = ({"name": "split"}, {"name": "mondrian"}, {"name": "split", "groups": ["regime"]})


def made(method: str | Mapping[str, Any]) -> Calibrator:
    """An unfitted calibrator by name or table."""
    found: Calibrator = build(table_of(method), CALIBRATORS, "calibrator")
    check_names(found.groups)
    return found


def arguments_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says under `calibrate`, as arguments of `calibrate.calibrate`.

    Raises:
        InputError: without a period, or on an unknown calibrator.
    """
    own = {key: each for key, each in table.items() if key not in _OF_THE_JOB}
    if not table.get("on"):
        raise InputError(
            "got calibrate without a period; expected one that is no part of training, validation or test; write "
            "calibrate: {name: best, on: 1997/1998}"
        )
    candidates(own, several=True)
    return {"method": own, **{key: table[key] for key in _OF_THE_JOB if key in table}, "on": str(table["on"])}


def candidates(method: str | Mapping[str, Any], *, several: bool) -> list[dict[str, Any]]:
    """The calibrators that are to be tried, as tables.

    Args:
        method: name or table; `best` stands for several, with the arguments beside it for all.
        several: whether there is an ensemble.

    Raises:
        InputError: on an unknown one.
    """
    table = table_of(method)
    if table.get("name") != BEST:
        made(table)
        return [table]
    more = {key: each for key, each in table.items() if key != "name"}
    check_names(more.get("groups", ()))
    return [{**each, **more} for each in (_OF_MEMBERS if several else _OF_ONE)]


def best(
    tables: Sequence[Mapping[str, Any]], period: Period, *, workers: Workers = alone
) -> tuple[Mapping[str, Any], dict[str, Judged]]:
    """The one that is best on the second half of the period, and how good it is there; `workers` try them."""
    first, second = period.halves()
    before = coverage(_interval_of(second.predicted), second.truth) if period.several else {}
    raw = reliability(second.predicted, second.truth) if period.several else {}

    found = workers(made, partial(_after, first, second), tables)
    tried = [(table, _judged(before, *after, raw)) for table, after in zip(tables, found, strict=True)]
    able = [each for each in tried if each[1]]
    return min(able, key=lambda each: _loss(each[1])) if able else tried[0]


def _after(first: Period, second: Period, calibrator: Calibrator) -> tuple[dict[str, Coverage], dict[str, Reliability]]:
    """How honest intervals and members of the second half are with a calibrator of the first."""
    try:
        calibration = first.learn(calibrator)
        adapted = calibration.calibrator.adapt(second.predicted)
        after = coverage(adapted.interval(second.predicted, LEVEL), second.truth)
    except InputError:
        return {}, {}  # half of the cases may be too few where all are enough
    if not first.several or not adapted.draws:
        return after, {}
    return after, reliability(calibration.members_of(second.predicted, second.coarse), second.truth)


def _judged(
    before: Mapping[str, Coverage],
    after: Mapping[str, Coverage],
    members: Mapping[str, Reliability],
    raw: Mapping[str, Reliability],
) -> dict[str, Judged]:
    return {name: Judged(before.get(name), each, raw.get(name), members.get(name)) for name, each in after.items()}


def _loss(judged: Mapping[str, Judged]) -> float:
    """Mean over variables of the logarithm of the score."""
    scores = [each.members_after.crps if each.members_after else each.after.winkler for each in judged.values()]
    return float(np.log(np.maximum(scores, 1e-300)).mean())


def harmed(judged: Mapping[str, Judged]) -> bool:
    """Whether members are worse than before by more than one percent."""
    pairs = [(each.members_before, each.members_after) for each in judged.values()]
    return any(one is not None and other is not None and other.crps > _WORSE * one.crps for one, other in pairs)


def _interval_of(predicted: xr.Dataset) -> xr.Dataset:
    """What the members alone promise."""
    return over_members(harmonise(predicted)[0], ((1 - LEVEL) / 2, (1 + LEVEL) / 2), "member")
