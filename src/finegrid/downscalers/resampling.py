"""A trained network that draws its members in another way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finegrid.conventions import InputError
from finegrid.conventions.components import table_of
from finegrid.downscalers.plan import Table


def resampled(downscaler: Any, constraint: Table | None, options: Mapping[str, Any]) -> Any:
    """The same network, sampled in another way.

    Args:
        downscaler: a fitted NeuralDownscaler.
        constraint: another one for its answers; None for its own.
        options: of the head that training does not need, such as `steps`, `sampler` or `constrain`.

    Raises:
        InputError: when the network was trained for something else; says what.
    """
    described, tensors = downscaler._described()
    changed = {
        **downscaler.options,
        "head": {**table_of(downscaler.head), **options},
        "constraint": constraint or downscaler.constraint,
    }
    state = dict(described["state"])
    if constraint is not None:
        state["conservation"] = {**state["conservation"], "table": constraint, "learned": {}}
    try:
        return type(downscaler)(**changed).remember(state, tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"got {', '.join(options)} for a head that was trained with others ({reason}); expected options of "
            "sampling alone; fit again"
        ) from None
