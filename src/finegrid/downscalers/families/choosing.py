"""Which distribution suits a variable, and how it is fitted to all cells some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from finegrid.conventions import InputError, unit_conversion
from finegrid.downscalers.families.base import Family, Numbers
from finegrid.downscalers.families.gamma import Gamma
from finegrid.downscalers.families.gaussian import Gaussian
from finegrid.downscalers.families.rain import BernoulliGamma
from finegrid.downscalers.features import Prepared

# Share of zeros from which a variable has dry days.
_DRY = 0.01
_WET_MM_A_DAY = 0.1
_DAY = 86400.0
# Second derivatives in memory at once: targets times predictors squared.
_CURVATURES = 1e6
# Targets by which the penalty is chosen.
_JUDGED = 40


def suiting(values: Tensor, limits: tuple[float, float], units: str, step_seconds: float, wet: float | None) -> Family:
    """The distribution for these training values: normal, gamma where nothing is negative, both parts for rain."""
    if limits[0] != 0.0:
        return Gaussian()
    known = values[torch.isfinite(values)]
    threshold = _threshold(units, step_seconds) if wet is None else wet
    dry = float((known <= threshold).float().mean()) if len(known) else 0.0
    return BernoulliGamma(threshold) if dry > _DRY else Gamma()


def named(
    name: str, families: Mapping[str, type[Family]], units: str, step_seconds: float, wet: float | None
) -> Family:
    """The distribution of that name.

    Raises:
        InputError: lists the names.
    """
    if name not in families:
        raise InputError(f"There is no family '{name}'. The names are {', '.join(families)}; change downscaler.family")
    if name != BernoulliGamma.name:
        return families[name]()
    return BernoulliGamma(_threshold(units, step_seconds) if wet is None else wet)


def _threshold(units: str, step_seconds: float) -> float:
    """0.1 mm a day as a rate or as an amount in a time step; 0 in units that are neither."""
    for source, part in (("mm/day", 1.0), ("mm", step_seconds / _DAY)):
        try:
            scale, offset = unit_conversion(source, units)
        except InputError:
            continue
        if not offset:
            return _WET_MM_A_DAY * part * scale
    return 0.0


def fitted(family: Family, seen: Prepared, targets: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
    """Numbers (cell, target, ...) for targets (cell, time, target); zero for cells without any truth."""
    if seen.local is None:
        some = torch.isfinite(targets[0]).any(0)
        found = _in_pieces(family, seen, targets[:, :, some], penalties)
        return {key: _scattered(each, some) for key, each in found.items()}
    return _in_pieces(family, seen, targets, penalties)


def penalties_for(
    family: Family, seen: Prepared, targets: Tensor, candidates: Sequence[float], blocks: Sequence[Tensor]
) -> tuple[tuple[float, ...], list[float]]:
    """For each part of a distribution the penalty with the least score on left-out blocks of time, and that score."""
    seen, targets = _thinned(seen, targets)
    every = torch.arange(seen.times)
    losses = np.zeros((len(candidates), len(family.parts)))
    for block in blocks:
        others = every[~torch.isin(every, block)]
        z, y = _at_times(seen, block).matrix(), targets[:, block].double()
        for index, penalty in enumerate(candidates):
            penalties = (penalty,) * len(family.parts)
            numbers = fitted(family, _at_times(seen, others), targets[:, others], penalties)
            found = family.losses(z, y.nan_to_num(nan=0.0), numbers)
            losses[index] += [float(torch.where(torch.isfinite(y), each, torch.nan).nanmean()) for each in found]
    losses = np.nan_to_num(losses / len(blocks), nan=np.inf)
    return tuple(candidates[best] for best in losses.argmin(axis=0)), list(losses.min(axis=0))


def pieces(seen: Prepared, numbers: Numbers) -> Iterator[tuple[Tensor, Numbers]]:
    """Matrices of some cells with their numbers."""
    width = next(iter(numbers.values())).shape[1] + seen.width
    size = max(1, int(3e7 / (seen.times * width)))
    for start in range(0, seen.cells, size):
        part = slice(start, min(start + size, seen.cells))
        yield seen.at(part).matrix(), {key: each[part] for key, each in numbers.items()}


def _in_pieces(family: Family, seen: Prepared, targets: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
    most = max(1, int(_CURVATURES / seen.width**2))
    cells, columns = max(1, most // targets.shape[2]), min(most, max(1, targets.shape[2]))
    rows = []
    for start in range(0, seen.cells, cells):
        part = slice(start, min(start + cells, seen.cells))
        z, y = seen.at(part).matrix(), targets[part].double()
        known = torch.isfinite(y).to(z.dtype)
        y = y.nan_to_num(nan=0.0)
        blocks = [slice(first, first + columns) for first in range(0, y.shape[2], columns)]
        found = [family.fit(z, y[:, :, each], known[:, :, each], penalties) for each in blocks]
        rows.append({key: torch.cat([each[key] for each in found], dim=1) for key in found[0]})
    return {key: torch.cat([each[key] for each in rows]) for key in rows[0]}


def _scattered(values: Tensor, some: Tensor) -> Tensor:
    """Values (1, known target, ...) in the places of all targets; 1 elsewhere, which every family can bear."""
    result = torch.ones(1, len(some), *values.shape[2:], dtype=values.dtype)
    result[:, some] = values
    return result


def _thinned(seen: Prepared, targets: Tensor) -> tuple[Prepared, Tensor]:
    """Some of the cells, or of the targets where all cells share their predictors."""
    if seen.local is None:
        some = torch.nonzero(torch.isfinite(targets[0]).any(0))[:, 0]
        return seen, targets[:, :, some[:: -(-len(some) // _JUDGED) or 1]]
    step = max(1, seen.cells * targets.shape[2] // _JUDGED)
    cells = slice(0, seen.cells, min(step, seen.cells))
    return seen.at(cells), targets[cells]


def _at_times(seen: Prepared, times: Tensor) -> Prepared:
    return Prepared(None if seen.local is None else seen.local[times], seen.common[times])
