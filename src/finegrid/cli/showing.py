"""Tables and bars on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from finegrid.benchmark import Result
    from finegrid.benchmark.layouts import LayoutTask
    from finegrid.data.layouts import Layout, Opened
    from finegrid.downscalers import Downscaler
    from finegrid.evaluation import Evaluation
    from finegrid.evaluation.agreement import Agreement
    from finegrid.pipeline.checking import Checked, Look


# Units stand beside the name; the share of significant cells is left to the report.
# Methods that have room beside each other; of more each has a row, and the indices need a wide screen.
_FEW_METHODS, _WIDE = 5, 170
_COLUMNS = ("times", "bias", "95 % interval", "spread", "variability", "correlation")


def tasks() -> None:
    """The tasks of the benchmark."""
    from finegrid.benchmark import TASKS

    rows = [
        (task.name, task.title, ", ".join(task.methods), "" if task.available else "sample missing")
        for task in TASKS.values()
    ]
    _table(("task", "what", "methods unless others are named", ""), rows)


def calibrators() -> None:
    """Calibrators, what they are and what they promise."""
    from finegrid.calibration import CALIBRATORS, EVENT_CALIBRATORS

    rows = [
        (name, (each.__doc__ or "").partition(".")[0], "members" if each.draws else "intervals", each.guarantee)
        for name, each in CALIBRATORS.items()
    ]
    rows += [
        (name, (each.__doc__ or "").partition(".")[0], "chances of events", "none: right on the average of calibration")
        for name, each in EVENT_CALIBRATORS.items()
    ]
    _table(("calibrator", "what", "makes", "guarantee"), rows)


def samples() -> None:
    """The catalogue of sample data."""
    from finegrid.data import samples as catalogue

    rows = [
        (each.name, each.description, each.where, each.licence, "yes" if catalogue.available(each.name) else "no")
        for each in catalogue.catalogue()
    ]
    _table(("sample", "what", "where", "licence", "here"), rows)


def ranking(result: Result) -> None:
    """Methods from the smallest error to the largest, with intervals."""
    from finegrid.evaluation.wording import number, range_of

    for variable in result.evaluation.variables:
        scores = result.evaluation.of(variable, "rmse")
        ordered = sorted(scores.values(), key=lambda score: score.value)
        rows = [
            (
                score.method,
                number(score.value, digits=4),
                range_of(score.low, score.high),
                "best" if score.best else "tied" if score.tied else "",
                f"{result.trials[score.method].seconds:.0f}",
            )
            for score in ordered
        ]
        _table((variable, f"RMSE ({ordered[0].units})", "95 % interval", "", "fit (s)"), rows)
    for name, why in result.inapplicable.items():
        Console().print(f"{name}: not applicable: {why}", markup=False)


def climate(found: Evaluation) -> None:
    """Indices of the climate, differences or ratios, and the truth; a row for each index, or each of many methods."""
    from finegrid.evaluation.value_table import heading, true_value
    from finegrid.evaluation.wording import number

    table = found.value_table.without_empty()
    for variable in table.variables:
        columns = {index: table.of(variable, index) for index in table.indices(variable)}
        words = {index: [number(each[method].value) for method in table.methods] for index, each in columns.items()}
        truth = {index: true_value(each) for index, each in columns.items()}
        name = f"climate of {variable}"
        if len(table.methods) <= _FEW_METHODS:
            rows = [(heading(columns[index]), *words[index], truth[index]) for index in columns]
            _table((name, *table.methods, "truth"), rows)
            continue
        rows = [(method, *(each[row] for each in words.values())) for row, method in enumerate(table.methods)]
        _table((name, *columns), [*rows, ("truth", *truth.values())], width=_WIDE)


def model(folder: Path, *, as_json: bool) -> None:
    """What a model knows of itself, with its scores where the folder has them."""
    from finegrid.downscalers import load

    downscaler = load(folder)
    known = {**_plain(downscaler.info()), "digest": downscaler.digest}
    verdict = _verdict(folder)
    known |= {"verdict": verdict} if verdict else {}
    known |= _calibration(folder, downscaler)
    text = (
        json.dumps(known, indent=1)
        if as_json
        else yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=100)
    )
    print(text.rstrip())  # noqa: T201


def _calibration(folder: Path, downscaler: Downscaler) -> dict[str, Any]:
    """What makes a model honest, where its folder holds that."""
    from finegrid.pipeline.calibrated import Calibration

    calibration = Calibration.of(folder, downscaler)
    if calibration is None:
        return {}
    kept = ("period", "members", "changes_members", "guarantee")
    told = {key: calibration.facts[key] for key in kept}
    return {"calibration": {"calibrator": calibration.calibrator.name, **told}}


def looks(found: Mapping[str, Look]) -> None:
    """Files beside each other."""
    rows = [(what, *(each.rows[what] for each in found.values())) for what in next(iter(found.values())).rows]
    _table(("", *(f"{role}: {Path(each.source).name}" for role, each in found.items())), rows)


def layout(known: Layout, offered: Mapping[str, tuple[str, ...]], task: LayoutTask) -> None:
    """A folder in the layout of a public benchmark: what is in it, and what to do with it."""
    opened = task.opened()
    _table((known.name, known.title), _facts(known, offered, opened))
    _table(("role", "variable", "units", "size"), _variables(opened))
    parts = [(name, str(len(each)), *_ends(opened.fine.time, each)) for name, each in opened.splits.items()]
    parts += [(name, str(each.sizes["time"]), "truth is kept", "") for name, each in opened.tests.items()]
    _table(("part", "times", "from", "to"), parts)
    what = f"This is a question of {task.asked}: " if task.asked else ""
    methods = f" --methods {','.join(list(task.methods)[:3])}" if task.methods else ""
    told = [f"{what}finegrid benchmark {task.command}{methods} --out bench/"]
    submits = known.submits is not None
    told += [f"finegrid benchmark {task.command} --methods ridge+none --export submission/"] if submits else []
    Console().print("\n".join(told), markup=False, soft_wrap=True)


def _facts(known: Layout, offered: Mapping[str, tuple[str, ...]], opened: Opened) -> list[tuple[str, str]]:
    from finegrid.benchmark.layouts.words import OWN

    rows = [(f"{key}, here", ", ".join(values)) for key, values in {**opened.choices, **offered}.items()]
    rows += [(f"{key}, shown", value) for key, value in opened.chosen.items()]
    rows += [("options", ", ".join((*known.options, *OWN)))]
    extras = ", ".join(opened.extras) or "nothing"
    return [*rows, ("beside them", extras), ("cite", opened.citation), ("terms", opened.licence)]


def _variables(opened: Opened) -> list[tuple[str, ...]]:
    """What goes in and what is predicted; what is both, as the weather of a later time is, once."""
    parts = {"input": opened.coarse, "predicted": opened.fine}
    parts |= {f"static {number}": each for number, each in enumerate(opened.static, 1)}
    roles: dict[tuple[str, ...], list[str]] = {}
    for role, fields in parts.items():
        for name, each in fields.data_vars.items():
            size = " x ".join(f"{count} {dim}" for dim, count in each.sizes.items())
            roles.setdefault((str(name), str(each.attrs.get("units", "")), size), []).append(role)
    return [(", ".join(role), *row) for row, role in roles.items()]


def _ends(time: xr.DataArray, chosen: NDArray[np.intp]) -> tuple[str, str]:
    if not len(chosen):
        return "", ""
    return str(time.values[chosen[0]])[:16], str(time.values[chosen[-1]])[:16]


def checked(found: Checked) -> None:
    """How two files fit, whether they agree, and the recipe."""
    from finegrid.evaluation.agreement import words_of

    _table(("together", ""), list(found.rows.items()))
    for each in found.agreements:
        Console().print(f"Do coarse and fine {each.name} show the same weather? {_answer(each)}", markup=False)
        (name, *_), *rows = words_of(each)
        _table((name, *_COLUMNS), [(*row[:4], *row[5:]) for row in rows])
        Console().print("\n".join(sentence.replace("`", "") for sentence in each.advice) + "\n", markup=False)
    if not found.agreements:
        words = "fewer than eight common times, or no coarse cell within the fine domain"
        Console().print(f"Whether coarse and fine agree cannot be said: {words}.", markup=False)
    Console().print("A recipe for them (finegrid fit recipe.yaml --out model/):\n", markup=False)
    print(found.yaml.rstrip())  # noqa: T201


def bias_maps(found: Checked, folder: Path) -> None:
    """Maps of the bias as pictures."""
    from finegrid.evaluation.agreement_figures import bias_maps as draw

    folder.mkdir(parents=True, exist_ok=True)
    for each in found.agreements:
        draw(each).savefig(folder / f"bias_{each.name}.png", dpi=150, bbox_inches="tight")


def _answer(found: Agreement) -> str:
    also = " and biased" if found.biased and found.verdict == "scattered" else ""
    return f"{found.verdict}{also}".capitalize() + "."


def recipe(path: Path | None) -> None:
    """The example, or a checked recipe with its defaults."""
    from finegrid.pipeline.recipe import Recipe

    if path is None:
        print(Recipe.example().rstrip())  # noqa: T201
        return
    from finegrid.pipeline.fit import built

    whole = built(Recipe.read(path))[1]
    print(yaml.safe_dump(whole.to_dict(), sort_keys=False, allow_unicode=True).rstrip())  # noqa: T201


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, width: int = 0) -> None:
    table = Table(box=box.SIMPLE, header_style="bold", collapse_padding=True)
    for index, head in enumerate(heads):
        table.add_column(head, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=max(width, console.width)).print(table, markup=False)


def _verdict(folder: Path) -> str:
    from finegrid.conventions.documents import read_json

    try:
        scores: Mapping[str, Any] = read_json(folder / "scores.json")
        return str(scores.get("verdict", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values, default=_as_json))


def _as_json(value: Any) -> Any:
    from dataclasses import asdict, is_dataclass

    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
