"""How networks answer once they are trained: in tiles, with fewer digits, compiled.

bfloat16 has eight bits of mantissa: what a network adds to the first guess is rounded to two or three digits, while
first guess, constraint and output keep single precision. Compiled networks need a C++ compiler, and half a minute
before their first answer. Every shape of a batch is compiled for itself, so that an answer is a function of its batch.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from finegrid.backbones.windows import Tiles
from finegrid.conventions import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Fine cells beyond which a domain is cut in tiles of half as many, unless the user says how.
_LARGE = 1 << 21
_COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Manner:
    """How networks answer.

    Attributes:
        tile: coarse cells along a side of the pieces for which they answer; None is the whole domain.
        precision: a name in PRECISIONS.
        compiled: whether they are compiled (`torch.compile`).

    Raises:
        InputError: on a size below one, another precision, and where there is no compiler.
    """

    tile: int | None = None
    precision: str = "float32"
    compiled: bool = False
    _tiles: Tiles | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tile is not None:
            object.__setattr__(self, "_tiles", Tiles(self.tile))  # it remembers how far networks see
        if self.precision not in PRECISIONS:
            raise InputError(
                f"got the precision '{self.precision}'; expected {' or '.join(PRECISIONS)}; choose another --precision"
            )
        if self.compiled and not any(map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))):
            raise InputError(
                f"got --compile without a C++ compiler; expected {' or '.join(_COMPILERS)} to be installed; install "
                "one, or leave --compile out"
            )

    def on(self, cells: int, factor: tuple[int, int]) -> Self:
        """The manner on a domain of so many fine cells: one that is large is cut."""
        if self.tile is not None or cells <= _LARGE:
            return self
        return replace(self, tile=max(1, math.isqrt(_LARGE // 2 // (factor[0] * factor[1]))))

    def answer(self, network: nn.Module, coarse: Tensor, *fields: Tensor | None) -> Tensor:
        """The answer of a backbone to coarse fields, static ones, others on the fine grid, and a condition."""
        if self.compiled and network._compiled_call_impl is None:
            network.compile(dynamic=False)
        if self.precision == "float32":
            return self._answer(network, coarse, *fields)
        with torch.autocast(coarse.device.type, PRECISIONS[self.precision]):
            return self._answer(network, coarse, *fields).float()

    def _answer(self, network: nn.Module, coarse: Tensor, *fields: Tensor | None) -> Tensor:
        if self._tiles is not None:
            return self._tiles.through(network, coarse, *fields)
        answer: Tensor = network(coarse, *fields)
        return answer
