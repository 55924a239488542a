"""What every head that makes members has to do on an awkward problem: odd sizes, two fields, holes, a constraint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

import heads_toy
from finegrid.backbones.blocks import repeated
from finegrid.heads import Conditions, Draws, Head, Problem

FACTOR, SHAPE = (2, 3), (3, 5)


def added(fine: Tensor, given: Conditions) -> Tensor:
    """The fields with the coarse values as block means."""
    return fine + repeated(given.coarse - functional.avg_pool2d(fine, FACTOR), FACTOR)


def awkward(backbone: str = "resnet", **options: object) -> Problem:
    static = torch.randn(1, 2, 6, 15, generator=torch.Generator().manual_seed(5))
    own = heads_toy.space(shape=SHAPE, factor=FACTOR, outputs=2, static=static, project=added)
    return heads_toy.problem(own, shape=SHAPE, inputs=2, backbone=backbone, **options)


def pair(count: int = 4) -> tuple[Tensor, Conditions]:
    generator = torch.Generator().manual_seed(6)
    given = heads_toy.conditions(torch.randn(count, 2, *SHAPE, generator=generator), FACTOR)
    return given.reference + torch.randn(count, 2, 6, 15, generator=generator), given


def holed(fine: Tensor) -> Tensor:
    """Without some cells, the first sample without any."""
    holes = torch.rand(fine.shape, generator=torch.Generator().manual_seed(7)) < 0.3
    holes[0] = True
    return torch.where(holes, torch.nan, fine)


def check_missing_truth(head: Head) -> None:
    """Finite loss and gradients; the loss in evaluation is the same each time."""
    fine, given = pair()
    for _ in range(3):
        head.train()
        loss = head.loss(holed(fine), given)
        assert loss.shape == (4,) and torch.isfinite(loss).all()
        loss.mean().backward()
    gradients = [each.grad for each in head.parameters() if each.grad is not None]
    assert gradients and all(torch.isfinite(each).all() for each in gradients)
    head.eval()
    with torch.no_grad():
        first, second = head.loss(holed(fine), given), head.loss(holed(fine), given)
    assert torch.equal(first, second) and torch.isfinite(first).all()


@torch.no_grad()
def check_members(head: Head) -> None:
    """Members conserve, differ, and are the same whatever else is drawn with them."""
    _, given = pair(3)
    head.eval()
    members = head.sample(given, Draws.of(3, [0, 1, 2], [10, 11, 12]))
    assert members.shape == (3, 3, 2, 6, 15)
    means = functional.avg_pool2d(members.flatten(0, 1), FACTOR).reshape(3, 3, 2, *SHAPE)
    torch.testing.assert_close(means, given.coarse.expand_as(means), atol=1e-5, rtol=0)
    assert (members[0] - members[1]).abs().max() > 1e-4
    alone = head.sample(given.at(slice(1, 2)), Draws.of(3, [2], [11]))
    torch.testing.assert_close(alone[0, 0], members[2, 1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def check_saved(make: Callable[[], Head]) -> None:
    """Another one with the same numbers draws the same members."""
    _, given = pair(2)
    first, second = make().eval(), make().eval()
    second.load_state_dict(first.state_dict())
    draws = [Draws.of(0, [0, 1], [0, 1]) for _ in range(2)]
    assert torch.equal(first.sample(given, draws[0]), second.sample(given, draws[1]))
