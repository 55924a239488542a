"""CORDEX ML-Bench: daily maximum temperature and precipitation of a regional model from predictors 16 x 16 cells wide.

    <domain>_domain/train/<experiment>/predictors/<GCM>_<period>.nc        u, v, q, t, z at 850, 700 and 500 hPa
    <domain>_domain/train/<experiment>/predictors/Static_fields.nc         orog, on the fine cells (or static.nc)
    <domain>_domain/train/<experiment>/target/pr_tasmax_<GCM>_<period>.nc  pr and tasmax, 128 x 128 cells
    <domain>_domain/test/<period>/predictors/<perfect or imperfect>/<GCM>_<period>.nc

with the domains ALPS, NZ and SA; the experiments ESD_pseudo_reality (1961-1980) and Emulator_hist_future (1961-1980 and
2080-2099); and the test periods historical (1981-2000), mid_century (2041-2060) and end_century (2080-2099). The truth
of the tests is not published. ALPS lies on a Lambert plane, with latitudes and longitudes of every cell; the others are
on latitudes and longitudes. Predictors get the names of CMIP: ta850, ua850, va850, hus850, zg850, ...

The layout is that of the repository WCRP-CORDEX/ml-benchmark of June 2026 and its record 17957264 on Zenodo. Assumed
where a file does not say: mm day-1 for pr (the template of SA says mm/day) and K for tasmax. A training experiment
spelt `ESD_pseudo-reality`, as in the README of the data, is found as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.layouts.base import Layout, Opened, Word, common_times, worded
from finegrid.data.layouts.cordex_submission import submit
from finegrid.data.open import open_fields

EXPERIMENTS = ("ESD_pseudo_reality", "Emulator_hist_future")
_KINDS = {
    "t": ("ta", "K", "air_temperature"),
    "u": ("ua", "m s-1", "eastward_wind"),
    "v": ("va", "m s-1", "northward_wind"),
    "q": ("hus", "kg kg-1", "specific_humidity"),
    "z": ("zg", "m", "geopotential_height"),
}
PREDICTORS = {
    f"{own}_{level}": Word(f"{name}{level}", units, standard)
    for (own, (name, units, standard)), level in product(_KINDS.items(), (850, 700, 500))
}
TARGETS = {
    "pr": Word("pr", "mm day-1", "lwe_precipitation_rate"),
    "tasmax": Word("tasmax", "K", "air_temperature"),
}
STATIC = {"orog": Word("orog", "m", "surface_altitude")}

_ENDING = "_domain"
_FILES = "folders <domain>_domain (ALPS, NZ, SA) with train/<experiment>/predictors and train/<experiment>/target"


def matches(folder: Path) -> bool:
    """Whether there is a domain with a training experiment in it."""
    return bool(domains(folder))


def domains(folder: Path) -> dict[str, Path]:
    """Folders of the domains by their names, at most two levels down; a folder of one domain is that domain."""
    found = {}
    for path in (folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        if path.name.endswith(_ENDING) and any(_experiments(path)):
            found[path.name.removesuffix(_ENDING)] = path
    return found


def read(folder: Path, *, domain: str | None = None, experiment: str | None = None) -> Opened:
    """One training experiment in one domain, and the predictors of all tests there.

    Args:
        folder: of all domains, or of one.
        domain: ALPS, NZ or SA; the only one by default.
        experiment: ESD_pseudo_reality or Emulator_hist_future; the only one by default.

    Raises:
        InputError: when a domain, an experiment or a file is missing.
    """
    known = domains(folder)
    domain = _chosen(domain, tuple(known), "domain", folder)
    trained = dict(_experiments(known[domain]))
    experiment = _chosen(experiment, tuple(trained), "experiment", known[domain])
    predictors = trained[experiment] / "predictors"
    coarse = worded(open_fields(_only(predictors)), PREDICTORS, source=str(_only(predictors)))
    target = trained[experiment] / "target" / f"pr_tasmax_{_only(predictors).name}"
    if not target.exists():
        raise InputError(f"{target} does not exist; expected the target of {_only(predictors).name}; download it")
    fine = worded(open_fields(target), TARGETS, source=str(target))
    coarse, fine = common_times(coarse, fine, str(trained[experiment]))
    return Opened(
        LAYOUT.name,
        coarse,
        fine,
        _static(predictors),
        {"train": np.arange(coarse.sizes["time"])},
        tests=dict(_tests(known[domain])),
        choices={"domain": tuple(known), "experiment": tuple(trained)},
        chosen={"domain": domain, "experiment": experiment},
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def offers(folder: Path, **chosen: str) -> dict[str, tuple[str, ...]]:
    """The domains of a folder, and the experiments of one of them: the chosen one, or the first."""
    known = domains(folder)
    domain = chosen.get("domain", next(iter(known), ""))
    experiments = tuple(dict(_experiments(known[domain]))) if domain in known else ()
    return {"domain": tuple(known), "experiment": experiments}


def _experiments(domain: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((domain / "train").glob("*")):
        name = path.name.replace("pseudo-reality", "pseudo_reality")
        if name in EXPERIMENTS and (path / "predictors").is_dir():
            yield name, path


def _tests(domain: Path) -> Iterator[tuple[str, xr.Dataset]]:
    """Predictors of the tests as "historical/perfect/ACCESS-CM2_1981-2000"."""
    for path in sorted((domain / "test").glob("*/predictors/*/*.nc")):
        name = f"{path.parents[2].name}/{path.parent.name}/{path.stem}"
        yield name, worded(open_fields(path), PREDICTORS, source=str(path))


def _static(predictors: Path) -> tuple[xr.Dataset, ...]:
    for name in ("Static_fields.nc", "static.nc"):
        if (predictors / name).exists():
            return (worded(open_fields(predictors / name), STATIC, source=str(predictors / name)),)
    return ()


def _only(folder: Path) -> Path:
    found = [path for path in sorted(folder.glob("*.nc")) if not path.name.lower().startswith("static")]
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{folder} holds {there}; expected one file <GCM>_<period>.nc; download it, or move the others"
        )
    return found[0]


def _chosen(wanted: str | None, known: tuple[str, ...], option: str, folder: Path) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted not in known:
        raise InputError(
            f"got the {option} {wanted!r} of {folder}; expected one of {', '.join(known)}; choose one with "
            f"{option}=... (--option)"
        )
    return wanted


LAYOUT = Layout(
    name="cordex-ml-bench",
    title="CORDEX ML-Bench: daily tasmax and pr of a regional model over ALPS, NZ or SA",
    files=_FILES,
    citation="CORDEX ML-Bench, doi:10.5281/zenodo.17957264, github.com/WCRP-CORDEX/ml-benchmark",
    licence="code MIT; of the data see the record on Zenodo, and the terms of the models they come from",
    finds=matches,
    reads=read,
    submits=submit,
    offers=offers,
)
