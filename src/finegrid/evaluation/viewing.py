"""What a report shows of a variable: fields at a time that is neither flattering nor unfair, errors, spectra.

The time shown is the one whose root-mean-square error is the median over all times.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.ensembles import ensemble_of
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.metrics import Reference
from finegrid.evaluation.metrics.reading import loaded
from finegrid.evaluation.scores import MAIN_METRIC, View
from finegrid.evaluation.tally import Tally
from finegrid.grids import Grid

TRUTH = "truth"


def view_of(case: Case, reference: Reference, tallies: Mapping[str, Tally], draws: Draws | None) -> View:
    """Everything about one variable that is drawn, loaded into memory: some fields of one time each."""
    judged, *others = case.predictions
    index = median_time(tallies[judged].totals(MAIN_METRIC).per_time()[0])
    rival = min(others, key=lambda name: _error(tallies[name]), default="")
    wavenumbers, spectra = _spectra(tallies, judged)
    return View(
        variable=case.name,
        label=str(case.truth.attrs.get("long_name", case.name)),
        units=reference.units or "1",
        grid=reference.grid,
        time=_words(case.truth["time"].values[index]),
        members=case.predictions[judged].sizes["member"],
        truth=_shown(case.truth, index),
        prediction=_shown(case.predictions[judged], index),
        rival=rival,
        rival_field=_shown(case.predictions[rival], index) if rival else None,
        coarse=None if case.coarse is None else _shown(case.coarse, index),
        coarse_grid=None if case.coarse is None else Grid.of(case.coarse),
        errors={name: each.error_map() for name, each in tallies.items()},
        wavenumbers=wavenumbers,
        spectra=spectra,
        ensemble=ensemble_of(case.predictions[judged], tallies[judged], draws, index),
    )


def median_time(errors: Array) -> int:
    """Index of the time whose error (time,) is the median one, the lower of the two middle ones when even."""
    known = np.flatnonzero(np.isfinite(errors))
    return int(known[np.argsort(errors[known], kind="stable")[(len(known) - 1) // 2]])


def _error(each: Tally) -> float:
    return float(each.totals(MAIN_METRIC).mean()[0])


def _shown(field: xr.DataArray, index: int) -> Array:
    values = loaded(field, slice(index, index + 1))
    return np.asarray(values.mean(axis=0)[0] if values.ndim == 4 else values[0])


def _words(time: object) -> str:
    text = str(np.datetime_as_string(time, unit="m")) if isinstance(time, np.datetime64) else str(time)
    return text.replace("T", " ")


def _spectra(tallies: Mapping[str, Tally], judged: str) -> tuple[Array, dict[str, Array]]:
    found = {name: pair for name, each in tallies.items() if (pair := each.spectra()) is not None}
    if judged not in found:
        return np.empty(0), {}
    wavenumbers, power = found[judged]
    return wavenumbers, {TRUTH: power[0], **{name: pair[1][1] for name, pair in found.items()}}
