"""Times that a model has not seen: opened, checked against those of its training, and predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.conventions.errors import provenance
from finegrid.data import Writer, open_fields
from finegrid.data.traces import traces
from finegrid.data.working import Workers, alone
from finegrid.downscalers import Downscaler
from finegrid.pipeline.material import cropped, in_period
from finegrid.pipeline.recipe import FILE, Recipe

Paths = str | Path | Sequence[str | Path]


def opened(model: Path, coarse: Paths | None, fine: Paths | None, on: str | None) -> tuple[xr.Dataset, xr.Dataset]:
    """Coarse fields and the truth of the period, lazily."""
    if coarse is not None and fine is not None:
        return in_period(open_fields(coarse), on, "--on"), in_period(open_fields(fine), on, "--on")
    if not (model / FILE).exists():
        raise InputError(
            f"got {model} without a {FILE} and not both files; expected files of what went in and of what came true; "
            "say --coarse and --fine"
        )
    if on is None and coarse is None and fine is None:
        raise InputError(
            "got neither a period nor files of its own to calibrate on; expected times that the model was not trained "
            "on; say --on 2001/2005, or --coarse and --fine"
        )
    data = Recipe.read(model / FILE).data
    low = open_fields(data.coarse if coarse is None else coarse)
    high = cropped(open_fields(data.fine if fine is None else fine), data.crop)
    return in_period(low, on, "--on"), in_period(high, on, "--on")


def check_whole(downscaler: Downscaler, truth: xr.Dataset) -> None:
    """Whether all variables of a model were observed: members are projected as a whole.

    Raises:
        InputError: where one is lacking.
    """
    known = harmonise(truth)[0]
    lacking = [name for name in downscaler.domain.outputs if name not in known]
    if lacking:
        raise InputError(
            f"got observed fields without {', '.join(lacking)}; expected all that the model predicts: "
            f"{', '.join(downscaler.domain.outputs)}; add them to --fine, or fit a model of the others alone"
        )


def shared_at_most(downscaler: Downscaler, truth: xr.Dataset, overlap: bool) -> int:
    """Training times among those of the truth.

    Raises:
        InputError: where there are some, and no overlap is allowed.
    """
    shared = _shared(downscaler, truth)
    if shared and not overlap:
        raise InputError(
            f"got {shared} calibration times that the model was trained on; expected later or other ones, since of "
            "these its errors are too small; choose another --on, or say --overlap, which is recorded"
        )
    return shared


def _shared(downscaler: Downscaler, truth: xr.Dataset) -> int:
    """Calibration times within the training period, or with the values of training times."""
    domain, standard = downscaler.domain, harmonise(truth)[0]
    first, last = domain.period
    shared = sum(first <= str(each)[:19] <= last for each in standard.time.values)
    names = [name for name in domain.outputs if name in standard]
    if shared or not domain.traces or len(names) < len(domain.outputs):
        return shared
    known = set(domain.traces)
    found = sum(each in known for each in traces(standard, names))
    # Only some of the training times are known by their values.
    return round(found / len(known) * domain.times)


@contextmanager
def predicted(
    downscaler: Downscaler,
    coarse: xr.Dataset,
    model: Path,
    members: int,
    seed: int,
    progress: Callable[[int, int], None],
    workers: Workers = alone,
) -> Iterator[xr.Dataset]:
    """Members of the period, in a file beside the model for so long, so that they need not fit in memory."""
    source = provenance(coarse, otherwise="the coarse input")
    given = downscaler.read(coarse, source=source)
    done, total = 0, harmonise(coarse)[0].sizes["time"]
    with tempfile.TemporaryDirectory(dir=model, prefix=".calibration") as folder:
        path = Path(folder) / "members.nc"
        with Writer(path, compression=0) as writer:
            for block in downscaler.blocks(given, members=members, seed=seed, source=source, workers=workers):
                writer.append(block)
                done += block.sizes[downscaler.domain.names.time]
                progress(done, total)
        fields = open_fields(path)
        try:
            yield fields
        finally:
            fields.close()


def period_of(truth: xr.Dataset) -> str:
    """First and last time, and how many."""
    times = harmonise(truth)[0].time.values
    return f"{str(times[0])[:16]} to {str(times[-1])[:16]}, {len(times)} times"
