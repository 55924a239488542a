"""Do the variables of a prediction belong together as those of the truth do? Relations by name.

>>> rows = relations(prediction, truth)    # doctest: +SKIP
>>> print(markdown(rows))                  # doctest: +SKIP

Metrics judge one variable after the other; an ensemble may be perfect in each and have rain from clear skies.
"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.evaluation.alignment import align
from finegrid.evaluation.relations.base import Relation, RelationScore, Together
from finegrid.evaluation.relations.copula import COPULA_DISTANCE
from finegrid.evaluation.relations.correlations import CROSS_CORRELATION, RANK_CORRELATION
from finegrid.evaluation.relations.exceeding import COMPOUND_EXCEEDANCE
from finegrid.evaluation.relations.physical import HUMIDITY_BOUNDS, TEMPERATURE_ORDER, WIND_SPEED
from finegrid.evaluation.wording import NOTHING, labelled, number

RELATIONS: dict[str, Relation] = {
    relation.name: relation
    for relation in (
        COMPOUND_EXCEEDANCE,
        CROSS_CORRELATION,
        RANK_CORRELATION,
        COPULA_DISTANCE,
        TEMPERATURE_ORDER,
        HUMIDITY_BOUNDS,
        WIND_SPEED,
    )
}


def relations(
    prediction: xr.Dataset,
    truth: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[RelationScore]:
    """Judge how the variables of a prediction go together; fields need not fit in memory.

    Args:
        prediction: fine fields in the user's own names, with or without members.
        truth: fine fields on the same grid.
        variables: names in the truth; by default all that the prediction has.
        names: of relations, in RELATIONS; by default all.

    Raises:
        InputError: when fields cannot be compared, there are fewer than two variables, or a name is unknown.
    """
    wanted = tuple(RELATIONS) if names is None else tuple(names)
    for name in wanted:
        if name not in RELATIONS:
            known = ", ".join(RELATIONS)
            raise InputError(f"There is no relation '{name}'. The names are {known}.{nearest(name, RELATIONS)}")
    fields = _together(prediction, truth, variables)
    return [row for name in wanted for row in RELATIONS[name].measure(fields)]


def markdown(rows: Sequence[RelationScore]) -> str:
    """A table in Markdown, a row for each relation and group of variables."""
    head = ["relation", "variables", "score", "ideal", "predicted", "truth", "mean violation", "largest", ""]
    lines = [
        [RELATIONS[row.relation].title, ", ".join(row.variables)]
        + [number(each) for each in (row.score, row.best, row.predicted, row.observed)]
        + [NOTHING if each != each else labelled(number(each), row.units) for each in (row.size, row.largest)]
        + [row.note]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _together(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str] | None) -> Together:
    cases = align({"prediction": prediction}, truth, None, variables=variables)
    if len(cases) < 2:
        raise InputError(
            f"got one variable that prediction and truth share, {cases[0].name}; expected two or more, whose relations "
            "are to be judged; for one variable use evaluate(prediction, truth)"
        )
    given = {case.name: case.predictions["prediction"] for case in cases}
    members = {name: field.sizes["member"] for name, field in given.items()}
    if len(set(members.values())) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in members.items())
        raise InputError(
            f"got different numbers of members ({counts}); expected the same ones of all variables, which belong "
            "together; choose them with fields.isel(member=...)"
        )
    return Together(given, {case.name: case.truth for case in cases})


__all__ = ["RELATIONS", "Relation", "RelationScore", "Together", "markdown", "relations"]
