"""One method with one seed on a task: fitted, asked for the test times, and kept so that no later run pays again.

out/trials/<task>/<method>/trial.json      what was done: its key, the seconds it took, or why it could not be done
                          prediction.nc    fine fields of all test times
                          model/           the downscaler, of the last fold where there are several, and its guard

A trial is found again by its key, a hash of all that it depends on: the task, the method with its options, the training
settings, the seed, what is held back, the data, and the source code. A folder appears when its trial is complete, so
that a run that was killed goes on with the trials that it had not finished.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import xarray as xr

from finegrid.benchmark.fitting import fitted
from finegrid.benchmark.folds import Protocol
from finegrid.benchmark.task import Task
from finegrid.conventions import InputError, harmonise
from finegrid.data import open_fields, write
from finegrid.data.members import mean_of_members
from finegrid.data.traces import few_traces
from finegrid.downscalers import Downscaler, NeuralDownscaler, load
from finegrid.pipeline.guarding import learn
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.pipeline.workplace import workplace
from finegrid.training import Settings

RECORD, PREDICTION, MODEL = "trial.json", "prediction.nc", "model"


@dataclass(frozen=True, eq=False)
class Trial:
    """One method with one seed.

    Attributes:
        method: its name on the command line.
        seed: None where nothing is random.
        downscaler: what was fitted; None where only its prediction is known.
        prediction: fine fields of the test times.
        seconds: time to fit; NaN where it is not known.
    """

    method: str
    seed: int | None
    downscaler: Downscaler | None
    prediction: xr.Dataset
    seconds: float

    @property
    def label(self) -> str:
        """Its name in a table with several seeds."""
        return self.method if self.seed is None else f"{self.method}, seed {self.seed}"

    @property
    def is_ensemble(self) -> bool:
        """Whether it draws members."""
        return self.downscaler is not None and self.downscaler.usual_members > 1

    @property
    def is_network(self) -> bool:
        """Whether it was trained by gradient."""
        return isinstance(self.downscaler, NeuralDownscaler)


@dataclass(frozen=True, eq=False)
class Order:
    """A trial that is to be made.

    Attributes:
        task: with its options of the method.
        method: a name.
        number: of the seed in tables; None where nothing is random or there is one seed.
        settings: how to train, with the seed.
        samples: training samples that a network may see; None is as the settings say.
        folds: as asked for; see `fitting.protocol_of`.
        division: what is learnt from and held back where a protocol says so; None is as `folds` says.
        label: name of such a protocol.
    """

    task: Task
    method: str
    number: int | None
    settings: Settings
    samples: int | None = None
    folds: int | None = None
    division: Protocol | None = None
    label: str = ""

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        word = re.sub(r"[^\w.-]+", "_", self.method).strip("_")
        own = hashlib.sha256(self.method.encode()).hexdigest()[:6]
        seed = "" if self.number is None else f"-seed{self.number}"
        return out / "trials" / self.task.name / self.label / f"{word}-{own}{seed}"

    def key(self, material: Material) -> str:
        """A hash of all that its result depends on."""
        what = {
            "task": repr(replace(self.task, methods={})),
            "method": [self.method, self.task.methods.get(self.method, {})],
            "settings": asdict(self.settings),
            "samples": self.samples,
            "folds": self.folds,
            "division": None if self.division is None else _parts(self.division),
            "data": _traces(material),
            "code": _code(),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()

    def carried_out(self, material: Material, protocol: Protocol, *, progress: bool = False) -> Trial:
        """Fit and predict.

        Raises:
            InputError: when the method does not apply.
        """
        given = (self.task, self.method, self.settings, self.samples)
        found = fitted(*given, material, protocol, progress=progress)
        return Trial(self.method, self.number, *found)


@dataclass(frozen=True)
class Shelf:
    """Trials kept in a folder.

    Attributes:
        out: of the benchmark.
        fresh: make every trial anew.
    """

    out: Path
    fresh: bool = False

    def found(self, order: Order, key: str) -> Trial | InputError | None:
        """A trial of an earlier run, or why it could not be made; None where it is not here."""
        folder = order.folder(self.out)
        if self.fresh or not (folder / RECORD).exists():
            return None
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["key"] != key:
            return None
        if record["not_applicable"]:
            return InputError(record["not_applicable"])
        prediction = open_fields(folder / PREDICTION)
        return Trial(order.method, order.number, load(folder / MODEL), prediction, record["seconds"])

    def keep(self, order: Order, key: str, made: Trial | InputError, learnt: xr.Dataset) -> None:
        """Put a trial into its folder, all of it or nothing.

        Args:
            order: of the trial.
            key: that of the order.
            made: the trial, or why it could not be made.
            learnt: coarse fields that it has learnt from, for the guard.
        """
        record = {"key": key, "method": order.method, "seed": order.number, "not_applicable": "", "seconds": 0.0}
        with workplace(order.folder(self.out), marks=(RECORD,)) as folder:
            if isinstance(made, InputError):
                record["not_applicable"] = str(made)
            elif made.downscaler is not None:
                record["seconds"] = made.seconds
                write(made.prediction, folder / PREDICTION)
                made.downscaler.save(folder / MODEL)
                learn(made.downscaler, learnt, folder / MODEL, seasonal=order.task.options.get("cycles") != ())
            (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def orders_of(
    task: Task, methods: Sequence[str], *, seeds: int, settings: Settings, samples: int | None, folds: int | None
) -> Iterator[Order]:
    """What is to be tried: methods that learn by chance once for each seed."""
    for name in methods:
        neural = isinstance(named(name), NeuralDownscaler)
        for seed in range(seeds if neural else 1):
            own = replace(settings, seed=settings.seed + seed)
            yield Order(task, name, own.seed if neural and seeds > 1 else None, own, samples, folds)


def _parts(division: Protocol) -> list[str]:
    """Hashes of the times that are learnt from and held back."""
    times = (each for part in division for each in (part.learning, part.test))
    return [hashlib.sha256(each.astype("int64").tobytes()).hexdigest() for each in times]


def _traces(material: Material) -> list[str]:
    """Hashes of fields at some times, and of those without time."""
    found: list[str] = []
    for fields in (material.coarse, material.fine):
        standard = mean_of_members(harmonise(fields)[0])
        found += few_traces(standard, map(str, standard.data_vars))
    still = (field.values.tobytes() for fields in material.static for field in fields.values())
    return [*found, *(hashlib.sha256(each).hexdigest() for each in still)]


@cache
def _code() -> str:
    """A hash of the source code of finegrid."""
    found = hashlib.sha256()
    root = Path(str(resources.files("finegrid")))
    for path in sorted(root.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
