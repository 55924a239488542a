"""The commands. What is heavy is imported inside them, so that help appears at once."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Annotated

import typer

from finegrid import __version__
from finegrid.cli.attributing import attribute
from finegrid.cli.benchmarking import benchmark
from finegrid.cli.calibrating import calibrate
from finegrid.cli.codes import STOPPED
from finegrid.cli.downscaling import downscale
from finegrid.cli.exporting import export
from finegrid.cli.guarding import guard
from finegrid.cli.inspecting import Scheduler, Workers, check, inspect, regrid
from finegrid.cli.judging import Budget, Out, evaluate

app = typer.Typer(
    help="Coarse climate and weather fields in, fine fields out, which conserve and come with an honest report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say(words: str) -> None:
    typer.echo(words)


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"finegrid {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    context: typer.Context,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processors that work at once; by default all.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""
    if jobs is not None:
        from finegrid.downscalers.processors import processors

        context.with_resource(processors(jobs))


@app.command()
def demo(
    out: Out = Path("demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
) -> None:
    r"""See everything happen on real data: train, downscale, report; about a minute.

    \b
    finegrid demo --out demo/
    """
    from finegrid.benchmark.demo import STEPS, demonstrate

    shown = demonstrate(out, steps=steps or STEPS, say=_say, progress=True)
    _say(
        f"\n{shown.evaluation.verdict}\n\nThe report is {out}/report.html; all of it took {shown.seconds:.0f} s. With "
        "your own files:"
    )
    _say("  finegrid fit --coarse coarse.nc --fine fine.nc --out model/")
    _say("  finegrid downscale model/ other_coarse.nc --out other_fine.nc")


@app.command()
def fit(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe; or give --coarse and --fine.")] = None,
    *,
    out: Out,
    coarse: Annotated[list[str] | None, typer.Option(help="Coarse files; a pattern or repeated.")] = None,
    fine: Annotated[list[str] | None, typer.Option(help="Fine files of the same times.")] = None,
    static: Annotated[list[str] | None, typer.Option(help="Files of fields without time, such as elevation.")] = None,
    variables: Annotated[list[str] | None, typer.Option(help="What to predict: tas,pr or fine=coarse names.")] = None,
    predictors: Annotated[list[str] | None, typer.Option(help="Further coarse variables to learn from.")] = None,
    method: Annotated[str | None, typer.Option(help="ridge, resnet-on-ridge, srresnet+softmax, ...")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Members instead of a single answer: the head noise-injected.")
    ] = False,
    adjust: Annotated[
        str | None,
        typer.Option(help="Bias adjustment of the coarse fields: natural, shift, scale, qdm, ... (see docs)."),
    ] = None,
    budget: Budget = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps instead of a budget.")] = None,
    patch: Annotated[
        int | None,
        typer.Option(min=1, help="Learn from windows of so many coarse cells a side, of archives larger than memory."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    r"""Train a downscaler on a coarse and a fine file, and test it on times that it has not seen.

    \b
    finegrid fit recipe.yaml --out model/
    finegrid fit --coarse era.nc --fine obs.nc --out model/
    finegrid fit --coarse era.nc --fine obs.nc --ensemble --out model/
    finegrid fit --coarse era.zarr --fine analysis.zarr --patch 32 --out model/
    finegrid fit --coarse era.zarr --fine analysis.zarr --method ridge --workers 8 --out model/
    finegrid fit --coarse 'era/*.nc' --fine obs.zarr --static elevation.nc --variables tas=t2m --budget 5min --out
    model/
    """
    from finegrid.cli import words
    from finegrid.pipeline.fit import Interrupted, how_to_resume
    from finegrid.pipeline.fit import fit as do
    from finegrid.pipeline.naming import adjustment_of, as_ensemble, table_of
    from finegrid.training.ranks import Ranks

    base = words.base_recipe(recipe, out, coarse or [], fine or [], resume)
    data = {
        "coarse": coarse,
        "fine": fine,
        "static": words.listed(static),
        "variables": words.mapped(variables),
        "predictors": words.listed(predictors),
    }
    training = {"budget": words.budget(budget), "steps": steps, "patch": patch, "seed": seed, "device": device}
    chosen = {} if method is None else {"downscaler": table_of(method), "adjust": adjustment_of(method)}
    job = words.laid_over(base, data, {**chosen, **({} if adjust is None else {"adjust": adjust})}, training)
    job = as_ensemble(job) if ensemble else job
    try:
        done = do(job, out, resume=resume, workers=workers, scheduler=scheduler)
    except KeyboardInterrupt as stop:
        typer.echo(how_to_resume(out, str(stop) if isinstance(stop, Interrupted) else ""), err=True)
        raise SystemExit(STOPPED) from None  # all is said
    if not Ranks.is_first():
        return
    for words_of_result in (done.evaluation and done.evaluation.verdict, done.note):
        if words_of_result:
            _say(words_of_result)
    _say(f"The model is in {out}" + (f", its report in {out}/report.html" if done.evaluation is not None else ""))


@app.command()
def samples(
    get: Annotated[str | None, typer.Option(help="A sample to write into --out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write: .nc or .zarr.")] = None,
) -> None:
    r"""List the sample data, or write one of them to a file.

    \b
    finegrid samples
    finegrid samples --get navy-winds --out winds.nc
    """
    from finegrid.cli import showing

    if get is None:
        showing.samples()
        return
    from finegrid.data import samples as catalogue
    from finegrid.data import write

    target = out or Path(f"{get}.nc")
    write(catalogue.open(get), target)
    _say(f"{target}: {get}")


@app.command()
def info(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    r"""What a model predicts, from what, and how it was trained.

    \b
    finegrid info model/
    """
    from finegrid.cli import showing

    showing.model(model, as_json=json)


@app.command()
def recipe(
    example: Annotated[bool, typer.Option("--example", help="Print a commented recipe with every key.")] = False,
    check: Annotated[Path | None, typer.Option(help="Check a recipe, and print it with every default.")] = None,
) -> None:
    r"""Recipes: a whole job in one YAML file.

    \b
    finegrid recipe --example > recipe.yaml
    finegrid recipe --check recipe.yaml
    """
    from finegrid.cli import showing

    showing.recipe(check if not example else None)


for _verb in (downscale, calibrate, evaluate, benchmark, check, inspect, guard, regrid, attribute, export):
    app.command()(_verb)

for _command in app.registered_commands:
    # In the source the mark that keeps lines apart is written out, as docstrings have no escapes.
    _command.help = cleandoc((_command.callback and _command.callback.__doc__) or "").replace(r"\b", "\b")
