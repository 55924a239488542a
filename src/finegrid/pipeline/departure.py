"""How far written fields depart from the coarse field that they were made from, found while they are written.

The figure is that of the evaluation, with the fine cells of the model instead of those of a truth: the largest over
members, times and coarse cells of |area mean - coarse| / max(|coarse|, mean of |coarse|), in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import harmonise
from finegrid.downscalers.domain import Domain
from finegrid.evaluation.metrics import Block, Metric, Reference
from finegrid.evaluation.metrics.conservation import CONSERVED, VIOLATION
from finegrid.grids import Operator

Found = tuple[float, int, int]
"""The largest departure, and coarse values that are not met, of how many in all."""

# Coarse values read at once.
_READ_AT_ONCE = 1 << 24
# Fine values held as float64 at once: a block is measured in pieces, beside a network that needs the memory.
_VALUES_AT_ONCE = 1 << 20


@dataclass
class Departure:
    """The largest departure so far.

    Attributes:
        references: what the metric has to know of each variable.
        largest: relative to the coarse field.
        unmet: coarse values that are not met to rounding by some member, of how many in all.
        metric: how it is measured.
    """

    references: dict[str, Reference]
    largest: float = 0.0
    unmet: tuple[int, int] = (0, 0)
    metric: Metric = VIOLATION

    @classmethod
    def of(cls, domain: Domain, coarse: xr.Dataset, *, derived: Sequence[str] = ()) -> Departure:
        """Ready to measure fields of a domain; `coarse`, in standard form, is read once for its typical size.

        Variables that are `derived` from others have no coarse value to depart from.
        """
        names = [name for name in domain.outputs if name not in derived]
        return cls.knowing(domain, {name: _typical(coarse[name]) for name in names})

    @classmethod
    def knowing(cls, domain: Domain, typical: Mapping[str, float]) -> Departure:
        """Ready to measure the variables whose typical sizes, the means of |coarse|, are known."""
        fine = domain.true_grid.masked(None)
        operator = Operator.from_areas(fine, domain.operator.target, *domain.operator.areas)
        valid = np.ones(fine.shape, dtype=bool) if domain.true_grid.mask is None else np.asarray(domain.true_grid.mask)
        references = {
            name: Reference(
                name=name,
                units=domain.inputs.units[name],
                standard_name="",
                grid=fine,
                lowest=np.nan,
                highest=np.nan,
                ever=valid,
                complete=valid,
                operator=operator,
                inside=domain.binding,
                typical=size,
            )
            for name, size in typical.items()
        }
        return cls(references)

    @property
    def typical(self) -> dict[str, float]:
        """The mean of |coarse| of each variable."""
        return {name: each.typical for name, each in self.references.items()}

    @property
    def found(self) -> Found:
        """What was measured so far, as plain values."""
        return self.largest, *self.unmet

    def fresh(self) -> Departure:
        """The same measure, with nothing measured yet."""
        return replace(self, largest=0.0, unmet=(0, 0))

    def include(self, found: Found) -> None:
        """Take in what another process, or an earlier one, has measured of other blocks."""
        largest, wrong, count = found
        self.largest = max(self.largest, largest)
        self.unmet = self.unmet[0] + wrong, self.unmet[1] + count

    def add(self, block: xr.Dataset, coarse: xr.Dataset) -> None:
        """Measure a block, in the user's names, against its standard coarse fields."""
        standard, _ = harmonise(block)
        for name, reference in self.references.items():
            fine = standard[name] if "member" in standard[name].dims else standard[name].expand_dims("member")
            values, given = fine.transpose("member", "time", "y", "x").values, np.asarray(coarse[name].values)
            step = max(1, _VALUES_AT_ONCE // max(1, values[:, 0].size))
            for start in range(0, values.shape[1], step):
                part = slice(start, start + step)
                self._add(values[:, part], given[part], reference)

    def _add(self, fine: NDArray[np.float32], coarse: NDArray[np.float32], reference: Reference) -> None:
        # The truth is not looked at by this metric, which needs one all the same.
        prediction, given = fine.astype(np.float64), coarse.astype(np.float64)
        found = self.metric.statistics(Block(prediction, prediction[0], reference, given))
        known = found[np.isfinite(found)]
        self.largest = max(self.largest, float(known.max(initial=0.0)))
        self.unmet = self.unmet[0] + int((known > CONSERVED).sum()), self.unmet[1] + known.size


def _typical(coarse: xr.DataArray) -> float:
    """Mean of |coarse| over everything known."""
    total, count = 0.0, 0
    step = max(1, _READ_AT_ONCE * coarse.sizes["time"] // max(1, coarse.size))
    for start in range(0, coarse.sizes["time"], step):
        values = np.asarray(coarse.isel(time=slice(start, start + step)).values)
        total += float(np.nansum(np.abs(values), dtype=np.float64))
        count += int(np.isfinite(values).sum())
    return total / max(1, count)
