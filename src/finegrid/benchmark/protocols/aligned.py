"""Coarse fields of another region made to look like those of training, and the prediction brought back.

A method that learnt in one climate meets values in another that it has never seen. With f the map of values,

    scale       f(x) = x <x_train> / <x_new>          amounts; of others f(x) = x + <x_train> - <x_new>
    quantile    f(x) = Q_train(F_new(x))              quantiles over cells and times; zeros of amounts stay zeros

and the prediction from f(x) is brought back cell by cell: multiplied by x / f(x) of its coarse cell where values are
amounts, or added x - f(x). What conserves the mapped coarse field then conserves the given one.
No truth of the new region is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import harmonise, natural_limits, restore
from finegrid.downscalers import Downscaler

Array = NDArray[np.float64]
Map = Callable[[Array, Array, Array], Array]

_QUANTILES = np.linspace(0.0, 1.0, 201)


def _scaled(values: Array, own: Array, learnt: Array) -> Array:
    return np.asarray(values * learnt.mean() / own.mean()) if own.mean() else values


def _shifted(values: Array, own: Array, learnt: Array) -> Array:
    return np.asarray(values + learnt.mean() - own.mean())


def _by_quantiles(values: Array, own: Array, learnt: Array) -> Array:
    """Beyond the known range values move as the outermost quantiles do."""
    before, after = np.quantile(own, _QUANTILES), np.quantile(learnt, _QUANTILES)
    inside = np.interp(values, before, after)
    return np.where(values > before[-1], after[-1] + values - before[-1], inside)


def _of_amounts(values: Array, own: Array, learnt: Array) -> Array:
    wet, seen = own[own > 0], learnt[learnt > 0]
    if not wet.size or not seen.size:
        return values
    return np.where(values > 0, _by_quantiles(values, wet, seen), values)


ALIGNMENTS: dict[str, tuple[Map, Map]] = {"scale": (_scaled, _shifted), "quantile": (_of_amounts, _by_quantiles)}
"""Maps by name: of amounts, and of values with both signs."""


def predicted(
    downscaler: Downscaler, coarse: xr.Dataset, learnt: xr.Dataset, how: str, *, members: int = 1, seed: int = 0
) -> xr.Dataset:
    """What a downscaler makes of aligned coarse fields, brought back to the given ones.

    Args:
        downscaler: fitted elsewhere; its fine cells divide the coarse ones evenly.
        coarse: fields of the new region.
        learnt: coarse fields that it was fitted on.
        how: a name in ALIGNMENTS.
        members: size of the ensemble.
        seed: of the ensemble.
    """
    standard, names = harmonise(coarse)
    own = harmonise(learnt)[0]
    mapped = {name: _mapped(standard[name], own[name], how) for name in map(str, standard.data_vars)}
    made = downscaler.predict(restore(standard.assign(mapped), names), members=members, seed=seed)
    fine, fine_names = harmonise(made)
    shared = [name for name in map(str, fine.data_vars) if name in mapped]
    return restore(fine.assign({name: _back(fine[name], standard[name], mapped[name]) for name in shared}), fine_names)


def _is_amount(field: xr.DataArray) -> bool:
    return natural_limits(str(field.name), field.attrs)[0] == 0


def _mapped(field: xr.DataArray, learnt: xr.DataArray, how: str) -> xr.DataArray:
    amounts, others = ALIGNMENTS[how]
    known = [each.values[np.isfinite(each.values)].astype(np.float64) for each in (field, learnt)]
    values = (amounts if _is_amount(field) else others)(field.values.astype(np.float64), *known)
    return field.copy(data=values.astype(field.dtype))


def _back(fine: xr.DataArray, given: xr.DataArray, mapped: xr.DataArray) -> xr.DataArray:
    before, after = (each.transpose("time", "y", "x").values.astype(np.float64) for each in (given, mapped))
    ordered = fine.transpose("member", "time", "y", "x") if "member" in fine.dims else fine.transpose("time", "y", "x")
    factors = [size // coarse for size, coarse in zip(ordered.shape[-2:], before.shape[-2:], strict=True)]
    if _is_amount(given):
        ratio = np.divide(before, after, out=np.ones_like(before), where=after > 0)
        values = ordered.values * _repeated(ratio, factors)
    else:
        values = ordered.values + _repeated(before - after, factors)
    return ordered.copy(data=values.astype(fine.dtype)).transpose(*fine.dims)


def _repeated(values: Array, factors: Sequence[int]) -> Array:
    return np.asarray(values.repeat(factors[0], -2).repeat(factors[1], -1))
