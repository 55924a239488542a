"""The command that compares methods on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finegrid.cli.inspecting import Layout, Option
from finegrid.cli.judging import Budget, Out

if TYPE_CHECKING:
    from finegrid.benchmark import Task
    from finegrid.training import Settings

_ANY = 1_000_000_000


def benchmark(
    task: Annotated[
        str | None, typer.Argument(help="A task (--list shows them), or a folder in the layout of a public benchmark.")
    ] = None,
    *,
    methods: Annotated[list[str] | None, typer.Option(help="Method names, parted by commas.")] = None,
    budget: Budget = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps instead of a budget.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Training samples seen, instead of a budget.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every network.")] = 1,
    folds: Annotated[
        int | None,
        typer.Option(min=0, help="Predict so many folds of whole seasons or years in turn; 0: the last block."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Methods and seeds that are fitted at the same time.")] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Fit everything anew; else what --out already holds is taken.")
    ] = False,
    entry: Annotated[
        list[str] | None, typer.Option(help="name=file: a prediction of the test times by another tool.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the files that another tool needs into a folder, and stop; of a benchmark that takes "
            "submissions, those of one method."
        ),
    ] = None,
    layout: Layout = None,
    option: Option = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Another question: regions, warm, dropped-sources, target-members or forecasts."),
    ] = None,
    leaderboard: Annotated[
        Path | None, typer.Option(help="A JSON file of scores to extend; without a task it is shown.")
    ] = None,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the tasks and stop.")] = False,
    out: Out = Path("bench"),
) -> None:
    r"""Run methods on a task with fixed data and splits, and rank them with intervals.

    A run that was stopped goes on where it was: what --out holds is not fitted again.

    \b
    finegrid benchmark --list
    finegrid benchmark era5-uk-t2m-x4 --out bench/
    finegrid benchmark racmo-pr-x4 --folds 5 --workers 2 --out bench/
    finegrid benchmark racmo-pr-x4 --methods bicubic,ridge,resnet-on-ridge,resnet+softmax --budget 2min --seeds 3
    finegrid benchmark racmo-tas-x4 --export task/
    finegrid benchmark racmo-tas-x4 --entry theirs=fine.nc --leaderboard board.json
    finegrid benchmark --leaderboard board.json
    finegrid benchmark mrms-x8 --protocol regions --methods bicubic+multiplicative,resnet+multiplicative --budget 1min
    finegrid benchmark RainShift/ --option region=melanesia --methods bicubic+none,ridge+none --out bench/
    finegrid benchmark Bench-data/ --option domain=NZ --methods ridge+none --export submission/
    """
    from finegrid.benchmark import run
    from finegrid.benchmark.layouts import hand_in, inquiry_of, takes_submissions
    from finegrid.benchmark.leaderboard import Leaderboard
    from finegrid.cli import showing, words
    from finegrid.data import open_fields
    from finegrid.training import Settings

    if leaderboard is not None and task is None:
        typer.echo(Leaderboard.read(leaderboard).markdown())
        return
    if list_tasks or task is None:
        showing.tasks()
        return
    chosen = _chosen(task, layout, option or [], words.mapped(entry))
    limit = words.budget(budget)
    ended = limit or steps or samples
    # Samples are counted in steps of each method's own batches; until then any number of steps will do.
    settings = Settings(budget=limit if ended else 300.0, steps=steps or (samples and _ANY))
    if export is not None:
        from finegrid.benchmark.exporting import export as write_files

        names = tuple(words.listed(methods))
        own = takes_submissions(chosen)
        told = hand_in(chosen, export, names, settings=settings, say=typer.echo) if own else write_files(chosen, export)
        typer.echo(told)
        return
    board = None if leaderboard is None else Leaderboard.read(leaderboard)
    if protocol is not None or inquiry_of(chosen) is not None:
        _asked(protocol, chosen, words.listed(methods), seeds, settings, out)
        return
    found = run(
        chosen,
        words.listed(methods),
        out=out,
        seeds=seeds,
        settings=settings,
        samples=samples,
        folds=folds,
        workers=workers,
        fresh=fresh,
        entries={name: open_fields(path) for name, path in words.mapped(entry).items()},
        say=typer.echo,
        progress=workers == 1,
    )
    showing.ranking(found)
    showing.climate(found.evaluation)
    if board is not None and leaderboard is not None:
        board.extended(found, trained=_trained(settings.budget, steps, samples)).write(leaderboard)
        typer.echo(f"{leaderboard}: {len(found.trials)} entries added")
    typer.echo(f"{found.evaluation.verdict}\nThe report is {out}/report.html")


def _chosen(word: str, layout: str | None, options: list[str], entries: dict[str, str]) -> Any:
    """A task by name, or that of a folder.

    Raises:
        InputError: when there is neither, or options of a folder are given to a task.
    """
    from finegrid.benchmark import TASKS, find_task
    from finegrid.benchmark.layouts import task_of
    from finegrid.conventions import InputError

    if word in TASKS:
        if layout or options:
            raise InputError(f"got --layout or --option for the task {word}; expected a folder; leave them out")
        return find_task(word)
    if layout or options or Path(word).is_dir() or "/" in word:
        return task_of(word, layout=layout, options=options, entries=entries)
    return find_task(word)  # which says what there is


def _asked(protocol: str | None, task: Task, methods: list[str], seeds: int, settings: Settings, out: Path) -> None:
    """Ask a protocol, or the question of a folder, write its answer and show it."""
    from finegrid.benchmark.layouts import inquiry_of
    from finegrid.benchmark.protocols import find_protocol

    ask: Any = inquiry_of(task) if protocol is None else find_protocol(protocol)
    answer = ask(task, methods or None, seeds=seeds, settings=settings, out=out, say=typer.echo, progress=True)
    answer.write(out)
    typer.echo(answer.markdown())
    typer.echo(f"Table, numbers and picture are in {out}/{answer.protocol}.md, .json and .svg")


def _trained(budget: float | None, steps: int | None, samples: int | None) -> str:
    parts = [
        f"{budget:g} s" if budget else "",
        f"{steps} steps" if steps else "",
        f"{samples} samples" if samples else "",
    ]
    return ", ".join(filter(None, parts))
