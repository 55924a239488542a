"""What relations between variables have in common: their channels by name, and a check of what they promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from finegrid.constraints.base import Aggregation, relative_error
from finegrid.conventions import InputError


class Relation(nn.Module, ABC):
    """A constraint on several variables, whose channels come in the order of `variables`.

    Attributes:
        roles: usual names of the variables in their order, by which they are found unless the user names them.
        variables: their names.
        derived: channels that follow from the others: they have no coarse value of their own.
    """

    conserves: ClassVar[bool] = True
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[tuple[str, ...]]
    variables: tuple[str, ...]
    derived: tuple[int, ...] = ()

    @abstractmethod
    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """The fields that conserve and obey the relation."""

    @abstractmethod
    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """How far each sample is from obeying the relation, relative to the size of the fields; (...,)."""

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self.project(fine, coarse, operator)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """The larger of the error of conservation and the disorder of each sample."""
        kept = [index for index in range(fine.shape[-3]) if index not in self.derived]
        error = relative_error(fine[..., kept, :, :], coarse[..., kept, :, :], operator).amax((-3, -2, -1))
        return torch.maximum(error, self.disorder(fine.detach(), operator).to(error))


def checked(name: str, variables: Sequence[str], *, least: int, most: int | None = None) -> tuple[str, ...]:
    """The names of a relation.

    Raises:
        InputError: when there are too few or too many.
    """
    if len(variables) < least or (most is not None and len(variables) > most):
        wanted = f"{least}" if most == least else f"at least {least}" if most is None else f"{least} to {most}"
        raise InputError(
            f"the constraint '{name}' got {len(variables)} variable(s) ({', '.join(variables) or 'none'}); it relates "
            f"{wanted}; name them: {{name: {name}, variables: [...]}}"
        )
    return tuple(variables)


def excess(wrong: Tensor, fields: Tensor, operator: Aggregation) -> Tensor:
    """The largest of what is above zero, over the mean size of the fields, in cells of coarse cells; (...,)."""
    top = operator.max(wrong.clamp(min=0)).amax((-3, -2, -1))
    size = operator.mean(fields.abs()).mean((-3, -2, -1))
    return top / size.clamp(min=torch.finfo(size.dtype).tiny)
