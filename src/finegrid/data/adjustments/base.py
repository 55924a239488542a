"""What a bias adjustment is: coarse fields in, the same fields with the climate of the fine ones out.

A coarse model and observations differ in their climate even where they show the same weather. Forcing fine fields to
agree with a coarse field that is 2 K too cold makes them 2 K too cold. An adjustment learns on the training times, cell
by cell and for every group of times, how the coarse field x differs from the means A fine over its cells, and takes the
difference away from every coarse field before anything else sees it: adjust, then downscale, then constrain.

Where the coarse file has other cells than blocks of fine ones, its fields on blocks and those on its own cells are both
adjusted, each towards the means of the fine field over the same cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.inputs import own_name
from finegrid.data.pairs import Pair
from finegrid.grids import Operator

Values = NDArray[np.float64]
Numbers = dict[str, NDArray[Any]]
Facts = dict[str, Any]

# Values of a block of times or cells; several such arrays live at once, 8 bytes each.
BLOCK_VALUES = 1 << 20


@dataclass
class Adjustment(ABC):
    """Something that is learnt from a pair and changes the coarse fields of the predicted variables.

    Args:
        by: groups of times that are adjusted each for itself.

    Attributes:
        numbers: the arrays that it has learnt.
        facts: everything else that it has learnt, as plain values.
    """

    name: ClassVar[str]
    groupings: ClassVar[tuple[str, ...]] = ("month", "season", "all")
    by: str = "month"

    def __post_init__(self) -> None:
        if self.by not in self.groupings:
            raise InputError(
                f"the adjustment '{self.name}' got by: {self.by}; expected one of {', '.join(self.groupings)}"
            )
        self.numbers: Numbers = {}
        self.facts: Facts = {}

    def fit(self, matched: Pair, *, progress: bool = False) -> Self:
        """Learn from a pair: for the values on blocks, and on the coarse file's own cells where there are some.

        Args:
            matched: coarse and fine fields of the training times.
            progress: show a bar on stderr.

        Raises:
            InputError: when the pair does not have what the method needs.
        """
        return self.learn(matched.coarse, self._goals(matched), progress=progress)

    def learn(self, coarse: xr.Dataset, goals: Mapping[str, xr.DataArray], *, progress: bool = False) -> Self:
        """Learn from coarse fields and from what they should be, on the same cells and times.

        Args:
            coarse: fields (time, y, x) in the units of the goals.
            goals: by the names of the coarse fields.
            progress: show a bar on stderr.

        Raises:
            InputError: when these do not have what the method needs.
        """
        self.numbers, self.facts = {}, {}
        self._learn(coarse, goals, progress)
        return self

    def remember(self, numbers: Numbers, facts: Mapping[str, Any]) -> Self:
        """Become the fitted adjustment that had these `numbers` and `facts`."""
        self.numbers, self.facts = dict(numbers), dict(facts)
        return self

    @abstractmethod
    def __call__(self, coarse: xr.Dataset, *, progress: bool = False) -> xr.Dataset:
        """Coarse fields as `CoarseInputs.read` gives them, adjusted.

        Methods that look at one time after the other stay lazy. Those that rank values within the record, or take its
        trend off, read the variables that they change into memory, as float32, and do the whole record at once.

        Raises:
            InputError: on times that the method has learnt nothing for, or too few of them.
        """

    def notes(self) -> list[str]:
        """What a person should know about what was learnt, in sentences; none where all went well."""
        return []

    def notes_on(self, coarse: xr.Dataset) -> list[str]:
        """The same about other coarse fields as `CoarseInputs.read` gives them; reads them once."""
        return []

    @staticmethod
    def _goals(matched: Pair) -> dict[str, xr.DataArray]:
        """What the mean climate of each coarse field should be, by its name."""
        blocks = Operator.conservative(matched.grid, matched.inputs.grid)(matched.fine)
        goals = {name: blocks[name] for name in matched.variables}
        if matched.inputs.own is not None:
            cells = matched.operator(matched.true_fine)
            goals |= {own_name(name): cells[name] for name in matched.variables}
        return goals

    @abstractmethod
    def _learn(self, coarse: xr.Dataset, goals: Mapping[str, xr.DataArray], progress: bool) -> None:
        """Set `numbers` and `facts` from coarse fields and, under the same names, what they should be."""


def bare_name(name: object) -> str:
    """The variable that a field on blocks or on the file's own cells is of."""
    return str(name).removesuffix(own_name(""))


def changed(field: xr.DataArray, change: Callable[[Any, NDArray[np.int64]], Any]) -> xr.DataArray:
    """A field (time, y, x) after a change that looks at one time after the other; lazy when it comes lazy.

    Args:
        field: the field.
        change: from values (time, y, x) and their positions in time to new values.
    """
    places = np.arange(field.shape[0])
    if field.chunks is None:
        values, steps = field.values, max(1, BLOCK_VALUES // max(1, field[0].size))
        result = np.empty_like(values)
        for start in range(0, len(values), steps):
            part = slice(start, start + steps)
            result[part] = change(values[part], places[part])
        return field.copy(data=result)
    import dask.array

    data = field.data.rechunk(dict.fromkeys(range(1, field.ndim), -1))
    beside = dask.array.from_array(places[:, None, None], chunks=(data.chunks[0], 1, 1))  # type: ignore[no-untyped-call]
    changing = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        lambda values, at: change(values, at[:, 0, 0]), data, beside, meta=np.empty((0, 0, 0), field.dtype)
    )
    return field.copy(data=changing)
