"""The commands that look at files and bring them onto other grids, before anything is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Layout = Annotated[str | None, typer.Option("--layout", help="Layout of a folder; by default that which it is in.")]
Option = Annotated[
    list[str] | None, typer.Option("--option", help="Of the layout of a folder: region=blacksea; may be repeated.")
]
Period = Annotated[str | None, typer.Option("--time", help="A period: 2019, 2019-03, 1983/1996.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that share the work; with --scheduler, how many to wait for.")
]
Scheduler = Annotated[
    str | None, typer.Option(help="Dask scheduler whose workers do the work: tcp://host:8786, or its file.")
]


def check(
    coarse: Annotated[str, typer.Argument(help="Coarse file or pattern.")],
    fine: Annotated[str, typer.Argument(help="Fine file or pattern, of the same times.")],
    *,
    variables: Annotated[list[str] | None, typer.Option(help="What to compare: tas,pr or fine=coarse names.")] = None,
    predictors: Annotated[list[str] | None, typer.Option(help="Further coarse variables for the recipe.")] = None,
    time: Period = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the recipe to this file.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Write maps of the bias to this folder.")] = None,
) -> None:
    r"""Look at a coarse and a fine file: do they fit together, do they agree, and what to do with them.

    \b
    finegrid check era.nc obs.nc
    finegrid check era.nc obs.nc --variables tas=t2m --out recipe.yaml
    """
    from finegrid.cli import showing, words
    from finegrid.pipeline.checking import check as do
    from finegrid.pipeline.checking import look

    showing.looks({"coarse": look(coarse), "fine": look(fine)})
    found = do(coarse, fine, variables=words.mapped(variables) or None, predictors=words.listed(predictors), time=time)
    showing.checked(found)
    if out is not None:
        out.write_text(found.yaml, encoding="utf-8")
    if maps is not None:
        showing.bias_maps(found, maps)


def inspect(
    folder: Annotated[Path, typer.Argument(help="A folder in the layout of a public benchmark.")],
    *,
    layout: Layout = None,
    option: Option = None,
) -> None:
    r"""Which public benchmark is in a folder, what is in it, and how to run methods on it.

    \b
    finegrid inspect RainShift/
    finegrid inspect RainShift/ --option region=melanesia
    """
    from finegrid.benchmark.layouts import task_of
    from finegrid.benchmark.layouts.words import first_choices
    from finegrid.cli import showing
    from finegrid.data.layouts import layout_of

    known = layout_of(folder, layout)
    offered, chosen = first_choices(known, folder, option or [])
    showing.layout(known, offered, task_of(folder, layout=known.name, options=chosen))


def regrid(
    files: Annotated[list[str], typer.Argument(help="Files or patterns.")],
    *,
    like: Annotated[str, typer.Option(help="A file on the wanted grid.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .nc or .zarr.")],
    method: Annotated[str, typer.Option(help="conservative, bilinear, bicubic or nearest.")] = "conservative",
    variables: Annotated[list[str] | None, typer.Option(help="What to remap; by default everything.")] = None,
    min_valid: Annotated[float, typer.Option(min=0, max=1, help="Part of a target cell that must have values.")] = 0.0,
    weights: Annotated[Path | None, typer.Option(help="A weight file of ESMF, xesmf or finegrid to use.")] = None,
    save_weights: Annotated[Path | None, typer.Option(help="Write the weights to this file.")] = None,
    time: Period = None,
) -> None:
    r"""Bring files onto the grid of another file: any pair of grids, files of any length.

    \b
    finegrid regrid pr.nc --like obs.nc --out pr_on_obs.nc
    finegrid regrid 'ocean/*.nc' --like era.nc --method bilinear --variables tos --out tos.zarr
    """
    from finegrid.cli import words
    from finegrid.data.progress import bar
    from finegrid.pipeline.regrid import regrid as do

    with bar("building weights") as progress:
        done = do(
            files,
            like,
            out,
            method=method,
            variables=words.listed(variables) or None,
            min_valid=min_valid,
            weights=weights,
            save_weights=save_weights,
            time=time,
            progress=progress,
        )
    typer.echo(f"{done.path}: {' '.join(done.words)}")
