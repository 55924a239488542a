"""What a backbone is: a network from coarse to fine tensors that knows nothing of units and coordinates.

    coarse (batch, inputs, h, w), static (1, S, H, W) or None, fine (batch, F, H, W), condition (batch, D)
        ->  fine (batch, outputs, H, W),        H = fy * h, W = fx * w

`fine` are further inputs on the fine grid, such as a first guess or a noisy field; `condition` is one vector for a
sample, such as a noise level or the noise that makes a member, which acts through adaptive norms (`blocks.Modulation`).

Every backbone takes the same keywords for the problem (`inputs`, `outputs`, `factor`, `shape`, `static`, `fine`,
`condition`, `padding`) and its own for its size (`width`, `depth`, ...). `shape` is that of the coarse grid, which a
network with learned position embeddings is tied to; a fully convolutional one ignores it. A network that halves its
grid says by `stride` of how many coarse cells the corner of a window must be a multiple (`windows`).
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """Coarse fields in, fine fields out; see the module docstring for shapes."""

    def __call__(
        self,
        coarse: Tensor,
        static: Tensor | None = None,
        fine: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor: ...
