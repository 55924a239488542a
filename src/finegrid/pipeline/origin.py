"""Where a prediction is from: what the folder of its model adds to the report of its files.

input          whether the coarse input of the times that were judged is like that of training (`guarding`)
calibration    what the calibration in the folder was learnt from, promises, and was found to reach
cost           what the prediction took, as is noted beside its file, and its training by the folder
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.downscalers import Downscaler, load
from finegrid.evaluation.parts import Part, likeness, remembered
from finegrid.pipeline.calibrated import Calibration
from finegrid.pipeline.costs import cost_of, training_of
from finegrid.pipeline.guarding import guard_of, judged

Paths = str | Path | Sequence[str | Path]
_GUARD, _MODEL = "finegrid_guard", "finegrid_model"


@dataclass(frozen=True)
class Origin:
    """What is known of a prediction beside its values.

    Attributes:
        parts: of a report.
        cost: the last one, where something was measured.
        notes: what a reader has to know.
    """

    parts: tuple[Part, ...]
    cost: tuple[Part, ...]
    notes: tuple[str, ...] = ()


def origin_of(
    prediction: xr.Dataset, files: Paths, coarse: Paths | None, period: str, *, model: str | Path | None = None
) -> Origin:
    """What the file of a prediction says of its origin, and the folder of its model where that is given.

    Args:
        prediction: as opened, in its own words, with all of its times.
        files: that it was opened from.
        coarse: files of the input.
        period: the times that are judged.
        model: its folder.

    Raises:
        InputError: when the folder is that of another model, or the input does not suit it.
    """
    sizes = harmonise(prediction)[0].sizes
    cost = cost_of(files, sizes["time"], sizes.get("member", 1))
    if model is None:
        told = str(prediction.attrs.get(_GUARD, ""))
        return Origin(tuple([remembered(told)] if told else []), tuple(cost.part()))
    downscaler = maker_of(prediction, model)
    guard, notes = _likeness(model, downscaler, coarse, period)
    cost = replace(cost, **training_of(model, downscaler))
    return Origin((*_calibration(model, downscaler), *guard), tuple(cost.part()), notes)


def maker_of(prediction: xr.Dataset, model: str | Path) -> Downscaler:
    """The model in a folder, which has made a prediction.

    Raises:
        InputError: when another one has, by what the file says.
    """
    downscaler, stated = load(model), str(prediction.attrs.get(_MODEL, ""))
    if stated and stated != downscaler.digest:
        raise InputError(
            f"got --model {model} ({downscaler.digest[:12]}...) for a prediction that another model made "
            f"({stated[:12]}...); expected the folder of that model; give it, or leave --model out"
        )
    return downscaler


def _likeness(
    model: str | Path, downscaler: Downscaler, coarse: Paths | None, period: str
) -> tuple[list[Part], tuple[str, ...]]:
    if guard_of(model, downscaler) is None:
        return [], ("The model does not know what its training input looked like: nothing was compared with it.",)
    if coarse is None:
        return [], ("Without the coarse input nobody can say whether it is like that of training: --coarse.",)
    found = judged(model, coarse, time=period)
    return [likeness(found)], ((f"{found.words[0]}.",) if found.flagged else ())


def _calibration(model: str | Path, downscaler: Downscaler) -> list[Part]:
    """What the folder knows of its calibration; nothing where it has none."""
    calibration = Calibration.of(model, downscaler)
    if calibration is None:
        return []
    facts = calibration.facts
    told = facts.get("words") or [
        f"{calibration.calibrator.name}, fitted on {facts['period']}. Guarantee: {facts['guarantee']}."
    ]
    plain = {"calibrator": calibration.calibrator.name, **{key: facts[key] for key in ("period", "guarantee")}}
    words = f"{' '.join(told)} The pictures are in calibration.html in the folder of the model."
    return [Part("calibrator", "Calibration of the model", ((words, ""),), {**plain, "words": list(told)})]
