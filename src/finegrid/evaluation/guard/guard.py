"""Is new input like that from which a model has learnt? A memory of the training input, and a comparison with it.

A method that learnt from one climate, one model or one instrument answers any input, and nothing in its answer says
that the input was of another kind. The guard remembers what the training input looked like: traits of each time
(`traits`), ends of its range, quantiles, and means of each cell, by calendar month. New input is compared with the
training times of its months by four tests (`usual`), whose p values know how different blocks of the training record
are from each other:

    p = min(1, 4 min(p1, p2, p3, p4)),        flagged where p <= 0.01

(Bonferroni), so that input of the kind of training is flagged at most one time in a hundred. Amounts (rain, humidity,
radiation) are compared by cube roots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.conventions.errors import provenance
from finegrid.evaluation.guard.alignment import Alignment
from finegrid.evaluation.guard.comparison import compare
from finegrid.evaluation.guard.memory import LEVELS, Memory
from finegrid.evaluation.guard.plan import MONTHS, months_of, stride
from finegrid.evaluation.guard.traits import Trait, measured, traits_of
from finegrid.evaluation.guard.verdict import Verdict

LEAST_TIMES = 30


@dataclass(frozen=True, eq=False)
class Guard:
    """What training input looked like, and how new input compares with it.

    Attributes:
        memory: what is kept of the training input.
    """

    memory: Memory

    @classmethod
    def fit(cls, coarse: xr.Dataset, *, variables: Sequence[str] | None = None, seasonal: bool = True) -> Self:
        """Look at the training input.

        Args:
            coarse: coarse fields (time, y, x) in any names; may be lazy.
            variables: which of them; by default all.
            seasonal: compare with the same calendar months. False where dates mean nothing, as those of patches.

        Raises:
            InputError: with fewer than 16 times of which something is known.
        """
        return cls(Memory.of(coarse, variables, seasonal=seasonal))

    def compare(self, coarse: xr.Dataset) -> Verdict:
        """Compare new input, of any number of times, with that of training.

        Args:
            coarse: coarse fields (time, y, x) with some of the variables; may be lazy.

        Raises:
            InputError: when it has none of the variables, other units, or hardly a known value.
        """
        return compare(self.memory, coarse)

    def alignments(self, coarse: xr.Dataset) -> tuple[Alignment, Alignment]:
        """What gives new input the mean of training, and what gives it the distribution; see `alignment`.

        Raises:
            InputError: as `compare`, and with fewer than 30 times.
        """
        memory = self.memory
        standard, names = memory.read(coarse)
        months = months_of(standard.time, seasonal=memory.seasonal)
        rows = np.arange(0, len(months), stride(len(months), memory.step_seconds))
        found = measured(standard, names, rows, months[rows], MONTHS if memory.seasonal else 1)
        _check_times(int(found.known.sum()), provenance(coarse))
        parts = np.bincount(months, minlength=memory.quantiles.shape[1]).astype(float)
        kinds = {name: (memory.units[name], name in memory.amounts) for name in names}
        traits = traits_of(names)
        means = {name: float(np.nanmean(found.traits[:, traits.index(Trait((name,), "mean"))])) for name in names}
        quantiles = {name: np.nanquantile(each, LEVELS) for name, each in zip(names, found.samples, strict=True)}
        goals = {name: memory.quantiles_of(name, parts) for name in names}
        return (
            Alignment.by_mean(means, {name: memory.mean_of(name, parts) for name in names}, kinds),
            Alignment.by_quantiles(quantiles, goals, kinds),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Plain values for JSON, and arrays."""
        return self.memory.state()

    @classmethod
    def remember(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The guard of which these are the `state`."""
        return cls(Memory.from_state(plain, arrays))


def _check_times(count: int, source: str) -> None:
    if count < LEAST_TIMES:
        raise InputError(
            f"got {count} times to align with the training input in {source}; expected at least {LEAST_TIMES}: of "
            "fewer, their weather would be taken for a bias; give a longer record, or leave --guard align out"
        )
