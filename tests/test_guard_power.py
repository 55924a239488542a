"""What the guard sees of faults that weather hides: shifts against correlation, and of cells that hardly vary."""

import numpy as np
import pytest
import xarray as xr

from finegrid.evaluation.guard import Guard
from finegrid.evaluation.guard.anomalies import ENOUGH, anomalies, climate, held_out
from finegrid.evaluation.guard.usual import DISTANCE, FOLDS, LEVEL, OUTLYINGNESS, SHIFT, Blocks, Rows, shifts

DAY = np.timedelta64(1, "D")


def test_anomalies_are_those_of_a_slow_loop_over_months_rows_and_cells():
    random = np.random.default_rng(0)
    months = np.repeat([0, 1, 2], [ENOUGH, ENOUGH + 5, ENOUGH - 1])
    samples = random.gamma(2.0, 3.0, (2, len(months), 4)).astype(np.float32)
    samples[1, 3, 2] = np.nan
    samples[:, :, 3] = 7.0  # does not vary: says nothing
    found = anomalies(samples, climate(samples, months, 12), months)
    for row, month in enumerate(months):
        like = months == month if month < 2 else np.ones(len(months), bool)
        for variable in range(2):
            z = []
            for cell in range(3):
                past = samples[variable, like, cell].astype(float)
                z.append((samples[variable, row, cell] - np.nanmean(past)) / np.nanstd(past))
            expected = np.nanmean(z), np.sqrt(np.nanmean(np.square(z)))
            assert found[row, variable] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_training_times_are_standardised_by_times_outside_their_tenth():
    random, months = np.random.default_rng(1), np.zeros(32 * FOLDS, int)
    samples = random.normal(size=(1, len(months), 5)).astype(np.float32)
    found, tenth = held_out(samples, months, 1), np.arange(64, 96)
    rest = np.delete(samples, tenth, axis=1)
    expected = anomalies(samples[:, tenth], climate(rest, np.delete(months, tenth), 1), months[tenth])
    assert found[tenth] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("length", [1, 4])
def test_the_shift_of_a_block_is_measured_from_blocks_that_share_no_row_with_its_tenth(length):
    values = np.random.default_rng(2).normal(size=(60, 3)) @ np.array([[1.0, 0.9, 0], [0, 0.3, 0], [0, 0.2, 2]])
    blocks = Blocks.of(Rows(values, np.zeros((60, 1))), length, [0, 1, 2])
    known = (values - values.mean(axis=0)) / values.std(axis=0)
    means = np.array([known[start : start + length].mean(axis=0) for start in range(61 - length)])
    covariance = blocks.shape.covariance_
    for fold in np.array_split(np.arange(len(means)), FOLDS):
        apart = np.array([each for start, each in enumerate(means) if min(abs(start - fold)) >= length])
        centred = apart - apart.mean(axis=0)
        between, k = centred.T @ centred / len(apart), len(apart) / length
        weight = 3 / (3 + 3 * k)
        metric = (1 - weight) * between + weight * np.trace(between) / np.trace(covariance) * covariance
        for start in fold:
            away = means[start] - apart.mean(axis=0)
            assert blocks.usual[SHIFT][start] == pytest.approx(away @ np.linalg.inv(metric) @ away, rel=1e-6)


def test_a_shift_against_how_numbers_go_together_is_seen_where_no_other_test_sees_it():
    random = np.random.default_rng(3)

    def rows(count, off):
        weather = 3 * random.standard_normal((count, 1)) + random.standard_normal((count, 12))
        weather[:, 0] += off
        return Rows(weather, np.full((count, 1), 0.002))

    found = Blocks.of(rows(2000, 0.0), 60, list(range(12))).findings([rows(60, 1.1)])
    assert found[SHIFT].p < LEVEL / 4
    assert min(found[DISTANCE].p, found[OUTLYINGNESS].p) > LEVEL / 4


def test_the_metric_of_few_blocks_is_that_of_times():
    random = np.random.default_rng(4)
    few, away = random.normal(size=(6, 5)), np.eye(5)
    found = shifts(few.mean(axis=0) + away, few, np.diag([1.0, 4, 1, 1, 1]), length=3)
    assert np.isfinite(found).all() and found.argmin() == 1


def coast(times, *, start, seed):
    """A sea that hardly varies beside land that varies much, with weather of several days."""
    random = np.random.default_rng(seed)
    weather = np.zeros((times + 50, 1, 1))
    for day in range(1, len(weather)):
        weather[day] = 0.8 * weather[day - 1] + 2 * random.standard_normal()
    land = np.arange(8) >= 4
    cells = np.where(land, weather[50:], 0.0) + 0.3 * random.standard_normal((times, 6, 8))
    time = np.datetime64(start, "ns") + np.arange(times) * DAY
    coords = {"time": time, "lat": 45.0 + np.arange(6), "lon": 5.0 + np.arange(8)}
    return xr.Dataset({"tas": (("time", "lat", "lon"), (283 + cells).astype(np.float32), {"units": "K"})}, coords)


def test_a_bias_of_cells_that_hardly_vary_is_seen_unless_cells_are_no_places():
    training, later = coast(900, start="2001-01-01", seed=0), coast(30, start="2004-01-01", seed=1)
    biased = later.assign(tas=(later.tas + 0.6).assign_attrs(later.tas.attrs))
    guard, of_patches = Guard.fit(training), Guard.fit(training, seasonal=False)
    assert not guard.compare(later).flagged
    found = guard.compare(biased)
    assert found.flagged and any("deviations warmer" in words for words in found.words)
    assert not {each.trait.kind for each in of_patches.compare(biased).differences} & {"anomaly", "departure"}


def test_fields_on_other_cells_are_compared_without_anomalies():
    training, later = coast(900, start="2001-01-01", seed=0), coast(30, start="2004-01-01", seed=1)
    other = Guard.fit(training).compare(later.isel(lon=slice(1, 8)))
    assert other.differences and not {each.trait.kind for each in other.differences} & {"anomaly", "departure"}


def test_too_few_times_have_no_anomalies():
    samples = np.random.default_rng(5).normal(size=(1, ENOUGH - 1, 3)).astype(np.float32)
    months = np.zeros(ENOUGH - 1, int)
    assert np.isnan(climate(samples, months, 12)).all() and np.isnan(held_out(samples, months, 12)).all()


def test_units_of_a_variable_do_not_drown_its_anomalies():
    # Pressure in Pa varies by hundreds, its anomalies by one: they must not count as if they hardly varied.
    training, later = coast(900, start="2001-01-01", seed=0), coast(30, start="2004-01-01", seed=1)
    pressure = [each.rename(tas="psl").assign(psl=1e5 + 1000 * (each.tas - 283)) for each in (training, later)]
    for each in pressure:
        each.psl.attrs["units"] = "Pa"
    biased = pressure[1].assign(psl=(pressure[1].psl + 600).assign_attrs(units="Pa"))
    assert Guard.fit(pressure[0]).compare(biased).flagged
