"""The two formats that fields are written to, behind the same few calls: NetCDF-4 and Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import netCDF4
import numpy as np
import zarr
from numpy.typing import NDArray

from finegrid.conventions.netcdf import LOCK

_FIELD_CHUNK = 1_000_000
_LARGEST_CHUNK = 4_000_000
_DATE_CHUNK = 4096
# Below so many values, the filter's own bookkeeping outweighs what it saves.
_COMPRESSED = 256


@dataclass(frozen=True)
class Layout:
    """How one variable is stored.

    Attributes:
        dims: names of the dimensions.
        shape: sizes; that of the record dimension is the current one.
        dtype: type of the stored values.
        attributes: attributes in the file.
        missing: whether NaN is declared as the fill value.
        record: the dimension along which the file grows.
        pieces: sizes of the chunks; None for about a megabyte.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    missing: bool = False
    record: str | None = None
    pieces: tuple[int, ...] | None = None

    def chunks(self) -> tuple[int, ...]:
        """About a megabyte: whole fields, several steps of time; bands of rows of fields above 4 MB."""
        if self.pieces is not None:
            return self.pieces
        sizes = list(self.shape)
        plane = [index for index, dim in enumerate(self.dims) if dim != self.record][-2:]
        for index in range(len(sizes)):
            if index not in plane:
                sizes[index] = 1
        size = self.dtype.itemsize * int(np.prod([sizes[index] for index in plane], dtype=np.int64))
        if plane and size > _LARGEST_CHUNK:
            sizes[plane[0]] = max(1, sizes[plane[0]] * _FIELD_CHUNK // size)
        elif self.record in self.dims:
            sizes[self.dims.index(str(self.record))] = min(_DATE_CHUNK, max(1, _FIELD_CHUNK // max(1, size)))
        return tuple(max(1, each) for each in sizes)

    def open_bytes(self) -> int:
        """Memory for the chunks that are filled at the same time, and as many again: HDF5 would keep 64 MB."""
        chunks = self.chunks()
        inner = [index for index, dim in enumerate(self.dims) if dim != self.record]
        tiles = int(np.prod([-(-self.shape[index] // chunks[index]) for index in inner], dtype=np.int64))
        filled = tiles if len(inner) < len(chunks) and chunks[self.dims.index(str(self.record))] > 1 else 1
        return 2 * filled * self.dtype.itemsize * int(np.prod(chunks, dtype=np.int64))


class Store(Protocol):
    """A file that grows along one dimension."""

    def create(self, name: str, layout: Layout) -> None:
        """Make room for a variable."""

    def put(self, name: str, values: NDArray[Any], start: int | None) -> None:
        """Write values: all of them, or those from step `start` of the record dimension on."""

    def get(self, name: str) -> NDArray[Any]:
        """The stored values of a variable."""

    def describe(self, name: str | None, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a variable, or of the file."""

    def close(self) -> None:
        """Flush everything to disk."""


class NetcdfStore:
    """NetCDF-4, zlib level 1 with the shuffle filter by default: higher levels take longer and save a few percent.

    Calls hold xarray's lock of the NetCDF library, which is not thread-safe, as the reading of lazy fields does.
    """

    def __init__(self, path: Path, *, compression: int) -> None:
        self._compression = compression
        with LOCK:
            self._file = netCDF4.Dataset(path, "w", format="NETCDF4")
            self._file.set_fill_off()
            self._file.set_auto_maskandscale(False)

    def create(self, name: str, layout: Layout) -> None:
        """Make room for a variable."""
        with LOCK:
            for dim, size in zip(layout.dims, layout.shape, strict=True):
                if dim not in self._file.dimensions:
                    self._file.createDimension(dim, None if dim == layout.record else size)
            text = layout.dtype.kind in "OSU"
            large = layout.record in layout.dims or int(np.prod(layout.shape)) >= _COMPRESSED
            packed = not text and self._compression > 0 and large
            options: dict[str, Any] = (
                {"compression": "zlib", "complevel": self._compression, "shuffle": True} if packed else {}
            )
            if layout.dims:
                options |= {"chunksizes": layout.chunks(), "chunk_cache": layout.open_bytes()}
            if layout.missing:
                options["fill_value"] = layout.dtype.type(np.nan)
            variable = self._file.createVariable(name, str if text else layout.dtype, layout.dims, **options)
            variable.set_auto_maskandscale(False)
            variable.setncatts(_writable(layout.attributes))

    def put(self, name: str, values: NDArray[Any], start: int | None) -> None:
        """Write values: all of them, or those from step `start` of the record dimension on."""
        with LOCK:
            variable = self._file[name]
            record = next(
                (i for i, dim in enumerate(variable.dimensions) if self._file.dimensions[dim].isunlimited()), None
            )
            if record is None or start is None:
                variable[...] = values
            else:
                variable[_from(record, start, values.shape[record])] = values

    def get(self, name: str) -> NDArray[Any]:
        """The stored values of a variable."""
        with LOCK:
            return np.asarray(self._file[name][...])

    def describe(self, name: str | None, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a variable, or of the file."""
        with LOCK:
            (self._file if name is None else self._file[name]).setncatts(_writable(attributes))

    def close(self) -> None:
        """Flush everything to disk."""
        with LOCK:
            if self._file.isopen():
                self._file.close()


class ZarrStore:
    """A folder in Zarr format 3.

    Args:
        path: the folder to make.
        compression: 0 stores values plainly.
        grows: whether the record dimension is to have no steps yet, instead of all those of the layouts.
    """

    def __init__(self, path: Path, *, compression: int, grows: bool = True) -> None:
        self._group = zarr.create_group(str(path), zarr_format=3)
        self._compressors: Any = "auto" if compression else None
        self._grows = grows
        self._records: dict[str, int | None] = {}

    def create(self, name: str, layout: Layout) -> None:
        """Make room for a variable."""
        self._records[name] = layout.dims.index(layout.record) if layout.record in layout.dims else None
        sizes = zip(layout.dims, layout.shape, strict=True)
        shape = [0 if self._grows and dim == layout.record else size for dim, size in sizes]
        text = layout.dtype.kind in "OSU"
        self._group.create_array(
            name,
            shape=tuple(shape),
            dtype=str if text else layout.dtype,
            chunks=layout.chunks(),
            compressors=self._compressors,
            dimension_names=layout.dims,
            attributes=plain_attributes(layout.attributes),
            fill_value="" if text else layout.dtype.type(np.nan if layout.missing else 0),
        )

    def put(self, name: str, values: NDArray[Any], start: int | None) -> None:
        """Write values: all of them, or those from step `start` of the record dimension on."""
        array, record = self._array(name), self._records[name]
        if record is None or start is None:
            array[...] = values
            return
        stop = start + values.shape[record]
        if stop > array.shape[record]:
            array.resize((*array.shape[:record], stop, *array.shape[record + 1 :]))
        array[_from(record, start, values.shape[record])] = values

    def get(self, name: str) -> NDArray[Any]:
        """The stored values of a variable."""
        return np.asarray(self._array(name)[...])

    def describe(self, name: str | None, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a variable, or of the file."""
        (self._group if name is None else self._array(name)).update_attributes(plain_attributes(attributes))

    def close(self) -> None:
        """Flush everything to disk: it already is."""

    def _array(self, name: str) -> Any:
        return self._group[name]


def _from(record: int, start: int, count: int) -> tuple[slice, ...]:
    return (*(slice(None),) * record, slice(start, start + count))


def _writable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as NetCDF takes them: no booleans, no None."""
    return {key: int(value) if isinstance(value, bool | np.bool_) else value for key, value in attributes.items()}


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON takes them."""
    return {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in attributes.items()
    }
