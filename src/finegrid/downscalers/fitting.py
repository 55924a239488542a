"""The circumstances of a fit: which times are learnt from, and which truth can be."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.predictors import seconds_since_start
from finegrid.data.progress import Step
from finegrid.data.splits import Indices, check_training_times, holdout
from finegrid.data.working import Workers, alone


@dataclass(frozen=True)
class Fitting:
    """The circumstances of a fit."""

    static: xr.Dataset | Sequence[xr.Dataset] | None = None
    folder: Path | None = None
    resume: bool = False
    progress: bool = False
    workers: Workers = alone


def not_fitted(downscaler: object) -> InputError:
    """What to raise where something is asked of a downscaler before `fit`."""
    return InputError(f"this {type(downscaler).__name__} has not learnt anything; call fit(coarse, fine) first")


@contextmanager
def whole_or_nothing(downscaler: Any) -> Iterator[None]:
    """Forget everything where learning fails: half a model must not predict."""
    try:
        yield
    except BaseException:
        downscaler.__dict__ = vars(type(downscaler)(**downscaler.options))
        raise


def teachable(matched: Pair) -> Pair:
    """The pair without the truth of missing coarse cells, from which nothing about the others can be learnt."""
    (fy, fx), kept = matched.factor, {}
    for name in matched.variables:
        known = np.isfinite(matched.coarse[name].values)
        if not known.all():
            kept[name] = matched.fine[name].where(known.repeat(fy, axis=1).repeat(fx, axis=2))
    return replace(matched, fine=matched.fine.assign(kept)) if kept else matched


def time_blocks(time: xr.DataArray, validate: float | xr.DataArray) -> tuple[Indices, Indices]:
    """Indices of the times to learn from and of those to validate on.

    Raises:
        InputError: when none of the validation times is there, or the fraction is none.
    """
    check_training_times(np.arange(len(time)), time)
    if isinstance(validate, xr.DataArray):
        chosen = np.isin(time.values, validate.values)
        if len(validate) and not chosen.any():
            raise InputError(
                f"none of the {len(validate)} validation times ({str(validate.values[0])[:16]}, ...) is among the "
                f"{len(time)} times of the data; expected some of them; give other times, or a fraction such as 0.1"
            )
        fit_block, validate_block = np.flatnonzero(~chosen), np.flatnonzero(chosen)
        check_training_times(fit_block, time)
        return fit_block, validate_block
    if not 0 <= validate < 1:
        raise InputError(f"got validate={validate}; expected a part of the times from 0 to below 1, such as 0.1")
    return holdout(len(time), validate, gap=_gap(time))


def _gap(time: xr.DataArray) -> int:
    """Time steps to leave out before the validation block: three days, within which weather remembers."""
    seconds = seconds_since_start(time)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return 1 if step <= 0 else int(np.clip(np.ceil(3 * 86400 / step), 1, max(1, len(seconds) // 20)))


def out_of_fold(downscaler: Any, matched: Pair, blocks: Sequence[Indices], step: Step | None = None) -> Tensor:
    """Fine fields of every block by a copy that learnt from the other blocks: honest on the training times.

    Args:
        downscaler: a Downscaler that knows its domain.
        matched: the training pair.
        blocks: of its times.
        step: called after every block.
    """
    count = len(matched.coarse.time)
    result = torch.empty(count, len(matched.variables), *matched.grid.shape)
    for block in blocks:
        others = np.setdiff1d(np.arange(count), block)
        apprentice = copy.copy(downscaler)
        apprentice._learn(matched.at(others), np.arange(len(others)), np.arange(0), Fitting())
        result[torch.as_tensor(block)] = apprentice.fields(matched.coarse.isel(time=block))
        if step is not None:
            step()
    return result
