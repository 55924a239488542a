"""Objects, structure functions and spectra against closed forms and slow loops.

Independent counterparts: skimage.measure.label and numpy.quantile (sal), scipy.stats.entropy (spectral-divergence),
scipy.special.lpmv (spherical harmonics). No public package has the whole scores in our environment.
"""

from math import factorial

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.special
import scipy.stats
import skimage.measure
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.evaluation import METRICS
from finegrid.evaluation.metrics.objects import Sal, structure_amplitude_location
from finegrid.evaluation.metrics.spectrum import radial, variances
from finegrid.evaluation.metrics.sphere import is_global, legendre, most_degrees, spherical_power
from finegrid.grids import Grid

NDFloat = NDArray[np.float64]

NORTH = Grid(np.arange(50.5, 66), np.arange(5.5, 29), np.arange(50, 66.5), np.arange(5, 29.5))
"""16 x 24 cells of one degree, the northern ones smaller."""


def field(values: NDFloat, *, grid: Grid = NORTH) -> xr.DataArray:
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in grid.coords().items() if name in ("y", "x", "crs")}
    return xr.DataArray(values, dims=dims, coords={**places, "time": times}, name="pr", attrs={"units": "mm/day"})


def score(name: str, prediction: NDFloat, truth: NDFloat, *, grid: Grid = NORTH) -> float:
    return METRICS[name](field(prediction, grid=grid), field(truth, grid=grid))


def rain(*, times: int = 4, seed: int = 0) -> NDFloat:
    """Smooth showers, half dry."""
    random = np.random.default_rng(seed)
    smooth = scipy.fft.idctn(random.normal(size=(times, 6, 6)), s=NORTH.shape, axes=(1, 2), norm="ortho") * 3
    return np.maximum(smooth + 0.3 * random.normal(size=(times, *NORTH.shape)), 0)


def holed(truth: NDFloat, seed: int = 0) -> NDFloat:
    return np.where(np.random.default_rng(seed).random(truth.shape) < 0.2, np.nan, truth)


# Objects


def showers(values: NDFloat) -> tuple[float, NDFloat, float, float]:
    """Mean, centre of mass, scatter and scaled volume of one field, object by object."""
    latitude, longitude = (np.deg2rad(each) for each in NORTH.centres)
    places = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    labels = skimage.measure.label(values >= np.quantile(values[values > 0], 0.95) / 15, connectivity=2)
    mass = values * NORTH.area
    centre = (places * mass).sum(axis=(1, 2)) / mass.sum()
    amounts, away, volumes = [], [], []
    for number in range(1, labels.max() + 1):
        inside = labels == number
        amounts.append(mass[inside].sum())
        away.append(np.linalg.norm((places[:, inside] * mass[inside]).sum(axis=1) / amounts[-1] - centre))
        volumes.append(amounts[-1] / values[inside].max())
    return mass.sum(), centre, np.average(away, weights=amounts), np.average(volumes, weights=amounts)


def chord(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Straight distance on the unit sphere between two (latitude, longitude), by the haversine formula."""
    (a, b), (c, d) = np.deg2rad(first), np.deg2rad(second)
    return 2 * np.sqrt(np.sin((c - a) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2)


# From the south-western to the south-eastern cell the way is longer than across: the northern side is shorter.
WIDEST = max(chord((50.5, 5.5), (50.5, 28.5)), chord((50.5, 5.5), (65.5, 28.5)))


def test_sal_equals_a_computation_object_by_object() -> None:
    truth, prediction = rain(), rain(seed=1) * 1.5
    found = structure_amplitude_location(prediction, truth, NORTH)
    for time in range(len(truth)):
        p, t = showers(prediction[time]), showers(truth[time])
        assert found.amplitude[time] == pytest.approx((p[0] - t[0]) / (0.5 * (p[0] + t[0])), abs=1e-10)
        assert found.structure[time] == pytest.approx((p[3] - t[3]) / (0.5 * (p[3] + t[3])), abs=1e-10)
        location = (np.linalg.norm(p[1] - t[1]) + 2 * abs(p[2] - t[2])) / WIDEST
        assert found.location[time] == pytest.approx(location, abs=1e-10)
    assert score("sal", prediction, truth) == pytest.approx(found.total.mean(), abs=1e-12)


@given(factor=st.floats(0.1, 10))
def test_other_amounts_change_the_amplitude_and_nothing_else(factor: float) -> None:
    found = structure_amplitude_location(factor * rain(), rain(), NORTH)
    assert found.amplitude == pytest.approx(np.full(4, 2 * (factor - 1) / (factor + 1)))
    assert np.abs([found.structure, found.location]).max() < 1e-9


def test_a_shower_elsewhere_changes_the_location_by_its_distance() -> None:
    truth, prediction = np.zeros((1, *NORTH.shape)), np.zeros((1, *NORTH.shape))
    truth[0, 3, 4], prediction[0, 3, 10] = 2.0, 2.0
    found = structure_amplitude_location(prediction, truth, NORTH)
    assert found.location[0] == pytest.approx(chord((53.5, 9.5), (53.5, 15.5)) / WIDEST)
    assert (found.structure[0], found.amplitude[0]) == (pytest.approx(0), pytest.approx(0))


def test_flat_and_wide_objects_have_a_positive_structure_and_scattered_ones_another_location() -> None:
    peak = np.zeros((1, *NORTH.shape))
    peak[0, 5:10, 8:13] = 1 + 9 * (np.add.outer(np.abs(np.arange(-2, 3)), np.abs(np.arange(-2, 3))) == 0)
    flat = np.where(peak > 0, 2.0, 0.0)
    assert structure_amplitude_location(flat, peak, NORTH).structure[0] > 0.2
    apart = np.zeros_like(peak)
    apart[0, 7, 4], apart[0, 7, 16] = 5.0, 5.0
    middle = np.zeros_like(peak)
    middle[0, 7, 10] = 10.0
    found = structure_amplitude_location(apart, middle, NORTH).location[0]
    # The centre of mass of two points is half-way on the chord, a little inside the sphere.
    half = chord((57.5, 9.5), (57.5, 21.5)) / 2
    sagitta = np.cos(np.deg2rad(57.5)) * (1 - np.cos(np.deg2rad(6)))
    assert found == pytest.approx((sagitta + 2 * half) / WIDEST)


def test_objects_touch_at_corners_and_never_across_times() -> None:
    truth = np.zeros((2, *NORTH.shape))
    truth[:, 3, 3], truth[:, 4, 4] = 1.0, 1.0
    alone = structure_amplitude_location(rain(times=2), truth, NORTH)
    each = [structure_amplitude_location(rain(times=2)[i : i + 1], truth[i : i + 1], NORTH) for i in (0, 1)]
    assert alone.total == pytest.approx([one.total[0] for one in each], abs=1e-12)
    one, two = (truth[:1].copy() for _ in range(2))
    two[0, 4, 4], two[0, 9, 9] = 0.0, NORTH.area[4, 4] / NORTH.area[9, 9]
    # One object of two cells has their areas for a volume, two objects of one cell the mean of theirs.
    first, second, third = NORTH.area[3, 3], NORTH.area[4, 4], NORTH.area[9, 9]
    whole, parts = first + second, (first * first + second * third) / (first + second)
    expected = 2 * (whole - parts) / (whole + parts)
    assert structure_amplitude_location(one, two, NORTH).structure[0] == pytest.approx(expected)


def test_times_without_rain_are_left_out_and_a_dry_prediction_gets_the_worst() -> None:
    truth, prediction = rain(), rain(seed=1)
    wet = score("sal", prediction, truth)
    with_dry = np.concatenate([truth, 0 * truth[:2]])
    assert score("sal", np.concatenate([prediction, prediction[:2]]), with_dry) == pytest.approx(wet)
    found = structure_amplitude_location(0 * truth, truth, NORTH)
    assert found.structure == pytest.approx(np.full(4, -2))
    assert found.amplitude == pytest.approx(np.full(4, -2))
    assert found.location == pytest.approx(np.full(4, 2))
    assert score("sal", 0 * truth, truth) == pytest.approx(6)
    assert np.isnan(score("sal", truth, 0 * truth))
    assert np.isnan(structure_amplitude_location(0 * truth, 0 * truth, NORTH).total).all()


def test_sal_takes_unknown_cells_as_dry_and_members_one_by_one() -> None:
    truth, members = holed(rain()), np.stack([rain(seed=1), rain(seed=2)])
    filled = [np.where(np.isnan(truth), 0, each) for each in (truth, *members)]
    expected = [structure_amplitude_location(each, filled[0], NORTH).total.mean() for each in filled[1:]]
    assert score("sal", members, truth) == pytest.approx(np.mean(expected))
    assert Sal(np.array([-1.0]), np.array([0.5]), np.array([0.25])).total == pytest.approx([1.75])


# Structure functions


def test_structure_function_equals_a_loop_over_pairs() -> None:
    truth, members = holed(rain()), np.stack([rain(seed=1), rain(seed=2)])
    logs = []
    for axis, lags in ((1, (1, 2, 4, 8)), (2, (1, 2, 4, 8))):
        for lag in lags:
            sums = np.zeros(3)
            for time, y, x in np.argwhere(np.isfinite(truth)):
                other = (time, y + lag, x) if axis == 1 else (time, y, x + lag)
                if other[1] < 16 and other[2] < 24 and np.isfinite(truth[other]):
                    weight = (NORTH.area[y, x] + NORTH.area[other[1:]]) / 2
                    squares = [(each[other] - each[time, y, x]) ** 2 for each in (truth, *members)]
                    sums += weight * np.array(squares)
            logs.append(abs(np.log(sums[1:].mean() / sums[0])))
    assert score("structure-function", members, truth) == pytest.approx(np.mean(logs), abs=1e-10)


@given(factor=st.floats(0.1, 10), height=st.floats(-100, 100))
def test_structure_function_sees_amplitudes_and_no_offset(factor: float, height: float) -> None:
    found = score("structure-function", factor * rain() + height, rain())
    assert found == pytest.approx(abs(2 * np.log(factor)), abs=1e-9)


def test_lags_along_which_the_truth_does_not_vary_are_left_out() -> None:
    slope = np.broadcast_to(np.arange(24.0), (1, 16, 24))
    assert score("structure-function", 2 * slope, slope) == pytest.approx(np.log(4))
    assert score("structure-function", 0 * slope, slope) == np.inf


def test_smoothing_is_the_ratio_of_what_nine_cells_average_away() -> None:
    truth, members = holed(rain()), np.stack([rain(seed=1), rain(seed=2)])
    squares, known = np.zeros(3), np.isfinite(truth)
    for time, y, x in np.argwhere(known):
        window = (time, slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2))
        details = [each[time, y, x] - each[window][known[window]].mean() for each in (truth, *members)]
        squares += NORTH.area[y, x] * np.square(details)
    assert score("smoothing", members, truth) == pytest.approx(squares[1:].mean() / squares[0], rel=1e-10)
    board = (-1.0) ** np.add.outer(np.arange(16), np.arange(24))[None]
    assert score("smoothing", 0.5 * board + 7, board) == pytest.approx(0.25)


def test_blur_lowers_every_score_of_detail_step_by_step() -> None:
    truth = rain()
    blurred = [scipy.ndimage.gaussian_filter(truth, (0, width, width)) for width in (0.4, 0.7, 1.2)]
    for name in ("smoothing", "structure-function", "log-spectral-distance"):
        away = [float(METRICS[name].distance(np.array(score(name, each, truth)))) for each in (truth, *blurred)]
        assert away[0] == pytest.approx(0, abs=1e-9)
        assert away == sorted(away) and len({round(each, 6) for each in away}) == 4


# Spectra


def red(*, times: int = 3, side: int = 48, seed: int = 0) -> NDFloat:
    """Fields whose power falls with the cube of the wavenumber."""
    scale = (1 + np.hypot(np.arange(side)[:, None], np.arange(side))) ** -2
    noise = np.random.default_rng(seed).normal(size=(times, side, side))
    return scipy.fft.idctn(noise * scale, axes=(1, 2), norm="ortho") * side


PLANE = Grid(np.arange(48) * 0.1, np.arange(48) * 0.1, (np.arange(49) - 0.5) * 0.1, (np.arange(49) - 0.5) * 0.1)


def test_spectral_scores_equal_their_formulas_on_the_mean_spectra() -> None:
    truth, members = red(), np.stack([red(seed=1), 2 * red(seed=2)])
    true = radial(variances(truth).mean(axis=0))[1]
    mine = radial(variances(members).mean(axis=(0, 1)))[1]
    finest = np.arange(len(true)) >= np.quantile(np.arange(len(true)), 0.9)
    s, p = true[finest] / true[finest].sum(), mine[finest] / mine[finest].sum()
    assert finest.sum() == 5
    assert score("spectral-divergence", members, truth, grid=PLANE) == pytest.approx(scipy.stats.entropy(s, p))
    residual = np.sqrt(np.mean((p - s) ** 2))
    assert score("spectral-residual", members, truth, grid=PLANE) == pytest.approx(residual)
    decibels = np.sqrt(np.mean((10 * np.log10(true / mine)) ** 2))
    assert score("log-spectral-distance", members, truth, grid=PLANE) == pytest.approx(decibels)


def test_divergence_grows_with_blur_and_does_not_see_amounts() -> None:
    truth = red()
    blurred = [scipy.ndimage.gaussian_filter(truth, (0, width, width)) for width in (0.4, 0.5, 0.8, 1.2)]
    for name in ("spectral-divergence", "spectral-residual"):
        away = [score(name, each, truth, grid=PLANE) for each in (3 * truth + 2, *blurred)]
        assert away[0] == pytest.approx(0, abs=1e-12)
        assert (np.diff(away) > 1e-6).all()
    assert score("log-spectral-distance", 2 * truth, truth, grid=PLANE) == pytest.approx(20 * np.log10(2))


def test_noise_that_whitens_the_finest_waves_is_seen_by_the_divergence() -> None:
    truth, noise = red(), np.random.default_rng(0).normal(size=(3, 48, 48))
    for name in ("spectral-divergence", "spectral-residual"):
        away = [score(name, truth + scale * noise, truth, grid=PLANE) for scale in (0.0, 0.01, 0.1)]
        assert away[0] == pytest.approx(0, abs=1e-12)
        assert 1e-4 < away[1] < away[2] / 2


# The sphere


def globe(rows: int, columns: int, kind: str) -> Grid:
    x_edges = np.linspace(0, 360, columns + 1)
    latitudes = {
        "even": (np.arange(rows) + 0.5) * 180 / rows - 90,
        "poles": np.linspace(-90, 90, rows),
        "lopsided": (np.arange(rows) + 0.5 + 0.2 * np.sin(np.arange(rows))) * 180 / rows - 90,
        "gauss": np.rad2deg(np.arcsin(scipy.special.roots_legendre(rows)[0])),
    }[kind]
    edges = np.concatenate([[-90], (latitudes[1:] + latitudes[:-1]) / 2, [90]])
    return Grid(latitudes, (x_edges[1:] + x_edges[:-1]) / 2, edges, x_edges)


GLOBES = [globe(24, 48, "even"), globe(25, 60, "poles"), globe(24, 48, "gauss"), globe(24, 30, "even")]


def harmonic(grid: Grid, degree: int, order: int, phase: float = 0.0) -> NDFloat:
    """A real spherical harmonic of mean square one (y, x)."""
    latitude, longitude = (np.deg2rad(each) for each in grid.centres)
    size = np.sqrt((2 - (order == 0)) * (2 * degree + 1) * factorial(degree - order) / factorial(degree + order))
    return size * scipy.special.lpmv(order, degree, np.sin(latitude)) * np.cos(order * longitude + phase)


@pytest.mark.parametrize("grid", GLOBES, ids=["even", "poles", "gauss", "narrow"])
@given(data=st.data())
def test_a_spherical_harmonic_has_all_its_power_in_its_degree(grid: Grid, data: st.DataObject) -> None:
    degree = data.draw(st.integers(0, most_degrees(grid)))
    order, phase = data.draw(st.integers(0, degree)), data.draw(st.floats(0, 6))
    power = spherical_power(harmonic(grid, degree, order, phase if order else 0.0), grid)
    assert power == pytest.approx(np.eye(most_degrees(grid) + 1)[degree], abs=1e-10)


@pytest.mark.parametrize("grid", GLOBES, ids=["even", "poles", "gauss", "narrow"])
def test_power_sums_to_the_mean_square_of_a_field_without_finer_waves(grid: Grid) -> None:
    random, squares = np.random.default_rng(0), np.zeros(most_degrees(grid) + 1)
    fields = np.zeros((2, 3, *grid.shape))
    for degree in range(most_degrees(grid) + 1):
        for order in range(degree + 1):
            for phase in (0.0, -np.pi / 2) if order else (0.0,):
                size = random.normal(size=(2, 3))
                fields += size[..., None, None] * harmonic(grid, degree, order, phase)
                squares[degree] += size[1, 2] ** 2
    power = spherical_power(fields, grid)
    assert power.shape == (2, 3, most_degrees(grid) + 1)
    assert power[1, 2] == pytest.approx(squares, rel=1e-9)
    if grid is GLOBES[2]:  # Gauss's quadrature is exact, areas are not quite.
        weights = scipy.special.roots_legendre(24)[1] / 2
        assert power.sum(axis=-1) == pytest.approx((fields**2).mean(axis=-1) @ weights, rel=1e-9)


@pytest.mark.parametrize("kind", ["even", "poles", "lopsided"])
@pytest.mark.parametrize("rows", [16, 17])
def test_power_of_any_field_is_that_of_the_nearest_harmonics_by_area(rows: int, kind: str) -> None:
    grid = globe(rows, 36, kind)
    noise = np.random.default_rng(0).normal(size=grid.shape)
    pairs = [(degree, order) for degree in range(rows - 1) for order in range(degree + 1)]
    waves = [(*pair, phase) for pair in pairs for phase in ((0.0, np.pi / 2) if pair[1] else (0.0,))]
    columns = np.stack([harmonic(grid, *wave).ravel() for wave in waves], axis=1)
    weights = np.sqrt(grid.area.ravel())
    found = np.linalg.lstsq(columns * weights[:, None], noise.ravel() * weights)[0]
    expected = np.bincount([degree for degree, _, _ in waves], found**2)
    assert spherical_power(noise, grid) == pytest.approx(expected, rel=1e-9)


@given(longitude=st.floats(0, 360), latitude=st.floats(-90, 90))
def test_power_is_the_same_wherever_the_poles_of_a_field_are(longitude: float, latitude: float) -> None:
    # (n . x)^2 is 1/3 and a harmonic of degree two, for every axis n; the mean of its square is 1/5.
    grid = GLOBES[0]
    (a, b), (lat, lon) = np.deg2rad((latitude, longitude)), (np.deg2rad(each) for each in grid.centres)
    along = np.sin(a) * np.sin(lat) + np.cos(a) * np.cos(lat) * np.cos(lon - b)
    expected = np.zeros(most_degrees(grid) + 1)
    expected[0], expected[2] = 1 / 9, 1 / 5 - 1 / 9
    assert spherical_power(along**2, grid) == pytest.approx(expected, abs=1e-12)


def test_legendre_functions_hold_at_high_degrees() -> None:
    # Addition theorem: the squares of all orders of a degree sum to 2 l + 1 at every latitude.
    latitudes = np.array([-89.9, -60.0, -0.1, 30.0, 75.0, 90.0])
    for degree in (3, 90, 720):
        functions = legendre(latitudes, degree, np.arange(degree + 1))[degree]
        assert (functions**2).sum(axis=0) == pytest.approx(np.full(6, 2 * degree + 1), rel=1e-9)


def test_only_grids_around_the_whole_globe_are_global() -> None:
    assert all(is_global(grid) for grid in GLOBES)
    whole = GLOBES[0]
    edges = np.concatenate([[0, 1], np.linspace(1, 360, 48)[1:]])
    uneven = Grid(whole.y, (edges[1:] + edges[:-1]) / 2, whole.y_edges, edges)
    for grid in (NORTH, whole.cropped(slice(1, 23), slice(None)), whole.cropped(slice(None), slice(0, 47)), uneven):
        assert not is_global(grid)
        with pytest.raises(InputError, match="around the whole globe"):
            spherical_power(np.zeros(grid.shape), grid)


def test_spectral_scores_of_global_fields_are_those_of_spherical_harmonics() -> None:
    grid, random = GLOBES[0], np.random.default_rng(0)
    truth, prediction = random.normal(size=(2, 3, *grid.shape))
    true, mine = (spherical_power(each, grid).mean(axis=0)[1:] for each in (truth, prediction))
    decibels = np.sqrt(np.mean((10 * np.log10(true / mine)) ** 2))
    assert score("log-spectral-distance", prediction, truth, grid=grid) == pytest.approx(decibels)
    # The date line is no edge: turning the globe changes nothing.
    turned = score("spectral-divergence", np.roll(prediction, 7, axis=-1), np.roll(truth, 7, axis=-1), grid=grid)
    assert turned == pytest.approx(score("spectral-divergence", prediction, truth, grid=grid), rel=1e-9)
    holes = truth.copy()
    holes[:, 3, 5] = np.nan
    assert np.isfinite(score("spectral-divergence", prediction, holes, grid=grid))
