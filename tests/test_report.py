"""The report: one file, complete, and true to the evaluation."""

import base64
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation import Evaluation, evaluate
from finegrid.evaluation.figures import drawn, spectra
from finegrid.evaluation.maps import maps
from finegrid.evaluation.report import write_report
from finegrid.evaluation.scores import View
from finegrid.evaluation.viewing import median_time
from finegrid.grids import Grid

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def disturbed(fields: xr.Dataset, scale: float) -> xr.Dataset:
    random = np.random.default_rng(int(scale * 100))
    return fields.map(
        lambda field: field + (scale * random.normal(size=field.shape)).astype(np.float32), keep_attrs=True
    )


@pytest.fixture
def evaluation(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> Evaluation:
    truth = toy_fine.where((toy_fine["lat"] < 47) | (toy_fine["lon"] < 10))
    truth.attrs.update(license="CC BY 4.0", institution="<Institute & friends>")
    return evaluate(
        disturbed(toy_fine, 0.2).assign_attrs(title="made by <us>"),
        truth,
        coarse=toy_coarse,
        baselines={"bicubic": disturbed(toy_fine, 0.5)},
        task="Toy <task>",
        variables=["t2m"],
    )


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert not page.open
    return page


def test_report_holds_verdict_table_notes_and_sources(evaluation: Evaluation, tmp_path: Path) -> None:
    page = read(write_report(evaluation, tmp_path / "report.html", provenance={"seed": "42"}))
    assert evaluation.verdict in page.text
    assert page.text.index(evaluation.verdict) < page.text.index("Mean abs. error")
    for expected in ("Toy <task>", "RMSE (K)", "bicubic", "CC BY 4.0", "<Institute & friends>", "made by <us>", "42"):
        assert expected in page.text
    assert all(note in page.text for note in evaluation.notes)
    assert "the time whose error is the median one" in page.text
    value = f"{evaluation.of('t2m', 'rmse')['prediction'].value:.3f}"
    assert value in page.text and len(page.named("strong")) >= len(evaluation.metrics("t2m"))


def test_report_loads_nothing_from_anywhere(evaluation: Evaluation, tmp_path: Path) -> None:
    content = evaluation.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in content and "https://" not in content
    assert not re.search(r"<script|<link|@import|url\(", content)
    page = read(tmp_path / "report.html")
    sources = [image["src"] or "" for image in page.named("img")]
    assert sources and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(image["alt"] for image in page.named("img"))


def test_figures_are_pictures_that_load_nothing_either(evaluation: Evaluation, tmp_path: Path) -> None:
    page = read(evaluation.report(tmp_path / "report.html"))
    sources = [str(image["src"]).partition("base64,")[2] for image in page.named("img")]
    assert len(sources) == 3  # scores, maps, spectra
    for source in sources:
        root = ElementTree.fromstring(base64.b64decode(source))
        assert root.tag.endswith("svg")
        links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_training_curve_is_drawn_from_the_log(evaluation: Evaluation, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [{"step": s, "loss": 1 / (s + 1), "validation_loss": 1.0 if s % 2 else None, "seconds": s} for s in range(6)]
    log.write_text("\n".join(map(json.dumps, rows)) + "\n")
    page = read(write_report(evaluation, tmp_path, training_log=log))
    assert len(page.named("img")) == 4 and "Training" in page.text
    log.write_text("loss 0.3\n")
    with pytest.raises(InputError, match=r"log\.jsonl"):
        write_report(evaluation, tmp_path, training_log=log)


def test_maps_show_coarse_prediction_truth_errors_and_error_over_time(evaluation: Evaluation) -> None:
    figure = maps(evaluation.views[0], "prediction")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    expected = ["coarse field", "prediction", "truth", "error of prediction", "error of bicubic"]
    assert titles == [*expected, "RMSE of prediction, all times"]
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels == ["value (K)", "prediction − truth (K)", "RMSE over time (K)"]


def test_errors_share_one_colour_scale_symmetric_about_zero(evaluation: Evaluation) -> None:
    axes = [each for each in maps(evaluation.views[0], "prediction").axes if each.get_title().startswith("error of")]
    limits = {each.collections[0].get_clim() for each in axes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high < 0


def test_time_shown_has_the_median_error() -> None:
    assert median_time(np.array([5.0, np.nan, 1.0, 3.0, 9.0, 2.0])) == 3


def test_drawing_changes_no_setting_and_opens_no_window(evaluation: Evaluation, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    evaluation.report(tmp_path / "report.html")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.data
def test_rotated_grid_is_drawn_in_its_own_coordinates_with_the_coast_of_spain(data_dir: Path) -> None:
    path = data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc"
    with xr.open_dataset(path, engine="netcdf4") as opened:
        truth = opened[["tas", "crs"]].isel(time=slice(0, 10)).load()
    prediction = truth.assign(tas=(truth["tas"] + 1).assign_attrs(truth["tas"].attrs))
    figure = maps(evaluate(prediction, truth).views[0], "prediction")
    lines = figure.axes[0].collections[1].get_paths()
    # Finisterre, 42.9 N 9.27 W, in the rotated coordinates of the file's own lat(rlat, rlon) and lon(rlat, rlon).
    north, east = truth["lat"].values - 42.9, (truth["lon"].values + 9.27) * np.cos(np.deg2rad(42.9))
    distance = np.hypot(north, east)
    y, x = np.unravel_index(int(distance.argmin()), distance.shape)
    place = truth["rlon"].values[x], truth["rlat"].values[y]
    assert min(np.hypot(*(line.vertices - place).T).min() for line in lines) < 0.5


def test_a_picture_of_spectra_has_room_for_the_best_methods_and_the_most_lifelike_one():
    numbers = np.linspace(0.1, 1.0, 20)
    names = [f"method {index}" for index in range(12)]
    rings = {name: np.full(20, 0.1 + index) for index, name in enumerate(names)}
    rings["method 9"] = np.full(20, 5.01)
    errors = {name: np.full((4, 4), 1.0 + index) for index, name in enumerate(names)}
    plain = {"variable": "pr", "label": "rain", "units": "mm", "time": "", "members": 1, "rival": ""}
    fields = dict.fromkeys(("truth", "prediction", "rival_field", "coarse", "coarse_grid"))
    grid = Grid.of(xr.Dataset({"pr": (("y", "x"), np.zeros((4, 4)))}, {"y": np.arange(40.0, 44), "x": np.arange(4.0)}))
    view = View(
        **plain, **fields, grid=grid, errors=errors, wavenumbers=numbers, spectra={"truth": np.full(20, 5.0), **rings}
    )
    assert drawn(view, "method 0") == ["method 1", "method 2", "method 3", "method 4", "method 5", "method 9"]
    words = [each.get_text() for each in spectra(view, "method 0").axes[0].get_legend().get_texts()]
    assert words == ["truth", "method 0", "method 1", "method 2", "method 3", "method 4", "method 5", "method 9"]
