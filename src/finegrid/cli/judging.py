"""The commands that say how good something is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finegrid.cli.inspecting import Period

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
) -> None:
    r"""Score a prediction against the truth, and write scores.json and a report.

    \b
    finegrid evaluate fine.nc truth.nc --coarse coarse.nc --out report/
    finegrid evaluate fine.nc truth.nc --baseline ridge=ridge.nc --time 2002 --out report/
    finegrid evaluate fine.nc truth.nc --metrics all --threshold pr=10 --out report/
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
    )
    showing.climate(found)
    typer.echo(f"{found.verdict}\nThe report is {out}/report.html")


def benchmark(
    task: Annotated[str | None, typer.Argument(help="A task; --list shows them.")] = None,
    *,
    methods: Annotated[list[str] | None, typer.Option(help="Method names, parted by commas.")] = None,
    budget: Budget = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps instead of a budget.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every network.")] = 1,
    folds: Annotated[
        int | None,
        typer.Option(min=0, help="Predict so many folds of whole seasons or years in turn; 0: the last block."),
    ] = None,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the tasks and stop.")] = False,
    out: Out = Path("bench"),
) -> None:
    r"""Run methods on a task with fixed data and splits, and rank them with intervals.

    \b
    finegrid benchmark --list
    finegrid benchmark era5-uk-t2m-x4 --out bench/
    finegrid benchmark racmo-pr-x4 --folds 5 --out bench/
    finegrid benchmark racmo-pr-x4 --methods bicubic,ridge,resnet-on-ridge,resnet+softmax --budget 2min --seeds 3 --out
    bench/
    """
    from finegrid.benchmark import find_task, run
    from finegrid.cli import showing, words
    from finegrid.training import Settings

    if list_tasks or task is None:
        showing.tasks()
        return
    limit = words.budget(budget)
    chosen = Settings(budget=limit if limit or steps else 300.0, steps=steps)
    found = run(
        find_task(task),
        words.listed(methods),
        out=out,
        seeds=seeds,
        settings=chosen,
        folds=folds,
        say=typer.echo,
        progress=True,
    )
    showing.ranking(found)
    showing.climate(found.evaluation)
    typer.echo(f"{found.evaluation.verdict}\nThe report is {out}/report.html")
