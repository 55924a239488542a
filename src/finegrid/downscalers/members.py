"""How many members there may be: one of a method with a single answer, as many as wanted of one that draws."""

from __future__ import annotations

from finegrid.conventions import InputError
from finegrid.heads import HEADS

DRAWING = ("analogues", "glm", "bcsd with period: month")
"""Methods without a network that draw members."""


def check_members(members: int, method: str, *, random: bool) -> None:
    """Equal members would look like a sure ensemble: there is one, or there are several that differ.

    Raises:
        InputError: on fewer than one, and on several of a method that has a single answer; names those that have more.
    """
    if members < 1:
        raise InputError(f"got members={members}; expected at least 1; set --members 1")
    if members > 1 and not random:
        heads = ", ".join(name for name, head in HEADS.items() if head.random)
        raise InputError(
            f"got members={members} of a model that has a single answer ('{method}'); expected 1, or a method that "
            f"draws members: {', '.join(DRAWING)}, or neural with a head among {heads}; fit with --ensemble "
            "or one of these, or set --members 1"
        )
