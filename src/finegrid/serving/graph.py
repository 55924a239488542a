"""A fitted downscaler as one graph: coarse tensors in, fine fields in physical units out, the constraint last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finegrid.backbones.blocks import repeated
from finegrid.conventions import InputError
from finegrid.conventions.components import word_of
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.serving.linear_graph import raw_graph
from finegrid.serving.means import rows_of
from finegrid.serving.neural_graph import Refined
from finegrid.serving.seen import Weather, known
from finegrid.serving.signature import Signature
from finegrid.serving.straight import straight


class Constrained(nn.Module):
    """A downscaler's fields after its constraint."""

    def __init__(self, downscaler: Downscaler, signature: Signature) -> None:
        super().__init__()
        conservation = downscaler.conservation
        self.constraint, self.operator = straight(conservation.to("cpu")), rows_of(conservation.operator)
        if isinstance(downscaler, NeuralDownscaler):
            inner = downscaler._mean
            self.raw: nn.Module = Refined(downscaler, None if inner is None else Constrained(inner, signature))
        else:
            self.raw = raw_graph(downscaler, signature)

    def forward(self, weather: Weather) -> Tensor:
        """Fine fields (batch, output, H, W), in physical units."""
        fields: Tensor = self.constraint.project(self.raw(weather), weather.own, self.operator)  # type: ignore[operator]
        return fields


class Graph(nn.Module):
    """What is exported: the inputs of a `Signature` to fine fields (batch, output, y, x) on the fine file's grid.

    Fine cells of a missing coarse cell are missing, and so are those that the grid masks.

    Raises:
        InputError: for what cannot be exported; says what can.
    """

    mask: Tensor | None

    def __init__(self, downscaler: Downscaler, signature: Signature) -> None:
        super().__init__()
        if downscaler.adjust is not None:
            raise InputError(
                f"got a model with the bias adjustment '{word_of(downscaler.adjust)}', which looks at whole records; "
                "expected one without; fit without --adjust, and adjust the coarse files before"
            )
        self.signature, self.factor = signature, downscaler.domain.factor
        self.answer = Constrained(downscaler, signature)
        rows, columns = downscaler.domain.true_grid.shape
        self.inside = (slice(rows), slice(columns))
        mask = downscaler.domain.grid.mask
        self.register_buffer("mask", None if mask is None else torch.as_tensor(mask.copy()), persistent=False)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The inputs in the order of the signature's names."""
        weather = Weather.of(self.signature, tensors)
        fine = self.answer(weather)
        there = repeated(known(weather.outputs), self.factor)
        there = there if self.mask is None else there & self.mask
        return torch.where(there, fine, torch.nan)[..., self.inside[0], self.inside[1]]
