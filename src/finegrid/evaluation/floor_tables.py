"""The floor as people read it: skill by number of members, normalised errors, and a sentence about both."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from finegrid.evaluation.floor import Floor
from finegrid.evaluation.wording import floor_label, labelled, number, with_units

Rows = Sequence[Sequence[str]]


def markdown(floor: Floor) -> str:
    """Both tables in Markdown."""
    return "\n\n".join(_markdown(rows) for rows in (by_members(floor), normalised(floor)))


def html(floor: Floor) -> str:
    """Both tables for the report."""
    captions = (
        "Error against the mean of M members, over disjoint groups of them, and the part of it that is their chance. "
        "Turned: groups in which the two best methods change places.",
        "Errors of means over times in each cell (spatial) and of means over cells at each time (global), divided by "
        f"{_scale(floor)}.",
    )
    tables = zip((by_members(floor), normalised(floor)), captions, strict=True)
    return "".join(_html(rows, caption) for rows, caption in tables)


def floor_note(floor: Floor) -> str:
    """What the floor is, in a sentence."""
    one = floor.floors["rmse"] * floor.members**0.5
    return (
        f"The truth of {floor.variable} is the mean of {floor.members} members, which lies within "
        f"{with_units(floor.floors['rmse'], floor.units)} (root mean square) of what they have in common by chance "
        f"(one member within {with_units(one, floor.units)}): no method can have a smaller RMSE but by luck, and a "
        "difference below it is within internal variability."
    )


def by_members(floor: Floor) -> Rows:
    """RMSE of every method and the floor, by number of members."""
    methods = ranked_methods(floor)
    two = methods[:2] if len(methods) > 1 else []
    head = ["members", labelled("floor", floor.units), *methods, *(["turned"] if two else [])]
    rows = [head]
    for each in floor.subsets:
        turned = [f"{round(each.turned(two[0], two[1]) * each.groups)} of {each.groups}"] if two else []
        errors = [number(each.error(method)) for method in methods]
        rows.append([str(each.members), number(each.floor), *errors, *turned])
    return rows


def normalised(floor: Floor) -> Rows:
    """Normalised errors of every method with their floors."""
    rows = [["method", "spatial NRMSE", "global NRMSE"]]
    rows += [[name, number(floor.spatial[name]), number(floor.overall[name])] for name in ranked_methods(floor)]
    return [*rows, [floor_label(floor), number(floor.spatial_floor), number(floor.overall_floor)]]


def ranked_methods(floor: Floor) -> list[str]:
    """Methods from the smallest error against all members to the largest."""
    whole = floor.subsets[-1]
    return sorted(whole.errors, key=whole.error)


def _scale(floor: Floor) -> str:
    return f"{with_units(floor.scale, floor.units)}, the mean or, where zero is arbitrary, the deviation of the truth"


def _markdown(rows: Rows) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _html(rows: Rows, caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows[1:]
    )
    return (
        f'<div class="scroll"><table class="scores"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
