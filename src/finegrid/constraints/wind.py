"""Wind as a vector: components along the fine grid's axes whose means are a coarse eastward and northward wind.

On a rotated or projected grid the wind along x is not the wind from the west. With t the angle by which the x axis of
a fine cell is turned north from the east,

    east = u cos t - v sin t,      north = u sin t + v cos t

is what is conserved, as by `add`, and turned back. The turn keeps lengths, so that this is the orthogonal projection of
the vectors. A speed, where there is one, is that of the components: it has no means of its own, since the mean speed
of a cell is more than the speed of its mean wind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import Aggregation, relative_error
from finegrid.constraints.relation import Relation, checked, excess
from finegrid.conventions import InputError

_AXES = ("grid", "earth")


class WindConstraint(Relation):
    """Conserves a wind vector across grids.

    Args:
        variables: names of the components along x and y and, if wanted, of the speed.
        fine: axes of the fine components: "grid", or "earth" for eastward and northward ones.
        coarse: axes of the coarse components: "earth", or "grid" for those of the fine grid.
        turn: cosine and sine (2, H, W) of the angle of the fine grid's x axis to the east.
    """

    roles: ClassVar[tuple[str, ...]] = ("uas", "vas", "sfcWind")
    statistics: ClassVar[tuple[str, ...]] = ("turn",)
    turn: Tensor

    def __init__(
        self, *, variables: Sequence[str], fine: str = "earth", coarse: str = "earth", turn: Tensor | None = None
    ) -> None:
        super().__init__()
        self.variables = checked("wind", variables, least=2, most=3)
        if fine not in _AXES or coarse not in _AXES:
            raise InputError(f"the constraint 'wind' got axes {fine} and {coarse}; expected grid or earth for each")
        self.derived = (2,) if len(self.variables) == 3 else ()
        self._turned = fine != coarse
        self._add = AddConstraint()
        still = torch.tensor([1.0, 0.0]).reshape(2, 1, 1)
        angles = still if turn is None or not self._turned else turn.double()
        # From the fine components to the coarse ones: backwards where the coarse ones follow the grid.
        sign = 1.0 if fine == "grid" else -1.0
        self.register_buffer("turn", torch.stack([angles[0], sign * angles[1]]).float())

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        there = self._to_coarse(fine[..., :2, :, :])
        kept: Tensor = self._add.project(there, coarse[..., :2, :, :], operator)
        wind = self._back(kept)
        if not self.derived:
            return wind
        return torch.cat([wind, wind.square().sum(-3, keepdim=True).sqrt()], dim=-3)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        there = self._to_coarse(fine[..., :2, :, :].detach().double())
        error = relative_error(there, coarse[..., :2, :, :], operator).amax((-3, -2, -1))
        return torch.maximum(error, self.disorder(fine.detach(), operator).to(error))

    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """Largest difference between the speed and that of the components, over the mean speed; (...,)."""
        speed = fine[..., :2, :, :].square().sum(-3, keepdim=True).sqrt()
        gap = (fine[..., 2:, :, :] - speed).abs() if self.derived else torch.zeros_like(speed)
        return excess(gap, speed, operator)

    def _to_coarse(self, wind: Tensor) -> Tensor:
        cosine, sine = self.turn.to(wind)
        u, v = wind[..., 0, :, :], wind[..., 1, :, :]
        return torch.stack([u * cosine - v * sine, u * sine + v * cosine], dim=-3)

    def _back(self, wind: Tensor) -> Tensor:
        cosine, sine = self.turn.to(wind)
        east, north = wind[..., 0, :, :], wind[..., 1, :, :]
        return torch.stack([east * cosine + north * sine, north * cosine - east * sine], dim=-3)
