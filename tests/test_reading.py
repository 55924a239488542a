"""Fields are read once, chunk by chunk, in the precision in which they are kept, and are scored as if they were not."""

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from finegrid.data.working import ahead, alone
from finegrid.evaluation import METRICS, evaluate
from finegrid.evaluation.metrics import Block, Reference
from finegrid.evaluation.metrics.probabilistic import crps_of
from finegrid.evaluation.metrics.reading import loaded, reads_of, stored
from finegrid.grids import Grid

LATLON = Grid(np.arange(50.5, 59), np.arange(5.5, 17), np.arange(50, 59.5), np.arange(5, 17.5))


def field(values: NDArray[np.floating]) -> xr.DataArray:
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in LATLON.coords().items() if name in ("y", "x", "crs")}
    return xr.DataArray(values, dims=dims, coords={**places, "time": times}, name="t2m", attrs={"units": "K"})


def made(members: int = 5, times: int = 24, *, level: float = 280.0) -> tuple[xr.DataArray, xr.DataArray]:
    random = np.random.default_rng(0)
    signal = level + random.normal(size=(times, *LATLON.shape))
    prediction = (signal + random.normal(size=(members, *signal.shape))).astype(np.float32)
    return field(prediction), field((signal + random.normal(size=signal.shape)).astype(np.float32))


def counted(fields: xr.DataArray, chunk: int, reads: list[int]) -> xr.DataArray:
    def read(block: NDArray[np.float32]) -> NDArray[np.float32]:
        reads.append(1)
        return block

    chunks = tuple(chunk if dim == "time" else -1 for dim in fields.dims)
    lazy = dask.array.from_array(fields.values, chunks).map_blocks(read, dtype=fields.dtype, meta=fields.values[:0])
    return fields.copy(data=lazy)


@pytest.mark.parametrize("name", METRICS)
def test_single_precision_is_scored_as_the_same_numbers_in_double_precision(name: str) -> None:
    prediction, truth = (abs(each - 280.0).rename("pr").assign_attrs(units="mm/day") for each in made())
    truth = truth.where(truth < 2.5).copy()
    truth[:, 2:5, 3] = np.nan
    others = () if name != "violation" else (truth.fillna(1.0),)
    expected = METRICS[name](prediction.astype(np.float64), truth.astype(np.float64), *others, threshold=0.7)
    assert METRICS[name](prediction, truth, *others, threshold=0.7) == pytest.approx(expected, rel=1e-10, nan_ok=True)


@pytest.mark.parametrize("members", [1, 2, 3, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_crps_of_any_precision_is_that_of_scoringrules(members: int, dtype: type) -> None:
    prediction, truth = (each.values.astype(np.float64) for each in made(members, 12))
    prediction = prediction.astype(dtype)
    prediction[0, 0, 0, 0], truth[1, 1, 1] = np.nan, np.nan
    estimator = "fair" if members > 1 else "nrg"
    expected = scoringrules.crps_ensemble(truth, prediction.astype(np.float64), m_axis=0, estimator=estimator)
    found = crps_of(prediction, truth)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert np.isnan(found[0, 0, 0]) and np.isnan(found[1, 1, 1]) and np.isnan(found).sum() == 2


def test_ranking_leaves_the_members_as_they_are() -> None:
    prediction, truth = made()
    before = prediction.values.copy()
    for name in ("crps", "twcrps"):
        METRICS[name](prediction, truth)
    np.testing.assert_array_equal(prediction.values, before)


def test_the_crps_of_members_that_hardly_differ_loses_no_digits() -> None:
    random = np.random.default_rng(1)
    members, truth = 1e-4 * random.normal(size=(8, 500)), 1e-4 * random.normal(size=500)
    far = crps_of(members + 1e5, truth + 1e5)
    np.testing.assert_allclose(far, crps_of(members, truth), atol=1e-10)


@pytest.mark.parametrize("name", ["rmse", "crps", "power-ratio"])
def test_each_chunk_of_the_prediction_is_read_once_though_blocks_are_smaller(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, truth = made()
    expected = METRICS[name](prediction, truth)
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 2 * prediction[:, 0].size)
    reads: list[int] = []
    assert METRICS[name](counted(prediction, 8, reads), truth) == pytest.approx(expected, rel=1e-12)
    assert len(reads) == 3


def test_many_metrics_of_several_methods_read_each_of_them_as_often_as_a_few() -> None:
    prediction, truth = made()
    read: dict[int, list[int]] = {}
    for count in (5, 25):  # with ranks, of which the report draws members
        reads: list[int] = []
        fields = [counted(each, 8, reads).to_dataset() for each in (prediction, prediction + 1, truth)]
        evaluate(fields[0], fields[2], baselines={"other": fields[1]}, metrics=list(METRICS)[:count])
        read[count] = reads
    assert len(read[5]) == len(read[25])


@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    block=st.integers(1, 12),
    most=st.integers(1, 12),
)
def test_what_is_read_at_once_covers_all_times_and_cuts_chunks_only_where_it_has_to(
    chunks: list[int], block: int, most: int
) -> None:
    times = sum(chunks)
    lazy = xr.DataArray(dask.array.zeros((times, 2, 3), chunks=(tuple(chunks), -1, -1)), dims=("time", "y", "x"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finegrid.evaluation.metrics.reading._AT_ONCE", most * 6)
        reads = list(reads_of([lazy], block * 6))
    pieces = [piece for read in reads for piece in read]
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])] and pieces[-1].stop == times
    assert all(read[-1].stop - read[0].start <= most for read in reads)
    ends = set(np.cumsum(chunks).tolist())
    if max(chunks) <= most:
        assert {piece.stop for piece in pieces} <= ends
    for piece in pieces:
        inner = [end for end in ends if piece.start < end < piece.stop]
        assert not inner or piece.stop - piece.start <= max(block, 1)


def test_infinite_values_are_missing_in_any_precision() -> None:
    for dtype in (np.float32, np.float64):
        values = np.array([[[1.0, np.inf]], [[-np.inf, np.nan]]], dtype=dtype)
        found = stored(xr.DataArray(values, dims=("time", "y", "x")), slice(None))
        assert found.dtype == dtype and np.isnan(found).sum() == 3 and found[0, 0, 0] == 1
    numbers = xr.DataArray(np.ones((2, 1, 2), dtype=np.int16), dims=("time", "y", "x"))
    assert stored(numbers, slice(None)).dtype == loaded(numbers, slice(None)).dtype == np.float64


def test_what_is_made_ahead_comes_in_order_and_so_do_errors() -> None:
    assert list(ahead(lambda number: number**2, range(4))) == [0, 1, 4, 9] and list(ahead(str, iter(()))) == []
    assert list(alone(abs, lambda number: -number, iter([1, -2]))) == [-1, -2]

    def failing(number: int) -> int:
        if number > 1:
            raise ValueError("the disk is gone")
        return number

    items = ahead(failing, range(1, 3))
    assert next(items) == 1
    with pytest.raises(ValueError, match="the disk is gone"):
        next(items)


def test_what_several_metrics_need_of_a_block_is_made_once() -> None:
    prediction, truth = made()
    block = Block(prediction.values, truth.values.astype(np.float64), Reference.of(truth))
    made_of: list[Block] = []

    def work(one: Block) -> int:
        made_of.append(one)
        return len(made_of)

    assert [block.once(work), block.once(work)] == [1, 1] and made_of == [block]
    assert block.prediction.dtype == np.float64 and block.mean.dtype == np.float64
