"""Files scored against a truth: scores.json, report.html and report.md in a folder.

With the coarse file, interpolations of it stand beside the prediction (they learn nothing, so they may see the truth's
grid). Better baselines were trained on other times; they are given as files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from finegrid import __version__
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.errors import provenance
from finegrid.data import Writer, open_fields
from finegrid.data.damage import readable
from finegrid.data.working import Workers
from finegrid.evaluation import USUAL, Evaluation, evaluate
from finegrid.evaluation.indices import ALL
from finegrid.evaluation.parts import Part, between_variables, climate_change
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.pipeline.material import in_period
from finegrid.pipeline.naming import named
from finegrid.pipeline.origin import maker_of, origin_of
from finegrid.pipeline.workplace import workplace

SCORES, REPORT, WORDS = "scores.json", "report.html", "report.md"
INTERPOLATIONS = ("bilinear", "bicubic")
Paths = str | Path | Sequence[str | Path]


def evaluate_files(
    prediction: Paths,
    truth: Paths,
    out: str | Path,
    *,
    coarse: Paths | None = None,
    baselines: Mapping[str, Paths] | None = None,
    variables: Sequence[str] | None = None,
    time: str | None = None,
    method: str | None = None,
    metrics: Sequence[str] = USUAL,
    thresholds: Mapping[str, float] | None = None,
    change: tuple[str, str] | None = None,
    model: str | Path | None = None,
    further: Callable[[str], Sequence[Part]] = lambda period: (),
    workers: int | None = None,
    scheduler: str | None = None,
) -> Evaluation:
    """Score files and write the folder `out`.

    Args:
        prediction: fine files that were predicted.
        truth: fine files that are right.
        out: folder for the report.
        coarse: what the prediction was made from.
        baselines: files of other predictions by name.
        variables: names in the truth; by default all that the prediction has.
        time: period to score; None is all common times.
        method: name of the prediction in tables; by default what the file says, or its name.
        metrics: names in METRICS, or "all".
        thresholds: of events, by variable of the truth; by default the 95th percentile of it.
        change: a historical and a later period; the change between them is set beside that of the truth and of the
            coarse files.
        model: folder of the model that made the prediction; the report then says whether its input was like that of
            training, how it was calibrated, and what its training cost.
        further: makes more parts of the report from the period that was judged.
        workers: processes of this machine that sum and count, or how many of `scheduler` to wait for.
        scheduler: address of a dask scheduler whose workers do so, or its scheduler file.

    Raises:
        InputError: when the files cannot be compared; nothing is written.
    """
    whole = open_fields(prediction)
    if model is not None:
        maker_of(whole, model)  # what is wrong there must not show after the work
    given, right = in_period(whole, time), in_period(open_fields(truth), time)
    low = None if coarse is None else in_period(open_fields(coarse), time)
    others = {name: in_period(open_fields(paths), time) for name, paths in (baselines or {}).items()}
    name = method or str(given.attrs.get("finegrid_method") or Path(str(given.encoding["source"])).stem)
    everything = (prediction, truth, coarse, *(baselines or {}).values())
    with (
        workplace(out, marks=(SCORES,)) as folder,
        connected(workers, scheduler) as client,
        readable(*everything),
    ):
        drawn = {} if low is None else _interpolated(low, right, given, variables, folder, workers_of(client))
        rivals = {key: each for key, each in {**drawn, **others}.items() if key != name}
        found = evaluate(
            given,
            right,
            coarse=low,
            baselines=rivals,
            method=name,
            variables=variables,
            task=_task(given),
            split=time or "",
            indices=ALL,
            metrics=metrics,
            thresholds=thresholds,
            workers=workers_of(client),
            folder=folder,
        )
        period = _period([each for each in (given, right, low) if each is not None])
        origin = origin_of(whole, prediction, coarse, period, model=model)
        parts = (*_parts(given, right, low, variables, change), *origin.parts, *further(period), *origin.cost)
        found = replace(found, parts=parts, notes=(*found.notes, *origin.notes))
        found.to_json(folder / SCORES)
        found.to_markdown(folder / WORDS)
        provenance = {"finegrid": __version__, "model": str(given.attrs.get("finegrid_model", "not stated"))}
        found.report(folder / REPORT, provenance=provenance)
        for each in drawn.values():
            each.close()
        for path in folder.glob(".*.nc"):
            path.unlink()
    return found


def _parts(
    given: xr.Dataset,
    right: xr.Dataset,
    low: xr.Dataset | None,
    variables: Sequence[str] | None,
    change: tuple[str, str] | None,
) -> list[Part]:
    parts = between_variables(given, right, variables)
    return parts if change is None else [*parts, climate_change(given, change, {"truth": right, "coarse": low})]


def _period(fields: Sequence[xr.Dataset]) -> str:
    """First and last time that all of them have."""
    first, *others = (harmonise(each)[0].indexes["time"] for each in fields)
    for index in others:
        first = first.intersection(index)
    return f"{_stamp(first[0])}/{_stamp(first[-1])}"


def _stamp(time: object) -> str:
    return str(time)[:19].replace(" ", "T")


def _task(prediction: xr.Dataset) -> str:
    return str(prediction.attrs.get("title") or "Evaluation of files")


def _interpolated(
    coarse: xr.Dataset,
    truth: xr.Dataset,
    prediction: xr.Dataset,
    variables: Sequence[str] | None,
    folder: Path,
    workers: Workers,
) -> dict[str, xr.Dataset]:
    """Interpolations of the coarse fields on the predicted times, in temporary files; none where grids do not fit."""
    times = [harmonise(fields)[0].indexes["time"] for fields in (coarse, prediction)]
    standard = harmonise(coarse)[0].isel(time=times[0].isin(times[1]))
    if not standard.sizes["time"]:
        return {}
    result = {}
    for name in INTERPOLATIONS:
        path = folder / f".{name}.nc"
        try:
            downscaler = named(name, variables=variables).fit(_few(coarse, truth), truth, validate=0.0)
            with Writer(path, compression=0) as writer:
                for block in downscaler.blocks(downscaler.read(standard), workers=workers):
                    writer.append(block)
        except InputError:
            return {}
        result[name] = open_fields(path)
        result[name].encoding["source"] = f"{name} interpolation of {Path(provenance(coarse, otherwise='')).name}"
    return result


def _few(coarse: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """The first common times: enough to settle grids and units, and all of it in memory."""
    standard, right = harmonise(coarse)[0], harmonise(truth)[0]
    common = standard.indexes["time"].intersection(right.indexes["time"])[:8]
    return standard.sel(time=common)
