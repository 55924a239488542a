"""Strongly adaptive online conformal prediction (SAOCP): experts of all ages, weighed by what they gained lately.

At every time t an expert is born that lives for L 2^u times, u being how often 2 divides t, and descends as in
`scale_free`. Of an expert that was born at i and has lived n times,

    g       = clip((l(q) - l(q_i)) / (D max(b, 1 - b)), -[w_i > 0], 1)       its gain over the issued radius q
    w_i     = (sum g / n) (1 + sum g w_i)                                    what it bets (coin betting)
    p_i     ~ max(0, w_i) / (i^2 (1 + floor(log2 i)))                        its share; the prior alone where none bets
    q       = sum p_i q_i                                                    the radius that is issued

Experts with the same u are born every 2 2^u times, so that L / 2 slots for each u hold all that live: the newborn takes
the slot of the one that dies. The state has (L / 2) (1 + log2 t) slots, each an array over levels and groups. Groups
have clocks of their own, which stand still while they have no case.

Sources: Bhatnagar, Wang, Xiong and Bai, "Improved online conformal prediction via strongly adaptive online learning",
ICML 2023; Jun, Orabona, Wright and Willett, "Improved strongly adaptive online learning using coin betting",
AISTATS 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Learnt
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.online.arrivals import Arrivals
from finegrid.calibration.online.radius import Radius, stepped
from finegrid.conventions import InputError

# Values of experts that are updated at once, few enough for the cache of a core.
_BLOCK_VALUES = 1 << 16
_BY_SLOT = ("radii", "squares", "gains", "bets", "births", "prior")


@dataclass(kw_only=True)
class StronglyAdaptive(Radius):
    """A radius per level and group, of experts that begin at all times.

    Args:
        lifetime: of the shortest-lived experts, in times; even.
    """

    lifetime: int = 8

    name: ClassVar[str] = "strongly-adaptive"
    guarantee: ClassVar[str] = (
        "under any drift, in every stretch of time nearly the pinball loss of the best radius for it; long-run: the "
        "share of truths inside tends to the level where the weights of its experts change slowly"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lifetime < 2 or self.lifetime % 2:
            raise InputError(f"got lifetime: {self.lifetime}; expected an even number from 2 on, such as 8")

    def _from(self, radius: Array) -> Learnt:
        count = radius.shape[1]
        slots = self.lifetime // 2
        learnt = {key: np.zeros((slots, *radius.shape)) for key in ("radii", "squares", "gains", "bets")}
        learnt |= {"births": np.zeros((slots, count), np.int64), "prior": np.zeros((slots, count))}
        learnt |= {"clock": np.ones(count, np.int64)}
        learnt["radii"][0], learnt["births"][0], learnt["prior"][0] = radius, 1, 1.0
        return learnt

    def _moved(self, learnt: Learnt, arrived: Arrivals) -> None:
        slots = self._newborn(learnt, arrived.seen)
        issued = self._loss_and_slope(arrived, learnt["radius"])[0]
        learnt["clock"][arrived.seen] += 1
        # Sums of shares and of shares times radii, by what the experts bet and by the prior.
        sums = np.zeros((4, *learnt["radius"].shape))
        for block in self._blocks_of_slots(learnt, arrived):
            sums += self._advanced({key: learnt[key][block] for key in _BY_SLOT}, learnt, arrived, issued)
        radius = np.where(sums[0] > 0, _ratio(sums[1], sums[0]), _ratio(sums[3], sums[2]))
        learnt["radius"] = np.where(arrived.marked(), radius, learnt["radius"])
        learnt["radii"][slots, :, arrived.seen] = learnt["radius"][:, arrived.seen].T

    def _newborn(self, learnt: Learnt, seen: Places) -> Places:
        """Make room for the experts of the next time in groups that have a case; gives their slots."""
        time = learnt["clock"][seen] + 1
        twos = np.log2(time & -time).astype(np.int64)
        half = self.lifetime // 2
        missing = (int(twos.max()) + 1) * half - len(learnt["radii"])
        if missing > 0:
            for key in _BY_SLOT:
                room = np.zeros((missing, *learnt[key].shape[1:]), learnt[key].dtype)
                learnt[key] = np.concatenate([learnt[key], room])
        slots = np.asarray(twos * half + (time >> (twos + 1)) % half)
        for key in ("squares", "gains", "bets"):
            learnt[key][slots, :, seen] = 0.0
        learnt["births"][slots, seen] = time
        learnt["prior"][slots, seen] = 1 / (time.astype(np.float64) ** 2 * (1 + np.floor(np.log2(time))))
        return slots

    def _advanced(self, some: Learnt, learnt: Learnt, arrived: Arrivals, issued: Array) -> Array:
        """Some experts learn, in place; gives the four sums over them."""
        lived = learnt["clock"] - some["births"]
        alive = ((some["births"] > 0) & (lived > 0))[:, None]
        past = np.maximum(lived - 1, 1)[:, None]
        loss, slope = self._loss_and_slope(arrived, some["radii"])
        bet = some["gains"] / past * (1 + some["bets"])
        most = learnt["scale"] * np.maximum(self._column, 1 - self._column)
        gain = np.clip((issued - loss) / most, np.where(bet > 0, -1.0, 0.0), 1.0) * alive
        slope *= alive
        some["gains"] += gain
        some["bets"] += gain * bet
        some["squares"] += slope**2
        some["radii"][...] = stepped(some["radii"], slope, some["squares"], learnt["scale"] / np.sqrt(3))
        prior = some["prior"][:, None] * alive
        share = prior * np.maximum(some["gains"] / np.maximum(lived, 1)[:, None] * (1 + some["bets"]), 0.0)
        prior = np.broadcast_to(prior, share.shape)
        return np.stack([each.sum(axis=0) for each in (share, share * some["radii"], prior, prior * some["radii"])])

    def _blocks_of_slots(self, learnt: Learnt, arrived: Arrivals) -> Iterator[slice]:
        slots, *rest = learnt["radii"].shape
        size = max(1, _BLOCK_VALUES // (rest[0] * max(rest[1], len(arrived.scores))))
        return (slice(start, start + size) for start in range(0, slots, size))


def _ratio(part: Array, whole: Array) -> Array:
    return np.asarray(part / np.where(whole > 0, whole, 1.0))
