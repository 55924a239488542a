"""Sunshine at the top of the atmosphere against the almanac, summed over the day, and against published means."""

import functools

import numpy as np
import pytest
import xarray as xr

from finegrid.data.solar import SOLAR_CONSTANT, highest_sunshine

LATITUDES = np.arange(-87.5, 90, 5.0)
DAY, HOUR = 86400.0, 3600.0


def stamps(start: str, count: int, hours: float = 24, calendar: str = "standard") -> xr.DataArray:
    dates = xr.date_range(
        start, periods=count, freq=f"{hours:g}h", calendar=calendar, use_cftime=calendar != "standard"
    )
    return xr.DataArray(dates, dims="time")


def overhead(time: np.ndarray, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Irradiance now, by the low precision formulas of the Astronomical Almanac (0.01 degrees, 1950 to 2050)."""
    days = (time - np.datetime64("2000-01-01T12:00")) / np.timedelta64(1, "D")
    mean_longitude, anomaly = 280.460 + 0.9856474 * days, np.deg2rad(357.528 + 0.9856003 * days)
    ecliptic = np.deg2rad(mean_longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(obliquity) * np.sin(ecliptic))
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    sidereal = np.deg2rad(280.46062 + 360.98564737 * days + longitude)
    phi = np.deg2rad(latitude)
    height = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(sidereal - ascension)
    return SOLAR_CONSTANT / distance**2 * np.maximum(height, 0)


def summed(time: xr.DataArray, seconds: float, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Means (time, y, x) over a step behind each stamp, of 288 moments."""
    moments = (np.arange(288) + 0.5) / 288 * seconds * 1e9
    parts = [overhead(time.values[:, None, None] + np.timedelta64(int(each)), latitude, longitude) for each in moments]
    return np.mean(parts, axis=0)


@functools.cache
def year() -> tuple[np.ndarray, np.ndarray]:
    """Daily means (day, latitude) of 2001: ours, and those that are summed over the day before and after each stamp."""
    time, place = stamps("2001-01-01", 365), (LATITUDES[:, None], np.zeros((len(LATITUDES), 1)))
    days = summed(stamps("2000-12-31", 366), DAY, *place)[..., 0]
    return highest_sunshine(time, *place, seconds=DAY)[..., 0], np.maximum(days[1:], days[:-1])


def test_daily_means_are_those_of_the_almanac_summed_over_the_day():
    ours, expected = year()
    # Spencer's series know the day of the year only, not by how much of a day leap years have shifted it.
    assert np.abs(ours - expected).max() < 0.005 * SOLAR_CONSTANT
    assert np.abs((ours - expected).mean()) < 0.001 * SOLAR_CONSTANT


def test_the_mean_over_the_globe_and_the_year_is_a_quarter_of_the_solar_constant():
    weights = np.cos(np.deg2rad(LATITUDES))
    # The orbit adds 1 / sqrt(1 - e2), 0.014 %; taking the longer of two days adds 0.2 %.
    found = np.average(year()[0].mean(axis=0), weights=weights) / (SOLAR_CONSTANT / 4)
    assert 1.001 < found < 1.003


@pytest.mark.parametrize(
    ("day", "latitude", "expected"),
    [
        # By hand: S0 E / pi at the equator at the equinoxes, S0 E sin(23.44) at the pole in midsummer; E, the inverse
        # of the squared distance, is 1.008 in March, 0.994 in September, 0.967 in June, 1.034 in December.
        ("2001-03-20", 0.0, 1361 * 1.008 / np.pi),
        ("2001-09-22", 0.0, 1361 * 0.994 / np.pi),
        ("2001-06-21", 90.0, 1361 * 0.967 * 0.3978),
        ("2001-12-21", -90.0, 1361 * 1.034 * 0.3978),
        ("2001-12-21", 0.0, 1361 * 1.034 * 0.9175 / np.pi),
        ("2001-12-21", 67.0, 0.0),
        ("2001-06-21", -67.0, 0.0),
    ],
)
def test_daily_means_are_those_worked_out_by_hand(day, latitude, expected):
    found = highest_sunshine(stamps(day, 1), np.array([[latitude]]), np.array([[123.0]]), seconds=DAY)
    assert found.item() == pytest.approx(expected, rel=3e-3, abs=1e-6)


@pytest.mark.parametrize("hours", [1, 3, 6, 18])
@pytest.mark.parametrize("month", ["2001-01-10", "2003-04-01", "2004-07-15", "2002-10-20"])
def test_means_over_hours_are_the_larger_of_those_before_and_after_the_stamp(hours, month):
    time = stamps(month, 24 // hours * 2, hours)
    latitude, longitude = np.meshgrid([-75.0, -30, 0, 20, 50, 69, 86], [-170.0, -60, 10, 150], indexing="ij")
    found = highest_sunshine(time, latitude, longitude, seconds=hours * HOUR)
    after = summed(time, hours * HOUR, latitude, longitude)
    before = summed(time.copy(data=time.values - np.timedelta64(hours, "h")), hours * HOUR, latitude, longitude)
    assert found.shape == (len(time), 7, 4) and found.dtype == np.float32
    assert np.abs(found - np.maximum(before, after)).max() < 0.005 * SOLAR_CONSTANT
    assert (found == 0).any() == (hours < 18 or "-04-" not in month) and found.max() < 1.035 * SOLAR_CONSTANT


def test_a_day_of_hours_has_the_mean_of_the_day():
    time = stamps("2001-05-05", 24 * 60, 1 / 60)
    place = np.array([[52.0]]), np.array([[13.0]])
    minutes = highest_sunshine(time, *place, seconds=60.0)
    assert minutes.mean() == pytest.approx(highest_sunshine(time[:1], *place, seconds=DAY).item(), rel=2e-3)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_years_of_other_lengths_have_the_same_seasons(calendar):
    place = np.array([[60.0]]), np.array([[0.0]])
    year = {"noleap": 365, "360_day": 360}[calendar]
    other = highest_sunshine(stamps("2001-01-01", year, calendar=calendar), *place, seconds=DAY).ravel()
    plain = highest_sunshine(stamps("2001-01-01", 365), *place, seconds=DAY).ravel()
    parts = [np.interp(np.linspace(0, 1, 50), np.linspace(0, 1, len(each)), each) for each in (other, plain)]
    np.testing.assert_allclose(*parts, atol=4)


def test_a_month_may_have_the_sunshine_of_its_longest_day():
    place = LATITUDES[:, None], np.zeros((len(LATITUDES), 1))
    for month in range(1, 13):
        start = stamps(f"2001-{month:02}-01", 1)
        days = highest_sunshine(stamps(f"2001-{month:02}-01", 30), *place, seconds=DAY).max(axis=0)
        found = highest_sunshine(start, *place, seconds=30 * DAY)[0]
        assert (found >= 0.99 * days - 3).all() and (found <= days + 15).all()
