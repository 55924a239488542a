"""Protocols of evaluation: questions that are asked of methods on a task, each with an answer of its own."""

from finegrid.benchmark.protocols.base import Answer, Estimate, Inquiry
from finegrid.benchmark.protocols.dropped_sources import dropped_sources
from finegrid.benchmark.protocols.forecasts import forecasts
from finegrid.benchmark.protocols.regions import regions
from finegrid.benchmark.protocols.target_members import target_members
from finegrid.benchmark.protocols.warm import warm
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest

PROTOCOLS: dict[str, Inquiry] = {
    "regions": regions,
    "warm": warm,
    "dropped-sources": dropped_sources,
    "target-members": target_members,
    "forecasts": forecasts,
}
"""By name, as on the command line."""


def find_protocol(name: str) -> Inquiry:
    """The protocol of that name.

    Raises:
        InputError: lists the names and the nearest.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise InputError(f"There is no protocol '{name}'. The names are {known}.{nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


__all__ = ["PROTOCOLS", "Answer", "Estimate", "Inquiry", "find_protocol"]
