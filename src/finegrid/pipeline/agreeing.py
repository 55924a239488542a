"""Do coarse and fine files show the same weather? Asked before anything is learnt, and told with advice."""

from __future__ import annotations

from collections.abc import Sequence

from finegrid.constraints.composed import natural_choice
from finegrid.conventions import natural_limits
from finegrid.data.matching import COVERED
from finegrid.data.pairs import Pair
from finegrid.evaluation.agreement import Agreement, agreement
from finegrid.evaluation.intervals import LEAST_TIMES


def agreements_of(matched: Pair) -> tuple[Agreement, ...]:
    """What is found for every predicted variable of a pair; nothing where it has too few times to say."""
    comparable = (matched.operator.coverage >= COVERED).any()
    if matched.coarse.sizes["time"] < LEAST_TIMES or not comparable:
        return ()
    fine, given, operator = matched.true_fine, matched.given, matched.operator
    return tuple(agreement(fine[name], given[name], operator) for name in matched.variables)


def constraint_for(matched: Pair, found: Sequence[Agreement]) -> dict[str, object]:
    """The constraint that suits a pair: by what nature allows, relaxed or none where coarse and fine disagree."""
    worst = {each.name: each.verdict for each in found}
    parts = {name: _choice(matched, name, worst.get(name, "same")) for name in matched.variables}
    tables = list(parts.values())
    if all(table == tables[0] for table in tables):
        return tables[0]
    named = [{**table, "variables": [name]} for name, table in parts.items()]
    return {"name": "composed", "parts": named}


def adjustment_for(matched: Pair, found: Sequence[Agreement]) -> dict[str, str] | None:
    """The bias adjustment that suits a pair; None where none is called for."""
    biased = [each.name for each in found if each.verdict in ("biased", "scattered") and each.biased]
    if not biased:
        return None
    lows = {natural_limits(name, matched.fine[name].attrs)[0] == 0 for name in matched.variables}
    return {"name": "natural" if len(lows) > 1 else "scale" if lows == {True} else "shift"}


def _choice(matched: Pair, name: str, verdict: str) -> dict[str, object]:
    if verdict == "unrelated":
        return {"name": "none"}
    limits = natural_limits(name, {"units": matched.inputs.units[name], **matched.fine[name].attrs})
    hard = natural_choice(*limits)
    return {"name": hard} if verdict != "scattered" else {"name": "relaxed", "constraint": hard, "strength": "learned"}
