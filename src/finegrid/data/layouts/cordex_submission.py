"""The files in which CORDEX ML-Bench takes predictions.

    <submission>/<domain>_Domain/<experiment>/<period>/<perfect or imperfect>/Predictions_pr_tasmax_<GCM>_<years>.nc

one for every file of predictors in the test folder, each with pr and tasmax on the cells of the target and at the times
of the predictors. One answer has the dimensions (time, y, x); a generative method hands in 10 members, (member, time,
y, x), by the README of the submission (the form for registering, of the same month, says 5). The folder is then packed
into one zip. As of June 2026, github.com/WCRP-CORDEX/ml-benchmark.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, convert_units, harmonise
from finegrid.conventions.restore import restore
from finegrid.data.layouts.base import Opened
from finegrid.data.write import write

MEMBERS = 10
_UNITS = {"pr": "mm day-1", "tasmax": "K"}


def submit(
    folder: str | Path,
    opened: Opened,
    predictions: Mapping[str, xr.Dataset],
    *,
    members: int = MEMBERS,
    partial: bool = False,
) -> list[Path]:
    """Write the predictions of one domain and experiment below the folder of a submission.

    Args:
        folder: of the submission; other domains and experiments are added by further calls.
        opened: what the predictions were made from.
        predictions: by the names of `opened.tests`; pr and tasmax in any units of theirs.
        members: how many a generative method has to hand in.
        partial: whether some of the tests may be missing.

    Raises:
        InputError: when a test, a variable, a time or a cell is missing, or the number of members is another one.
    """
    missing = [name for name in opened.tests if name not in predictions]
    unknown = [name for name in predictions if name not in opened.tests]
    if unknown or (missing and not partial):
        what = f"'{unknown[0]}', which is no test" if unknown else f"no prediction of '{missing[0]}'"
        raise InputError(
            f"got {what}; expected one for each of {', '.join(opened.tests) or 'no test'}; predict these, or pass "
            "partial=True to leave some out"
        )
    top = Path(folder) / f"{opened.chosen['domain']}_Domain" / opened.chosen["experiment"]
    written = []
    for name, prediction in predictions.items():
        period, kind, file = name.split("/")
        path = top / period / kind / f"Predictions_pr_tasmax_{file}.nc"
        fields = _checked(prediction, opened, name, members)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(fields, path)
        written.append(path)
    return written


def packed(folder: str | Path) -> Path:
    """The zip of a submission, beside its folder.

    Raises:
        InputError: when there is nothing in it.
    """
    top = Path(folder)
    files = sorted(top.rglob("Predictions_pr_tasmax_*.nc"))
    if not files:
        raise InputError(
            f"{top} holds no predictions; expected files Predictions_pr_tasmax_*.nc; write them with submit"
        )
    target = top.with_name(f"{top.name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, Path(top.name) / path.relative_to(top))
    return target


def _checked(prediction: xr.Dataset, opened: Opened, name: str, members: int) -> xr.Dataset:
    """The two variables in their units, on the times of the test and the cells of the target."""
    standard, names = harmonise(prediction, source=f"the prediction of {name}")
    for wanted in _UNITS:
        if wanted not in standard:
            raise InputError(f"the prediction of {name} lacks {wanted}; expected pr and tasmax; predict both")
    _check_times(standard, opened.tests[name], name)
    _check_cells(standard, opened.fine, name)
    standard = _members(standard[list(_UNITS)], members, name)
    fields = {key: convert_units(standard[key], units, source=name) for key, units in _UNITS.items()}
    return restore(standard.assign(fields), replace(names, member="member"))


def _check_times(standard: xr.Dataset, predictors: xr.Dataset, name: str) -> None:
    ours, theirs = standard.indexes["time"], harmonise(predictors)[0].indexes["time"]
    if not ours.equals(theirs):
        raise InputError(
            f"the prediction of {name} is at {len(ours)} times, {ours[0]} to {ours[-1]}; expected those of its "
            f"predictors, {len(theirs)} from {theirs[0]} to {theirs[-1]}; predict all of them"
        )


def _check_cells(standard: xr.Dataset, fine: xr.Dataset, name: str) -> None:
    target = harmonise(fine.isel(time=slice(0, 1)))[0]
    same = all(
        standard.sizes[axis] == target.sizes[axis] and np.allclose(standard[axis], target[axis], rtol=0, atol=1e-3)
        for axis in ("y", "x")
    )
    if not same:
        raise InputError(
            f"the prediction of {name} is on {standard.sizes['y']} x {standard.sizes['x']} cells; expected the "
            f"{target.sizes['y']} x {target.sizes['x']} of the target, in their places; predict on these"
        )


def _members(standard: xr.Dataset, members: int, name: str) -> xr.Dataset:
    count = standard.sizes.get("member", 1)
    if count == 1:
        return standard.squeeze("member", drop=True) if "member" in standard.dims else standard
    if count != members:
        raise InputError(
            f"the prediction of {name} has {count} members; expected 1, or {members} of a generative method; predict "
            f"with members={members}, or say members={count}"
        )
    return standard
