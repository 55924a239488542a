"""Figures of skill and conservation: the demonstration, two real tasks, and the constraints on all of them."""

from __future__ import annotations

import numpy as np

from finegrid.benchmark.demo import demonstrate
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.pairs import HARD
from finegrid.benchmark.results import Result
from finegrid.benchmark.run import run
from finegrid.benchmark.tasks import TASKS, find_task
from finegrid.data import pair
from finegrid.downscalers import NeuralDownscaler
from finegrid.pipeline.agreeing import agreements_of
from finegrid.training import Settings

# Constraints that leave a part of what the means lack.
_LENIENT = ("soft", "relaxed")
_NEVER_NEGATIVE = ("multiplicative", "softmax", "bounded", "natural")
_FEW_STEPS = 20
_CONSERVED = 1e-6


def demo(bench: Bench) -> list[Figure]:
    """The demonstration: time, and the network against the ridge in both components."""
    shown = demonstrate(bench.out / "demo", say=bench.say)
    figures = [Figure("`finegrid demo`", "<= 90 s", f"{shown.seconds:.0f} s", shown.seconds <= 90)]
    for variable in shown.evaluation.variables:
        errors = shown.evaluation.of(variable, "rmse")
        own, ridge, cubic = (errors[name].value for name in (shown.evaluation.method, "ridge", "bicubic"))
        measured = f"{own:.3f} against {ridge:.3f} m/s (bicubic {cubic:.3f})"
        numbers = {name: score.value for name, score in errors.items()}
        figures.append(Figure(f"demo: {variable}, network", "<= per-cell ridge", measured, own <= ridge, numbers))
    return figures


def era5(bench: Bench) -> list[Figure]:
    """Hourly temperature: the best network within the budget."""
    return [_best_network(bench, "era5-uk-t2m-x4", limit=0.28, strict=True, units="K")]


def racmo(bench: Bench) -> list[Figure]:
    """Daily temperature and rain of a regional model."""
    return [
        _best_network(bench, "racmo-tas-x4", limit=0.375, units="K"),
        _best_network(bench, "racmo-pr-x4", limit=1.38, units="mm/day"),
    ]


def conservation(bench: Bench) -> list[Figure]:
    """Every hard constraint on every task, in float32; and rain that is never negative."""
    largest: dict[str, float] = {}
    negative: dict[str, float] = {}
    for name, task in TASKS.items():
        if not task.available:
            continue
        methods = [f"resnet+{constraint}" for constraint in HARD]
        found = run(task, methods, settings=Settings(steps=_FEW_STEPS, budget=None), say=bench.say)
        for variable in found.evaluation.variables:
            for label, score in found.evaluation.of(variable, "violation").items():
                largest[f"{name} {variable} {label}"] = score.value
            for label, score in found.evaluation.of(variable, "negatives").items():
                if variable == "pr" and label.endswith(_NEVER_NEGATIVE):
                    negative[f"{name} {label}"] = score.value
    worst = max(largest, key=lambda key: largest[key])
    measured = f"{largest[worst]:.1e} ({worst}; {len(largest)} cases)"
    share = max(negative.values(), default=float("nan"))
    return [
        Figure(
            "conservation, hard constraints, every task", "<= 1e-6", measured, largest[worst] <= _CONSERVED, largest
        ),
        Figure(
            "negative rain, constraints that know its limit", "never", f"{share:.1g} of the cells", share == 0, negative
        ),
    ]


def constraints(bench: Bench) -> list[Figure]:
    """The same network with each constraint, several seeds: does conserving cost skill?"""
    figures = []
    for name in ("era5-uk-t2m-x4", "navy-winds-x4"):
        task = find_task(name)
        if not task.available:
            figures.append(Figure(f"{name}: constraints", "hard ones not worse than none", "sample missing", None))
            continue
        methods = [f"resnet+{constraint}" for constraint in ("none", *_LENIENT, *HARD)]
        settings = Settings(steps=bench.steps, budget=None)
        found = run(
            task, methods, out=bench.out / f"constraints-{name}", seeds=bench.seeds, settings=settings, say=bench.say
        )
        figures += [_constrained(found, variable) for variable in found.evaluation.variables]
    return figures


def two_runs(bench: Bench) -> list[Figure]:
    """What becomes of a hard constraint where coarse and fine data are of two runs, and what the test says before."""
    name, target = "two runs, NCEP to E-OBS tas", "hard > adjusted + hard, hard > relaxed"
    task = find_task("ncep-eobs-tas")
    if not task.available:
        return [Figure(name, target, "sample missing", None)]
    material = task.material()
    (found,) = agreements_of(pair(*material.at(material.learning), variables=task.variables))
    bias = found.overall
    told = f"{found.verdict}; bias {bias.bias:.2f} ({bias.low:.2f} to {bias.high:.2f}) °C, spread {bias.spread:.2f} °C"
    result = run(task, out=bench.out / task.name, seeds=bench.seeds, say=bench.say)
    # The widest of all seeds: a method is better where the upper end of its interval is below the lower of another.
    spans: dict[str, list[float]] = {}
    for label, score in result.evaluation.of("tas", "rmse").items():
        span = spans.setdefault(result.trials[label].method, [score.low, score.high])
        span[:] = [min(span[0], score.low), max(span[1], score.high)]
    means = {method: float(np.mean(each)) for method, each in result.scores("rmse", "tas").items()}
    words = ", ".join(f"{name} {means[name]:.2f} ({low:.2f} to {high:.2f})" for name, (low, high) in spans.items())
    hard = [name for name in spans if f"shift/{name}" in spans and f"{name}+relaxed" in spans]
    reached = all(spans[other][1] < spans[name][0] for name in hard for other in (f"shift/{name}", f"{name}+relaxed"))
    return [
        Figure(f"{name}: the test", "fires", told, found.fires),
        Figure(f"{name}: RMSE in °C, {bench.seeds} seeds", target, words, reached, means),
    ]


def _constrained(found: Result, variable: str) -> Figure:
    values = {method.partition("+")[2]: np.array(each) for method, each in found.scores("rmse", variable).items()}
    plain = values["none"]
    # Two standard errors of the difference of means over seeds; none with one seed.
    hard = {name: each for name, each in values.items() if name in HARD}
    worse = [name for name, each in hard.items() if each.mean() - plain.mean() > 2 * _spread(each, plain)]
    words = ", ".join(f"{name} {each.mean():.3f} ± {each.std():.3f}" for name, each in values.items())
    missing = [method.partition("+")[2] for method in found.inapplicable]
    words += f"; not applicable: {', '.join(missing)}" if missing else ""
    numbers = {name: each.tolist() for name, each in values.items()}
    return Figure(
        f"{found.task.name} {variable}: constraints, {len(plain)} seeds",
        "hard ones not worse than none",
        words,
        not worse,
        numbers,
    )


def _spread(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2:
        return 0.0
    return float(np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)))


def _best_network(bench: Bench, name: str, *, limit: float, units: str, strict: bool = False) -> Figure:
    sign = "<" if strict else "<="
    target = f"best network {sign} {limit} {units} within {bench.budget / 60:g} min"
    if not find_task(name).available:
        return Figure(name, target, "sample missing", None)
    found = table_of_methods(bench, name)
    variable = found.evaluation.variables[0]
    errors = {label: score.value for label, score in found.evaluation.of(variable, "rmse").items()}
    networks = {label: errors[label] for label in errors if _is_network(found, label)}
    best = min(networks, key=lambda label: networks[label])
    rest = ", ".join(
        f"{label} {value:.3f}" for label, value in sorted(errors.items(), key=lambda each: each[1]) if label != best
    )
    reached = networks[best] < limit if strict else networks[best] <= limit
    return Figure(name, target, f"{best} {networks[best]:.4f} {units} ({rest})", reached, errors)


def table_of_methods(bench: Bench, name: str) -> Result:
    """All methods on a task, run once and shared by the figures."""
    if name not in bench.results:
        settings = Settings(budget=bench.budget)
        bench.results[name] = run(find_task(name), out=bench.out / name, settings=settings, say=bench.say)
    return bench.results[name]


def _is_network(found: Result, label: str) -> bool:
    return isinstance(found.trials[label].downscaler, NeuralDownscaler)
