"""The commands that say how good something is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finegrid.cli.inspecting import Period, Scheduler, Workers

if TYPE_CHECKING:
    from finegrid.evaluation.parts import Part

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")]
Budget = Annotated[str | None, typer.Option("--budget", help="Time to train each network: 90s, 5min, 2h.")]


def evaluate(
    prediction: Annotated[str, typer.Argument(help="Fine file that was predicted.")],
    truth: Annotated[str, typer.Argument(help="Fine file that is right.")],
    *,
    out: Out,
    coarse: Annotated[list[str] | None, typer.Option(help="What the prediction was made from.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="name=file of another prediction; may be repeated.")
    ] = None,
    variables: Annotated[list[str] | None, typer.Option(help="Names in the truth; by default all.")] = None,
    time: Period = None,
    method: Annotated[str | None, typer.Option(help="Name of the prediction in tables.")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Names of metrics, or all; by default those that most reports need.")
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="pr=10: an event is above it; by default the 95th percentile.")
    ] = None,
    change: Annotated[
        str | None, typer.Option(help="Two periods, 1983/1992,1993/2002: is the climate change that of the truth?")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="The model folder that made it: was its input like that of training, what did it cost?"),
    ] = None,
    attribute: Annotated[
        bool, typer.Option("--attribute", help="Add what the prediction hangs on; needs --model and --coarse.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    r"""Score a prediction against the truth, and write scores.json and a report.

    \b
    finegrid evaluate fine.nc truth.nc --coarse coarse.nc --out report/
    finegrid evaluate fine.nc truth.nc --baseline ridge=ridge.nc --time 2002 --out report/
    finegrid evaluate fine.nc truth.nc --coarse coarse.nc --change 1983/1992,1993/2002 --out report/
    finegrid evaluate fine.nc truth.nc --metrics all --threshold pr=10 --out report/
    finegrid evaluate fine.nc truth.nc --coarse coarse.nc --model model/ --attribute --out report/
    finegrid evaluate fine.zarr truth.zarr --workers 8 --out report/
    """
    from finegrid.cli import showing, words
    from finegrid.evaluation import USUAL
    from finegrid.pipeline.evaluate import evaluate_files

    found = evaluate_files(
        prediction,
        truth,
        out,
        coarse=coarse or None,
        baselines=words.mapped(baseline),
        variables=words.listed(variables) or None,
        time=time,
        method=method,
        metrics=words.listed(metrics) or USUAL,
        thresholds=words.threshold(threshold or []),
        change=words.two_periods(change),
        model=model,
        further=_attribution(model, coarse, wanted=attribute),
        workers=workers,
        scheduler=scheduler,
    )
    showing.climate(found)
    typer.echo(f"{found.verdict}\nThe report is {out}/report.html")


def _attribution(model: Path | None, coarse: list[str] | None, *, wanted: bool) -> Callable[[str], list[Part]]:
    """What makes the attribution of a report, from what the model folder holds, or anew where that is wanted."""
    from finegrid.benchmark.attribution.part import attribution_parts
    from finegrid.conventions import InputError

    if wanted and (model is None or not coarse):
        raise InputError(
            "got --attribute without the model or its input; expected both; say --model model/ --coarse coarse.nc, or "
            "leave --attribute out"
        )
    return lambda period: [] if model is None else attribution_parts(model, coarse or None, period, wanted=wanted)
