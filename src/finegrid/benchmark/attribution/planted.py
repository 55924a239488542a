"""A record whose answer is known: an event that a planted region of the coarse field brings about, and a network on it.

    x(t, c, j)   smooth Gaussian fields of variance one, a first-order autoregression in time, in `channels` fields
    s(t)         = amplitude * mean of x over the planted region of the first field / its deviation + noise e(t)
    event(t)     s(t) exceeds the (1 - share) quantile of a standard normal variable of its own variance

Whoever attributes the event has to find the region, and nothing else: what lies around it is correlated with it, as
weather is, but adds nothing. A longer record with another amplitude has the same precursor and another rate of false
alarms: an idealised model, from which a network can learn before it sees a short real record.

Source of the experiment: explainable networks for atmospheric blocking, pretrained on the quasi-geostrophic model of
Marshall and Molteni and fine-tuned on a reanalysis; the autoregression stands for the model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from finegrid.backbones import BACKBONES
from finegrid.conventions.components import build
from finegrid.data.synthetic import gaussian_fields

Table = str | Mapping[str, Any]

_DECAY = 1e-2
# Steps after which weights are judged.
_EVERY = 10


@dataclass(frozen=True, eq=False)
class Record:
    """Coarse fields, and whether the event followed.

    Attributes:
        fields: (time, channel, h, w).
        event: 0 or 1 (time,).
        mask: where the precursor is (channel, h, w).
    """

    fields: Tensor
    event: Tensor
    mask: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.event)

    def at(self, times: slice) -> Self:
        """Some of the times."""
        return replace(self, fields=self.fields[times], event=self.event[times])


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What is planted.

    Attributes:
        shape: rows and columns of the field.
        channels: number of fields, of which the first has the precursor.
        corner: first row and column of the region.
        size: rows and columns of the region.
        amplitude: how strongly the region acts.
        noise: deviation of what is chance.
        share: how often the event is.
        slope: spectral slope of the fields; larger is smoother.
        persistence: correlation of successive times.
    """

    shape: tuple[int, int] = (20, 20)
    channels: int = 1
    corner: tuple[int, int] = (4, 11)
    size: tuple[int, int] = (4, 5)
    amplitude: float = 1.0
    noise: float = 0.5
    share: float = 0.3
    slope: float = 2.0
    persistence: float = 0.5

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where the precursor is (channel, h, w)."""
        found = np.zeros((self.channels, *self.shape), dtype=bool)
        (row, column), (height, width) = self.corner, self.size
        found[0, row : row + height, column : column + width] = True
        return found

    def record(self, times: int, seed: int = 0) -> Record:
        """So many times."""
        random = np.random.default_rng(seed)
        every = [
            gaussian_fields(self.shape, slope=self.slope, seed=random, times=times, persistence=self.persistence)
            for _ in range(self.channels)
        ]
        fields = np.stack(every, axis=1)
        precursor = fields[:, self.mask].mean(axis=1)
        signal = self.amplitude * precursor / precursor.std() + self.noise * random.standard_normal(times)
        event = signal > np.quantile(signal, 1 - self.share)
        return Record(torch.from_numpy(fields).float(), torch.from_numpy(event).float(), self.mask)


class EventNetwork(nn.Module):
    """Log odds of an event: a weighted sum over the cells of what a backbone makes of the fields.

    The weights are learnt, so that backbones that do not know where they are can say where it matters.

    Args:
        backbone: by name or table.
        channels: number of fields.
        shape: rows and columns.
    """

    def __init__(self, backbone: Table, *, channels: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.backbone: Any = build(
            backbone, BACKBONES, "backbone", inputs=channels, outputs=1, factor=(1, 1), shape=shape
        )
        self.weights = nn.Parameter(torch.full(shape, float(shape[0] * shape[1]) ** -0.5))
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, fields: Tensor) -> Tensor:
        """Log odds (batch,) of fields (batch, channel, h, w)."""
        made: Tensor = self.backbone(fields)
        return self.level + (self.weights * made[:, 0]).sum((1, 2))


def learn(
    network: EventNetwork,
    record: Record,
    *,
    judged: Record | None = None,
    steps: int = 300,
    rate: float = 5e-3,
    batch: int = 64,
    seed: int = 0,
) -> EventNetwork:
    """Train a network on a record by the log score, and return it ready for use.

    Args:
        network: changed in place.
        record: what it learns from.
        judged: other times, on which the weights of the best step are chosen; None takes the last ones.
        steps: training steps.
        rate: largest learning rate; it falls to nothing.
        batch: times in a step.
        seed: of the choice of times.
    """
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    best = np.inf if judged is None else log_score(network, judged), copy.deepcopy(network.state_dict())
    for step in range(steps):
        network.train()
        chosen = torch.randint(len(record), (batch,), generator=random)
        loss = nn.functional.binary_cross_entropy_with_logits(network(record.fields[chosen]), record.event[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if judged is not None and step % _EVERY == _EVERY - 1 and (score := log_score(network, judged)) < best[0]:
            best = score, copy.deepcopy(network.state_dict())
    if judged is not None:
        network.load_state_dict(best[1])
    return network.eval()


def recalibrated(network: EventNetwork, record: Record) -> EventNetwork:
    """A copy whose log odds are a straight line of the network's, by logistic regression on a record."""
    slope = LogisticRegression(C=np.inf).fit(_odds(network, record)[:, None].numpy(), record.event.numpy())
    changed, stretch = copy.deepcopy(network).eval(), float(slope.coef_[0, 0])
    with torch.no_grad():
        changed.weights.mul_(stretch)
        changed.level.mul_(stretch).add_(float(slope.intercept_[0]))
    return changed


def log_score(network: EventNetwork, record: Record) -> float:
    """Mean log score of the chances that a network gives to what happened; smaller is better."""
    return float(nn.functional.binary_cross_entropy_with_logits(_odds(network, record), record.event))


def _odds(network: EventNetwork, record: Record) -> Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(each) for each in torch.split(record.fields, 256)])
