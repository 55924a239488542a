"""Stretches of time in the user's words: periods ("1983/1996", "2019-03") and budgets ("5 min", "90 s").

Periods stay text, because a date means something only in the calendar of the data: 30 February exists in a
360-day year. A period includes its last year, month or day, as people read it and as label slices do in
xarray.
"""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(T([01]\d|2[0-3])(:[0-5]\d){0,2})?)?)?")
_BUDGET = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|sec|seconds?|min|minutes?|h|hours?)")
_SECONDS_OF_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0}


def period(text: Any) -> str:
    """Check a period, `start/end` or one date of any length, and return it as text.

    Raises:
        ValueError: when it is not one, or ends before it starts.
    """
    words = text.isoformat() if isinstance(text, date) else str(text).strip()
    dates = words.split("/")
    if len(dates) > 2 or not all(_DATE.fullmatch(each) for each in dates):
        raise ValueError(f"'{words}' is not a period. Write 1983, 2019-03 or 2019-03-15, or two dates as 1983/1996")
    if _after(dates[0], dates[-1]):
        raise ValueError(f"the period '{words}' ends before it starts. Write the earlier date first")
    return words


def bounds(text: str) -> slice:
    """The period as a slice of labels, for `fields.sel(time=bounds("1983/1996"))`."""
    dates = period(text).split("/")
    return slice(dates[0], dates[-1])


def overlap(one: str, other: str) -> bool:
    """Whether two periods share any time."""
    first, second = bounds(one), bounds(other)
    return not _after(first.start, second.stop) and not _after(second.start, first.stop)


def seconds(text: Any) -> float:
    """Seconds of a budget such as "90 s", "5 min" or "1.5 h"; a bare number is seconds.

    Raises:
        ValueError: when it is none of these.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = _BUDGET.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"'{text}' is not a length of time. Write it as 90 s, 5 min or 1.5 h")
    return float(match[1]) * _SECONDS_OF_UNIT[match[2][0]]


def _after(start: str, end: str) -> bool:
    # An end date stands for its last moment: "~" sorts behind every digit, "-" and "T" of a longer date.
    return start > end + "~"


Period = Annotated[str, BeforeValidator(period)]
Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(lambda value: f"{value:.15g} s", when_used="json"),
    Field(gt=0),
]
