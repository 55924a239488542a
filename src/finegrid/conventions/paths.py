"""From a string to a file on this machine: addresses and names that no file can have are refused in words.

finegrid reads local files only. A name in a folder of ours stays in that folder: neither `..`, nor an absolute name,
nor a symbolic link leads out of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from finegrid.conventions.errors import InputError

# What POSIX systems and Windows take at most for one part of a path, and for all of it.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
# Two letters or more: one is a drive of Windows.
_ADDRESS = re.compile(r"^\s*([A-Za-z][A-Za-z0-9+.-]+):(//)?")
# Addresses also where a library has left one slash of two.
_SCHEMES = ("http", "https", "ftp", "ftps", "s3", "gs", "gcs", "az", "abfs", "file", "javascript")


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path of a file or folder of this machine, with the home folder in place of ~.

    Raises:
        InputError: on an address (https://..., s3://...), and on a name that no file can have.
    """
    text = os.fspath(path)
    scheme = _ADDRESS.match(text)
    if scheme and (scheme[2] or scheme[1].lower() in _SCHEMES):
        raise InputError(
            f"got the address '{text}'; expected a file on this machine: finegrid opens no addresses; download it "
            "(for example with `curl -O`), or open it with xarray and pass the Dataset in Python"
        )
    if "\0" in text or any(ord(each) in range(0xD800, 0xE000) and not _escaped(each) for each in text):
        raise InputError(f"got the path {text[:80]!r} with a character that no file name has; correct the path")
    parts = os.fsencode(text).replace(b"\\", b"/").split(b"/")
    if len(os.fsencode(text)) >= _LONGEST_PATH or max(map(len, parts)) > _LONGEST_NAME:
        raise InputError(
            f"got a path of {len(text)} characters ('{text[:40]}...'); expected names of at most {_LONGEST_NAME} bytes "
            f"and less than {_LONGEST_PATH} in all; shorten it, or name many files by a pattern: 'folder/*.nc'"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"got the path '{text}' ({error}); expected a home folder that is there; write it out"
        ) from None


def within(folder: str | Path, name: str) -> Path:
    """The path of an entry of one of our folders, which does not lead out of it.

    Args:
        folder: where it is.
        name: of the entry, as a file says it or as we call it.

    Raises:
        InputError: when the name is absolute, has `..`, or is a symbolic link to elsewhere.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise InputError(
            f"{folder} names the file {name!r}, which is not in it; expected names of files in that folder; do not use "
            "this folder, or ask whoever made it"
        )
    path = Path(folder) / name
    if path.is_symlink() and not path.resolve().is_relative_to(Path(folder).resolve()):
        raise InputError(
            f"{path} is a link to {path.resolve()}, outside of its folder; expected the file itself; copy the folder "
            f"with `cp -rL`, which follows links, if you trust it"
        )
    return path


def _escaped(letter: str) -> bool:
    """Whether it stands for a byte of a name that is not UTF-8 (PEP 383)."""
    return 0xDC80 <= ord(letter) <= 0xDCFF
