"""The synthetic truth is recovered by textbook estimators that know nothing of how it was made."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.synthetic import REGIONS, Climate, gaussian_fields, generate


def spectral_slope(fields: np.ndarray) -> float:
    """Slope of the energy in rings of wavenumber, by least squares between 3 and 20 waves per domain."""
    ny, nx = fields.shape[-2:]
    wavenumber = np.hypot(np.fft.fftfreq(ny)[:, None] * ny, np.fft.fftfreq(nx)[None, :] * nx)
    power = (np.abs(np.fft.fft2(fields)) ** 2).mean(axis=0)
    rings = np.arange(3, 21)
    # Mean density times circumference: the count of grid points in a thin ring is noise.
    energy = [power[np.round(wavenumber) == ring].mean() * ring for ring in rings]
    return -np.polyfit(np.log(rings), np.log(energy), 1)[0]


@pytest.mark.parametrize("slope", [5 / 3, 3.0, 4.0])
def test_the_slope_of_the_spectrum_is_recovered(slope):
    assert spectral_slope(gaussian_fields((64, 64), slope=slope, seed=0, times=200)) == pytest.approx(slope, abs=0.05)


def test_fields_are_isotropic_and_standard_normal():
    fields = gaussian_fields((48, 48), slope=2.0, seed=1, times=400)
    assert fields.mean() == pytest.approx(0, abs=1e-12)
    # Three standard errors: with this slope, the few longest waves hold most of the variance.
    assert fields.var() == pytest.approx(1, abs=0.09)
    assert gaussian_fields((48, 48), slope=-1.0, seed=1, times=100).var() == pytest.approx(1, abs=0.01)
    along_y, along_x = (float((np.diff(fields, axis=axis) ** 2).mean()) for axis in (1, 2))
    assert along_y == pytest.approx(along_x, rel=0.05)
    oblong = gaussian_fields((32, 96), slope=2.0, seed=2, times=400)
    along_y, along_x = (float((np.diff(oblong, axis=axis) ** 2).mean()) for axis in (1, 2))
    assert along_y == pytest.approx(along_x, rel=0.1)  # a long domain holds longer waves along x


@pytest.mark.parametrize("persistence", [0.0, 0.6, 0.9])
def test_persistence_is_the_correlation_of_successive_days_from_the_first_on(persistence):
    fields = gaussian_fields((32, 32), slope=1.0, seed=3, times=600, persistence=persistence)
    correlation = float((fields[1:] * fields[:-1]).mean() / (fields**2).mean())
    assert correlation == pytest.approx(persistence, abs=0.02)
    assert (fields[:5] ** 2).mean() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("region", REGIONS)
def test_the_climate_of_every_region_is_recovered(region):
    climate = replace(REGIONS[region], persistence=0.0)
    fields = generate(climate, shape=(48, 48), times=400, seed=4)
    mean, elevation = fields["tas"].mean("time").values, fields["orog"].values
    lapse_rate, sea_level = np.polyfit(elevation.ravel(), mean.astype(float).ravel(), 1)
    # Sampling error of a time mean (variability / sqrt(400)) over the range of the terrain.
    error = 3 * climate.variability / np.sqrt(400) / elevation.std()
    assert lapse_rate == pytest.approx(climate.lapse_rate, abs=error)
    assert sea_level == pytest.approx(climate.mean_temperature, abs=error * elevation.mean() + 0.05)
    rain = fields["pr"].values
    assert (rain > 0).mean() == pytest.approx(climate.wet_fraction, rel=0.08)
    amount = np.log(rain[rain > 0])
    assert amount.mean() == pytest.approx(climate.log_amount, abs=0.1)
    assert amount.std() == pytest.approx(climate.log_spread, rel=0.05)


def test_noise_and_large_scale_have_the_stated_size_and_shape():
    climate = Climate(relief=0.0, persistence=0.0, noise=0.5, temperature_slope=4.0)
    tas = generate(climate, shape=(64, 64), times=200, seed=5)["tas"].values.astype(float)
    assert spectral_slope(tas - tas.mean()) < 3.9  # the white noise flattens the tail
    roughest = (np.abs(np.fft.fft2(tas)) ** 2).mean(axis=0)[32, 32] / 64**2
    assert roughest == pytest.approx(0.5**2, rel=0.25)
    assert tas.var() == pytest.approx(3.0**2 + 0.5**2, rel=0.05)


def test_regions_differ_in_what_a_model_must_learn():
    assert len({(each.lapse_rate, each.mean_temperature, each.wet_fraction) for each in REGIONS.values()}) == len(
        REGIONS
    )


def test_the_same_seed_gives_the_same_weather_and_another_seed_another():
    first, second, other = (generate(shape=(8, 12), times=5, seed=seed) for seed in (6, 6, 7))
    xr.testing.assert_identical(first, second)
    for name in ("tas", "pr", "orog"):
        assert not np.allclose(first[name], other[name])
    assert abs(np.corrcoef(first["orog"].values.ravel(), first["pr"][0].values.ravel())[0, 1]) < 0.99


def test_datasets_carry_their_truth_and_cf_names():
    fields = generate(Climate(lapse_rate=-9e-3), shape=(8, 12), times=5, spacing=0.5)
    assert fields.attrs["truth_lapse_rate"] == -9e-3
    assert fields["tas"].dims == ("time", "lat", "lon") and fields["orog"].dims == ("lat", "lon")
    assert fields["tas"].attrs["units"] == "K" and fields["pr"].attrs["units"] == "mm day-1"
    np.testing.assert_allclose(np.diff(fields["lat"]), 0.5)
    assert float(fields["pr"].min()) == 0 and np.isfinite(fields["pr"]).all()


def test_impossible_climates_are_refused():
    with pytest.raises(InputError, match=r"wet_fraction=1.2.*expected 0 < wet_fraction < 1"):
        Climate(wet_fraction=1.2)
