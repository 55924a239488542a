"""Base noises: unit variance, the spectra and tails that they are for, the same for the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.base import Place
from finegrid.heads.draws import Draws
from finegrid.heads.noises import NOISES, HeavyTailed, Noise, Smooth, Spherical
from finegrid.heads.noises.spherical import legendre
from finegrid.heads.noises.tails import tail_index
from finegrid.losses.cosine import cosine_transform, ring_sums, rings_of


def globe(rows: int = 12, columns: int = 24, *, gauss: bool = False) -> Place:
    half = 90 / rows
    latitudes = torch.linspace(90 - half, half - 90, rows, dtype=torch.float64)
    if gauss:
        latitudes = torch.rad2deg(torch.asin(torch.from_numpy(np.polynomial.legendre.leggauss(rows)[0])))
    latitude, longitude = torch.meshgrid(latitudes, torch.arange(columns).double() * (360.0 / columns), indexing="ij")
    return Place(None, torch.ones(rows, columns), lambda fine, given: fine, None, latitude, longitude)


def region(rows: int = 12, columns: int = 20) -> Place:
    return Place(None, torch.ones(rows, columns), lambda fine, given: fine)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws.of(seed, [0], range(count))


def heavy(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_t(3, shape))


@pytest.mark.parametrize("name", list(NOISES))
def test_noise_has_unit_variance_in_every_cell_and_the_shape_that_is_asked(name: str) -> None:
    torch.manual_seed(0)
    fields = NOISES[name](globe(), 2)(Draws.fresh(2000), 2)
    assert fields.shape == (2000, 2, 12, 24) and fields.dtype == torch.float32
    torch.testing.assert_close(fields.var(0), torch.ones(2, 12, 24), rtol=0, atol=0.17)
    torch.testing.assert_close(fields.mean(0), torch.zeros(2, 12, 24), rtol=0, atol=0.12)


@pytest.mark.parametrize("name", list(NOISES))
def test_noise_of_a_member_and_sample_does_not_depend_on_the_others(name: str) -> None:
    noise = NOISES[name](globe(), 1)
    together = noise(Draws.of(3, [0, 1], [5, 9]), 1)
    alone = noise(Draws.of(3, [1], [9]), 1)
    torch.testing.assert_close(together[3:], alone)


def power_by_degree(fields: Tensor, latitudes: Tensor, degrees: int) -> Tensor:
    """Mean square of each degree's coefficients: quadrature of Gauss along the meridian, Fourier along the parallel."""
    weights = torch.from_numpy(np.polynomial.legendre.leggauss(len(latitudes))[1]) / 2
    waves = torch.fft.rfft(fields.double(), norm="forward")[..., : degrees + 1]
    found = torch.einsum("nym,mly,y->nml", waves, legendre(latitudes, degrees).to(waves.dtype), weights.to(waves.dtype))
    return (found.abs() ** 2).sum(1).mean(0) / (2 * torch.arange(degrees + 1) + 1)


def test_spherical_noise_has_a_flat_angular_spectrum_to_five_percent() -> None:
    place = globe(12, 24, gauss=True)
    assert place.latitude is not None
    noise = Spherical(place, 1)
    assert noise.degrees == 11
    torch.manual_seed(0)
    found = power_by_degree(noise(Draws.fresh(12000), 1)[:, 0], place.latitude[:, 0], 11) * 12**2
    torch.testing.assert_close(found, torch.ones(12, dtype=torch.float64), rtol=0, atol=0.05)


def test_spherical_noise_is_isotropic_neighbours_near_the_pole_go_together() -> None:
    fields, white = (NOISES[name](globe(18, 36), 1)(draws(1500), 1)[:, 0] for name in ("spherical", "white"))
    assert abs(float((white[:, 0, 0] * white[:, 0, 1]).mean())) < 0.1
    near = float((fields[:, 0, 0] * fields[:, 0, 1]).mean())
    far = float((fields[:, 9, 0] * fields[:, 9, 1]).mean())
    assert near > 0.9 and abs(far) < 0.5
    # two pairs about the equator, each ten degrees apart
    along = float((fields[:, 8, 3] * fields[:, 8, 4]).mean())
    across = float((fields[:, 8, 3] * fields[:, 9, 3]).mean())
    assert along == pytest.approx(across, abs=0.08)


def test_legendre_functions_are_those_of_scipy_and_stable_at_high_degrees() -> None:
    latitudes = torch.tensor([-89.5, -60.0, 0.0, 12.5, 75.0])
    table = legendre(latitudes, 6)
    for degree in range(7):
        for order in range(degree + 1):
            angle = np.deg2rad(90 - latitudes.numpy().astype(float))
            harmonic = scipy.special.sph_harm_y(degree, order, angle, 0.0).real * (-1) ** order
            expected = harmonic * np.sqrt(4 * np.pi) * (2**0.5 if order else 1)
            np.testing.assert_allclose(table[order, degree].numpy(), expected, atol=1e-12)
    high = legendre(latitudes, 200)
    torch.testing.assert_close(high.square().sum((0, 1)), torch.full((5,), 201.0**2, dtype=torch.float64))


@pytest.mark.parametrize(
    "place",
    [
        region(),
        globe(12, 1),
        Place(None, torch.ones(4, 6), lambda f, g: f, None, torch.rand(4, 6), torch.rand(4, 6)),
        Place(
            None, torch.ones(10, 20), lambda f, g: f, None, globe(20, 20).latitude[:10], globe(20, 20).longitude[:10]
        ),
    ],
    ids=["without coordinates", "one column", "curvilinear", "half of the Earth"],
)
def test_spherical_noise_is_refused_where_there_is_no_sphere(place: Place) -> None:
    with pytest.raises(InputError, match="use noise: white"):
        Spherical(place, 1)


def test_more_degrees_than_the_grid_shows_are_refused() -> None:
    with pytest.raises(InputError, match="1 to 11"):
        Spherical(globe(), 1, degrees=12)
    assert Spherical(globe(), 1, degrees=5)(draws(2), 3).shape == (2, 3, 12, 24)


@pytest.mark.parametrize("degrees", [2.0, 3.0, 4.0])
def test_the_tail_index_of_students_t_is_found_within_fifteen_percent(degrees: float) -> None:
    found = [tail_index(torch.from_numpy(np.random.default_rng(s).standard_t(degrees, 200_000))) for s in range(4)]
    assert 1 / np.mean(found) == pytest.approx(degrees, rel=0.15)


@pytest.mark.parametrize("name", ["normal", "uniform", "laplace", "exponential"])
def test_light_tails_are_light(name: str) -> None:
    for seed in range(5):
        values = getattr(np.random.default_rng(seed), name)(size=50_000)
        assert tail_index(torch.from_numpy(values)) == 0.0


def test_few_values_and_values_without_variation_have_no_tail() -> None:
    assert tail_index(heavy(0, 100)) == 0.0
    assert tail_index(torch.zeros(5000)) == 0.0


def fitted_heavy() -> tuple[HeavyTailed, Tensor]:
    residuals = torch.stack([heavy(1, 700, 12, 20), torch.randn(700, 12, 20, dtype=torch.float64)], dim=1) / 3**0.5
    noise = HeavyTailed(region(), 2)
    noise.fit(residuals.float(), torch.ones(12, 20))
    return noise, residuals


def test_heavy_tailed_noise_keeps_each_outputs_own_tail() -> None:
    noise, residuals = fitted_heavy()
    fields = noise(draws(700), 2)
    assert 1 / tail_index(fields[:, 0].flatten()) == pytest.approx(3, rel=0.15)
    assert tail_index(fields[:, 1].flatten()) == 0.0
    wanted, level = residuals[:, 0].quantile(0.999), 0.999
    error = abs(float(fields[:, 0].quantile(level) / wanted - 1))
    normal = abs(float(torch.randn(168_000).quantile(level) / wanted - 1))
    assert error < normal / 2


def test_heavy_tailed_noise_does_not_count_what_is_missing() -> None:
    residuals, weight = torch.randn(300, 1, 12, 20), torch.ones(300, 1, 12, 20)
    residuals[:, :, :2] = heavy(2, 300, 1, 2, 20).float() * 10
    weight[:, :, :2] = 0
    noise = HeavyTailed(region(), 1)
    noise.fit(residuals, weight)
    assert noise.degrees.isinf().all()


def smooth_fields(count: int, seed: int) -> Tensor:
    known = torch.Generator().manual_seed(seed)
    raw = torch.randn(count, 2, 16, 24, generator=known)
    first = torch.nn.functional.avg_pool2d(raw[:, :1], 5, stride=1)
    second = 0.8 * first + 0.05 * raw[:, 1:, 2:-2, 2:-2]
    return torch.cat([first, second], dim=1)


def test_smooth_noise_has_the_scales_and_the_correlation_of_outputs_of_the_fields_it_learnt_from() -> None:
    fields = smooth_fields(1500, 0)
    noise = Smooth(region(), 2)
    noise.fit(fields, torch.ones(12, 20))
    found = noise(draws(1500), 2)
    torch.testing.assert_close(found.var(0), torch.ones(2, 12, 20), rtol=0, atol=0.15)
    rings = rings_of((12, 20))
    powers = [ring_sums(cosine_transform(each).square(), rings).mean(0) for each in (found, fields)]
    shares = [each[0] / each[0].sum() for each in powers]
    torch.testing.assert_close(shares[0], shares[1], rtol=0.15, atol=0.003)
    correlations = [float(torch.corrcoef(each.transpose(0, 1).flatten(1))[0, 1]) for each in (found, fields)]
    assert correlations[0] == pytest.approx(correlations[1], abs=0.03)
    beside = [float(torch.corrcoef(torch.stack([e[:, 0, 6, 8], e[:, 0, 6, 9]]))[0, 1]) for e in (found, fields)]
    assert beside[0] == pytest.approx(beside[1], abs=0.06) and beside[0] > 0.6


def test_smooth_noise_survives_an_output_without_error() -> None:
    fields = smooth_fields(20, 0)
    fields[:, 1] = 0
    noise = Smooth(region(), 2)
    noise.fit(fields, torch.ones(12, 20))
    found = noise(draws(300), 2)
    assert torch.isfinite(found).all() and float(found.var(0).mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["smooth", "heavy-tailed"])
def test_what_noise_learnt_is_in_its_state(name: str) -> None:
    noise: Noise = NOISES[name](region(), 2)
    noise.fit(torch.stack([heavy(1, 200, 12, 20).float()] * 2, dim=1), torch.ones(12, 20))
    copy = NOISES[name](region(), 2)
    copy.load_state_dict(noise.state_dict())
    torch.testing.assert_close(copy(draws(2), 2), noise(draws(2), 2))


def test_smooth_noise_is_of_the_outputs_alone() -> None:
    with pytest.raises(InputError, match="one for each"):
        Smooth(region(), 2)(draws(1), 3)
