"""Figures of the statistical methods: reanalysis and observations in folds of winters, a regional model, a scenario."""

from __future__ import annotations

import numpy as np

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.methods import STATISTICAL
from finegrid.benchmark.results import Result
from finegrid.benchmark.run import run
from finegrid.benchmark.tasks import find_task
from finegrid.data import scenarios
from finegrid.downscalers import PatternScaling

_MINUTES = 3.0


def observed(bench: Bench) -> list[Figure]:
    """NCEP to E-OBS over Iberia, five folds of whole winters: skill, the ensemble of rain, time."""
    tas, pr = (_found(bench, f"value-iberia-{name}", "+none") for name in ("tas", "pr"))
    figures = [_best(tas, "tas", 1.20, "degC"), _bias(tas), _best(pr, "pr", 3.65, "mm/day"), *_ensemble(pr)]
    for name, result in (("tas", tas), ("pr", pr)):
        seconds = sum(trial.seconds for trial in result.trials.values())
        words = f"{seconds:.0f} s of fitting in {len(result.trials)} methods"
        figures.append(Figure(f"five folds of {name}, Iberia", "<= 3 minutes", words, seconds <= 60 * _MINUTES))
    return figures


def racmo(bench: Bench) -> list[Figure]:
    """RACMO, 4 times: the best statistical method below the per-cell ridge."""
    limits = {"tas": (0.398, "K"), "pr": (1.57, "mm/day")}
    return [
        _best(_found(bench, f"racmo-{name}-x4"), name, limit, units, strict=True)
        for name, (limit, units) in limits.items()
    ]


def patterns(bench: Bench) -> list[Figure]:
    """Pattern scaling on a scenario with 50 members: weights and floor."""
    ensemble = scenarios.generate(scenarios.Scenario(), members=50, seed=1)
    fitted = PatternScaling(driver="emissions").fit(ensemble.coarse, ensemble.fine)
    found, figures = fitted.patterns(), []
    for name in ("tas", "pr"):
        right = ensemble.weights[name].values
        error = float(np.sqrt(((found[name].transpose(*ensemble.weights[name].dims).values - right) ** 2).mean()))
        relative = error / float(np.sqrt((right**2).mean()))
        figures.append(Figure(f"weights of {name}, 50 members", "<= 5 %", f"{100 * relative:.1f} %", relative <= 0.05))
    result = run(find_task("scenario-t5"), ["pattern-scaling+none"], say=bench.say)
    for name, sigma in (("tas", scenarios.TEMPERATURE.sigma), ("pr", scenarios.RAIN.sigma)):
        floor = next(iter(result.evaluation.of(name, "rmse").values())).floor
        off = floor**2 / (sigma**2 / 50) - 1
        words = f"{100 * off:+.1f} %"
        figures.append(Figure(f"floor of {name} against sigma^2/M", "within 10 %", words, abs(off) <= 0.1))
    return figures


def _found(bench: Bench, name: str, constraint: str = "") -> Result:
    """A run of all methods of perfect prognosis on a task."""
    key = f"{name}, statistical"
    if key not in bench.results:
        methods = [f"{each}{constraint}" for each in STATISTICAL]
        bench.results[key] = run(find_task(name), methods, say=bench.say)
    return bench.results[key]


def _best(result: Result, variable: str, limit: float, units: str, *, strict: bool = False) -> Figure:
    errors = {name: each[0] for name, each in result.scores("rmse", variable).items()}
    best = min(errors, key=lambda each: errors[each])
    ridge = next(value for name, value in errors.items() if name.partition("+")[0] == "ridge")
    reached = errors[best] < limit if strict else errors[best] <= limit
    words = f"{errors[best]:.3f} {units} ({best}; per-cell ridge {ridge:.3f})"
    target = f"{'<' if strict else '<='} {limit} {units}"
    return Figure(f"{result.task.name}: best method", target, words, reached, errors)


def _bias(result: Result) -> Figure:
    errors = {name: each[0] for name, each in result.scores("rmse").items()}
    best = min(errors, key=lambda each: errors[each])
    bias = result.scores("bias")[best][0]
    return Figure(f"{result.task.name}: its bias", "within 0.1 K", f"{bias:+.3f} K", abs(bias) <= 0.1)


def _ensemble(result: Result) -> list[Figure]:
    """The generalised linear model: wet days, extremes, and its CRPS beside the best deterministic error."""
    single = {name: each[0] for name, each in result.scores("mae").items() if not result.trials[name].is_ensemble}
    best = min(single, key=lambda each: single[each])
    glm = next(name for name in result.trials if name.startswith("glm"))
    crps = result.scores("crps")[glm][0]
    table = result.evaluation.value_table
    wet, extreme = (table.of("pr", index)[glm].value for index in ("r01", "r98p"))
    ratio = crps / single[best]
    words = f"{ratio:.3f} ({crps:.3f} against {single[best]:.3f} mm/day of {best})"
    return [
        Figure("glm: fair CRPS over the best deterministic MAE", "<= 0.75", words, ratio <= 0.75),
        Figure("glm: frequency of wet days", "within 2 points", f"{wet:+.2f} points", abs(wet) <= 2),
        Figure("glm: R98p", "within 8 %", f"{extreme:+.1f} %", abs(extreme) <= 8),
    ]
