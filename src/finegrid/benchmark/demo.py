"""The whole walk on real data that ship with the package, as a user would do it: files, fit, downscale, report.

Monthly winds near the surface at 2.5 degrees are coarsened to 10 degrees; a network learns on 1982-1989 to undo that
and is judged on 1990-1992. Everything goes through files in `demo/`, so that each step can be repeated by hand.

    demo/coarse.nc, truth.nc, elevation.nc   the data
    demo/model/                              what `finegrid fit` wrote
    demo/fine.nc                             what `finegrid downscale` wrote: 1990-1992
    demo/report.html, scores.json            how good it is; picture.png is one map of the report
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finegrid.benchmark.tasks import find_task
from finegrid.conventions import InputError
from finegrid.data import write
from finegrid.evaluation import Evaluation
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.fit import fit
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.recipe import Recipe

TASK = "navy-winds-x4"
# What two cores do in about half a minute; more steps do not help on 84 months, many small ones do.
STEPS = 600
_BATCH = 8
_PICTURE_DPI = 110


@dataclass(frozen=True)
class Shown:
    """What the demonstration made.

    Attributes:
        folder: where everything is.
        evaluation: scores on the test block.
        seconds: wall time of all steps.
    """

    folder: Path
    evaluation: Evaluation
    seconds: float


def demonstrate(
    out: str | Path, *, steps: int = STEPS, say: Callable[[str], None] = lambda words: None, progress: bool = False
) -> Shown:
    """Run the demonstration into a folder.

    Args:
        out: the folder; its files are replaced.
        steps: training steps; fixed, so that a run can be repeated.
        say: told what happens, in short sentences.
        progress: show a bar while the network trains.

    Raises:
        InputError: when the folder cannot be written.
    """
    watch, folder = Watch(), _folder(Path(out))
    recipe = _prepared(folder, steps)
    say(f"{folder}/coarse.nc, truth.nc: monthly winds at 10 and 2.5 degrees, 1982-1992")
    fitted = fit(recipe, folder / "model", progress=progress)
    if fitted.evaluation is None:
        raise InputError(f"the demonstration has no test times: {fitted.note}")
    numbers = fitted.downscaler.info()["training"]["parameters"]
    say(f"{folder}/model: a network of {numbers:,} numbers, trained on 1982-1989")
    period = str(recipe.data.split.test)
    model, coarse, fine = folder / "model", folder / "coarse.nc", folder / "fine.nc"
    command = f"finegrid downscale {model} {coarse} --out {fine} --time {period}"
    downscale(fitted.downscaler, coarse, fine, time=period, command=command)
    say(f"{folder}/fine.nc: 1990-1992, downscaled")
    for name in ("scores.json", "report.html"):
        shutil.copyfile(folder / "model" / name, folder / name)
    _picture(fitted.evaluation, folder / "picture.png")
    return Shown(folder, fitted.evaluation, watch.seconds)


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"could not make the folder {out} ({error.strerror}); expected a place that may be written to. Choose "
            "another --out"
        ) from error
    return out


def _prepared(folder: Path, steps: int) -> Recipe:
    """Write the data and say what to do with them."""
    task = find_task(TASK)
    material = task.material()
    write(material.coarse, folder / "coarse.nc")
    write(material.fine, folder / "truth.nc")
    write(material.static[0], folder / "elevation.nc")
    return Recipe.of(
        {
            "data": {
                "coarse": str(folder / "coarse.nc"),
                "fine": str(folder / "truth.nc"),
                "static": str(folder / "elevation.nc"),
                "split": dict(task.split),
            },
            "downscaler": {"name": "neural", "backbone": {"name": "resnet", "dropout": 0.1}},
            "training": {"steps": steps, "budget": None, "batch": _BATCH},
        }
    )


def _picture(evaluation: Evaluation, path: Path) -> None:
    from finegrid.evaluation.maps import maps  # matplotlib is heavy

    maps(evaluation.views[0], evaluation.method).savefig(path, dpi=_PICTURE_DPI)
