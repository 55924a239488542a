"""Two processes take the steps that one takes: the same losses, the same weights, one model."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.data import open_fields, write
from finegrid.data.coarsen import coarsen
from finegrid.data.synthetic import Climate, generate
from finegrid.downscalers import load
from finegrid.heads import Conditions
from finegrid.training.checkpoint import Progress
from finegrid.training.ranks import Ranks
from finegrid.training.states import restore, state_of


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    fine = generate(Climate(), times=60, shape=(16, 24), seed=3)[["tas"]].astype("float32")
    write(fine, folder / "fine.nc")
    write(coarsen(fine, 4), folder / "coarse.nc")
    return folder


def fitted(files: Path, out: Path, *launcher: str, shard: bool = False) -> subprocess.CompletedProcess[str]:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(
        f"data: {{coarse: {files / 'coarse.nc'}, fine: {files / 'fine.nc'}}}\n"
        "downscaler: {name: neural, backbone: {name: resnet, width: 8, depth: 1, dropout: 0.0}, mean: ridge}\n"
        f"training: {{budget: null, steps: 40, batch: 13, patience: null, patch: 2, shard: {str(shard).lower()}}}\n"
    )
    command = [*launcher, "-m", "finegrid", "fit", str(recipe), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def one(files: Path, tmp_path_factory) -> Path:
    """What one process makes."""
    model = tmp_path_factory.mktemp("one") / "model"
    done = fitted(files, model, sys.executable)
    assert done.returncode == 0, done.stderr
    return model


@pytest.mark.parametrize("shard", [False, pytest.param(True, marks=pytest.mark.long)])
def test_two_ranks_have_the_loss_curve_of_one(shard: bool, files: Path, one: Path, tmp_path: Path) -> None:
    two = fitted(files, tmp_path / "two", *TWO, shard=shard)
    assert two.returncode == 0, two.stderr
    logs = [(model / "log.jsonl").read_text().splitlines() for model in (one, tmp_path / "two")]
    curves = [[json.loads(line) for line in lines] for lines in logs]
    assert len(curves[0]) == len(curves[1]) == 40
    for key in ("loss", "validation_loss"):
        np.testing.assert_allclose([each[key] for each in curves[0]], [each[key] for each in curves[1]], rtol=1e-4)
    assert two.stdout.count("The model is in") == 1  # the other rank says nothing
    coarse = open_fields(files / "coarse.nc")
    made: list[xr.Dataset] = [load(model).predict(coarse) for model in (one, tmp_path / "two")]
    np.testing.assert_allclose(made[0].tas, made[1].tas, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 4, 5, 7])
def test_parts_are_the_batch_and_their_factors_its_mean(samples: int) -> None:
    fine = torch.arange(float(samples))[:, None, None, None]
    total, seen = 0.0, []
    for own in range(3):
        part, given, factor = Ranks(own, 3).part(fine, Conditions(fine, fine, fine, fine))
        assert len(part) == len(given)
        total += factor * float(part.mean()) / 3
        seen += part.flatten().tolist() if factor else []
    assert sorted(seen) == list(range(samples))
    assert total == pytest.approx(float(fine.mean()))


def test_one_process_is_the_first_and_only_one(monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert Ranks.is_first() and Ranks.joined(torch.device("cpu")) == Ranks()
    monkeypatch.setenv("RANK", "1")
    assert not Ranks.is_first()


def test_a_head_that_is_shared_out_has_parts_and_its_state_is_whole(tmp_path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        whole = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last))
        head, _ = Ranks(0, 2).learning(whole, shard=True)
        assert head is not whole and all(hasattr(each, "full_tensor") for each in head.parameters())
        assert not any(hasattr(each, "full_tensor") for each in whole.parameters())
        optimiser = torch.optim.AdamW(head.parameters())
        sum(each.square().sum() for each in head.parameters()).backward()
        optimiser.step()
        state = state_of(Progress(steps=3), head, copy.deepcopy(whole), {}, optimiser).copied()
        assert not any(hasattr(each, "full_tensor") for each in (*state.weights.values(), *state.moments.values()))
        other, _ = Ranks(0, 2).learning(whole, shard=True)
        fresh = torch.optim.AdamW(other.parameters())
        restore(state, other, copy.deepcopy(whole), fresh)
        again = state_of(Progress(steps=3), other, whole, {}, fresh)
        for name in ("weights", "moments"):
            one, two = getattr(state, name), getattr(again, name)
            assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one) and one
    finally:
        torch.distributed.destroy_process_group()
