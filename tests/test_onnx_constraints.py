"""Constraints in the form that a graph holds: the same fields as those of the constraints, also in a plain runtime."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from finegrid.bridge import BlockMean
from finegrid.constraints import CONSTRAINTS, SparseMean, violation
from finegrid.serving import onnx_export
from finegrid.serving.means import rows_of
from finegrid.serving.straight import _straight

HARD: dict[str, dict[str, Any]] = {
    "add": {},
    "scaled-add": {"low": [0.0, -5.0], "high": [9.0, 5.0]},
    "multiplicative": {},
    "softmax": {"scale": [2.0, 1.0]},
    "bounded": {"low": [0.0, -1.0], "high": [6.0, 1.5]},
}
WIDTH, COARSE = (8, 12), (2, 3)


def raw_and_coarse(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw fields far from their coarse values, dry and missing cells among these, (7, 2, ...)."""
    random = np.random.default_rng(3)
    fine, coarse = 2 * random.normal(size=(7, 2, *WIDTH)), random.gamma(1.0, 1.0, size=(7, 2, *COARSE))
    coarse[2] = 0.0
    coarse[4, 0, 0, 0] = 20.0  # beyond all limits
    coarse[3, 0, 1, 1] = np.nan
    coarse[:, 1] -= 1.0 if name in ("add", "bounded") else 0.0
    return torch.as_tensor(fine).float(), torch.as_tensor(coarse).float()


def operator(*, masked: bool) -> BlockMean:
    mask = np.random.default_rng(1).random(WIDTH) > 0.3 if masked else None
    return BlockMean(np.linspace(1.0, 2.0, 8)[:, None] * np.ones(WIDTH), (4, 4), mask=mask)


class Conserving:
    """What `_straight` asks of a downscaler's constraint."""

    def __init__(self, mean: BlockMean | SparseMean) -> None:
        self.operator, self.table = mean, "of the test"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", HARD)
def test_a_constraint_without_branches_gives_the_same_fields_to_the_bit(name, masked):
    constraint, mean = CONSTRAINTS[name](**HARD[name]), operator(masked=masked)
    fine, coarse = raw_and_coarse(name)
    found = _straight(constraint, Conserving(mean)).project(fine, coarse, rows_of(mean))
    valid = torch.ones(WIDTH, dtype=torch.bool) if not masked else mean._joined(mean.valid)
    expected = constraint.project(fine, coarse, mean)
    assert_array_equal(found[..., valid], expected[..., valid])
    assert float((expected - fine)[..., valid].abs().max()) > 0.1  # the constraint had something to do


class Every(torch.nn.Module):
    """All hard constraints as one graph, a row of fields for each."""

    def __init__(self, mean: BlockMean) -> None:
        super().__init__()
        built = [CONSTRAINTS[name](**HARD[name]) for name in HARD]
        self.parts, self.mean = torch.nn.ModuleList(_straight(each, Conserving(mean)) for each in built), rows_of(mean)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.project(fine, coarse, self.mean) for part in self.parts], dim=1)


@pytest.mark.long
def test_every_hard_constraint_conserves_in_a_plain_runtime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    mean = operator(masked=True)
    fine, coarse = raw_and_coarse("multiplicative")
    dims = {0: torch.export.Dim("batch")}
    with onnx_export._quietly(), torch.no_grad():
        program = torch.onnx.export(
            Every(mean),
            (fine, coarse),
            dynamo=True,
            dynamic_shapes=(dims, dims),
            opset_version=20,
            optimize=False,
            verbose=False,
        )
    program.save(tmp_path / "every.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "every.onnx")
    for times in (7, 1):
        names = [each.name for each in session.get_inputs()]
        feeds = dict(zip(names, (fine[:times].numpy(), coarse[:times].numpy()), strict=True))
        found = session.run(None, feeds)[0]
        for place, name in enumerate(HARD):
            expected = CONSTRAINTS[name](**HARD[name]).project(fine[:times], coarse[:times], mean).numpy()
            valid = mean._joined(mean.valid).numpy()
            assert_allclose(found[:, place][..., valid], expected[..., valid], rtol=1e-5, atol=1e-5, err_msg=name)
            if name not in ("bounded", "scaled-add"):
                assert float(violation(torch.as_tensor(found[:, place]), coarse[:times], mean).max()) < 1e-5, name
