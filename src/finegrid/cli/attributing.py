"""The command that says which coarse values a prediction comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from finegrid.cli.inspecting import Period


def attribute(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    coarse: Annotated[list[str], typer.Argument(help="Coarse files or patterns.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .nc or .zarr; a picture beside it.")],
    target: Annotated[str | None, typer.Option(help="Predicted variable; by default the first.")] = None,
    at: Annotated[str | None, typer.Option(help="At a point: latitude,longitude.")] = None,
    box: Annotated[str | None, typer.Option(help="Mean over a box: south,north,west,east.")] = None,
    above: Annotated[float | None, typer.Option(help="The part above this threshold, instead of the mean.")] = None,
    method: Annotated[
        str, typer.Option(help="integrated-gradients, gradient-shap, shapley or occlusion.")
    ] = "integrated-gradients",
    block: Annotated[
        int | None, typer.Option(min=1, help="Cells along a side of what shapley and occlusion take away at once.")
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="Departures from what: climate, zero, record, or coarse files.")
    ] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Members whose mean is attributed.")] = None,
    time: Period = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    r"""See which coarse cells and variables a prediction comes from: maps, and a picture of their means.

    \b
    finegrid attribute model/ coarse.nc --target pr --at 41.5,-3.7 --time 2001-01 --out attribution.nc
    finegrid attribute model/ coarse.nc --box 40,43,-8,-4 --above 10 --out attribution.nc
    finegrid attribute model/ coarse.nc --method shapley --block 2 --baseline record --out attribution.nc
    """
    from finegrid.benchmark.attribution import Target
    from finegrid.benchmark.attribution.files import attribute_files, checked_baseline
    from finegrid.cli import words

    place: dict[str, Any] = {"at": words.numbers(at, 2, "--at"), "box": words.numbers(box, 4, "--box")}
    table: dict[str, Any] = {"name": method} | ({} if block is None else {"block": block})
    done = attribute_files(
        model,
        coarse,
        out,
        target=Target(variable=target, above=above, **place),
        method=table,
        baseline=checked_baseline(baseline),
        time=time,
        members=members,
        seed=seed,
        progress=True,
    )
    for each in done.words:
        typer.echo(each)
    typer.echo(f"{done.path}: parts of every time; {done.picture}: their means")
