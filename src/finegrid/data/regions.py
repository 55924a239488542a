"""A Zarr store of a known length, whose blocks of time are written in any order, by any number of processes.

Every block is a whole number of chunks, so that no two writers ever touch the same file, and nothing but the values of
fields is written after the store was made: coordinates and attributes are there from the start. What was written is
known by the CRC-32 of its values (ISO 3309), variable by variable, so that a damaged block is found.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.cf import global_attributes
from finegrid.data.dates import codecs
from finegrid.data.stores import Layout, ZarrStore, plain_attributes
from finegrid.data.write import Failures, layout_of, record_of, stored_values

KEPT = "nothing half-written is kept"


class Regions:
    """The fields of a store, as float32.

    Args:
        path: a store that `create` made.
        record: its dimension of time.

    Raises:
        InputError: when there is none.
    """

    def __init__(self, path: Path, record: str) -> None:
        self.path, self.record = path, record
        try:
            self._group = zarr.open_group(str(path), mode="r+")
        except (OSError, ValueError) as error:
            raise InputError(
                f"there is no store {path} to write to ({error}); expected a folder that every worker sees under this "
                "path; put the output on a shared disk"
            ) from None

    @classmethod
    def create(cls, path: Path, outline: xr.Dataset, *, steps: int, whole: bool = False) -> Self:
        """Make a store without values.

        Args:
            path: where; nothing may be there.
            outline: all variables with all their times; those of the fields may be lazy, and are not looked at.
            steps: times in a chunk; blocks are a multiple of it.
            whole: for values that are only passed through: fields alone, stored plainly in chunks of all cells.

        Raises:
            InputError: when the disk is full or the folder cannot be written.
        """
        record = record_of(outline)
        if record is None:
            raise InputError(f"got fields without time for {path.name}; expected a dimension of time")
        dated = codecs(outline.drop_vars(list(outline.data_vars)))
        with Failures(path, KEPT):
            store = ZarrStore(path, compression=0 if whole else 1, grows=False)
            for name in map(str, outline.data_vars if whole else outline.variables):
                layout = layout_of(outline, name, dated, record)
                is_field = name in outline.data_vars
                store.create(name, _in_pieces(layout, steps, whole) if is_field else layout)
                if not is_field:
                    store.put(name, stored_values(outline[name], layout, dated.get(name)), None)
            store.describe(None, global_attributes(outline))
        return cls(path, record)

    def put(self, block: xr.Dataset, start: int) -> dict[str, int]:
        """Write a block from time `start` on.

        Returns:
            The CRC-32 of its values, by variable.

        Raises:
            InputError: when it cannot be written.
        """
        found = {}
        for name, field in block.data_vars.items():
            array = self._array(str(name))
            ordered = field.transpose(*array.metadata.dimension_names).values
            values = np.ascontiguousarray(ordered, dtype=np.float32)
            with Failures(self.path, KEPT):
                array[self._times(array, start, start + block.sizes[self.record])] = values
            found[str(name)] = zlib.crc32(values.data)
        return found

    def get(self, names: Iterable[str], start: int, stop: int) -> dict[str, NDArray[np.float32]]:
        """The values of some times, by variable."""
        arrays = {name: self._array(name) for name in names}
        return {name: np.asarray(each[self._times(each, start, stop)]) for name, each in arrays.items()}

    def checksums(self, names: Iterable[str], start: int, stop: int) -> dict[str, int]:
        """The CRC-32 of what is stored of some times, by variable; nothing where it cannot be read."""
        try:
            return {
                name: zlib.crc32(np.ascontiguousarray(each).data) for name, each in self.get(names, start, stop).items()
            }
        except (OSError, RuntimeError, ValueError, KeyError):  # a chunk that was cut off or overwritten
            return {}

    def describe(self, **attributes: Any) -> None:
        """Set global attributes, which are known only at the end."""
        with Failures(self.path, KEPT):
            self._group.update_attributes(plain_attributes(attributes))

    def _array(self, name: str) -> Any:
        return self._group[name]

    def _times(self, array: Any, start: int, stop: int) -> tuple[slice, ...]:
        before = array.metadata.dimension_names.index(self.record)
        return (*(slice(None),) * before, slice(start, stop))


def _in_pieces(layout: Layout, steps: int, whole: bool) -> Layout:
    """The same layout with so many times in a chunk."""
    sizes = layout.shape if whole else layout.chunks()
    pieces = (steps if dim == layout.record else max(1, size) for dim, size in zip(layout.dims, sizes, strict=True))
    return replace(layout, pieces=tuple(pieces))
