"""Which methods a task runs unless others are asked for, with their options: lists that tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Options = Mapping[str, Mapping[str, Any]]

SIMPLE = ("bicubic+none", "bilinear", "bicubic", "mean-map", "ridge")
NETWORKS = ("srresnet", "resnet", "resnet-on-ridge")
DISAGGREGATION = ("delta", "bcsd")
REGRESSIONS = ("linear", "ridge", "ridge-around", "lasso", "pcr", "sketched", "random-features")
ANALOGUES = ("analogues", "nearest-neighbours", "constructed-analogues")
STATISTICAL = (*REGRESSIONS, "glm", *ANALOGUES, "trees", "regimes", "blend")
"""The methods of perfect prognosis."""


def usual(own: Options | None = None) -> dict[str, Mapping[str, Any]]:
    """The methods of every task, with a task's own options for some of them and further ones."""
    return {name: {} for name in (*SIMPLE, *NETWORKS)} | dict(own or {})


def sharing(names: Sequence[str], **options: Any) -> dict[str, Mapping[str, Any]]:
    """Methods that all have the same options."""
    return {name: dict(options) for name in names}


def two_runs() -> Options:
    """For runs that disagree: with a hard, a relaxed and no constraint, and with the bias adjusted first."""
    short: dict[str, Mapping[str, Any]] = {"ridge": {}, "resnet-on-ridge": {"settings": {"steps": 400}}}
    ways = ("{}+none", "{}", "shift/{}", "{}+relaxed", "shift/{}+relaxed")
    return {"bicubic+none": {}, "bicubic": {}} | {way.format(name): short[name] for name in short for way in ways}


def observed() -> Options:
    """For a reanalysis and observations: nothing is to be conserved, and the bias may be adjusted first."""
    names = ("bicubic", "mean-map", *DISAGGREGATION, "qdm/bicubic", *STATISTICAL)
    return {f"{name}+none": {} for name in names}


def patchwork() -> Options:
    """For patches of several regions: what learns a place (a mean map, a position) is not asked."""
    names = ("bicubic+none", "bicubic", "bicubic+multiplicative", "ridge", "ridge+multiplicative", "analogues")
    return {name: {} for name in (*names, "resnet", "resnet+multiplicative")}


def emulators() -> Options:
    """For a scenario, whose coarse runs are others than those of the truth: nothing is to be conserved."""
    small: Mapping[str, Any] = {"settings": {"steps": 300}, "backbone": {"width": 16}}
    scaled: dict[str, Mapping[str, Any]] = {"pattern-scaling+none": {"driver": "emissions"}}
    networks = dict.fromkeys(("resnet+none", "resnet-on-ridge+none"), small)
    return {name: {} for name in ("bicubic+none", "mean-map+none", "ridge+none")} | scaled | networks
