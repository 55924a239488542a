"""Learning in some regions and being judged in others: radar rain, cut into patches (`data.patches`).

    train       the patches of the training regions outside their quarter
    validate    one quarter of each training region (lower rows and right columns: the south-east), frame by frame
                the same event as the training patches, at another place
    test        every patch of the other regions, fewer frames

Frames are minutes apart and resemble each other, so the count of patches is larger than what they know; the bootstrap
over nominal days takes whole runs of them. Patches with a missing cell, and those without any rain, are in no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.data import samples
from finegrid.data.patches import Record, cut, stacked, useful


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
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    size: int = 128
    every: int = 3
    every_test: int = 9
    above: float = 0.0

    @property
    def samples(self) -> tuple[str, ...]:
        """All samples that are needed."""
        return (*self.train, *self.test)

    def record(self, variables: tuple[str, ...]) -> Record:
        """All patches as one record: training, validation, test; its parts are called as `split` and `parts` say.

        Raises:
            InputError: when a sample is not on this machine.
        """
        kept: dict[str, xr.Dataset] = {}
        counts: dict[str, tuple[int, int]] = {}
        cuts = {name: self._cut(name, variables, self.every) for name in self.train}
        parts = {name: patches.isel(patch=~in_quarter(patches)) for name, patches in cuts.items()}
        parts |= {_quarter(name): patches.isel(patch=in_quarter(patches)) for name, patches in cuts.items()}
        parts |= {name: self._cut(name, variables, self.every_test) for name in self.test}
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
            "test": record.span(*self.test),
            "gap": 0,
        }

    def _cut(self, name: str, variables: tuple[str, ...], every: int) -> xr.Dataset:
        return cut(samples.open(name)[list(variables)], self.size, every=every)


def in_quarter(patches: xr.Dataset) -> np.ndarray:
    """Which patches are in the lower half of the rows and the right half of the columns."""
    row, column = patches.row.values, patches.column.values
    return np.asarray((row < (row.max() + 1) // 2) & (column >= (column.max() + 1) // 2))


def _quarter(name: str) -> str:
    return f"{name}, quarter"


def _words(counts: Mapping[str, tuple[int, int]]) -> str:
    """How many patches there are, and how many were left out."""
    parts = [f"{name}: {kept} of {every}" for name, (kept, every) in counts.items()]
    return "patches that are complete and not dry: " + "; ".join(parts)
