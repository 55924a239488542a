"""The command that asks whether input is like that from which a model has learnt."""

from __future__ import annotations

import json as plain
from pathlib import Path
from typing import Annotated

import typer

from finegrid.cli.inspecting import Period


def guard(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    coarse: Annotated[list[str], typer.Argument(help="Coarse files or patterns.")],
    *,
    time: Period = None,
    figure: Annotated[Path | None, typer.Option(help="Draw what differs into this file: .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    r"""Is new input like that from which a model has learnt? Says what differs, and how sure that is.

    \b
    finegrid guard model/ new.nc
    finegrid guard model/ 'scenario/*.nc' --time 2071/2100 --figure difference.png
    finegrid downscale model/ new.nc --out fine.nc --guard refuse
    """
    from finegrid.pipeline.guarding import judged

    found = judged(model, coarse, time=time)
    if figure is not None:
        found.figure(figure)
    if json:
        typer.echo(plain.dumps(found.to_dict(), indent=1))
        return
    for words in found.words:
        typer.echo(words)
    typer.echo(f"{found.times} times were compared with {found.compared} of training")
