"""A network with noise inside: one call a member.

    r_m = network(seen, e_m; z_m),      z ~ N(0, I) one vector for the whole field, e ~ N(0, 1) at fine cells, if any

The vector enters the conditional norms of every block (`backbones.blocks.Modulation`).

Source: Alet et al., "Skillful joint probabilistic weather forecasting from marginals" (FGN), 2025.
"""

from __future__ import annotations

from torch import Tensor, nn

from finegrid.conventions import InputError
from finegrid.heads.draws import Draws
from finegrid.heads.space import Problem, Seen


class InjectedNetwork(nn.Module):
    """The backbone of the recipe, with noise.

    Args:
        problem: what it is built for.
        vector: length of the noise vector.
        fields: fields of noise on the fine grid.
    """

    def __init__(self, problem: Problem, *, vector: int, fields: int) -> None:
        super().__init__()
        if vector < 1 or fields < 0:
            raise InputError(
                f"got vector: {vector} and fields: {fields} of noise; expected a vector of at least 1 and fields of at "
                "least 0; change downscaler.head"
            )
        self.vector, self.fields = vector, fields
        self.network = problem.network(fine=fields, condition=vector)

    def forward(self, seen: Seen, draws: Draws) -> Tensor:
        """One residual field for each sample that is seen (n, output, H, W)."""
        noise = [draws.normal(self.fields, *seen.start.shape[-2:])] if self.fields else []
        return seen.through(self.network, *noise, condition=draws.normal(self.vector))


def checked_members(train_members: int) -> int:
    """How many members a training step draws.

    Raises:
        InputError: on a single one.
    """
    if train_members < 2:
        raise InputError(
            f"got train_members: {train_members}; expected at least 2, without which there is no score of spread; "
            "change downscaler.head"
        )
    return train_members
