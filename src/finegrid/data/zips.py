"""Zip archives that are read where they lie: nothing is unpacked to the disk, and odd ones are refused.

Source: APPNOTE.TXT 6.3.10, PKWARE (names, flags); David Fifield 2019, "A better zip bomb", WOOT (overlapping entries).
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from finegrid.conventions import InputError
from finegrid.data.bounds import largest_chunk

# Of all entries together; fields are compressed before they come into the zip, so that it hardly makes them smaller.
_MOST_TIMES, _SMALL = 200, 64_000_000
_ENCRYPTED = 0x1
# Zarr appends a description once more when it changes, and reads the last one.
_WRITTEN_AGAIN = ("zarr.json", ".zattrs", ".zmetadata")
_REMEDY = "unpack it in a place of its own, look at what it holds, and open the folder"


def checked_names(path: Path) -> set[str]:
    """Names of the entries of a zip: plain ones, each there once, and of a sensible size.

    Raises:
        InputError: on names that lead elsewhere, links, doubled or encrypted entries, or much more content than bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}); expected a whole zip; copy or download it again") from None
    seen: set[str] = set()
    for entry in entries:
        wrong = _oddity(entry, seen)
        if wrong:
            raise InputError(f"{path} holds {entry.filename[:80]!r}, {wrong}; expected plain entries; {_REMEDY}")
        seen.add(entry.filename)
    _check_size(path, entries)
    return seen


def _oddity(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    name = entry.orig_filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
        return "a name that leads out of the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a symbolic link"
    if entry.filename in seen and name.split("/")[-1] not in _WRITTEN_AGAIN:
        return "which is there twice"
    if entry.flag_bits & _ENCRYPTED:
        return "which is encrypted"
    return ""


def _check_size(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Neither one entry nor all of them become absurdly large, and none lies within another."""
    size, largest = path.stat().st_size, max((each.file_size for each in entries), default=0)
    total, stored = (sum(getattr(each, what) for each in entries) for what in ("file_size", "compress_size"))
    packed = max((each.file_size for each in entries if each.compress_type != zipfile.ZIP_STORED), default=0)
    if packed > largest_chunk() or total > _SMALL + _MOST_TIMES * size or stored > size:
        raise InputError(
            f"{path} has {size} bytes and would become {total} (one entry {largest}); expected an archive of fields, "
            f"which hardly become larger; {_REMEDY}"
        )
