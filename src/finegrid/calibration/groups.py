"""Which cases are calibrated together: groups of cells, times and predicted values, and their products.

    cell      every fine cell for itself
    region    blocks of cells, so many along each side of the domain
    season    DJF, MAM, JJA, SON;   month: calendar months
    regime    classes of the predicted value, as many cases in each where values differ

A label field (y, x) of whole numbers, such as river basins or elevation bands, takes the place of the blocks.

Sources: Vovk, Lindsay, Nouretdinov and Gammerman, "Mondrian confidence machine", 2003.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Places
from finegrid.conventions import InputError
from finegrid.data.adjustments.groups import group_numbers, label

GROUPS = ("cell", "region", "season", "month", "regime")
_NUMBER = {"season": 4, "month": 12}


@dataclass(frozen=True, eq=False)
class Groups:
    """A product of groupings.

    Attributes:
        by: names of the groupings, of `GROUPS`.
        place: number of each cell in the product of cells and regions (y, x).
        places: how many of these there are.
        edges: between the classes of predicted values.
    """

    by: tuple[str, ...]
    place: Places
    places: int
    edges: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        by: Sequence[str],
        predicted: NDArray[Any],
        *,
        regions: int = 3,
        regimes: int = 5,
        labels: NDArray[Any] | None = None,
    ) -> Self:
        """Groups for a domain and its predicted values (time, y, x).

        Args:
            by: names, of `GROUPS`.
            predicted: of the calibration cases.
            regions: blocks along each side.
            regimes: classes.
            labels: whole numbers (y, x) that say the regions; below 0 for none.

        Raises:
            InputError: on an unknown name.
        """
        check_names(by)
        place, places = _places(by, predicted.shape[1:], regions, labels)
        edges = np.zeros(0)
        if "regime" in by:
            values = predicted[np.isfinite(predicted)]
            edges = np.unique(np.quantile(values, np.arange(1, regimes) / regimes)) if values.size else edges
        return cls(tuple(by), place, places, edges)

    @property
    def count(self) -> int:
        """Number of groups."""
        return self.places * self._of_times * (len(self.edges) + 1)

    @property
    def _of_times(self) -> int:
        return int(np.prod([_NUMBER[name] for name in self.by if name in _NUMBER], dtype=int))

    def __call__(self, cases: Cases, predicted: NDArray[Any] | None = None) -> Places:
        """The group of each case (time, y, x), below 0 for none.

        Args:
            cases: the cases.
            predicted: their predicted values, where they are at hand.
        """
        # A single place is everywhere, on any grid.
        place = self.place if self.places > 1 else np.zeros(cases.shape[1:], np.int64)
        number = np.broadcast_to(self.place if self.place.shape == cases.shape[1:] else place, cases.shape)
        inside = number >= 0
        for name in self.by:
            if name in _NUMBER:
                of_time = group_numbers(cases.time, name) - 1
                number = number * _NUMBER[name] + of_time.reshape(-1, *[1] * (number.ndim - 1))
        if len(self.edges):
            values = cases.mean if predicted is None else predicted
            number = number * (len(self.edges) + 1) + np.searchsorted(self.edges, values, side="left")
        return np.where(inside, number, -1)

    def words(self, number: int) -> str:
        """A group for people."""
        parts: list[str] = []
        if len(self.edges):
            number, regime = divmod(number, len(self.edges) + 1)
            parts.append(f"regime {regime + 1} of {len(self.edges) + 1}")
        for name in reversed([name for name in self.by if name in _NUMBER]):
            number, of_time = divmod(number, _NUMBER[name])
            parts.append(label(of_time + 1, name))
        spatial = next((name for name in ("cell", "region") if name in self.by), "")
        return ", ".join([*([f"{spatial} {number + 1}"] if spatial else []), *reversed(parts)]) or "all cases"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it but the names, for a model file."""
        return {"place": self.place, "edges": self.edges}

    @classmethod
    def from_arrays(cls, by: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        place = arrays["place"]
        return cls(tuple(by), place, int(place.max(initial=0)) + 1, arrays["edges"])


def check_names(by: Sequence[str]) -> None:
    """Whether groups have these names.

    Raises:
        InputError: where one has not.
    """
    unknown = [name for name in by if name not in GROUPS]
    if unknown:
        raise InputError(f"got the group '{unknown[0]}'; expected some of {', '.join(GROUPS)}; change groups")


def _places(by: Sequence[str], shape: tuple[int, ...], regions: int, labels: NDArray[Any] | None) -> tuple[Places, int]:
    if "cell" in by:
        place = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
        return place, place.size
    if "region" not in by:
        return np.zeros(shape, np.int64), 1
    if labels is not None:
        if labels.shape != shape:
            raise InputError(
                f"got labels of {labels.shape} cells; expected those of the fields, {shape}; bring them onto the grid "
                "with finegrid regrid"
            )
        known, number = np.unique(labels[labels >= 0], return_inverse=True)
        place = np.full(shape, -1, np.int64)
        place[labels >= 0] = number
        return place, len(known)
    along = [np.arange(size) * min(regions, size) // size for size in shape]
    place = along[0]
    for more in along[1:]:
        place = place[..., None] * (int(more.max()) + 1) + more
    return place.astype(np.int64), int(place.max()) + 1
