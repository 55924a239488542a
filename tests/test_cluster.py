"""Blocks made by workers of dask.distributed: the same bytes, whoever made them and whatever became of them."""

import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import dask
import pytest
import xarray as xr

from finegrid.calibration import CALIBRATORS
from finegrid.calibration import store as stored
from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.downscalers import base, load, method
from finegrid.pipeline import cluster
from finegrid.pipeline.blocks import Blocks
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.manifest import Manifest
from finegrid.training import Interrupted, Settings

distributed = pytest.importorskip("distributed")

TIMES, CELLS, STEPS = 60, 8 * 12, 12
# Sockets and event loops that dask closes when it is done with them, which may be later.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coarse file, a model with a single answer, one that draws members, and a network that does."""
    place = tmp_path_factory.mktemp("cluster")
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=TIMES)[["pr"]]
    coarse = coarsen(fine, 4)
    coarse.to_netcdf(place / "coarse.nc", engine="netcdf4")
    fine.to_netcdf(place / "fine.nc", engine="netcdf4")
    method("linear+add").fit(coarse, fine).save(place / "linear")
    method("analogues+multiplicative").fit(coarse, fine).save(place / "analogues")
    settings = Settings(steps=1, budget=None, patience=None)
    method("noise-injected+multiplicative", settings=settings).fit(coarse, fine, validate=0.0).save(place / "network")
    return place


@pytest.fixture
def files(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the working folder, and blocks of few times."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "_BLOCK_VALUES", STEPS * CELLS)
    return tmp_path


def assert_same(path: str, other: str) -> None:
    """Every variable, coordinate and attribute, bit for bit, but for the history."""
    engine = {"engine": "zarr", "consolidated": False} if path.endswith(".zarr") else {"engine": "netcdf4"}
    with xr.open_dataset(path, decode_cf=False, **engine) as a, xr.open_dataset(other, decode_cf=False, **engine) as b:
        xr.testing.assert_identical(a.drop_attrs(deep=False), b.drop_attrs(deep=False)[[str(n) for n in a.variables]])
        assert all(a[name].values.tobytes() == b[name].values.tobytes() for name in a.variables)
        assert {**a.attrs, "history": ""} == {**b.attrs, "history": ""}


def test_processes_of_this_machine_keep_the_memory_that_they_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def environ() -> dict[str, object]:
        return dask.config.get("distributed.nanny.pre-spawn-environ")

    monkeypatch.setattr(distributed, "LocalCluster", lambda **how: nullcontext(environ()))
    with cluster.processes(2) as given:
        assert "OMP_NUM_THREADS" in given and "MALLOC_TRIM_THRESHOLD_" not in given
    assert "MALLOC_TRIM_THRESHOLD_" in environ()


HOW = [
    ("linear", ".zarr", {}),
    ("linear", ".nc", {"time": "2001-01-05/2001-02-17"}),
    ("analogues", ".nc", {"members": 5, "quantiles": [0.2, 0.8]}),
    ("network", ".zarr", {"members": 2, "seed": 4}),
]


@pytest.mark.parametrize(("model", "form", "how"), HOW)
def test_workers_make_the_same_as_one_process(model, form, how, files, scheduler, monkeypatch):
    monkeypatch.setattr(base, "_BLOCK_VALUES", STEPS * CELLS * how.get("members", 1))
    steps = []
    whole = downscale(model, "coarse.nc", f"whole{form}", **how)
    done = downscale(
        model, "coarse.nc", f"parts{form}", scheduler=scheduler, progress=lambda *at: steps.append(at), **how
    )
    assert_same(f"parts{form}", f"whole{form}")
    assert (done.violation, done.words, done.notes) == (whole.violation, whole.words, whole.notes)
    assert steps[-1] == (whole.times, whole.times) and len(steps) == -(-whole.times // STEPS)


def test_a_model_in_memory_and_a_calibration_that_adapts_go_to_workers_too(files, scheduler, monkeypatch):
    monkeypatch.setattr("finegrid.pipeline.honest._TIMES", 6)
    monkeypatch.setattr(base, "_BLOCK_VALUES", 3 * STEPS * CELLS)
    downscaler = load("analogues")
    downscale(downscaler, "coarse.nc", "whole.zarr", members=2, seed=1)
    downscale(downscaler, "coarse.nc", "parts.zarr", members=2, seed=1, scheduler=scheduler)
    assert_same("parts.zarr", "whole.zarr")
    ensemble, truth = downscaler.predict(open_fields("coarse.nc"), members=3), open_fields("fine.nc")
    facts = {"model": downscaler.digest, "period": "2001", "guarantee": ""}
    stored.save(CALIBRATORS["shifted"]().fit(ensemble, truth), "analogues", facts)
    how = {"members": 3, "interval": 0.8}
    downscale("analogues", "coarse.nc", "whole.zarr", **how)
    downscale("analogues", "coarse.nc", "parts.zarr", scheduler=scheduler, **how)
    assert_same("parts.zarr", "whole.zarr")


def test_what_workers_began_one_process_ends_and_the_other_way_round(files, scheduler, monkeypatch):
    downscale("linear", "coarse.nc", "whole.nc")
    for how, blocks in (({}, 1), ({"scheduler": scheduler}, 2)):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            noted, add = [], Manifest.add

            def stopping(self, record, noted=noted, add=add, blocks=blocks):
                if len(noted) == blocks:
                    raise KeyboardInterrupt
                noted.append(record)
                add(self, record)

            patch.setattr(Manifest, "add", stopping)
            downscale("linear", "coarse.nc", "part.nc", resume=True, **how)
    downscale("linear", "coarse.nc", "part.nc", resume=True)
    assert_same("part.nc", "whole.nc")


def test_what_a_worker_cannot_read_is_named_and_other_blocks_are_kept(files, scheduler, monkeypatch):
    plain = Blocks.draw

    def draw(self, fields, window):
        if str(fields.time.values[0])[:10] == "2001-02-18":
            raise InputError("coarse.nc is damaged")
        return plain(self, fields, window)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"coarse\.nc is damaged.*blocks are finished"):
        patch.setattr(Blocks, "draw", draw)
        downscale("linear", "coarse.nc", "part.nc", scheduler=scheduler)
    downscale("linear", "coarse.nc", "part.nc", scheduler=scheduler, resume=True)
    downscale("linear", "coarse.nc", "whole.nc")
    assert_same("part.nc", "whole.nc")


def test_workers_with_another_finegrid_are_refused_before_any_work(files, scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "9.9")
    with pytest.raises(InputError, match=r"workers have another finegrid.*has 0\.1\.0.*expected 9\.9 on all"):
        downscale("linear", "coarse.nc", "fine.nc", scheduler=scheduler)
    assert not list(files.glob("fine.nc*.unfinished"))


def test_a_worker_that_came_later_with_another_finegrid_or_model_is_refused(files, scheduler, monkeypatch):
    sent = cluster.Share
    monkeypatch.setattr("finegrid.pipeline.downscale.Share", lambda **facts: sent(**facts, version="9.9"))
    with pytest.raises(InputError, match=r"another finegrid .*a worker has 0\.1\.0.*expected 9\.9"):
        downscale("linear", "coarse.nc", "fine.nc", scheduler=scheduler)
    monkeypatch.setattr("finegrid.pipeline.downscale.Share", lambda **facts: sent(**{**facts, "digest": "other"}))
    with pytest.raises(InputError, match="a worker sees another model"):
        downscale("linear", "coarse.nc", "fine.nc", scheduler=scheduler)


def test_a_store_that_workers_do_not_see_is_said_in_words(files, scheduler, monkeypatch):
    sent = cluster.Share
    lost = lambda **facts: sent(**{**facts, "store": "/nowhere/fine.zarr"})  # noqa: E731
    monkeypatch.setattr("finegrid.pipeline.downscale.Share", lost)
    with pytest.raises(InputError, match=r"no store /nowhere/fine\.zarr to write to .*shared disk"):
        downscale("linear", "coarse.nc", "fine.zarr", scheduler=scheduler)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "no address", "absent.json"])
def test_a_scheduler_that_cannot_be_reached_is_said_at_once(address, files, monkeypatch):
    monkeypatch.setattr(cluster, "_ANSWER", 1)
    with pytest.raises(InputError, match=rf"{address}.*dask scheduler"):
        downscale("linear", "coarse.nc", "fine.nc", scheduler=address)
    assert not list(files.glob("fine.nc*.unfinished"))


def test_too_few_workers_are_not_waited_for_for_ever(files, scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "_WORKERS", 0.2)
    with pytest.raises(InputError, match=r"got 2 workers of tcp.*expected 3; start them with `dask worker tcp"):
        downscale("linear", "coarse.nc", "fine.nc", scheduler=scheduler, workers=3)


def test_without_distributed_the_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'finegrid\[cluster\]'"):
        downscale("linear", "coarse.nc", "fine.nc", workers=2)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(files, monkeypatch):
    """Two real processes, of which one is killed in the middle."""
    downscale("linear", "coarse.nc", "whole.zarr")
    killed, made = [], Manifest.add

    def add(self, record):
        made(self, record)
        if len(self.records) == 2:
            workers = clients[0].run(os.getpid)
            killed.append(next(iter(workers.values())))
            os.kill(killed[0], signal.SIGKILL)

    clients, check = [], cluster._check_versions
    monkeypatch.setattr(cluster, "_check_versions", lambda client: clients.append(client) or check(client))
    monkeypatch.setattr(Manifest, "add", add)
    downscale("linear", "coarse.nc", "parts.zarr", workers=2)
    assert killed and killed[0] != os.getpid()
    assert_same("parts.zarr", "whole.zarr")
