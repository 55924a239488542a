"""What a reader has to know to judge the scores: times, gaps, weak baselines, and where the data are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions.credentials import without_credentials
from finegrid.conventions.errors import provenance
from finegrid.evaluation.alignment import Case
from finegrid.evaluation.floor import Floor
from finegrid.evaluation.floor_tables import floor_note
from finegrid.evaluation.intervals import LEAST_TIMES, Draws
from finegrid.evaluation.metrics.reference import Reference
from finegrid.evaluation.scores import Score, View
from finegrid.evaluation.wording import with_units

_INTERPOLATIONS = {"nearest", "bilinear", "bicubic", "linear", "cubic", "interpolation", "block mean"}
_FEW_BLOCKS = 10
# Part of the range of the truth: less is packing and rounding.
_AGREEING = 1e-3
_SOURCE_ATTRIBUTES = {
    "title": "title",
    "institution": "institution",
    "licence": "license",
    "reference": "references",
}


@dataclass(frozen=True)
class Judged:
    """One variable and what was found of it."""

    case: Case
    reference: Reference
    draws: Draws | None
    scores: Sequence[Score]
    view: View
    floor: Floor | None = None


def notes_of(found: Sequence[Judged]) -> tuple[str, ...]:
    """Sentences about the whole evaluation and about single variables."""
    notes = [*_about_times(found[0].case), *_about_baselines(found[0].case)]
    for judged in found:
        notes += [*_about_intervals(judged.draws, judged.case), *_about_gaps(judged.case, judged.view)]
        notes += [*_about_agreement(judged.reference), *([floor_note(judged.floor)] if judged.floor else [])]
    return tuple(dict.fromkeys(notes))


def sources_of(given: Mapping[str, xr.Dataset]) -> tuple[Mapping[str, str], ...]:
    """One row of words for each field: its role, file, title, institution, licence and extent."""
    return tuple({"field": role, **_source(fields)} for role, fields in given.items())


def _source(fields: xr.Dataset) -> dict[str, str]:
    told = {name: str(fields.attrs[key]) for name, key in _SOURCE_ATTRIBUTES.items() if fields.attrs.get(key)}
    words = {name: without_credentials(each) for name, each in told.items()}
    origin = provenance(fields, otherwise="")
    file = {"file": Path(origin).name} if origin else {}
    return {
        **file,
        **words,
        "size": " × ".join(f"{size} {dim}" for dim, size in fields.sizes.items() if size > 2),
    }


def _about_times(case: Case) -> list[str]:
    time = case.truth["time"].values
    first, last = (str(each)[:16].replace("T", " ") for each in (time[0], time[-1]))
    note = [f"Scores are over {len(time)} times from {first} to {last}."]
    if case.unshared:
        note.append(f"Up to {case.unshared} times are left out because not all fields have them.")
    return note


def _about_baselines(case: Case) -> list[str]:
    _, *baselines = case.predictions
    if not baselines:
        return ["There is no baseline, so the scores say nothing about whether the method is worth having."]
    if {name.lower() for name in baselines} <= _INTERPOLATIONS:
        return [
            "All baselines are interpolations, which are easy to beat; a regression for each cell on "
            "neighbouring "
            "coarse cells (ridge) would be a fairer test."
        ]
    return []


def _about_intervals(draws: Draws | None, case: Case) -> list[str]:
    if draws is None:
        return [f"There are fewer than {LEAST_TIMES} times: no intervals, and no method can be called better."]
    count = draws.times // draws.length
    note = [
        f"95 % intervals of {case.name}: {len(draws.starts)} moving-block bootstrap draws over time, "
        f"{draws.length} "
        "consecutive times in a block. They cover the choice of times, not the choice of training data or "
        "seed."
    ]
    if count < _FEW_BLOCKS:
        note.append(
            f"{case.name} has about {count} independent blocks of time only: its intervals are wide, and rough."
        )
    return note


def _about_gaps(case: Case, view: View) -> list[str]:
    known = np.isfinite(view.errors[next(iter(case.predictions))])
    if known.all():
        return []
    if case.unpredicted:
        return [
            f"{case.unpredicted} cells with {case.name} are left out, since no method predicts them: a model has the "
            "cells in which all of its variables are known.",
            *_about_gaps(replace(case, unpredicted=0), view),
        ]
    share = 100 * (1 - known.mean())
    spectrum = (
        "the spectrum uses the largest rectangle without gaps" if len(view.wavenumbers) else "there is no spectrum"
    )
    return [f"{share:.0f} % of the cells have no {case.name} to compare with and are left out; {spectrum}."]


def _about_agreement(reference: Reference) -> list[str]:
    """Hard conservation presumes that coarse field and truth agree: say when they do not."""
    if not reference.disagreement > _AGREEING * (reference.highest - reference.lowest):
        return []
    return [
        "The coarse field and the block means of the truth disagree by "
        f"{with_units(reference.disagreement, reference.units)} (root mean square) in {reference.name}: "
        "keeping the coarse field exactly then costs accuracy."
    ]
