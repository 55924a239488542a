"""A network that learns from patches of an archive: survey, head for one patch, head for the whole domain.

    1. a sample of the training times chooses transforms, features and the strength of the regression
    2. one pass counts all of them (`survey`)
    3. a head that is built for a window learns from patches (`patches`); it has no learnt positions
    4. its weights become those of a head for the domain, which answers in tiles (`backbones.windows`)

The regression is not cross-fitted: of n times and p predictors its residuals in training are smaller than others by a
part p / n, which is nothing in an archive of thousands of times, and would cost as many passes as there are folds.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones import BACKBONES
from finegrid.backbones.manner import Manner
from finegrid.backbones.windows import Window
from finegrid.bridge import BlockMean, to_tensor
from finegrid.conventions import InputError
from finegrid.conventions.components import table_of, word_of
from finegrid.data.pairs import pair
from finegrid.data.predictors import static_fields
from finegrid.data.splits import Indices
from finegrid.downscalers.archive.blocks import Archive, step_bytes
from finegrid.downscalers.archive.counting import one_reading
from finegrid.downscalers.archive.patches import Judged, Patches, PlaceAt, chances, joined, windows_of
from finegrid.downscalers.archive.survey import SAMPLE_BYTES, one_pass, surveyed
from finegrid.downscalers.conservation import Conservation, Given
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.fitting import Fitting, time_blocks
from finegrid.downscalers.linear import LinearMap
from finegrid.downscalers.plan import Plan, Table, backbone_of
from finegrid.downscalers.strength import learn_strength
from finegrid.heads import Head, Place
from finegrid.training import Samples, chosen_device, train

# Bytes of the fine fields of a shard; the first guess takes as much again.
_SHARD_BYTES = 64_000_000
_JUDGED_TIMES, _JUDGED_WINDOWS = 8, 16
# Fine cells from which a head learns, after training, how far it is off.
_SETTLING_CELLS = 1 << 22
# What backbones learn for places, and how they do without.
_FOR_PLACES = {"embedding": 0, "cell_bias": False}


def learn_from_archive(
    of: Any, coarse: xr.Dataset, fine: xr.Dataset, validate: float | xr.DataArray, how: Fitting
) -> None:
    """Fit a network to lazy fields, of which it reads pieces.

    Args:
        of: an unfitted NeuralDownscaler.
        coarse: coarse fields, in any names.
        fine: fine fields, in any names.
        validate: part of the times, or the times themselves, that choose the weights.
        how: the circumstances of the fit.

    Raises:
        InputError: on files that do not fit together, and options that need whole fields.
    """
    _check(of)
    lazy = pair(coarse, fine, variables=of.variables, predictors=of.predictors, lazy=True)
    blocks = time_blocks(lazy.coarse.time, validate)
    school = _School(of, Archive.of(lazy), *blocks, how)
    of._notes_of_archive = [advice] if (advice := school.archive.advice()) else []
    school.survey()
    school.train()


def placeless(backbone: Table) -> dict[str, Any]:
    """A backbone without what it would learn for places: patches are everywhere."""
    table, kind = table_of(backbone), BACKBONES.get(word_of(backbone))
    known = {} if kind is None else inspect.signature(kind).parameters
    return {**table, **{name: none for name, none in _FOR_PLACES.items() if name in known}}


class _School:
    """One fit."""

    def __init__(self, of: Any, archive: Archive, fit: Indices, validate: Indices, how: Fitting) -> None:
        self.of, self.archive, self.fit, self.validate, self.how = of, archive, fit, validate, how
        self.sample = archive.sample(fit, SAMPLE_BYTES)
        self._last: Tensor | None = None

    def survey(self) -> None:
        """Fix domain, constraint, climatology and first guess."""
        of = self.of
        of._settle(self.sample)
        mean = of._mean = of._fresh_mean()
        learner = one_pass(mean)
        found = surveyed(of, learner, self.archive, self.sample, self.pieces(self.fit), self.how)
        self.pair = found.pair
        if mean is not None:
            mean._domain, mean._conservation = of.domain, of._additive()
        if found.sums and len(self.validate):
            quietly = replace(self.how, progress=False)
            unseen = self.pieces(self.validate)
            one_reading(self.archive.pair, unseen, found.sums, halo=of._reach, how=quietly, counts=False)
            self._last = found.sums[0].weights()

    def train(self) -> None:
        """Learn from patches, and become the head of the domain."""
        of, settings = self.of, self.of.settings
        torch.manual_seed(settings.seed)
        of.backbone = placeless(backbone_of(of.backbone, of.head))
        guess = of._reference(self.sample.coarse)
        static = None if self.how.static is None else static_fields(self.how.static, of.domain.grid)
        links = [of._transform(name, self.sample.fine[name]) for name in of.domain.outputs]
        plan = of._plan = Plan.of(
            of._planned(self.sample), links, self.sample, guess, static, sees_reference=of._mean is not None
        )
        place = plan.place(of.conservation)
        device = chosen_device(settings.device)
        of.conservation.to(device)
        windows = windows_of(of.domain.inputs.grid.shape, settings.patch or 1)
        at = partial(_place_at, place, of.conservation, of.domain)
        head = plan.head(of.head, of.backbone, of.loss, of.conservation, networks=of.networks, place=at(windows[0]))
        whole = of._untrained(plan)
        _check_shapes(head, whole)
        patches = self._patches(plan, windows, place, at)
        try:
            outcome = train(
                head,
                patches,
                settings,
                validation=self._judged(plan, windows, at),
                folder=self.how.folder,
                fingerprint=of._fingerprint(self.sample, guess) + str(len(self.fit)),
                resume=self.how.resume,
                progress=self.how.progress,
            )
        finally:
            patches.close()
        _hand_over(head, whole)
        of._head = whole.eval()
        of._outcome = {**asdict(outcome), "records": [dict(each) for each in outcome.records]}
        self._settle(whole, plan)

    def _settle(self, whole: Head, plan: Plan) -> None:
        """What is learnt once the weights are known, from whole fields of times that they have not seen."""
        of, unseen = self.of, self.validate if len(self.validate) else self.fit
        count = int(np.clip(_SETTLING_CELLS // of.domain.grid.size, 2, 64))
        samples = self._times(plan, unseen, count).to(of.settings.device if of.settings.device != "auto" else "cpu")
        with torch.no_grad():
            whole.answering(Manner(of.settings.patch)).settle(samples.fine, samples.given)
        whole.answering(Manner())
        if self._last is not None and isinstance(of._mean, LinearMap):
            of._mean._weights = self._last
        if of.conservation.learns:
            # Of the validation times as many as a sample has, of which the strength is one number.
            judged = replace(self.archive.sample(unseen, SAMPLE_BYTES // 4), grid=of.domain.grid)
            everything = np.arange(judged.fine.sizes["time"])
            learn_strength(of, judged, everything, everything if len(self.validate) else everything[:0])

    def _patches(self, plan: Plan, windows: Sequence[Window], place: Place, at: PlaceAt) -> Patches:
        settings, pieces = self.of.settings, self.pieces(self.fit)
        one = max(1, len(pieces[0])) * step_bytes(self.pair)
        together = max(1, -(-settings.batch // len(pieces[0])), _SHARD_BYTES // one)
        height = _height(plan) if settings.balance == "elevation" else None
        return Patches(
            pieces=pieces,
            read=partial(self._samples, plan),
            windows=windows,
            chances=chances(windows, place.weight, height),
            place=at,
            together=together,
            size=settings.batch,
            seed=settings.seed,
        )

    def _judged(self, plan: Plan, windows: Sequence[Window], at: PlaceAt) -> Judged | None:
        if not len(self.validate):
            return None
        known = [each for each in windows if float(at(each).weight.sum()) > 0]
        kept = np.unique(np.linspace(0, len(known) - 1, min(_JUDGED_WINDOWS, len(known))).round().astype(int))
        return Judged(self._times(plan, self.validate, _JUDGED_TIMES), [known[each] for each in kept], at)

    def _times(self, plan: Plan, times: Indices, count: int) -> Samples:
        """Whole fields of some of these times, evenly spread."""
        chosen = np.unique(np.linspace(0, len(times) - 1, min(count, len(times))).round().astype(int))
        return joined([self._samples(plan, range(times[each], times[each] + 1)) for each in chosen])

    def _samples(self, plan: Plan, piece: range) -> Samples:
        """Whole fields of a piece of the archive."""
        part, inner = self.archive.read(piece, self.of._reach)
        blocks = to_tensor(part.coarse, self.of.domain.outputs)
        given = Given(blocks, self.of.conservation.given(part.coarse).high)
        samples = plan.samples(replace(part, grid=self.of.domain.grid), given, self.of._reference(part.coarse))
        return Samples(*samples.at(inner))

    def pieces(self, times: Indices) -> list[range]:
        """The pieces of the archive that hold these times, without others."""
        return self.archive.pieces_of(times)


def _check(of: Any) -> None:
    """What needs whole fields, or the whole record at once."""
    for option, value in (("adjust", of.adjust), ("training.augment", of.settings.augment.replace("none", ""))):
        if value:
            raise InputError(
                f"got {option}: {value} for training on patches; expected none, because it needs whole fields; leave "
                "it out"
            )


def _place_at(place: Place, conservation: Conservation, domain: Domain, window: Window) -> Place:
    """The domain on a window, with the constraint on its blocks."""
    (top, bottom), (left, right), (fy, fx) = window.rows, window.columns, domain.factor
    part = np.s_[top * fy : bottom * fy, left * fx : right * fx]
    mask = None if domain.grid.mask is None else domain.grid.mask[part]
    own = replace(conservation, operator=BlockMean(domain.grid.area[part], domain.factor, mask=mask))
    return place.within(window, own.project, own.penalty if own.has_penalty else None)


def _check_shapes(patch: Head, whole: Head) -> None:
    """Raises where something is learnt for the domain that a patch does not have."""
    theirs = whole.state_dict()
    bound = [name for name, each in patch.state_dict().items() if each.shape != theirs[name].shape]
    if bound and not whole.settles_shapes:
        raise InputError(
            f"the head keeps {bound[0]} for every cell of its domain, which patches cannot teach; expected a head or "
            "noise that is the same everywhere; choose another downscaler.head, or leave training.patch out"
        )


def _hand_over(patch: Head, whole: Head) -> None:
    own = whole.state_dict()
    learnt = {name: each for name, each in patch.state_dict().items() if each.shape == own[name].shape}
    whole.load_state_dict(own | learnt)


def _height(plan: Plan) -> Tensor:
    """Heights of the fine cells.

    Raises:
        InputError: where no static field holds them.
    """
    known = [] if plan.static is None else list(map(str, plan.static.data_vars))
    slopes = [name for name in known if f"{name}_slope" in known]
    if plan.static is None or not slopes:
        raise InputError(
            f"got balance: elevation and the static fields {', '.join(known) or 'none'}; expected elevation among "
            "them; add its file to data.static, or set training.balance to area"
        )
    return to_tensor(plan.static, slopes[:1])[0, 0]
