"""Score a prediction against the truth, beside simple baselines on the same data.

>>> evaluation = evaluate(prediction, truth, coarse=coarse, baselines={"ridge": ridge})    # doctest: +SKIP
>>> print(evaluation.verdict)                                                              # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation.alignment import Case, align, step_seconds
from finegrid.evaluation.comparing import compare, draws_for
from finegrid.evaluation.evaluation import Evaluation
from finegrid.evaluation.metrics import Reference
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
) -> Evaluation:
    """Score a prediction on the times that all fields share; they need not fit in memory.

    Args:
        prediction: fine fields in the user's own names, with or without members.
        truth: fine fields on the same grid; missing where nothing is known. Its units are used.
        coarse: what the prediction was made from; with it conservation is measured.
        baselines: predictions of simple methods by name.
        method: name of the prediction in tables.
        task: what was done, for the record.
        split: on which data, for the record.
        seconds: how long the prediction took to make, for the record.
        variables: names in the truth; by default all that the prediction has.
        block: times in a block of the bootstrap; by default from the data (see `intervals`).
        seed: of the bootstrap.

    Raises:
        InputError: when the fields cannot be compared, or the prediction is missing where there is a truth.
    """
    others = dict(baselines or {})
    if method in others:
        raise InputError(f"got a baseline called '{method}' like the prediction; expected two names; pass method=...")
    given = {"truth": truth, method: prediction, **others, **({} if coarse is None else {"coarse": coarse})}
    cases = align({method: prediction, **others}, truth, coarse, variables=variables)
    found = [_judge(case, block=block, seed=seed) for case in cases]
    return Evaluation(
        method=method,
        scores=tuple(score for judged in found for score in judged.scores),
        task=task,
        split=split,
        seconds=seconds,
        notes=notes_of(found),
        sources=sources_of(given),
        views=tuple(judged.view for judged in found),
    )


def _judge(case: Case, *, block: int | None, seed: int) -> Judged:
    reference = Reference.of(case.truth, case.coarse)
    if not np.isfinite(reference.lowest):
        raise InputError(
            f"got no value of '{case.name}' in the truth on the {case.truth.sizes['time']} common times; "
            "expected some; "
            "choose another period, or leave the variable out with variables=[...]"
        )
    tallies = tally(case, reference)
    draws = draws_for(tallies, block=block, step_seconds=step_seconds(case.truth), seed=seed)
    scores = compare(tallies, variable=case.name, units=reference.units or "1", draws=draws)
    return Judged(case, reference, draws, scores, view_of(case, reference, tallies))
