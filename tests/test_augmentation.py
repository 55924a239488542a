"""Turned samples stay true: fine and coarse turn alike, runs repeat, and what has a place or a direction is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn import functional

from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.downscalers import NeuralDownscaler
from finegrid.heads import Conditions
from finegrid.training import SYMMETRIES, Samples, Settings, symmetries_of
from finegrid.training.augmentation import turned
from finegrid.training.batches import batch_at

FEW = {"steps": 2, "budget": None, "batch": 4, "device": "cpu", "augment": "flips"}


def samples(count: int = 12, *, rows: int = 3, columns: int = 3, factor: int = 2, number: int = 8) -> Samples:
    """Random fields with their block means, and a first guess that is the coarse value spread out."""
    random = torch.Generator().manual_seed(0)
    fine = torch.randn(count, 1, factor * rows, factor * columns, generator=random)
    coarse = functional.avg_pool2d(fine, factor)
    spread = coarse.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return Samples(fine, Conditions(coarse, coarse, coarse, spread), SYMMETRIES[:number])


def test_the_eight_symmetries_are_different_and_the_first_changes_nothing():
    field = torch.arange(9.0).reshape(3, 3)
    seen = {tuple(symmetry(field).flatten().tolist()) for symmetry in SYMMETRIES}
    assert len(seen) == len(SYMMETRIES) == 8
    assert torch.equal(SYMMETRIES[0](field), field)


def test_a_turned_fine_field_has_the_turned_block_means_and_first_guess():
    fine, known = batch_at(3, samples(), batch=12, seed=1)
    means = functional.avg_pool2d(fine, 2)
    for values in (known.features, known.coarse, known.conserved):
        assert torch.allclose(values, means, atol=1e-6)
    assert torch.allclose(known.reference, means.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)


def test_each_sample_is_turned_by_itself_and_every_symmetry_occurs():
    plain = samples(400)
    fine, _ = turned(plain.fine, plain.given, SYMMETRIES, torch.Generator().manual_seed(0))
    drawn = [
        next(index for index, each in enumerate(SYMMETRIES) if torch.equal(each(before), after))
        for before, after in zip(plain.fine, fine, strict=True)
    ]
    assert (np.bincount(drawn, minlength=8) > 25).all()


def test_missing_cells_and_limits_turn_with_the_field():
    field = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(64, 1, 1, 1)
    field[:, :, 0, 1] = torch.nan
    known = Conditions(field, field, field, field, high=field + 1)
    fine, after = turned(field, known, SYMMETRIES, torch.Generator().manual_seed(0))
    assert torch.equal(fine.isnan(), after.reference.isnan())
    assert torch.equal(fine.nan_to_num() + 1, after.high.nan_to_num(nan=1.0))
    assert not torch.equal(fine.isnan(), field.isnan())


def test_the_batch_is_a_function_of_seed_and_step():
    plain = samples().at(torch.zeros(12, dtype=torch.long))  # equal samples: only how they are turned can differ
    equal = Samples(*plain, SYMMETRIES)
    first, again = (batch_at(5, equal, batch=6, seed=2)[0] for _ in range(2))
    other, later = batch_at(5, equal, batch=6, seed=3)[0], batch_at(7, equal, batch=6, seed=2)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_without_symmetries_the_batch_is_what_it_was_and_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fine, _ = batch_at(2, samples(number=1), batch=4, seed=0)
    batch_at(2, samples(), batch=4, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    plain = samples(number=1).fine
    assert all((field == plain).flatten(1).all(1).any() for field in fine)


def test_samples_keep_their_symmetries_on_another_device():
    assert samples().to("cpu").symmetries == SYMMETRIES


def test_a_plane_of_equal_cells_has_the_symmetries_of_its_shape():
    assert symmetries_of(torch.ones(4, 4), (2, 2)) == SYMMETRIES
    assert symmetries_of(torch.ones(4, 8), (2, 2)) == SYMMETRIES[:4]
    assert symmetries_of(torch.ones(4, 4), (2, 1)) == SYMMETRIES[:4]
    assert symmetries_of(torch.ones(4, 4), (2, 2), periodic=True) == SYMMETRIES[:4]


def test_rows_of_unequal_area_are_not_exchanged():
    latitudes = torch.deg2rad(torch.linspace(50, 58, 16))
    weight = torch.cos(latitudes)[:, None].repeat(1, 16)
    assert symmetries_of(weight, (4, 4)) == (SYMMETRIES[0], SYMMETRIES[1])


def test_a_coast_has_no_symmetry_but_its_own():
    weight = torch.ones(4, 4)
    weight[:, 0] = 0.0
    assert [(each.flip_y, each.flip_x, each.transposed) for each in symmetries_of(weight, (2, 2))] == [
        (False, False, False),
        (True, False, False),
    ]


def plane(name="pr", units="mm/day", *, times: int = 12, cells: int = 8, size: float = 1000.0) -> xr.Dataset:
    """Fields on a projected square."""
    values = np.random.default_rng(0).gamma(1.0, size=(times, cells, cells)).astype(np.float32)
    axis = (np.arange(cells) + 0.5 - cells / 2) * size
    crs = {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": 0.0,
        "longitude_of_projection_origin": 0.0,
        "earth_radius": 6_371_000.0,
    }
    return xr.Dataset(
        {name: (("time", "y", "x"), values, {"units": units, "grid_mapping": "crs"})},
        coords={
            "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D"),
            "y": ("y", axis, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", axis, {"units": "m", "standard_name": "projection_x_coordinate"}),
            "crs": ((), np.int32(0), crs),
        },
    )


def network(**options) -> NeuralDownscaler:
    backbone = {"name": "resnet", "width": 8, "depth": 1, "embedding": 0, **options.pop("backbone", {})}
    return NeuralDownscaler(**{"backbone": backbone, "mean": None, "settings": Settings(**FEW), **options})


def test_a_network_learns_otherwise_from_turned_samples():
    fine = plane()
    turning, plain = (Settings(**{**FEW, "augment": how}) for how in ("flips", "none"))
    found = [network(settings=each).fit(coarsen(fine, 2), fine, validate=0.0) for each in (turning, plain)]
    answers = [each.predict(coarsen(fine, 2)).pr.values for each in found]
    assert np.isfinite(answers[0]).all()
    assert not np.array_equal(*answers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": {"embedding": 4}}, "backbone.embedding: 0"),
        ({"backbone": {"cell_bias": True}}, "backbone.cell_bias: false"),
        ({"transforms": {"pr": "standardise-per-cell"}}, "standardise-per-cell of pr"),
    ],
)
def test_what_learns_a_place_is_refused(options, words):
    fine = plane()
    with pytest.raises(InputError, match=f"training.augment: flips, but .*{words}.*augment: none"):
        network(**options).fit(coarsen(fine, 2), fine, validate=0.0)


def test_winds_and_static_fields_are_refused():
    wind = plane("u10", "m/s")
    with pytest.raises(InputError, match="u10 has a direction"):
        network().fit(coarsen(wind, 2), wind, validate=0.0)
    fine = plane()
    height = plane("orog", "m", times=1).isel(time=0, drop=True)
    with pytest.raises(InputError, match=r"static fields orog.* have a place"):
        network().fit(coarsen(fine, 2), fine, static=height, validate=0.0)


def test_fields_on_cells_of_their_own_are_refused():
    fine = plane()
    with pytest.raises(InputError, match="no blocks of fine ones"):
        network().fit(plane(cells=4, size=3000.0), fine, validate=0.0)


def test_a_latitude_longitude_domain_is_only_mirrored_from_east_to_west(toy_fine, toy_coarse):
    fitted = network(variables={"pr": "pr"}).fit(toy_coarse, toy_fine, validate=0.0)
    assert symmetries_of(torch.tensor(fitted.domain.grid.area), fitted.domain.factor) == SYMMETRIES[:2]
