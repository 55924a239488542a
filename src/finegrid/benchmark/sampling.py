"""What ways of sampling change, on radar patches: the constraint on the way, few steps, values told to agree.

Each comparison is of one training: the same network is sampled in other ways. Only the Wasserstein term needs a second
one.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finegrid.benchmark.arenas import ARENAS
from finegrid.benchmark.figures import Bench, Figure, Section
from finegrid.benchmark.heads import Test, fitted_entry, tests_of
from finegrid.benchmark.tasks import find_task
from finegrid.downscalers import NeuralDownscaler
from finegrid.evaluation import Evaluation, evaluate
from finegrid.training import Settings

_ARENA = ARENAS["mrms"]
_MEMBERS = 5
_FEW, _MANY = (1, 2, 4), 50
_STEPS, _TURNS = 40, 3
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Sampled:
    """Scores of one way of sampling."""

    name: str
    scores: Scores
    seconds: float

    @property
    def words(self) -> str:
        """In a table."""
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in self.scores.items())
        return f"{self.name}: {numbers}, {self.seconds:.2f} s a member"


def _needing_radar(section: Section) -> Section:
    """The section, or the words that its sample is missing."""

    @functools.wraps(section)
    def run(bench: Bench) -> list[Figure]:
        if not find_task(_ARENA.tasks[0]).available:
            return [Figure(f"heads, {section.__name__.replace('_', ' ')}", "", "sample missing", None)]
        return section(bench)

    return run


@_needing_radar
def projection(bench: Bench) -> list[Figure]:
    """The constraint at every step, at the end, and not at all."""
    test, fitted = _test(), _fitted(bench, {"name": "diffusion"})
    ways: dict[str, dict[str, Any]] = {
        "at every step": {"constrain": "steps"},
        "at the end": {"constrain": "end"},
        "without": {"constrain": "end", "constraint": "none"},
    }
    found = {name: _sampled(bench, name, fitted.resampled(**options), test) for name, options in ways.items()}
    figures = []
    for metric in ("crps", "rmse"):
        values = {name: each.scores[metric] for name, each in found.items()}
        ratio = values["at every step"] / values["without"]
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        figures.append(
            Figure(
                f"diffusion, projection: {metric}",
                "<= 0.7 of that without",
                f"{told}: {ratio:.2f}",
                ratio <= 0.7,
                values,
            )
        )
    return figures


@_needing_radar
def few_steps(bench: Bench) -> list[Figure]:
    """A flow in one to four calls against its own fifty steps."""
    test, fitted = _test(), _fitted(bench, {"name": "flow"})
    found = {steps: _sampled(bench, f"{steps} steps", fitted.resampled(steps=steps), test) for steps in (*_FEW, _MANY)}
    scores = {steps: each.scores["crps"] for steps, each in found.items()}
    best = min(_FEW, key=lambda steps: scores[steps])
    ratio = scores[best] / scores[_MANY]
    told = ", ".join(f"{steps}: {value:.4g}" for steps, value in scores.items())
    numbers = {str(steps): value for steps, value in scores.items()}
    return [
        Figure(
            "flow, CRPS by calls",
            f"<= 1.03 of {_MANY} steps in 4 calls",
            f"{told}: {ratio:.3f}",
            ratio <= 1.03,
            numbers,
        )
    ]


@_needing_radar
def values(bench: Bench) -> list[Figure]:
    """The term of the Wasserstein distance, against the same diffusion without it."""
    test, found = _test(), {}
    for name, weight in (("without", 0.0), ("with", 1.0)):
        fitted = _fitted(bench, {"name": "diffusion", "wasserstein": weight})
        found[name] = _sampled(bench, f"{name} the term", fitted, test).scores
    bias = {name: abs(scores["high-quantile"] - 1) for name, scores in found.items()}
    cut, worse = 1 - bias["with"] / bias["without"], found["with"]["crps"] / found["without"]["crps"]
    told = ", ".join(f"{name} {scores['high-quantile']:.3f}" for name, scores in found.items())
    words = f"99.9th percentile over truth {told}: bias cut by {100 * cut:.0f} %, CRPS times {worse:.3f}"
    return [
        Figure(
            "diffusion, Wasserstein term", "bias cut by 30 %, CRPS <= 1.02", words, cut >= 0.3 and worse <= 1.02, bias
        )
    ]


@_needing_radar
def cost(bench: Bench) -> list[Figure]:
    """A training step with two members against one of a point, in turns."""
    times: dict[str, list[float]] = {"point": [], "noise-injected": []}
    for _ in range(_TURNS):
        for name, each in times.items():
            each.append(_seconds_a_step({"name": name}))
    found = {name: statistics.median(each) for name, each in times.items()}
    ratio = found["noise-injected"] / found["point"]
    words = f"{1000 * found['noise-injected']:.0f} ms against {1000 * found['point']:.0f} ms: {ratio:.2f}"
    return [Figure("noise-injected, training step with two members", "<= 2.2 of a point's", words, ratio <= 2.2, found)]


def _seconds_a_step(head: Mapping[str, Any]) -> float:
    settings = Settings(budget=None, steps=_STEPS)
    training = fitted_entry(_ARENA.entry(head), find_task(_ARENA.tasks[0]), settings, judged=False)[0].info()[
        "training"
    ]
    return float(training["seconds"]) / _STEPS


def _test() -> Test:
    return tests_of(_ARENA)[0]


def _fitted(bench: Bench, head: Mapping[str, Any]) -> NeuralDownscaler:
    fitted, seconds = fitted_entry(_ARENA.entry(head), find_task(_ARENA.tasks[0]), Settings(budget=bench.budget))
    bench.say(f"{head}: fitted in {seconds:.0f} s")
    return fitted


def _sampled(bench: Bench, name: str, fitted: NeuralDownscaler, test: Test) -> Sampled:
    start = time.perf_counter()
    prediction = fitted.predict(test.coarse, members=_MEMBERS)
    seconds = (time.perf_counter() - start) / _MEMBERS
    found = evaluate(prediction, test.fine, coarse=test.coarse, method=name, block=test.block, seed=0)
    sampled = Sampled(name, _scores(found, name), seconds)
    bench.say(sampled.words)
    return sampled


def _scores(found: Evaluation, name: str) -> Scores:
    variable = found.variables[0]
    wanted = ("crps", "rmse", "spread-skill", "high-quantile", "power-ratio", "violation")
    return {metric: found.of(variable, metric)[name].value for metric in wanted if metric in found.metrics(variable)}
