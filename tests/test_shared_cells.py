"""Constraints where coarse cells share fine cells: exact on every pair of grids, nearest, and differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, sparse
from torch import Tensor

from finegrid.constraints import CONSTRAINTS, Constraint, SparseMean, products, unmet, violation
from finegrid.grids import Grid, Operator
from test_any_grids import POLAR, cells
from test_grids import ROTATED_POLE, evenly, grid_of

HARD = ("add", "scaled-add", "multiplicative", "softmax", "bounded")
POSITIVE = ("multiplicative", "softmax", "bounded")


def mean_between(fine: Grid, coarse: Grid) -> SparseMean:
    """The mean over the coarse cells that lie within the fine domain, over valid fine cells."""
    operator = Operator.conservative(fine, coarse)
    valid = np.ones(fine.size) if fine.mask is None else fine.mask.ravel()
    inside = operator.coverage.ravel() > 0.99
    shared = sparse.csr_array(operator.shared * valid[None, :] * inside[:, None])
    shared.eliminate_zeros()
    return SparseMean(shared, fine.shape, coarse.shape, area=fine.area)


def coastal(grid: Grid) -> Grid:
    """A grid with 40 % of sea in one piece, and some lakes."""
    y, x = np.indices(grid.shape) / np.array(grid.shape)[:, None, None]
    generator = np.random.default_rng(0)
    return grid.masked((x + 0.4 * np.sin(6 * y) < 0.65) & (generator.random(grid.shape) > 0.05))


PAIRS = {
    "ratio 2.5": (cells(20, 25, 0.5, 40, -10), cells(8, 10, 1.25, 40, -10)),
    "3.7 x 2.2 with offset": (
        grid_of(evenly(40.05, 0.1, 40), evenly(5.05, 0.1, 60)),
        grid_of(evenly(40.25, 0.37, 11), evenly(5.15, 0.22, 27)),
    ),
    "rotated to regular": (cells(28, 30, 0.44, -15.07, -23.15, ROTATED_POLE), cells(9, 14, 1.5, 35, -12)),
    "polar stereographic to regular": (
        cells(90, 90, 1e3, -3.4e6, -1e5, POLAR),
        cells(12, 26, 0.1, 58.5, 22.9),
    ),
    "sea missing": (coastal(cells(19, 29, 0.5, 35.5, -9.5)), cells(6, 8, 1.9, 34.3, -9.4)),
    "globe with poles": (
        grid_of(evenly(-90, 2.5, 73), evenly(-180, 2.5, 144)),
        grid_of(evenly(-84, 12, 15), evenly(-165, 15, 24)),
    ),
}
MEANS = {name: mean_between(*pair) for name, pair in PAIRS.items()}


def build(name: str, size: float = 1.0) -> Constraint:
    numbers = {"scale": size, "low": 0.0, "high": 20.0 * size, "lowest": 0.0, "highest": float("inf")}
    return CONSTRAINTS[name](**{key: numbers[key] for key in CONSTRAINTS[name].statistics})


def rain(operator: SparseMean, seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    """A raw field, and coarse values that some other field of the same kind has."""
    generator = torch.Generator().manual_seed(seed)
    raw, other = torch.randn(2, batch, 2, *operator.fine, generator=generator)
    return 2 * raw + 0.5, operator.mean((2 * other + 0.5).relu().square())


@pytest.mark.parametrize("pair", MEANS)
def test_the_pairs_have_shared_cells_and_enough_constrained_ones(pair: str) -> None:
    operator = MEANS[pair]
    assert not operator.disjoint
    assert int((operator.weight > 0).sum()) >= 12


@pytest.mark.parametrize("pair", MEANS)
@pytest.mark.parametrize("name", HARD)
def test_rain_is_conserved_to_single_precision_on_every_pair_of_grids(name: str, pair: str) -> None:
    operator = MEANS[pair]
    raw, coarse = rain(operator)
    constrained = build(name).project(raw, coarse, operator)
    assert constrained.dtype == torch.float32
    assert float(violation(constrained, coarse, operator).max()) <= 1e-6
    assert int(unmet(constrained, coarse, operator).sum()) == 0
    if name in POSITIVE:
        assert float(constrained.min()) >= 0
    alone = raw.clamp(min=0) if name in POSITIVE else raw
    assert torch.equal(constrained[..., ~operator.touched], alone[..., ~operator.touched])


@pytest.mark.parametrize("pair", MEANS)
@pytest.mark.parametrize("name", HARD)
def test_temperature_is_conserved_to_one_unit_in_the_last_place(name: str, pair: str) -> None:
    operator = MEANS[pair]
    generator = torch.Generator().manual_seed(1)
    raw = 285 + 5 * torch.randn(2, 1, *operator.fine, generator=generator)
    coarse = 287 + 3 * torch.randn(2, 1, *operator.coarse, generator=generator)
    constraint = CONSTRAINTS[name](low=150, high=400) if name == "scaled-add" else build(name, 285.0)
    constrained = constraint.project(raw, coarse, operator)
    assert float(violation(constrained, coarse, operator).max()) <= 1.2e-7


@given(seed=st.integers(0, 999), size=st.sampled_from([1e-9, 1e-4, 1.0, 1e5]), pair=st.sampled_from(sorted(MEANS)))
@pytest.mark.parametrize("name", HARD)
def test_any_size_and_dry_cells_are_met_wherever_they_can_be(name: str, seed: int, size: float, pair: str) -> None:
    operator = MEANS[pair]
    raw, coarse = (size * each for each in rain(operator, seed, batch=1))
    dry = torch.rand(coarse.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    coarse = torch.where(dry, 0.0, coarse)
    constrained = build(name, size).project(raw, coarse, operator)
    assert torch.isfinite(constrained).all()
    if name not in POSITIVE:
        assert float(violation(constrained, coarse, operator).max()) <= 1e-6
        return
    assert float(constrained[..., operator.touched].min()) >= 0
    # Cells of dry coarse cells are exactly dry, and a wet one is met where it has a cell of its own.
    emptied = operator.spread(dry.double()) > 0
    assert float(constrained[emptied].max()) == 0
    own = operator.exclusive.reshape(operator.fine) & ~emptied
    has_own = operator.mean(own.double()) > 0
    error = (operator.mean(constrained.double()) - coarse).abs() / torch.maximum(coarse, coarse.mean())
    assert float(error[has_own].max()) <= 1e-6


def test_the_additive_projection_is_the_closed_formula() -> None:
    operator = MEANS["rotated to regular"]
    raw, coarse = (each.double() for each in rain(operator))
    mean, spread = _matrices(operator)
    used = mean.sum(1) > 0
    for member in range(len(raw)):
        y, x = raw[member, 0].numpy().ravel(), coarse[member, 0].numpy().ravel()
        lacking = np.linalg.solve((mean @ spread)[np.ix_(used, used)], (x - mean @ y)[used])
        expected = y + spread[:, used] @ lacking
        found = build("add").project(raw[member : member + 1, :1], coarse[member : member + 1, :1], operator)
        np.testing.assert_allclose(found[0, 0].numpy().ravel(), expected, rtol=1e-9, atol=1e-9)


def test_the_additive_projection_is_the_same_without_the_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = MEANS["ratio 2.5"]
    raw, coarse = rain(operator)
    with_inverse = build("add").project(raw, coarse, operator)
    monkeypatch.setattr(SparseMean, "inverse_as", lambda *_: None)
    torch.testing.assert_close(build("add").project(raw, coarse, operator), with_inverse, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pair", ["rotated to regular", "globe with poles"])
def test_products_are_those_of_the_dense_matrix_with_and_without_rows_of_one_length(pair, monkeypatch) -> None:
    operator, widths = MEANS[pair], []
    generator = torch.Generator().manual_seed(4)
    slope = torch.rand(int(operator.touched.numel()), 2, generator=generator, dtype=torch.float64)
    columns = torch.rand(len(operator.weight), 2, generator=generator, dtype=torch.float64)
    # M(d) x = C A (d S x), with the weight C of coarse cells.
    expected = operator.weight * operator.mean_of(slope * operator.spread_of(columns))
    for padded in (0, 1e9):
        monkeypatch.setattr(products, "_PADDED", padded)
        pattern = mean_between(*PAIRS[pair])._matrix
        widths.append(pattern._width)
        torch.testing.assert_close(pattern(slope)(columns), expected, rtol=1e-12, atol=1e-12)
        dense = torch.stack([pattern(slope)(each)[:, 0] for each in torch.eye(len(columns))[..., None].double()])
        torch.testing.assert_close(pattern(slope).diagonal[:, 0], dense.diagonal(), rtol=1e-12, atol=1e-12)
    assert widths[0] is None and widths[1] > 4


def test_the_multiplicative_field_is_the_limit_of_iterative_proportional_fitting() -> None:
    operator = MEANS["ratio 2.5"]
    raw, coarse = (each.double() for each in rain(operator, batch=1))
    raw = raw.abs() + 0.05
    mean, spread = _matrices(operator)
    y, x = raw[0, 0].numpy().ravel(), coarse[0, 0].numpy().ravel()
    for _ in range(3000):
        y = y * np.exp(spread @ np.log(x / (mean @ y)))
    found = build("multiplicative").project(raw[:, :1], coarse[:, :1], operator)
    np.testing.assert_allclose(found.numpy().ravel(), y, rtol=1e-6)


def showers(operator: SparseMean, seed: int, batch: int = 4) -> tuple[Tensor, Tensor]:
    """Coarse rain of clustered showers that are often dry, light and heavy, and a raw field that is wet everywhere."""
    generator = torch.Generator().manual_seed(seed)
    noise, spotty = torch.randn(2, batch, 1, *operator.fine, generator=generator)
    smooth = noise
    for _ in range(6):
        smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(smooth, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = torch.tensor([0.1, 1.0, 3.0, 6.0]).repeat(batch // 4)[:, None, None, None]
    coarse = operator.mean((smooth / smooth.std() - 0.5).relu() * amount * torch.exp(noise))
    return operator.spread(coarse) * torch.exp(spotty) + 0.01, coarse


@pytest.mark.parametrize("pair", MEANS)
@pytest.mark.parametrize("name", ["scaled-add", *POSITIVE])
def test_showers_are_met_where_the_rain_of_the_raw_field_has_to_leave_many_cells(name: str, pair: str) -> None:
    raw, coarse = showers(MEANS[pair], seed=3)
    constrained = build(name, float(coarse.max())).project(raw, coarse, MEANS[pair])
    assert float(violation(constrained, coarse, MEANS[pair]).max()) <= 1e-6
    assert name not in POSITIVE or float(constrained.min()) >= 0


def near_their_limits(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Fields most of whose cells lie at a limit, and the highest value of each cell; the lowest is 0."""

    def chance() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    if kind == "drought":
        return torch.where(chance() < 0.95, 0.0, 20 * chance() ** 3), torch.full(shape, torch.inf, dtype=torch.float64)
    if kind == "humid":
        return (60 + 160 * (chance() - 0.5)).clamp(0, 100), torch.full(shape, 100.0, dtype=torch.float64)
    if kind == "sunrise":
        highest = 40 * (torch.arange(shape[-1]) - shape[-1] * chance()[..., :1, :1]).clamp(min=0).expand(shape)
        return highest * (0.2 + 0.75 * chance()), highest
    highest = torch.where(chance() < 0.5, 0.0, torch.exp(3 * chance() - 2))
    return highest * torch.where(chance() < 0.3, 0.0, torch.where(chance() < 0.5, 1.0, chance())), highest


@pytest.mark.parametrize("pair", MEANS)
@pytest.mark.parametrize("kind", ["drought", "humid", "sunrise", "all or nothing"])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_can_be_met_between_limits_is_met_even_where_nearly_all_cells_lie_at_one(kind, pair, seed) -> None:
    operator, generator = MEANS[pair], torch.Generator().manual_seed(seed)
    truth, highest = near_their_limits(kind, (24, 1, *operator.fine), generator)
    coarse, size = operator.mean(truth), truth.std()
    raw = truth + size * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    constrained = CONSTRAINTS["bounded"](low=0.0).project(raw, coarse, operator, high=highest)
    assert float(violation(constrained, coarse, operator).max()) <= 1e-8
    assert bool(((constrained >= 0) & (constrained <= highest)).all())


def test_the_bounded_field_is_the_nearest_one_between_the_bounds() -> None:
    fine, coarse = cells(6, 7, 0.5, 40, 0), cells(2, 2, 1.35, 40.1, 0.2)
    operator = mean_between(fine, coarse)
    generator = torch.Generator().manual_seed(5)
    raw = 80 + 30 * torch.randn(1, 1, *operator.fine, generator=generator, dtype=torch.float64)
    x = 60 + 39 * torch.rand(1, 1, *operator.coarse, generator=generator, dtype=torch.float64)
    found = CONSTRAINTS["bounded"](low=0.0, high=100.0).project(raw, x, operator).numpy().ravel()
    mean, _ = _matrices(operator)
    cover = fine.area.ravel() / fine.area.mean()
    start = raw.numpy().ravel()
    touched = operator.touched.numpy().ravel()

    def distance(y: np.ndarray) -> float:
        return float((cover * (y - start) ** 2).sum() / 2)

    nearest = optimize.minimize(
        distance,
        np.clip(start, 0, 100),
        jac=lambda y: cover * (y - start),
        bounds=[(0, 100)] * len(start),
        constraints={"type": "eq", "fun": lambda y: mean @ y - x.numpy().ravel(), "jac": lambda y: mean},
        options={"maxiter": 500, "ftol": 1e-14},
    ).x
    np.testing.assert_allclose(found[touched], nearest[touched], atol=2e-3)
    assert distance(np.where(touched, found, start)) <= distance(np.where(touched, nearest, start)) + 1e-4


@pytest.mark.parametrize("name", HARD)
def test_gradients_match_finite_differences(name: str) -> None:
    operator = mean_between(cells(6, 7, 0.5, 40, 0), cells(2, 2, 1.35, 40.1, 0.2))
    generator = torch.Generator().manual_seed(7)
    raw = (torch.randn(1, 1, *operator.fine, generator=generator, dtype=torch.float64) + 0.7).requires_grad_()
    coarse = (torch.rand(1, 1, *operator.coarse, generator=generator, dtype=torch.float64) + 0.4).requires_grad_()
    if name == "multiplicative":  # its gradient for negative raw values is not the derivative, on purpose
        raw = raw.detach().abs().add(0.1).requires_grad_()
    constraint = build(name)
    inside = operator.touched

    def constrained(fine: Tensor, values: Tensor) -> Tensor:
        return constraint.project(fine, values, operator)[..., inside]

    assert torch.autograd.gradcheck(constrained, (raw, coarse), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("inverse", [True, False])
def test_gradients_in_training_are_those_of_double_precision(
    name: str, inverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inverse:
        monkeypatch.setattr(SparseMean, "inverse_as", lambda *_: None)
    operator = MEANS["rotated to regular"]
    raw, coarse = rain(operator, batch=1)
    weight = torch.randn(raw.shape, generator=torch.Generator().manual_seed(3))
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = raw.to(dtype).clone().requires_grad_()
        (build(name).project(leaf, coarse.to(dtype), operator) * weight.to(dtype)).sum().backward()
        found.append(leaf.grad.double())
    difference = (found[0] - found[1]).norm() / found[1].norm()
    assert float(difference) < 0.02


@pytest.mark.parametrize("name", HARD)
def test_an_admissible_field_is_left_alone(name: str) -> None:
    operator = MEANS["rotated to regular"]
    raw, coarse = rain(operator)
    once = build(name).project(raw, coarse, operator)
    again = build(name).reproject(once, coarse, operator)
    inside = operator.touched
    # Rounding to single precision is undone again, which moves rain between neighbours in some of the fields.
    tolerance = 1e-4 if name in ("multiplicative", "softmax") else 3e-6
    assert float((again - once).abs()[..., inside].max()) <= tolerance * float(once.abs()[..., inside].max())


@pytest.mark.parametrize("name", HARD)
def test_a_missing_coarse_value_frees_its_own_cells_and_the_others_stay_exact(name: str) -> None:
    operator = MEANS["ratio 2.5"]
    raw, coarse = rain(operator)
    holed = coarse.clone()
    holed[..., 3, 4] = torch.nan
    constrained = build(name).project(raw.requires_grad_(), holed, operator)
    constrained.square().sum().backward()
    assert torch.isfinite(raw.grad).all()
    exact = build(name).project(raw.detach(), holed, operator)
    assert float(violation(exact, holed, operator).max()) <= 1e-6
    hole = torch.zeros(operator.coarse).index_put((torch.tensor(3), torch.tensor(4)), torch.tensor(1.0))
    inside = operator.spread(hole) > 0.999
    assert int(inside.sum()) >= 4
    alone = raw.detach().clamp(min=0) if name in POSITIVE else raw.detach()
    assert torch.equal(exact[..., inside], alone[..., inside])


@pytest.mark.parametrize("name", HARD)
def test_values_of_missing_fine_cells_do_not_matter(name: str) -> None:
    operator = MEANS["sea missing"]
    raw, coarse = rain(operator)
    wild = torch.where(operator.touched, raw, torch.nan).requires_grad_()
    constrained = build(name).project(wild, coarse, operator)
    constrained[..., operator.touched].square().sum().backward()
    tame = build(name).project(raw.clone().requires_grad_(), coarse, operator)
    assert torch.equal(constrained[..., operator.touched], tame[..., operator.touched])
    assert torch.isfinite(wild.grad).all() and bool((wild.grad[..., ~operator.touched] == 0).all())


@pytest.mark.parametrize("name", HARD)
def test_what_happens_to_a_field_does_not_depend_on_the_others_in_its_batch(name: str) -> None:
    operator = MEANS["rotated to regular"]
    raw, coarse = rain(operator, batch=6)
    together = build(name).project(raw, coarse, operator)
    single = torch.cat([build(name).project(raw[[i]], coarse[[i]], operator) for i in range(6)])
    torch.testing.assert_close(together, single, rtol=2e-7, atol=0)


def test_members_share_their_coarse_field() -> None:
    operator = MEANS["ratio 2.5"]
    raw, coarse = rain(operator)
    members = torch.stack([raw, raw.flip(-1), raw.flip(-2)])
    for name in HARD:
        constrained = build(name).project(members, coarse, operator)
        assert constrained.shape == members.shape
        assert float(violation(constrained, coarse, operator).max()) <= 1e-6


def test_values_beyond_the_bounds_are_counted_and_their_cells_lie_at_the_bound() -> None:
    operator = MEANS["ratio 2.5"]
    generator = torch.Generator().manual_seed(2)
    raw = 70 + 20 * torch.randn(2, 1, *operator.fine, generator=generator)
    coarse = 40 + 50 * torch.rand(2, 1, *operator.coarse, generator=generator)
    coarse[0, 0, 2, 2], coarse[1, 0, 0, 0] = 103.0, -2.0
    constrained = CONSTRAINTS["bounded"](low=0.0, high=100.0).project(raw, coarse, operator)
    assert float(constrained.min()) >= 0 and float(constrained.max()) <= 100
    wrong = (operator.mean(constrained.double()) - coarse).abs() > 1e-3
    assert bool(wrong[0, 0, 2, 2]) and bool(wrong[1, 0, 0, 0])
    assert int(unmet(constrained, coarse, operator)) == int(wrong.sum()) <= 18


def test_a_block_mean_as_a_sparse_one_gives_what_the_closed_formulas_give() -> None:
    from finegrid.bridge import BlockMean

    grid = cells(12, 15, 0.5, 40, 0)
    block = BlockMean(grid.area, (4, 3))
    sparse_block = mean_between(grid, grid.coarsened((4, 3)))
    assert sparse_block.disjoint and sparse_block.whole
    raw, coarse = rain(sparse_block)
    for name in HARD:
        torch.testing.assert_close(
            build(name).project(raw, coarse, sparse_block),
            build(name).project(raw, coarse, block),
            rtol=1e-5,
            atol=1e-6,
        )


def test_regions_that_overlap_and_cells_in_none_are_served_too() -> None:
    shared = sparse.csr_array(np.array([[1.0, 2.0, 1.0, 0, 0, 0], [0, 0, 2.0, 1.0, 0, 0]]))
    operator = SparseMean(shared, (1, 6), (1, 2))
    raw, coarse = torch.rand(4, 1, 1, 6) + 0.1, torch.rand(4, 1, 1, 2) + 0.5
    for name in HARD:
        constrained = build(name).project(raw, coarse, operator)
        assert float(violation(constrained, coarse, operator).max()) <= 1e-6
        assert torch.equal(constrained[..., 4:], raw[..., 4:])


def test_two_coarse_cells_with_the_same_only_cell_are_met_when_they_agree_and_counted_when_not() -> None:
    operator = SparseMean(sparse.csr_array(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])), (1, 2), (1, 3))
    raw = torch.rand(1, 1, 1, 2) + 0.1
    for name in HARD:
        agreed = build(name).project(raw, torch.tensor([[[[2.0, 2.0, 1.0]]]]), operator)
        torch.testing.assert_close(agreed, torch.tensor([[[[2.0, 1.0]]]]))
        torn = torch.tensor([[[[2.0, 3.0, 1.0]]]])
        assert int(unmet(build(name).project(raw, torn, operator), torn, operator)) >= 1


def _dense(operator: SparseMean) -> np.ndarray:
    """The areas behind a mean, each row in units of its own total."""
    unit = torch.eye(operator.fine[0] * operator.fine[1], dtype=torch.float64)
    mean = operator.mean(unit.reshape(-1, *operator.fine)).reshape(len(unit), -1).T.numpy()
    return mean * operator.weight.numpy()


def _matrices(operator: SparseMean) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the spread as dense matrices, from their action on single cells."""
    unit = torch.eye(operator.coarse[0] * operator.coarse[1], dtype=torch.float64)
    spread = operator.spread(unit.reshape(-1, *operator.coarse)).reshape(len(unit), -1).T.numpy()
    weight = operator.weight.numpy()
    return _dense(operator) / np.where(weight > 0, weight, 1), spread


def test_mean_and_spread_are_adjoint_by_area_and_shared_cells_answer_by_their_parts() -> None:
    fine, _ = PAIRS["rotated to regular"]
    operator = MEANS["rotated to regular"]
    generator = torch.Generator().manual_seed(4)
    y = torch.randn(operator.fine, generator=generator, dtype=torch.float64)
    m = torch.randn(operator.coarse, generator=generator, dtype=torch.float64)
    weight = operator.weight.reshape(operator.coarse)
    area = torch.from_numpy(fine.area.copy())
    unit = float((area / area.mean()).sum())
    one = float((weight * operator.mean(y[None])[0] * m).sum())
    shared = operator.touched * area
    other = (
        float((shared * y * operator.spread(m[None])[0]).sum())
        * float(weight.sum())
        / float((shared * operator.spread(torch.ones_like(m)[None])[0]).sum())
    )
    assert unit > 0 and one == pytest.approx(other, rel=2e-3)
    assert float(operator.spread(torch.ones_like(m)[None]).max()) <= 1 + 1e-9
