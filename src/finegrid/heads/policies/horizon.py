"""One temperature for the whole field, learnt: members from p(x)^(1/T) of the joint distribution.

Noise times sqrt(T) is a temperature of every direction at its own; it is that of the joint distribution only where
residuals are Gaussian. Here the network is told T and learns from samples that are weighted by

    w(x) ~ p(x)^(1/T - 1),      normalised over the batch,

with log p(x) from the head itself, since for a denoiser D that is right at every level s of noise (Kong et al. 2023)

    log p(x) = constant - integral of  E |x - D(x + s e)|^2 / s^2  d(log s).

The denoiser at temperature T begins as that of residuals which are sqrt(T) times as large, which is right for Gaussian
ones, and learns what is different. (Flow matching learns all of it, and takes longer.)

The weights of large fields differ by many powers of ten, and a batch would be a single sample. So the spread of log w
in a batch is bounded; for such fields the temperature that is reached lies closer to one than what is asked for, and
the policy `fixed` does better.

Sources: Shih, Sadigh and Ermon, "Long horizon temperature scaling", ICML 2023; Kong, Brekelmans and Ver Steeg,
"Information-theoretic diffusion", ICLR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.policies.base import Policy

# The largest standard deviation of log weights in a batch: at 1.5 about a tenth of the samples count.
_SPREAD = 1.5


class HorizonTemperature(Policy):
    """A temperature that the network has learnt.

    Args:
        temperature: that of members.
        learnt: lowest and highest temperature of training.
    """

    numbers = 1

    def __init__(self, *, temperature: float = 1.0, learnt: Sequence[float] = (0.7, 1.4)) -> None:
        super().__init__()
        if len(learnt) != 2 or not 0 < learnt[0] <= temperature <= learnt[1]:
            raise InputError(
                f"got temperature: {temperature} and learnt: {list(learnt)} for the policy horizon; expected a lowest "
                "and a highest temperature above 0, and one between them; change head.policy"
            )
        self.temperature = temperature
        self.lowest, self.highest = (math.log(each) for each in learnt)

    def told(self, count: int, device: torch.device) -> Tensor:
        return torch.full((count, 1), math.log(self.temperature), device=device)

    def asked(self, count: int, device: torch.device) -> Tensor:
        return self.lowest + (self.highest - self.lowest) * torch.rand(count, 1, device=device)

    def size(self, numbers: Tensor) -> Tensor:
        return (numbers[:, 0] / 2).exp()

    def weights(self, likelihood: Callable[[], Tensor], numbers: Tensor) -> Tensor | None:
        power = torch.expm1(-numbers[:, :1])
        logarithm = power * likelihood()[None]
        spread = logarithm.std(1, keepdim=True, correction=0)
        bounded = logarithm * (_SPREAD / spread.clamp(min=_SPREAD))
        # Each sample has a temperature of its own: its weight is that among all samples at this temperature.
        return bounded.softmax(1).diagonal() * len(numbers)
