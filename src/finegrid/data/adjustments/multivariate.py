"""MBCn: several variables together, so that they also vary together as the fine ones do.

Every variable gets quantile delta mapping. Then its values are put into another order, one in which the variables
depend on each other as in the goal: the standardised variables are turned by random rotations, each turned variable is
moved towards the goal's by quantile mapping, and turned on; the ranks of what comes out after all rotations are the
order (Cannon 2018, Climate Dynamics, doi:10.1007/s00382-017-3580-6). So days change places within a group of times: the
weather of single days is no longer that of the coarse model.

xsdba's `MBCn` teaches the rotations' factors, its `QuantileDeltaMapping` those of each variable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import rankdata

from finegrid.conventions import InputError
from finegrid.data.adjustments.base import Numbers, Values, bare_name
from finegrid.data.adjustments.groups import Times
from finegrid.data.adjustments.kinds import Kind
from finegrid.data.adjustments.mapping import QuantileDelta
from finegrid.data.adjustments.quantiles import looked_up, nodes_of
from finegrid.data.adjustments.training import Columns, library, repeatable, spread

_VARIABLE = "multivar"
_TURNED = "multivar_prime"


@dataclass
class Multivariate(QuantileDelta):
    """Quantile delta mapping of every variable, with the dependence between variables of the goal.

    Args:
        by: groups of times: "month", "season", "day_of_year" (with a moving window) or "all".
        window: days of the window around a day of the year, an odd number.
        kind: "additive" or "multiplicative"; None for what suits each variable.
        quantiles: number of quantiles; every group needs twice as many training values.
        wet: of precipitation, rain in mm/day under which a day is dry; None for no care of dry days.
        interpolation: "nearest" quantile or "linear" between quantiles.
        extrapolation: "constant", the only one that leaves no value missing.
        seed: of the rotations, and of the noise that `wet` needs.
        iterations: number of rotations.
    """

    name = "mbcn"
    iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 2:
            raise InputError(f"the adjustment 'mbcn' got iterations: {self.iterations}; expected at least 2")

    def _together(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        every = list(names)
        blocks = tuple(name for name in every if name == bare_name(name))
        if len(blocks) < 2:
            raise InputError(
                f"the adjustment 'mbcn' adjusts several variables together and got {', '.join(blocks) or 'none'}; "
                "expected at least two predicted variables; add one (data.variables, --variables), or take adjust: qdm"
            )
        own = tuple(name for name in every if name != bare_name(name))
        return [blocks, own] if own else [blocks]

    def _learnt_together(self, columns: Sequence[Columns], kinds: Sequence[Kind]) -> list[Numbers]:
        columns = _known_together(columns)
        enough = np.logical_and.reduce([(each.counts >= self._least) & each.varied for each in columns])
        columns = [replace(each, varied=enough) for each in columns]
        learnt = super()._learnt_together(columns, kinds)
        if not enough.any():
            return learnt
        rotations = self._rotations(len(columns))
        self.numbers["rotations"] = rotations.values
        pairs = [each.fields(enough) for each in columns]
        goal, given = (xr.concat([pair[at] for pair in pairs], rotations[_VARIABLE]) for at in (0, 1))
        with repeatable([self.seed, columns[0].cells.start]):
            taught = library().MBCn.train(
                goal,
                given,
                base_kws={"nquantiles": nodes_of(self.quantiles), "group": "time"},
                adj_kws={"interp": self.interpolation, "extrapolation": self.extrapolation},
                rot_matrices=rotations,
                skip_input_checks=True,
            )
        order = (_TURNED, "iterations", "quantiles", "cell")
        turned = taught.ds.af_q.squeeze([dim for dim in taught.ds.af_q.dims if dim not in order], drop=True)
        factors = turned.transpose(*order).values.astype(np.float32)
        return [
            each | spread({"turned": part}, enough, kind)
            for each, part, kind in zip(learnt, factors, kinds, strict=True)
        ]

    def _adapted_together(
        self,
        values: Sequence[Values],
        learnt: Sequence[Numbers],
        kinds: Sequence[Kind],
        times: Times,
        seed: Sequence[int],
    ) -> list[Values]:
        results = [np.empty_like(each) for each in values]
        for (place, members), around in zip(times.groups, times.around, strict=True):
            # By day of the year the whole window is adjusted and its middle kept.
            part = [each[around] for each in values]
            every = np.arange(len(around))
            alone = Times(times.days[around], [(place, every)], [every])
            mapped = super()._adapted_together(part, learnt, kinds, alone, [*seed, place])
            ordered = self._reordered(np.stack(mapped), np.stack(part), [each["turned"][place] for each in learnt])
            inner = np.isin(around, members)
            for result, each in zip(results, ordered, strict=True):
                result[members] = each[inner]
        return results

    def _reordered(self, mapped: Values, values: Values, turned: Sequence[NDArray[np.float32]]) -> Values:
        """Mapped values (variable, value, cell) in the order that rotations of the given ones lead to."""
        known = np.isfinite(values).all(axis=0)
        given = np.where(known, values, np.nan)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / count
        deviation = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / count)
        moved = self._moved((given - mean) / deviation, np.stack(turned, axis=1))
        order = np.argsort(np.argsort(np.where(np.isfinite(moved), moved, np.inf), axis=1), axis=1)
        ranked = np.take_along_axis(np.sort(np.where(known, mapped, np.nan), axis=1), order, axis=1)
        return np.where(np.isfinite(moved) & np.isfinite(ranked), ranked, mapped)

    def _moved(self, values: Values, turned: NDArray[np.float32]) -> Values:
        """Standardised values (variable, value, cell) after all rotations, turned back."""
        rotations = self.numbers["rotations"]
        steps = [rotations[0], *(after @ before.T for before, after in itertools.pairwise(rotations))]
        nodes = nodes_of(self.quantiles)
        for step, factors in zip(steps, turned, strict=True):
            values = np.einsum("ij,j...->i...", step, values)
            for variable, each in enumerate(factors):
                values[variable] += looked_up(_own_ranks(values[variable]), nodes, each, self.interpolation)
        return np.asarray(np.einsum("ij,j...->i...", rotations[-1].T, values))

    def _rotations(self, count: int) -> xr.DataArray:
        """Random rotations (iterations, turned, variable), the same for all cells and groups."""
        coordinate = xr.DataArray(np.arange(count), dims=_VARIABLE, name=_VARIABLE)
        coordinate = coordinate.assign_coords({_VARIABLE: coordinate})
        with repeatable([self.seed]):
            drawn = library().utils.rand_rot_matrix(coordinate[_VARIABLE], num=self.iterations, new_dim=_TURNED)
        rotations: xr.DataArray = drawn.rename(matrices="iterations")
        return rotations.transpose("iterations", _TURNED, _VARIABLE)


def _known_together(columns: Sequence[Columns]) -> list[Columns]:
    """Columns in which a time counts only where every variable is known."""
    known = np.logical_and.reduce([np.isfinite(each.given) & np.isfinite(each.goal) for each in columns])
    result = []
    for each in columns:
        given, goal = (np.where(known, part, np.nan) for part in (each.given, each.goal))
        result.append(replace(each, given=given, goal=goal, counts=known.sum(axis=0)))
    return result


def _own_ranks(values: Values) -> Values:
    """Ranks from 0 to 1 as xsdba has them in rotations: the highest is 1, equal ones share theirs."""
    known = np.isfinite(values)
    ranks = np.where(known, rankdata(np.where(known, values, np.inf), axis=0), np.nan)
    ranks = ranks / np.fmax.reduce(ranks, axis=0)
    lowest = np.fmin.reduce(ranks, axis=0)
    return np.asarray((ranks - lowest) / (1 - lowest))
