"""What a folder in the layout of a public benchmark is read to, and what a layout is.

    matches     whether a folder looks like it, by the names of its files
    open        its fields, lazily, with names and units as CF has them, and the benchmark's own parts
    submit      writes the files in which the benchmark wants predictions, where it has such

A layout only reads what lies in a folder; nothing is downloaded. Facts about a layout (names of files, order of
columns, units) are stated in its module, with the version from which they are and with what had to be assumed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.conventions.paths import local_path
from finegrid.data.splits import Blocks, Indices


@dataclass(frozen=True, eq=False)
class Opened:
    """What was read.

    Attributes:
        layout: name of the layout.
        coarse: inputs, (time, y, x), or (time, point) for columns and stations; lazy.
        fine: what is predicted from them, on the same times.
        static: fields without time.
        splits: the parts of the benchmark (train, validate, test, ...) as indices of times, ascending.
        tests: inputs of tests whose truth the benchmark keeps, by name.
        choices: what the folder holds: values of an option of `open`, by its name.
        chosen: which of these this is.
        extras: what goes with the fields, such as a climatology, the levels or a normalisation.
        citation: what to cite.
        licence: what is known of the terms of the data; check them at the source.
    """

    layout: str
    coarse: xr.Dataset
    fine: xr.Dataset
    static: tuple[xr.Dataset, ...] = ()
    splits: Mapping[str, Indices] = field(default_factory=dict)
    tests: Mapping[str, xr.Dataset] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, xr.Dataset] = field(default_factory=dict)
    citation: str = ""
    licence: str = ""

    def part(self, name: str) -> tuple[xr.Dataset, xr.Dataset]:
        """Inputs and truth of one of the splits.

        Raises:
            InputError: lists the splits.
        """
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise InputError(f"got the part '{name}' of {self.layout}; expected one of {known}; choose one of these")
        return self._at(self.coarse, name), self._at(self.fine, name)

    @property
    def blocks(self) -> Blocks:
        """The splits train, validate and test; those that the benchmark does not have are empty."""
        none = np.arange(0)
        return Blocks(*(self.splits.get(name, none) for name in ("train", "validate", "test")))

    def _at(self, fields: xr.Dataset, name: str) -> xr.Dataset:
        taken = fields.isel(time=self.splits[name])
        taken.encoding = {"source": f"{fields.encoding.get('source', self.layout)}, {name}"}
        return taken


@dataclass(frozen=True)
class Layout:
    """A layout of files.

    Attributes:
        name: as in `LAYOUTS`.
        title: in words.
        files: the files that a folder is recognised by, in words.
        citation: what to cite.
        licence: what is known of the terms.
        finds: whether a folder looks like it.
        reads: reads a folder; its keyword arguments are the options.
        submits: writes predictions in the form in which they are handed in; None where the benchmark takes none.
        offers: what a folder holds to choose from: values of options by name, where others have been chosen.
    """

    name: str
    title: str
    files: str
    citation: str
    licence: str
    finds: Callable[[Path], bool]
    reads: Callable[..., Opened]
    submits: Callable[..., list[Path]] | None = None
    offers: Callable[..., Mapping[str, tuple[str, ...]]] = lambda folder, **chosen: {}

    def matches(self, folder: str | Path) -> bool:
        """Whether a folder looks like this layout; only names of files are read."""
        path = Path(folder).expanduser()
        return path.is_dir() and self.finds(path)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options of `open`."""
        parameters = inspect.signature(self.reads).parameters.values()
        return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)

    def open(self, folder: str | Path, **options: Any) -> Opened:
        """Read a folder.

        Raises:
            InputError: when the folder or a file in it is missing or not as the layout has it, or on an unknown option.
        """
        path = checked_folder(folder)
        for key in options:
            if key not in self.options:
                raise InputError(
                    f"got the option '{key}' for {self.name}; expected some of {', '.join(self.options) or 'none'}; "
                    f"leave it out.{nearest(key, self.options)}"
                )
        if not self.finds(path):
            raise InputError(f"{path} is not in the layout {self.name}; expected {self.files}; check the path")
        try:
            return self.reads(path, **options)
        except InputError:
            raise
        except Exception as error:  # what files of other kinds and sizes lead to
            raise InputError(
                f"{path} cannot be read as {self.name} ({type(error).__name__}: {str(error)[:200]}); expected "
                f"{self.files}; a file in it is damaged or of another kind: download it again"
            ) from error


@dataclass(frozen=True)
class Word:
    """What a variable of a file is.

    Attributes:
        name: what it is called here.
        units: of its values, where the file does not say.
        standard_name: of CF, where there is one.
    """

    name: str
    units: str
    standard_name: str = ""


def checked_folder(folder: str | Path) -> Path:
    """The path of a folder that is there.

    Raises:
        InputError: when it is not.
    """
    path = local_path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; expected the folder of a benchmark; check the path (now in {Path.cwd()})")
    return path


def worded(fields: xr.Dataset, words: Mapping[str, Word], *, source: str, every: bool = True) -> xr.Dataset:
    """The variables of a file that a layout knows, under the names and with the units of `words`.

    Args:
        fields: as opened.
        words: by the names of the file.
        source: the file, for error messages.
        every: whether all of them have to be there; otherwise one has.

    Raises:
        InputError: names what is missing and what is there.
    """
    found = [name for name in words if name in fields.data_vars]
    missing = [name for name in words if name not in found]
    if (missing and every) or not found:
        there = ", ".join(map(str, fields.data_vars)) or "no variables"
        raise InputError(
            f"{source} lacks {', '.join(missing)}; its variables are {there}; expected all of {', '.join(words)}; "
            "check the download"
        )
    taken = fields[found]
    for name in found:
        taken[name].attrs = _described(taken[name].attrs, words[name])
    named = taken.rename({name: words[name].name for name in found if name != words[name].name})
    named.encoding["source"] = source
    return named


def common_times(coarse: xr.Dataset, fine: xr.Dataset, source: str) -> tuple[xr.Dataset, xr.Dataset]:
    """Both on the times that they share, untouched where these are all.

    Raises:
        InputError: when there are none.
    """
    ours, theirs = coarse.indexes["time"], fine.indexes["time"]
    if ours.equals(theirs):
        return coarse, fine
    common = ours.intersection(theirs)
    if not len(common):
        raise InputError(
            f"the inputs of {source} ({ours[0]} to {ours[-1]}) and its truth ({theirs[0]} to {theirs[-1]}) have no "
            "times in common; expected the same times; check that the files belong together"
        )
    return coarse.sel(time=common), fine.sel(time=common)


def _described(attributes: Mapping[str, Any], word: Word) -> dict[str, Any]:
    stated = str(attributes.get("units", "")).strip()
    standard = {"standard_name": word.standard_name} if word.standard_name else {}
    return {**attributes, **standard, "units": stated or word.units}
