"""Networks that answer in another manner: rounded, compiled, laid out for convolutions, and always conserving."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from dask.utils import key_split

from finegrid.backbones import manner
from finegrid.backbones.manner import Manner
from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.data.synthetic import Climate, generate
from finegrid.downscalers import NeuralDownscaler
from finegrid.pipeline.memory import steady
from finegrid.training import Settings


@pytest.fixture(scope="module")
def fields():
    fine = generate(Climate(), times=40, shape=(16, 24), seed=2)[["tas"]].astype("float32")
    return coarsen(fine, 4), fine


@pytest.fixture(scope="module")
def network(fields) -> NeuralDownscaler:
    settings = Settings(steps=30, budget=None, patience=None, batch=8)
    return NeuralDownscaler(mean="bilinear", settings=settings).fit(*fields)


def kept(made, fields) -> float:
    """Largest relative departure of the means from the coarse field."""
    means = coarsen(made[["tas"]].astype("float64"), 4).tas
    return float((np.abs(means - fields[0].tas) / np.abs(fields[0].tas)).max())


def test_half_precision_rounds_what_the_network_adds_and_keeps_the_coarse_means(network, fields) -> None:
    whole = network.answering(Manner()).predict(fields[0])
    rounded = network.answering(Manner(precision="bfloat16")).predict(fields[0])
    added = (whole.tas - network._mean.predict(fields[0]).tas).std()
    assert 0 < float((rounded.tas - whole.tas).std() / added) < 0.03
    assert rounded.tas.dtype == np.float32 and kept(rounded, fields) < 1e-6
    again = network.answering(Manner(tile=2, precision="bfloat16")).predict(fields[0])
    assert float(np.abs(again.tas - rounded.tas).max() / added) < 0.1 and kept(again, fields) < 1e-6


def test_what_a_job_asks_for_is_not_what_the_next_one_gets(network, fields) -> None:
    whole = network.answering(Manner()).predict(fields[0])
    network.answering(Manner(precision="bfloat16")).predict(fields[0])
    assert network.answering(Manner()).predict(fields[0]).tas.values.tobytes() == whole.tas.values.tobytes()


@pytest.mark.long
def test_a_compiled_network_gives_the_same_fields(network, fields) -> None:
    whole = network.answering(Manner()).predict(fields[0])
    compiled = network.answering(Manner(compiled=True)).predict(fields[0])
    np.testing.assert_allclose(compiled.tas, whole.tas, rtol=1e-6)
    part = network.predict(fields[0].isel(time=slice(0, 7)))
    np.testing.assert_allclose(part.tas, whole.tas[:7], rtol=1e-6)


def test_channels_of_a_cell_are_neighbours_in_memory_and_weights_are_written_as_ever(network, fields, tmp_path) -> None:
    network.answering(Manner()).predict(fields[0])
    weights = [each for each in network._head.parameters() if each.ndim == 4 and min(each.shape[1], each.shape[-1]) > 1]
    assert weights and all(each.is_contiguous(memory_format=torch.channels_last) for each in weights)
    before = network.digest
    network._head.to(memory_format=torch.contiguous_format)
    assert network.digest == before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"precision": "float16"}, "got the precision 'float16'; expected float32 or bfloat16"),
        ({"tile": 0}, "got tiles of 0 coarse cells"),
        ({"compiled": True}, r"got --compile without a C\+\+ compiler"),
    ],
)
def test_manners_that_cannot_be_are_refused_in_words(how, words, monkeypatch) -> None:
    monkeypatch.setattr(manner.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=words):
        Manner(**how)


def test_large_domains_are_cut_and_reaches_are_measured_once() -> None:
    assert Manner().on(1 << 20, (4, 4)) == Manner()
    cut = Manner(precision="bfloat16").on(1 << 22, (4, 4))
    assert cut.tile == 256 and cut.precision == "bfloat16" and cut.on(1 << 22, (4, 4)) is cut


def test_a_long_job_keeps_no_blocks_that_hold_themselves() -> None:
    class Block:
        pass

    with steady() as give_back:
        block = Block()
        block.itself, gone = block, weakref.ref(block)
        del block
        give_back()
        assert gone() is None and gc.get_freeze_count() > 0
        key_split("name-of-a-task")
    assert gc.get_freeze_count() == 0 and key_split.cache_info().currsize == 0
