"""Reservoir conformal prediction (ResCP): past residuals count as much as the past looked like the present.

An echo-state network with fixed random weights runs on the residuals r_t = y_t - mean_t; nothing is trained.

    x_t     = (mean of r_t, mean of |r_t|) over the field, over their usual sizes
    h_t+1   = (1 - a) h_t + a tanh(U x_t + V h_t + b)           a the leak; V with a spectral radius below 1
    w_s     ~ exp(cos(h_t - c, h_s - c) / tau)                  of the last W times s;   c the mean calibration state
    [mean + Q(alpha / 2), mean + Q(1 - alpha / 2)]              Q weighted quantiles of the residuals r_s

The case to come counts with the weight that past ones have on the average, sum w^2 / sum w; quantiles are linear
between residuals, and the outermost ones stand for what is beyond. A map has one reservoir, and quantiles of each group
of its cells. A time at which no cell is known leaves the state as it was; a cell that is missing at some times has
fewer residuals.

Sources: Neglia et al., "ResCP: Reservoir conformal prediction for time series forecasting", ICLR 2026,
arXiv:2510.05060; Jaeger, "The echo state approach to analysing and training recurrent neural networks", 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.base import Learnt, Notes
from finegrid.calibration.kernel import Array, Places, Pool, needed
from finegrid.calibration.online.base import Online
from finegrid.conventions import InputError

# Scores that are sorted at once, and times at most.
_BLOCK_VALUES, _BLOCK_TIMES = 1 << 18, 256


@dataclass(kw_only=True)
class Reservoir(Online):
    """Weighted quantiles of a window of residuals.

    Args:
        units: of the reservoir.
        radius: spectral radius of its recurrent weights, below 1: how long it remembers.
        leak: part of its state that is new at every time.
        temperature: tau; small ones let only the most similar past count.
        window: times that are remembered, W.
        seed: of the fixed weights.
    """

    units: int = 64
    radius: float = 0.9
    leak: float = 0.3
    temperature: float = 0.1
    window: int = 1000
    seed: int = 0

    name: ClassVar[str] = "reservoir"
    guarantee: ClassVar[str] = "none for a finite record: right where what the residuals did tells how they go on"
    bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.radius < 1 or not 0 < self.leak <= 1 or self.temperature <= 0:
            raise InputError(
                f"got radius: {self.radius:g}, leak: {self.leak:g} and temperature: {self.temperature:g}; expected a "
                "radius from 0 to below 1, a leak above 0 and at most 1, and a temperature above 0"
            )
        if self.units < 1 or self.window < 1:
            raise InputError(f"got units: {self.units} and window: {self.window}; expected whole numbers from 1 on")

    def _begun(self, notes: Notes) -> Learnt:
        chance = np.random.default_rng(self.seed)
        turn = chance.standard_normal((self.units, self.units))
        turn *= self.radius / max(np.abs(np.linalg.eigvals(turn)).max(), 1e-12)
        residuals = notes.evidence["residual"]
        inputs = _summaries(residuals, notes.places)
        known = inputs[np.isfinite(inputs[:, 0])]
        if not len(known):
            raise InputError("got no case with both a prediction and a truth; expected some; calibrate on other times")
        size = np.sqrt((known**2).mean(axis=0))
        learnt = {
            "inward": chance.uniform(-1, 1, (self.units, 2)) / np.where(size > 0, size, 1.0),
            "turn": turn,
            "shift": chance.uniform(-0.5, 0.5, self.units),
            "centre": np.zeros(self.units),
            "now": np.zeros(self.units),
            "states": np.zeros((0, self.units)),
            "residuals": np.zeros((0, *residuals.shape[1:]), np.float32),
            "places": np.zeros((0, *residuals.shape[1:]), np.int32),
            "number": np.array([notes.groups.count]),
        }
        return learnt | {"centre": self._run(learnt, inputs)[0].mean(axis=0)}

    def _run(self, learnt: Learnt, inputs: Array) -> tuple[Array, Array]:
        """States (time, unit) before each input (time, 2), and the one after the last."""
        state, states = learnt["now"], np.empty((len(inputs), self.units))
        pushes, known = inputs @ learnt["inward"].T + learnt["shift"], np.isfinite(inputs[:, 0])
        for number, push in enumerate(pushes):
            states[number] = state
            if known[number]:
                state = (1 - self.leak) * state + self.leak * np.tanh(push + learnt["turn"] @ state)
        return states, state

    def _step(self, learnt: Learnt, residual: Array, place: Places) -> None:
        self._block(learnt, residual[None], place[None], np.zeros(0))

    def _passed(self, learnt: Learnt, residuals: Array, places: Places, chances: Array) -> Array:
        size = int(np.clip(_BLOCK_VALUES // (self.window * residuals[0].size), 1, _BLOCK_TIMES))
        starts = range(0, len(residuals), size)
        blocks = (slice(start, start + size) for start in starts)
        return np.concatenate([self._block(learnt, residuals[each], places[each], chances) for each in blocks], axis=1)

    def _block(self, learnt: Learnt, residuals: Array, places: Places, chances: Array) -> Array:
        """Offsets (chance, time, y, x) issued before each of a few times, from which it learns."""
        inputs = _summaries(residuals, places)
        known = np.isfinite(inputs[:, 0])
        states, now = self._run(learnt, inputs)
        filled = len(learnt["states"])
        for key, added in (("states", states), ("residuals", residuals), ("places", places)):
            learnt[key] = np.concatenate([learnt[key], added[known].astype(learnt[key].dtype)])
        issued = np.empty((len(chances), *residuals.shape))
        if len(chances):
            ends = filled + np.cumsum(known) - known
            offsets = self._weighed(learnt, states, ends, chances)
            for number, place in enumerate(places):
                issued[:, number] = offsets[:, number, place]
        for key in ("states", "residuals", "places"):
            learnt[key] = learnt[key][-self.window :]
        learnt["now"] = now
        return issued

    def _offsets(self, learnt: Learnt, chances: Array) -> Array:
        ends = np.array([len(learnt["states"])])
        return self._weighed(learnt, learnt["now"][None], ends, chances)[:, 0]

    def _weighed(self, learnt: Learnt, states: Array, ends: NDArray[np.int64], chances: Array) -> Array:
        """Offsets (chance, time, group) for states (time, unit) that may look at the times before their ends."""
        _check(int(np.minimum(ends, self.window).min()), chances)
        weights = self._weights(learnt, states, ends)
        count, times, cells = int(learnt["number"][0]), len(states), learnt["residuals"][0].size
        scores = np.broadcast_to(learnt["residuals"].reshape(1, -1, cells), (*weights.shape, cells))
        groups = learnt["places"].reshape(1, -1, cells) + count * np.arange(times)[:, None, None]
        groups = np.where(learnt["places"].reshape(1, -1, cells) >= 0, groups, -1)
        weight = np.broadcast_to(weights[..., None], scores.shape)
        own = (weights**2).sum(axis=1) / weights.sum(axis=1)
        pool = Pool.of(scores, groups, times * count, weights=weight, own=np.repeat(own, count))
        found = np.stack([pool.between(chance) for chance in chances]).reshape(len(chances), times, count)
        if np.isnan(found).any():
            step = np.broadcast_to(np.arange(times)[:, None, None], scores.shape)
            every = Pool.of(scores, step, times, weights=weight, own=own)
            found = np.where(np.isnan(found), np.stack([every.between(each) for each in chances])[..., None], found)
        return found

    def _weights(self, learnt: Learnt, states: Array, ends: NDArray[np.int64]) -> Array:
        """Of the remembered times (time, past); 0 of those that are too old or not yet known."""
        past = np.arange(len(learnt["states"]))
        seen = (past < ends[:, None]) & (past >= ends[:, None] - self.window)
        likeness = _unit(states - learnt["centre"]) @ _unit(learnt["states"] - learnt["centre"]).T
        return np.where(seen, np.exp((likeness - 1) / self.temperature), 0.0)


def _summaries(residuals: Array, places: Places) -> Array:
    """Mean and mean size of the residuals (time, y, x) at each time (time, 2), NaN where none is known."""
    flat = residuals.reshape(len(residuals), -1)
    kept = np.isfinite(flat) & (places.reshape(flat.shape) >= 0)
    some, count = np.where(kept, flat, 0.0), kept.sum(axis=1)
    sums = np.stack([some.sum(axis=1), np.abs(some).sum(axis=1)], axis=1)
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], np.nan)


def _unit(states: Array) -> Array:
    return np.asarray(states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12))


def _check(count: int, chances: NDArray[Any]) -> None:
    least = max(needed(max(chance, 1 - chance)) for chance in chances)
    if count < least:
        raise InputError(
            f"got {count} times to look back at; expected at least {least}, without which chances of "
            f"{', '.join(f'{each:g}' for each in chances)} mean nothing; fit on more times, or ask for a lower level"
        )
