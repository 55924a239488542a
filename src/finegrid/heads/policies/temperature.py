"""Temperature by rule: how strong the noise is from which members are made.

    fixed           T
    EDT             T_i = T * base^(strength / H_i),  H_i the uncertainty of the head about sample i

With base < 1 the second is cold where the head is sure (H small) and reaches T where it is not. It helps where the
spread of a head varies less from input to input than it should.

Source: Zhang et al., "EDT: Improving large language models' generation by entropy-based dynamic temperature sampling",
2024. There H is the entropy of the next word; here the spread of the estimates of the head, in units of the residual.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.policies.base import Policy
from finegrid.heads.space import Seen

_SMALL = 1e-6


class Temperature(Policy):
    """The same for all.

    Args:
        temperature: variance of members in parts of the learnt one.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def scale(self, seen: Seen, probe: Callable[[], Tensor]) -> Tensor:
        return torch.full((), self.temperature**0.5, device=seen.start.device)


class EntropyTemperature(Temperature):
    """Colder where the head is sure.

    Args:
        temperature: where it is not sure at all.
        strength: how fast the temperature falls with certainty; 0 is a fixed one.
        base: of the power, between 0 and 1.
    """

    def __init__(self, *, temperature: float = 1.0, strength: float = 0.5, base: float = 0.8) -> None:
        super().__init__(temperature=temperature)
        if strength < 0 or not 0 < base <= 1:
            raise InputError(
                f"got strength: {strength} and base: {base} for the policy edt; expected a strength of at least 0 and "
                "a base above 0 and at most 1; change head.policy"
            )
        self.strength, self.base = strength, base

    def scale(self, seen: Seen, probe: Callable[[], Tensor]) -> Tensor:
        power: Tensor = self.base ** (self.strength / probe().clamp(min=_SMALL))
        return (self.temperature * power).sqrt()


def checked_temperature(temperature: float) -> float:
    """The temperature, if there is such a one."""
    if not temperature >= 0:
        raise InputError(
            f"got temperature: {temperature}; expected 0 or more (1 is the learnt spread); change head.policy"
        )
    return temperature
