"""Constraints conserve in float32 for every factor, magnitude, weight and mask, and differentiate cleanly."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finegrid.constraints import CONSTRAINTS, Constraint, violation
from finegrid.conventions import InputError

# Relations between variables, and what is made of other constraints, have their contract in test_relations.py.
SIMPLE = [name for name, each in CONSTRAINTS.items() if "make" not in each.statistics and not hasattr(each, "roles")]
HARD = ("add", "scaled-add", "multiplicative", "softmax", "bounded")
POSITIVE = ("multiplicative", "softmax", "bounded")


@dataclass(frozen=True)
class BlockMean:
    """An Aggregation over fy x fx blocks with cell weights (H, W); a cell that is not valid has weight 0."""

    weight: Tensor
    factor: tuple[int, int]
    disjoint: bool = True
    whole: bool = True

    def blocks(self, fine: Tensor) -> Tensor:
        fy, fx = self.factor
        split = fine.unflatten(-1, (-1, fx)).unflatten(-3, (-1, fy))
        return split.transpose(-3, -2).flatten(-2)

    def mean(self, fine: Tensor) -> Tensor:
        weight = self.blocks(self.weight)
        share = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-30)).to(fine.dtype)
        return (torch.where(weight > 0, self.blocks(fine), 0.0) * share).sum(-1)

    def max(self, fine: Tensor) -> Tensor:
        valid = self.blocks(self.weight) > 0
        largest = torch.where(valid, self.blocks(fine), -torch.inf).amax(-1)
        return torch.where(valid.any(-1), largest, 0.0)

    def spread(self, coarse: Tensor) -> Tensor:
        return coarse.repeat_interleave(self.factor[0], -2).repeat_interleave(self.factor[1], -1)


@dataclass(frozen=True)
class Case:
    """A raw fine field, its coarse field and the map between their grids."""

    fine: Tensor
    coarse: Tensor
    operator: BlockMean
    size: float


@st.composite
def cases(draw: st.DrawFn, signed: bool = False) -> Case:
    """Rain-like fields of any magnitude (or signed), with areas, missing fine and dry coarse cells."""
    factor = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    size = 10.0 ** draw(st.integers(-12, 5))
    h, w = 3, 4
    shape = (2, 2, h * factor[0], w * factor[1])
    fine = torch.randn(shape, generator=generator) * size
    coarse = torch.randn(2, 2, h, w, generator=generator) * size
    if not signed:
        coarse = coarse.abs() * (torch.rand(coarse.shape, generator=generator) > 0.3)
    weight = torch.cos(torch.linspace(-1.5, 1.0, shape[-2]))[:, None].expand(shape[-2:]).double()
    if draw(st.booleans()):
        weight = weight * (torch.rand(shape[-2:], generator=generator) > 0.3)
    return Case(fine, coarse, BlockMean(weight, factor), size)


def build(name: str, size: float = 1.0) -> Constraint:
    """The constraint as a caller with fields of this size would build it."""
    numbers = {"scale": size, "low": 0.0, "high": 3.0 * size, "lowest": 0.0, "highest": float("inf")}
    return CONSTRAINTS[name](**{key: numbers[key] for key in CONSTRAINTS[name].statistics})  # type: ignore[attr-defined]


def kelvin_case(factor: tuple[int, int] = (4, 4)) -> Case:
    generator = torch.Generator().manual_seed(1)
    fine = 290 + 15 * torch.randn(3, 1, 4 * factor[0], 5 * factor[1], generator=generator)
    coarse = 288 + 15 * torch.randn(3, 1, 4, 5, generator=generator)
    weight = torch.cos(torch.linspace(0.1, 1.5, fine.shape[-2]))[:, None].expand(fine.shape[-2:]).double()
    return Case(fine, coarse, BlockMean(weight, factor), 290.0)


def mean_error(fine: Tensor, case: Case) -> float:
    """Worst error of conservation by a formula of our own, per sample and channel, in float64."""
    truth = case.coarse.double()
    typical = truth.abs().mean((-2, -1), keepdim=True).clamp(min=1e-3 * case.size)
    filled = case.operator.mean(torch.ones_like(fine).double()) > 0
    error = (case.operator.mean(fine.double()) - truth).abs() / torch.maximum(truth.abs(), typical)
    return float(error[filled].max()) if filled.any() else 0.0


@pytest.mark.parametrize("name", HARD)
@given(case=cases())
def test_area_mean_over_each_coarse_cell_equals_the_coarse_value(name: str, case: Case) -> None:
    assert mean_error(build(name, case.size).project(case.fine, case.coarse, case.operator), case) <= 1e-6


@pytest.mark.parametrize("name", ("add", "scaled-add"))
@given(case=cases(signed=True))
def test_signed_fields_are_conserved_by_the_additive_layers(name: str, case: Case) -> None:
    assert mean_error(build(name, case.size).project(case.fine, case.coarse, case.operator), case) <= 1e-6


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("factor", [(4, 4), (25, 30), (2, 64)])
def test_kelvin_is_conserved_to_one_unit_in_the_last_place(name: str, factor: tuple[int, int]) -> None:
    case = kelvin_case(factor)
    constraint = CONSTRAINTS[name](low=200, high=330) if name == "scaled-add" else build(name, 290.0)
    constrained = constraint.project(case.fine, case.coarse, case.operator)
    assert constrained.dtype == torch.float32
    assert mean_error(constrained, case) <= 1.2e-7


@pytest.mark.parametrize("name", HARD)
def test_raw_fields_far_from_the_coarse_value_are_conserved(name: str) -> None:
    case = kelvin_case()
    constraint = CONSTRAINTS[name](low=200, high=330) if name == "scaled-add" else build(name, 290.0)
    assert mean_error(constraint.project(case.fine / 290 - 1, case.coarse, case.operator), case) <= 1e-6


@pytest.mark.parametrize("name", POSITIVE)
@given(case=cases())
def test_sign_definite_layers_never_give_a_negative_value(name: str, case: Case) -> None:
    assert build(name, case.size).project(case.fine, case.coarse, case.operator).min() >= 0


@pytest.mark.parametrize("name", HARD)
@given(case=cases())
def test_an_admissible_field_is_left_alone(name: str, case: Case) -> None:
    constraint = build(name, case.size)
    once = constraint.project(case.fine, case.coarse, case.operator)
    again = constraint.reproject(once, case.coarse, case.operator)
    valid = case.operator.weight > 0
    assert ((again - once).abs() * valid).max() <= 2e-6 * max(case.size, float((once.abs() * valid).max()))


@pytest.mark.parametrize("name", POSITIVE)
def test_a_dry_coarse_cell_gives_exactly_no_rain_and_finite_gradients(name: str) -> None:
    fine = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(1e-5).requires_grad_()
    coarse = torch.tensor([0.0, 1e-12, 1e-4, 0.0]).reshape(1, 1, 2, 2).expand(2, 1, 2, 2)
    constrained = build(name, 1e-5).project(fine, coarse, BlockMean(torch.ones(8, 8), (4, 4)))
    constrained.square().sum().backward()
    assert (constrained[..., :4, :4] == 0).all() and (constrained[..., 4:, 4:] == 0).all()
    assert fine.grad is not None and torch.isfinite(fine.grad).all()


@pytest.mark.parametrize("raw", [0.0, -1.0, 1e-38, 1e-44])
def test_a_wet_block_without_raw_rain_becomes_uniform_and_can_still_learn(raw: float) -> None:
    fine = torch.full((1, 1, 2, 2), raw, requires_grad=True)
    operator = BlockMean(torch.ones(2, 2), (2, 2))
    constrained = build("multiplicative").project(fine, torch.full((1, 1, 1, 1), 3e-4), operator)
    torch.testing.assert_close(constrained.detach(), torch.full((1, 1, 2, 2), 3e-4), atol=0, rtol=1e-6)
    (constrained[0, 0, 0, 0] - 1e-3).square().backward()
    assert fine.grad is not None and torch.isfinite(fine.grad).all()
    assert fine.grad[0, 0, 0, 0] < 0


def test_multiplicative_keeps_exact_zeros_in_a_wet_block() -> None:
    fine = torch.tensor([[[[0.0, 1.0], [-2.0, 3.0]]]])
    constrained = build("multiplicative").project(
        fine, torch.full((1, 1, 1, 1), 2.0), BlockMean(torch.ones(2, 2), (2, 2))
    )
    torch.testing.assert_close(constrained, torch.tensor([[[[0.0, 2.0], [0.0, 6.0]]]]))


def test_a_slightly_negative_coarse_value_is_kept_and_spread_evenly() -> None:
    coarse = torch.full((1, 1, 1, 1), -1e-12)  # as packing leaves it in files
    fine = torch.tensor([[[[0.0, 1.0], [-2.0, 3.0]]]])
    constrained = build("multiplicative").project(fine, coarse, BlockMean(torch.ones(2, 2), (2, 2)))
    assert torch.equal(constrained, coarse.expand(1, 1, 2, 2))


@pytest.mark.parametrize("spread", [1.0, 88.0, 1e4])
def test_softmax_stays_finite_for_large_raw_values(spread: float) -> None:
    fine = (spread * torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(3))).requires_grad_()
    case = Case(fine, torch.rand(2, 1, 3, 3) + 0.1, BlockMean(torch.ones(12, 12), (4, 4)), 1.0)
    constrained = build("softmax").project(fine, case.coarse, case.operator)
    constrained.square().sum().backward()
    assert mean_error(constrained.detach(), case) <= 1e-6
    assert fine.grad is not None and torch.isfinite(fine.grad).all()


def test_softmax_and_additive_layers_match_the_published_formulas() -> None:
    fine = torch.tensor([[[[0.1, 0.5], [-0.3, 0.2]]]], dtype=torch.float64)
    operator = BlockMean(torch.ones(2, 2), (2, 2))
    mean = fine.mean()
    for value in (0.4, -0.2):
        coarse = torch.full((1, 1, 1, 1), value, dtype=torch.float64)
        sign = torch.sign(mean - value)
        published = {
            "add": fine + value - mean,
            "scaled-add": fine + (value - mean) * (sign + fine) / (sign + mean),
            "softmax": fine.exp() * value / fine.exp().mean(),
        }
        for name, expected in published.items():
            options = {"low": -1.0, "high": 1.0} if name == "scaled-add" else {}
            torch.testing.assert_close(CONSTRAINTS[name](**options).project(fine, coarse, operator), expected)


@given(case=cases())
def test_scaled_add_keeps_values_within_its_bounds_when_the_coarse_value_is(case: Case) -> None:
    high = 3.0 * case.size
    fine, coarse = case.fine.abs().clamp(max=high), case.coarse.clamp(max=high)
    constrained = build("scaled-add", case.size).project(fine, coarse, case.operator)
    assert constrained.min() >= 0 and constrained.max() <= high * (1 + 1e-6)


def test_scaled_add_refuses_bounds_in_the_wrong_order() -> None:
    with pytest.raises(InputError, match="low < high"):
        CONSTRAINTS["scaled-add"](low=[0.0, 1.0], high=[1.0, 1.0])


@pytest.mark.parametrize("name", SIMPLE)
def test_a_missing_coarse_value_frees_its_block_and_nothing_else(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    fine = torch.rand(2, 1, 6, 6, generator=generator).requires_grad_()
    coarse = torch.rand(2, 1, 3, 3, generator=generator) + 0.2
    operator = BlockMean(torch.ones(6, 6), (2, 2))
    full = build(name).project(fine, coarse, operator)
    holed = coarse.clone()
    holed[..., 1, 1] = torch.nan
    constrained = build(name).project(fine, holed, operator)
    constrained.square().sum().backward()
    hole = operator.spread(holed.isnan().float()) > 0
    assert torch.equal(constrained[hole], fine[hole])
    assert torch.equal(constrained[~hole], full[~hole])
    assert fine.grad is not None and torch.isfinite(fine.grad).all()
    if build(name).conserves:
        assert build(name).violation(constrained, holed, operator).max() <= 1e-6


@pytest.mark.parametrize("name", SIMPLE)
def test_values_of_missing_fine_cells_do_not_matter(name: str) -> None:
    generator = torch.Generator().manual_seed(6)
    fine, coarse = torch.rand(1, 1, 6, 6, generator=generator), torch.rand(1, 1, 3, 3, generator=generator)
    valid = torch.rand(6, 6, generator=generator) > 0.4
    operator = BlockMean(valid.double(), (2, 2))
    wild = torch.where(valid, fine, 1e6).requires_grad_()
    constrained = build(name).project(wild, coarse, operator)
    constrained[..., valid].square().sum().backward()
    tame = build(name).project(fine.clone().requires_grad_(), coarse, operator)
    assert torch.equal(constrained[..., valid], tame[..., valid])
    assert wild.grad is not None and torch.isfinite(wild.grad).all() and (wild.grad[..., ~valid] == 0).all()


@pytest.mark.parametrize("name", SIMPLE)
def test_the_field_in_training_is_that_of_prediction_to_rounding(name: str) -> None:
    generator = torch.Generator().manual_seed(8)
    fine, coarse = torch.rand(2, 1, 6, 6, generator=generator), torch.rand(2, 1, 3, 3, generator=generator)
    operator = BlockMean(torch.rand(6, 6, generator=generator) + 0.5, (2, 2))
    learning = build(name).project(fine.clone().requires_grad_(), coarse, operator).detach()
    assert torch.allclose(learning, build(name).project(fine, coarse, operator), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SIMPLE)
def test_gradients_match_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(7)
    fine = (torch.rand(2, 1, 4, 6, generator=generator, dtype=torch.float64) + 0.1).requires_grad_()
    coarse = (torch.rand(2, 1, 2, 3, generator=generator, dtype=torch.float64) + 0.1).requires_grad_()
    weight = torch.rand(4, 6, generator=generator, dtype=torch.float64) + 0.1
    operator = BlockMean(weight, (2, 2))
    constraint = build(name)
    assert torch.autograd.gradcheck(lambda f, c: constraint.project(f, c, operator), (fine, coarse))


@pytest.mark.parametrize("name", SIMPLE)
def test_every_constraint_serves_the_protocol_with_members_in_front(name: str) -> None:
    constraint = build(name)
    fine, coarse = torch.rand(5, 2, 3, 4, 6), torch.rand(2, 3, 2, 2)
    operator = BlockMean(torch.ones(4, 6), (2, 3))
    constrained = constraint.project(fine, coarse, operator)
    assert isinstance(constraint, Constraint)
    assert constrained.shape == fine.shape and constraint.reproject(fine, coarse, operator).shape == fine.shape
    assert constraint.violation(constrained, coarse, operator).shape == (5, 2)
    assert (constraint.violation(constrained, coarse, operator).max() <= 1e-6) == constraint.conserves


@pytest.mark.parametrize("name", HARD)
def test_half_precision_output_is_lifted_before_it_is_constrained(name: str) -> None:
    case = kelvin_case()
    constraint = CONSTRAINTS[name](low=200, high=330) if name == "scaled-add" else build(name, 290.0)
    constrained = constraint.project(case.fine.bfloat16(), case.coarse, case.operator)
    assert constrained.dtype == torch.float32 and mean_error(constrained, case) <= 1e-6


def test_violation_is_the_worst_error_relative_to_the_larger_of_value_and_usual_value() -> None:
    operator = BlockMean(torch.ones(2, 4), (2, 2))
    coarse = torch.tensor([[[[3.0, 1.0]]], [[[0.0, torch.nan]]]])  # usual size 4/3
    fine = operator.spread(torch.tensor([[[[3.3, 1.4]]], [[[0.2, 99.0]]]]))
    expected = torch.tensor([0.4 / (4 / 3), 0.2 / (4 / 3)], dtype=torch.float64)
    torch.testing.assert_close(violation(fine, coarse, operator), expected)
    torch.testing.assert_close(
        violation(fine, coarse, operator, typical=torch.tensor(4.0)),
        torch.tensor([0.1, 0.05], dtype=torch.float64),
    )


def test_violation_ignores_coarse_cells_without_a_valid_fine_cell() -> None:
    operator = BlockMean(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), (1, 2))
    assert violation(torch.ones(1, 1, 1, 4), torch.tensor([[[[1.0, 7.0]]]]), operator).tolist() == [0.0]


def test_violation_is_not_a_number_when_a_valid_fine_value_is_not() -> None:
    operator = BlockMean(torch.ones(1, 2), (1, 2))
    assert violation(torch.tensor([[[[1.0, torch.nan]]]]), torch.ones(1, 1, 1, 1), operator).isnan().all()


def test_soft_penalty_is_the_weighted_mean_square_violation_of_known_cells() -> None:
    operator = BlockMean(torch.ones(2, 6), (2, 2))
    coarse = torch.tensor([[[[1.0, 2.0, torch.nan]]]])
    fine = operator.spread(torch.tensor([[[[3.0, 2.0, 8.0]]]])).requires_grad_()
    penalty = CONSTRAINTS["soft"](alpha=10.0, scale=2.0).penalty(fine, coarse, operator)  # type: ignore[attr-defined]
    penalty.sum().backward()
    torch.testing.assert_close(penalty, torch.tensor([10.0 * (2.0 / 2.0) ** 2 / 2]), check_dtype=False)
    assert fine.grad is not None and torch.isfinite(fine.grad).all() and (fine.grad[..., 4:] == 0).all()


def test_a_million_random_cells_keep_bounds_and_means_and_differentiate() -> None:
    """Humidity: many dry and saturated coarse cells, sea that leaves some of them one valid cell or none."""
    generator = torch.Generator().manual_seed(9)

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    rows, factor = 1000, (2, 3)
    fine, valid = 60 + 120 * (chance(2 * rows, 3 * rows) - 0.5), chance(2 * rows, 3 * rows) < 0.4
    operator = BlockMean(valid * (chance(2 * rows, 3 * rows) + 0.5), factor)
    kind = chance(rows, rows)
    coarse = torch.where(kind < 0.1, 0.0, torch.where(kind > 0.9, 100.0, 100 * chance(rows, rows)))
    number = operator.blocks(valid).sum(-1)
    assert int((number == 1).sum()) > 1e5 and int((number == 0).sum()) > 1e4
    bounded = CONSTRAINTS["bounded"](low=0.0, high=100.0)
    found = bounded.project(fine.float()[None], coarse.float()[None], operator)[0]
    assert float(found[valid].min()) == 0 and float(found[valid].max()) == 100
    error = (operator.mean(found.double()) - coarse.float()).abs() / coarse.clamp(min=50)
    assert float(error[number > 0].max()) <= 1e-6
    # Gradients of a tenth of them, all at once, against central differences; none where all cells lie at a bound.
    operator, fine, coarse = BlockMean(operator.weight[:200], factor), fine[:200], coarse[:100]
    towards, step = (chance(*fine.shape) - 0.5, chance(*coarse.shape) - 0.5), 1e-6
    pull = torch.where(valid[:200], chance(*fine.shape), 0.0)
    ends = [
        bounded.project((fine + size * towards[0])[None], (coarse + size * towards[1])[None], operator)[0]
        for size in (step, -step)
    ]
    numeric = operator.blocks(pull * (ends[0] - ends[1]) / (2 * step)).sum(-1)
    given = fine.clone().requires_grad_(), coarse.clone().requires_grad_()
    (pull * bounded.project(given[0][None], given[1][None], operator)[0]).sum().backward()
    exact = operator.blocks(given[0].grad * towards[0]).sum(-1) + given[1].grad * towards[1]
    inside = (number > 0)[:100] & (kind[:100] >= 0.1) & (kind[:100] <= 0.9)
    differing = ((numeric - exact).abs() > 1e-5 * (1 + exact.abs()))[inside]
    assert int(differing.sum()) <= 2  # steps of 1e-6 that cross a bound: 2.4e5 valid cells, 1e-8 of the range each
