"""New input beside the memory of training input."""

from __future__ import annotations

import calendar
from collections.abc import Sequence

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.conventions.errors import provenance
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.guard.chances import block_means, independent, widening
from finegrid.evaluation.guard.difference import Difference, Shown
from finegrid.evaluation.guard.memory import Memory, beyond, settled
from finegrid.evaluation.guard.plan import MONTHS, Plan, alike, months_of
from finegrid.evaluation.guard.traits import ANOMALIES, KINDS, Measured, Places, Trait, measured, traits_of
from finegrid.evaluation.guard.usual import Blocks, Finding, Rows, scales
from finegrid.evaluation.guard.verdict import Verdict
from finegrid.grids import Grid

# A trait is compared where it is known at so large a part of the times of both.
_KNOWN = 0.5


def compare(memory: Memory, coarse: xr.Dataset) -> Verdict:
    """Compare new input with what is remembered; see `Guard.compare`."""
    standard, names = memory.read(coarse)
    months = months_of(standard.time, seasonal=memory.seasonal)
    rows, apart = alike(memory.months, months, memory.every, memory.step_seconds)
    plan = Plan.of(standard.time, len(rows), apart, memory.step_seconds)
    places = plan.rows.ravel()
    found = measured(standard, names, places, months[places], MONTHS if memory.seasonal else 1)
    old, parts = _training(memory, names, rows), _parts(memory, names, plan, found)
    columns = _comparable(old, parts)
    traits = [traits_of(names)[column] for column in columns]
    known = tuple(name for name in names if any(trait.variables == (name,) for trait in traits))
    if not known:
        raise InputError(
            f"got hardly a known value of {', '.join(names)} in {provenance(coarse)}; expected values at half of the "
            "times at least; leave the others out"
        )
    plain = [each.only(columns, range(len(names))) for each in (old, *parts)]
    compared = [Rows(_rooted(each.traits, traits, memory.amounts), each.shares) for each in plain]
    whole = _tests(compared, traits, names, known, plan.length)
    single = {name: _tests(compared, traits, names, (name,), plan.length) for name in known} if len(known) > 1 else {}
    return Verdict(
        findings=whole,
        variables=single or {known[0]: whole},
        differences=_differences(memory, plain, compared, traits, plan.length),
        missing=tuple(name for name in memory.variables if name not in known),
        unseen=tuple(calendar.month_name[month + 1] for month in np.setdiff1d(months, memory.months)),
        times=standard.sizes["time"],
        compared=len(rows),
        grid=Grid.of(standard),
        shown={name: _shown(memory, name, names, rows, found) for name in known},
    )


def _training(memory: Memory, names: Sequence[str], rows: Places) -> Rows:
    every = traits_of(memory.variables)
    columns = [every.index(trait) for trait in traits_of(names)]
    numbers = [memory.variables.index(name) for name in names]
    return Rows(memory.traits[rows].astype(np.float64), memory.shares[rows].astype(np.float64)).only(columns, numbers)


def _parts(memory: Memory, names: Sequence[str], plan: Plan, found: Measured) -> list[Rows]:
    """The parts of the new input, without times of which nothing is known."""
    ends = [memory.ends[memory.variables.index(name)] for name in names]
    shares = [beyond(samples, each) for samples, each in zip(found.samples, ends, strict=True)]
    every = Rows(_traits(memory, names, found), np.stack(shares, axis=-1))
    part = np.repeat(np.arange(len(plan.rows)), plan.rows.shape[1])
    chosen = [np.flatnonzero((part == number) & found.known) for number in range(len(plan.rows))]
    return [Rows(every.traits[each], every.shares[each]) for each in chosen if len(each)]


def _traits(memory: Memory, names: Sequence[str], found: Measured) -> Array:
    return settled(found, names, memory.spectral, memory.departures(names, found))


def _comparable(old: Rows, parts: Sequence[Rows]) -> list[int]:
    """Columns of the traits that both know often enough."""
    if not parts:
        return []
    new = np.concatenate([part.traits for part in parts])
    often = np.minimum(*(np.isfinite(each).mean(axis=0) for each in (old.traits, new)))
    return [int(column) for column in np.flatnonzero(often >= _KNOWN)]


def _rooted(values: Array, traits: Sequence[Trait], amounts: Sequence[str]) -> Array:
    """Cube roots of what is of amounts: these are skewed, and differ by factors."""
    roots = np.array([_is_amount(trait, amounts) for trait in traits])
    return np.where(roots, np.cbrt(values), values)


def _is_amount(trait: Trait, amounts: Sequence[str]) -> bool:
    return trait.kind in KINDS and trait.kind not in ANOMALIES and trait.variables[0] in amounts


def _families(traits: Sequence[Trait]) -> list[int]:
    """A number for each variable, for its anomalies, and for each correlation."""
    families = [(trait.variables, trait.kind in ANOMALIES) for trait in traits]
    return [families.index(family) for family in families]


def _tests(
    compared: Sequence[Rows], traits: Sequence[Trait], names: Sequence[str], chosen: Sequence[str], length: int
) -> dict[str, Finding]:
    """The tests of some of the variables."""
    columns = [number for number, trait in enumerate(traits) if set(trait.variables) <= set(chosen)]
    old, *parts = (each.only(columns, [names.index(name) for name in chosen]) for each in compared)
    return Blocks.of(old, length, _families([traits[column] for column in columns])).findings(parts)


def _differences(
    memory: Memory, plain: Sequence[Rows], compared: Sequence[Rows], traits: Sequence[Trait], length: int
) -> tuple[Difference, ...]:
    """Means of traits over the new times and the training times, the most unusual difference first."""
    usual = [block_means(_filled(each[0].traits), length) for each in (plain, compared)]
    least = scales(compared[0].traits, _families(traits)) * 1e-3
    new = [np.nanmean(np.concatenate([part.traits for part in each[1:]]), axis=0) for each in (plain, compared)]
    old = [np.nanmean(each[0].traits, axis=0) for each in (plain, compared)]
    result = []
    for number, trait in enumerate(traits):
        wider = widening(len(plain) - 1, independent(usual[1][:, number], length))
        z = (new[1][number] - old[1][number]) / (wider * max(usual[1][:, number].std(), least[number]))
        figures = new[0][number], old[0][number], wider * usual[0][:, number].std(), z
        plain_number = trait.kind not in KINDS or trait.kind in ANOMALIES
        units = "" if plain_number else memory.units[trait.variables[0]]
        result.append(Difference(trait, units, _is_amount(trait, memory.amounts), *map(float, figures)))
    return tuple(sorted(result, key=lambda each: -abs(each.z)))


def _filled(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nanmean(values, axis=0))


def _shown(memory: Memory, name: str, names: Sequence[str], rows: Places, found: Measured) -> Shown:
    """What a picture shows of a variable."""
    place, number = memory.variables.index(name), names.index(name)
    kinds = slice(place * len(KINDS), (place + 1) * len(KINDS))
    new = _traits(memory, names, found)[found.known, number * len(KINDS) : (number + 1) * len(KINDS)]
    return Shown(
        memory.units[name],
        name in memory.amounts,
        memory.traits[rows, kinds].astype(np.float64),
        new,
        _change(memory, place, number, found),
    )


def _change(memory: Memory, place: int, number: int, found: Measured) -> Array | None:
    """Mean of the new times less that of training in the same months, of each cell; None on other cells."""
    means, counts = memory.means[0, place].astype(np.float64), found.counts[number]
    if means.shape != counts.shape:
        return None
    known = np.isfinite(means)
    weights = np.where(known, counts, 0.0)
    expected = np.where(known, means, 0.0) * weights
    return ratio(np.where(known, found.sums[number], 0.0).sum(axis=0) - expected.sum(axis=0), weights.sum(axis=0))
