"""A variable by any of its names: its own, its CF standard name, or what other archives call it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import xarray as xr

from finegrid.conventions.errors import InputError, provenance

# CMIP, ERA5 (short name, NetCDF name), WRF and station archives; the CF standard names come first.
_ALIASES: tuple[tuple[str, ...], ...] = (
    ("air_temperature", "tas", "t2m", "2t", "T2", "t2", "tmp2m", "2m_temperature", "TMP_2maboveground"),
    ("tasmax", "mx2t", "tx", "tmax"),
    ("tasmin", "mn2t", "tn", "tmin"),
    ("air_temperature", "ta", "t", "T", "temperature", "temp"),
    (
        "precipitation_flux", "precipitation_amount", "lwe_thickness_of_precipitation_amount", "lwe_precipitation_rate",
        "rainfall_rate", "rainfall_flux", "pr", "tp", "mtpr", "prate", "precip", "precipitation", "total_precipitation",
        "rr", "rain", "rain_rate", "RAINNC", "APCP",
    ),
    ("eastward_wind", "uas", "u10", "10u", "U10", "10m_u_component_of_wind"),
    ("northward_wind", "vas", "v10", "10v", "V10", "10m_v_component_of_wind"),
    ("eastward_wind", "ua", "u", "U"),
    ("northward_wind", "va", "v", "V"),
    ("wind_speed", "sfcWind", "ws10", "si10", "10si"),
    ("rainfall_flux", "rainfall_amount", "prra", "rain", "rainfall"),
    ("snowfall_flux", "snowfall_amount", "prsn", "sf", "snowfall", "snow"),
    ("cloud_area_fraction", "clt", "tcc", "cloud_cover"),
    ("sea_ice_area_fraction", "siconc", "sic", "ci"),
    ("toa_incoming_shortwave_flux", "rsdt", "tisr"),
    ("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level", "psl", "msl", "slp", "prmsl", "PRMSL"),
    ("surface_air_pressure", "ps", "sp", "PSFC"),
    ("specific_humidity", "huss", "q2m", "2m_specific_humidity"),
    ("specific_humidity", "hus", "q", "QVAPOR"),
    ("relative_humidity", "hurs", "hur", "rh", "r", "rh2m"),
    ("geopotential_height", "zg", "gh", "hgt"),
    ("geopotential", "z", "phi"),
    ("surface_downwelling_shortwave_flux_in_air", "rsds", "ssrd", "msdwswrf", "SWDOWN"),
    ("surface_altitude", "orog", "elevation", "topo", "altitude", "height_above_sea", "HGT", "dem"),
    ("land_binary_mask", "land_area_fraction", "lsm", "sftlf", "mask", "LANDMASK"),
    ("sea_surface_temperature", "tos", "sst"),
)  # fmt: skip


def standard_name_of(name: str, attributes: Mapping[str, Any]) -> str:
    """The CF standard name of a variable, from its attributes or its usual name; empty where neither says."""
    stated = str(attributes.get("standard_name", ""))
    base = name.partition("@")[0]
    return stated or next((group[0] for group in _ALIASES if base in group), "")


def alike(name: str, other: str) -> bool:
    """Whether two names usually mean the same variable."""
    return name == other or any(name in group and other in group for group in _ALIASES)


def find_variable(fields: xr.Dataset, wanted: str, *, source: str = "input") -> str:
    """The name in `fields` of the variable that the user asks for; a level (`ta@850`) is kept.

    Raises:
        InputError: lists the variables and the nearest, or those that fit equally well.
    """
    if wanted in fields.data_vars:
        return wanted
    base, at, level = wanted.partition("@")
    if f"{base}{level}" in fields.data_vars:  # ta850
        return f"{base}{level}"
    names = [str(name) for name in fields.data_vars if str(name).partition("@")[1:] == (at, level)]
    named = {name: name.partition("@")[0] for name in names}
    standard = {name: str(fields[name].attrs.get("standard_name", "")) for name in names}
    # Own names tell 2 m temperature from that at 850 hPa, where the standard name does not: they go first.
    alike = next((group for group in _ALIASES if base in group), (base,))
    for found in (
        [name for name in names if standard[name] == base],
        [name for name in names if named[name] in alike],
        [name for name in names if standard[name] in alike],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(wanted, found, provenance(fields, source))
    raise _unknown(fields, wanted, provenance(fields, source))


def _ambiguous(wanted: str, found: list[str], source: str) -> InputError:
    return InputError(
        f"'{wanted}' fits {len(found)} variables of {source}: {', '.join(found)}; expected one. Ask for one by its name"
    )


def _unknown(fields: xr.Dataset, wanted: str, source: str) -> InputError:
    names = [str(name) for name in fields.data_vars]
    close = get_close_matches(wanted, names, n=1, cutoff=0.5)
    nearest = f" Did you mean '{close[0]}'?" if close else ""
    return InputError(
        f"there is no variable '{wanted}' in {source}; its variables are {', '.join(names) or 'none'}. Ask "
        "for one of these, or rename it with "
        f"fields.rename({{'{names[0] if names else '...'}': '{wanted}'}}).{nearest}"
    )
