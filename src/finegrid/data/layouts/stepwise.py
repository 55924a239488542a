"""Arrays of which every step is a file of its own: tens of thousands of small files, none opened before it is needed.

xarray would open every file to learn its size. Here the first one says what all are like, the names of the files say
when, and a file that differs is found out when it is read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.open import opened

_DASK: Any = dask.array  # it has no types
Reader = Callable[[Path], NDArray[Any]]
# A block of steps in memory; a few are alive at a time.
_BLOCK_BYTES = 32_000_000


def stepwise(paths: Sequence[Path], read: Reader, shape: tuple[int, ...], dtype: Any) -> dask.array.Array:
    """An array (step, *shape) that reads its files block by block.

    Args:
        paths: one a step.
        read: the values of a file, of that shape.
        shape: of a step.
        dtype: of the values.
    """
    files, kind = list(paths), np.dtype(dtype)

    def block(numbers: NDArray[np.intp]) -> NDArray[Any]:
        return np.stack([_fitting(files[number], read, shape, kind) for number in numbers])

    size = max(1, int(_BLOCK_BYTES // max(1, np.prod(shape, dtype=np.int64) * kind.itemsize)))
    numbers = _DASK.from_array(np.arange(len(files)), chunks=size)
    axes = list(range(1, 1 + len(shape)))
    name = f"steps-{secrets.token_hex(8)}"  # dask would hash all paths to find one
    lazy: dask.array.Array = _DASK.map_blocks(
        block, numbers, dtype=kind, chunks=(numbers.chunks[0], *shape), new_axis=axes, name=name
    )
    return lazy


def mapped(values: NDArray[Any], chunks: tuple[int, ...]) -> dask.array.Array:
    """An array on disk, or a view of one, as a lazy one; not hashed, which would read it."""
    lazy: dask.array.Array = _DASK.from_array(values, chunks=chunks, name=False)
    return lazy


def mapped_array(path: Path) -> NDArray[Any]:
    """The numbers of a file of numpy.save, mapped and not read; a pickle in it is refused.

    Raises:
        InputError: when it is no such file.
    """
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # a damaged head is parsed as Python, which fails in many ways
        raise InputError(
            f"{path} is no array of numbers ({error}); expected one of numpy.save; download it again"
        ) from error


def joined(parts: Sequence[dask.array.Array]) -> dask.array.Array:
    """Lazy arrays one after the other."""
    lazy: dask.array.Array = _DASK.concatenate(list(parts))
    return lazy


def read_step(path: Path, only: Sequence[str] | None = None) -> xr.Dataset:
    """A small file in memory, Zarr or NetCDF, without its times decoded.

    Args:
        path: the file.
        only: the variables that are wanted, as far as they are there; by default all.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        with opened(path, decode_times=False) as fields:
            wanted = fields if only is None else fields[[name for name in only if name in fields]]
            return wanted.load()
    except InputError:
        raise
    except Exception as error:  # the libraries have dozens of kinds
        raise InputError(
            f"{path} is damaged or truncated ({error}); expected Zarr or NetCDF; download it again"
        ) from error


def values_of(fields: xr.Dataset, name: str, dims: Sequence[str], path: Path) -> NDArray[Any]:
    """The values of a variable with its dimensions in that order.

    Raises:
        InputError: when it is not in the file, or over other dimensions.
    """
    if name not in fields.variables:
        there = ", ".join(map(str, fields.data_vars)) or "none"
        raise InputError(
            f"{path} lacks {name}; its variables are {there}; expected it in every file; check the download"
        )
    field = fields[name]
    field = field.squeeze([dim for dim in field.dims if dim not in dims and field.sizes[dim] == 1])
    if set(field.dims) != set(dims):
        raise InputError(
            f"{name} of {path} is over {', '.join(map(str, field.dims))}; expected {', '.join(dims)}; download it again"
        )
    return np.asarray(field.transpose(*dims).values)


def _fitting(path: Path, read: Reader, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    values = read(path)
    if values.shape != shape:
        raise InputError(
            f"{path} holds {values.shape} values where the first file has {shape}; expected files of one size; "
            "download it again, or put files of another grid into a folder of their own"
        )
    return values.astype(dtype, copy=False)
