"""Units are checked and converted, not assumed."""

import cftime
import dask.array
import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, convert_units, step_seconds, unit_conversion


# Factors by hand: 1 kg of water on 1 m2 is 1 mm deep; 273.15 by definition; 1 day is 86400 s.
@pytest.mark.parametrize(
    ("source", "target", "scale", "offset"),
    [
        ("K", "degC", 1.0, -273.15),
        ("degC", "K", 1.0, 273.15),
        ("celsius", "Kelvin", 1.0, 273.15),
        ("m", "mm", 1000.0, 0.0),
        ("kg m-2", "mm", 1.0, 0.0),
        ("m of water equivalent", "kg m-2", 1000.0, 0.0),
        ("kg m-2 s-1", "mm/day", 86400.0, 0.0),
        ("kg m**-2 s**-1", "mm d-1", 86400.0, 0.0),
        ("mm h-1", "kg m-2 s-1", 1 / 3600, 0.0),
        ("mm day-1", "mm h-1", 1 / 24, 0.0),
        ("Pa", "hPa", 0.01, 0.0),
        ("mb", "Pa", 100.0, 0.0),
        ("%", "1", 0.01, 0.0),
        ("(0 - 1)", "%", 100.0, 0.0),
        ("m**2 s**-2", "m2/s2", 1.0, 0.0),
        ("kg kg**-1", "g/kg", 1000.0, 0.0),
        ("knot", "m s-1", 1852 / 3600, 0.0),
    ],
)
def test_conversion_of_climate_units(source, target, scale, offset):
    assert unit_conversion(source, target) == pytest.approx((scale, offset), rel=1e-12)


def test_kelvin_and_celsius_differ_by_an_offset_only():
    assert unit_conversion("K", "degC")[0] == 1.0


@pytest.mark.parametrize(
    ("source", "target", "seconds", "scale"),
    [
        ("mm", "mm/day", 86400, 1.0),
        ("m", "kg m-2 s-1", 3600, 1000 / 3600),
        ("kg m-2 s-1", "mm", 86400, 86400.0),
        ("J m**-2", "W m-2", 3600, 1 / 3600),
    ],
)
def test_an_amount_meets_a_flux_by_the_length_of_the_time_step(source, target, seconds, scale):
    assert unit_conversion(source, target, interval_seconds=seconds)[0] == pytest.approx(scale, rel=1e-12)


def test_an_amount_does_not_become_a_flux_without_the_length_of_a_step():
    with pytest.raises(InputError, match="interval_seconds"):
        unit_conversion("mm", "mm/day")


@pytest.mark.parametrize("units", ["foo", "m s-1 (", "Kelvins per"])
def test_unknown_units_are_named(units):
    with pytest.raises(InputError, match="unknown units") as caught:
        unit_conversion(units, "K")
    assert units in str(caught.value)


@pytest.mark.parametrize(("source", "target"), [("K", "m"), ("kg m-2", "kg"), ("1", "K")])
def test_units_of_different_things_do_not_convert(source, target):
    with pytest.raises(InputError, match="different things"):
        unit_conversion(source, target)


def daily(values, units, times=None):
    times = (
        np.datetime64("2001-01-30", "ns") + np.arange(len(values)) * np.timedelta64(1, "D") if times is None else times
    )
    return xr.DataArray(
        np.asarray(values, dtype=np.float32),
        dims="time",
        coords={"time": times},
        attrs={"units": units, "note": "x"},
        name="pr",
    )


def test_the_step_of_daily_sums_is_found_although_winters_have_gaps():
    field = daily(np.ones(10), "mm")
    field = xr.concat([field, field.assign_coords(time=field.time + np.timedelta64(400, "D"))], "time")
    assert step_seconds(field) == 86400
    converted = convert_units(field, "kg m-2 s-1")
    np.testing.assert_allclose(converted, 1 / 86400, rtol=1e-6)
    assert converted.attrs == {"units": "kg m-2 s-1", "note": "x"}
    assert converted.dtype == np.float32


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_monthly_sums_are_divided_by_the_days_of_their_calendar(calendar):
    times = [cftime.datetime(2000, month, 1, calendar=calendar) for month in range(1, 13)]
    lengths = np.array([time.daysinmonth for time in times])
    flux = convert_units(daily(lengths, "mm", times), "mm/day")
    np.testing.assert_allclose(flux, 1.0, rtol=1e-6)


def test_bounds_of_time_tell_the_step_where_there_are_some():
    field = daily([1, 2], "mm")
    hours = np.stack([field.time.values - np.timedelta64(6, "h"), field.time.values], axis=1)
    fields = field.to_dataset().assign_coords(time_bounds=(("time", "bounds"), hours))
    converted = convert_units(field, "mm/hour", interval_seconds=step_seconds(fields))
    np.testing.assert_allclose(converted, [1 / 6, 2 / 6], rtol=1e-6)


def test_a_single_step_needs_its_length():
    with pytest.raises(InputError, match=r"variable 'pr' of a\.nc.*interval_seconds"):
        convert_units(daily([1], "mm"), "mm/day", source="a.nc")
    assert convert_units(daily([24], "mm"), "mm/hour", interval_seconds=86400).item() == pytest.approx(1)


def test_conversion_is_lazy_and_the_identity_is_free():
    field = daily(np.ones(10), "K").chunk(time=5)
    assert isinstance(convert_units(field, "degC").data, dask.array.Array)
    assert convert_units(field, "kelvin").data is field.data


def test_a_field_without_units_says_how_to_set_them():
    with pytest.raises(InputError, match=r"'pr' of a\.nc has no units.*attrs\['units'\]"):
        convert_units(daily([1], "mm").drop_attrs(), "mm", source="a.nc")
