"""How a head that makes fields in steps is sampled: temperature, guidance, search; `base` says what they share."""

from __future__ import annotations

from finegrid.heads.policies.base import Policy, Reward, Trial
from finegrid.heads.policies.guidance import GapGuidance, Guidance
from finegrid.heads.policies.horizon import HorizonTemperature
from finegrid.heads.policies.learned import LearnedTemperature
from finegrid.heads.policies.search import Search
from finegrid.heads.policies.temperature import EntropyTemperature, Temperature

POLICIES: dict[str, type[Policy]] = {
    "fixed": Temperature,
    "edt": EntropyTemperature,
    "guidance": Guidance,
    "guidance-gap": GapGuidance,
    "learned": LearnedTemperature,
    "horizon": HorizonTemperature,
    "search": Search,
}

__all__ = [
    "POLICIES",
    "EntropyTemperature",
    "GapGuidance",
    "Guidance",
    "HorizonTemperature",
    "LearnedTemperature",
    "Policy",
    "Reward",
    "Search",
    "Temperature",
    "Trial",
]
