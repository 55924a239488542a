"""How heavy the tails of values are: the tail index g, of which 1 / g is the degrees of freedom of Student's t.

With x_0 >= x_1 >= ... the largest distances from the median, and M_p the mean of log(x_i / x_k)^p over i < k,

    Hill       g = M_1                                        sharp, but positive for every sample
    moments    g = M_1 + 1 - 1 / (2 (1 - M_1^2 / M_2))        near 0 for light tails, less sharp

The moments decide whether a tail is heavy at all, beyond three times their sampling error; Hill's estimator says how
heavy. It drifts up with k, as the middle of a distribution is no tail, and is uncertain for few: of n values k =
n^0.55 are taken, and n^0.6 by the moments.

Source: Hill, Annals of Statistics 3, 1975, doi:10.1214/aos/1176343247; Dekkers, Einmahl and de Haan, Annals of
Statistics 17, 1989, doi:10.1214/aos/1176347397; their use for base noise is that of Laszkiewicz et al., "Marginal
Tail-Adaptive Normalizing Flows", ICML 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this index (above ten degrees of freedom) noise is as good as normal.
_LIGHT = 0.1
_HEAVIEST = 1.0
_FEWEST = 200


def tail_index(values: Tensor) -> float:
    """Tail index of values (n,), 0 for light tails and for fewer than 200 values; at most 1."""
    if len(values) < _FEWEST:
        return 0.0
    size = (values.double() - values.double().median()).abs()
    count, many = int(len(values) ** 0.55), int(len(values) ** 0.6)
    largest = size.topk(many + 1).values
    if largest[-1] <= 0:
        return 0.0
    first, second = _moments(largest, many)
    if first**2 >= second:
        return 0.0
    moments = first + 1 - 0.5 / (1 - first**2 / second)
    hill = _moments(largest, count)[0]
    heavy = moments > 3 * ((1 + moments**2) / many) ** 0.5 and hill > _LIGHT
    return min(hill, _HEAVIEST) if heavy else 0.0


def _moments(largest: Tensor, count: int) -> tuple[float, float]:
    """Means of the logarithms of the largest values over the next one, and of their squares."""
    logs = torch.log(largest[:count] / largest[count])
    return float(logs.mean()), float(logs.square().mean())
