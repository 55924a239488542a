"""What differs between new input and that of training, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finegrid.conventions.variables import standard_name_of
from finegrid.evaluation.guard.difference import Difference
from finegrid.evaluation.guard.usual import DISTANCE, LEVEL, OUTLYINGNESS, RANGE, SHIFT, TESTS, Finding
from finegrid.evaluation.wording import number, with_units

# Usual deviations from which a single difference is worth a sentence, and how many of a variable are told.
_TOLD, _MOST = 3.0, 2
_WAYS = (("air_temperature", ("warmer", "colder")), ("precipitation", ("wetter", "drier")))
_PERCENTILES = {"p05": "5th percentile", "p50": "median", "p95": "95th percentile"}


def sentences(
    p: float,
    findings: Mapping[str, Finding],
    variables: Mapping[str, Mapping[str, Finding]],
    differences: Sequence[Difference],
    missing: Sequence[str],
    unseen: Sequence[str],
) -> tuple[str, ...]:
    """A headline, the tests and traits that stand out, and what could not be compared.

    Args:
        p: of all tests together.
        findings: the tests of all variables together.
        variables: the tests of each variable.
        differences: traits, the most unusual first.
        missing: variables that the new input lacks.
        unseen: months without any training time.
    """
    flagged = p <= LEVEL
    told = [_headline(p, flagged)]
    if flagged:
        told += [sentence for name in variables for sentence in _of(name, variables[name], differences)]
        told += _together(differences)
        told += [_test(name, found) for name, found in findings.items() if found.p <= LEVEL / len(TESTS)]
    if unseen:
        told.append(f"None of the training times is in {' or '.join(unseen)}")
    if missing:
        told.append(f"Nothing is known of {' and '.join(missing)} in the input: the other variables were compared")
    return tuple(told)


def _headline(p: float, flagged: bool) -> str:
    chance = f"p = {number(p, digits=2)}" if p >= 1e-4 else "p < 0.0001"
    if flagged:
        return f"The input is unlike that of training ({chance}): what the model makes of it is not vouched for"
    return f"The input is like that of training ({chance})"


def _test(name: str, found: Finding) -> str:
    if name == RANGE:
        return (
            f"{_percent(found.value)} of its values lie beyond the range of training (0.1st to 99.9th percentile); "
            f"{_percent(found.usual)} is usual, {_percent(found.limit)} the limit"
        )
    times, limit = (number(each / max(found.usual, 1e-12), digits=2) for each in (found.value, found.limit))
    what = {
        DISTANCE: "Its distribution is {} times as far from the training record as that of a block of the record is",
        OUTLYINGNESS: "Its times are {} times as far out (squared Mahalanobis distance) as training times are",
        SHIFT: "Its mean is {} times as far out (squared Mahalanobis distance) as that of a block of the record is",
    }[name]
    return f"{what.format(times)}; {limit} times is the limit"


def _of(name: str, found: Mapping[str, Finding], differences: Sequence[Difference]) -> list[str]:
    """The mean of a variable where it is unusual, its most unusual trait, and its values beyond the range."""
    own = [each for each in differences if each.trait.variables == (name,) and abs(each.z) >= _TOLD]
    own.sort(key=lambda each: each.trait.kind != "mean")
    told = [_difference(each) for each in own[:_MOST]]
    reached = found[RANGE]
    if reached.p <= LEVEL:
        told.append(f"{_percent(reached.value)} of the values of {name} lie beyond the range of training")
    return told


def _together(differences: Sequence[Difference]) -> list[str]:
    pairs = [each for each in differences if len(each.trait.variables) == 2 and abs(each.z) >= _TOLD]
    return [
        f"The correlation of {' and '.join(each.trait.variables)} in space is {each.new:.2f}, in training "
        f"{each.training:.2f} (± {each.usual:.2f} is usual)"
        for each in pairs[:_MOST]
    ]


def _difference(each: Difference) -> str:
    name, kind = each.trait.variables[0], each.trait.kind
    if kind == "mean":
        more, less = _ways(name)
        how = more if each.new > each.training else less
        return f"{name} is {_size(each)} {how} on average than in training ({_usual(each)} is usual)"
    if kind in _PERCENTILES:
        how = "higher" if each.new > each.training else "lower"
        return f"The {_PERCENTILES[kind]} of {name} is {_size(each)} {how} than in training ({_usual(each)} is usual)"
    if kind == "anomaly":
        more, less = _ways(name)
        change, how = each.new - each.training, more if each.new > each.training else less
        return f"Cells of {name} are {number(abs(change))} of their deviations {how} ({_usual(each)} is usual)"
    what = {
        "deviation": "varies over the domain",
        "fine": "varies from cell to cell",
        "departure": "is off the means of its cells",
    }[kind]
    if not each.training > 0:
        return f"{name} {what} by {with_units(each.new, each.units)}, in training by nothing"
    times, usual = each.new / each.training, each.usual / each.training
    return f"{name} {what} {number(times)} times as much as in training (1 ± {number(usual, digits=2)} is usual)"


def _ways(name: str) -> tuple[str, str]:
    standard = standard_name_of(name, {})
    return next((ways for start, ways in _WAYS if standard.startswith(start)), ("higher", "lower"))


def _size(each: Difference) -> str:
    change = abs(each.new - each.training)
    if each.amount and each.training > 0:
        return _percent(change / each.training)
    return with_units(change, each.units)


def _usual(each: Difference) -> str:
    if each.amount and each.training > 0:
        return _percent(each.usual / each.training)
    return with_units(each.usual, each.units)


def _percent(part: float) -> str:
    return f"{number(100 * part, digits=2)} %"
