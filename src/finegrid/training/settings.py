"""How long and how to train, as plain numbers that are checked when they are given.

A recipe holds these settings and the training loop reads them; nothing here needs a network, so that a recipe is
checked without one.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from finegrid.conventions.spans import Seconds

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Settings:
    """How long and how to train; `budget` (seconds) and `steps` end it, whichever is reached first.

    `warmup` is a fraction of the whole, `ema` the decay of the averaged weights (0: none), `clip` the largest
    norm of the gradient, `patience` the number of validations without progress before stopping.
    `augment: flips` mirrors and turns training samples at random, where fields have no direction (`augmentation`).
    `mixup` is the alpha of Beta(alpha, alpha) by which samples of a batch are mixed with each other (0: none).
    `patch` is the side, in coarse cells, of the windows of the domain that a step sees of an archive that is read piece
    by piece (None: whole fields, in memory); windows are drawn by area, or lowlands, hills and mountains alike with
    `balance: elevation`.
    `shard` shares weights, gradients and moments out among the processes of torchrun (`ranks`).
    `tensorboard` also writes events for TensorBoard beside the log.
    """

    budget: Seconds | None = 300.0
    steps: PositiveInt | None = None
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    clip: PositiveFloat | None = 1.0
    augment: Literal["none", "flips"] = "none"
    patch: PositiveInt | None = None
    balance: Literal["area", "elevation"] = "area"
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    patience: PositiveInt | None = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    seed: NonNegativeInt = 0
    checkpoint_minutes: PositiveFloat = 5.0
    shard: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.budget is None and self.steps is None:
            raise ValueError("training would never end. Give a budget, such as 5 min, or a number of steps")
