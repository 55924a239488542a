"""A gate that blends downscalers: which of them is right depends on the weather.

    y(t, i) = sum_m w_m(t, I) y_m(t, i),        w = softmax( a + MLP( statistics of the coarse field at t and I ) )

The statistics are the value, the mean and deviation of the cells around, the change from the step before, the cycles of
the season, and how far apart the members are. Members are cross-fitted, so that the gate sees how good they are on
times that they have not learnt from. The constant a is that of the best fixed weights, and the gate may change them
only as far as it helps on the last part of the training times: with nothing to gain, the blend has fixed weights.

Source: the dynamic mixture of a forecaster with a domain model in SMETimes, arXiv:2503.03594, 2025; its language model
is of no use here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from finegrid.backbones.blocks import repeated
from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.predictors import cycles, frame_indices, useful_cycles
from finegrid.data.splits import Indices, holdout
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.features.base import moments, window
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.nested import Table, first_guesses, nested, unfitted, widest
from finegrid.downscalers.plan import part

_JUDGED_PART = 0.2
_BATCH_CELLS, _EVERY = 4096, 20


@dataclass(frozen=True)
class Evidence:
    """What a gate learns from.

    Attributes:
        statistics: of each coarse cell (time, statistic, h, w).
        guesses: of the members in units of the usual error (member, time, H, W).
        truth: in the same units (time, H, W), NaN where it is missing.
    """

    statistics: Tensor
    guesses: Tensor
    truth: Tensor


class Gate(nn.Module):
    """Weights of members from statistics of the coarse field."""

    def __init__(self, statistics: int, members: int, width: int) -> None:
        super().__init__()
        self.fixed = nn.Parameter(torch.zeros(members))
        self.inner = nn.Sequential(nn.Conv2d(statistics, width, 1), nn.GELU(), nn.Conv2d(width, members, 1))
        for each in self.inner[2].parameters():
            nn.init.zeros_(each)

    def forward(self, statistics: Tensor) -> Tensor:
        """Weights (time, member, h, w)."""
        return torch.softmax(self.fixed[:, None, None] + self.inner(statistics), dim=1)


@dataclass(kw_only=True)
class Blend(Downscaler):
    """Downscalers blended by a gate.

    Args:
        members: the downscalers, by name or table; at least two.
        width: hidden units of the gate; 0 for fixed weights.
        rate: learning rate of the gate.
        steps: most steps in which it learns.
        seed: of the gate.
    """

    name: ClassVar[str] = "blend"
    members: Sequence[Table] = ("ridge-around", "random-features", "nearest-neighbours")
    width: int = 16
    rate: float = 0.01
    steps: int = 400
    seed: int = 0
    _inner: tuple[Downscaler, ...] = field(default=(), init=False, repr=False)
    _gates: tuple[Gate, ...] = field(default=(), init=False, repr=False)
    _numbers: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _cycles: tuple[str, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise InputError(f"got members: {self.members}; expected at least two downscalers; set downscaler.members")

    @property
    def surroundings(self) -> float | None:
        return widest(self.members, self.predictors)

    @property
    def _reach(self) -> int:
        return max(1, *(unfitted(each, self.predictors)._reach for each in self.members))

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        training = matched.at(fit_block)
        self._inner = tuple(nested(each, self) for each in self.members)
        guesses = torch.stack([first_guesses(each, training, how) for each in self._inner])
        truth = to_tensor(training.fine, self.domain.outputs)
        self._cycles = useful_cycles(training.coarse.time)
        mean, deviation = moments(to_tensor(training.coarse, self.domain.outputs), (0, 2, 3))
        errors = (guesses - truth).square().double()
        usual = errors.nanmean(0).nanmean((0, 2, 3)).sqrt().clamp(min=1e-12).float()
        self._numbers = {"mean": mean, "deviation": deviation, "usual": usual}
        gates = []
        for output in range(len(self.domain.outputs)):
            statistics = self._statistics(training.coarse, guesses, output)
            evidence = Evidence(statistics, guesses[:, :, output] / usual[output], truth[:, output] / usual[output])
            gates.append(self._trained(evidence))
        self._gates = tuple(gates)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        guesses = torch.stack([each.fields(coarse) for each in self._inner])
        blended = []
        for output, gate in enumerate(self._gates):
            with torch.no_grad():
                weights = gate(self._statistics(coarse, guesses, output))
            blended.append((_spread(weights, self.domain.factor) * guesses[:, :, output]).sum(0))
        return torch.stack(blended, dim=1)

    def _statistics(self, coarse: xr.Dataset, guesses: Tensor, output: int) -> Tensor:
        """What the gate sees (time, statistic, h, w), of order one."""
        values = torch.nan_to_num((to_tensor(coarse, self.domain.outputs) - self._numbers["mean"]), nan=0.0)
        own = (values / self._numbers["deviation"])[:, output]
        times, (height, width) = len(own), own.shape[1:]
        around = window(own[:, None], 1, periodic=self.domain.inputs.grid.periodic).reshape(times, 9, height, width)
        before = own[torch.as_tensor(frame_indices(coarse.time, -1))]
        apart = guesses[:, :, output].std(0) / self._numbers["usual"][output]
        apart = nn.functional.avg_pool2d(apart[:, None], self.domain.factor, ceil_mode=True)[:, 0, :height, :width]
        phases = torch.from_numpy(cycles(coarse.time, self._cycles))[:, :, None, None].expand(-1, -1, height, width)
        seen = torch.stack([own, around.mean(1), around.std(1), own - before, torch.log1p(apart)], dim=1)
        return torch.cat([seen, phases], dim=1)

    def _trained(self, evidence: Evidence) -> Gate:
        """The gate that is best on the last part of the times; at worst that of the best fixed weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            gate = Gate(evidence.statistics.shape[1], len(self.members), max(1, self.width))
        _fix(gate, evidence)
        fitting, judging = holdout(evidence.statistics.shape[0], _JUDGED_PART)
        if not self.width or not len(judging):
            return gate.eval()
        best = self._error(gate, evidence, judging), {key: each.clone() for key, each in gate.state_dict().items()}
        optimiser = torch.optim.AdamW(gate.inner.parameters(), lr=self.rate, weight_decay=1e-2)
        generator = torch.Generator().manual_seed(self.seed)
        size = max(1, _BATCH_CELLS // evidence.statistics[0, 0].numel())
        for step in range(self.steps):
            chosen = np.asarray(torch.randint(len(fitting), (size,), generator=generator))
            optimiser.zero_grad()
            _loss(gate, evidence, fitting[chosen], self.domain.factor).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % _EVERY == _EVERY - 1 and (error := self._error(gate, evidence, judging)) < best[0]:
                best = error, {key: each.clone() for key, each in gate.state_dict().items()}
        gate.load_state_dict(best[1])
        return gate.eval()

    def _error(self, gate: Gate, evidence: Evidence, times: Indices) -> float:
        with torch.no_grad():
            return float(_loss(gate, evidence, times, self.domain.factor))

    def _learnt(self) -> State:
        if not self._gates:
            return {}, {}
        plain: dict[str, Any] = {"cycles": list(self._cycles), "members": []}
        tensors = {f"numbers/{name}": each for name, each in self._numbers.items()}
        for index, inner in enumerate(self._inner):
            theirs, numbers = inner._learnt()
            plain["members"].append(theirs)
            tensors |= {f"members/{index}/{name}": each for name, each in numbers.items()}
        for index, gate in enumerate(self._gates):
            tensors |= {f"gates/{index}/{name}": each for name, each in gate.state_dict().items()}
        return plain, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._cycles, self._numbers = tuple(plain["cycles"]), part(tensors, "numbers/")
        self._inner = tuple(nested(each, self) for each in self.members)
        for index, inner in enumerate(self._inner):
            inner._remember(plain["members"][index], part(tensors, f"members/{index}/"))
        gates = []
        for output in range(len(self.domain.outputs)):
            weights = part(tensors, f"gates/{output}/")
            gate = Gate(weights["inner.0.weight"].shape[1], len(self.members), len(weights["inner.0.bias"]))
            gate.load_state_dict(weights)
            gates.append(gate.eval())
        self._gates = tuple(gates)

    def _summary(self) -> dict[str, Any]:
        names = [each.name for each in self._inner]
        return {
            f"fixed weights of {output}": dict(
                zip(names, [round(float(each), 3) for each in torch.softmax(gate.fixed.detach(), 0)], strict=True)
            )
            for output, gate in zip(self.domain.outputs, self._gates, strict=False)
        }


def _spread(weights: Tensor, factor: tuple[int, int]) -> Tensor:
    """Weights (member, time, H, W) from those of coarse cells (time, member, h, w)."""
    return repeated(weights, factor).transpose(0, 1)


def _fix(gate: Gate, evidence: Evidence) -> None:
    """Set the fixed weights to those with the least squared error among positive ones with the sum 1."""
    known = torch.isfinite(evidence.truth)
    errors = (evidence.guesses - evidence.truth)[:, known].double()
    products = errors @ errors.T / errors.shape[1]
    logits = torch.zeros(len(errors), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        weights = torch.softmax(logits, 0)
        loss = weights @ products @ weights
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        gate.fixed.copy_(logits.clamp(-20, 20))


def _loss(gate: Gate, evidence: Evidence, times: Indices, factor: tuple[int, int]) -> Tensor:
    """Mean squared error of the blend at some times."""
    index = torch.as_tensor(times)
    weights = _spread(gate(evidence.statistics[index]), factor)
    error = (weights * evidence.guesses[:, index]).sum(0) - evidence.truth[index]
    known = torch.isfinite(error)
    return torch.where(known, error, 0.0).square().sum() / known.sum().clamp(min=1)
