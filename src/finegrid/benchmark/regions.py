"""Learning in some regions and being judged in others: radar rain, cut into patches (`data.patches`).

    train       the patches of the training regions outside their quarter
    validate    one quarter of each training region (lower rows and right columns: the south-east), frame by frame
                the same event as the training patches, at another place
    test        every patch of the other regions, fewer frames

A region may be learnt from and judged, too (`quarters`): then its test is that quarter, and validation another one (the
north-west), so that what is learnt in a region and what is learnt elsewhere can be judged on the same patches.

Frames are minutes apart and resemble each other, so the count of patches is larger than what they know; the bootstrap
over nominal days takes whole runs of them. Patches with a missing cell, and those without any rain, are in no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.data import samples, synthetic
from finegrid.data.patches import Record, cut, stacked, useful

# Patches along a side of a synthetic region, and its days.
_PATCHES, _TIMES = 4, 36


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Which regions are learnt from and which are predicted.

    Attributes:
        train: samples of the training regions; a quarter of each is for validation.
        test: samples of the regions that are predicted.
        size: fine cells along a side of a patch.
        every: of the frames of a training region, every so many-th is taken.
        every_test: the same in the regions that are predicted.
        above: a patch counts where some value is above it.
        quarters: judge a quarter of each region, which no method learns from.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    size: int = 128
    every: int = 3
    every_test: int = 9
    above: float = 0.0
    quarters: bool = False

    @property
    def samples(self) -> tuple[str, ...]:
        """All samples that are needed; synthetic regions need none."""
        return tuple(name for name in dict.fromkeys((*self.train, *self.test)) if name not in synthetic.REGIONS)

    def record(self, variables: tuple[str, ...]) -> Record:
        """All patches as one record: training, validation, test; its parts are called as `split` and `parts` say.

        Raises:
            InputError: when a sample is not on this machine.
        """
        kept: dict[str, xr.Dataset] = {}
        counts: dict[str, tuple[int, int]] = {}
        cuts = {name: self._cut(name, variables, self.every) for name in self.train}
        parts = {name: patches.isel(patch=self._learnt(patches)) for name, patches in cuts.items()}
        parts |= {_quarter(name): patches.isel(patch=self._validated(patches)) for name, patches in cuts.items()}
        for name in self.test:
            patches = self._cut(name, variables, self.every_test)
            parts[self.tested(name)] = patches.isel(patch=in_quarter(patches)) if self.quarters else patches
        for name, patches in parts.items():
            kept[name] = useful(patches, above=self.above)
            counts[name] = (kept[name].sizes["patch"], patches.sizes["patch"])
        record = stacked(kept)
        record.fields.attrs = {"title": "Patches of regions on a nominal plane", "comment": _words(counts)}
        return record

    def split(self, record: Record) -> dict[str, str | float | int]:
        """The blocks of the record, as `split_times` takes them."""
        validation = map(_quarter, self.train)
        return {
            "train": record.span(*self.train),
            "validate": record.span(*validation),
            "test": record.span(*map(self.tested, self.test)),
            "gap": 0,
        }

    def tested(self, name: str) -> str:
        """What the part of the record is called on which a region is judged."""
        return f"{name}, test" if self.quarters else name

    def _learnt(self, patches: xr.Dataset) -> np.ndarray:
        others = ~in_quarter(patches)
        return others & ~self._validated(patches) if self.quarters else others

    def _validated(self, patches: xr.Dataset) -> np.ndarray:
        return in_quarter(patches, upper=True) if self.quarters else in_quarter(patches)

    def _cut(self, name: str, variables: tuple[str, ...], every: int) -> xr.Dataset:
        if name in synthetic.REGIONS:
            side, seed = _PATCHES * self.size, list(synthetic.REGIONS).index(name)
            fields = synthetic.generate(synthetic.REGIONS[name], shape=(side, side), times=_TIMES, seed=seed)
        else:
            fields = samples.open(name)
        return cut(fields[list(variables)], self.size, every=every)


def in_quarter(patches: xr.Dataset, *, upper: bool = False) -> np.ndarray:
    """Which patches are in the lower half of the rows and the right half of the columns, or in the opposite quarter."""
    row, column = patches.row.values, patches.column.values
    low, right = row < (row.max() + 1) // 2, column >= (column.max() + 1) // 2
    return np.asarray(~low & ~right if upper else low & right)


def _quarter(name: str) -> str:
    return f"{name}, quarter"


def _words(counts: Mapping[str, tuple[int, int]]) -> str:
    """How many patches there are, and how many were left out."""
    parts = [f"{name}: {kept} of {every}" for name, (kept, every) in counts.items()]
    return "patches that are complete and not dry: " + "; ".join(parts)
