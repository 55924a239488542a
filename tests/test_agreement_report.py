"""Maps of any grid in a plane, and what a report says of the agreement of coarse and fine data."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr

from finegrid.conventions import harmonise
from finegrid.data import open_fields, pair
from finegrid.evaluation import evaluate
from finegrid.evaluation.maps import coastlines, maps
from finegrid.evaluation.planes import Plane
from finegrid.evaluation.report import write_report
from finegrid.grids import Grid, Operator
from finegrid.grids.geometry import EARTH_RADIUS
from finegrid.pipeline.agreeing import adjustment_for, agreements_of, constraint_for
from test_any_grids import GLOBAL, POLAR, cells
from test_any_pair import fields_on
from test_curvilinear import plane_file
from test_grids import LAMBERT, ROTATED_POLE
from test_report import read


def curvilinear(grid: Grid, *, bounds: bool = True) -> Grid:
    return Grid.of(harmonise(plane_file(grid, bounds=bounds))[0])


GRIDS = {
    "latitudes": cells(9, 12, 0.5, 43, 6),
    "date line": cells(8, 12, 1.0, 48, 174),
    "to 360": cells(8, 12, 1.0, 48, 350),
    "globe": GLOBAL["gaussian"],
    "rotated": cells(9, 12, 0.44, -6, -14, ROTATED_POLE),
    "lambert": cells(9, 12, 5e4, -2e5, -3e5, LAMBERT),
    "polar": cells(10, 10, 2e5, -1e6, -1e6, POLAR),
    "curvilinear": curvilinear(cells(9, 12, 0.44, -6, -14, ROTATED_POLE)),
    "curvilinear without vertices": curvilinear(cells(9, 12, 0.44, -6, -14, ROTATED_POLE), bounds=False),
    "curvilinear around the pole": curvilinear(cells(10, 10, 2e5, -1e6, -1e6, POLAR)),
    "curvilinear across the date line": curvilinear(
        cells(9, 12, 5e4, -2e5, -3e5, {**LAMBERT, "longitude_of_central_meridian": 180.0})
    ),
}


def inside(x: np.ndarray, y: np.ndarray, limits: tuple[float, float, float, float]) -> np.ndarray:
    west, east, south, north = limits
    hair = 1e-9 * max(map(abs, limits))
    return (x >= west - hair) & (x <= east + hair) & (y >= south - hair) & (y <= north + hair)


@pytest.mark.parametrize("name", GRIDS)
def test_a_plane_shows_every_cell_of_its_domain_around_its_centre(name):
    domain = GRIDS[name]
    plane = Plane(domain)
    x, y = (np.broadcast_to(each, domain.shape) for each in np.broadcast_arrays(*_meshed(*plane.centres)))
    latitude, longitude = domain.centres
    # 360 degrees further is the same place.
    for turn in (-360, 0, 360):
        points = plane.points(np.stack([longitude.ravel() + turn, latitude.ravel()], axis=-1))
        np.testing.assert_allclose(points, np.stack([x.ravel(), y.ravel()], axis=-1), atol=1e-6 * np.ptp(x))
    sides = np.broadcast_arrays(*_meshed(*plane.own_mesh))
    assert all(each.shape == (domain.shape[0] + 1, domain.shape[1] + 1) for each in sides)
    corners = [[each[:-1, :-1], each[:-1, 1:], each[1:, 1:], each[1:, :-1]] for each in sides]
    low, high = (np.array([bound(each, axis=0) for each in corners]) for bound in (np.min, np.max))
    assert (low[0] < x).all() and (x < high[0]).all() and (low[1] < y).all() and (y < high[1]).all()
    assert inside(*sides, plane.limits).all() and 0.3 <= plane.height_over_width <= 1.6


def _rings(ny: int, nx: int) -> list[list[tuple[int, int]]]:
    return [[(j, i), (j, i + 1), (j + 1, i + 1), (j + 1, i)] for j in range(ny) for i in range(nx)]


def _meshed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (x, y) if x.ndim == 2 else tuple(np.meshgrid(x, y))


@pytest.mark.parametrize("name", [name for name in GRIDS if name.startswith("curvilinear")])
def test_a_curvilinear_domain_is_drawn_with_the_areas_of_its_cells(name):
    domain = GRIDS[name]
    x, y = Plane(domain).own_mesh
    ring = [(each[:-1, :-1], each[:-1, 1:], each[1:, 1:], each[1:, :-1]) for each in (x, y)]
    area = sum(ring[0][i] * ring[1][(i + 1) % 4] - ring[0][(i + 1) % 4] * ring[1][i] for i in range(4)) / 2
    np.testing.assert_allclose(np.abs(area), domain.area, rtol=2e-3)
    assert np.hypot(x, y).max() < 0.4 * EARTH_RADIUS


@pytest.mark.parametrize("name", GRIDS)
def test_other_cells_are_drawn_where_they_lie(name):
    domain, plane = GRIDS[name], Plane(GRIDS[name])
    latitude, longitude = domain.centres
    other = cells(4, 5, 2.0, np.floor(latitude[1, 1]) - 4, np.floor(longitude[1, 1]) - 5)
    x, y = plane.mesh(other)
    if other.aligned(domain):
        assert x is other.x_edges and y is other.y_edges
        return
    # Cells of the domain that lie within one of the other cells are drawn within its corners, too.
    boxes = [shapely.Polygon([(x[j, i], y[j, i]) for j, i in around]) for around in _rings(*other.shape)]
    longitude = other.x_edges[0] + (longitude - other.x_edges[0]) % 360
    rows, columns = np.searchsorted(other.y_edges, latitude) - 1, np.searchsorted(other.x_edges, longitude) - 1
    within = (rows >= 0) & (rows < 4) & (columns >= 0) & (columns < 5)
    places = plane.points(np.stack([longitude[within], latitude[within]], axis=-1))
    found = [box.buffer(0.05 * np.sqrt(box.area)) for box in boxes]
    assert all(
        found[row * 5 + column].contains(shapely.Point(place))
        for row, column, place in zip(rows[within], columns[within], places, strict=True)
    )
    assert within.sum() >= 3


@pytest.mark.parametrize("name", GRIDS)
def test_maps_are_drawn_on_any_grid_without_a_warning_and_with_the_coast(name, tmp_path: Path):
    fine = GRIDS[name]
    truth = fields_on(fine, 12)[["tas"]]
    prediction = truth + np.float32(0.5)
    prediction["tas"].attrs = truth["tas"].attrs
    coarse = None if fine.shape[0] % 3 or fine.shape[1] % 3 else fields_on(fine.coarsened(3), 12)[["tas"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view = evaluate(prediction, truth, coarse=coarse).views[0]
        figure = maps(view, "prediction")
        figure.savefig(tmp_path / "maps.png", dpi=40)
    axes = figure.axes[0]
    plane = Plane(view.grid)
    west, east, south, north = plane.limits
    assert axes.get_xlim() == pytest.approx((west, east)) and axes.get_ylim() == pytest.approx((south, north))
    drawn = axes.collections[0].get_array()
    assert np.ma.count(drawn) == drawn.size
    coast = any(inside(*line.T, plane.limits).any() for line in coastlines(plane).get_segments())
    assert coast == (name != "curvilinear across the date line")  # the middle of the Pacific


def biased_pair(shift: float, noise: float) -> tuple[xr.Dataset, xr.Dataset]:
    fine = fields_on(cells(8, 12, 0.5, 43, 6), 120)[["tas"]]
    coarse = Operator.conservative(Grid.of(fine), cells(4, 6, 1.0, 43, 6))(fine)
    wrong = coarse.tas + shift + np.random.default_rng(5).normal(0, noise, coarse.tas.shape).astype(np.float32)
    return coarse.assign(tas=wrong.astype(np.float32).assign_attrs(coarse.tas.attrs)), fine


@pytest.mark.parametrize(
    ("shift", "noise", "verdict", "words", "adjust", "constraint"),
    [
        (0.0, 0.0, "same", "A hard constraint is right", None, "add"),
        (1.5, 0.3, "biased", "--adjust natural", "shift", "add"),
        (-3.0, 6.0, "scattered", "name: relaxed", "shift", "relaxed"),
    ],
)
def test_the_report_has_the_bias_its_interval_and_the_advice(
    shift, noise, verdict, words, adjust, constraint, tmp_path
):
    coarse, fine = biased_pair(shift, noise)
    matched = pair(coarse, fine)
    (found,) = agreements_of(matched)
    assert found.verdict == verdict
    assert (adjustment_for(matched, [found]) or {}).get("name") == adjust
    assert constraint_for(matched, [found])["name"] == constraint
    evaluation = evaluate(fine, fine, coarse=coarse, task="test")
    page = read(write_report(evaluation, tmp_path / "report.html", agreements=[found]))
    assert "Do coarse and fine data agree?" in page.text and words in page.text
    assert all(sentence.replace("`", "") in page.text for sentence in found.advice)
    # By hand: fine minus coarse is minus what was added.
    season = found.overall
    area = matched.inputs.conserved_grid.area
    difference = (matched.operator(matched.true_fine).tas - matched.given.tas).mean("time").values
    assert season.bias == pytest.approx(np.average(difference, weights=area), abs=1e-5)
    if verdict == "biased":
        (told,) = re.findall(
            r"data of tas: −([\d.]+)\sK on average \(95 % interval −([\d.]+) to −([\d.]+)\)", page.text
        )
        assert list(map(float, told)) == pytest.approx([-season.bias, -season.low, -season.high], abs=1e-3)
        assert season.low < season.bias < season.high < -1 and season.low < -shift + 0.05 < season.high + 0.1
    plain = read(write_report(evaluation, tmp_path / "plain.html"))
    assert "Do coarse and fine data agree?" not in plain.text
    assert len(page.named("img")) == len(plain.named("img")) + 1


def test_only_the_agreement_of_a_variable_stands_in_its_section(tmp_path: Path):
    fine = fields_on(cells(8, 12, 0.5, 43, 6), 60)
    coarse = fields_on(cells(4, 6, 1.0, 43, 6), 60, seed=1)
    found = agreements_of(pair(coarse, fine))
    assert [each.name for each in found] == ["tas", "pr"]
    evaluation = evaluate(fine, fine, coarse=coarse, variables=["pr"])
    page = read(write_report(evaluation, tmp_path / "report.html", agreements=found))
    assert page.text.count("Do coarse and fine data agree?") == 1
    assert "data of pr" in page.text and "data of tas" not in page.text


@pytest.mark.parametrize("lacking", ["times", "cells"])
def test_a_pair_that_cannot_be_compared_has_no_agreement(lacking):
    coarse, fine = biased_pair(0.0, 0.0)
    if lacking == "times":
        coarse, fine = coarse.isel(time=slice(0, 7)), fine.isel(time=slice(0, 7))
    else:
        coarse = fields_on(cells(2, 2, 10.0, 33, 0.5), 120)[["tas"]]
    assert agreements_of(pair(coarse, fine)) == ()


@pytest.mark.data
def test_the_report_of_observations_tells_that_the_reanalysis_is_biased(data_dir: Path, tmp_path: Path):
    coarse, fine = (
        open_fields(data_dir / f"iberia_{name}.nc").isel(time=slice(0, 400))[["tas"]].load()
        for name in ("ncep_gauss_djf_1983_2002", "eobs_djf_1983_1996")
    )
    found = agreements_of(pair(coarse, fine))
    evaluation = evaluate(fine, fine, coarse=coarse)
    page = read(write_report(evaluation, tmp_path / "report.html", agreements=found))
    assert found[0].verdict == "biased"
    assert "Only up to a bias" in page.text and "adjust the bias first" in page.text
