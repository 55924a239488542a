"""Relations between variables: each holds at every cell, with exact means, and they compose in a stated order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finegrid.constraints import CONSTRAINTS, Constraint, SparseMean, unmet, violation
from finegrid.constraints.humidity import relative_humidity, saturation_pressure, specific_humidity
from finegrid.conventions import InputError
from test_shared_cells import MEANS

RELATIONS = [name for name, each in CONSTRAINTS.items() if hasattr(each, "roles")]
# A plausible field of each variable: its mean and deviation.
USUAL = {
    "tasmin": (278.0, 4.0),
    "tas": (283.0, 4.0),
    "tasmax": (288.0, 4.0),
    "pr": (3.0, 4.0),
    "prsn": (1.0, 2.0),
    "prra": (2.0, 3.0),
    "ps": (9.8e4, 3e3),
    "huss": (6e-3, 3e-3),
    "hurs": (0.7, 0.3),
    "rsds": (150.0, 120.0),
    "uas": (2.0, 5.0),
    "vas": (-1.0, 5.0),
    "sfcWind": (5.0, 3.0),
}
POSITIVE = {"pr", "prsn", "prra", "ps", "huss", "hurs", "rsds", "sfcWind"}


def made(table: Any, names: Sequence[str]) -> Constraint:
    """A constraint for some variables, with the facts that it asks for."""
    word = table if isinstance(table, str) else table["name"]
    arguments = {} if isinstance(table, str) else {key: each for key, each in table.items() if key != "name"}
    kind = CONSTRAINTS[word]
    if hasattr(kind, "roles"):
        names = list(names) or list(kind.roles)
        arguments["variables"] = names
    else:
        arguments.pop("variables", None)
    facts = {
        "scale": [abs(USUAL[name][0]) + 1 for name in names],
        "low": [USUAL[name][0] - 6 * USUAL[name][1] for name in names],
        "high": [USUAL[name][0] + 9 * USUAL[name][1] for name in names],
        "lowest": [0.0 if name in POSITIVE else -np.inf for name in names],
        "highest": [1.0 if name == "hurs" else np.inf for name in names],
        "variables": list(names),
        "standard": [(1.0, 0.0)] * 4,
        "turn": None,
        "make": made,
    }
    return kind(**arguments, **{key: facts[key] for key in kind.statistics})


def fields(names: Sequence[str], operator: SparseMean, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Raw fields, and coarse fields of other fields that obey every relation."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.stack([_field(name, operator, generator) for name in names], dim=1)
    truth = {name: _field(name, operator, generator) for name in names}
    if {"tasmin", "tas", "tasmax"} <= set(names):
        truth["tasmin"] = truth["tas"] - (truth["tas"] - truth["tasmin"]).abs()
        truth["tasmax"] = truth["tas"] + (truth["tas"] - truth["tasmax"]).abs()
    if {"pr", "prsn", "prra"} <= set(names):
        truth["pr"] = truth["prsn"] + truth["prra"]
    if "hurs" in names:
        truth["hurs"] = truth["hurs"].clamp(max=1)
    if "huss" in names:
        truth["huss"] = specific_humidity(truth["tas"], truth["ps"], truth["hurs"])
    return raw, operator.mean(torch.stack([truth[name] for name in names], dim=1))


def _field(name: str, operator: SparseMean, generator: torch.Generator) -> Tensor:
    mean, deviation = USUAL[name]
    field = mean + deviation * torch.randn(2, *operator.fine, generator=generator)
    return field.relu() if name in POSITIVE else field


def means_agree(constrained: Tensor, coarse: Tensor, operator: SparseMean, derived: Sequence[int] = ()) -> bool:
    kept = [index for index in range(constrained.shape[1]) if index not in derived]
    return float(violation(constrained[:, kept], coarse[:, kept], operator).max()) <= 1e-6


@pytest.mark.parametrize("pair", ["ratio 2.5", "rotated to regular", "sea missing"])
@pytest.mark.parametrize("name", RELATIONS)
def test_every_relation_holds_with_exact_means_and_serves_the_protocol(name: str, pair: str) -> None:
    operator, names = MEANS[pair], CONSTRAINTS[name].roles
    constraint = made(name, names)
    raw, coarse = fields(names, operator)
    constrained = constraint.project(raw, coarse, operator)
    assert isinstance(constraint, Constraint)
    assert constrained.dtype == torch.float32 and constrained.shape == raw.shape
    assert means_agree(constrained, coarse, operator, constraint.derived)
    assert float(constraint.violation(constrained, coarse, operator).max()) <= 2e-6
    assert float(constraint.violation(raw, coarse, operator).max()) > 1e-3


@pytest.mark.parametrize("name", RELATIONS)
def test_every_relation_leaves_admissible_fields_alone_and_has_finite_gradients(name: str) -> None:
    operator, names = MEANS["ratio 2.5"], CONSTRAINTS[name].roles
    constraint = made(name, names)
    raw, coarse = fields(names, operator, seed=3)
    once = constraint.project(raw, coarse, operator)
    again = constraint.reproject(once, coarse, operator)
    size = operator.mean(once.abs()).mean((0, 2, 3), keepdim=True)
    assert float(((again - once) / size).abs()[..., operator.touched].max()) <= 2e-5
    leaf = raw.clone().requires_grad_()
    constraint.project(leaf, coarse, operator).square().sum().backward()
    assert torch.isfinite(leaf.grad).all() and bool((leaf.grad != 0).any())


@given(seed=st.integers(0, 500))
def test_minimum_mean_and_maximum_stay_in_order_to_the_last_bit(seed: int) -> None:
    operator, names = MEANS["rotated to regular"], ["tasmin", "tas", "tasmax"]
    raw, coarse = fields(names, operator, seed)
    low, middle, high = made("ordered", names).project(raw, coarse, operator).unbind(1)
    inside = operator.touched
    assert bool((low <= middle)[..., inside].all()) and bool((middle <= high)[..., inside].all())


def test_an_order_of_two_or_of_five_is_kept_too() -> None:
    operator = MEANS["ratio 2.5"]
    for names in (["tasmin", "tasmax"], ["tasmin", "tas", "tasmax", "pr", "ps"]):
        generator = torch.Generator().manual_seed(1)
        raw = torch.randn(2, len(names), *operator.fine, generator=generator)
        coarse = operator.mean(torch.randn(raw.shape, generator=generator).sort(dim=1).values)
        constrained = made("ordered", names).project(raw, coarse, operator)
        assert bool((constrained.diff(dim=1) >= -1e-6)[..., operator.touched].all())
        assert means_agree(constrained, coarse, operator)


def test_a_coarse_minimum_above_the_maximum_is_counted_and_the_order_kept() -> None:
    operator, names = MEANS["ratio 2.5"], ["tasmin", "tasmax"]
    raw, coarse = fields(names, operator)
    coarse[1, 0, 2, 3] = coarse[1, 1, 2, 3] + 5
    constrained = made("ordered", names).project(raw, coarse, operator)
    assert bool((constrained[:, 0] <= constrained[:, 1])[..., operator.touched].all())
    assert 1 <= int(unmet(constrained, coarse, operator).sum()) <= 9


@given(seed=st.integers(0, 500), dry=st.booleans())
def test_rain_and_snow_add_up_and_are_never_negative(seed: int, dry: bool) -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "prsn", "prra"]
    raw, coarse = fields(names, operator, seed)
    coarse = coarse * (torch.rand(coarse[:, :1].shape, generator=torch.Generator().manual_seed(seed)) > 0.3 * dry)
    constrained = made("total", names).project(raw, coarse, operator)
    inside = operator.touched
    assert float(constrained[..., inside].min()) >= 0
    gap = (constrained[:, 0] - constrained[:, 1] - constrained[:, 2]).abs()
    assert float(gap[..., inside].max()) <= 1e-6 * float(constrained.max())


def test_parts_that_do_not_add_up_are_counted() -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "prsn", "prra"]
    raw, coarse = fields(names, operator)
    coarse[0, 0, 1, 1] *= 1.5
    constrained = made("total", names).project(raw, coarse, operator)
    assert int(unmet(constrained, coarse, operator)[2]) == 1


def test_humidity_formulas_are_those_of_tables() -> None:
    # Saturation vapour pressure over water, Smithsonian Meteorological Tables (Goff-Gratch): hPa at -20, 0, 20, 40 C.
    temperature = torch.tensor([253.15, 273.15, 293.15, 313.15], dtype=torch.float64)
    known = torch.tensor([1.2540, 6.1078, 23.373, 73.777], dtype=torch.float64)
    torch.testing.assert_close(saturation_pressure(temperature) / 100, known, rtol=3e-3, atol=0)
    pressure, relative = torch.full((4,), 9e4, dtype=torch.float64), torch.linspace(0.2, 1.0, 4, dtype=torch.float64)
    specific = specific_humidity(temperature, pressure, relative)
    torch.testing.assert_close(relative_humidity(temperature, pressure, specific), relative)


@pytest.mark.parametrize("derive", ["hurs", "huss"])
def test_humidities_agree_and_air_is_never_above_saturation(derive: str) -> None:
    operator, names = MEANS["rotated to regular"], ["tas", "ps", "huss", "hurs"]
    constraint = made({"name": "humidity", "derive": derive}, names)
    raw, coarse = fields(names, operator)
    constrained = constraint.project(raw * torch.tensor([1, 1, 3, 3]).reshape(4, 1, 1), coarse, operator)
    tas, ps, huss, hurs = constrained.double().unbind(1)
    inside = operator.touched
    assert float(hurs[..., inside].max()) <= 1 and float(huss[..., inside].min()) >= 0
    torch.testing.assert_close(relative_humidity(tas, ps, huss)[..., inside], hurs[..., inside], rtol=2e-6, atol=1e-6)
    assert means_agree(constrained, coarse, operator, constraint.derived)


def test_humidity_in_other_units_is_the_same_air() -> None:
    operator, names = MEANS["ratio 2.5"], ["tas", "ps", "huss", "hurs"]
    raw, coarse = (each.double() for each in fields(names, operator))
    plain = made("humidity", names).project(raw, coarse, operator)
    standard = [(1.0, 273.15), (100.0, 0.0), (1e-3, 0.0), (0.01, 0.0)]
    other = CONSTRAINTS["humidity"](variables=names, standard=standard)
    scale = torch.tensor([each[0] for each in standard], dtype=torch.float64).reshape(-1, 1, 1)
    offset = torch.tensor([each[1] for each in standard], dtype=torch.float64).reshape(-1, 1, 1)
    found = other.project((raw - offset) / scale, (coarse - offset) / scale, operator)
    torch.testing.assert_close((found * scale + offset)[..., operator.touched], plain[..., operator.touched])


def test_radiation_stays_below_the_limit_of_each_cell_and_night_is_dark() -> None:
    operator = MEANS["ratio 2.5"]
    raw, _ = fields(["rsds"], operator)
    high = torch.linspace(0, 700, operator.fine[1]).expand(2, 1, *operator.fine).clone()
    high[..., :4] = 0
    coarse = operator.mean(high * 0.6)
    constrained = made("radiation", ["rsds"]).project(raw, coarse, operator, high=high)
    inside = operator.touched
    assert bool((constrained <= high)[..., inside].all()) and bool((constrained >= 0)[..., inside].all())
    assert float(constrained[..., :4][..., inside[:, :4]].max()) == 0
    assert means_agree(constrained, coarse, operator)
    coarse[0, 0, 3, 3] = 2000.0
    assert int(unmet(made("radiation", ["rsds"]).project(raw, coarse, operator, high=high), coarse, operator)) >= 1


def test_wind_on_turned_axes_conserves_the_eastward_and_northward_wind() -> None:
    operator = MEANS["rotated to regular"]
    angle = torch.linspace(-0.6, 0.4, operator.fine[1], dtype=torch.float64).expand(operator.fine)
    turn = torch.stack([angle.cos(), angle.sin()])
    raw, coarse = fields(["uas", "vas", "sfcWind"], operator)
    constraint = CONSTRAINTS["wind"](variables=["uas", "vas", "sfcWind"], fine="grid", turn=turn)
    u, v, speed = constraint.project(raw, coarse, operator).double().unbind(1)
    east, north = u * turn[0] - v * turn[1], u * turn[1] + v * turn[0]
    assert means_agree(torch.stack([east, north], 1), coarse[:, :2], operator)
    torch.testing.assert_close(speed, (u**2 + v**2).sqrt(), rtol=1e-6, atol=1e-6)
    assert float(constraint.violation(torch.stack([u, v, speed], 1), coarse, operator).max()) <= 1e-6
    # The nearest vectors: what is added is the same as without the turn.
    straight = made("wind", ["uas", "vas"]).project(raw[:, :2], coarse[:, :2], operator)
    assert not torch.allclose(straight[:, 0], u.float())


def test_constraints_compose_in_their_order_and_the_check_names_every_part() -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "tas", "tasmin", "tasmax", "hurs", "uas"]
    parts = [
        {"name": "multiplicative", "variables": ["pr"]},
        {"name": "ordered", "variables": ["tasmin", "tas", "tasmax"]},
        {"name": "bounded", "variables": "hurs", "low": 0.0, "high": 1.0},
    ]
    constraint = made({"name": "composed", "parts": parts}, names)
    raw, coarse = fields(names, operator)
    constrained = constraint.project(raw, coarse, operator)
    assert constraint.conserves and means_agree(constrained, coarse, operator)
    assert float(constrained[:, 0][..., operator.touched].min()) >= 0
    assert float(constrained[:, 4][..., operator.touched].max()) <= 1
    assert bool((constrained[:, 2] <= constrained[:, 1])[..., operator.touched].all())
    check = constraint.check(constrained, coarse, operator)
    assert list(check) == [
        "add (uas)",
        "multiplicative (pr)",
        "ordered (tasmin, tas, tasmax)",
        "bounded (hurs)",
    ]
    assert all(float(each.max()) <= 2e-6 for each in check.values())
    spoilt = constrained.clone()
    spoilt[:, 2] += 20
    assert float(constraint.check(spoilt, coarse, operator)["ordered (tasmin, tas, tasmax)"].max()) > 1e-2
    assert float(constraint.violation(spoilt, coarse, operator).max()) > 1e-2


def test_a_part_that_undoes_an_earlier_one_is_found_by_the_final_check() -> None:
    operator, names = MEANS["ratio 2.5"], ["tasmin", "tas"]
    parts = [{"name": "ordered", "variables": names}, {"name": "add", "variables": ["tasmin"]}]
    raw, coarse = fields(["tasmin", "tas", "tasmax"], operator)
    constraint = made({"name": "composed", "parts": parts}, names)
    shuffled = torch.stack([raw[:, 0] + 30 * torch.randn_like(raw[:, 0]), raw[:, 1]], dim=1)
    good = constraint.project(shuffled, coarse[:, :2], operator)
    assert float(constraint.violation(good, coarse[:, :2], operator).max()) <= 1e-6
    parts.reverse()
    parts[0]["variables"] = ["tasmin"]
    again = made({"name": "composed", "parts": [*parts, {"name": "none", "variables": ["tas"]}]}, names)
    assert not again.conserves


def test_variables_that_a_relation_finds_by_itself_are_its_own() -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "uas", "vas", "sfcWind"]
    raw, coarse = fields(names, operator)
    raw[:, 0] -= 1
    coarse[:, 3] += 1  # a mean speed that the components do not have: it follows from them
    constraint = made({"name": "composed", "parts": ["wind"], "otherwise": "multiplicative"}, names)
    constrained = constraint.project(raw, coarse, operator)
    assert list(constraint.check(constrained, coarse, operator)) == ["multiplicative (pr)", "wind (uas, vas, sfcWind)"]
    assert constraint.derived == (3,)
    assert float(constraint.violation(constrained, coarse, operator).max()) <= 2e-6
    assert means_agree(constrained, coarse, operator, derived=[3])


def test_every_variable_gets_what_nature_allows() -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "hurs", "uas", "tas"]
    constraint = made("natural", names)
    raw, coarse = fields([*names, "ps", "huss"], operator)
    constrained = constraint.project(
        raw[:, :4] - torch.tensor([2.0, 0, 0, 0]).reshape(4, 1, 1), coarse[:, :4], operator
    )
    assert list(constraint.check(constrained, coarse[:, :4], operator)) == [
        "multiplicative (pr)",
        "bounded (hurs)",
        "add (uas)",
        "add (tas)",
    ]
    assert float(constrained[:, 0][..., operator.touched].min()) >= 0
    assert means_agree(constrained, coarse, operator)


@pytest.mark.parametrize("inner", ["add", "multiplicative", "bounded"])
def test_a_relaxed_constraint_goes_from_nothing_to_all(inner: str) -> None:
    operator = MEANS["ratio 2.5"]
    raw, coarse = fields(["pr"], operator)
    free, half, hard = (
        made({"name": "relaxed", "constraint": inner, "strength": each}, ["pr"]).project(raw, coarse, operator)
        for each in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(free, raw, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(hard, made(inner, ["pr"]).project(raw, coarse, operator), rtol=1e-5, atol=1e-5)
    middle = (operator.mean(raw) + coarse) / 2
    assert float(violation(half, middle, operator).max()) <= 1e-6


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_relaxed_constraint_keeps_to_what_nature_allows_at_any_strength(strength: float) -> None:
    operator, names = MEANS["ratio 2.5"], ["pr", "hurs", "tas"]
    raw, coarse = fields(names, operator)
    raw = torch.stack([raw[:, 0] - 1.5, 1.3 * raw[:, 1], raw[:, 2]], dim=1)
    found = made({"name": "relaxed", "strength": strength}, names).project(raw, coarse, operator)
    inside = found[..., operator.touched]
    assert float(inside[:, 0].min()) >= 0 and float(inside[:, 1].max()) <= 1
    means = torch.lerp(operator.mean(raw), coarse, strength)
    means = torch.stack([means[:, 0].clamp(min=0), means[:, 1].clamp(max=1), means[:, 2]], dim=1)
    assert float(violation(found, means, operator).max()) <= 1e-6


def test_the_learned_strength_is_that_of_the_best_weight_between_two_noisy_sources() -> None:
    # Raw means with error variance 4 and coarse values with 1, independent: the best weight is 4 / (4 + 1).
    operator = MEANS["ratio 2.5"]
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(400, 1, *operator.fine, generator=generator)
    noise = torch.randn(400, 1, *operator.coarse, generator=generator)
    other = torch.randn(400, 1, *operator.coarse, generator=generator)
    raw, coarse = truth + 2 * operator.spread(noise), operator.mean(truth) + operator.mean(operator.spread(other))
    spoilt = operator.mean(operator.spread(noise))
    best = float((4 * spoilt.var()) / (4 * spoilt.var() + operator.mean(operator.spread(other)).var()))
    constraint = made({"name": "relaxed"}, ["uas"])
    found = constraint.fitted(raw, coarse, truth, operator, operator.touched.double())
    assert abs(found[0] - best) <= 0.06 and abs(best - 0.8) < 0.02
    assert float(constraint.strength) == pytest.approx(found[0])


@pytest.mark.parametrize(
    ("table", "names", "words"),
    [
        ({"name": "ordered"}, ["tas"], "at least 2"),
        ({"name": "humidity", "derive": "dew"}, ["tas", "ps", "huss", "hurs"], "expected hurs or huss"),
        ({"name": "wind", "fine": "north"}, ["uas", "vas"], "expected grid or earth"),
        ({"name": "relaxed", "strength": 1.5}, ["tas"], "expected 0 \\(free\\) to 1"),
        ({"name": "relaxed", "strength": "strong"}, ["tas"], "or learned"),
        ({"name": "composed", "parts": [{"name": "ordered", "variables": ["tas", "tos"]}]}, ["tas"], "'tos'"),
        ({"name": "bounded", "low": 1.0, "high": 0.0}, ["tas"], "low < high"),
    ],
)
def test_what_cannot_be_is_refused_in_words(table: dict[str, Any], names: list[str], words: str) -> None:
    USUAL.setdefault("tos", (280.0, 1.0))
    with pytest.raises(InputError, match=words):
        made(table, names)
