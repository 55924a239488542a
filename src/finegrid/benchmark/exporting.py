"""A task as files, for tools that finegrid does not know: what to learn from, and what to predict.

train_coarse.nc, train_fine.nc    training and validation times
test_coarse.nc                    times to predict, on the grid and with the names of train_fine.nc
static_0.nc, ...                  fields without time
README.md                         which is which, and how to have a prediction judged
"""

from __future__ import annotations

from pathlib import Path

from finegrid.benchmark.fitting import protocol_of
from finegrid.benchmark.task import Task
from finegrid.conventions import InputError
from finegrid.data import write

_ABOUT = """# {name}

{title}

- `train_coarse.nc`, `train_fine.nc`: what may be learnt from ({train} times).
- `test_coarse.nc`: what is to be predicted ({test} times): {variables} on the grid of `train_fine.nc`.{static}

A prediction has the times of `test_coarse.nc` and the names, units and grid of `train_fine.nc`; it may have a dimension
`member`. To have it judged beside other methods:

    finegrid benchmark {command} --entry yours=prediction.nc --out bench/
"""
_ALONE = """
- The inputs are predictors alone. {variables} in the coarse files is one number everywhere, the mean of training, which
  says nothing; it stands where methods of finegrid look for a coarse field."""


def export(task: Task, folder: Path) -> str:
    """Write the files of a task and tell where they are.

    Raises:
        InputError: when the sample is not on this machine, the folder holds something already, or the task has folds.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"got --export {folder}, which is not empty; expected a new folder; give another name")
    material = task.material()
    parts = protocol_of(task, material).parts
    if len(parts) > 1:
        raise InputError(
            f"got the task {task.name}, whose {len(parts)} folds are predicted in turn; expected one with a test "
            "block; finegrid benchmark --list shows others"
        )
    folder.mkdir(parents=True, exist_ok=True)
    coarse, fine = material.at(parts[0].learning)
    write(coarse, folder / "train_coarse.nc")
    write(fine, folder / "train_fine.nc")
    write(material.at(parts[0].test)[0], folder / "test_coarse.nc")
    for number, each in enumerate(material.static):
        each.to_netcdf(folder / f"static_{number}.nc", engine="netcdf4")
    facts = {"train": len(parts[0].learning), "test": len(parts[0].test), "variables": ", ".join(task.variables)}
    static = "\n- `static_0.nc`: a field without time." if material.static else ""
    static += "" if task.comparable else _ALONE.format(variables=facts["variables"])
    words = _ABOUT.format(name=task.name, command=task.command, title=task.title, static=static, **facts)
    (folder / "README.md").write_text(words, encoding="utf-8")
    return f"{folder}: files of {task.name}; see {folder}/README.md"
