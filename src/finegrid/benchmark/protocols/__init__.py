"""Protocols of evaluation: questions that are asked of methods on a task, each with an answer of its own."""

from finegrid.benchmark.protocols.base import Answer, Estimate, Inquiry
from finegrid.benchmark.protocols.dropped_sources import dropped_sources
from finegrid.benchmark.protocols.forecasts import forecasts
from finegrid.benchmark.protocols.regions import regions
from finegrid.benchmark.protocols.target_members import target_members
from finegrid.benchmark.protocols.warm import warm

PROTOCOLS: dict[str, Inquiry] = {
    "regions": regions,
    "warm": warm,
    "dropped-sources": dropped_sources,
    "target-members": target_members,
    "forecasts": forecasts,
}
"""By name, as on the command line."""

__all__ = ["PROTOCOLS", "Answer", "Estimate", "Inquiry"]
