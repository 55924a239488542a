"""The command that makes fine fields of files of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finegrid.cli.codes import STOPPED
from finegrid.cli.inspecting import Period, Scheduler, Workers


def downscale(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    coarse: Annotated[list[str], typer.Argument(help="Coarse files or patterns.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .nc or .zarr.")],
    members: Annotated[
        int, typer.Option(help="Size of the ensemble; more than 1 with a method that draws members.")
    ] = 1,
    quantiles: Annotated[
        list[str] | None,
        typer.Option(help="Write quantiles over the members instead: 0.1,0.5,0.9. They do not conserve."),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(help="Write intervals that hold the truth so often, in percent: 90. Needs finegrid calibrate."),
    ] = None,
    chances: Annotated[
        bool, typer.Option("--chances", help="Write chances of the events of finegrid calibrate --event.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Leave out the calibration in the model folder.")] = False,
    time: Period = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    reference: Annotated[
        list[str] | None, typer.Option(help="Files of another source in its reference period: its own climatology.")
    ] = None,
    guard: Annotated[str, typer.Option(help="Of input unlike that of training: warn, align, refuse, or off.")] = "warn",
    tile: Annotated[
        int | None, typer.Option(min=1, help="Coarse cells a side for which a network answers at once: less memory.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of networks: float32, or bfloat16, which is faster and rounds to three digits.")
    ] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile networks first: pays in long jobs with --precision bfloat16.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    r"""Make fine fields of coarse files, of any length, as one CF file.

    \b
    finegrid downscale model/ coarse.nc --out fine.nc
    finegrid downscale model/ 'era/*.nc' --out fine.zarr --members 50 --time 2019-03
    finegrid downscale model/ coarse.nc --out risk.nc --members 50 --quantiles 0.1 0.5 0.9
    finegrid downscale model/ coarse.nc --out risk.nc --members 50 --interval 90
    finegrid downscale model/ scenario.nc --reference historical.nc --out future.nc
    finegrid downscale model/ 'era/*.nc' --out fine.zarr --resume
    finegrid downscale model/ 'era/*.nc' --out fine.zarr --workers 8
    finegrid downscale model/ 'era/*.nc' --out fine.zarr --scheduler tcp://node1:8786
    """
    from finegrid.cli import words as typed
    from finegrid.data.progress import bar
    from finegrid.pipeline.downscale import downscale as do
    from finegrid.training import Interrupted

    wanted, files = typed.quantiles(quantiles, coarse)
    try:
        with bar("downscaling") as progress:
            done = do(
                model,
                files,
                out,
                members=members,
                quantiles=wanted,
                interval=None if interval is None else interval / 100,
                raw=raw,
                chances=chances,
                time=time,
                seed=seed,
                reference=reference,
                guard=guard,
                tile=tile,
                precision=precision,
                compiled=compiled,
                resume=resume,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
            )
    except Interrupted as stop:
        typer.echo(f"Stopped. {stop}", err=True)
        raise SystemExit(STOPPED) from None  # all is said
    # Quantiles say in words how far they depart.
    departure = "" if wanted or interval is not None else f" (largest relative departure {done.violation:.1e})"
    typer.echo(f"{done.path}: {done.times} times; {done.words}{departure}")
    for words in done.notes:
        typer.echo(words)
