"""Tiles have no seams: whatever their size, fields are those of the whole domain at once, members included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import heads_toy
from finegrid.backbones import BACKBONES
from finegrid.backbones.manner import Manner
from finegrid.backbones.windows import Tiles, Window, reach, seen_through
from finegrid.conventions import InputError
from finegrid.conventions.components import bind, build
from finegrid.downscalers.plan import backbone_of
from finegrid.heads import HEADS, Draws, Head

FACTOR, SHAPE = (2, 3), (20, 24)
PADDINGS = ("replicate", "zeros", "circular-longitude")


def network(name: str, padding: str = "replicate", **options: object) -> nn.Module:
    torch.manual_seed(3)
    known = {"inputs": 2, "outputs": 2, "factor": FACTOR, "shape": SHAPE, "static": 1, "fine": 2, "condition": 3}
    made = BACKBONES[name](**known, width=6, depth=2, padding=padding, **options)
    assert isinstance(made, nn.Module)
    for each in made.parameters():  # also those that begin at zero, so that they show
        nn.init.normal_(each, std=0.3)
    return made.double().eval()


def inputs(batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    fine = (SHAPE[0] * FACTOR[0], SHAPE[1] * FACTOR[1])
    shapes = ((batch, 2, *SHAPE), (1, 1, *fine), (batch, 2, *fine), (batch, 3))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [3, 8, 13])
@torch.no_grad()
def test_tiles_answer_as_the_whole_domain_does(name: str, padding: str, size: int) -> None:
    made, shown = network(name, padding, **({"cell_bias": True} if name == "resnet" else {})), inputs()
    torch.testing.assert_close(Tiles(size).through(made, *shown), made(*shown), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("resolution", ["half", "fine"])
@torch.no_grad()
def test_a_u_net_on_finer_grids_has_no_seams_either(resolution: str) -> None:
    made, shown = network("unet", "circular-longitude", resolution=resolution), inputs()
    torch.testing.assert_close(Tiles(5).through(made, *shown), made(*shown), rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_a_width_that_the_halvings_do_not_divide_keeps_its_seam() -> None:
    made = network("unet", "circular-longitude", embedding=0)
    coarse, static, fine, condition = inputs()
    shown = coarse[..., :22], static[..., :66], fine[..., :66], condition
    torch.testing.assert_close(Tiles(6).through(made, *shown), made(*shown), rtol=1e-9, atol=1e-11)


@given(
    rows=st.integers(5, 30), columns=st.integers(5, 30), size=st.integers(1, 31), name=st.sampled_from(list(BACKBONES))
)
@settings(max_examples=15, deadline=None)
@torch.no_grad()
def test_any_domain_and_any_size_of_tile(rows: int, columns: int, size: int, name: str) -> None:
    options = {} if name == "srresnet" else {"embedding": 0}
    made = (
        BACKBONES[name](
            inputs=1, outputs=1, factor=(2, 2), shape=(rows, columns), width=4, depth=2, padding="replicate", **options
        )
        .double()
        .eval()
    )
    coarse = torch.randn(1, 1, rows, columns, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    torch.testing.assert_close(Tiles(size).through(made, coarse, None, None, None), made(coarse), rtol=1e-9, atol=1e-11)


def test_the_reach_is_the_receptive_field() -> None:
    shown = inputs()
    # Stem, two blocks of two convolutions and the way out: six cells of 3 x 3, on the coarse grid.
    assert reach(network("resnet"), *shown) == 6
    # One on the coarse grid, and six on the fine one along the side of two cells.
    assert reach(network("srresnet"), *shown) == 4
    assert reach(network("unet", resolution="fine"), *shown) < reach(network("unet"), *shown)


def test_a_network_that_sees_everything_cannot_be_tiled() -> None:
    class Means(nn.Module):
        def forward(self, coarse, static=None, fine=None, condition=None):  # type: ignore[no-untyped-def]
            return coarse + coarse.mean((-2, -1), keepdim=True)

    with pytest.raises(InputError, match="leave --tile out"):
        Tiles(4).through(Means(), torch.zeros(1, 1, 9, 9), None, None, None)
    with pytest.raises(InputError, match="at least 1"):
        Tiles(0)


def test_windows_go_around_the_earth_and_know_finer_grids() -> None:
    field = torch.arange(24.0).reshape(4, 6)
    window = Window((1, 2), (-1, 2), (2, 3))
    assert window.of(field).tolist() == [[16.0, 17.0, 12.0, 13.0, 14.0, 15.0], [22.0, 23.0, 18.0, 19.0, 20.0, 21.0]]
    inner = Window((1, 2), (0, 1), (2, 3)).within(window)
    assert inner.of(window.of(field)).tolist() == [[12.0, 13.0], [18.0, 19.0]]


def test_a_network_is_itself_again_after_a_window() -> None:
    made = network("resnet", cell_bias=True)
    with pytest.raises(ZeroDivisionError), seen_through(made, Window((0, 2), (0, 2), SHAPE)):
        assert made.stem.window is not None and made.window is not None
        raise ZeroDivisionError
    assert made.stem.window is None and made.window is None


def head_of(name: str, padding: str = "replicate") -> Head:
    """An untrained head whose networks do something, on a domain of two coarse fields."""
    torch.manual_seed(1)
    kind = HEADS[name]
    static = torch.randn(1, 1, SHAPE[0] * FACTOR[0], SHAPE[1] * FACTOR[1])
    own = heads_toy.space(shape=SHAPE, factor=FACTOR, outputs=1, static=static)
    usual = backbone_of(None, name)
    problem = heads_toy.problem(own, shape=SHAPE, backbone=usual["name"], width=8, depth=2, embedding=2)
    losses = (
        {"loss": bind(kind.usual_loss, kind.losses, "loss", "prediction", "truth", "weight")} if kind.losses else {}
    )
    made: Head = build(name, HEADS, "head", problem=problem, **losses)
    return made.eval()


@pytest.mark.parametrize("name", list(HEADS))
@torch.no_grad()
def test_members_of_every_head_are_those_of_the_whole_domain(name: str) -> None:
    head = head_of(name)
    coarse = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(8))
    told = heads_toy.conditions(coarse, FACTOR)
    members = [0, 1] if head.random else [0]
    whole = head.sample(told, Draws.of(5, members, [20, 21]))
    for size in (7, 16):
        tiled = head.answering(Manner(size)).sample(told, Draws.of(5, members, [20, 21]))
        torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(head.answering(Manner()).sample(told, Draws.of(5, members, [20, 21])), whole)
