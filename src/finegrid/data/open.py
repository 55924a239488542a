"""Files as one lazy Dataset in the user's own names: NetCDF, HDF5, Zarr, GRIB and GeoTIFF, one or many.

The format is read from the first bytes, and the reader is named to xarray explicitly: left to guess, xarray
imports every reader that is installed, among them cfgrib, whose PROJ library can crash the process when it is
loaded before pyproj's.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import xarray as xr

from finegrid.conventions import InputError, find_variable, harmonise
from finegrid.conventions.axes import is_time
from finegrid.conventions.netcdf import LOCK
from finegrid.conventions.paths import local_path
from finegrid.data.classic import MAGIC, check_header
from finegrid.data.geotiff import open_geotiff
from finegrid.data.grib import open_grib
from finegrid.data.hdf5 import check_variables
from finegrid.data.joining import joined, same_grids
from finegrid.data.zarr_files import bounded_store

# One block of a variable in memory; a few are alive at a time.
_BLOCK_BYTES = 32_000_000
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_EXPECTED = "expected NetCDF, HDF5, Zarr, GRIB or GeoTIFF"

Chunks = Mapping[str, int] | None


def open_fields(
    paths: str | Path | Sequence[str | Path], *, variables: Sequence[str] | None = None, chunks: Chunks = None
) -> xr.Dataset:
    """Open files lazily, with their own names, decoded by the CF conventions.

    Args:
        paths: a file, a Zarr folder, a pattern such as "era5/*.nc", or a list of these. Several files are put together
            along time or by variable; fields on other grids than that of the first file are interpolated to it.
        variables: the variables to keep, by name or standard name; by default all.
        chunks: sizes of the blocks per dimension; by default whole fields, as many times as fit in 32 MB.

    Raises:
        InputError: when a file is missing, damaged or no climate file, or files do not fit together.
    """
    files = expanded(paths)
    parts = [_open_one(file, chunks) for file in files]
    fields = parts[0] if len(parts) == 1 else _combined(parts, files)
    fields.encoding["source"] = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    if variables is None:
        return fields
    source = str(fields.encoding["source"])
    return fields[[_present(fields, name, source) for name in variables]]


def _present(fields: xr.Dataset, wanted: str, source: str) -> str:
    """The variable that is wanted; `ta@850` is a level of `ta` until the fields are harmonised."""
    base = wanted.partition("@")[0]
    if f"{base}{wanted.partition('@')[2]}" in fields.data_vars or wanted in fields.data_vars:
        return find_variable(fields, wanted, source=source)
    return find_variable(fields, base, source=source)


def expanded(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of paths and patterns, in order.

    Raises:
        InputError: where there are none.
    """
    each = [paths] if isinstance(paths, str | Path) else list(paths)
    files: list[Path] = []
    for pattern in (str(local_path(path)) for path in each):
        found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        if not found:
            what = "no file matches" if glob.has_magic(pattern) else "there is no file"
            raise InputError(f"{what} '{pattern}'; expected a climate file. Check the path (now in {Path.cwd()})")
        files += map(Path, found)
    if not files:
        raise InputError(
            "got an empty list of files; expected at least one. Pass paths, or a pattern such as 'era5/*.nc'"
        )
    return files


def _open_one(path: Path, chunks: Chunks) -> xr.Dataset:
    fields = _reader(path)(path)
    if not fields.data_vars:
        raise InputError(
            f"{path} holds no variables at its top level; {_EXPECTED} with gridded variables. Groups of a "
            "file are not read: copy the group with `ncks -G : -g GROUP in.nc out.nc`"
        )
    nameless = [name for name, field in fields.variables.items() if None in field.dims]
    if nameless:
        raise InputError(
            f"'{nameless[0]}' of {path} has a dimension without a name; expected one for each, such as time, lat and "
            "lon: set dimension_names in its zarr.json"
        )
    if chunks is not None:
        return fields.chunk({dim: size for dim, size in chunks.items() if dim in fields.dims})
    return fields if fields.chunks else fields.chunk(_blocks(fields))


def _reader(path: Path) -> Callable[[Path], xr.Dataset]:
    if path.is_dir():
        if any((path / mark).exists() for mark in _ZARR_MARKS):
            return _decoded
        raise InputError(f"{path} is a folder; {_EXPECTED}. Name the files in it with a pattern: '{path}/*.nc'")
    if not path.is_file():
        raise InputError(f"{path} is a device or a pipe; {_EXPECTED}. Write what comes out of it to a file first")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {_EXPECTED}. Check its permissions") from error
    if start.startswith((*MAGIC, b"\x89HDF\r\n\x1a\n")):
        return _decoded
    if start.startswith(b"GRIB"):
        return open_grib
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return open_geotiff
    if start.startswith(b"PK") and path.suffix == ".zip":
        return _decoded
    raise InputError(
        f"{path} is not a climate file (it starts with {start!r}); {_EXPECTED}. Check the path or the download"
    )


def opened(path: Path, **decoding: Any) -> xr.Dataset:
    """A NetCDF file or Zarr as xarray opens it, by any thread.

    Raises:
        InputError: when the file is not what it says, or asks for too much memory.
        Exception: of dozens of kinds, out of the libraries, when it is damaged.
    """
    engine: Any = xr.backends.ZarrBackendEntrypoint
    if path.is_dir() or path.suffix == ".zip":
        store, consolidated = bounded_store(path)
        return xr.open_dataset(cast(Any, store), engine=engine, consolidated=consolidated, **decoding)
    with path.open("rb") as file:
        classic = file.read(4) in MAGIC
    (check_header if classic else check_variables)(path)
    engine = xr.backends.NetCDF4BackendEntrypoint
    with LOCK:
        return xr.open_dataset(str(path), engine=engine, lock=LOCK, **decoding)


def _decoded(path: Path) -> xr.Dataset:
    try:
        return opened(path, decode_coords="all", decode_timedelta=False)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} does not follow the CF conventions: {error}. Correct the attributes that the message "
            "names, for example with `ncatted`; units of time are such as 'days since 1970-01-01'"
        ) from error
    except Exception as error:  # damaged metadata comes out of the libraries in a dozen kinds
        raise InputError(
            f"{path} is damaged or truncated ({error}); {_EXPECTED}. Copy or download it again, and check it "
            "with `ncdump -h`"
        ) from error


def _blocks(fields: xr.Dataset) -> dict[str, int]:
    """Whole fields, several times in a block: a multiple of what the file has in one piece."""
    largest = max(fields.data_vars.values(), key=lambda field: field.size, default=None)
    if largest is None or not largest.ndim:
        return {}
    dated = [dim for dim in largest.dims if dim in fields.coords and is_time(fields[dim])]
    dim = str((dated or list(largest.dims))[0])
    per_step = largest.nbytes // max(1, largest.sizes[dim])
    piece = int((largest.encoding.get("preferred_chunks") or {}).get(dim, 1))
    steps = max(1, _BLOCK_BYTES // max(1, per_step))
    return {dim: max(piece, steps // piece * piece)}


def _combined(parts: list[xr.Dataset], files: list[Path]) -> xr.Dataset:
    """Several files as one, along time or by variable; those on other grids than the first are interpolated to it."""
    # A long record in many files is of the same variables: its grids are not looked at one by one.
    alike = all(set(part.data_vars) == set(parts[0].data_vars) for part in parts)
    groups = [] if alike or not all(map(_gridded, parts)) else same_grids(parts)
    each = [[parts[index] for index in members] for members in groups]
    names = [set().union(*(part.data_vars for part in group)) for group in each]
    if len(groups) < 2 or len(set().union(*names)) < sum(map(len, names)):
        return _merged(parts, files)
    return joined([group[0] if len(group) == 1 else _merged(group, files) for group in each])


def _gridded(fields: xr.Dataset) -> bool:
    """Whether a file holds fields over time, which can be interpolated."""
    try:
        return "time" in harmonise(fields)[0].dims
    except InputError:
        return False


def _merged(parts: list[xr.Dataset], files: list[Path]) -> xr.Dataset:
    merging: dict[str, Any] = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "exact"}
    try:
        return cast(xr.Dataset, xr.combine_by_coords(parts, combine_attrs="override", **merging))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{files[0]} and {len(files) - 1} more files do not fit together: {error}. Expected the same "
            "grid and calendar, and times that do not overlap. Open them one by one with open_fields, mend "
            "them, and join them with xr.concat"
        ) from error
