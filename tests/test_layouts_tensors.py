"""Tensors of constrained downscaling, read without torch: what torch would read, and nothing of a pickle is run."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrid.conventions import InputError, harmonise
from finegrid.data.layouts import open_layout, recognised
from finegrid.data.layouts.torch_file import mapped_tensor
from finegrid.grids import Grid, nesting
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named

TYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


def tensors(
    folder: Path, *, factor: int = 4, steps: int = 1, ending: str = ".pt", old: bool = False
) -> dict[str, torch.Tensor]:
    """Random patches of 16 x 16 cells and their block means, in three parts; returns them by the name of the file."""
    written = {}
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("val", 4), ("test", 5)):
        fine = torch.rand((count, steps, 1, 16, 16), generator=generator)
        coarse = torch.nn.functional.avg_pool3d(fine, (1, factor, factor))
        place = folder / part / "era5_sr_data" if old else folder / "era5_sr_data" / part
        place.mkdir(parents=True)
        for name, values in ((f"input_{part}", coarse), (f"target_{part}", fine)):
            written[name] = values
            torch.save(values, place / f"{name}.pt") if ending == ".pt" else np.save(
                place / f"{name}.npy", values.numpy()
            )
    return written


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=5),
    kind=st.sampled_from(TYPES),
    cut=st.booleans(),
    turned=st.booleans(),
)
def test_a_tensor_is_what_torch_reads(tmp_path_factory, shape, kind, cut, turned):
    path = tmp_path_factory.mktemp("tensor") / "tensor.pt"
    tensor = (100 * torch.rand(shape, generator=torch.Generator().manual_seed(1))).to(kind)
    tensor = tensor[1:] if cut and shape and shape[0] > 1 else tensor
    tensor = tensor.transpose(0, -1) if turned and len(shape) > 1 else tensor
    torch.save(tensor, path)
    ours, theirs = mapped_tensor(path), torch.load(path, weights_only=True, map_location="cpu")
    assert ours.dtype == theirs.numpy().dtype and ours.shape == tuple(theirs.shape)
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_a_large_tensor_is_mapped_and_cannot_be_written(tmp_path):
    torch.save(torch.arange(200_000.0).reshape(2, 100_000), tmp_path / "tensor.pt")
    values = mapped_tensor(tmp_path / "tensor.pt")
    assert isinstance(values.base, np.memmap) or isinstance(values, np.memmap) or not values.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1.0


class Harmful:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_run(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "tensor.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tensor/data.pkl", pickle.dumps(Harmful(trace), protocol=2))
        archive.writestr("tensor/data/0", b"\0" * 16)
    with pytest.raises(InputError, match=r"holds a posix\.mkdir"):
        mapped_tensor(path)
    assert not trace.exists()
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("tensor/data.pkl"))  # noqa: S301 - our own
    assert trace.exists()  # so it would have been


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_as_numbers_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("tensor") / "tensor.pt"
    torch.save(torch.arange(24.0).reshape(2, 3, 4), path)
    with zipfile.ZipFile(path) as archive:
        program = bytearray(archive.read("tensor/data.pkl"))
    original = bytes(program)
    program[place % len(program)] = byte
    rewritten(path, original, bytes(program))
    with contextlib.suppress(InputError):
        mapped_tensor(path).sum()


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ({"a": torch.zeros(2)}, "holds the instruction EMPTY_DICT"),
        ([torch.zeros(2), torch.ones(2)], "holds the instruction EMPTY_LIST"),
        (torch.zeros(3).to_sparse(), "holds a torch._utils._rebuild_sparse_tensor"),
        (torch.zeros(3, dtype=torch.bfloat16), "holds a torch.BFloat16Storage"),
        (3.0, "holds the instruction BINFLOAT"),
        ("word", "holds something else than a tensor"),
    ],
)
def test_what_is_no_single_tensor_is_refused(tmp_path, thing, words):
    torch.save(thing, tmp_path / "thing.pt")
    with pytest.raises(InputError, match=words):
        mapped_tensor(tmp_path / "thing.pt")


def test_damaged_and_old_files_are_refused(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(4), path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"no tensor of torch 1\.6 or later"):
        mapped_tensor(path)
    torch.save(torch.zeros(64), path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"no tensor of torch 1\.6 or later"):
        mapped_tensor(path)


def rewritten(path: Path, change: bytes, to: bytes, *, compress: bool = False) -> None:
    """The same file with other bytes in its pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = {each.filename: archive.read(each) for each in archive.infolist()}
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(change, to) if name.endswith("data.pkl") else content)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.arange(7.0), path)
    rewritten(path, b"K\x07\x85", b"K\x09\x85")  # the shape (7,) becomes (9,)
    with pytest.raises(InputError, match="reaches beyond its storage"):
        mapped_tensor(path)
    torch.save(torch.arange(700.0), path)
    rewritten(path, b"", b"", compress=True)
    with pytest.raises(InputError, match="a compressed storage"):
        mapped_tensor(path)


@pytest.mark.parametrize("ending", [".pt", ".npy"])
@pytest.mark.parametrize("old", [False, True])
def test_parts_are_one_record_of_nominal_days_on_a_nominal_plane(tmp_path, ending, old):
    written = tensors(tmp_path, ending=ending, old=old)
    assert recognised(tmp_path).name == "constrained-downscaling"
    opened = open_layout(tmp_path, names=["tcw"], units="kg m-2")
    assert opened.coarse.tcw.chunks is not None and opened.fine.tcw.chunks is not None
    assert opened.coarse.tcw.shape == (21, 4, 4) and opened.fine.tcw.shape == (21, 16, 16)
    assert opened.fine.tcw.attrs["units"] == "kg m-2" and opened.chosen == {"data": "era5_sr_data"}
    assert opened.fine.x.values.tolist() == list(range(16)) and opened.coarse.x.values.tolist() == [1.5, 5.5, 9.5, 13.5]
    years = opened.fine.time.dt.year.values
    for part, name, year in (("train", "train", 2001), ("validate", "val", 2002), ("test", "test", 2003)):
        coarse, fine = opened.part(part)
        np.testing.assert_array_equal(coarse.tcw, written[f"input_{name}"][:, 0, 0])
        np.testing.assert_array_equal(fine.tcw, written[f"target_{name}"][:, 0, 0])
        assert set(years[opened.splits[part]]) == {year}
    low, high = (Grid.of(harmonise(each)[0]) for each in (opened.coarse, opened.fine))
    assert nesting(high, low) == (4, 4)


def test_a_method_learns_on_the_tensors_and_keeps_the_block_means(tmp_path):
    tensors(tmp_path)
    opened = open_layout(tmp_path)
    material = Material(opened.coarse, opened.fine, opened.static, opened.blocks)
    method = named("ridge", cycles=()).fit(*material.at(material.learning))
    coarse, _ = material.at(material.blocks.test)
    prediction = method.predict(coarse).value.values.reshape(5, 16, 16)
    means = prediction.reshape(5, 4, 4, 4, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(means, coarse.value, atol=1e-5)


def test_steps_and_channels_are_variables(tmp_path):
    written = tensors(tmp_path, steps=2)
    opened = open_layout(tmp_path, names=["tcw"])
    assert list(opened.fine.data_vars) == ["tcw_t0", "tcw_t1"]
    np.testing.assert_array_equal(opened.part("test")[1].tcw_t1, written["target_test"][:, 1, 0])
    for part, count in (("train", 3), ("test", 2)):
        place = tmp_path / "flat" / part
        place.mkdir(parents=True)
        np.save(place / f"input_{part}.npy", np.zeros((count, 2, 4, 4), np.float32))
        np.save(place / f"target_{part}.npy", np.ones((count, 2, 8, 8), np.float32))
    flat = open_layout(tmp_path, data="flat", units=["K", "Pa"])
    assert list(flat.fine.data_vars) == ["value", "value2"] and flat.fine.value2.attrs["units"] == "Pa"
    assert list(flat.splits) == ["train", "test"] and flat.choices == {"data": ("era5_sr_data", "flat")}


def test_what_does_not_fit_is_said(tmp_path):
    tensors(tmp_path)
    place = tmp_path / "era5_sr_data"
    with pytest.raises(InputError, match=r"names=\[\]|names=\['a'\].*expected 1 of each|units=\[\]"):
        open_layout(tmp_path, units=[])
    with pytest.raises(InputError, match=r"data 'other'.*expected one of era5_sr_data"):
        open_layout(tmp_path, data="other")
    np.save(place / "train" / "input_train.npy", np.zeros((12, 3, 3), np.float32))
    (place / "train" / "input_train.pt").unlink()
    with pytest.raises(InputError, match=r"inputs of \(3, 3\) and targets of \(16, 16\) cells; expected a multiple"):
        open_layout(tmp_path)
    np.save(place / "train" / "input_train.npy", np.zeros((11, 4, 4), np.float32))
    with pytest.raises(InputError, match="11 inputs and 12 targets"):
        open_layout(tmp_path)
    np.save(place / "train" / "input_train.npy", np.zeros((12, 4), np.float32))
    with pytest.raises(InputError, match=r"has the shape \(12, 4\)"):
        open_layout(tmp_path)
    np.save(place / "train" / "input_train.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="is no array of numbers"):
        open_layout(tmp_path)
    (place / "test" / "target_test.pt").unlink()
    np.save(place / "train" / "input_train.npy", np.zeros((12, 4, 4), np.float32))
    with pytest.raises(InputError, match=r"lacks target_test\.pt"):
        open_layout(tmp_path)


def test_many_samples_are_nominal_hours(tmp_path):
    for part, count in (("train", 100_000), ("val", 10), ("test", 10)):
        (tmp_path / part).mkdir()
        for side, size in (("input", 1), ("target", 2)):
            np.save(tmp_path / part / f"{side}_{part}.npy", np.zeros((count, size, size), np.float32))
    opened = open_layout(tmp_path)
    assert opened.fine.sizes["time"] == 100_020 and (np.diff(opened.fine.time.values) > np.timedelta64(0)).all()
    assert str(opened.fine.time.values[1])[:13] == "2001-01-01T01"
