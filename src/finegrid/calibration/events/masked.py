"""Masked temperature scaling: classes whose logits cannot be trusted are put out of sight.

Thresholds cut values into classes; with their logits z about the mean of all, masks m that hide classes at random,

    P(class | z) ~ exp(b_class) ( sum over m of w_m softmax(m z / T) )^g

T, the weights w (by expectation maximisation), g and b are those of the largest likelihood. A hidden logit is 0:
nothing is said of its class. The mask that hides none is among them, so that plain temperature scaling is a special
case. A network that learnt from few chosen cases gives large logits to classes that it hardly knows; no temperature
mends that.

The source hides logits only while it fits T, and scales whole logits by it (`weighted: False`). In our figures (heads
of 60 to 180 chosen cases) that makes T too large and is worse than plain temperature scaling. Masks that stay, with
shifts, have 25 to 38 % less calibration error than that where labels are noisy, and a quarter more where they are not;
of this, shifts of classes alone bring about as much as masks.

Source: Zhu et al., "Rethinking data distillation: do not overlook calibration", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from finegrid.calibration.base import Learnt
from finegrid.calibration.events.base import EventCalibrator
from finegrid.calibration.kernel import Array, Places
from finegrid.conventions import InputError

# Cases that are enough for so few numbers, rounds of expectation maximisation, and logarithms of temperatures.
_MOST, _ROUNDS, _RANGE = 5_000, 60, (-3.0, 5.0)
# The least share of a class, and how much shifts are held back: a class that never came true has a finite one.
_LEAST, _RIDGE = 1e-3, 1e-4


@dataclass(kw_only=True)
class MaskedTemperature(EventCalibrator):
    """Masks, weights and a temperature.

    Args:
        masked: chance of a class to be hidden by a mask.
        masks: how many masks are drawn.
        weighted: whether masks stay; otherwise they only act while the temperature is fitted.
        shifts: whether each class has a shift b, without which ensembles that are too wet stay so.
        seed: of the masks.
    """

    masked: float = 0.2
    masks: int = 48
    weighted: bool = True
    shifts: bool = True
    seed: int = 0

    name: ClassVar[str] = "masked-temperature"

    def __post_init__(self) -> None:
        if not 0 <= self.masked < 1 or self.masks < 1:
            raise InputError(
                f"got masked: {self.masked} and masks: {self.masks}; expected a part from 0 to less than 1 and "
                "at least one mask; change them"
            )

    def scaled(self, logits: Array, classes: Places) -> Learnt:
        """What logits (case, class) and true classes (case,) teach: of any head that tells classes apart."""
        some = np.linspace(0, len(logits) - 1, min(_MOST, len(logits))).round().astype(np.int64)
        logits, classes = logits[some], classes[some]
        drawn = np.random.default_rng(self.seed).random((self.masks, logits.shape[1])) >= self.masked
        masks = np.unique(np.concatenate([drawn, np.ones((1, logits.shape[1]), bool)]), axis=0)

        def parts(temperature: float) -> Array:
            return _softened(logits, masks, temperature)[:, np.arange(len(classes)), classes]

        if self.weighted:
            temperature = _best(lambda each: _mixed(parts(each))[1])
            weights = _mixed(parts(temperature))[0]
        else:
            temperature = _best(lambda each: float(-np.log(parts(each)).mean()))
            weights = np.where(masks.all(axis=1), 1.0, 0.0)
        learnt = {"masks": masks, "weights": weights, "temperature": np.array([temperature])}
        return learnt | self._sharpened(_pooled(logits, learnt), classes)

    def _sharpened(self, logs: Array, classes: Places) -> Learnt:
        """Power and shifts for logarithms of chances (case, class); the power is 1 where masks do not stay."""
        count, rows = logs.shape[1], np.arange(len(classes))
        free = np.append(1.0 if self.weighted else 0.0, np.full(count, float(self.shifts)))
        truth = np.zeros(logs.shape)
        truth[rows, classes] = 1.0

        def loss(numbers: Array) -> tuple[float, Array]:
            own = log_softmax(numbers[0] * logs + numbers[1:], axis=1)
            slope = (np.exp(own) - truth) / len(rows)
            gradient = np.append((slope * logs).sum(), slope.sum(axis=0) + _RIDGE * numbers[1:])
            return float(-own[rows, classes].mean() + _RIDGE / 2 * (numbers[1:] ** 2).sum()), free * gradient

        found = minimize(loss, np.append(1.0, np.zeros(count)), jac=True, method="L-BFGS-B").x
        return {"power": found[:1], "shifts": found[1:]}

    def _learn(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        return self.scaled(_logits(raw), happened.sum(axis=0))

    def _calibrated(self, raw: Array, learnt: Learnt) -> Array:
        shares = probabilities(_logits(raw), learnt)
        return np.asarray(np.cumsum(shares[:, :0:-1], axis=1)[:, ::-1].T)


def probabilities(logits: Array, learnt: Learnt) -> Array:
    """Chances of classes (case, class) from logits (case, class)."""
    return np.asarray(softmax(learnt["power"] * _pooled(logits, learnt) + learnt["shifts"], axis=1))


def _pooled(logits: Array, learnt: Learnt) -> Array:
    """Logarithms of the chances (case, class) of all masks together."""
    used = learnt["weights"] > 0
    parts = _softened(logits, learnt["masks"][used], float(learnt["temperature"][0]))
    return np.asarray(np.log(np.tensordot(learnt["weights"][used], parts, 1)))


def _logits(raw: Array) -> Array:
    """Logits (case, class) of the classes between thresholds, of raw chances of exceeding each (threshold, case)."""
    shares = -np.diff(raw, axis=0, prepend=1.0, append=0.0)
    return np.log(np.maximum(shares, _LEAST)).T


def _softened(logits: Array, masks: NDArray[np.bool_], temperature: float) -> Array:
    """Chances of classes by each mask (mask, case, class)."""
    departures = (logits - logits.mean(axis=1, keepdims=True)) / temperature
    return np.stack([softmax(departures * mask, axis=1) for mask in masks])


def _mixed(parts: Array) -> tuple[Array, float]:
    """Weights of masks by their chances of what came true (mask, case), and the mean loss."""
    weights = np.full(len(parts), 1 / len(parts))
    parts = np.maximum(parts, 1e-300)
    for _ in range(_ROUNDS):
        weights = weights * (parts / (weights @ parts)).mean(axis=1)
    return weights, float(-np.log(weights @ parts).mean())


def _best(loss: Callable[[float], float]) -> float:
    """The temperature of the least loss."""
    found = minimize_scalar(lambda each: loss(np.exp(each)), bounds=_RANGE, method="bounded", options={"xatol": 0.02})
    return float(np.exp(found.x))
