"""A temperature for every input, learnt from which one scored better.

A small network sees the mean, deviation and extremes of each coarse input field and gives the probabilities of a few
temperatures. For inputs that the head has not learnt from, an ensemble is drawn at each temperature, and of each two
the one with the lower CRPS is preferred:

    loss = mean over pairs of  -log sigmoid( log p(T_better) - log p(T_worse) )

and in sampling the likeliest temperature is taken. The head itself does not change. (Preferring the best to the worst
alone would say nothing of those in between, which are never the worst.)

Source: Dhuliawala et al., "Adaptive decoding via latent preference optimization", 2024 (of which the reference model
is left out: there is none to stay near).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.conventions import InputError
from finegrid.heads.policies.base import Policy, Trial
from finegrid.heads.policies.temperature import checked_temperature
from finegrid.heads.space import Problem, Seen

_STEPS = 300
_RATE = 1e-2
_DECAY = 1e-2
# Of each input field in the summary.
_NUMBERS = 4


class LearnedTemperature(Policy):
    """One of a few temperatures for each input.

    Args:
        temperatures: among which to choose.
        width: of the network that chooses.
        times: inputs from which it learns, at most.
    """

    learns = True

    def __init__(self, *, temperatures: Sequence[float] = (0.5, 1.0, 1.5), width: int = 16, times: int = 32) -> None:
        super().__init__()
        if len(temperatures) < 2 or width < 1 or times < 1:
            raise InputError(
                f"got temperatures: {list(temperatures)}, width: {width}, times: {times} for the policy learned; "
                "expected at least two temperatures, and a width and times of at least 1; change head.policy"
            )
        self.temperatures = [checked_temperature(each) for each in temperatures]
        self.width, self.times = width, times
        self.choose: nn.Module = nn.Identity()

    def prepare(self, problem: Problem) -> None:
        layers = [nn.Linear(_NUMBERS * problem.inputs, self.width), nn.SiLU()]
        self.choose = nn.Sequential(*layers, nn.Linear(self.width, len(self.temperatures)))

    def chances(self, seen: Seen) -> Tensor:
        """Logarithms of the probabilities of the temperatures (n, temperature)."""
        return functional.log_softmax(self.choose(_summary(seen.coarse)), dim=1)

    def scale(self, seen: Seen, probe: Callable[[], Tensor]) -> Tensor:
        options = torch.tensor(self.temperatures, device=seen.start.device)
        return options[self.chances(seen).argmax(1)].sqrt()

    def learn(self, trial: Trial, seen: Seen) -> None:
        scores = torch.stack([trial(each**0.5) for each in self.temperatures], dim=1)
        # 1 where the first of two temperatures scored better, -1 where the second did, 0 where they are the same one.
        better = torch.sign(scores[:, None, :] - scores[:, :, None])
        optimiser = torch.optim.AdamW(self.choose.parameters(), lr=_RATE, weight_decay=_DECAY)
        with torch.enable_grad():
            for _ in range(_STEPS):
                chances = self.chances(seen)
                margin = better * (chances[:, :, None] - chances[:, None, :])
                loss = -(functional.logsigmoid(margin) * better.abs()).mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()


def _summary(coarse: Tensor) -> Tensor:
    """Mean, deviation, lowest and highest value of each field (n, numbers * channel)."""
    flat = coarse.float().flatten(2)
    deviation = flat.square().mean(2).sub(flat.mean(2).square()).clamp(min=0).sqrt()
    return torch.cat([flat.mean(2), deviation, flat.amin(2), flat.amax(2)], dim=1)
