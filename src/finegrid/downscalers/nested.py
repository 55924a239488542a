"""Downscalers within a downscaler: built for the domain of the outer one, and asked what they had not learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from finegrid.conventions.components import build
from finegrid.data.pairs import Pair
from finegrid.data.progress import bar
from finegrid.data.splits import folds
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.baselines import BASELINES
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.fitting import Fitting, out_of_fold

Table = str | Mapping[str, Any]
_FOLDS = 6


def unfitted(table: Table, predictors: Sequence[str]) -> Downscaler:
    """The simple downscaler of a table, without a constraint of its own."""
    given = {"variables": None, "predictors": predictors, "constraint": "none"}
    made: Downscaler = build(table, BASELINES, "mean downscaler", **given)
    return made


def nested(table: Table, outer: Downscaler) -> Downscaler:
    """The simple downscaler of a table, for the domain of another one, without a constraint."""
    inner = unfitted(table, outer.predictors)
    inner._domain, inner._conservation = outer.domain, Conservation.built("none", outer.conservation.facts)
    return inner


def widest(tables: Sequence[Table], predictors: Sequence[str]) -> float | None:
    """Degrees around the fine domain that at least one of several downscalers looks at; None where none does."""
    found = [each for table in tables if (each := unfitted(table, predictors).surroundings) is not None]
    return max(found, default=None)


def first_guesses(inner: Downscaler, training: Pair, how: Fitting) -> Tensor:
    """What it says of training times by copies that did not learn from them; in the end it has learnt from all."""
    count = len(training.coarse.time)
    inner._learn(training, np.arange(count), np.arange(0), how)
    if not inner.learns:
        return inner.fields(training.coarse)
    blocks = folds(count, _FOLDS)
    with bar(f"cross-fitting {inner.name}", len(blocks), show=how.progress) as step:
        return out_of_fold(inner, training, blocks, step)
