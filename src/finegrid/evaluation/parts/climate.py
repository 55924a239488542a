"""Whether variables go together as in truth (`relations`), and whether climate change is kept (`change`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation import relations as together
from finegrid.evaluation.change import ClimateChange, change
from finegrid.evaluation.parts.base import Part


def between_variables(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str] | None = None) -> list[Part]:
    """Relations between variables; nothing where there is one variable."""
    try:
        rows = together.relations(prediction, truth, variables=variables)
    except InputError:
        return []
    if not rows:
        return []
    words = "Whether variables go together as in truth; a relation without a score says why."
    return [
        Part("relations", "Between variables", ((words, together.markdown(rows)),), [row.to_dict() for row in rows])
    ]


def climate_change(
    prediction: xr.Dataset,
    periods: tuple[str, str],
    others: Mapping[str, xr.Dataset | None],
    variables: Sequence[str] | None = None,
) -> Part:
    """Change from one period to another.

    Args:
        prediction: fine fields of both.
        periods: historical and future.
        others: fields of the `truth` and of the `coarse` model, where there are.
        variables: names in the prediction.

    Raises:
        InputError: as `change`.
    """
    found = change(prediction, historical=periods[0], future=periods[1], variables=variables, **others)
    return Part("change", f"Change from {periods[0]} to {periods[1]}", tuple(_tables(found)), found.to_dict())


def _tables(found: ClimateChange) -> list[tuple[str, str]]:
    tables = [("Changes of the mean over the area, by source.", found.table())]
    if found.preservation is not None:
        words = (
            "Whether the change is that of the coarse model, in coarse cells: a downscaler that conserves keeps the "
            "change of the mean; other departures are added value or artefact, which has to be argued."
        )
        tables.append((words, found.preservation.table()))
    return tables
