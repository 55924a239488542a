import pytest

from finegrid.conventions import InputError
from finegrid.conventions.components import bind, build, completed, nearest


class Tower:
    def __init__(self, inputs: int, *, width: int = 32, depth: int = 4) -> None:
        self.inputs, self.width, self.depth = inputs, width, depth


class Bridge:
    def __init__(self, inputs: int, *, span: float) -> None:
        self.inputs, self.span = inputs, span


def power_loss(prediction: float, truth: float, *, power: float = 2.0) -> float:
    return abs(prediction - truth) ** power


STRUCTURES = {"tower": Tower, "bridge": Bridge}
LOSSES = {"power": power_loss}


def test_a_table_builds_the_named_component_with_its_arguments_and_those_given():
    tower = build({"name": "tower", "width": 8}, STRUCTURES, "structure", inputs=3)
    assert (type(tower), tower.inputs, tower.width, tower.depth) == (Tower, 3, 8, 4)


def test_a_bare_name_is_a_table_without_arguments():
    assert build("tower", STRUCTURES, "structure", inputs=3).width == 32


def test_building_does_not_change_the_table():
    table = {"name": "tower", "width": 8}
    build(table, STRUCTURES, "structure", inputs=3)
    assert table == {"name": "tower", "width": 8}


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(InputError, match=r"no structure 'towr'.*bridge, tower.*Did you mean 'tower'"):
        build({"name": "towr"}, STRUCTURES, "structure", inputs=3)


def test_a_table_without_a_name_is_refused():
    with pytest.raises(InputError, match=r"The names are bridge, tower"):
        build({"width": 8}, STRUCTURES, "structure", inputs=3)


def test_an_unknown_argument_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(InputError, match=r"'tower' has no argument 'widht'.*width, depth.*Did you mean 'width'"):
        build({"name": "tower", "widht": 8}, STRUCTURES, "structure", inputs=3)


def test_what_the_program_gives_is_not_the_users_to_set():
    with pytest.raises(InputError, match=r"'tower' has no argument 'inputs'"):
        build({"name": "tower", "inputs": 5}, STRUCTURES, "structure", inputs=3)


def test_a_missing_argument_is_named():
    with pytest.raises(InputError, match=r"'bridge' needs a value for 'span'"):
        build("bridge", STRUCTURES, "structure", inputs=3)


def test_a_bound_function_waits_for_its_data():
    loss = bind({"name": "power", "power": 3.0}, LOSSES, "loss", "prediction", "truth")
    assert loss(3.0, 1.0) == 8.0


def test_a_bound_function_refuses_data_as_an_argument():
    with pytest.raises(InputError, match="no argument 'truth'"):
        bind({"name": "power", "truth": 1.0}, LOSSES, "loss", "prediction", "truth")


def test_a_completed_table_has_every_default_and_builds_the_same_component():
    full = completed({"name": "tower", "depth": 2}, STRUCTURES, "structure", "inputs")
    assert full == {"name": "tower", "width": 32, "depth": 2}
    assert vars(build(full, STRUCTURES, "structure", inputs=3)) == {"inputs": 3, "width": 32, "depth": 2}


def test_a_word_unlike_all_others_gets_no_suggestion():
    assert nearest("zebra", ["tower", "bridge"]) == ""
