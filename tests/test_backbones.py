"""Every backbone keeps the contract of its stage: shapes, static fields, gradients, seeds, edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from finegrid.backbones import BACKBONES, UNet
from finegrid.backbones.blocks import shuffle, unshuffle
from finegrid.conventions import InputError

FACTORS = [(4, 4), (2, 3), (1, 6)]


def build(name: str, seed: int = 0, **options: object) -> nn.Module:
    """A small backbone: two inputs, three outputs, a factor of 2 x 3, 5 x 6 coarse cells by default."""
    torch.manual_seed(seed)
    defaults: dict[str, object] = {
        "inputs": 2,
        "outputs": 3,
        "factor": (2, 3),
        "shape": (5, 6),
        "width": 8,
        "depth": 2,
    }
    network = BACKBONES[name](**(defaults | options))
    assert isinstance(network, nn.Module)
    return network.eval()  # without the dropout of training


def field(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("batch", [1, 3])
def test_coarse_fields_become_fine_fields(name: str, factor: tuple[int, int], batch: int) -> None:
    fine = build(name, factor=factor, static=1)(field(batch, 2, 5, 6), field(1, 1, 5 * factor[0], 6 * factor[1]))
    assert fine.shape == (batch, 3, 5 * factor[0], 6 * factor[1])


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("padding", ["replicate", "zeros", "circular-longitude"])
def test_every_padding_keeps_the_size(name: str, padding: str) -> None:
    assert build(name, padding=padding)(field(1, 2, 5, 6)).shape == (1, 3, 10, 18)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_gradients_reach_every_parameter(name: str) -> None:
    options = {"cell_bias": True} if name == "resnet" else {}
    backbone = build(name, static=2, **options)
    backbone(field(2, 2, 5, 6), field(1, 2, 10, 18)).square().mean().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_seed_decides_the_weights(name: str) -> None:
    first, same, other = (build(name, seed=seed, static=1).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_static_fields_change_the_answer_where_they_change(name: str) -> None:
    backbone = build(name, static=1, shape=(16, 24), depth=1)
    coarse, static = field(1, 2, 16, 24), field(1, 1, 32, 72)
    raised = static.clone()
    raised[..., 0, 0] += 1.0
    change = (backbone(coarse, raised) - backbone(coarse, static)).abs().amax(1)[0]
    assert change[:2, :3].max() > 0
    assert change[-2:, -3:].max() < 1e-6


@pytest.mark.parametrize("name", list(BACKBONES))
def test_samples_of_a_batch_do_not_see_each_other(name: str) -> None:
    backbone, coarse = build(name), field(3, 2, 5, 6)
    torch.testing.assert_close(backbone(coarse)[1:2], backbone(coarse[1:2]))


@pytest.mark.parametrize("name", list(BACKBONES))
def test_around_the_earth_a_turned_input_gives_the_turned_output(name: str) -> None:
    options = {} if name == "srresnet" else {"embedding": 0}
    backbone = build(name, shape=(5, 8), padding="circular-longitude", static=1, **options)
    coarse, static = field(1, 2, 5, 8), field(1, 1, 10, 24)
    turned = backbone(coarse.roll(4, -1), static.roll(12, -1))  # 4: the U-Net halves twice
    torch.testing.assert_close(turned, backbone(coarse, static).roll(12, -1))


def test_a_replicated_edge_is_not_turned_around_the_earth() -> None:
    backbone, coarse = build("srresnet", padding="replicate"), field(1, 2, 5, 6)
    assert not torch.allclose(backbone(coarse.roll(3, -1)), backbone(coarse).roll(9, -1))


def test_srresnet_has_the_published_number_of_parameters() -> None:
    # the public code with its defaults: 32 channels, 4 residual blocks, one field, factor 4
    published = BACKBONES["srresnet"](inputs=1, outputs=1, factor=(4, 4), shape=(8, 12))
    assert sum(parameter.numel() for parameter in published.parameters()) == 100_833  # type: ignore[attr-defined]


def test_without_position_a_backbone_serves_other_domains() -> None:
    for name in BACKBONES:
        options = {} if name == "srresnet" else {"embedding": 0}
        assert build(name, **options)(field(1, 2, 7, 9)).shape == (1, 3, 14, 27)


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_with_position_another_domain_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="embedding=0"):
        build(name)(field(1, 2, 7, 9))


@pytest.mark.parametrize("name", list(BACKBONES))
def test_missing_static_fields_are_named(name: str) -> None:
    with pytest.raises(InputError, match="got none static fields; the backbone was built for 2"):
        build(name, static=2)(field(1, 2, 5, 6))


def test_dropout_acts_in_training_only() -> None:
    network, coarse = build("resnet", dropout=0.5), field(2, 2, 5, 6)
    assert torch.equal(network(coarse), network(coarse))
    network.train()
    assert not torch.equal(network(coarse), network(coarse))


def test_an_unknown_padding_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="got padding 'mirror'; expected one of replicate, zeros"):
        build("resnet", padding="mirror")


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 5)])
def test_unet_serves_sizes_that_its_levels_do_not_divide(shape: tuple[int, int]) -> None:
    for padding in ("replicate", "circular-longitude"):
        backbone = build("unet", shape=shape, depth=3, padding=padding)
        assert backbone(field(1, 2, *shape)).shape == (1, 3, 2 * shape[0], 3 * shape[1])


@pytest.mark.parametrize("padding", ["replicate", "circular-longitude"])
def test_unet_sees_beyond_the_edge_only_around_the_earth(padding: str) -> None:
    backbone = build("unet", shape=(4, 29), depth=1, embedding=0, padding=padding)
    coarse = field(1, 2, 4, 29)  # an odd width, which the U-Net has to extend
    western = coarse.clone()
    western[..., 0] += 1.0
    change = (backbone(western) - backbone(coarse)).abs()[..., -3:].max()
    assert (change > 0) == (padding == "circular-longitude")


def test_unet_runs_on_the_fine_grid_as_well() -> None:
    backbone = build("unet", static=1, resolution="fine")
    assert isinstance(backbone, UNet)
    assert backbone(field(2, 2, 5, 6), field(1, 1, 10, 18)).shape == (2, 3, 10, 18)


def test_shuffle_puts_the_channels_of_a_coarse_cell_into_its_fine_cells() -> None:
    features = torch.arange(2 * 6 * 2.0).reshape(1, 12, 1, 2)
    fine = shuffle(features, (2, 3))
    assert fine.shape == (1, 2, 2, 6)
    torch.testing.assert_close(fine[0, 1, :, 3:], features[0, 6:, 0, 1].reshape(2, 3))
    torch.testing.assert_close(shuffle(features.repeat(1, 3, 1, 1), (6, 6)).shape, torch.Size([1, 1, 6, 12]))
    assert torch.equal(unshuffle(fine, (2, 3)), features)
    torch.testing.assert_close(shuffle(field(2, 8, 3, 4), (2, 2)), nn.functional.pixel_shuffle(field(2, 8, 3, 4), 2))
