"""What a backbone is: a network from coarse to fine tensors that knows nothing of units and coordinates.

    coarse (batch, inputs, h, w), static (1, S, H, W) or None  ->  fine (batch, outputs, H, W)
    H = fy * h, W = fx * w

Every backbone takes the same keywords for the problem (`inputs`, `outputs`, `factor`, `shape`, `static`,
`padding`) and its own for its size (`width`, `depth`, ...). `shape` is that of the coarse grid, which a
network with learned position embeddings is tied to; a fully convolutional one ignores it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """Coarse fields in, fine fields out; see the module docstring for shapes."""

    def __call__(self, coarse: Tensor, static: Tensor | None = None) -> Tensor: ...
