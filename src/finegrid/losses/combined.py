"""A weighted sum of losses, such as the CRPS and a little of a spectral term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import bind

_DATA = ("prediction", "truth", "weight")


class Combined:
    """Sums of the losses of a dict.

    Args:
        losses: the losses by name.
    """

    def __init__(self, losses: Mapping[str, Callable[..., Tensor]]) -> None:
        self._losses = dict(losses)

    def __call__(
        self,
        prediction: Tensor,
        truth: Tensor,
        weight: Tensor | None = None,
        *,
        terms: Mapping[str, float],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Tensor:
        """Weighted sum of losses of each sample; see `finegrid.losses.base` for shapes.

        Args:
            terms: how much of each loss, by name.
            options: arguments of the losses, by name, where they are not the usual ones.

        Raises:
            InputError: without terms, on unknown names, or on options of a loss that is no term.
        """
        given = dict(options or {})
        if not terms or set(given) - set(terms):
            raise InputError(
                f"got terms: {dict(terms)}, options: {given} for the loss sum; expected the amount of each loss by "
                "name, and options of those alone; write {name: sum, terms: {mse: 1, amse: 0.1}}"
            )
        parts = []
        for name, amount in terms.items():
            loss = bind({"name": name, **given.get(name, {})}, self._losses, "loss", *_DATA)
            parts.append(amount * loss(prediction, truth, weight))
        return torch.stack(parts).sum(0)
