"""Whether learning from a long idealised record helps with a short real one, and whether the explanation stays.

    pretrained    a network that learnt from the idealised record
    transferred   the same after it went on with the short record: log odds recalibrated first, then all weights, gently
    direct        a network of the same kind that learnt from the short record alone

Both that see the short record choose their best step on its last part. All are judged on the same other times, and
attributed there by expected gradients against times of the idealised record.

Source of the experiment: see `planted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from finegrid.benchmark.attribution.comparing import Agreement, agreement, overlap, sizes, top
from finegrid.benchmark.attribution.gradients import ExpectedGradients
from finegrid.benchmark.attribution.planted import EventNetwork, Planted, Record, learn, log_score, recalibrated

# Part of the short record on which the best step is chosen.
_JUDGED = 0.2
# Learning rate of going on: what a network knows is to be kept.
_GENTLE = 1e-4
_EXPLAINED, _BACKGROUND = 40, 16


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment in transfer.

    Attributes:
        idealised: what is planted in the long record.
        real: in the short one.
        long: times of the long record.
        short: times of the short one.
        test: times on which all are judged.
        backbone: of the networks, by table.
        steps: training steps of each.
        seed: of records and networks.
    """

    idealised: Planted = field(default_factory=lambda: Planted(amplitude=2.0))
    real: Planted = field(default_factory=Planted)
    long: int = 4000
    short: int = 200
    test: int = 2000
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "resnet", "width": 16, "depth": 1})
    steps: int = 300
    seed: int = 0

    def run(self) -> Transfer:
        """Train, judge and attribute the networks."""
        long = self.idealised.record(self.long, self.seed)
        short, test = self.real.record(self.short, self.seed + 1), self.real.record(self.test, self.seed + 2)
        cut = round((1 - _JUDGED) * len(short))
        seen, judged = short.at(slice(cut)), short.at(slice(cut, None))
        pretrained = learn(self._fresh(), long, steps=self.steps, seed=self.seed)
        going_on = recalibrated(pretrained, seen)
        transferred = learn(going_on, seen, judged=judged, steps=self.steps // 2, rate=_GENTLE, seed=self.seed)
        direct = learn(self._fresh(), seen, judged=judged, steps=self.steps, seed=self.seed)
        every = {"pretrained": pretrained, "transferred": transferred, "direct": direct}
        parts = {name: _parts(network, test, long) for name, network in every.items()}
        share = float(test.mask.mean())
        return Transfer(
            scores={name: log_score(network, test) for name, network in every.items()},
            overlaps={name: overlap(top(sizes(each), share), test.mask) for name, each in parts.items()},
            kept=agreement(parts["pretrained"], parts["transferred"], share=share),
        )

    def _fresh(self) -> EventNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return EventNetwork(self.backbone, channels=self.real.channels, shape=self.real.shape)


@dataclass(frozen=True)
class Transfer:
    """What came of it.

    Attributes:
        scores: log score of each network; smaller is better.
        overlaps: of the top cells of each network with the planted region, of the same share.
        kept: how alike attributions are before and after the short record.
    """

    scores: Mapping[str, float]
    overlaps: Mapping[str, float]
    kept: Agreement


def _parts(network: EventNetwork, test: Record, background: Record) -> Tensor:
    every = max(1, len(background) // _BACKGROUND)
    return ExpectedGradients().attribute(network, test.fields[:_EXPLAINED], background.fields[::every][:_BACKGROUND])
