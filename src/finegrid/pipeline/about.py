"""What an output says of itself: how far it keeps the coarse field, and the attributes of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.conventions.components import word_of
from finegrid.conventions.errors import provenance
from finegrid.downscalers import Downscaler
from finegrid.evaluation.metrics import CONSERVED
from finegrid.pipeline.departure import Departure
from finegrid.pipeline.naming import name_of


def conservation_words(downscaler: Downscaler, departure: Departure) -> str:
    """How far the output keeps the coarse field, for people."""
    binding, derived = downscaler.domain.binding, downscaler.conservation.derived
    where = "the coarse cells" if binding.all() else f"the {int(binding.sum())} coarse cells within the fine domain"
    field = "the coarse field" if downscaler.adjust is None else "the bias-adjusted coarse field"
    more = f"; {', '.join(derived)} follows from the other variables" if derived else ""
    (wrong, count), largest = departure.unmet, f"{100 * departure.largest:.2g} %"
    if departure.largest <= CONSERVED:
        return f"area means over {where} equal {field} to rounding{more}"
    if downscaler.conservation.conserves:
        return (
            f"area means over {where} equal {field} to rounding but for {wrong} of {count} values that cannot be met "
            f"(beyond their limits, or against their neighbours), and depart from these by up to {largest}{more}"
        )
    return f"does not conserve: area means over {where} depart from {field} by up to {largest}{more}"


def about_of(
    downscaler: Downscaler, members: int, seed: int, fields: xr.Dataset, violation: float, words: str
) -> dict[str, Any]:
    """Global attributes of the output."""
    return {
        "source": f"finegrid {__version__}, {name_of(downscaler)} downscaling of {_input(fields)}",
        "finegrid_version": __version__,
        "finegrid_model": downscaler.digest,
        "finegrid_method": name_of(downscaler),
        "finegrid_members": members,
        "finegrid_seed": seed,
        "finegrid_constraint": word_of(downscaler.constraint),
        "finegrid_conservation_violation": violation,
        "finegrid_conservation": words,
    }


def _input(fields: xr.Dataset) -> str:
    return Path(provenance(fields, otherwise="a coarse field")).name
