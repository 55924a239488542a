"""Codes can be read back, are as long as their models ask for, and shorter than what everyday compression makes."""

import dataclasses
import zlib

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data import samples
from finegrid.evaluation import METRICS
from finegrid.evaluation.code_archive import Archive
from finegrid.evaluation.code_coder import MOST_SYMBOLS, WHOLE, bisected, decode, encode
from finegrid.evaluation.code_fields import DIFFERENCES, MODELS, archive, filled, restored
from finegrid.evaluation.code_length import code_lengths, markdown, png_bits, zlib_bits
from finegrid.evaluation.code_models import Dressed, Table

Values = NDArray[np.float64]


def field(values: Values, *, units: str = "K") -> xr.DataArray:
    """On cells of one area as good as, at the equator."""
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D"),
        "y": 0.01 * np.arange(values.shape[-2]),
        "x": 5 + 0.01 * np.arange(values.shape[-1]),
    }
    dims = ("member", "time", "y", "x")[-values.ndim :]
    found = xr.DataArray(values, dims=dims, coords=coords, name="t2m", attrs={"units": units})
    found["y"].attrs.update(units="degrees_north", standard_name="latitude")
    found["x"].attrs.update(units="degrees_east", standard_name="longitude")
    return found


def walk(*shape: int, seed: int = 0) -> Values:
    """Values that are near their neighbours, to a hundredth."""
    steps = np.random.default_rng(seed).integers(-9, 10, shape)
    return 280 + 0.01 * steps.cumsum(axis=0).cumsum(axis=1).cumsum(axis=2)


@given(
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any),
    count=st.integers(1, 3000),
    seed=st.integers(0, 99),
)
def test_whatever_is_coded_by_a_table_can_be_read_back(weights: list[int], count: int, seed: int) -> None:
    chances = np.array(weights) / sum(weights)
    symbols = np.random.default_rng(seed).choice(len(weights), count, p=chances)
    table = Table.of(symbols)
    np.testing.assert_array_equal(decode(encode(symbols, table), Table.unpacked(table.packed())), symbols)
    # Also with chances that are not those of the values, even of symbols never counted.
    other = Table(np.array(weights))
    np.testing.assert_array_equal(decode(encode(symbols, other), other), symbols)


@given(seed=st.integers(0, 99), symbols=st.integers(1, 2000), scale=st.floats(1e-3, 1e4))
def test_every_symbol_of_a_dressed_ensemble_has_a_share_and_can_be_read_back(
    seed: int, symbols: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    mean = random.normal(symbols / 2, symbols, 50)
    chances = Dressed(mean, scale * random.random(50) + 0.25, symbols)
    ends = np.stack([chances.below(slice(None), np.full(50, each)) for each in range(symbols + 1)]).astype(np.int64)
    assert (ends[0] == 0).all() and (ends[-1] == WHOLE).all() and (np.diff(ends, axis=0) > 0).all()
    values = random.integers(0, symbols, 50)
    np.testing.assert_array_equal(decode(encode(values, chances), chances), values)


def test_bisection_finds_the_symbol_that_a_search_in_the_table_finds() -> None:
    table = Table(np.random.default_rng(0).integers(0, 50, 777))
    shares = np.random.default_rng(1).integers(0, int(WHOLE), 10_000).astype(np.uint64)
    found = table.symbol_of(slice(None), shares)
    np.testing.assert_array_equal(bisected(table, slice(None), shares), found)
    assert (table.below(slice(None), found) <= shares).all() and (shares < table.below(slice(None), found + 1)).all()


@pytest.mark.parametrize("spread", [0.4, 3.0, 200.0])
def test_the_code_is_within_a_hundredth_of_the_entropy_of_its_chances(spread: float) -> None:
    symbols = np.rint(np.random.default_rng(0).normal(0, spread, 200_000)).astype(np.int64)
    symbols -= symbols.min()
    table = Table.of(symbols)
    entropy = len(symbols) * scipy.stats.entropy(table.counts, base=2)
    assert table.bits(symbols) == pytest.approx(entropy, rel=1e-9)
    assert encode(symbols, table).bits == pytest.approx(entropy, rel=0.01)


def test_one_value_over_and_over_takes_next_to_no_bits() -> None:
    symbols = np.zeros(20_000, np.int64)
    streams = encode(symbols, Table.of(symbols))
    assert streams.bits <= 128 and not len(streams.words)
    np.testing.assert_array_equal(decode(streams, Table.of(symbols)), symbols)


def test_a_code_that_was_damaged_or_made_with_other_chances_is_refused() -> None:
    symbols = np.random.default_rng(0).integers(0, 50, 5000)
    table = Table.of(symbols)
    streams = encode(symbols, table)
    for damaged in (streams.words[:-1], np.append(streams.words, 7).astype(np.uint32), streams.words[::-1]):
        with pytest.raises(InputError, match="does not end where it should"):
            decode(dataclasses.replace(streams, words=damaged), table)
    with pytest.raises(InputError, match="same model"):
        decode(streams, Table(table.counts[::-1].copy() + np.arange(50)))


def members_of(truth: Values, count: int = 4, *, spread: float = 0.05, seed: int = 1) -> xr.DataArray:
    return field(truth + spread * np.random.default_rng(seed).normal(size=(count, *truth.shape)))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_an_archive_of_any_model_can_be_read_back_from_its_bytes(model: str, gaps: bool) -> None:
    truth, members = walk(7, 11, 13), members_of(walk(7, 11, 13))
    if gaps:
        truth[np.random.default_rng(2).random(truth.shape) < 0.3] = np.nan
        truth[3], truth[:, 0], truth[:, :, -1] = np.nan, np.nan, np.nan
    given = None if model in DIFFERENCES else members
    made = archive(truth, model=model, quantum=0.01, prediction=given)
    data = made.to_bytes()
    assert 8 * len(data) == made.streams.bits + made.model_bits
    np.testing.assert_allclose(restored(Archive.from_bytes(data), given), truth, rtol=0, atol=1e-9)
    coarse = restored(archive(truth, model=model, quantum=0.5, prediction=given), given)
    np.testing.assert_allclose(coarse, truth, rtol=0, atol=0.25 + 1e-9)


def test_gaps_are_filled_from_the_nearest_value_of_the_row_and_nothing_else_changes() -> None:
    steps = np.array([[[0, 5, 0, 0, 7, 0], [0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]])
    known = steps > 0
    expected = [[[5, 5, 5, 5, 7, 7], [5, 5, 5, 5, 7, 7], [3, 3, 3, 3, 3, 3]]]
    np.testing.assert_array_equal(filled(steps, known), expected)
    later = np.concatenate([np.zeros_like(steps), steps])
    np.testing.assert_array_equal(filled(later, later > 0), [*expected, *expected])


def test_differences_are_those_that_their_names_say() -> None:
    steps = np.random.default_rng(0).integers(0, 99, (3, 4, 5)).astype(float)
    steps[0, 0, 0] = 0
    lengths = {model: archive(steps, model=model, quantum=1.0).ideal for model in DIFFERENCES}
    padded = np.pad(steps, ((1, 0), (1, 0), (1, 0)))
    previous = padded[1:] - padded[:-1]
    plane = padded[:, 1:, 1:] - padded[:, 1:, :-1] - padded[:, :-1, 1:] + padded[:, :-1, :-1]
    for model, left in (
        ("previous", previous[:, 1:, 1:]),
        ("planar", plane[1:]),
        ("planar-in-time", plane[1:] - plane[:-1]),
    ):
        counts = np.unique(left, return_counts=True)[1]
        assert lengths[model] == pytest.approx(left.size * scipy.stats.entropy(counts, base=2))


def test_the_filter_of_pictures_is_paeths_written_out() -> None:
    steps = walk(3, 6, 7, seed=4)
    steps = np.rint((steps - steps.min()) / 0.01).astype(np.int64)
    rows = steps.astype(">u2").view(np.uint8).reshape(3, 6, 14).astype(int)
    filtered = np.zeros((3, 6, 14), np.uint8)
    for time, row, byte in np.ndindex(rows.shape):
        west = rows[time, row, byte - 2] if byte > 1 else 0
        north = rows[time, row - 1, byte] if row else 0
        corner = rows[time, row - 1, byte - 2] if row and byte > 1 else 0
        plane = west + north - corner
        nearest = min((abs(plane - each), number) for number, each in enumerate((west, north, corner)))[1]
        filtered[time, row, byte] = (rows[time, row, byte] - (west, north, corner)[nearest]) % 256
    assert png_bits(steps) == 8 * len(zlib.compress(filtered.tobytes(), 9))
    assert zlib_bits(steps) == 8 * len(zlib.compress(steps.astype(np.uint16).tobytes(), 9))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "variable"), [("era5-uk", "t2m"), ("racmo-iberia", "tas")])
def test_real_temperatures_take_fewer_bits_than_zlib_and_pictures_and_come_back(
    data_dir: object, name: str, variable: str
) -> None:
    fields = samples.open(name)[[variable]].isel(time=slice(240))
    rows = {row.model: row for row in code_lengths(fields, quantum=0.01)}
    rivals = min(rows["zlib"].adjusted, rows["png"].adjusted)
    assert rows["planar"].adjusted < 0.8 * rivals and rows["planar-in-time"].adjusted < 0.72 * rivals
    for model in DIFFERENCES:
        assert rows[model].ideal < rows[model].coded < 1.01 * rows[model].ideal
    values = fields[variable].values
    back = restored(Archive.from_bytes(archive(values, quantum=0.01).to_bytes()))
    assert np.abs(back - values).max() <= 0.005 + 1e-9


def noisy(*, spread: float, bias: float = 0.0, times: int = 60) -> tuple[xr.Dataset, xr.Dataset]:
    """Twenty members and a truth that are drawn alike about one signal, if the spread is 1."""
    random = np.random.default_rng(0)
    signal = 280 + 3 * random.normal(size=(times, 12, 14))
    members = signal + bias + spread * random.normal(size=(20, *signal.shape))
    return field(members).to_dataset(), field(signal + random.normal(size=signal.shape)).to_dataset()


def test_the_code_of_an_honest_ensemble_is_the_shortest_and_near_the_entropy_of_its_error() -> None:
    bits = {}
    for name, (spread, bias) in {
        "honest": (1.0, 0.0),
        "narrow": (0.5, 0.0),
        "wide": (2.0, 0.0),
        "off": (1.0, 1.0),
    }.items():
        prediction, truth = noisy(spread=spread, bias=bias)
        rows = {row.model: row for row in code_lengths(truth, prediction, quantum=0.1)}
        assert rows["ensemble"].coded == pytest.approx(rows["ensemble"].ideal, rel=0.01)
        bits[name] = rows["ensemble"].bits_per_value
    assert bits["honest"] < min(bits["narrow"], bits["wide"], bits["off"]) - 0.05
    # The error of one more draw about the mean of twenty, whose deviation is not known either.
    entropy = np.log2(np.sqrt(1.05 * 2 * np.pi * np.e) / 0.1)
    assert bits["honest"] == pytest.approx(entropy, abs=0.08)
    assert bits["honest"] < rows["planar-in-time"].bits_per_value - 0.5


def test_the_metric_is_the_length_of_the_code() -> None:
    prediction, truth = noisy(spread=1.0)
    rows = {row.model: row for row in code_lengths(truth, prediction)}
    fields = [each["t2m"].astype(np.float32) for each in (prediction, truth)]
    found = METRICS["code-length"](*fields)
    assert rows["ensemble"].ideal / rows["ensemble"].values == pytest.approx(found, rel=1e-5)
    assert rows["ensemble"].quantum == pytest.approx(float(np.ptp(truth["t2m"].values)) / 1000)


def test_the_size_of_what_predicted_counts_in_the_adjusted_rate() -> None:
    prediction, truth = noisy(spread=1.0, times=10)
    rows = {row.model: row for row in code_lengths(truth, prediction, quantum=0.1, prediction_bytes=1000)}
    ensemble = rows["ensemble"]
    assert ensemble.adjusted - ensemble.bits_per_value > 8000 / ensemble.values
    assert 8 * 200 > ensemble.model_bits - 8000 > 0
    assert rows["planar"].model_bits < 8000


def test_a_single_prediction_has_a_code_by_its_errors_and_none_by_its_spread() -> None:
    prediction, truth = noisy(spread=1.0, times=10)
    rows = {row.model: row for row in code_lengths(truth, prediction.isel(member=0), quantum=0.1)}
    assert np.isnan(rows["ensemble"].coded) and "no spread" in rows["ensemble"].note
    assert rows["ensemble"].to_dict()["coded"] is None
    assert rows["prediction"].bits_per_value < rows["planar"].bits_per_value
    table = markdown(list(rows.values()))
    assert "a single prediction has no spread" in table and table.count("\n") == len(rows) + 1


def test_gaps_of_the_truth_are_not_counted_as_values() -> None:
    prediction, truth = noisy(spread=1.0, times=10)
    truth["t2m"][:, :4] = np.nan
    rows = code_lengths(truth, prediction, quantum=0.1)
    assert {row.values for row in rows} == {10 * 8 * 14}


def test_what_cannot_be_coded_is_refused_in_the_users_words() -> None:
    truth = walk(4, 5, 6)
    members = members_of(truth)
    with pytest.raises(InputError, match=r"no model 'planer'.*planar"):
        archive(truth, model="planer", quantum=0.01)
    with pytest.raises(InputError, match="quantum of 0"):
        archive(truth, quantum=0.0)
    with pytest.raises(InputError, match=rf"at most {MOST_SYMBOLS}.*larger quantum"):
        archive(truth, quantum=1e-9)
    with pytest.raises(InputError, match="0 values"):
        archive(np.full_like(truth, np.nan), quantum=0.01)
    with pytest.raises(InputError, match="no prediction for the model 'ensemble'"):
        archive(truth, model="ensemble", quantum=0.01)
    with pytest.raises(InputError, match="take the model 'prediction'"):
        archive(truth, model="ensemble", quantum=0.01, prediction=members.isel(member=[0]))
    with pytest.raises(InputError, match="missing where the field has values"):
        archive(truth, model="prediction", quantum=0.01, prediction=members.where(members.x > 5))
    with pytest.raises(InputError, match="prediction of shape"):
        archive(truth, model="prediction", quantum=0.01, prediction=members.isel(time=slice(2)))
    with pytest.raises(InputError, match="no archive of finegrid"):
        Archive.from_bytes(b"PK")
    with pytest.raises(InputError, match="pass quantum"):
        code_lengths(field(np.full((4, 5, 6), 280.0)).to_dataset())


def test_a_constant_field_has_a_code_of_next_to_no_bits_once_the_quantum_is_given() -> None:
    rows = {row.model: row for row in code_lengths(field(np.full((40, 15, 16), 280.0)).to_dataset(), quantum=0.01)}
    assert rows["planar"].bits_per_value < 0.02
    found = restored(archive(np.full((4, 5, 6), 280.0), quantum=0.01))
    np.testing.assert_array_equal(found, 280.0)
