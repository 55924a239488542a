"""Days of historical months that stand for the days of a month of which only the mean is known.

    additive   y(d, i) = F(d, i) + M(i) - mean F(i)
    ratio      y(d, i) = F(d, i) min(M(i) / mean F(i), cap) + what is left of M(i) times p(d)

F are the days of a month of the same name drawn from the training years, the same for all cells and variables, so that
weather stays weather. p is the domain mean of F over its mean over the month: where the drawn month is dry, or too dry,
in a cell that should have rain, it falls on the days on which it rains around. The mean over the month is M either way.

Source: Wood, Leung, Sridhar and Lettenmaier, Climatic Change 62, 2004.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.predictors import seconds_since_start, usual_step

_DAY = 86400.0
# Days that a month needs to count as one.
LEAST_DAYS = 20
# Years that a month needs before its quantiles mean anything.
LEAST_YEARS = 3


@dataclass(frozen=True, eq=False)
class History:
    """Daily fine fields of the training months.

    Attributes:
        fields: (day, output, H, W), month after month.
        months: calendar month, first day in `fields` and number of days of every historical month (month, 3).
    """

    fields: Tensor
    months: NDArray[np.int64]

    @classmethod
    def of(cls, time: xr.DataArray, fine: Tensor) -> Self:
        """The months with at least `LEAST_DAYS` days.

        Raises:
            InputError: when the times are not days, or no month was seen in `LEAST_YEARS` years.
        """
        check_daily(time)
        numbers = month_numbers(time)
        every, counts = np.unique(numbers, return_counts=True)
        whole = every[counts >= LEAST_DAYS]
        kept = np.flatnonzero(np.isin(numbers, whole))
        counts = counts[counts >= LEAST_DAYS]
        _check_years(whole % 12)
        starts = np.cumsum(counts) - counts
        return cls(fine[torch.from_numpy(kept)], np.stack([whole % 12 + 1, starts, counts], axis=1))

    @property
    def kept(self) -> int:
        """Number of historical months."""
        return len(self.months)

    def drawn(self, numbers: NDArray[np.int64], days: NDArray[np.int64], seed: int, member: int) -> Tensor:
        """Indices of the days that stand for days of the months `numbers` (time,), both counted from 0.

        A month is drawn by seed, member and its own number: the same whatever else is predicted.
        """
        result = np.empty(len(numbers), dtype=np.int64)
        for number in np.unique(numbers):
            choices = self.months[self.months[:, 0] == number % 12 + 1]
            random = np.random.default_rng([seed, member, int(number)])
            _, start, length = choices[random.integers(len(choices))]
            chosen = numbers == number
            result[chosen] = start + np.minimum(days[chosen], length - 1)
        return torch.from_numpy(result)

    def check_known(self, time: xr.DataArray) -> None:
        """There are historical months for all of these times.

        Raises:
            InputError: names the months without any.
        """
        lacking = sorted(set(time.dt.month.values.tolist()) - set(self.months[:, 0].tolist()))
        if lacking:
            names = ", ".join(calendar.month_name[each] for each in lacking)
            raise InputError(
                f"got times in {names}, of which the training period has no month of {LEAST_DAYS} days to draw from; "
                "expected months as in training; train on a period with these months, or leave them out with --time"
            )


def resampled(days: Tensor, monthly: Tensor, numbers: NDArray[np.int64], ratio: Tensor, cap: float) -> Tensor:
    """Drawn days (time, output, H, W) brought to the monthly means of their months.

    Args:
        days: drawn days, NaN where unknown.
        monthly: means (month, output, H, W), of the months in the order of their numbers.
        numbers: month of each day (time,).
        ratio: which outputs are scaled (output,).
        cap: largest factor.
    """
    place = torch.from_numpy(np.unique(numbers, return_inverse=True)[1])
    means = monthly_means(days, numbers)
    days, wanted = torch.where(torch.isfinite(days), days, means[place]), monthly[place]
    shifted = days + wanted - means[place]
    factor = (monthly / torch.where(means > 0, means, 1.0)).clamp(0.0, cap)
    left = monthly - factor * means
    around = days.nanmean((-2, -1), keepdim=True)
    usual = monthly_means(around, numbers)[place]
    profile = torch.where(usual > 0, around / torch.where(usual > 0, usual, 1.0), 1.0)
    scaled = days * factor[place] + left[place] * profile
    result = torch.where(ratio[:, None, None], scaled, shifted)
    return torch.where(torch.isfinite(result), result, wanted)


def monthly_means(values: Tensor, numbers: NDArray[np.int64]) -> Tensor:
    """Means of known values (time, ...) over months (month, ...), in float64, NaN where there are none."""
    place = torch.from_numpy(np.unique(numbers, return_inverse=True)[1])
    shape = (int(place.max()) + 1, *values.shape[1:])
    known = torch.isfinite(values)
    total = torch.zeros(shape, dtype=torch.float64).index_add_(0, place, torch.where(known, values, 0.0).double())
    count = torch.zeros(shape, dtype=torch.float64).index_add_(0, place, known.double())
    return total / torch.where(count > 0, count, torch.nan)


def month_numbers(time: xr.DataArray) -> NDArray[np.int64]:
    """A number for the year and month of each time (time,), twelve a year."""
    return np.asarray(time.dt.year.values * 12 + time.dt.month.values - 1, dtype=np.int64)


def check_daily(time: xr.DataArray) -> None:
    """The times are days; there may be gaps of whole days, as between winters.

    Raises:
        InputError: when they are not.
    """
    steps = np.diff(seconds_since_start(time)) / _DAY
    step = usual_step(time) / _DAY
    if len(steps) and (step != 1 or (steps < 1).any() or (steps != np.rint(steps)).any()):
        found = f"steps of {step:g} days" if step != 1 else "uneven steps"
        raise InputError(
            f"the method 'bcsd' with period: month got {found}; expected daily fields; average them first, "
            "fields.resample(time='1D').mean(), or set period: day, which takes every time step as it is"
        )


def _check_years(months: NDArray[np.int64]) -> None:
    most = int(np.bincount(months).max()) if len(months) else 0
    if most < LEAST_YEARS:
        raise InputError(
            f"the method 'bcsd' with period: month got no calendar month with {LEAST_DAYS} days in more than {most} "
            f"year(s); expected at least {LEAST_YEARS} years; give a longer training period, or set period: day"
        )
