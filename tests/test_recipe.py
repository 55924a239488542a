from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError
from finegrid.conventions.spans import bounds, overlap, period, seconds
from finegrid.pipeline.recipe import Recipe

FILES = {"coarse": "coarse.nc", "fine": "fine.nc"}


def recipe(**sections) -> Recipe:
    return Recipe.of({"data": FILES, **sections}, source="job.yaml")


def keys(settings: dict, prefix: str = "") -> set[str]:
    nested = [keys(value, f"{prefix}{key}.") for key, value in settings.items() if isinstance(value, dict)]
    return {prefix + key for key in settings}.union(*nested)


def test_two_files_are_enough():
    assert recipe().data.coarse == ("coarse.nc",)
    assert recipe().downscaler["name"] == "neural"


def test_the_example_shows_every_key_with_its_default():
    example = yaml.safe_load(Recipe.example())
    files = {"coarse": example["data"]["coarse"], "fine": example["data"]["fine"]}
    assert Recipe.of(example) == Recipe.of({"data": files})
    assert keys(example) == keys(Recipe.of({"data": files}).to_dict())


def test_what_is_written_is_read_back_with_every_default(tmp_path: Path):
    job = recipe(training={"budget": "90 s"}, downscaler={"name": "neural", "backbone": {"name": "unet", "width": 8}})
    job.write(tmp_path / "recipe.yaml")
    assert Recipe.read(tmp_path / "recipe.yaml") == job
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert written["training"]["learning_rate"] == job.training.learning_rate
    assert keys(written) == keys(job.to_dict())


def test_the_recipe_of_the_documentation_is_read(tmp_path: Path):
    (tmp_path / "job.yaml").write_text(
        "data:\n  coarse: era5/*.nc\n  fine: obs.zarr\n  static: [elevation.nc]\n"
        "  variables: {tas: t2m, pr: tp}\n  predictors: [psl, ta@850]\n"
        "  split: {train: 1983/1996, validate: 1997/1998, test: 1999/2002}\n"
        "downscaler: {name: neural, backbone: {name: resnet, width: 64}, constraint: add}\n"
        "training: {budget: 5 min, seed: 0}\n"
    )
    job = Recipe.read(tmp_path / "job.yaml")
    assert job.data.variables == {"tas": "t2m", "pr": "tp"}
    assert job.data.split.parts == {"train": "1983/1996", "validate": "1997/1998", "test": "1999/2002"}
    assert job.training.budget == 300


@pytest.mark.parametrize("odd", [0.5, [{"tas": "t2m"}], [1.5]])
def test_variables_that_are_no_names_are_refused_in_words(odd) -> None:
    with pytest.raises(InputError, match=r"data\.variables"):
        recipe(data={**FILES, "variables": odd})


def test_a_list_of_variables_means_the_same_names_on_both_sides():
    assert recipe(data={**FILES, "variables": ["t2m"]}).data.variables == {"t2m": "t2m"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainin": {}}, r"job.yaml: the recipe has no key 'trainin'.*Did you mean 'training'"),
        (
            {"training": {"learning_rat": 1}},
            r"training has no key 'learning_rat'.*Did you mean 'learning_rate'",
        ),
        ({"data": {**FILES, "split": {"tran": 0.5}}}, r"data.split has no key 'tran'.*Did you mean 'train'"),
        ({"seed": 3}, r"the recipe has no key 'seed'.*under 'training'"),
        (
            {"emulate": {"name": "crude"}},
            r"no key 'emulate'. The keys are data, adjust, downscaler, training, calibrate",
        ),
        ({"data": {"coarse": "coarse.nc"}}, r"data.fine is missing"),
        ({"downscaler": {"backbone": "unet"}}, r"downscaler: a component needs a name"),
        ({"training": {"schedule": "sawtooth"}}, r"training.schedule: .*'cosine' or 'constant'"),
        ({"training": {"budget": "a while"}}, r"training.budget: 'a while' is not a length of time"),
        ({"training": {"budget": 0}}, r"training.budget: .*greater than 0"),
        ({"training": {"budget": None}}, r"training: training would never end"),
        ({"data": {**FILES, "split": {"train": "spring"}}}, r"data.split.train: 'spring' is not a period"),
        (
            {"data": {**FILES, "split": {"train": "1983/1990"}}},
            r"data.split: periods and fractions are mixed",
        ),
        ({"data": {**FILES, "split": {"train": 0.9}}}, r"data.split: the fractions add up to 1.2"),
    ],
)
def test_a_mistake_is_answered_with_the_file_the_key_and_what_to_write(sections: dict, message: str):
    with pytest.raises(InputError, match=message):
        recipe(**sections)


def test_blocks_that_share_times_are_refused():
    shared = {"train": "1983/1996", "validate": "1996-06/1998", "test": "1999/2002"}
    with pytest.raises(InputError, match=r"train \(1983/1996\) and validate \(1996-06/1998\) share times"):
        recipe(data={**FILES, "split": shared})


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "data: [unclosed\n"])
def test_a_file_that_is_not_a_recipe_is_named_in_the_error(tmp_path: Path, text: str):
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(InputError, match=r"job\.yaml.*finegrid recipe --example"):
        Recipe.read(tmp_path / "job.yaml")


def test_a_missing_file_is_named_in_the_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read: No such file"):
        Recipe.read(tmp_path / "nowhere.yaml")


def test_dates_that_yaml_has_already_parsed_are_periods():
    parsed = yaml.safe_load("{train: 1983, validate: 1984-01-31, test: 1985-01}")
    assert recipe(data={**FILES, "split": parsed}).data.split.parts == {
        "train": "1983",
        "validate": "1984-01-31",
        "test": "1985-01",
    }


@pytest.mark.parametrize("wrong", ["83", "1983-13", "1983-1", "1983/", "1996/1983", "1983-02-32", "1983/1990/1996", ""])
def test_what_is_not_a_period_is_refused(wrong: str):
    with pytest.raises(ValueError, match=r"is not a period|ends before it starts"):
        period(wrong)


def test_30_february_is_a_date_because_the_calendar_is_the_datas():
    assert bounds("1983-02-30") == slice("1983-02-30", "1983-02-30")


def test_a_period_includes_its_last_year():
    assert overlap("1983/1996", "1996-12-31/1998")
    assert not overlap("1983/1996", "1997")
    assert overlap("1983/1996", "1990")


@pytest.mark.parametrize(
    ("text", "expected"), [("90 s", 90), ("5 min", 300), ("1.5h", 5400), ("2 hours", 7200), (7, 7)]
)
def test_budgets_are_read_as_seconds(text: str | int, expected: float):
    assert seconds(text) == expected


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_a_budget_survives_writing(value: float):
    job = recipe(training={"budget": value})
    assert Recipe.of(job.to_dict()).training.budget == pytest.approx(value, rel=1e-14)
