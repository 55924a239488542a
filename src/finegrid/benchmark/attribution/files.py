"""A saved model and coarse files to a file of attributions and a picture, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegrid import __version__
from finegrid.benchmark.attribution.aggregate import Aggregate, aggregate
from finegrid.benchmark.attribution.fields import USUAL, attribute
from finegrid.benchmark.attribution.kinds import ATTRIBUTIONS
from finegrid.benchmark.attribution.targets import Target
from finegrid.conventions import InputError
from finegrid.data import Writer, open_fields
from finegrid.downscalers import Downscaler, load
from finegrid.pipeline.history import history_of
from finegrid.pipeline.naming import name_of

# Departure from completeness that a person should know of.
_INCOMPLETE = 0.05


@dataclass(frozen=True, eq=False)
class Written:
    """What was written.

    Attributes:
        path: the file of attributions.
        picture: the picture.
        aggregate: maps over the times.
        words: what was found, in sentences.
    """

    path: Path
    picture: Path
    aggregate: Aggregate
    words: tuple[str, ...]


def attribute_files(
    model: str | Path | Downscaler,
    coarse: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    target: Target | None = None,
    method: str | Mapping[str, Any] = USUAL,
    baseline: str | Sequence[str | Path] | None = None,
    time: str | None = None,
    members: int | None = None,
    seed: int = 0,
    command: str | None = None,
    progress: bool = False,
) -> Written:
    """Attribute predictions to coarse files, and write the maps and a picture of their means beside them.

    Args:
        model: model folder, or a fitted downscaler.
        coarse: coarse files, patterns included.
        out: NetCDF file (.nc) or Zarr folder (.zarr); the picture has the same name and ends in .png.
        target: the number that is attributed.
        method: name or table of a method.
        baseline: "climate", "zero", "record", or coarse files.
        time: period that is attributed.
        members: size of the ensemble whose mean is attributed.
        seed: of the members.
        command: what to note in the history; by default the command line.
        progress: show a bar.

    Raises:
        InputError: when files do not suit the model, or the output cannot be written; nothing is left behind.
    """
    from finegrid.benchmark.attribution.figures import figure  # matplotlib is heavy

    downscaler = model if isinstance(model, Downscaler) else load(model)
    fields = open_fields(coarse)
    with Writer(out) as writer:  # before the work, so that a path that cannot be written is known at once
        found = attribute(
            downscaler,
            fields,
            target=target,
            method=method,
            baseline=baseline if baseline is None or isinstance(baseline, str) else open_fields(baseline),
            time=time,
            members=members,
            seed=seed,
            progress=progress,
        )
        writer.append(found)
        writer.set_attributes(
            source=f"finegrid {__version__}, attribution of {name_of(downscaler)}",
            finegrid_version=__version__,
            finegrid_model=downscaler.digest,
            finegrid_method=name_of(downscaler),
            history=history_of(fields, command),
        )
        together = aggregate(found)
        picture = figure(together, writer.path.with_suffix(".png"))
    return Written(writer.path, picture, together, words_of(together, found.attrs))


def words_of(found: Aggregate, about: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person wants to know first."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.share.items())
    within = np.cumsum(found.distance.sum("variable").values)
    half = float(found.distance["distance"].values[int(np.argmax(within >= 0.5 * within[-1]))])
    words = [
        f"The {about['attribution_target']}, {found.times} times: {shares} of what counts; half of it within "
        f"{half:.0f} km of the target."
    ]
    error = float(about["completeness_error"])
    if error > _INCOMPLETE:
        words.append(
            f"The parts missed the change by up to {error:.0%} at some time"
            + (
                "; what groups of cells do together is not theirs alone: --method shapley shares it out."
                if not ATTRIBUTIONS[about["attribution_method"]].complete
                else ", which was shared out; --method shapley is exact."
            )
        )
    return tuple(words)


def checked_baseline(words: Sequence[str] | None) -> str | list[str] | None:
    """A word, or files.

    Raises:
        InputError: when there are both.
    """
    from finegrid.benchmark.attribution.baselines import WORDS

    if not words:
        return None
    named = [word for word in words if word in WORDS]
    if named and len(words) > 1:
        raise InputError(f"got the baseline {' and '.join(words)}; expected one of {', '.join(WORDS)}, or files alone")
    return named[0] if named else list(words)
