"""What a prediction cost: time for each step and memory, and what its training took, where these were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from finegrid.evaluation.parts.base import Part, markdown_table
from finegrid.evaluation.wording import number

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured figures; None where nobody measured.

    Attributes:
        seconds: wall time of the whole prediction.
        times: time steps of it.
        members: of the ensemble.
        memory: most bytes that the process held, all of its libraries among them.
        training_seconds: wall time of training a network.
        fitting_seconds: wall time of making the model: fitting it, and judging it on its test times.
        parameters: numbers that were trained by gradient.
        model_bytes: size of the model on disk.
        device: where it was trained.
    """

    seconds: float | None = None
    times: int | None = None
    members: int | None = None
    memory: int | None = None
    training_seconds: float | None = None
    fitting_seconds: float | None = None
    parameters: int | None = None
    model_bytes: int | None = None
    device: str = ""

    @property
    def per_time(self) -> float | None:
        """Seconds for each time step, all members together."""
        return self.seconds / self.times if self.seconds is not None and self.times else None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The cost of which these are the plain values of its part."""
        return cls(**{each.name: plain[each.name] for each in fields(cls) if each.name in plain})

    def part(self) -> list[Part]:
        """The part of a report; nothing where nothing was measured."""
        rows = [[words, value] for words, value in self.words.items()]
        if not rows:
            return []
        words = (
            "Measured on the machine that did the work, with reading and writing where there was some. Other machines, "
            "and other loads, give other figures."
        )
        plain = {key: value for key, value in {**asdict(self), "seconds_per_time": self.per_time}.items() if value}
        return [Part("cost", "Cost", ((words, markdown_table(("what", "measured"), rows)),), plain)]

    @property
    def words(self) -> Mapping[str, str]:
        """What was measured, in words with units."""
        members = f", {self.members} members" if self.members and self.members > 1 else ""
        known = {
            f"prediction of a time step{members}": _seconds(self.per_time),
            f"prediction of all {self.times} time steps": _seconds(self.seconds),
            "most memory of the process": _bytes(self.memory),
            "training" + (f", on {self.device}" if self.device else ""): _seconds(self.training_seconds),
            "fitting the model and judging it": _seconds(self.fitting_seconds),
            "parameters that were trained": None if self.parameters is None else f"{self.parameters:,}",
            "size of the model on disk": _bytes(self.model_bytes),
        }
        return {words: value for words, value in known.items() if value is not None}


def _seconds(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{number(1000 * value)} ms" if value < 1 else f"{number(value)} s"


def _bytes(value: int | None) -> str | None:
    return None if value is None else f"{number(value / _MIB)} MiB"
