"""A model folder that remembers its training input, and what a job does with input of another kind.

guard.json, guard.safetensors     what the training input looked like (`evaluation.guard`), never a pickle

    warn      say what differs, in the notes and the attributes of the output, and draw it beside the output
    align     give the input the mean of the training input, or its distribution if that is not enough; say by how much
    refuse    stop, and say what differs
    off       do not look

Where the model adjusts the bias of its input, the input is looked at before the adjustment. Where the input is brought
to the climate of training by a reference, it is looked at afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from safetensors.numpy import load as arrays_of
from safetensors.numpy import save as bytes_of

from finegrid.conventions import InputError
from finegrid.conventions.documents import read_json, understood
from finegrid.conventions.paths import within
from finegrid.data import open_fields
from finegrid.downscalers import Downscaler, load
from finegrid.evaluation.guard import Alignment, Guard, Verdict
from finegrid.evaluation.guard.memory import LEAST_TIMES
from finegrid.evaluation.wording import number
from finegrid.pipeline.material import times_of_period

WAYS = ("warn", "align", "refuse", "off")
_STEM, _FORMAT = "guard", 2


@dataclass(frozen=True, eq=False)
class Guarded:
    """Input of a job after the guard has looked at it.

    Attributes:
        fields: as the model is to see them.
        verdict: what was found; None where nothing was compared.
        alignment: how the fields were changed; None where they were not.
        after: what is found of fields that were changed, or would have been.
    """

    fields: xr.Dataset
    verdict: Verdict | None = None
    alignment: Alignment | None = None
    after: Verdict | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know; nothing of input like that of training."""
        if self.verdict is None or not self.verdict.flagged:
            return ()
        return (*self.verdict.words, *([self._aligned] if self._aligned else []))

    @property
    def about(self) -> dict[str, Any]:
        """Attributes of the output."""
        if self.verdict is None:
            return {}
        aligned = {"finegrid_guard_alignment": self._aligned} if self._aligned else {}
        return {"finegrid_guard": "; ".join(self.verdict.words), **aligned}

    @property
    def _aligned(self) -> str:
        """By how much the input was changed, and what came of it; nothing where nobody asked for it."""
        if self.verdict is None or self.after is None:
            return ""
        before, after = (number(each.severity, digits=2) for each in (self.verdict, self.after))
        if self.alignment is None:
            return f"The input was not aligned: it would be no more like that of training (severity {before}, {after})"
        how = "is still unlike" if self.after.flagged else "is like"
        changed = self.alignment.words
        return (
            f"The input was aligned: {changed}; it {how} that of training now (severity {before} before, {after} after)"
        )

    def words(self, conservation: str) -> str:
        """A sentence about the conservation of the coarse field, which is the aligned one where it was aligned."""
        return conservation if self.alignment is None else conservation.replace("coarse field", "aligned coarse field")

    def draw(self, out: str | Path) -> None:
        """Draw what differs beside the output, where something does."""
        if self.verdict is not None and self.verdict.flagged:
            self.verdict.figure(Path(out).with_name(f"{Path(out).name}.guard.png"))


def learn(downscaler: Downscaler, coarse: xr.Dataset, folder: str | Path, *, seasonal: bool = True) -> Guard | None:
    """Write what the training input looked like into a model folder; nothing where it has too few times.

    Args:
        downscaler: the fitted model.
        coarse: the coarse fields that it has learnt from, in the user's names.
        folder: its folder.
        seasonal: whether calendar months mean something.
    """
    fields = _on_blocks(downscaler, downscaler.domain.inputs.read(coarse))
    if fields.sizes["time"] < LEAST_TIMES:
        return None
    guard = Guard.fit(fields, seasonal=seasonal)
    _save(guard, Path(folder), {"model": downscaler.digest, "times": fields.sizes["time"]})
    return guard


def guard_of(model: str | Path | Downscaler, downscaler: Downscaler) -> Guard | None:
    """The guard of a model folder; None where it has none, an older one, or that of another model.

    Raises:
        InputError: when a file was changed.
    """
    if isinstance(model, Downscaler) or not (Path(model) / f"{_STEM}.json").exists():
        return None
    with understood(Path(model) / f"{_STEM}.json", f"restore it from a copy, or remove it and {_STEM}.safetensors"):
        plain, arrays, facts = _read(Path(model))
        older = plain.pop("format") < _FORMAT
        return None if older or facts["model"] != downscaler.digest else Guard.remember(plain, arrays)


def guarded(
    model: str | Path | Downscaler, downscaler: Downscaler, fields: xr.Dataset, seen: xr.Dataset, times: slice, way: str
) -> Guarded:
    """Look at the input of a job before anything is computed.

    Args:
        model: model folder, or a fitted downscaler.
        downscaler: the model.
        fields: the coarse fields in the user's names.
        seen: the same as the model would see them, lazily.
        times: those of the job.
        way: one of `WAYS`.

    Raises:
        InputError: on another way; where there is no guard to align or refuse by; where input is refused, or cannot be
            aligned.
    """
    guard = _chosen(model, downscaler, way)
    if guard is None:
        return Guarded(seen)
    adjusts = downscaler.adjust is not None
    own = _on_blocks(downscaler, downscaler.domain.inputs.read(fields) if adjusts else seen).isel(time=times)
    verdict = guard.compare(own)
    if not verdict.flagged or way == "warn":
        return Guarded(seen, verdict)
    if way == "refuse":
        raise InputError(
            f"{'. '.join(verdict.words)}; expected input like that of training; align it with --guard align, bring "
            "another source to the climate of training with --reference, fit the model on such input, or say --guard "
            "warn"
        )
    tried = [(alignment, guard.compare(alignment(own))) for alignment in guard.alignments(own)]
    # Quantiles take more of the weather than the mean does: only where the mean is not enough.
    least = min(tried, key=lambda each: each[1].severity)
    alignment, after = next((each for each in tried if not each[1].flagged), least)
    if after.severity >= verdict.severity:
        return Guarded(seen, verdict, None, after)
    return Guarded(alignment(seen), verdict, alignment, after)


def _chosen(model: str | Path | Downscaler, downscaler: Downscaler, way: str) -> Guard | None:
    """The guard of a job; None where nothing is to be compared."""
    if way not in WAYS:
        raise InputError(f"got --guard {way}; expected one of {', '.join(WAYS)}")
    if way == "align" and downscaler.adjust is not None:
        raise InputError(
            "got --guard align for a model that adjusts the bias of its training source; expected one of the two; say "
            "--guard warn, or fit without --adjust"
        )
    guard = None if way == "off" else guard_of(model, downscaler)
    if guard is None and way in ("align", "refuse"):
        raise _unguarded(model, f"got --guard {way}")
    return guard


def judged(model: str | Path, coarse: str | Path | Sequence[str | Path], *, time: str | None = None) -> Verdict:
    """Compare files with the training input of a model.

    Raises:
        InputError: when the model has no guard, or the files do not suit it.
    """
    downscaler = load(model)
    guard = guard_of(model, downscaler)
    if guard is None:
        raise _unguarded(model, "got a model to compare with")
    fields = open_fields(coarse)
    given = _on_blocks(downscaler, downscaler.domain.inputs.read(fields))
    return guard.compare(given.isel(time=times_of_period(fields, time)))


def _on_blocks(downscaler: Downscaler, fields: xr.Dataset) -> xr.Dataset:
    """Of what was read, the fields on blocks in the units of the model."""
    inputs = downscaler.domain.inputs
    blocks = fields[list(inputs.channels)]
    units = {name: {"units": inputs.units[name]} if inputs.units[name] else {} for name in inputs.channels}
    return blocks.assign({name: blocks[name].assign_attrs(units[name]) for name in inputs.channels})


def _unguarded(model: object, got: str) -> InputError:
    return InputError(
        f"{got}, and {model} does not know what its training input looked like; expected a model folder as `finegrid "
        "fit` writes it now, with a guard.json; fit it again, or leave --guard out"
    )


def _save(guard: Guard, folder: Path, facts: Mapping[str, Any]) -> None:
    plain, arrays = guard.state()
    content = bytes_of({name: np.ascontiguousarray(each) for name, each in sorted(arrays.items())})
    described = {"format": _FORMAT, "arrays": hashlib.sha256(content).hexdigest(), **plain, "facts": dict(facts)}
    described["sha256"] = _sha256(described)
    for ending, written in (("safetensors", content), ("json", json.dumps(described, indent=1).encode())):
        temporary = folder / f".{_STEM}.{ending}.partial"
        temporary.write_bytes(written)
        temporary.replace(folder / f"{_STEM}.{ending}")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, Any]]:
    """Plain values, arrays and facts of the guard in a folder."""
    try:
        described = read_json(within(folder, f"{_STEM}.json"))
        content = within(folder, f"{_STEM}.safetensors").read_bytes()
        stated, arrays = described.pop("sha256"), described.pop("arrays")
        number_of_format, facts = described.pop("format"), described.pop("facts")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the guard in {folder} is damaged ({error}); expected {_STEM}.json and {_STEM}.safetensors as `finegrid "
            "fit` wrote them; restore them from a copy, or remove both"
        ) from None
    whole = {"format": number_of_format, "arrays": arrays, **described, "facts": facts}
    if _sha256(whole) != stated or hashlib.sha256(content).hexdigest() != arrays:
        raise InputError(
            f"the guard in {folder} was changed after it was written: its SHA-256 is not the one it states; expected "
            "the files as `finegrid fit` wrote them; restore them from a copy, or remove both"
        )
    if number_of_format > _FORMAT:
        raise InputError(
            f"got a guard of format {number_of_format}; this finegrid reads up to {_FORMAT}; upgrade finegrid"
        )
    return {**described, "format": number_of_format}, arrays_of(content), facts


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
