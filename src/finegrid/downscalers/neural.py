"""A network that refines a simpler downscaler.

    fine = constraint( mean downscaler(coarse) + head(coarse, time, place) )

The mean downscaler (per-cell ridge by default) is cross-fitted: on training times the network sees what copies of it
that had not learnt from those times predict. Otherwise it would be trained on residuals that are smaller than those it
meets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones.blocks import repeated
from finegrid.bridge import Layout, to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.predictors import static_fields, steps_since_epoch, useful_cycles
from finegrid.data.splits import Indices
from finegrid.data.transforms import fit_transform
from finegrid.downscalers.archive import learn_from_archive
from finegrid.downscalers.augmenting import symmetries
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.codecs import take_codecs
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.fitting import Fitting, not_fitted, whole_or_nothing
from finegrid.downscalers.nested import first_guesses, nested, unfitted
from finegrid.downscalers.plan import Plan, Table, backbone_of, kind_of, part
from finegrid.downscalers.resampling import resampled
from finegrid.heads import Draws, Head
from finegrid.training import Samples, Settings, chosen_device, train

# Fine cells in a call of the network: more of them leave the caches.
_CELLS = 1 << 17
_USUAL_MEMBERS = 20
# Settings that may change when a run goes on: when to save, and what is lowered after a loss that was no number.
_FREE = ("checkpoint_minutes", "learning_rate", "clip")
# Times from which a head learns, after training, how far it is off (a covariance needs many), and their fine cells.
_SETTLING, _SETTLING_CELLS = 4096, 1 << 22


@dataclass(kw_only=True)
class NeuralDownscaler(Downscaler):
    """Backbone, loss, constraint and mean downscaler, put together and trained.

    Args:
        backbone: network, by name or `{name: ..., **arguments}`; None is the usual one of the head.
        head: distribution of the fine fields, by name or `{name: ..., **arguments}`; "point" is a single best answer.
        networks: size of a committee of such networks: their mean is the answer of a point head; members of other heads
            are drawn from them in turn.
        loss: training loss, by name or `{name: ..., **arguments}`; None is that of the head.
        mean: downscaler whose prediction is refined, by name or table; None starts from the coarse value itself.
        views: how the network sees a coarse field: "value", and "departure" from its surroundings.
        frames: offsets in time steps of the coarse fields that the network sees.
        cycles: phases of time that the network sees; None is those that the record can teach.
        transforms: transform by variable where the usual one does not suit it, such as `{"pr": "log1p"}`; usual is the
            root for ensembles of rain and what is like it, and standardising for all else.
        settings: how long and how to train.
    """

    name: ClassVar[str] = "neural"
    validates: ClassVar[bool] = True
    constraint: Table = "add"
    backbone: Table | None = None
    head: Table = "point"
    networks: int = 1
    loss: Table | None = None
    mean: Table | None = "ridge"
    views: Sequence[str] = ("value", "departure")
    frames: Sequence[int] = (0,)
    cycles: Sequence[str] | None = None
    transforms: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    _mean: Downscaler | None = field(default=None, init=False, repr=False)
    _plan: Plan | None = field(default=None, init=False, repr=False)
    _head: Head | None = field(default=None, init=False, repr=False)
    _outcome: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _notes_of_archive: list[str] = field(default_factory=list, init=False, repr=False)

    def fit(
        self,
        coarse: xr.Dataset,
        fine: xr.Dataset,
        *,
        static: xr.Dataset | Sequence[xr.Dataset] | None = None,
        validate: float | xr.DataArray = 0.1,
        folder: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> Self:
        """Learn from whole fields in memory, or with `settings.patch` from patches of fields that may be on disk."""
        how = {"static": static, "validate": validate, "folder": folder, "resume": resume, "progress": progress}
        if self.settings.patch is None:
            return super().fit(coarse, fine, **how)  # type: ignore[arg-type]
        self.__dict__ = vars(type(self)(**self.options))
        with whole_or_nothing(self):
            where = None if folder is None else Path(folder)
            learn_from_archive(self, coarse, fine, validate, Fitting(static, where, resume, progress))
        return self

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        torch.manual_seed(self.settings.seed)
        training, validation = matched.at(fit_block), matched.at(validate_block)
        static = None if how.static is None else static_fields(how.static, self.domain.grid)
        self._mean = self._fresh_mean()
        reference = self._first_guesses(self._mean, training, Fitting(how.static))
        links = [self._transform(name, training.fine[name]) for name in self.domain.outputs]
        layout = self._planned(training)
        self._plan = Plan.of(layout, links, training, reference, static, sees_reference=self._mean is not None)
        device = chosen_device(self.settings.device)
        self.conservation.to(device)
        head = self._untrained(self._plan)
        take_codecs(head, self.domain, self._plan, self.options)
        self._head = head.placed(device)
        samples = self._plan.samples(training, self.conservation.given(training.coarse), reference)
        if self.settings.augment == "flips":
            samples = replace(samples, symmetries=symmetries(self._plan, self._head, self.domain))
        judges = self._judges(self._plan, validation)
        outcome = train(
            self._head,
            samples,
            self.settings,
            validation=judges,
            folder=how.folder,
            fingerprint=self._fingerprint(training, reference),
            resume=how.resume,
            progress=how.progress,
        )
        self._outcome = {**asdict(outcome), "records": [dict(each) for each in outcome.records]}
        times = max(64, min(_SETTLING, _SETTLING_CELLS // self.domain.grid.area.size))
        unseen = (samples if judges is None else judges).thinned(times).to(device)
        with torch.no_grad():
            self._head.settle(unseen.fine, unseen.given)
        if self._mean is not None and len(validate_block):
            # It needs no validation block: in the end it knows all times, as the same downscaler on its own would.
            self._mean._learn(matched, np.arange(len(matched.coarse.time)), validate_block[:0], Fitting(how.static))

    def fields(self, coarse: xr.Dataset) -> Tensor:
        """Constrained fine fields (time, output, H, W) of standard coarse fields, in physical units."""
        return self._members(coarse, 1, 0)[0]

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        return self.fields(coarse)

    def _members(self, coarse: xr.Dataset, members: int, seed: int) -> Tensor:
        plan, head = self._trained
        device = chosen_device(self.settings.device)
        self.conservation.to(device)
        self._manner = self._manner.on(self.domain.grid.size, self.domain.factor)
        head.placed(device).answering(self._manner)
        given = plan.conditions(coarse, self.conservation.given(coarse), self._reference(coarse))
        keys = [int(step) for step in steps_since_epoch(coarse.time, self.domain.step_seconds)]
        # Members of a few times rather than times of a few members: what the network sees is made once.
        batch = max(1, _CELLS // self.domain.grid.area.size)
        times = max(1, batch // members)
        parts = []
        for start in range(0, len(given), times):
            some, own = given.at(slice(start, start + times)).to(device), keys[start : start + times]
            groups = [range(first, min(first + batch, members)) for first in range(0, members, batch)]
            with torch.no_grad():
                drawn = [head.sample(some, Draws.of(seed, group, own, device)).cpu() for group in groups]
            parts.append(torch.cat(drawn))
        return torch.cat(parts, dim=1)

    @property
    def usual_members(self) -> int:  # type: ignore[override]
        return _USUAL_MEMBERS if kind_of(self.head).random else 1

    def _untrained(self, plan: Plan) -> Head:
        backbone = backbone_of(self.backbone, self.head)
        return plan.head(self.head, backbone, self.loss, self.conservation, networks=self.networks)

    def resampled(self, *, constraint: Table | None = None, **options: Any) -> NeuralDownscaler:
        """The same network, sampled in another way; see `resampling.resampled`."""
        made: NeuralDownscaler = resampled(self, constraint, options)
        return made

    @property
    def _trained(self) -> tuple[Plan, Head]:
        if self._plan is None or self._head is None:
            raise not_fitted(self)
        return self._plan, self._head

    @property
    def _reach(self) -> int:
        own = max(abs(offset) for offset in self.frames)
        return own if self.mean is None else max(own, unfitted(self.mean, self.predictors)._reach)

    @property
    def surroundings(self) -> float | None:
        return None if self.mean is None else unfitted(self.mean, self.predictors).surroundings

    def _fresh_mean(self) -> Downscaler | None:
        """The mean downscaler, fitted for nothing yet.

        It conserves where the whole does: by addition, which suits all.
        """
        if self.mean is None:
            return None
        mean = nested(self.mean, self)
        mean._conservation = self._additive()
        return mean

    def _additive(self) -> Conservation:
        own = self.conservation
        return Conservation.built("add" if own.conserves else "none", own.facts)

    def _first_guesses(self, mean: Downscaler | None, training: Pair, how: Fitting) -> Tensor:
        """First guesses on the training times, by copies that did not learn from them.

        The mean then learns from all.
        """
        if mean is None:
            return self._spread(training.coarse)
        return first_guesses(mean, training, how)

    def _reference(self, coarse: xr.Dataset) -> Tensor:
        return self._spread(coarse) if self._mean is None else self._mean.fields(coarse)

    def _spread(self, coarse: xr.Dataset) -> Tensor:
        return repeated(torch.nan_to_num(to_tensor(coarse, self.domain.outputs), nan=0.0), self.domain.factor)

    def _planned(self, training: Pair) -> Layout:
        names = self.domain.inputs.channels
        transforms = {name: self._transform(name, training.coarse[name]) for name in names}
        kinds = useful_cycles(training.coarse.time) if self.cycles is None else tuple(self.cycles)
        return self.domain.layout.with_features(
            frames=self.frames, cycles=kinds, views=self.views, transforms=transforms
        )

    def _transform(self, name: str, values: xr.DataArray) -> Any:
        return fit_transform(self.transforms.get(name, self._usual_transform(name, values)), values.values)

    def _usual_transform(self, name: str, values: xr.DataArray) -> str:
        """Of what is never negative and mostly small an ensemble is drawn in its root: noise makes no drizzle there."""
        if self.usual_members == 1 or name not in self.domain.outputs or self.domain.limits(name)[0] != 0:
            return "standardise"
        return "sqrt" if float(values.mean()) < float(values.std()) else "standardise"

    def _judges(self, plan: Plan, validation: Pair) -> Samples | None:
        if not len(validation.coarse.time):
            return None
        given = self.conservation.given(validation.coarse)
        return plan.samples(validation, given, self._reference(validation.coarse))

    def _fingerprint(self, training: Pair, reference: Tensor) -> str:
        """Identifies data and options to a checkpoint."""
        options = {name: str(value) for name, value in self.options.items() if name != "settings"}
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _FREE}
        values = hashlib.sha256(np.ascontiguousarray(reference.numpy()).tobytes())
        for name in self.domain.outputs:
            values.update(np.ascontiguousarray(training.fine[name].values).tobytes())
        values.update(json.dumps([options, settings], sort_keys=True, default=str).encode())
        return values.hexdigest()

    def _learnt(self) -> State:
        plan, head = self._trained
        plain, of_plan = plan.state()
        tensors = {f"network/{name}": each for name, each in head.state_dict().items()}
        tensors |= {f"plan/{name}": each for name, each in of_plan.items()}
        state: dict[str, Any] = {"plan": plain, "training": self._outcome}
        if self._mean is not None:
            state["mean"], of_mean = self._mean._learnt()
            tensors |= {f"mean/{name}": each for name, each in of_mean.items()}
        return state, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._plan = Plan.from_state(plain["plan"], part(tensors, "plan/"), self.domain.layout)
        self._mean = self._fresh_mean()
        if self._mean is not None:
            self._mean._remember(plain["mean"], part(tensors, "mean/"))
        head = self._untrained(self._plan)
        head.load_state_dict(part(tensors, "network/"))
        self._head = head.eval()
        self._outcome = dict(plain["training"])

    def _summary(self) -> dict[str, Any]:
        return {"training": {name: value for name, value in self._outcome.items() if name != "records"}}

    def _notes(self) -> list[str]:
        return list(self._notes_of_archive)

    @property
    def training_log(self) -> list[dict[str, float]]:
        """Records of the training run: step, loss, validation_loss, learning_rate, seconds."""
        return list(self._outcome.get("records", []))
