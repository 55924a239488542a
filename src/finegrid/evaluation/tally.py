"""One pass over the fields of a variable: sums for every method and metric, block by block of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from finegrid.conventions import InputError
from finegrid.data.working import Workers, alone
from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array, Totals, ratio
from finegrid.evaluation.metrics import Block, Metric, Reference
from finegrid.evaluation.metrics.base import Held, Piece, pieces_of
from finegrid.evaluation.metrics.pointwise import square_error
from finegrid.evaluation.metrics.spectrum import radial, truth_and_members


def _zero() -> Array:
    return np.zeros(())


@dataclass
class Tally:
    """Sums of one method, growing with every block.

    Attributes:
        metrics: what is summed.
        parts: totals of each block by metric.
        missing: cells and times with a truth and no prediction.
    """

    metrics: Sequence[Metric]
    parts: dict[str, list[Totals]] = field(default_factory=dict)
    missing: int = 0
    _squares: Array = field(default_factory=_zero)
    _known: Array = field(default_factory=_zero)
    _power: Array = field(default_factory=_zero)
    _transformed: int = 0

    def add(self, block: Block) -> None:
        """Take in a block of times."""
        self.missing += block.missing()
        for metric in self.metrics:
            self.parts.setdefault(metric.name, []).append(metric.totals(block))
        self._add_errors(block)
        self._add_spectra(block)

    def include(self, later: Tally) -> None:
        """Take in what was summed of later times."""
        self.missing += later.missing
        for name, each in later.parts.items():
            self.parts.setdefault(name, []).extend(each)
        self._squares, self._known = self._squares + later._squares, self._known + later._known
        self._power, self._transformed = self._power + later._power, self._transformed + later._transformed

    def totals(self, metric: str) -> Totals:
        """Sums of each time of all blocks."""
        return Totals.joined(self.parts[metric])

    def error_map(self) -> Array:
        """Root-mean-square error over time in each cell (y, x)."""
        return np.sqrt(ratio(self._squares, self._known))

    def spectra(self) -> tuple[Array, Array] | None:
        """Wavenumbers, and the variance in each ring (truth or members, ring); None without a spectrum."""
        if not self._power.any():
            return None
        return radial(self._power / self._transformed)

    def _add_errors(self, block: Block) -> None:
        squares = square_error(block)[0]
        self._squares = self._squares + np.nansum(squares, axis=0)
        self._known = self._known + np.isfinite(squares).sum(axis=0)

    def _add_spectra(self, block: Block) -> None:
        pair = truth_and_members(block)
        if pair is None:
            return
        power = np.stack(pair)
        known = np.isfinite(power).all(axis=(0, 2, 3))
        self._power = self._power + power[:, known].sum(axis=1)
        self._transformed += int(known.sum())


def tally(
    case: Case, reference: Reference, wanted: Sequence[Metric], *, workers: Workers = alone
) -> Mapping[str, Tally]:
    """Sums of every method and of those metrics wanted that are for the variable.

    Args:
        case: truth and predictions on common ground.
        reference: what is known of the truth.
        wanted: the metrics.
        workers: who sums.

    Raises:
        InputError: when a prediction is missing where there is a truth.
    """
    members = max(field.sizes["member"] for field in case.predictions.values())
    applying = [metric for metric in wanted if metric.applies(reference)]
    metrics = [metric for metric in applying if members > 1 or not metric.of_members]
    tallies = {method: Tally(metrics) for method in case.predictions}
    pieces = pieces_of(case.predictions, case.truth, case.coarse)
    for found in workers(Piece.read, partial(_tallied, reference, metrics), pieces):
        for method, part in found.items():
            tallies[method].include(part)
    for method, each in tallies.items():
        _check_complete(each, method, case)
    return tallies


def _tallied(reference: Reference, metrics: Sequence[Metric], held: Held) -> dict[str, Tally]:
    """Sums of some times."""
    tallies = {method: Tally(metrics) for method in held.predictions}
    for method, block in held.blocks(reference):
        tallies[method].add(block)
    return tallies


def _check_complete(each: Tally, method: str, case: Case) -> None:
    if each.missing:
        raise InputError(
            f"got {each.missing} missing values of '{case.name}' in {method} where the truth has values (of "
            f"{case.truth.size}); expected a prediction for every one; leave those cells out of the truth "
            "too, with "
            f"truth.where(prediction['{case.name}'].notnull()), or predict them"
        )
