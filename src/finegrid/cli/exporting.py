"""The command that makes a file for other programs of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .onnx.")],
    example: Annotated[
        list[str] | None,
        typer.Option(help="Coarse files to compare the graph with the model on; by default fields like training."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators; by default 20.")] = None,
) -> None:
    r"""Write a model as an ONNX file, which runs without finegrid, and check that it answers as the model does.

    \b
    finegrid export model/ --out model.onnx
    finegrid export model/ --out model.onnx --example era.nc
    """
    from finegrid.data import open_fields
    from finegrid.serving import OPSET
    from finegrid.serving import export as do

    fields = open_fields(example) if example else None
    done = do(model, out, example=fields, opset=OPSET if opset is None else opset)
    typer.echo(f"{done.path}: {', '.join(done.inputs)} in, fine out; {done.size / 1e6:.1f} MB")
    typer.echo(f"The graph {done.verified.words}; {done.verified.conservation}")
    for words in done.notes:
        typer.echo(words)
