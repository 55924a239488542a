"""Every metric against an independent computation, and what must hold for all of them."""

import dask.array
import numpy as np
import pyproj
import pytest
import scipy.fft
import scipy.ndimage
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from finegrid.conventions import InputError
from finegrid.evaluation import METRICS
from finegrid.evaluation.metrics import Block, Reference
from finegrid.evaluation.metrics.reference import largest_rectangle
from finegrid.evaluation.metrics.spectrum import radial, variances
from finegrid.grids import Grid, Operator

LATLON = Grid(np.arange(50.5, 66), np.arange(5.5, 29), np.arange(50, 66.5), np.arange(5, 29.5))
"""16 x 24 cells of one degree: the northern ones have two thirds of the area of the southern ones."""


def field(values: NDArray[np.float64], *, grid: Grid = LATLON, units: str = "mm/day") -> xr.DataArray:
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in grid.coords().items() if name in ("y", "x", "crs")}
    coords = {**places, "time": times}
    return xr.DataArray(values, dims=dims, coords=coords, name="pr", attrs={"units": units})


def rain(*, times: int = 5, seed: int = 0, grid: Grid = LATLON) -> NDArray[np.float64]:
    """Smooth showers, never negative, a third dry."""
    random = np.random.default_rng(seed)
    waves = random.normal(size=(times, 4, 4))
    smooth = scipy.fft.idctn(waves, s=grid.shape, axes=(1, 2), norm="ortho") * 4
    rough = 0.3 * random.normal(size=(times, *grid.shape))
    return np.maximum(smooth + rough + 0.2, 0)


def coarse_of(truth: xr.DataArray, factor: int = 4) -> xr.DataArray:
    grid = Grid.of(truth)
    return Operator.conservative(grid, grid.coarsened(factor))(truth)


def score(name: str, prediction: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return METRICS[name](field(prediction), field(truth), coarse_of(field(truth)))


OF_ONE = [name for name, metric in METRICS.items() if not metric.of_members]


@pytest.mark.parametrize("name", OF_ONE)
def test_the_truth_gets_the_best_score(name: str) -> None:
    truth = rain()
    assert score(name, truth, truth) == pytest.approx(METRICS[name].best, abs=1e-9)


# Which extremes are hit is no question of `high-quantile`, nor which events of `frequency-bias`. The two spectral
# scores ask how power is shared among the finest waves: noise that is as white as the truth there need not change it.
INDIFFERENT = ("high-quantile", "frequency-bias", "spectral-divergence", "spectral-residual")


@pytest.mark.parametrize("name", [name for name in OF_ONE if name not in INDIFFERENT])
@given(seed=st.integers(0, 1000))
def test_noise_makes_every_score_worse_and_more_noise_worse_still(name: str, seed: int) -> None:
    truth, noise = rain(), np.random.default_rng(seed).normal(0.1, 1, (5, *LATLON.shape))
    little, much = (METRICS[name].distance(score(name, truth + scale * noise, truth)) for scale in (0.1, 1.0))
    assert 0 < little < much


@pytest.mark.parametrize("name", METRICS)
def test_lazy_fields_score_as_loaded_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = field(rain(times=7))
    prediction = field(np.stack([rain(times=7, seed=seed) for seed in (1, 2)]))
    expected = METRICS[name](prediction, truth, coarse_of(truth))
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 1600)  # two times a block
    lazy = [each.copy(data=dask.array.from_array(each.values, chunks=3)) for each in (prediction, truth)]
    assert METRICS[name](*lazy, coarse_of(truth)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", METRICS)
def test_order_of_dimensions_does_not_matter(name: str) -> None:
    truth, prediction = field(rain()), field(np.stack([rain(seed=1), rain(seed=2)]))
    turned = METRICS[name](
        prediction.transpose("x", "time", "y", "member"), truth.transpose("x", "y", "time"), coarse_of(truth)
    )
    assert turned == METRICS[name](prediction, truth, coarse_of(truth))


@pytest.mark.parametrize("name", [name for name in OF_ONE if name != "violation"])
def test_cells_without_a_truth_do_not_count(name: str) -> None:
    truth, prediction = rain(), rain(seed=1)
    truth[:, 12:, :] = np.nan
    other = np.where(np.isnan(truth), prediction * 7 - 100, prediction)
    assert score(name, other, truth) == score(name, prediction, truth)
    assert np.isfinite(score(name, prediction, truth))


def test_area_weights_follow_the_sphere_and_not_the_count_of_cells() -> None:
    truth, prediction = np.zeros((1, *LATLON.shape)), np.zeros((1, *LATLON.shape))
    truth[0, 0, 0], prediction[0, 8:] = 1.0, 2.0
    north = (np.sin(np.deg2rad(66)) - np.sin(np.deg2rad(58))) / (np.sin(np.deg2rad(66)) - np.sin(np.deg2rad(50)))
    corner = (np.sin(np.deg2rad(51)) - np.sin(np.deg2rad(50))) / (np.sin(np.deg2rad(66)) - np.sin(np.deg2rad(50)))
    expected = 4 * north + corner / 24
    assert score("rmse", prediction, truth) ** 2 == pytest.approx(expected, rel=1e-12)
    assert abs(expected - np.mean((prediction - truth) ** 2)) > 0.1


def test_pointwise_scores_equal_numpy_with_weights() -> None:
    truth, prediction = rain(seed=3), rain(seed=4)
    weights = np.broadcast_to(LATLON.area, truth.shape).ravel()
    error = (prediction - truth).ravel()
    covariance = np.cov(prediction.ravel(), truth.ravel(), aweights=weights)
    assert score("rmse", prediction, truth) == pytest.approx(np.sqrt(np.average(error**2, weights=weights)))
    assert score("mae", prediction, truth) == pytest.approx(np.average(np.abs(error), weights=weights))
    assert score("bias", prediction, truth) == pytest.approx(np.average(error, weights=weights))
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert score("correlation", prediction, truth) == pytest.approx(expected)


def test_errors_judge_the_mean_over_members_and_negatives_every_member() -> None:
    truth = np.ones((2, *LATLON.shape))
    members = np.stack([truth + 3, truth - 3])
    assert score("rmse", members, truth) == pytest.approx(0, abs=1e-12)
    assert score("negatives", members, truth) == pytest.approx(0.5)


def test_similarity_equals_scikit_image_on_complete_fields() -> None:
    # Golden: skimage.metrics.structural_similarity with the settings of Wang et al. 2004 that its manual gives. It
    # leaves out the same border; cells of equal area, as it has no weights.
    flat = Grid(LATLON.y * 1000, LATLON.x * 1000, LATLON.y_edges * 1000, LATLON.x_edges * 1000, mercator())
    truth, prediction = rain(seed=5), rain(seed=6) + 0.5 * rain(seed=5)
    expected = [
        structural_similarity(
            t, p, data_range=np.ptp(truth), gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for t, p in zip(truth, prediction, strict=True)
    ]
    got = METRICS["ssim"](field(prediction, grid=flat), field(truth, grid=flat))
    assert got == pytest.approx(np.mean(expected), abs=1e-6)


def mercator() -> str:
    return str(pyproj.CRS.from_epsg(3857).to_wkt())


def test_similarity_uses_a_smaller_window_on_a_small_domain() -> None:
    small = LATLON.cropped(slice(0, 4), slice(0, 6))
    truth = rain(grid=small)
    assert METRICS["ssim"](field(truth, grid=small), field(truth, grid=small)) == pytest.approx(1)


def test_spectrum_equals_the_cosine_transform_written_out_and_keeps_the_variance() -> None:
    # Golden: scipy.fft.dctn, and the transform as a product of cosine matrices (Denis et al. 2002, equation 1).
    values = rain(times=1)[0]
    anomaly = values - values.mean()
    power = variances(values[None])[0]
    assert power == pytest.approx(scipy.fft.dctn(anomaly, norm="ortho") ** 2 / values.size, abs=1e-14)
    assert power == pytest.approx((cosines(16) @ anomaly @ cosines(24).T) ** 2 / values.size, abs=1e-12)
    assert power.sum() == pytest.approx(values.var())


def cosines(n: int) -> NDArray[np.float64]:
    orders, places = np.arange(n)[:, None], np.arange(n)[None]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * orders * (places + 0.5) / n)
    return np.where(orders == 0, np.sqrt(1 / n), matrix)


def test_a_wave_has_its_variance_in_the_ring_of_its_wavenumber() -> None:
    wave = np.cos(np.pi * 5 * (np.arange(16) + 0.5) / 16)[:, None] * np.ones(24)
    wavenumbers, power = radial(variances(wave[None])[0])
    assert power.argmax() == 4 and wavenumbers[4] == pytest.approx(5.5 / 16)
    assert power[4] == pytest.approx(wave.var())


def test_power_ratio_sees_blur_and_a_wave_of_double_height_has_fourfold_power() -> None:
    truth = rain(seed=2)
    fine = np.cos(np.pi * 12 * (np.arange(16) + 0.5) / 16)[:, None] * np.ones((5, 1, 24))
    blurred = scipy.ndimage.gaussian_filter(truth, (0, 1, 1))
    assert score("power-ratio", blurred, truth) < 0.1
    assert score("power-ratio", 2 * fine, fine) == pytest.approx(4)


def test_power_ratio_is_of_the_members_and_not_of_their_mean() -> None:
    truth = rain(seed=2)
    members = np.stack([truth, truth.mean() - (truth - truth.mean())])
    assert score("power-ratio", members, truth) == pytest.approx(1)


@given(cells=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=5))
def test_largest_rectangle_is_complete_and_none_is_larger(cells: list[list[bool]]) -> None:
    mask = np.array(cells)
    rows, columns = largest_rectangle(mask)
    assert mask[rows, columns].all()
    corners = [(a, b, c, d) for a in range(6) for b in range(a, 6) for c in range(6) for d in range(c, 6)]
    sizes = [mask[a:b, c:d].size for a, b, c, d in corners if mask[a:b, c:d].all()]
    assert mask[rows, columns].size == max(sizes)


def test_violation_is_the_largest_relative_departure_over_members_times_and_cells() -> None:
    truth = np.full((3, *LATLON.shape), 2.0)
    members = np.stack([truth, truth])
    members[1, 2, 4:8, 8:12] += 0.5
    assert score("violation", members, truth) == pytest.approx(0.25)


def test_violation_sees_a_departure_that_sums_in_float32_would_lose() -> None:
    truth = np.full((1, *LATLON.shape), 300.0)
    prediction = truth.copy()
    prediction[0, 0, 0] += 1e-4
    expected = 1e-4 / 300 * LATLON.area[0, 0] / LATLON.area[:4, :4].sum()
    coarse = coarse_of(field(truth))
    block = Block(prediction[None], truth, Reference.of(field(truth), coarse), coarse.values)
    relative = METRICS["violation"].statistics(block)
    assert relative.max() == pytest.approx(expected, rel=1e-3)


def test_violation_leaves_out_cells_that_are_never_known() -> None:
    truth, prediction = rain() + 1, rain() + 1
    truth[:, :3, :3], prediction[:, :3, :3] = np.nan, 1e6
    assert score("violation", prediction, truth) == pytest.approx(0, abs=1e-12)


def test_violation_leaves_out_coarse_cells_that_stick_out_of_the_domain() -> None:
    truth = field(rain() + 1)
    inner = truth.isel(y=slice(2, 16))
    assert METRICS["violation"](inner, inner, coarse_of(truth)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("units", "lowest", "counts"), [("mm/day", -1.0, True), ("K", 1.0, False), ("m", 0.0, True), ("m", -1.0, False)]
)
def test_negatives_are_for_variables_that_cannot_be_negative(units: str, lowest: float, counts: bool) -> None:
    truth = field(rain() + lowest, units=units).rename("value")
    if counts:
        assert METRICS["negatives"](truth, truth) >= 0
    else:
        with pytest.raises(InputError, match="negatives"):
            METRICS["negatives"](truth, truth)


def test_a_time_without_any_truth_changes_nothing() -> None:
    truth, prediction = rain(), rain(seed=1)
    gap = np.concatenate([truth, np.full_like(truth[:1], np.nan)])
    longer = np.concatenate([prediction, prediction[:1]])
    for name in ("rmse", "correlation", "ssim", "power-ratio"):
        assert score(name, longer, gap) == pytest.approx(score(name, prediction, truth))
