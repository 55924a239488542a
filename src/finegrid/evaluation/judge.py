"""Score a prediction against the truth, beside simple baselines on the same data.

>>> evaluation = evaluate(prediction, truth, coarse=coarse, baselines={"ridge": ridge})    # doctest: +SKIP
>>> print(evaluation.verdict)                                                              # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.working import Workers, alone
from finegrid.evaluation.alignment import Case, align, step_seconds
from finegrid.evaluation.comparing import above, compare, draws_for
from finegrid.evaluation.evaluation import Evaluation
from finegrid.evaluation.floor import floor_of
from finegrid.evaluation.indices import ALL
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.indices.measure import measure
from finegrid.evaluation.metrics import USUAL, Metric, Reference, metrics_of
from finegrid.evaluation.notes import Judged, notes_of, sources_of
from finegrid.evaluation.tally import tally
from finegrid.evaluation.viewing import view_of


def evaluate(
    prediction: xr.Dataset,
    truth: xr.Dataset,
    *,
    coarse: xr.Dataset | None = None,
    baselines: Mapping[str, xr.Dataset] | None = None,
    method: str = "prediction",
    task: str = "",
    split: str = "",
    seconds: float | None = None,
    variables: Sequence[str] | None = None,
    block: int | None = None,
    seed: int = 0,
    indices: bool | str | Sequence[str] = False,
    metrics: Sequence[str] = USUAL,
    thresholds: Mapping[str, float] | None = None,
    workers: Workers = alone,
    folder: str | Path | None = None,
) -> Evaluation:
    """Score a prediction on the times that all fields share; they need not fit in memory.

    Args:
        prediction: fine fields in the user's own names, with or without members.
        truth: fine fields on the same grid; missing where nothing is known. Its units are used. Of members the mean is
            the truth, and what chance is left in it stands beside the scores (`floor`).
        coarse: what the prediction was made from; with it conservation is measured.
        baselines: predictions of simple methods by name.
        method: name of the prediction in tables.
        task: what was done, for the record.
        split: on which data, for the record.
        seconds: how long the prediction took to make, for the record.
        variables: names in the truth; by default all that the prediction has.
        block: times in a block of the bootstrap; by default from the data (see `intervals`).
        seed: of the bootstrap.
        indices: whether to compare the climate too (`value_table`): names in INDICES, "all", or True for the
            usual ones; a note says why where there are none.
        metrics: names in METRICS, or "all"; the error that methods are ranked by is always among them.
        thresholds: of the events of the variables, in the units of the truth; by default the 95th percentile of it.
        workers: who sums and counts; by default this process.
        folder: for files that are kept while indices are counted, which all workers see; by default the system's.

    Raises:
        InputError: when the fields cannot be compared, or the prediction is missing where there is a truth.
    """
    others = dict(baselines or {})
    if method in others:
        raise InputError(f"got a baseline called '{method}' like the prediction; expected two names; pass method=...")
    given = {"truth": truth, method: prediction, **others, **({} if coarse is None else {"coarse": coarse})}
    cases = align({method: prediction, **others}, truth, coarse, variables=variables)
    chosen, limits = metrics_of(metrics), dict(thresholds or {})
    found = [_judge(case, chosen, limits.get(case.name), workers, block=block, seed=seed) for case in cases]
    climate, why = _climate(cases, indices, workers, folder)
    return Evaluation(
        method=method,
        scores=tuple(score for judged in found for score in judged.scores),
        task=task,
        split=split,
        seconds=seconds,
        notes=(*notes_of(found), *why),
        sources=sources_of(given),
        views=tuple(judged.view for judged in found),
        indices=climate,
        floors=tuple(judged.floor for judged in found if judged.floor is not None),
    )


def _climate(
    cases: Sequence[Case], wanted: bool | str | Sequence[str], workers: Workers, folder: str | Path | None
) -> tuple[tuple[IndexScore, ...], tuple[str, ...]]:
    """Indices of all variables that have them, and notes about the others."""
    found: list[IndexScore] = []
    why: list[str] = []
    for case in cases if wanted else ():
        try:
            found += measure(case, None if wanted is True else wanted or (), workers=workers, folder=folder)
        except InputError as error:
            if wanted is not True and wanted != ALL:
                raise
            why.append(f"There are no indices of the climate of {case.name}: {error}.")
    return tuple(found), tuple(why)


def _judge(
    case: Case, metrics: Sequence[Metric], threshold: float | None, workers: Workers, *, block: int | None, seed: int
) -> Judged:
    reference = Reference.of(case.truth, case.coarse, threshold=threshold)
    if not np.isfinite(reference.lowest):
        raise InputError(
            f"got no value of '{case.name}' in the truth on the {case.truth.sizes['time']} common times; "
            "expected some; "
            "choose another period, or leave the variable out with variables=[...]"
        )
    tallies = tally(case, reference, metrics, workers=workers)
    draws = draws_for(tallies, block=block, step_seconds=step_seconds(case.truth), seed=seed)
    floor = floor_of(case, reference)
    scores = above(compare(tallies, variable=case.name, units=reference.units or "1", draws=draws), floor)
    return Judged(case, reference, draws, scores, view_of(case, reference, tallies, draws), floor)
