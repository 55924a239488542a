"""Jobs that are stopped, killed, or run out of disk go on later and end in the same bytes; nothing is lost or mixed."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.calibration import CALIBRATORS
from finegrid.calibration import store as stored
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, synthetic, write
from finegrid.data.regions import Regions
from finegrid.data.write import Failures
from finegrid.downscalers import base, load, method
from finegrid.pipeline.blocks import Blocks, Plan
from finegrid.pipeline.claim import claimed
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.honest import Honesty
from finegrid.pipeline.manifest import BLOCKS, Manifest, Record
from finegrid.pipeline.stopping import Stop, stoppable
from finegrid.training import Interrupted

TIMES, CELLS = 60, 8 * 12
FORMS = [".nc", ".zarr"]
# Six blocks of ten times; the last has fewer where the period is shorter.
STEPS = 10


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coarse file of two variables, a model of one that looks at both, and a model that draws members."""
    place = tmp_path_factory.mktemp("resume")
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=TIMES)[["tas", "pr"]]
    coarse = coarsen(fine, 4)
    pieces = {"chunksizes": (5, *coarse.pr.shape[1:]), "fletcher32": True, "zlib": False, "dtype": "float32"}
    coarse.to_netcdf(place / "coarse.nc", engine="netcdf4", encoding={"tas": pieces, "pr": pieces})
    method("linear+add", variables=["tas"], predictors=["pr"]).fit(coarse, fine[["tas"]]).save(place / "linear")
    method("analogues+multiplicative", variables=["pr"]).fit(coarse, fine[["pr"]]).save(place / "analogues")
    return place


@pytest.fixture
def files(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the working folder, and blocks of few times."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "_BLOCK_VALUES", STEPS * CELLS)
    return tmp_path


def assert_same(path: Path, other: Path) -> None:
    """Every variable, coordinate and attribute, bit for bit, but for the time in the history."""

    def opened(name: Path) -> xr.Dataset:
        engine = {"engine": "zarr", "consolidated": False} if name.suffix == ".zarr" else {"engine": "netcdf4"}
        with xr.open_dataset(name, decode_cf=False, **engine) as file:
            return file.load()

    found, expected = opened(path), opened(other)
    order = set if path.suffix == ".zarr" else list  # a folder has none
    assert order(found.variables) == order(expected.variables)
    for name, variable in expected.variables.items():
        assert found[name].dtype == variable.dtype and found[name].dims == variable.dims
        assert found[name].values.tobytes() == variable.values.tobytes(), name
        assert str(found[name].attrs) == str(variable.attrs)
        assert found[name].encoding.get("chunks") == variable.encoding.get("chunks")
    about = [{**each.attrs, "history": each.attrs["history"].split(" ", 1)[1]} for each in (found, expected)]
    assert about[0] == about[1]


def stopping_after(monkeypatch: pytest.MonkeyPatch, blocks: int, error: type[BaseException] | BaseException) -> None:
    """From now on a job fails once so many more blocks are noted."""
    plain, done = Manifest.add, []

    def add(self: Manifest, record: Record) -> None:
        if len(done) == blocks:
            raise error
        done.append(record)
        plain(self, record)

    monkeypatch.setattr(Manifest, "add", add)


HOW = [
    ("linear", ".nc", {}),
    ("linear", ".zarr", {"time": "2001-01-05/2001-02-17"}),
    ("analogues", ".zarr", {"members": 3, "seed": 4}),
    ("analogues", ".nc", {"members": 5, "quantiles": [0.2, 0.8]}),
]


@pytest.mark.parametrize(("model", "form", "how"), HOW)
def test_a_job_that_was_stopped_ends_as_if_it_had_not_been(model, how, form, files, monkeypatch):
    monkeypatch.setattr(base, "_BLOCK_VALUES", STEPS * CELLS * how.get("members", 1))
    whole = downscale(model, "coarse.nc", f"whole{form}", command="finegrid", **how)
    for blocks in (1, 3):
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match="blocks are finished and kept"):
            stopping_after(patch, blocks, KeyboardInterrupt)
            downscale(model, "coarse.nc", f"part{form}", command="finegrid", resume=True, **how)
    drawn = []
    draw = Blocks.draw
    monkeypatch.setattr(Blocks, "draw", lambda *given: drawn.append(given) or draw(*given))
    steps = []
    done = downscale(
        model, "coarse.nc", f"part{form}", command="finegrid", resume=True, progress=lambda *at: steps.append(at), **how
    )
    assert_same(files / f"part{form}", files / f"whole{form}")
    assert (done.violation, done.words, done.notes) == (whole.violation, whole.words, whole.notes)
    blocks = -(-whole.times // STEPS)
    assert len(drawn) == blocks - 4 + 1  # and the first time alone, for what blocks look like
    assert steps[0] == (4 * STEPS, whole.times) and steps[-1] == (whole.times, whole.times)
    assert not list(files.glob("*.unfinished"))


def test_a_store_holds_what_a_file_does(files):
    downscale("analogues", "coarse.nc", "fine.nc", members=3)
    downscale("analogues", "coarse.nc", "fine.zarr", members=3)
    first, second = open_fields("fine.nc").load(), open_fields("fine.zarr").load()
    xr.testing.assert_identical(
        first.drop_attrs(deep=False), second.drop_attrs(deep=False)[[str(name) for name in first.variables]]
    )


def killed_at(arguments: dict, after: int, patience: float) -> None:
    """Run a job in a process of its own and kill it some time after so many blocks."""
    process = get_context("forkserver").Process(target=job, kwargs=arguments)
    process.start()
    notes = Path(f"{arguments['out']}.unfinished", BLOCKS)
    while process.is_alive() and (not notes.exists() or notes.read_text().count("{") < after):
        time.sleep(0.001)
    time.sleep(patience)
    process.kill()
    process.join()


def job(model: str, out: str, folder: str) -> None:
    os.chdir(folder)
    base._BLOCK_VALUES = STEPS * CELLS
    downscale(model, "coarse.nc", out, command="finegrid", resume=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_job_that_is_killed_again_and_again_ends_as_if_it_had_not_been(form, files):
    get_context("forkserver").set_forkserver_preload(["finegrid.pipeline.downscale"])
    downscale("linear", "coarse.nc", f"whole{form}", command="finegrid")
    chance = random.Random(form)
    for after in (0, 1, 3):
        given = {"model": "linear", "out": f"part{form}", "folder": str(files)}
        killed_at(given, after, chance.uniform(0, 0.03))
    downscale("linear", "coarse.nc", f"part{form}", command="finegrid", resume=True)
    assert_same(files / f"part{form}", files / f"whole{form}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_command_with_the_line_that_goes_on(number, files, capsys, monkeypatch):
    plain = Manifest.add

    def add(self: Manifest, record: Record) -> None:
        plain(self, record)
        if len(self.records) == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Manifest, "add", add)
    monkeypatch.setattr("sys.argv", ["finegrid", "downscale", "linear", "coarse.nc", "--out", "fine.nc"])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert end.value.code == 130
    assert "Stopped. " in told and "of 6 blocks are finished and kept in fine.nc.unfinished" in told
    assert "go on with: finegrid downscale linear coarse.nc --out fine.nc --resume" in told.replace("\n", " ")
    assert signal.getsignal(number) is {signal.SIGTERM: signal.SIG_DFL}.get(number, signal.default_int_handler)


def test_a_signal_waits_until_nothing_is_half_done():
    stop = Stop()
    stop.gently()
    stop.ask()  # nothing is raised here
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    with pytest.raises(KeyboardInterrupt):
        stop.ask()  # the second one does not wait
    eager = Stop()
    eager.gently()
    with pytest.raises(KeyboardInterrupt), eager.at_once():
        eager.ask()
    with pytest.raises(ZeroDivisionError), stoppable():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def stopped(monkeypatch: pytest.MonkeyPatch, out: str, blocks: int = 4, **how) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stopping_after(patch, blocks, KeyboardInterrupt)
        downscale("linear", "coarse.nc", out, command="finegrid", **how)


def test_a_job_does_not_go_on_as_another_one(files, monkeypatch):
    stopped(monkeypatch, "fine.nc", seed=3)
    with pytest.raises(InputError, match=r"belongs to another run.*options seed \(3 then, 4 now\)"):
        downscale("linear", "coarse.nc", "fine.nc", seed=4, resume=True)
    with pytest.raises(InputError, match=r"input times \(60 from .* then, 31 from .* now\)"):
        downscale("linear", "coarse.nc", "fine.nc", seed=3, time="2001-01", resume=True)
    with pytest.raises(InputError, match="model digest"):
        downscale("analogues", "coarse.nc", "fine.nc", seed=3, resume=True)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"finegrid \(0\.1\.0 then, 9\.9 now\)"):
        patch.setattr("finegrid.pipeline.identity.__version__", "9.9")
        downscale("linear", "coarse.nc", "fine.nc", seed=3, resume=True)
    assert len(Manifest.read(files / "fine.nc.unfinished").records) == 4  # and nothing was lost
    assert not downscale("linear", "coarse.nc", "fine.nc", seed=4).notes  # another job may take its place


def test_the_same_job_is_not_thrown_away(files, monkeypatch):
    stopped(monkeypatch, "fine.nc")
    with pytest.raises(InputError, match=r"holds 4 of 6 blocks of this very run.*--resume"):
        downscale("linear", "coarse.nc", "fine.nc")
    assert downscale("linear", "coarse.nc", "fine.nc", resume=True).times == TIMES


@pytest.mark.parametrize("form", FORMS)
def test_a_finished_job_is_not_done_again(form, files, monkeypatch):
    whole = downscale("linear", "coarse.nc", f"fine{form}", resume=True)  # nothing to go on from: it begins
    monkeypatch.setattr(Blocks, "draw", lambda *_: pytest.fail("a block was made"))
    assert downscale("linear", "coarse.nc", f"fine{form}", resume=True) == whole
    assert not (files / f"fine{form}.unfinished").exists()


def test_two_processes_do_not_write_the_same_file(files):
    with (
        claimed(files / "fine.nc", again=""),
        pytest.raises(InputError, match=f"is being written by another process \\({os.getpid()} on .* since "),
    ):
        downscale("linear", "coarse.nc", "fine.nc")
    assert not (files / "fine.nc.unfinished").exists()
    assert downscale("linear", "coarse.nc", "fine.nc").times == TIMES


def damage(path: Path, values: np.ndarray) -> None:
    """Change a byte of values that lie in a file as they are."""
    content = bytearray(path.read_bytes())
    content[content.index(values.tobytes()) + 5] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_input_is_named_and_can_be_replaced(files):
    downscale("linear", "coarse.nc", "whole.nc", command="finegrid")
    Path("bad").mkdir()
    shutil.copy("coarse.nc", "bad/coarse.nc")
    damage(Path("bad/coarse.nc"), open_fields("coarse.nc")["pr"].values[40:45])
    with pytest.raises(InputError) as caught:
        downscale("linear", "bad/coarse.nc", "part.nc", command="finegrid", guard="off")
    told = str(caught.value)
    assert "coarse.nc is damaged or was truncated: its values at 2001-02-10T00:00 to 2001-02-14T00:00" in told
    assert "of 6 blocks are finished and kept in part.nc.unfinished" in told
    downscale("linear", "coarse.nc", "part.nc", command="finegrid", guard="off", resume=True)
    downscale("linear", "coarse.nc", "whole.nc", command="finegrid", guard="off")
    assert_same(files / "part.nc", files / "whole.nc")


def test_a_damaged_chunk_of_a_store_is_named_before_any_work(files):
    write(open_fields("coarse.nc"), "coarse.zarr")
    chunk = next(path for path in Path("coarse.zarr/tas/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(InputError, match=r"coarse\.zarr is damaged or was truncated: its values at 2001-01-01"):
        downscale("linear", "coarse.zarr", "fine.nc")
    assert not list(files.glob("fine*"))


def test_blocks_of_input_that_was_changed_meanwhile_are_made_again(files, monkeypatch):
    stopped(monkeypatch, "fine.nc", guard="off")
    changed = open_fields("coarse.nc").load()
    changed["pr"][3] *= 1.5  # a predictor, in the first block
    Path("later").mkdir()
    changed.to_netcdf("later/coarse.nc", engine="netcdf4")
    downscale("linear", "later/coarse.nc", "fine.nc", command="finegrid", guard="off", resume=True)
    downscale("linear", "later/coarse.nc", "whole.nc", command="finegrid", guard="off")
    assert_same(files / "fine.nc", files / "whole.nc")


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_block_is_made_again(form, files, monkeypatch):
    stopped(monkeypatch, f"fine{form}")
    chunks = sorted(path for path in (files / f"fine{form}.unfinished").rglob("tas/c/0/*/0/0") if path.is_file())
    assert len(chunks) >= 4  # the last one may have been written, and not yet been noted
    chunks[1].write_bytes(chunks[1].read_bytes()[:50])
    chunks[2].unlink()
    drawn, draw = [], Blocks.draw
    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "draw", lambda *given: drawn.append(given) or draw(*given))
        downscale("linear", "coarse.nc", f"fine{form}", command="finegrid", resume=True)
    assert len(drawn) == 1 + 4
    downscale("linear", "coarse.nc", f"whole{form}", command="finegrid")
    assert_same(files / f"fine{form}", files / f"whole{form}")


def test_a_note_that_was_cut_off_counts_as_none(files, monkeypatch):
    stopped(monkeypatch, "fine.nc")
    notes = files / "fine.nc.unfinished" / BLOCKS
    notes.write_text(notes.read_text().rstrip()[:-20])
    found = Manifest.read(notes.parent)
    assert sorted(found.records) == [0, 1, 2]
    found.add(Record(7, {"tas": 1}, 2, (0.0, 0, 3)))
    assert Manifest.read(notes.parent).records[7] == Record(7, {"tas": 1}, 2, (0.0, 0, 3))


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_keeps_what_is_finished(form, files, monkeypatch):
    put, done = Regions.put, []

    def full(*given):
        if len(done) == 3:
            with Failures(files, "nothing half-written is kept"):
                raise OSError(errno.ENOSPC, "No space left on device")
        done.append(given)
        return put(*given)

    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(Regions, "put", full)
        downscale("linear", "coarse.nc", f"fine{form}", command="finegrid")
    assert "No space left" in str(caught.value) and "3 of 6 blocks" in str(caught.value)
    downscale("linear", "coarse.nc", f"fine{form}", command="finegrid", resume=True)


def test_a_disk_that_fills_up_for_real_keeps_what_is_finished(files, monkeypatch):
    # A limit on the size of files fails as a full disk does; the NetCDF file meets it, the blocks do not.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    downscale("linear", "coarse.nc", "whole.nc", command="finegrid")
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path("whole.nc").stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=r"could not write fine\.nc .*space left.* blocks are finished and kept"):
            downscale("linear", "coarse.nc", "fine.nc", command="finegrid")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    downscale("linear", "coarse.nc", "fine.nc", command="finegrid", resume=True)
    assert_same(files / "fine.nc", files / "whole.nc")


def test_what_a_calibration_has_seen_is_kept(files, monkeypatch):
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=TIMES)[["pr"]]
    downscaler = load("analogues")
    monkeypatch.setattr(base, "_BLOCK_VALUES", 5 * STEPS * CELLS)
    calibrator = CALIBRATORS["shifted"]().fit(downscaler.predict(open_fields("coarse.nc"), members=5), fine)
    facts = {"model": downscaler.digest, "period": "2001", "guarantee": calibrator.guarantee}
    stored.save(calibrator, "analogues", facts)
    how = {"members": 5, "interval": 0.8, "command": "finegrid"}
    monkeypatch.setattr("finegrid.pipeline.honest._TIMES", 6)
    downscale("analogues", "coarse.nc", "whole.nc", **how)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stopping_after(patch, 4, KeyboardInterrupt)
        downscale("analogues", "coarse.nc", "part.nc", **how)
    monkeypatch.setattr(Honesty, "look", lambda *_: pytest.fail("it was shown the predictions again"))
    downscale("analogues", "coarse.nc", "part.nc", resume=True, **how)
    assert_same(files / "part.nc", files / "whole.nc")


@given(st.integers(1, 400), st.integers(1, 9), st.integers(0, 50), st.integers(0, 3))
def test_blocks_are_all_the_times_once(last, steps, first, reach):
    plan = Plan(first, first + last, first + last + 7, steps, steps, reach)
    times = [time for number in range(plan.blocks) for time in plan.times(number)]
    assert times == list(range(last))
    for number in range(plan.blocks):
        window = plan.window(number)
        read = list(range(plan.count)[window.read])
        assert read[window.inner] == [first + time for time in plan.times(number)]
        assert read[0] == max(0, first + plan.times(number)[0] - reach)


def test_a_block_is_some_chunks(original):
    downscaler = load(original / "linear")
    for members in (1, 3, 7, 50, 1000, 10**6):
        plan = Plan.of(downscaler, range(3, 60), 60, members)
        assert plan.steps % plan.chunk == 0
        assert plan.steps <= max(1, downscaler.times_at_once(members))
        assert json.dumps(plan.__dict__)
