"""Samples by name: where they are looked for, and what is said when they are not there."""

import tomllib
from pathlib import Path

import numpy as np
import pooch
import pytest

from finegrid.conventions import InputError, harmonise
from finegrid.data import samples
from finegrid.grids import Grid

EMBEDDED = [sample.name for sample in samples.catalogue() if sample.where == "embedded"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_samples_open_without_folder_or_network(name, monkeypatch):
    monkeypatch.delenv("FINEGRID_DATA", raising=False)
    with samples.open(name) as fields:
        assert fields.attrs["Conventions"].startswith("CF-")
        assert "public domain" in fields.attrs["license"]
        standard, _ = harmonise(fields, static=name.startswith("elevation"))
        assert Grid.of(standard).size > 5000
        field = next(iter(standard.data_vars.values()))
        assert np.isfinite(field.isel(time=0) if "time" in field.dims else field).all()


def test_only_public_domain_files_ship_with_the_package():
    shipped = {path.name for path in (Path(samples.__file__).parent / "_files").glob("*.nc")}
    assert shipped == {sample.file for sample in samples.catalogue() if sample.where == "embedded"}
    assert all("public domain" in sample.licence for sample in samples.catalogue() if sample.where == "embedded")
    size = sum(path.stat().st_size for path in (Path(samples.__file__).parent / "_files").iterdir())
    assert size < 6e6


def test_names_and_files_are_unique():
    catalogue = samples.catalogue()
    assert len({sample.name for sample in catalogue}) == len({sample.file for sample in catalogue}) == len(catalogue)
    assert {sample.where for sample in catalogue} == {"embedded", "downloadable", "FINEGRID_DATA"}


def test_the_folder_is_looked_into_first(tmp_path, monkeypatch):
    mine = tmp_path / "navy_winds_monthly_global_2p5deg.nc"
    monkeypatch.setenv("FINEGRID_DATA", str(tmp_path))
    assert samples.path("navy-winds").parent.name == "_files"
    mine.write_bytes(b"mine")
    assert samples.path("navy-winds") == mine
    grib = tmp_path / "era5-2mt-2019-03-uk.grib"
    assert not samples.available("era5-uk")
    grib.write_bytes(b"GRIB")
    assert samples.path("era5-uk") == grib and samples.available("era5-uk")


def test_a_file_that_may_not_be_redistributed_is_asked_for_by_name_and_place(monkeypatch):
    monkeypatch.delenv("FINEGRID_DATA", raising=False)
    with pytest.raises(InputError, match=r"'eobs-iberia'.*iberia_eobs_djf_1983_1996.nc.*FINEGRID_DATA.*navy-winds"):
        samples.path("eobs-iberia")


def test_without_a_network_the_message_says_where_to_put_the_file(tmp_path, monkeypatch):
    def refused(**arguments):
        assert arguments["known_hash"] == "sha256:e5e82609f0e28e84822852e15d20c88dbb4b142a30264a7e6f87b9b5c7501df9"
        raise OSError("network is unreachable")

    monkeypatch.setattr(pooch, "retrieve", refused)
    monkeypatch.setenv("FINEGRID_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"(?s)era5-2mt-2019-03-uk.grib.*unreachable.*export FINEGRID_DATA="):
        samples.open("era5-uk")


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(InputError, match=r"'navy_wind'.*elevation-uk.*did you mean 'navy-winds'"):
        samples.path("navy_wind")


@pytest.mark.data
def test_every_file_of_the_folder_is_known_by_name(data_dir: Path):
    assert {path.name for path in data_dir.glob("*.nc")} == {sample.file for sample in samples.catalogue()}
    assert all(samples.path(sample.name).parent == data_dir for sample in samples.catalogue())
    for name in ("era5-uk", "racmo-iberia", "mrms-michigan", "fmi-20160928"):
        with samples.open(name) as fields:
            assert Grid.of(harmonise(fields)[0]).size > 100


def test_the_wheel_takes_the_sample_files_along():
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "src/finegrid" in wheel["packages"] and not wheel.get("exclude")
