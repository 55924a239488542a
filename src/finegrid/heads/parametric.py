"""Members from a distribution in every cell, whose parameters a network says, and noise that joins cells.

    parameters = network(seen),      z = noise,      y_m = quantile(parameters, Phi(z_m)),      then the constraint

It learns by the score of each cell's distribution; the constraint acts on members, not on the distribution. What the
distribution leaves open is how cells go together: the noise learns that in the end (`settle`), from the normal scores
of times that the weights have not seen. The network is called once for any number of members.

Residual families (normal, Student's t, quantiles, mixtures) describe the departure from the first guess in
transformed units. Rain families (Bernoulli-gamma, censored shifted gamma) describe physical values, in units of the
first guess's error, around the first guess.

Source: Schefzik, Thorarinsdottir and Gneiting, "Uncertainty Quantification in Complex Simulation Models Using
Ensemble Copula Coupling", Statistical Science 28, 2013, doi:10.1214/13-STS443, for marginals and a copula; each
distribution names its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import build, nearest
from finegrid.heads.base import Conditions, Projection
from finegrid.heads.distributions import DISTRIBUTIONS, Distribution
from finegrid.heads.distributions.quantiles import LEVELS
from finegrid.heads.draws import Draws
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.noises import NOISES, HeavyTailed, Noise
from finegrid.heads.space import Problem, Seen
from finegrid.losses.base import weighted_mean

Table = str | Mapping[str, Any]

# Samples at once where the noise learns.
_BATCH = 32


class ParametricHead(GenerativeHead):
    """A distribution in every cell.

    Args:
        problem: what it is built for.
        distribution: family, by name or table.
        variables: other families for some of the variables, by name of the variable.
        noise: base noise by which cells go together, by name or table; its values have to be normal.
    """

    settles_shapes: ClassVar[bool] = True

    def __init__(
        self,
        problem: Problem,
        *,
        distribution: Table = "gaussian",
        variables: Mapping[str, Table] | None = None,
        noise: Table = "smooth",
    ) -> None:
        super().__init__(problem)
        self.distributions = _families(problem, distribution, variables or {})
        self.noise = normal_noise(problem, noise)
        self.network = problem.network(outputs=sum(each.count for each in self.distributions))

    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        members, seen = len(draws) // len(given), self.space.see(given)
        answer = seen.through(self.network).repeat(members, 1, 1, 1)
        several = seen.repeated(members)
        field = self._fields(answer, several, draws).to(given.reference.dtype)
        admissible = (project or self.space.place.project)(field, several.given)
        return admissible.reshape(members, len(given), *admissible.shape[1:])

    @torch.no_grad()
    def settle(self, fine: Tensor, given: Conditions) -> None:
        starts = range(0, len(fine), _BATCH)
        parts = [self._scores(fine[s : s + _BATCH], given.at(slice(s, s + _BATCH))) for s in starts]
        if parts:
            self.noise.fit(torch.cat(parts), self.space.weight_of(fine))

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        answer, place = seen.through(self.network), self.space.place
        scores = []
        for output, family, parameters in self._each(answer, seen):
            truth = self._truth(output, family, fine, seen)
            # filled before the score, not after: the gradient of a score of NaN is NaN
            scores.append(family.loss(parameters, truth.nan_to_num(nan=0.0)))
        value = weighted_mean(torch.stack(scores, dim=1), self.space.weight_of(fine))
        if place.penalty is None:
            return value
        return value + place.penalty(self._physical(answer, seen, torch.zeros_like(fine)), seen.given)

    def _judged(self, fine: Tensor, seen: Seen) -> Tensor:
        return self._loss(fine, seen)

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        return self.space.residual(self._fields(seen.through(self.network), seen, draws), seen)

    def _fields(self, answer: Tensor, seen: Seen, draws: Draws) -> Tensor:
        """Physical fields (n, output, H, W), before the constraint."""
        return self._physical(answer, seen, self.noise(draws, self.space.outputs))

    def _physical(self, answer: Tensor, seen: Seen, scores: Tensor) -> Tensor:
        """Physical fields at normal scores (n, output, H, W)."""
        residual, amount = torch.zeros_like(scores), torch.zeros_like(scores)
        for output, family, parameters in self._each(answer, seen):
            target = residual if family.of_residual else amount
            target[:, output] = family.value(parameters, scores[:, output])
        field = self.space.physical(residual, seen)
        physical = torch.tensor([not each.of_residual for each in self.distributions], device=field.device)
        return torch.where(physical[:, None, None], amount * self.space.scale, field)

    def _scores(self, fine: Tensor, given: Conditions) -> Tensor:
        """Normal scores of true fields (n, output, H, W); what is missing has none, and counts nothing."""
        seen = self.space.see(given)
        scores = []
        for output, family, parameters in self._each(seen.through(self.network), seen):
            truth = self._truth(output, family, fine, seen).nan_to_num(nan=0.0)
            # Dry cells stand in the middle of the dry part: drawn within it they would look like white noise.
            scores.append(family.score(parameters, truth, torch.full_like(truth, 0.5)))
        return torch.stack(scores, dim=1)

    def _truth(self, output: int, family: Distribution, fine: Tensor, seen: Seen) -> Tensor:
        """True values of an output (n, H, W), as its family counts them."""
        if family.of_residual:
            return self.space.residual(fine, seen)[:, output]
        return fine[:, output] / self.space.scale[output]

    def _each(self, answer: Tensor, seen: Seen) -> Iterator[tuple[int, Distribution, Tensor]]:
        """Output, family and parameters (P, n, H, W)."""
        parts = torch.split(answer.float(), [each.count for each in self.distributions], dim=1)
        for output, (family, part) in enumerate(zip(self.distributions, parts, strict=True)):
            parameters = part.movedim(1, 0)
            if not family.of_residual:
                guess = seen.given.reference[:, output].nan_to_num(nan=0.0) / self.space.scale[output]
                parameters = family.about(parameters, guess.to(parameters.dtype))
            yield output, family, parameters


class GaussianHead(ParametricHead):
    """Normal residuals."""

    def __init__(self, problem: Problem, *, noise: Table = "smooth") -> None:
        super().__init__(problem, distribution="gaussian", noise=noise)


class StudentTHead(ParametricHead):
    """Residuals with tails as heavy as they are.

    Args:
        score: by which it learns, crps or log; log sees more of the tails.
    """

    def __init__(self, problem: Problem, *, noise: Table = "smooth", score: str = "crps") -> None:
        super().__init__(problem, distribution={"name": "student-t", "score": score}, noise=noise)


class BernoulliGammaHead(ParametricHead):
    """Rain: dry or wet, and how much.

    Args:
        threshold: what counts as wet, in units of the first guess's error.
    """

    def __init__(self, problem: Problem, *, noise: Table = "smooth", threshold: float = 0.01) -> None:
        table = {"name": "bernoulli-gamma", "threshold": threshold}
        super().__init__(problem, distribution=table, noise=noise)


class CensoredGammaHead(ParametricHead):
    """Rain: one distribution for whether and how much."""

    def __init__(self, problem: Problem, *, noise: Table = "smooth") -> None:
        super().__init__(problem, distribution="csgd", noise=noise)


class QuantilesHead(ParametricHead):
    """Residuals of any shape.

    Args:
        levels: probabilities of the quantiles.
    """

    def __init__(self, problem: Problem, *, noise: Table = "smooth", levels: Sequence[float] = LEVELS) -> None:
        table = {"name": "quantiles", "levels": levels}
        super().__init__(problem, distribution=table, noise=noise)


class MixtureHead(ParametricHead):
    """Residuals with several modes.

    Args:
        components: number of normals.
    """

    def __init__(self, problem: Problem, *, noise: Table = "smooth", components: int = 3) -> None:
        table = {"name": "mixture", "components": components}
        super().__init__(problem, distribution=table, noise=noise)


def normal_noise(problem: Problem, noise: Table) -> Noise:
    """Base noise whose values are normal scores.

    Raises:
        InputError: on noise with other tails.
    """
    made = build(noise, NOISES, "noise", place=problem.space.place, outputs=problem.space.outputs)
    if isinstance(made, HeavyTailed):
        raise InputError(
            "got noise: heavy-tailed for a head whose distribution has tails of its own; expected noise with normal "
            "values: white, smooth or spherical; use noise: smooth and distribution: student-t"
        )
    return made


def _families(problem: Problem, usual: Table, others: Mapping[str, Table]) -> tuple[Distribution, ...]:
    for name in others:
        if name not in problem.variables:
            raise InputError(
                f"got a distribution for the variable '{name}'; expected one of {', '.join(problem.variables)}; "
                f"change downscaler.head.variables.{nearest(name, problem.variables)}"
            )
    names = problem.variables or ("",) * problem.space.outputs
    return tuple(build(others.get(name, usual), DISTRIBUTIONS, "distribution") for name in names)
