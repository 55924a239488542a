"""h-calibration: a monotone map of the logit whose error over like cases is within a tolerance h.

    logit c(p) = b + sum over k of a_k r_k(logit p),     a_k > 0;  r_k rises by one between two knots
    d_w        = mean of (y - c(p)) over a window w of cases in the order of p
    minimise     mean over w of max(0, |d_w| - h)^2  +  l * mean of -log likelihood

Windows slide over the sorted cases and hold several parts of them: wide ones see what is wrong on the whole, narrow
ones where. What is within h may be chance, and costs nothing; there the likelihood decides, and keeps the map smooth.
Since the map is monotone the order of cases never changes, and every d_w is a fixed weighted sum: of cases with the
same raw chance a window holds the part that fits into it.

Source: Huang et al., "h-calibration: rethinking classifier recalibration with probabilistic error-bounded objective",
2025, of which this is the form for two classes, with a spline in place of its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from finegrid.calibration.base import Learnt
from finegrid.calibration.events.base import Separate
from finegrid.calibration.events.chances import Tally
from finegrid.calibration.events.temperature import scaling
from finegrid.calibration.kernel import Array
from finegrid.conventions import InputError

# Different raw chances that are told apart, and windows in the width of one.
_MOST, _OVERLAP = 512, 4
# The least height of a piece, with which the map still rises.
_FLAT = 1e-6


@dataclass(kw_only=True)
class ErrorBounded(Separate):
    """A monotone spline of the logit.

    Args:
        tolerance: h, error of a chance that is not penalised.
        windows: parts of all cases that windows hold.
        pieces: of the spline.
        likelihood: weight l.
        anchored: whether a half stays a half, so that no decision at a half changes.
    """

    tolerance: float = 0.0005
    windows: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    pieces: int = 24
    likelihood: float = 0.1
    anchored: bool = False

    name: ClassVar[str] = "h-calibration"

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or not self.windows or not all(0 < each <= 1 for each in self.windows):
            raise InputError(
                f"got tolerance: {self.tolerance} and windows: {list(self.windows)}; expected a tolerance above 0, "
                "such as 0.0005, and windows of parts between 0 and 1; change them"
            )

    def _one(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        tally = Tally.of(raw, happened, _MOST)
        given = logit(tally.raw)
        knots = _knots(given, tally.cases, self.pieces)
        rises = self._rises(given, knots)
        factor, shift = scaling(tally, shifts=not self.anchored)
        start = np.append(factor * np.diff(knots), shift + (0.0 if self.anchored else factor * knots[0]))
        found = self._least(tally, rises, start)
        return {"knots": knots, "heights": found[:-1], "shift": found[-1:]}

    def _least(self, tally: Tally, rises: Array, start: Array) -> Array:
        """The heights of the pieces, and the shift."""
        inside = np.concatenate([windows(tally.cases, part) for part in self.windows])
        rate, weight = tally.events / tally.cases, tally.cases / tally.cases.sum()

        scale = 1 / self.likelihood

        def loss(numbers: Array) -> tuple[float, Array]:
            heights, shift = numbers[:-1], numbers[-1] * (not self.anchored)
            chances = expit(rises @ heights + shift)
            error = inside @ (rate - chances)
            over = np.maximum(np.abs(error) - self.tolerance, 0.0)
            logs = rate * log_expit(rises @ heights + shift) + (1 - rate) * log_expit(-rises @ heights - shift)
            slope = -2 * (over * np.sign(error)) @ inside / len(inside) * chances * (1 - chances)
            slope = slope + self.likelihood * weight * (chances - rate)
            gradient = np.append(slope @ rises, slope.sum() * (not self.anchored))
            return scale * float((over**2).mean() - self.likelihood * weight @ logs), scale * gradient

        bounds = [(_FLAT, None)] * (len(start) - 1) + [(None, None)]
        return np.asarray(
            minimize(loss, start, jac=True, method="SLSQP", bounds=bounds, options={"maxiter": 500, "ftol": 1e-10}).x
        )

    def _rises(self, given: Array, knots: Array) -> Array:
        """r_k at logits (value, piece); the outer pieces go on."""
        rises = ramps(given, knots)
        return rises - ramps(np.zeros(1), knots) if self.anchored else rises

    def _map(self, raw: Array, learnt: Learnt) -> Array:
        shift = 0.0 if self.anchored else learnt["shift"]
        return np.asarray(expit(self._rises(logit(raw), learnt["knots"]) @ learnt["heights"] + shift))


def _knots(given: Array, cases: Array, pieces: int) -> Array:
    """Ends of pieces with as many cases in each; fewer pieces where many cases have one chance."""
    mass = np.cumsum(cases)
    place = np.searchsorted(mass, np.linspace(mass[0], mass[-1], pieces + 1))
    knots = np.unique(given[np.minimum(place, len(given) - 1)])
    return knots if len(knots) > 1 else knots[0] + np.array([-1.0, 1.0])


def ramps(given: Array, knots: Array) -> Array:
    """Parts (value, piece) of each piece between knots that lie below values (value,)."""
    part = (given[:, None] - knots[:-1]) / np.diff(knots)
    low, high = np.zeros(len(knots) - 1), np.ones(len(knots) - 1)
    low[0], high[-1] = -np.inf, np.inf
    return np.asarray(np.minimum(np.maximum(part, low), high), dtype=np.float64)


def windows(cases: Array, part: float) -> Array:
    """What share of each window (window, value) is of each raw chance, with so many cases (value,)."""
    ends = np.cumsum(cases) / cases.sum()
    starts = np.concatenate([[0.0], ends[:-1]])
    first = np.linspace(0.0, 1.0 - part, max(1, round(_OVERLAP * (1 - part) / part)) + 1)[:, None]
    return np.asarray(np.maximum(np.minimum(ends, first + part) - np.maximum(starts, first), 0.0) / part)
