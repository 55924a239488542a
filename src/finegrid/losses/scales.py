"""CRPS of the fields and of their means over blocks of several sizes: spread has to be right at every scale.

    loss = sum_s a_s CRPS(means over blocks of s x s cells) / sum_s a_s

The CRPS of cells says nothing about whether neighbours move together. Where they should not and do, means over blocks
are too uncertain; where they should and do not, too certain: both cost. Blocks begin half a block before the field, so
that they lie across coarse cells: means over these are fixed by a constraint, and would teach nothing. Means are
weighted by the weights of the cells, over those whose truth is known, of members and truth alike; a block counts as
its cells together do.

Source: after Lang, Leutbecher and Maciel, "A multi-scale loss formulation for learning a probabilistic model with
proper score optimisation", 2025, arXiv:2506.10868, which smooths by kernels where this takes means over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.losses.base import departures, shares, weighted_mean
from finegrid.losses.crps import pointwise_crps
from finegrid.losses.energy import block_sums


def multi_scale_crps(
    prediction: Tensor,
    truth: Tensor,
    weight: Tensor | None = None,
    *,
    scales: Sequence[int] = (1, 2, 4, 8),
    amounts: Sequence[float] | None = None,
    fairness: float = 1.0,
    across: bool = True,
) -> Tensor:
    """Mean over scales of the weighted CRPS of each sample; see `finegrid.losses.base` for shapes.

    Args:
        scales: sides of the blocks in cells; those that are larger than the field are left out.
        amounts: a_s, how much each scale counts; None counts them alike.
        fairness: as in `finegrid.losses.crps`.
        across: whether blocks begin half a block before the field, and not with it.

    Raises:
        InputError: where the numbers of scales and amounts differ, or a scale is below 1.
    """
    counts = [1.0] * len(scales) if amounts is None else list(amounts)
    if len(counts) != len(scales) or not scales or min(scales) < 1:
        raise InputError(
            f"got scales: {list(scales)}, amounts: {counts} for the loss multi-scale-crps; expected scales of at least "
            "1 cell and one amount for each; use scales: [1, 2, 4, 8] without amounts"
        )
    departure = departures(prediction, truth)
    share = shares(torch.isfinite(truth), departure, weight)
    longest = max(truth.shape[-2:])
    used = [(size, count) for size, count in zip(scales, counts, strict=True) if size <= longest] or [(scales[0], 1.0)]
    losses = [count * _of_blocks(departure, share, size, size // 2 if across else 0, fairness) for size, count in used]
    return torch.stack(losses).sum(0) / sum(count for _, count in used)


def _of_blocks(departure: Tensor, share: Tensor, size: int, before: int, fairness: float) -> Tensor:
    if size > 1:
        total = block_sums(share, size, before)
        departure = block_sums(departure * share, size, before) / torch.where(total > 0, total, 1.0)
        share = total
    return weighted_mean(pointwise_crps(departure, fairness=fairness), share)
