"""The command that makes a model honest about what it does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from finegrid.cli.inspecting import Scheduler, Workers


def calibrate(
    model: Annotated[Path | None, typer.Argument(help="A model folder.")] = None,
    *,
    on: Annotated[str | None, typer.Option(help="Period with observations, not of the training: 2001/2005.")] = None,
    method: Annotated[
        str | None, typer.Option(help="A calibrator, by default the best of several; --list shows what each promises.")
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Calibrate chances of events instead: pr=10; may be repeated.")
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option(help="Calibrate each for itself: region,season,regime,month,cell.")
    ] = None,
    shrink: Annotated[
        float | None, typer.Option(min=0, help="How many cases of all groups count in each beside its own.")
    ] = None,
    coarse: Annotated[list[str] | None, typer.Option(help="Coarse files; by default those of the recipe.")] = None,
    fine: Annotated[list[str] | None, typer.Option(help="What came true; by default the files of the recipe.")] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Size of the ensemble; by default 20, if any.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Allow times that the model was trained on; it is recorded.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Go on with the calibration of the model: the truth of later times arrived."),
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    list_methods: Annotated[bool, typer.Option("--list", help="List the calibrators and stop.")] = False,
) -> None:
    r"""Compare a model with observations that it has not seen, and make its uncertainty honest.

    \b
    finegrid calibrate --list
    finegrid calibrate model/ --on 2001/2005
    finegrid calibrate model/ --on 2001/2005 --method mondrian --groups region,season
    finegrid calibrate model/ --coarse later.nc --fine observed.nc --method split
    finegrid calibrate model/ --on 2001/2005 --event pr=10 --event pr=50
    finegrid calibrate model/ --on 2001/2005 --method strongly-adaptive
    finegrid calibrate model/ --on 2001/2005 --members 50 --workers 8
    finegrid calibrate model/ --update --coarse today.nc --fine observed_today.nc
    finegrid downscale model/ coarse.nc --out risk.nc --members 50 --interval 90
    """
    from finegrid.cli import showing, words
    from finegrid.data.progress import bar
    from finegrid.pipeline.calibrate import REPORT
    from finegrid.pipeline.calibrate import calibrate as do
    from finegrid.pipeline.calibrate import update as go_on
    from finegrid.pipeline.events import calibrate_events as of_events

    if list_methods or model is None:
        showing.calibrators()
        return
    table: dict[str, Any] = {"name": method or ("isotonic" if event else "best")}
    table |= {"groups": words.listed(groups)} if groups else {}
    table |= {} if shrink is None else {"shrink": shrink}
    files: dict[str, Any] = {"on": on, "coarse": coarse or None, "fine": fine or None}
    files |= {"workers": workers, "scheduler": scheduler}
    chosen: dict[str, Any] = {"method": table, "members": members, "seed": seed, "overlap": overlap}
    with bar("predicting") as progress:
        if event:
            for each in of_events(model, words.thresholds(event), **files, **chosen, progress=progress):
                typer.echo(each)
            typer.echo(f"Chances: finegrid downscale {model} coarse.nc --out risk.nc --members 50 --chances")
            return
        done = go_on(model, **files, progress=progress) if update else do(model, **files, **chosen, progress=progress)
    for each in done.words:
        typer.echo(each)
    report = f", its report in {model}/{REPORT}" if done.judged else ""
    typer.echo(
        f"The calibration is in {model}{report}. Intervals: finegrid downscale {model} coarse.nc --out fine.nc "
        "--interval 90"
    )
