"""Mixed samples stay true to their coarse values, runs repeat, and whoever asks for none gets what there was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from finegrid.heads import Conditions, Head
from finegrid.training import Samples, Settings, train
from finegrid.training.augmentation import mixed


def batch(count: int = 12, factor: int = 2) -> tuple[Tensor, Conditions]:
    """Random fields with their block means, a first guess that is the coarse value spread out, and limits above."""
    fine = torch.rand(count, 1, 3 * factor, 4 * factor, generator=torch.Generator().manual_seed(0))
    coarse = functional.avg_pool2d(fine, factor)
    spread = coarse.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return fine, Conditions(coarse, coarse, coarse, spread, high=fine + 0.5)


def test_a_mixed_fine_field_has_the_mixed_block_means_first_guess_and_limits():
    plain, given = batch()
    fine, known = mixed(plain, given, 1.0, seed=0, step=3)
    means = functional.avg_pool2d(fine, 2)
    assert not torch.allclose(fine, plain, atol=1e-2)
    for values in (known.features, known.coarse, known.conserved):
        assert torch.allclose(values, means, atol=1e-6)
    assert torch.allclose(known.reference, means.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)
    assert torch.allclose(known.high, fine + 0.5, atol=1e-6)


def test_each_sample_is_mixed_with_another_one_of_which_it_has_the_smaller_part():
    identity = torch.eye(16).reshape(16, 1, 4, 4)
    fine, _ = mixed(identity, Conditions(*[identity] * 4), 1.0, seed=0, step=0)
    parts = fine.flatten(1)
    assert torch.allclose(parts.sum(1), torch.ones(16))
    assert (parts > 0).sum(1).tolist() == [2] * 16
    assert (parts > 0).sum(0).tolist() == [2] * 16
    assert (parts.diagonal() >= 0.5).all()
    assert len(parts.diagonal().unique()) == 16


def test_the_mixed_batch_is_a_function_of_seed_and_step_and_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = (mixed(*batch(), 0.4, seed=1, step=5)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, mixed(*batch(), 0.4, seed=2, step=5)[0])
    assert not torch.equal(first, mixed(*batch(), 0.4, seed=1, step=6)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_alpha_zero_and_a_single_sample_change_nothing():
    for count, alpha in ((12, 0.0), (1, 1.0)):
        plain, given = batch(count)
        fine, known = mixed(plain, given, alpha, seed=0, step=0)
        assert torch.equal(fine, plain)
        assert torch.equal(known.reference, given.reference)


def test_small_alphas_mix_less_than_large_ones():
    plain, given = batch(200)
    moved = [(mixed(plain, given, alpha, seed=0, step=0)[0] - plain).abs().mean() for alpha in (0.05, 0.4, 4.0)]
    assert moved[0] < moved[1] < moved[2]


def test_what_is_missing_in_either_of_the_two_is_missing_in_the_mixed_one():
    plain, _ = batch(8)
    plain[0, 0, 0, 0] = plain[1, 0, 1, 1] = torch.nan
    fine, _ = mixed(plain, Conditions(*[plain] * 4), 1.0, seed=0, step=0)
    assert fine[0, 0, 0, 0].isnan()
    assert fine[1, 0, 1, 1].isnan()
    assert int(fine.isnan().sum()) == 4


class Mean(Head):
    """The mean of all that it has seen."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self.value, self.tell = nn.Parameter(torch.zeros(1)), tell

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        self.tell(self.training, fine, given)
        return ((fine - self.value) ** 2).mean((-3, -2, -1))

    def sample(self, given, draws, project=None):
        raise NotImplementedError


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_training_mixes_its_batches_and_not_those_that_judge(alpha):
    seen = {True: [], False: []}
    head, fields = Mean(lambda training, fine, given: seen[training].append((fine, given))), torch.eye(6)
    samples = Samples(fields.reshape(6, 1, 2, 3), Conditions(*[fields.reshape(6, 1, 2, 3)] * 4))
    train(head, samples, Settings(steps=3, budget=None, batch=6, mixup=alpha, device="cpu"), validation=samples)
    assert len(seen[True]) == len(seen[False]) == 3
    for training, batches in seen.items():
        for fine, given in batches:
            assert torch.equal(fine, given.reference)
            assert bool(((fine == 0) | (fine == 1)).all()) == (alpha == 0 or not training)


def test_an_alpha_below_zero_is_refused_when_it_is_given():
    with pytest.raises(ValidationError, match=r"mixup[\s\S]*greater than or equal to 0"):
        Settings(mixup=-0.1)
    assert Settings().mixup == 0.0
    assert np.isfinite(Settings(mixup=1.0).mixup)
