"""Fields to a CF-1.11 file, NetCDF or Zarr, block by block, all or nothing.

Blocks of time are appended to a temporary file beside the target, which gets its name when everything is
written: whoever reads the folder sees the old file or the new one, never a part, and memory holds one block
however many steps there are.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.conventions.axes import is_time
from finegrid.data.cf import global_attributes, variable_attributes
from finegrid.data.dates import DateCodec, codecs
from finegrid.data.stores import Layout, NetcdfStore, Store, ZarrStore

_BLOCK_BYTES = 32_000_000

_Open = Callable[[Path, int], Store]
STORES: dict[str, _Open] = {
    ".nc": lambda path, compression: NetcdfStore(path, compression=compression),
    ".nc4": lambda path, compression: NetcdfStore(path, compression=compression),
    ".zarr": lambda path, compression: ZarrStore(path, compression=compression),
}


class Writer:
    """A file that is being written; use it in a `with` statement, so that a failure leaves nothing behind.

    Args:
        path: the file (.nc) or folder (.zarr).
        overwrite: whether an existing one may be replaced.
        compression: zlib level of NetCDF; 0 stores values plainly.
        part: the temporary file, on the same disk; by default a hidden one beside the path.

    Raises:
        InputError: when the path cannot be written; names it.
    """

    def __init__(
        self, path: str | Path, *, overwrite: bool = True, compression: int = 1, part: Path | None = None
    ) -> None:
        self.path = Path(path).expanduser()
        check_target(self.path, overwrite)
        self._compression = compression
        self._part = part or self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._store: Store | None = None
        self._codecs: dict[str, DateCodec] = {}
        self._layouts: dict[str, Layout] = {}
        self._attributes: dict[str, Any] = {}
        self._record: str | None = None
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def append(self, block: xr.Dataset) -> None:
        """Write the next steps of time.

        Args:
            block: fields in the user's names, with all coordinates and attributes; each block has the same variables.
        """
        try:
            values = block.compute()
            with Failures(self.path):
                if self._store is None:
                    self._begin(values)
                self._extend(values)
        except BaseException:
            self.abort()
            raise

    def set_attributes(self, **attributes: Any) -> None:
        """Global attributes that are known only at the end, such as how well the file conserves."""
        self._attributes |= attributes

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            if self._store is None:
                raise InputError(
                    f"nothing was written to {self.path}; expected at least one block. Call append(fields) first"
                )
            with Failures(self.path):
                self._store.describe(None, self._attributes)
                self._store.close()
                replace(self._part, self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove what was written so far; an older file of the same name stays as it was."""
        if self._store is not None:
            with suppress(OSError, RuntimeError):  # a full disk fails again when the rest is flushed
                self._store.close()
        _remove(self._part)

    def _begin(self, block: xr.Dataset) -> None:
        """Open the temporary file and make room for the variables of the first block."""
        self._record = record_of(block)
        self._store = STORES[self.path.suffix](self._part, self._compression)
        self._attributes = global_attributes(block) | self._attributes
        self._codecs = codecs(block)
        for name in map(str, block.variables):
            self._layouts[name] = layout_of(block, name, self._codecs, self._record)
            self._store.create(name, self._layouts[name])

    def _extend(self, block: xr.Dataset) -> None:
        """Write the values of a block; what does not depend on time, with the first block only."""
        different = set(map(str, block.variables)) ^ set(self._layouts)
        if different:
            raise InputError(
                f"a block for {self.path} differs from the first in {', '.join(sorted(different))}; expected "
                "the same variables and coordinates in all blocks. Drop or add them before append"
            )
        for name, layout in self._layouts.items():
            grows = self._record in layout.dims
            if grows or self._steps == 0:
                self._put(name, layout, block, self._steps if grows else None)
        self._steps += block.sizes[self._record] if self._record is not None else 1

    def _put(self, name: str, layout: Layout, block: xr.Dataset, start: int | None) -> None:
        if name in self._codecs:
            self._refine(self._codecs[name], block)
        self._opened().put(name, stored_values(block[name], layout, self._codecs.get(name)), start)

    def _refine(self, codec: DateCodec, block: xr.Dataset) -> None:
        """Where later dates fall between the units of the first ones, rewrite the dates in finer units."""
        factor = codec.refine(block)
        if factor == 1:
            return
        for name, other in self._codecs.items():
            if other is codec:
                stored = self._opened().get(name)
                self._opened().put(name, (stored * factor).astype(stored.dtype), 0)
        self._opened().describe(codec.owner, codec.attributes())

    def _opened(self) -> Store:
        if self._store is None:
            raise InputError(f"the writer of {self.path} is not open; call append(fields) first")
        return self._store


def record_of(fields: xr.Dataset) -> str | None:
    """The dimension of time, along which files grow; None where there is none."""
    dated = [str(dim) for dim in fields.dims if dim in fields.coords and is_time(fields[dim])]
    # A coordinate of time may have another name than its dimension.
    others = [str(each.dims[0]) for each in fields.coords.values() if each.ndim == 1 and is_time(each)]
    return next(iter((*dated, *others)), None)


def layout_of(block: xr.Dataset, name: str, codecs: Mapping[str, DateCodec], record: str | None) -> Layout:
    """How a variable of a block is stored."""
    variable, attributes = block[name], variable_attributes(block, name)
    dtype, is_field = variable.dtype, name in block.data_vars and variable.dtype.kind == "f"
    if name in codecs:
        dtype = np.dtype(codecs[name].stored["dtype"])
        attributes |= codecs[name].attributes() if codecs[name].owner == name else {}
    elif is_field:
        dtype = np.dtype(np.float32)
    elif dtype.kind == "b":
        dtype = np.dtype(np.int8)
    dims = tuple(map(str, variable.dims))
    return Layout(dims, variable.shape, dtype, attributes, missing=is_field, record=record)


def stored_values(variable: xr.DataArray, layout: Layout, codec: DateCodec | None) -> NDArray[Any]:
    """The values of a variable as they are stored."""
    field = variable.transpose(*layout.dims)
    if codec is not None:
        values = codec.encode(field)
    else:
        values = field.values.astype(str).astype(object) if layout.dtype.kind in "OSU" else field.values
    return np.asarray(values.astype(layout.dtype, copy=False))


def write(fields: xr.Dataset, path: str | Path, **attributes: Any) -> Path:
    """Write fields in the user's names to NetCDF (.nc) or Zarr (.zarr), reading lazy ones block by block.

    Args:
        fields: fields with coordinates and attributes.
        path: where to; an existing file is replaced when the new one is complete.
        **attributes: global attributes to add.

    Raises:
        InputError: when the path cannot be written; nothing is left behind.
    """
    with Writer(path) as writer:
        for block in _blocks(fields):
            writer.append(block)
        writer.set_attributes(**attributes)
    return writer.path


def _blocks(fields: xr.Dataset) -> Iterator[xr.Dataset]:
    """Slices along time of about 64 MB, cut where the lazy blocks are."""
    dim = record_of(fields)
    if dim is None:
        yield fields
        return
    growing = [field for field in fields.data_vars.values() if dim in field.dims]
    piece = max([max(field.chunksizes.get(dim, (1,))) for field in growing], default=1)
    per_step = sum(field.nbytes for field in growing) // max(1, fields.sizes[dim])
    steps = max(piece, _BLOCK_BYTES // max(1, per_step) // piece * piece)
    for start in range(0, fields.sizes[dim], steps):
        yield fields.isel({dim: slice(start, start + steps)})


class Failures:
    """Failures of the disk, in words: which path, why, and what to do; `kept` says what is left."""

    def __init__(self, path: Path, kept: str = "nothing of the file was kept") -> None:
        self._path, self._kept = path, kept

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The NetCDF library reports a full disk as RuntimeError("NetCDF: HDF error").
        if isinstance(error, OSError | RuntimeError):
            raise InputError(
                f"could not write {self._path} ({error}); expected a folder that may be written to, with "
                f"space left. Free some space or choose another path; {self._kept}"
            ) from error


def check_target(path: Path, overwrite: bool = True) -> None:
    """Refuse a path that cannot be written, before any work.

    Raises:
        InputError: names it.
    """
    if path.suffix not in STORES:
        raise InputError(
            f"cannot tell the format of {path}; expected a name that ends in {', '.join(STORES)}. Rename the output"
        )
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent} to write {path.name} to. Create it with `mkdir -p {path.parent}`"
        )
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} is read-only; {path.name} cannot be written. Choose another path")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; expected a new name. Choose another path, or pass overwrite=True")


def replace(part: Path, path: Path) -> None:
    """Give the finished file its name. A folder cannot replace another: the old one goes aside first."""
    if not path.is_dir():
        part.replace(path)
        return
    aside = part.with_suffix(".old")
    path.replace(aside)
    part.replace(path)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
