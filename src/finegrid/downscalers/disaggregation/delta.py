"""The delta method: fine climatology plus, or times, the interpolated coarse anomaly (see `anomalies`).

Temperature, pressure and wind are shifted; what cannot be negative is scaled. A trend of the coarse field is kept, an
absolute one by a shift and a relative one by a ratio.

Source: Gleick, Water Resources Research 22(7), 1986; Maraun and Widmann, Statistical Downscaling and Bias Correction
for Climate Research, Cambridge University Press, 2018, chapter 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import State
from finegrid.downscalers.disaggregation.anomalies import Anomalies
from finegrid.downscalers.disaggregation.base import Disaggregation, paired
from finegrid.downscalers.disaggregation.seasons import Seasons
from finegrid.downscalers.fitting import Fitting


@dataclass(kw_only=True)
class Delta(Disaggregation):
    """Fine climatology and coarse anomaly.

    Args:
        kind: "natural" (ratios for what cannot be negative), "additive" or "ratio" for all variables.
        cap: largest fine value of a ratio, in units of the interpolated coarse value.
    """

    name: ClassVar[str] = "delta"
    kind: str = "natural"
    cap: float = 10.0
    _anomalies: Anomalies | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        training = matched.at(fit_block)
        time, means = training.coarse.time, self._block_means(training)
        self._seasons = Seasons.of(self.by, time)
        coarse, _ = paired(self._values(training.coarse), means)
        fields = coarse, to_tensor(training.fine, self.domain.outputs)
        ratio = self._ratios(self.kind, training)
        self._anomalies = Anomalies.of(self._seasons, time, fields, self._interpolated, ratio, self.cap)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._anomalies is None:
            raise RuntimeError("a delta method without climatologies")
        return self._limited(self._anomalies(self._values(coarse), coarse.time, self._interpolated)).float()

    def _notes(self) -> list[str]:
        """What a person should know of the fit, in sentences."""
        return dry_words(self._anomalies)

    def _learnt(self) -> State:
        if self._anomalies is None or self._seasons is None:
            return {}, {}
        return {"seen": list(self._seasons.seen)}, self._anomalies.tensors()

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._seasons = Seasons(self.by, tuple(plain["seen"]))
        known = {name: each for name, each in tensors.items() if name in Anomalies.__dataclass_fields__}
        self._anomalies = Anomalies.from_tensors(known, self._seasons, self.cap)


def dry_words(anomalies: Anomalies | None) -> list[str]:
    """A sentence on cells without a climatology to take ratios to; none where there are none."""
    if anomalies is None or not anomalies.dry_cells:
        return []
    return [
        f"{anomalies.dry_cells} coarse cells are dry in the training period in some part of the year; there the "
        "coarse value is taken instead of a ratio to the climatology"
    ]
