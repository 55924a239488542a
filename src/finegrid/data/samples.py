"""Sample data by name: for the first try, the tests and the benchmarks.

A name is looked up in three places: the folder named by the environment variable FINEGRID_DATA, the files
that ship with the package (public domain only), and the cache of downloads. What may not be redistributed is
never shipped: it is downloaded by the user from its public source, or has to lie in FINEGRID_DATA.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from finegrid.conventions import InputError

FOLDER_VARIABLE = "FINEGRID_DATA"

_US = "US Government work, public domain"
_PRIVATE = "terms unclear, not redistributed"


@dataclass(frozen=True)
class Download:
    """A public file on the web; `sha256` pins its content."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Sample:
    """A sample data set.

    Attributes:
        name: name to open it by.
        description: variables, resolution, period.
        licence: terms of use.
        where: "embedded", "downloadable" or "FINEGRID_DATA": how everyone can have it.
        file: name of the file in FINEGRID_DATA.
        download: where it is downloaded from, if it is.
    """

    name: str
    description: str
    licence: str
    where: str
    file: str
    download: Download | None = None


_ERA5 = Download(
    # The newest commit of the repository on 18 February 2025; the file has not changed since July 2019.
    "https://github.com/pydata/xarray-data/raw/58de68cb45bcbd1557df11a92827758495481b4e/era5-2mt-2019-03-uk.grib",
    "e5e82609f0e28e84822852e15d20c88dbb4b142a30264a7e6f87b9b5c7501df9",
)


def _embedded(name: str, description: str, file: str) -> Sample:
    return Sample(name, description, _US, "embedded", file)


def _private(name: str, description: str, licence: str, file: str) -> Sample:
    return Sample(name, description, licence, FOLDER_VARIABLE, file)


def _radar(region: str) -> Sample:
    description = f"rain rate, radar (MRMS), {region}, 0.01 degree, 36 frames of 2 minutes, 10 June 2019"
    return _private(f"mrms-{region}", description, _US, f"radar_mrms_{region}_20190610.nc")


_SAMPLES = (
    _embedded(
        "navy-winds",
        "near-surface wind, global, 2.5 degree, months 1982-1992",
        "navy_winds_monthly_global_2p5deg.nc",
    ),
    _embedded("elevation-global", "elevation, global, 1 degree", "topo_etopo60_global.nc"),
    _embedded("elevation-uk", "elevation, UK and Ireland, 5 arc minutes", "topo_etopo5_uk.nc"),
    _embedded("elevation-europe", "elevation, Europe, 5 arc minutes", "topo_etopo5_europe.nc"),
    _embedded("elevation-conus", "elevation, United States, 5 arc minutes", "topo_etopo5_conus.nc"),
    _embedded(
        "elevation-seaustralia",
        "elevation, south-east Australia, 5 arc minutes",
        "topo_etopo5_seaustralia.nc",
    ),
    Sample(
        "era5-uk",
        "2 m temperature (ERA5), UK and Ireland, 0.25 degree, hours of March 2019",
        "Copernicus licence, attribution: contains modified Copernicus Climate Change Service data 2019",
        "downloadable",
        "era5_uk_t2m_201903.nc",
        _ERA5,
    ),
    _private(
        "racmo-iberia",
        "tas, pr of a regional model (CORDEX RACMO22E), 0.44 degree rotated pole, winter days 1983-2002",
        _PRIVATE,
        "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc",
    ),
    _private(
        "cnrm-iberia",
        "tas, pr, psl, ta850, hus850 of a global model (CNRM-CM5), 1.4 degree, winter days 1983-2002",
        _PRIVATE,
        "iberia_cmip5_cnrmcm5_historical_djf_1983_2002.nc",
    ),
    _private(
        "ncep-iberia",
        "psl, ta850, hus850 of a reanalysis (NCEP), 2.5 degree, winter days 1983-2002",
        "US Government data",
        "iberia_ncep_2p5deg_djf_1983_2002.nc",
    ),
    _private(
        "ncep-gauss-iberia",
        "tas, pr of a reanalysis (NCEP), Gaussian grid T62, winter days 1983-2002",
        "US Government data",
        "iberia_ncep_gauss_djf_1983_2002.nc",
    ),
    _private(
        "eobs-iberia",
        "observed tas, pr over land (E-OBS), 0.5 degree, winter days 1983-1996",
        "non-commercial research, not redistributed",
        "iberia_eobs_djf_1983_1996.nc",
    ),
    _private(
        "cfsv2-iberia",
        "pr of a seasonal hindcast (CFSv2), 9 members, 0.94 degree, winter days 1983-2002",
        "US Government data",
        "iberia_cfsv2_pr_djf_1983_2002.nc",
    ),
    _private(
        "inca-graz",
        "t2m, hurs, u10, v10, psl, rsds analysis (INCA), 1 km projected, hours of May 2012",
        _PRIVATE,
        "inca_graz_hourly_201205.nc",
    ),
    *(_radar(region) for region in ("michigan", "lakesuperior", "ohiovalley", "carolinas", "alabama", "florida")),
    _private(
        "fmi-20160928",
        "rain rate, radar, Finland, 1 km projected, 40 frames",
        _PRIVATE,
        "radar_fmi_20160928.nc",
    ),
    _private(
        "fmi-20170509",
        "rain rate, radar, Finland, 1 km projected, 40 frames",
        _PRIVATE,
        "radar_fmi_20170509.nc",
    ),
    _private(
        "knmi-20100826",
        "rain rate, radar, Netherlands, 1 km projected, 92 frames",
        _PRIVATE,
        "radar_knmi_20100826.nc",
    ),
)


def catalogue() -> tuple[Sample, ...]:
    """All samples, whether or not they are on this machine."""
    return _SAMPLES


def available(name: str) -> bool:
    """Whether a sample can be opened here and now without the network."""
    sample = _find(name)
    return _in_folder(sample) is not None or sample.where == "embedded"


def path(name: str) -> Path:
    """File of a sample, downloaded first when it has to be.

    Raises: InputError: for an unknown name, and for a file that is not here and cannot be had; it says where
    to put it.
    """
    sample = _find(name)
    found = _in_folder(sample)
    if found is not None:
        return found
    if sample.where == "embedded":
        return Path(__file__).with_name("_files") / sample.file
    if sample.download is not None:
        return _downloaded(sample, sample.download)
    raise InputError(
        f"got the sample {name!r}, which is not on this machine and does not ship with finegrid "
        f"({sample.licence}); expected the file {sample.file} in the folder that {FOLDER_VARIABLE} names "
        f"(now: {os.environ.get(FOLDER_VARIABLE) or 'not set'}); put it there, or choose one of "
        f"{', '.join(other.name for other in _SAMPLES if available(other.name))}"
    )


def open(name: str) -> xr.Dataset:
    """A sample as it stands in its file: the file's own names, values lazy."""
    from finegrid.data.open import open_fields

    return open_fields(path(name))


def _find(name: str) -> Sample:
    for sample in _SAMPLES:
        if sample.name == name:
            return sample
    names = [sample.name for sample in _SAMPLES]
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    raise InputError(f"got the sample name {name!r}; expected one of {', '.join(names)}; did you mean {nearest!r}?")


def _in_folder(sample: Sample) -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    names = [sample.file] if sample.download is None else [sample.file, sample.download.file]
    return next((Path(folder) / file for file in names if (Path(folder) / file).is_file()), None)


def _downloaded(sample: Sample, download: Download) -> Path:
    import pooch

    try:
        file = pooch.retrieve(
            url=download.url,
            known_hash=f"sha256:{download.sha256}",
            fname=download.file,
            path=pooch.os_cache("finegrid"),
        )
    except (OSError, ValueError) as error:  # no network, refused, or other content than the pinned one
        raise InputError(
            f"got no {download.file} for the sample {sample.name!r} from {download.url} ({error}); "
            f"expected a network connection; or put {download.file} into a folder and name the folder: "
            f"export {FOLDER_VARIABLE}=/that/folder"
        ) from error
    return Path(file)
