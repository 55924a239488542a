"""AddCL: the same shift for every fine cell of a block.

    y_i = yt_i + (x - m)

It keeps the differences between neighbours that the network predicts, fits every unit, and is the orthogonal
projection onto the fields that conserve. It does not keep a sign: rain may become negative.

Source: Harder et al., JMLR 24(365), 2023, equation of the additive constraint layer.
"""

from __future__ import annotations

from torch import Tensor

from finegrid.constraints.base import Aggregation, HardConstraint


class AddConstraint(HardConstraint):
    """Shifts each block by what its mean lacks."""

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        # the mean of small differences, not the difference of large means: keeps the digits at 300 K
        return fine + operator.spread(operator.mean(operator.spread(coarse) - fine))

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._conserve(fine, coarse, operator)
