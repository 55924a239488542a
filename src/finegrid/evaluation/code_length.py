"""Code length: what a model of chances is worth in bits, beside what everyday compression makes of the same numbers.

>>> rows = code_lengths(truth, prediction, quantum=0.01)    # doctest: +SKIP
>>> print(markdown(rows))                                   # doctest: +SKIP

    ideal      -sum log2 p(k) / n         bits that the model asks for, for each of the n values
    coded      size of the code / n       what the range coder makes of it (`code_coder`)
    adjusted   (code + model) / n         with the table, the head, the gaps, and the size of what made a prediction

A model that gives the right chances leaves the fewest bits: code length is a proper score, and the archive that
proves it can be read back (`code_fields`). The adjusted rate keeps a model from knowing the answer by heart. Beside the
models stand `zlib` of the numbers (level 9), and `png`: Paeth's filter of their bytes within the rows of each time, and
zlib (ISO/IEC 15948).

Sources: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x; Deletang et al. 2024, arXiv:2309.10668.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.evaluation.alignment import Case, align
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.code_archive import packed_gaps
from finegrid.evaluation.code_coder import Symbols
from finegrid.evaluation.code_fields import DIFFERENCES, ENSEMBLE, PREDICTION, archive, filled, numbered
from finegrid.evaluation.metrics.code_length import STEPS
from finegrid.evaluation.metrics.reading import loaded
from finegrid.evaluation.wording import number, pretty

ZLIB, PNG = "zlib", "png"
_LEVEL = 9


@dataclass(frozen=True)
class CodeLength:
    """Bits of one variable by one model.

    Attributes:
        variable: of what.
        model: a name in `code_fields.MODELS`, "zlib" or "png".
        values: number n of values.
        quantum: to which they are kept, in the units of the variable.
        units: of the variable.
        ideal: -sum log2 p; NaN of what is no model of chances.
        coded: size of the code in bits.
        model_bits: size of what has to be known besides.
        note: why there is no code; empty where there is one.
    """

    variable: str
    model: str
    values: int
    quantum: float
    units: str
    ideal: float = np.nan
    coded: float = np.nan
    model_bits: float = np.nan
    note: str = ""

    @property
    def bits_per_value(self) -> float:
        """Of the code alone."""
        return self.coded / self.values

    @property
    def adjusted(self) -> float:
        """Bits a value with the size of the model."""
        return (self.coded + self.model_bits) / self.values

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        words = {name: getattr(self, name) for name in ("variable", "model", "values", "quantum", "units", "note")}
        rates = {"ideal": self.ideal / self.values, "coded": self.bits_per_value, "adjusted": self.adjusted}
        return {**words, **{name: float(rate) if np.isfinite(rate) else None for name, rate in rates.items()}}


def code_lengths(
    truth: xr.Dataset,
    prediction: xr.Dataset | None = None,
    *,
    variables: Sequence[str] | None = None,
    quantum: float | None = None,
    prediction_bytes: int = 0,
) -> list[CodeLength]:
    """Bits that each model and everyday compression need for the truth; one variable is held in memory at a time.

    Args:
        truth: fields to be coded, in the user's own names.
        prediction: of them, with or without members, on the same grid.
        variables: names in the truth; by default all, or those that the prediction has.
        quantum: to which values are kept, in their units; by default a thousandth of the range of each variable.
        prediction_bytes: size of what made the prediction, such as a model folder, shared among its variables evenly.

    Raises:
        InputError: when fields cannot be compared, or nothing is known.
    """
    cases = align({PREDICTION: truth if prediction is None else prediction}, truth, None, variables=variables)
    share = 8 * prediction_bytes / len(cases)
    return [row for case in cases for row in _rows(case, prediction is not None, quantum, share)]


def markdown(rows: Sequence[CodeLength]) -> str:
    """A table in Markdown of bits a value."""
    head = ["variable", "model", "quantum", "ideal", "coded", "adjusted", ""]
    lines = [
        [row.variable, row.model, f"{number(row.quantum)} {pretty(row.units)}".strip()]
        + [number(each) for each in (row.ideal / row.values, row.bits_per_value, row.adjusted)]
        + [row.note]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def png_bits(steps: Symbols) -> int:
    """Bits of whole numbers (time, y, x) that are not negative by Paeth's filter and zlib, an image for each time."""
    size = _bytes_a_number(steps)
    raw = np.frombuffer(steps.astype(f">u{size}").tobytes(), np.uint8).reshape(*steps.shape[:2], -1).astype(np.int16)
    return 8 * len(zlib.compress((raw - _paeth(raw, size)).astype(np.uint8).tobytes(), _LEVEL))


def zlib_bits(steps: Symbols) -> int:
    """Bits of whole numbers that are not negative by zlib."""
    return 8 * len(zlib.compress(steps.astype(f"<u{_bytes_a_number(steps)}").tobytes(), _LEVEL))


def _rows(case: Case, predicted: bool, quantum: float | None, prediction_bits: float) -> list[CodeLength]:
    values = loaded(case.truth, slice(None))
    quantum = _quantum(values, case.name) if quantum is None else quantum
    prediction = next(iter(case.predictions.values()))
    words = (case.name, int(np.isfinite(values).sum()), quantum, str(case.truth.attrs.get("units", "1")))
    rows = [_coded(values, model, words, None, 0.0) for model in DIFFERENCES]
    if predicted:
        rows += [_coded(values, model, words, prediction, prediction_bits) for model in (PREDICTION, ENSEMBLE)]
    return [*rows, *_everyday(values, words)]


def _coded(
    values: Array, model: str, words: tuple[str, int, float, str], prediction: xr.DataArray | None, outside: float
) -> CodeLength:
    name, count, quantum, units = words
    if model == ENSEMBLE and prediction is not None and prediction.sizes["member"] < 2:
        return CodeLength(name, model, count, quantum, units, note="a single prediction has no spread")
    found = archive(values, model=model, quantum=quantum, prediction=prediction)
    return CodeLength(name, model, count, quantum, units, found.ideal, found.streams.bits, found.model_bits + outside)


def _everyday(values: Array, words: tuple[str, int, float, str]) -> list[CodeLength]:
    name, count, quantum, units = words
    known = np.isfinite(values)
    steps = filled(numbered(values, float(values[known].min()), quantum), known)
    gaps = 8 * len(packed_gaps(known))
    return [
        CodeLength(name, model, count, quantum, units, coded=bits, model_bits=gaps)
        for model, bits in ((ZLIB, zlib_bits(steps)), (PNG, png_bits(steps)))
    ]


def _quantum(values: Array, name: str) -> float:
    extent = float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else 0.0
    if not extent > 0:
        raise InputError(
            f"got '{name}' with one value or none, which has no range; expected several, or a quantum; pass quantum=..."
        )
    return extent / STEPS


def _bytes_a_number(steps: Symbols) -> int:
    return 2 if steps.max(initial=0) < 1 << 16 else 4


def _paeth(raw: NDArray[np.int16], size: int) -> NDArray[np.int16]:
    """Paeth's prediction of bytes (time, y, byte): the neighbour nearest to the plane through all three."""
    west, north, corner = np.zeros_like(raw), np.zeros_like(raw), np.zeros_like(raw)
    west[..., size:], north[:, 1:], corner[:, 1:, size:] = raw[..., :-size], raw[:, :-1], raw[:, :-1, :-size]
    plane = west + north - corner
    away = [np.abs(plane - each) for each in (west, north, corner)]
    return np.asarray(np.choose(np.argmin(away, axis=0), [west, north, corner]), dtype=np.int16)
