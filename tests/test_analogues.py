"""Analogues: numbers computed by hand, days that were planted, ensembles of the nearest days."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError
from finegrid.downscalers import DOWNSCALERS
from finegrid.downscalers.analogues import _combined
from test_statistical import (
    COARSE_LAT,
    COARSE_LON,
    FINE_LAT,
    FINE_LON,
    coarse_weather,
    dataset,
    fine_weather,
    fitted,
    rmse,
)

NAMES = ("analogues", "nearest-neighbours", "constructed-analogues")
# Situations in a plane and the fine value of each; today is at (1, 0).
SITUATIONS = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [10.0, 10.0]])
VALUES = torch.tensor([10.0, 40.0, 70.0, 100.0]).reshape(4, 1, 1, 1)
TODAY = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "count", "weights", "value"),
    [
        ("analogues", 2, [1, 0], 10.0),
        # Distances 1, 2 and sqrt(17): inverses 1, 0.5 and 0.2425.
        ("nearest-neighbours", 2, [2 / 3, 1 / 3], 20.0),
        ("nearest-neighbours", 3, [0.573883, 0.286941, 0.139187], 26.959),
        # Departures (-1, 0) and (2, 0): products [[1, -2], [-2, 4]], mean square 2.5, a tenth of it on the diagonal.
        # [[1.25, -2], [-2, 4.25]] w = 1 gives w ~ (6.25, 3.25).
        ("constructed-analogues", 2, [25 / 38, 13 / 38], 770 / 38),
    ],
)
def test_weights_and_fields_are_those_computed_by_hand(name, count, weights, value):
    model = DOWNSCALERS[name]()
    index, found = model._nearest(TODAY, SITUATIONS, count)
    np.testing.assert_array_equal(index, [[0, 1, 2][:count]])
    np.testing.assert_allclose(found, [weights], atol=1e-5)
    np.testing.assert_allclose(_combined(VALUES, index, found).item(), value, atol=1e-3)


def days(values: list[float]) -> xr.Dataset:
    """The same temperature in all coarse cells, one value a day."""
    return dataset(COARSE_LAT, COARSE_LON, t2m=np.broadcast_to(np.reshape(values, (-1, 1, 1)), (len(values), 6, 7)))


def known_days() -> tuple[xr.Dataset, xr.Dataset]:
    """Days at 280, 283, 290, 291, ... K, and fine fields with a number for each day and a pattern."""
    count = 12
    pattern = np.arange(24.0).reshape(4, 6)
    numbers = np.array([1.0, 7.0, 50.0, 60.0, 70.0, 80.0, 90.0, 55.0, 65.0, 75.0, 85.0, 95.0])
    fine = numbers[:, None, None] + pattern
    return days([280.0, 283.0, *range(290, 288 + count)]), dataset(FINE_LAT, FINE_LON, t2m=fine)


@pytest.mark.parametrize(
    ("name", "number"),
    [("analogues", 1.0), ("nearest-neighbours", 3.0), ("constructed-analogues", (25 * 1 + 13 * 7) / 38)],
)
def test_a_day_of_281_kelvin_between_days_of_280_and_283_has_the_field_computed_by_hand(name, number):
    coarse, fine = known_days()
    features = {"name": "components", "counts": (1,)}
    model = DOWNSCALERS[name](features=features, neighbours=2, start="mean", cycles=()).fit(coarse, fine)
    found = model.predict(days([281.0, 281.0])).t2m
    np.testing.assert_allclose(found[0, 0], number + np.arange(24.0).reshape(4, 6), atol=1e-3)


def test_departures_of_an_analogue_are_added_to_the_coarse_value_of_today():
    coarse, fine = known_days()
    features = {"name": "components", "counts": (1,)}
    model = DOWNSCALERS["analogues"](features=features, neighbours=2, start="coarse", cycles=()).fit(coarse, fine)
    found = model.predict(days([281.0, 281.0])).t2m
    np.testing.assert_allclose(found[0, 0], 281 + (1.0 - 280) + np.arange(24.0).reshape(4, 6), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_day_that_is_in_the_archive_is_found(name):
    coarse = coarse_weather(100)
    fine = fine_weather(coarse, noise=1.0)
    options = {"features": {"name": "components", "counts": (8,)}, "neighbours": 1, "start": "mean"}
    model = fitted(name, coarse, fine, **options)
    order = np.random.default_rng(0).permutation(100)
    found = model.predict(coarse.isel(time=order).assign_coords(time=coarse.time)).t2m[0]
    np.testing.assert_allclose(found, fine.t2m.values[order], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_weights_sum_to_one_and_are_of_the_nearest_days(name):
    random = np.random.default_rng(0)
    archive, today = (torch.from_numpy(random.normal(size=(count, 5))).float() for count in (600, 700))
    index, weights = DOWNSCALERS[name]()._nearest(today, archive, 9)
    torch.testing.assert_close(weights.sum(1), torch.ones(700), rtol=1e-5, atol=1e-5)
    distance = torch.cdist(today, archive)
    kth = distance.sort(1).values[:, 8]
    assert (distance.gather(1, index) <= kth[:, None] + 1e-5).all()


def test_a_constructed_day_is_nearer_to_today_than_any_day_of_the_archive():
    random = np.random.default_rng(0)
    archive, today = (torch.from_numpy(random.normal(size=(count, 5))).float() for count in (300, 50))
    model = DOWNSCALERS["constructed-analogues"](ridge=1e-3)
    index, weights = model._nearest(today, archive, 30)
    made = (archive[index] * weights[..., None]).sum(1)
    assert ((made - today).norm(dim=1) < 0.3 * torch.cdist(today, archive).amin(1)).all()
    with pytest.raises(InputError, match=r"got ridge=0; expected more than 0; set downscaler.ridge"):
        DOWNSCALERS["constructed-analogues"](ridge=0)


def test_more_neighbours_than_days_are_all_days():
    coarse = coarse_weather(20)
    fine = fine_weather(coarse)
    model = fitted("nearest-neighbours", coarse, fine, neighbours=500, start="mean")
    assert rmse(model.predict(coarse).t2m[0], fine.t2m) < 4
    archive, today = SITUATIONS, TODAY
    assert model._nearest(today, archive, 500)[0].shape == (1, 4)


def test_members_are_days_of_the_archive_each_of_the_nearest_as_often():
    coarse, fine = known_days()
    features = {"name": "components", "counts": (1,)}
    model = DOWNSCALERS["analogues"](features=features, neighbours=3, start="mean", cycles=()).fit(coarse, fine)
    found = model.predict(days([281.0] * 60), members=21).t2m.values[:, :, 0, 0]
    np.testing.assert_allclose(found[0], 1.0, atol=1e-4)  # the first member is the nearest day
    drawn, counts = np.unique(found[1:].round(3), return_counts=True)
    np.testing.assert_array_equal(drawn, [1.0, 7.0, 50.0])
    assert (abs(counts / 1200 - 1 / 3) < 0.05).all()


def test_days_without_truth_are_nobodys_analogue():
    coarse, fine = known_days()
    fine.t2m[0] = np.nan
    fine.t2m[2, 1, 1] = np.nan  # one cell only: the day stays
    features = {"name": "components", "counts": (1,)}
    model = DOWNSCALERS["analogues"](features=features, neighbours=1, start="mean", cycles=()).fit(coarse, fine)
    found = model.predict(days([280.0, 290.0])).t2m[0]
    np.testing.assert_allclose(found[0], 7.0 + np.arange(24.0).reshape(4, 6), atol=1e-4)
    assert found.notnull().all()
    assert found[1, 0, 0] == 50.0


def test_the_number_of_neighbours_and_components_is_chosen_on_days_left_out():
    # The fine field hangs on two components of the situation, with noise: many neighbours average it.
    random = np.random.default_rng(0)
    situation = random.normal(size=(300, 2))
    patterns = random.normal(size=(2, 6, 7))
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=283 + np.einsum("tk,kyx->tyx", situation, patterns))
    fine = 283 + situation[:, :1, None] + 2 * random.normal(size=(300, 4, 6))
    truth = dataset(FINE_LAT, FINE_LON, t2m=fine)
    options = {"features": {"name": "components", "counts": (2,)}, "start": "mean", "cycles": ()}
    model = DOWNSCALERS["nearest-neighbours"](neighbours=(1, 3, 30), **options).fit(coarse, truth)
    assert model.info()["neighbours"] == 30
    sure = truth.copy(data={"t2m": (283 + 5 * np.sin(4 * situation[:, :1, None]) + 0 * fine).astype(np.float32)})
    model = DOWNSCALERS["nearest-neighbours"](neighbours=(1, 3, 100), **options).fit(coarse, sure)
    assert model.info()["neighbours"] == 3


def test_what_makes_no_situation_and_no_neighbour_is_refused():
    coarse = coarse_weather(30)
    fine = fine_weather(coarse)
    with pytest.raises(InputError, match="compares whole situations and got the features 'window'"):
        fitted("analogues", coarse, fine, features="window")
    with pytest.raises(InputError, match="got neighbours: 0; expected 1 or more"):
        fitted("analogues", coarse, fine, neighbours=0)
