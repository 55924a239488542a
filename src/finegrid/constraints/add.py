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
        return fine + operator.spread(coarse - operator.mean(fine))

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        # The mean of differences is more exact than the difference of means.
        return fine + operator.spread(operator.mean(operator.spread(coarse) - fine))
