"""Evaluation and calibration by workers of dask.distributed: the same numbers, whoever counted."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from finegrid.calibration import store as stored
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.data.working import Workers
from finegrid.downscalers import base, load, method
from finegrid.evaluation import evaluate
from finegrid.evaluation.indices import series
from finegrid.pipeline import choosing
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.pipeline.evaluate import evaluate_files
from finegrid.pipeline.events import calibrate_events

distributed = pytest.importorskip("distributed")

TIMES, LEARNT, ROWS, COLUMNS = 160, 60, 8, 12
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of rain, and a model of its first third that draws members."""
    place = tmp_path_factory.mktemp("workers")
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(ROWS, COLUMNS), times=TIMES)[["pr"]]
    for name, each in (("fine", fine), ("coarse", coarsen(fine, 4))):
        each.to_netcdf(place / f"{name}.nc", engine="netcdf4")
        each.isel(time=slice(LEARNT, None)).to_netcdf(place / f"later_{name}.nc", engine="netcdf4")
    learnt = fine.isel(time=slice(LEARNT))
    model = method("analogues+multiplicative").fit(coarsen(learnt, 4), learnt)
    model.save(place / "model")
    model.predict(open_fields(place / "later_coarse.nc"), members=3).to_netcdf(place / "made.nc", engine="netcdf4")
    return place


@pytest.fixture
def files(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the working folder, and pieces of few times and rows."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "_BLOCK_VALUES", 25 * ROWS * COLUMNS)
    monkeypatch.setattr("finegrid.evaluation.metrics.reading._AT_ONCE", 30 * 3 * ROWS * COLUMNS)
    monkeypatch.setattr(series, "_VALUES_AT_ONCE", 3 * 2 * COLUMNS * (TIMES - LEARNT))
    return tmp_path


def noted(workers: Workers, asked: list[str]) -> Workers:
    """The same workers, and what they are asked to read."""

    def called(read, work, pieces):
        asked.append(getattr(read, "__qualname__", ""))
        return workers(read, work, pieces)

    return called


def test_workers_find_the_scores_that_one_process_finds(files: Path, scheduler: str) -> None:
    made, fine, coarse = (open_fields(f"{name}.nc") for name in ("made", "later_fine", "later_coarse"))
    how = {"coarse": coarse, "metrics": "all", "indices": "all"}
    alone = evaluate(made, fine, **how)
    asked: list[str] = []
    with connected(2, scheduler) as client:
        shared = evaluate(made, fine, workers=noted(workers_of(client), asked), **how)
    assert {"Piece.read", "Rows.read", "Around.read"} <= set(asked)
    assert len(alone.indices) > 10 and len(alone.scores) > 30
    assert alone.to_dict() == shared.to_dict()


def test_workers_draw_the_members_that_a_calibrator_learns_from(
    files: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"coarse": "later_coarse.nc", "fine": "later_fine.nc", "members": 3}
    shutil.copytree("model", "other")
    monkeypatch.setattr(choosing, "_OF_MEMBERS", choosing._OF_MEMBERS[:2])
    steps: list[tuple[int, int]] = []
    alone = calibrate("model", **how)
    asked: list[str] = []
    for place in ("calibrate", "events"):
        monkeypatch.setattr(
            f"finegrid.pipeline.{place}.workers_of", lambda client: noted(workers_of(client), asked) if client else None
        )
    shared = calibrate("other", scheduler=scheduler, progress=lambda *at: steps.append(at), **how)
    assert (alone.words, alone.judged.keys()) == (shared.words, shared.judged.keys()) and alone.judged
    assert steps[-1] == (TIMES - LEARNT, TIMES - LEARNT) and len(steps) > 5
    made = load("model").predict(open_fields("coarse.nc"), members=3)
    first, second = (
        each.calibration.members(made, load("model").read(open_fields("coarse.nc"))) for each in (alone, shared)
    )
    assert (
        first.pr.values.tobytes() == second.pr.values.tobytes()
        and first.pr.values.tobytes() != made.pr.values.tobytes()
    )
    assert stored.exists("other") and asked == ["Seen.read", "made"]
    asked.clear()
    said = calibrate_events("other", {"pr": 5.0}, scheduler=scheduler, **how)
    assert asked == ["Seen.read"]
    monkeypatch.setattr("finegrid.pipeline.events.workers_of", workers_of)
    assert said == calibrate_events("model", {"pr": 5.0}, **how)


def test_results_of_workers_come_in_order_few_at_a_time_and_errors_with_them(scheduler: str) -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    with connected(2, scheduler) as client:
        workers = workers_of(client)
        found = workers(str, int, pieces())
        assert next(found) == 0 and len(taken) <= 5
        assert list(found) == list(range(1, 40))
        assert list(workers(str, int, iter(()))) == []
        with pytest.raises(ValueError, match="invalid literal"):
            list(workers(str, int, ["1", "two"]))
    assert list(workers_of(None)(str, int, range(3))) == [0, 1, 2]


def test_a_damaged_chunk_is_named_whoever_reads_it(files: Path, scheduler: str) -> None:
    fields = open_fields("made.nc").load()
    fields.chunk({"time": 20}).drop_encoding().to_zarr("made.zarr", zarr_format=2)
    chunk = sorted(Path("made.zarr/pr").glob("*.3.0.0"))[0]
    chunk.write_bytes(chunk.read_bytes()[:40] + b"spoilt")
    for how in ({}, {"scheduler": scheduler}):
        with pytest.raises(InputError, match=r"made\.zarr is damaged.*cannot be read"):
            evaluate_files("made.zarr", "later_fine.nc", "report", **how)
        assert not Path("report").exists()


def test_a_fit_is_shared_or_refused_in_words(files: Path, scheduler: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(kind: str, out: str, *more: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["fit", "--coarse", "coarse.nc", "--fine", "fine.nc", "--method", kind, "--out", out, *more])
        return int(end.value.code or 0)

    assert fit("ridge", "alone") == 0
    assert fit("ridge", "shared", "--scheduler", scheduler) == 0
    alone, shared = (load(name).predict(open_fields("coarse.nc")).pr for name in ("alone", "shared"))
    assert float(abs(shared - alone).max()) < 1e-5 * float(alone.max())
    capsys.readouterr()
    for kind, words in (("resnet", "torchrun --nproc-per-node 2"), ("analogues", "learns in memory with all cores")):
        assert fit(kind, "none", "--scheduler", scheduler) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not Path("none").exists()
