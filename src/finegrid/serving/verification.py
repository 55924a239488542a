"""Whether a graph answers as its model does: both are given the same fields, and the answers are compared.

    departure = max |graph - model| / (max model - min model)          per variable, over known cells

Missing values have to be missing in both. Of what the graph answers it is measured, too, how far it conserves, as of
any output (`pipeline.departure`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise
from finegrid.data.joining import along_time
from finegrid.data.predictors import steps_since_epoch
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.evaluation.metrics import CONSERVED
from finegrid.heads import Draws
from finegrid.pipeline.about import conservation_words
from finegrid.pipeline.departure import Departure
from finegrid.serving.example import drawn
from finegrid.serving.neural_graph import noise_of
from finegrid.serving.signature import Signature

TOLERANCE = 1e-5
"""Largest departure of a graph, in parts of the range of a field: what single precision leaves."""
_MOST_TIMES, _LEAST_TIMES = 64, 4
# Fine values that are compared, and those that the graph makes at once.
_MOST_VALUES, _AT_ONCE = 1 << 25, 1 << 22
# Of the member that is compared.
_SEED = 0


@dataclass(frozen=True)
class Verified:
    """What a comparison has found.

    Attributes:
        departure: largest difference of every variable from the model's answer, in parts of its range.
        violation: largest relative departure of the graph's means from the coarse field.
        conservation: the same as a sentence.
        missing_alike: whether the same cells are missing.
        times: how many times were compared.
        fields: of what, in words.
        keeps: whether the graph conserves as well as the model does.
    """

    departure: dict[str, float]
    violation: float
    conservation: str
    missing_alike: bool
    times: int
    fields: str
    keeps: bool

    @property
    def largest(self) -> float:
        """The largest departure of all variables."""
        return max(self.departure.values())

    @property
    def passed(self) -> bool:
        """Whether graph and model are the same but for rounding."""
        return self.largest <= TOLERANCE and self.missing_alike and self.keeps

    @property
    def words(self) -> str:
        """The comparison as a sentence."""
        each = ", ".join(f"{name} {value:.1e}" for name, value in self.departure.items())
        return f"departs from predict by {each} of the range, at {self.times} times of {self.fields}"

    def check(self) -> None:
        """Refuse a graph that is not the model.

        Raises:
            InputError: says by how much it departs.
        """
        if self.passed:
            return
        more = "" if self.missing_alike else "; other cells are missing"
        more += "" if self.keeps else f"; {self.conservation}"
        raise InputError(
            f"the graph {self.words}{more}; expected at most {TOLERANCE:g}, with the same cells missing and the same "
            "means, so nothing was written; give usual fields with --example, or report it with the model"
        )


def verify(graph: bytes, downscaler: Downscaler, example: xr.Dataset | None = None) -> Verified:
    """Compare a graph with its model.

    Args:
        graph: the ONNX file's content.
        downscaler: the model that it was made from.
        example: coarse fields as for `predict`, of which the first 64 times at most are used; None draws fields like
            those of training.

    Raises:
        InputError: when the example does not suit the model.
    """
    signature = Signature.of(downscaler)
    given = drawn(downscaler, signature) if example is None else _read(downscaler, example)
    feeds = {**signature.feeds(given), **scores_of(downscaler, given)}
    answer = run(graph, feeds, at_once=max(1, _AT_ONCE // _fine_values(downscaler)))
    predicted = along_time(list(downscaler.blocks(given, seed=_SEED)), downscaler.domain.names.time)
    standard, _ = harmonise(predicted)
    outputs = downscaler.domain.outputs
    expected = np.stack([_without_members(standard[name]) for name in outputs], axis=1)
    alike = bool((np.isnan(answer) == np.isnan(expected)).all())
    departure = {name: _departure(answer[:, place], expected[:, place]) for place, name in enumerate(outputs)}
    measured, usual = (_conserves(downscaler, given, each) for each in (answer, expected))
    keeps = measured.largest <= max(CONSERVED, 1.01 * usual.largest) or not downscaler.conservation.conserves
    words = conservation_words(downscaler, measured)
    fields = "fields drawn in the range of training" if example is None else "the example"
    return Verified(departure, measured.largest, words, alike, len(answer), fields, keeps)


def scores_of(downscaler: Downscaler, fields: xr.Dataset) -> dict[str, NDArray[np.float32]]:
    """The normal scores of the first member that the model draws (time, output, H, W); nothing where it draws none."""
    if not isinstance(downscaler, NeuralDownscaler) or not downscaler.random:
        return {}
    keys = steps_since_epoch(fields.time, downscaler.domain.step_seconds)
    draws = Draws.of(_SEED, range(1), [int(each) for each in keys])
    with torch.no_grad():
        return {"scores": noise_of(downscaler)(draws, len(downscaler.domain.outputs)).numpy()}


def run(graph: bytes, feeds: dict[str, NDArray[np.float32]], *, at_once: int = _MOST_TIMES) -> NDArray[np.float32]:
    """What a graph answers (time, output, y, x), so many times at once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    known = [each.name for each in session.get_inputs()]
    parts = [
        session.run(None, {name: feeds[name][start : start + at_once] for name in known})[0]
        for start in range(0, len(feeds["coarse"]), at_once)
    ]
    return np.concatenate(parts)


def _fine_values(downscaler: Downscaler) -> int:
    return downscaler.domain.grid.size * len(downscaler.domain.outputs)


def _read(downscaler: Downscaler, example: xr.Dataset) -> xr.Dataset:
    given = downscaler.read(example)
    times = max(_LEAST_TIMES, min(_MOST_TIMES, _MOST_VALUES // _fine_values(downscaler)))
    given = given.isel(time=slice(times)).load()
    if not given.sizes["time"]:
        raise InputError("got an example without times; expected at least one; give another --example")
    return given


def _without_members(field: xr.DataArray) -> NDArray[np.float32]:
    single = field.isel(member=0) if "member" in field.dims else field
    return np.asarray(single.transpose("time", "y", "x").values)


def _departure(answer: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    known = np.isfinite(expected) & np.isfinite(answer)
    if not known.any():
        return 0.0
    truth = expected[known].astype(np.float64)
    extent = float(np.ptp(truth)) or float(np.abs(truth).max()) or 1.0
    return float(np.abs(answer[known].astype(np.float64) - truth).max()) / extent


def _conserves(downscaler: Downscaler, given: xr.Dataset, fine: NDArray[np.float32]) -> Departure:
    domain = downscaler.domain
    coarse = domain.inputs.conserved(given)
    measure = Departure.of(domain, coarse, derived=downscaler.conservation.derived)
    fields: dict[str, Any] = {name: (("time", "y", "x"), fine[:, place]) for place, name in enumerate(domain.outputs)}
    measure.add(xr.Dataset(fields, coords={**domain.true_grid.coords(), "time": given.time}), coarse)
    return measure
