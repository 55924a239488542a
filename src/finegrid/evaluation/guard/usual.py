"""How different blocks of the training record are from the rest of it, and whether something else is more so.

Blocks are as long as the new input and start at every training time: what days have in common with their neighbours, a
block has too. Four numbers are computed for each block B and for the new input:

    distance       D = 2 E|X - Y| - E|X - X'| - E|Y - Y'|      X in B, Y in the rest; traits divided by their deviations
    range          share of values beyond the 0.1st and 99.9th percentiles of training values outside B's tenth
    outlyingness   mean of (x - m)' S^-1 (x - m)                m, S: mean and shrunk covariance outside B's tenth
    shift          (b - n)' C^-1 (b - n)                        b: mean of B;  n: of blocks that share no row with it

A shift of the mean is far out where blocks differ little, also against how traits go together: a factor of rain shows
itself between amount and area. Blocks are few. Their covariance V is therefore drawn to that of times,

    C = (1 - w) V + w (tr V / tr S) S,          w = p / (p + 3 k)          p traits, k blocks side by side

How unusual the number of the new input is among those of the blocks stands in `chances`. Where it is longer than a
twelfth of the record it is cut into parts, whose mean logarithm counts.

Sources: Székely and Rizzo, Journal of Statistical Planning and Inference 143, 2013, doi:10.1016/j.jspi.2013.03.018
(distance); Ledoit and Wolf, Journal of Multivariate Analysis 88, 2004, doi:10.1016/S0047-259X(03)00096-4 (covariance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.guard.chances import Chances, block_means

DISTANCE, RANGE, OUTLYINGNESS, SHIFT = "distance", "range", "outlyingness", "shift"
TESTS = (DISTANCE, RANGE, OUTLYINGNESS, SHIFT)
LEVEL = 0.01
# Of the record, the longest block; beyond, there are too few of them.
LONGEST = 12
FOLDS = 10
# The share of values that is expected beyond the percentiles: below, shares do not differ.
_EXPECTED = 0.002
# Least deviation of the logarithm: what differs less among blocks is no measure of what is unusual.
_LEAST = {DISTANCE: 0.1, RANGE: 0.5, OUTLYINGNESS: 0.1, SHIFT: 0.1}
# Numbers whose logarithms have a longer upper tail than the normal one.
_SKEWED = (RANGE, SHIFT)
# A trait that hardly varies counts as if it varied by this part of the most variable one of its variable.
_STIFF = 0.05


@dataclass(frozen=True)
class Finding:
    """One number of the new input beside those of training blocks.

    Attributes:
        value: of the new input; the geometric mean of its parts.
        usual: geometric mean over the training blocks.
        limit: the value beyond which the new input is called unusual.
        p: chance of such a value for a block of the training record.
        severity: 1 at the limit, 0 where it is as usual; of logarithms.
    """

    value: float
    usual: float
    limit: float
    p: float
    severity: float


@dataclass(frozen=True, eq=False)
class Rows:
    """What is compared: training times in their order, or parts of the new input.

    Attributes:
        traits: (row, trait); NaN where not known.
        shares: part of the values of each row beyond the range of training (row, variable).
    """

    traits: Array
    shares: Array

    def only(self, traits: Sequence[int], variables: Sequence[int]) -> Rows:
        """Some of the columns."""
        return Rows(self.traits[:, list(traits)], self.shares[:, list(variables)])


def scales(values: Array, families: Sequence[int]) -> Array:
    """Deviations of traits (trait,), not much smaller than the largest of their variable.

    Args:
        values: (row, trait).
        families: number of the variable that each trait belongs to.
    """
    deviation, numbers = np.nanstd(values, axis=0), np.asarray(families)
    largest = np.array([deviation[numbers == number].max() for number in families])
    scale = np.maximum(deviation, _STIFF * largest)
    return np.where(scale > 0, scale, 1.0)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The training record, and what is usual for its blocks of one length.

    Attributes:
        mean: of each trait (trait,).
        scale: what each trait is divided by (trait,).
        known: standardised traits of the training rows (row, trait); what is not known is the mean.
        apart: mean distance between two of them.
        shape: their mean and shrunk covariance.
        usual: the numbers of all blocks, by test (start,).
        length: rows of a block.
    """

    mean: Array
    scale: Array
    known: Array
    apart: float
    shape: LedoitWolf
    usual: Mapping[str, Array]
    length: int

    @classmethod
    def of(cls, training: Rows, length: int, families: Sequence[int]) -> Self:
        """What is usual for blocks of so many rows.

        Args:
            training: rows in the order of time.
            length: rows of a block.
            families: as in `scales`.
        """
        mean, scale = np.nanmean(training.traits, axis=0), scales(training.traits, families)
        known = np.nan_to_num((training.traits - mean) / scale, nan=0.0)
        distances, shape = cdist(known, known), LedoitWolf().fit(known)
        usual = {
            DISTANCE: block_energies(distances, length),
            RANGE: block_means(training.shares.mean(axis=1), length),
            OUTLYINGNESS: block_means(_held_out(known), length),
            SHIFT: _held_out_shifts(known, shape.covariance_, length),
        }
        return cls(mean, scale, known, float(distances.mean()), shape, usual, length)

    def findings(self, parts: Sequence[Rows]) -> dict[str, Finding]:
        """The tests of new input, in parts as long as a block."""
        new = [np.nan_to_num((part.traits - self.mean) / self.scale, nan=0.0) for part in parts]
        means, blocks = np.stack([each.mean(axis=0) for each in new]), block_means(self.known, self.length)
        found = {
            DISTANCE: [2 * cdist(each, self.known).mean() - cdist(each, each).mean() - self.apart for each in new],
            RANGE: [part.shares.mean() for part in parts],
            OUTLYINGNESS: [self.shape.mahalanobis(each).mean() for each in new],
            SHIFT: shifts(means, blocks, self.shape.covariance_, self.length),
        }
        return {name: _judged(name, self.usual[name], np.asarray(found[name]), self.length) for name in TESTS}


def block_energies(distances: Array, length: int) -> Array:
    """Energy distance (start,) between every block of so many rows and the other rows, from distances (row, row)."""
    count = len(distances)
    sums = np.zeros((count + 1, count + 1))
    np.cumsum(distances, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    start = np.arange(count - length + 1)
    stop, rest = start + length, count - length
    inside = sums[stop, stop] - sums[start, stop] - sums[stop, start] + sums[start, start]
    across = sums[stop, count] - sums[start, count] - inside
    outside = sums[count, count] - 2 * across - inside
    return np.asarray(2 * across / (length * rest) - inside / length**2 - outside / rest**2)


def shifts(means: Array, blocks: Array, covariance: Array, length: int) -> Array:
    """Squared distances (part,) of means (part, trait) from those of blocks (start, trait), in the metric of blocks.

    Args:
        means: of what is judged.
        blocks: means of training blocks.
        covariance: of the traits of training times.
        length: rows of a block.
    """
    between, size = np.cov(blocks.T, bias=True).reshape(covariance.shape), len(covariance)
    weight = size / (size + 3 * max(2.0, len(blocks) / length))
    metric = (1 - weight) * between + weight * np.trace(between) / np.trace(covariance) * covariance
    away = means - blocks.mean(axis=0)
    return np.asarray((away * np.linalg.solve(metric, away.T).T).sum(axis=1))


def _held_out_shifts(known: Array, covariance: Array, length: int) -> Array:
    """The shift (start,) of every block from those that share no row with its tenth of the starts."""
    means = block_means(known, length)
    result, starts = np.empty(len(means)), np.arange(len(means))
    for fold in np.array_split(starts, FOLDS):
        apart = (starts <= fold[0] - length) | (starts >= fold[-1] + length)
        result[fold] = shifts(means[fold], means[apart], covariance, length)
    return result


def _held_out(known: Array) -> Array:
    """Squared Mahalanobis distance (row,) of each row from the others but for its own tenth."""
    result = np.empty(len(known))
    for fold in np.array_split(np.arange(len(known)), FOLDS):
        result[fold] = LedoitWolf().fit(np.delete(known, fold, axis=0)).mahalanobis(known[fold])
    return result


def _judged(name: str, blocks: Array, found: Array, length: int) -> Finding:
    logs, new = (_logarithm(name, each) for each in (blocks, found))
    chances = Chances.of(logs, length, least=_LEAST[name], skewed=name in _SKEWED)
    value, usual, limit = float(new.mean()), chances.mean, chances.limit(LEVEL / len(TESTS), len(new))
    back = [max(0.0, float(np.exp(each)) - _more(name)) for each in (value, usual, limit)]
    severity = (value - usual) / (limit - usual)
    return Finding(back[0], back[1], back[2], chances.p(value, len(new)), severity)


def _logarithm(name: str, values: Array) -> Array:
    return np.asarray(np.log(np.maximum(values, 0) + _more(name) + np.finfo(np.float64).tiny))


def _more(name: str) -> float:
    return _EXPECTED if name == RANGE else 0.0
