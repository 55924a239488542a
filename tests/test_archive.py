"""Archives that are read piece by piece teach what they teach in memory, whatever the pieces."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.backbones.manner import Manner
from finegrid.backbones.windows import Window
from finegrid.conventions import InputError
from finegrid.data import open_fields, write
from finegrid.data.climatology import Climatology, Moments
from finegrid.data.coarsen import coarsen
from finegrid.data.pairs import pair
from finegrid.data.synthetic import Climate, generate
from finegrid.downscalers import Bilinear, MeanMap, NeuralDownscaler, Ridge, load
from finegrid.downscalers.archive import blocks, counting, fit_in_pieces
from finegrid.downscalers.archive.blocks import Archive
from finegrid.downscalers.archive.patches import Patches, chances, cut, joined, windows_of
from finegrid.heads import HEADS, Conditions
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.training import Interrupted, Samples, Settings

FACTOR, SIDE, DAYS = 4, 4, 60


@pytest.fixture(scope="module")
def fields() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Coarse and fine temperature of a region with hills, some sea without values, and its elevation."""
    fine = generate(Climate(), times=DAYS, shape=(32, 40), seed=1)
    elevation = fine[["orog"]]
    tas = fine[["tas"]].astype("float32")
    tas["tas"] = tas.tas.where(xr.DataArray(np.indices((32, 40)).sum(0) > 6, dims=tas.tas.dims[1:]))
    return coarsen(tas, FACTOR), tas, elevation


@pytest.fixture
def stored(fields, tmp_path: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """The same on disk, in chunks of seven times."""
    for name, each in zip(("coarse", "fine"), fields, strict=False):
        each.drop_encoding().chunk({"time": 7}).to_zarr(tmp_path / f"{name}.zarr", zarr_format=2)
    return tuple(open_fields(tmp_path / f"{name}.zarr", chunks={"time": 7}) for name in ("coarse", "fine"))


def network(**options) -> NeuralDownscaler:
    settings = {"budget": None, "steps": 3, "batch": 4, "patch": SIDE, "checkpoint_minutes": 60} | options.pop(
        "settings", {}
    )
    table = {"name": "resnet", "width": 8, "depth": 1}
    return NeuralDownscaler(**({"backbone": table} | options), settings=Settings(**settings))


def test_an_archive_is_surveyed_as_fields_in_memory_are(fields, stored) -> None:
    coarse, fine, _ = fields
    whole = Ridge(half_widths=(1,), penalties=(3.0,)).fit(coarse, fine)
    pieces = network(mean={"name": "ridge", "half_widths": (1,), "penalties": (3.0,)}).fit(*stored, validate=0.0)
    torch.testing.assert_close(pieces._mean._weights, whole._weights, rtol=1e-4, atol=1e-6)
    assert pieces.domain.grid == whole.domain.grid and pieces.domain.true_grid == whole.domain.true_grid
    assert pieces.domain.period == whole.domain.period and pieces.domain.traces == whole.domain.traces
    for key, numbers in whole.conservation.facts.numbers.items():
        np.testing.assert_allclose(pieces.conservation.facts.numbers[key], numbers, rtol=1e-6)
    for name, mean in whole._climatology.mean.items():
        np.testing.assert_allclose(pieces._climatology.mean[name], mean, rtol=1e-6)
        np.testing.assert_allclose(pieces._climatology.deviation[name], whole._climatology.deviation[name], rtol=1e-4)


def test_moments_of_blocks_are_those_of_the_whole() -> None:
    time = xr.date_range("2001-01-01", periods=400)
    values = np.random.default_rng(0).gamma(2.0, size=(400, 3, 2)) + 1e4
    values[5:50, 0, 0] = np.nan
    record = xr.Dataset({"pr": (("time", "y", "x"), values)}, coords={"time": time})
    whole, parts = Climatology.of(record), Moments()
    for start in range(0, 400, 37):
        parts.add(record.isel(time=slice(start, start + 37)))
    by_month = record.pr.groupby("time.month")
    known = np.isfinite(whole.deviation["pr"])  # a month with few times has none
    assert 60 < known.sum() < 72
    np.testing.assert_allclose(whole.deviation["pr"][known], by_month.std().values[known], rtol=1e-4)
    np.testing.assert_allclose(parts.climatology().mean["pr"], whole.mean["pr"], rtol=1e-6)
    np.testing.assert_allclose(parts.climatology().deviation["pr"], whole.deviation["pr"], rtol=1e-6)


def test_pieces_are_whole_chunks_and_cover_every_time_once(stored) -> None:
    archive = Archive.of(pair(*stored, lazy=True))
    assert sorted(time for piece in archive.pieces for time in piece) == list(range(DAYS))
    assert all(piece.start % 7 == 0 for piece in archive.pieces) and archive.advice() == ""
    part, inner = archive.read(range(10, 12), halo=3)
    assert len(part.coarse.time) == 8 and part.coarse.time[inner].equals(archive.pair.coarse.time[10:12])


def test_long_chunks_are_pointed_out(stored, monkeypatch) -> None:
    monkeypatch.setattr("finegrid.downscalers.archive.blocks._PIECE_BYTES", 1)
    assert "rechunked.zarr" in Archive.of(pair(*stored, lazy=True)).advice()


def test_windows_cover_the_domain_and_are_seen_by_area() -> None:
    windows = windows_of((7, 10), 4)
    hit = torch.zeros(14, 20)
    for each in windows:
        each.of(hit).add_(1)
    assert (hit > 0).all() and len(set(windows)) == len(windows)
    weight = torch.ones(14, 20)
    weight[:8, :8] = 0.0
    seen = chances(windows, weight)
    assert seen[windows.index(Window((0, 4), (0, 4), (7, 10)))] == 0 and seen.sum() == pytest.approx(1)
    height = torch.zeros(14, 20)
    height[:, 16:] = 3000.0
    high = [each.columns == (6, 10) for each in windows]
    balanced = chances(windows, torch.ones(14, 20), height)
    assert balanced[high].sum() == pytest.approx(0.5) and chances(windows, torch.ones(14, 20))[high].sum() < 0.3


def patches(read=None, **options) -> Patches:
    def numbered(piece: range) -> Samples:
        values = torch.tensor([float(time) for time in piece])[:, None, None, None].expand(-1, 1, 8, 8)
        coarse = values[..., ::2, ::2]
        return Samples(values, Conditions(coarse, coarse, coarse, values))

    windows = windows_of((4, 4), 2)
    known = {"pieces": [range(n, n + 2) for n in range(0, 12, 2)], "read": read or numbered, "windows": windows}
    known |= {"chances": chances(windows, torch.ones(8, 8)), "place": lambda window: _Nowhere(), "together": 2}
    return Patches(**(known | {"size": 3, "seed": 4} | options))


class _Nowhere:
    def to(self, device: object) -> _Nowhere:
        return self


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, other = patches(), patches()
    forward = [one.batch(step, size=3, seed=4).fine for step in range(60)]
    for step in (41, 3, 59, 0):
        assert torch.equal(other.batch(step, size=3, seed=4).fine, forward[step])
    assert not all(torch.equal(a, b) for a, b in zip(forward[:8], forward[8:16], strict=True))


def test_every_piece_comes_once_in_an_epoch_and_the_next_shard_is_read_ahead() -> None:
    read: list[range] = []
    plain = patches()

    def noted(piece: range) -> Samples:
        read.append(piece)
        return plain.read(piece)

    source = patches(noted)
    source.batch(0, size=3, seed=4)
    source._shards[1].result(timeout=10)
    assert len(read) == 4
    for step in range(1, 3 * source.steps):
        source.batch(step, size=3, seed=4)
    source.close()
    assert sorted(read[:6], key=lambda piece: piece.start) == list(plain.pieces)


def test_a_patch_is_the_whole_field_cut() -> None:
    values = torch.arange(2 * 8 * 8.0).reshape(2, 1, 8, 8)
    samples = joined(
        [Samples(values[:1], Conditions(*[values[:1]] * 4)), Samples(values[1:], Conditions(*[values[1:]] * 4))]
    )
    fine, given = cut(samples, Window((1, 3), (2, 4), (4, 4)), torch.tensor([1, 0]))
    assert torch.equal(fine, values[[1, 0], :, 2:6, 4:8]) and torch.equal(given.reference, fine)


@pytest.mark.parametrize("head", list(HEADS))
def test_every_head_learns_from_patches_or_says_why_not(head: str, fields, stored, tmp_path: Path) -> None:
    model = network(head=head, backbone=None, settings={"steps": 1})
    try:
        model.fit(*stored)
    except InputError as refusal:
        assert "leave training.patch out" in str(refusal)
        assert head in ("latent",), head
        return
    members = 2 if model.random else 1
    whole = model.predict(fields[0].isel(time=slice(0, 2)), members=members)
    assert whole.tas.shape == (members, 2, 32, 40)
    model.save(tmp_path / "model")
    tiled = load(tmp_path / "model").answering(Manner(3)).predict(fields[0].isel(time=slice(0, 2)), members=members)
    np.testing.assert_allclose(tiled.tas, whole.tas, rtol=1e-5, atol=1e-3)
    means = coarsen(whole.isel(member=0), FACTOR)
    np.testing.assert_allclose(means.tas, fields[0].tas.isel(time=slice(0, 2)), atol=2e-3)


def test_patches_teach_what_the_place_says(fields, stored) -> None:
    coarse, fine, elevation = fields
    train, test = slice(0, 45), slice(45, DAYS)

    def error(model) -> float:
        made = model.predict(coarse.isel(time=test)).tas.isel(member=0)
        return float(np.sqrt(np.nanmean((made.values - fine.tas.isel(time=test).values) ** 2)))

    # Eight by ten coarse cells hold five patches: as many cells are seen in a fifth of the steps.
    settings = {"steps": 500, "batch": 16, "balance": "elevation", "patience": None}
    some = [each.isel(time=train) for each in stored]
    table = {"name": "resnet", "width": 8, "depth": 1, "embedding": 0}
    learnt, whole = (
        network(mean=None, backbone=table, settings=settings | more).fit(*some, static=elevation)
        for more in ({}, {"patch": None, "balance": "area", "steps": 100})
    )
    assert error(learnt) < 1.1 * error(whole)


def test_an_interrupted_fit_goes_on_as_if_nothing_had_happened(stored, tmp_path: Path, monkeypatch) -> None:
    settings = {"steps": 30}
    once = network(settings=settings).fit(*stored, folder=tmp_path / "once")
    steps = iter(range(100))
    batch = Patches.batch

    def stopped(self, *args, **kwargs):
        if next(steps) == 17:
            raise KeyboardInterrupt
        return batch(self, *args, **kwargs)

    monkeypatch.setattr(Patches, "batch", stopped)
    with pytest.raises(Interrupted):
        network(settings=settings).fit(*stored, folder=tmp_path / "twice")
    monkeypatch.setattr(Patches, "batch", batch)
    twice = network(settings=settings).fit(*stored, folder=tmp_path / "twice", resume=True)
    first, second = once._head.state_dict(), twice._head.state_dict()
    assert first and all(torch.equal(each, second[name]) for name, each in first.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": "bilinear", "adjust": "linear"}, "adjust"),
        ({"settings": {"augment": "flips"}}, "whole fields"),
        ({"mean": "analogues"}, "in one pass"),
        ({"settings": {"balance": "elevation"}}, "expected elevation"),
    ],
)
def test_what_needs_whole_fields_is_refused(options, words, stored) -> None:
    with pytest.raises(InputError, match=words):
        network(**options).fit(*stored)


def test_what_is_no_number_is_found_on_the_way(fields, tmp_path: Path) -> None:
    coarse, fine, _ = fields
    spoilt = fine.copy(deep=True)
    spoilt.tas[33, 20, 20] = np.inf
    write(spoilt, tmp_path / "fine.zarr")
    with pytest.raises(InputError, match="infinite values"):
        network().fit(coarse, open_fields(tmp_path / "fine.zarr", chunks={"time": 7}))


@pytest.mark.parametrize("kind", [Ridge, Bilinear])
def test_simple_methods_learn_in_pieces_what_they_learn_in_memory(kind, fields, stored) -> None:
    coarse, fine, _ = fields
    pieces, whole = fit_in_pieces(kind(), *stored), kind().fit(coarse, fine)
    np.testing.assert_allclose(pieces.predict(coarse).tas, whole.predict(coarse).tas, atol=2e-3)
    with pytest.raises(InputError, match="in one pass"):
        fit_in_pieces(MeanMap(), *stored)


@pytest.mark.parametrize("kind", [Ridge, Bilinear])
def test_workers_learn_from_an_archive_what_one_process_learns(kind, stored, scheduler, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "_PIECE_BYTES", 8 * 4 * 32 * 40)
    monkeypatch.setattr(counting, "_TOGETHER", 2)
    asked = []

    def noted(read, work, pieces):
        with connected(2, scheduler) as client:
            yield from workers_of(client)(read, work, (asked.append(len(each.pieces)) or each for each in pieces))

    new = partial(kind, **({"frames": (-1, 0, 1)} if kind is Ridge else {}))
    shared = fit_in_pieces(new(), *stored, workers=noted)
    assert asked == [2, 2, 2, 2, 1]
    assert shared.digest == fit_in_pieces(new(), *stored).digest
