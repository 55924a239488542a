"""What is typed, as values: `tas=t2m,pr=tp`, `5min`, and options laid over a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finegrid.conventions import InputError
from finegrid.conventions.spans import seconds
from finegrid.pipeline.recipe import Recipe


def listed(words: Sequence[str] | None) -> list[str]:
    """Names from options that may be repeated or hold several, parted by commas."""
    return [name.strip() for word in words or () for name in word.split(",") if name.strip()]


def mapped(words: Sequence[str] | None) -> dict[str, str]:
    """`fine=coarse` pairs; a bare name stands for itself."""
    pairs = [name.partition("=") for name in listed(words)]
    return {first.strip(): (second or first).strip() for first, _, second in pairs}


def quantiles(words: Sequence[str] | None, files: Sequence[str]) -> tuple[list[float], list[str]]:
    """Chances, and the files among the arguments: numbers that follow an option by a space look like files.

    Raises:
        InputError: when a chance is no number.
    """
    if not words:
        return [], list(files)
    more = [each for each in files if _number(each) is not None and not Path(each).exists()]
    found = {word: _number(word) for word in (*listed(words), *more)}
    wrong = [word for word, value in found.items() if value is None]
    if wrong:
        raise InputError(f"--quantiles: got {wrong[0]}; expected numbers between 0 and 1, such as 0.1,0.5,0.9")
    return [value for value in found.values() if value is not None], [each for each in files if each not in more]


def thresholds(words: Sequence[str], option: str = "--event") -> dict[str, list[float]]:
    """Thresholds of variables, of words such as `pr=10`, which may be repeated.

    Raises:
        InputError: on other words.
    """
    found: dict[str, list[float]] = {}
    for word in listed(words):
        name, _, level = word.partition("=")
        value = _number(level)
        if value is None or not name:
            raise InputError(f"{option}: got {word}; expected a variable and a threshold in its units, such as pr=10")
        found.setdefault(name, []).append(value)
    return found


def threshold(words: Sequence[str]) -> dict[str, float]:
    """One threshold of each variable.

    Raises:
        InputError: on other words, and where a variable has two.
    """
    found = thresholds(words, "--threshold")
    twice = [name for name, levels in found.items() if len(levels) > 1]
    if twice:
        raise InputError(
            f"--threshold: got {len(found[twice[0]])} of {twice[0]}; expected one of each variable; evaluate again for "
            "the other"
        )
    return {name: levels[0] for name, levels in found.items()}


def two_periods(text: str | None) -> tuple[str, str] | None:
    """A historical and a later period.

    Raises:
        InputError: on anything but two.
    """
    if text is None:
        return None
    parts = [each.strip() for each in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise InputError(
            f"--change: got {text}; expected two periods with a comma between, such as 1983/1992,1993/2002"
        )
    return parts[0], parts[1]


def numbers(text: str | None, count: int, option: str) -> tuple[float, ...] | None:
    """So many numbers, parted by commas.

    Raises:
        InputError: when there are others.
    """
    if text is None:
        return None
    found = [_number(word) for word in text.split(",")]
    known = tuple(value for value in found if value is not None)
    if len(known) != count or len(found) != count:
        raise InputError(f"{option}: got {text}; expected {count} numbers parted by commas, without spaces")
    return known


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def budget(text: str | None, option: str = "--budget") -> float | None:
    """Seconds of a length of time.

    Raises:
        InputError: when it is none.
    """
    if text is None:
        return None
    try:
        value = float(text) if text.replace(".", "", 1).isdigit() else seconds(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    if value <= 0:
        raise InputError(f"{option}: got {text}; expected more than nothing, such as 5min")
    return value


def laid_over(base: Recipe | None, data: dict[str, Any], tables: dict[str, Any], training: dict[str, Any]) -> Recipe:
    """A recipe with the options of the command line in place of its own settings.

    Options that are None or empty change nothing; steps without a budget take its place. `tables` holds whole sections.
    """
    settings: dict[str, Any] = {} if base is None else base.to_dict()
    for section, given in (("data", data), ("training", training)):
        known = {key: value for key, value in given.items() if value not in (None, [], {})}
        settings[section] = {**settings.get(section, {}), **known}
    if training.get("steps") and not training.get("budget"):
        settings["training"]["budget"] = None
    settings |= tables
    return Recipe.of(settings, source="the command line")


def base_recipe(
    recipe: Path | None, out: Path, coarse: Sequence[str], fine: Sequence[str], resume: bool
) -> Recipe | None:
    """The recipe that a fit starts from: the named one, that of the interrupted run, or none.

    Raises:
        InputError: when neither a recipe nor both files are given.
    """
    from finegrid.pipeline.recipe import FILE
    from finegrid.pipeline.workplace import unfinished

    if recipe is not None:
        return Recipe.read(recipe)
    if coarse and fine:
        return None
    stopped = unfinished(out.absolute()) / FILE
    if resume and stopped.exists():
        return Recipe.read(stopped)
    missing = "--fine" if coarse else "--coarse" if fine else "a recipe, or --coarse and --fine"
    raise InputError(
        f"fit needs {missing}; expected `finegrid fit recipe.yaml --out model/` or `finegrid fit --coarse era.nc "
        "--fine obs.nc --out model/`; `finegrid recipe --example` prints a recipe to start from"
    )
