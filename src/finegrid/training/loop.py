"""The one training loop: batches in, averaged weights out.

    w <- AdamW(w, gradient of the mean loss)
    average <- d * average + (1 - d) * w,        d = min(decay, (1 + s) / (10 + s)) at step s

A budget in seconds is turned into a number of steps before the first one, from the time of a few trial steps, and the
schedule is laid over that number: a run is a function of its seed and its number of steps, not of the clock. After
every fiftieth of the run the averaged weights are judged on the validation block; the best ones are kept, and the run
ends after `patience` judgements without progress. The state goes to disk every few minutes and on Ctrl-C.

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; warm-up of the averaging as in
TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finegrid.heads import Head
from finegrid.training import checkpoint, divergence
from finegrid.training.augmentation import mixed
from finegrid.training.batches import Judges, Source
from finegrid.training.checkpoint import Progress, State
from finegrid.training.device import chosen_device
from finegrid.training.divergence import Diverged, check_finite, diverged
from finegrid.training.interruption import HeldBack
from finegrid.training.log import Log
from finegrid.training.ranks import Ranks
from finegrid.training.schedule import SCHEDULES
from finegrid.training.settings import Settings
from finegrid.training.states import restore, state_of, whole

_JUDGEMENTS = 50
_TRIALS = 6
# Share of a budget for steps; the rest pays for judging and logging.
_FOR_STEPS = 0.92
# A judgement takes no more samples than a part of those that were learnt from since the last one, but at least so many.
_JUDGED_PART = 4
_JUDGES = 64


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the state of the run was saved."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        steps: steps done. seconds: time spent training. samples: training samples. parameters: trained numbers.
        validation_loss: of the weights kept, None without a validation block. device: where it ran. records: the log.
    """

    steps: int
    seconds: float
    samples: int
    parameters: int
    validation_loss: float | None
    device: str
    records: tuple[Mapping[str, float], ...]


def train(
    head: Head,
    samples: Source,
    settings: Settings,
    *,
    validation: Judges | None = None,
    folder: Path | None = None,
    fingerprint: str = "",
    resume: bool = False,
    progress: bool = False,
) -> Outcome:
    """Train the head in place; it ends with the best averaged weights, in evaluation mode.

    Args:
        head: what to train.
        samples: training samples.
        settings: how long and how.
        validation: samples of a later block of time, which choose the weights.
        folder: where the log and checkpoints go; None for none.
        fingerprint: identifies the job to its checkpoints.
        resume: go on from the checkpoint in `folder`.
        progress: show a bar on the terminal.

    Raises:
        Interrupted: on Ctrl-C when there is a folder, after saving the state.
        Diverged: when the loss is not a number, after saving the last good state when there is a folder.
            The checkpoint of a run that has ended stays until its folder is complete (`checkpoint.forget`).
        InputError: when there is nothing to resume from.
    """
    device = chosen_device(settings.device)
    ranks = Ranks.joined(device)
    run = _Run(head.to(device), samples.to(device), settings, device, ranks)
    judged = None if validation is None or not len(validation) else validation.to(device)
    if resume and folder is not None:
        run.restore(checkpoint.load(folder, fingerprint=fingerprint))
    else:
        run.progress.steps = int(ranks.agreed(run.planned_steps()))
    folder, progress = (folder, progress) if ranks.own == 0 else (None, False)
    state = run.state()
    if folder is not None and not resume:
        checkpoint.save(state, folder, fingerprint=fingerprint)  # a killed run has as many steps when it goes on
    done, steps, events = run.progress.step, run.progress.steps, settings.tensorboard
    with Log(folder, steps=steps, start=done, bar=progress, tensorboard=events) as log, HeldBack() as ctrl_c:
        try:
            run.go(log, judged, folder, fingerprint, ctrl_c)
        except (KeyboardInterrupt, Diverged) as stop:
            if folder is None:
                raise
            if isinstance(stop, Diverged):
                raise divergence.kept(stop, run.good, folder, fingerprint) from None
            checkpoint.save(run.kept(), folder, fingerprint=fingerprint)
            raise Interrupted(f"stopped at step {run.progress.step} of {run.progress.steps}") from None
    state = run.state()
    if folder is not None:
        checkpoint.save(state, folder, fingerprint=fingerprint)
    run.finish(judged is not None)
    return run.outcome(log, judged is not None)


class _Run:
    """Weights, optimiser and counters of one run."""

    def __init__(self, head: Head, samples: Source, settings: Settings, device: torch.device, ranks: Ranks) -> None:
        self.whole, self.samples, self.settings, self.device, self.ranks = head, samples, settings, device, ranks
        self.average = copy.deepcopy(head).eval()
        self.head, self.mean_loss = ranks.learning(head, shard=settings.shard)
        self.best: dict[str, Tensor] = {}
        self.good: State | None = None
        self.optimiser = torch.optim.AdamW(
            self.head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.progress = Progress(steps=settings.steps or 0)
        self._halves = settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")

    def planned_steps(self) -> int:
        """Steps that fit the budget, by the time of trial steps on a copy."""
        if self.settings.budget is None:
            return self.settings.steps or 1
        trial = _Run(copy.deepcopy(self.whole), self.samples, self.settings, self.device, self.ranks)
        trial.progress.steps = 1000
        times = []
        random = torch.get_rng_state()
        for _ in range(_TRIALS):
            start = time.perf_counter()
            trial.step()
            times.append(time.perf_counter() - start)
        torch.set_rng_state(random)
        fitting = int(_FOR_STEPS * self.settings.budget / statistics.median(times[1:]))
        return max(1, min(fitting, self.settings.steps or fitting))

    def go(self, log: Log, validation: Judges | None, folder: Path | None, fingerprint: str, ctrl_c: HeldBack) -> None:
        """Steps until the plan, the patience or the budget ends."""
        before, started = self.progress.seconds, time.perf_counter()
        saved, losses = started, []
        if validation is not None:
            validation = validation.thinned(max(_JUDGES, self.every * self.settings.batch // _JUDGED_PART))
        while not self._ended():
            losses.append(self.step())
            now = time.perf_counter()
            self.progress.seconds = before + now - started
            log.advance(self.progress.step)
            if self.progress.step % self.every == 0 or self.progress.step == self.progress.steps:
                self._judge(log, validation, torch.stack(losses).mean().item())
                losses = []
            if folder is not None and now - saved > 60 * self.settings.checkpoint_minutes:
                checkpoint.save(self.kept(), folder, fingerprint=fingerprint)
                saved = now
            ctrl_c.release()

    @property
    def every(self) -> int:
        """Steps between judgements."""
        return max(1, self.progress.steps // _JUDGEMENTS)

    def step(self) -> Tensor:
        """One batch: loss, gradient, update, average."""
        settings, progress = self.settings, self.progress
        rate = SCHEDULES[settings.schedule](progress.step, progress.steps, settings.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        before = self.state().copied() if progress.step % self.every == 0 else None
        fine, given, place = self.samples.batch(progress.step, size=settings.batch, seed=settings.seed)
        self.head.moved(place)
        if settings.mixup:
            fine, given = mixed(fine, given, settings.mixup, seed=settings.seed, step=progress.step)
        self.head.train()
        fine, given, share = self.ranks.part(fine, given)
        with self._precision():
            loss = share * self.mean_loss(fine, given)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = whole(torch.nn.utils.clip_grad_norm_(self.head.parameters(), settings.clip or float("inf")))
        loss = self.ranks.mean(loss.detach())
        check_finite(loss, norm, progress.step, settings)
        self.good = before or self.good
        self.optimiser.step()
        self._follow()
        progress.step += 1
        return loss

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights a little towards the current ones."""
        done = self.progress.step
        decay = min(self.settings.ema, (1 + done) / (10 + done))
        averaged = [each.detach() for each in self.average.parameters()]
        current = [whole(each.detach()) for each in self.head.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    @torch.no_grad()
    def _counted(self) -> None:
        """What the head has counted or measured on its way, which is no weight, is that of the averaged head too."""
        own, weights = self.head.state_dict(), dict(self.head.named_parameters())
        for name, kept in self.average.state_dict().items():
            if name not in weights:
                kept.copy_(own[name])

    def _judge(self, log: Log, validation: Judges | None, loss: float) -> None:
        self._counted()
        judged = float("nan") if validation is None else self._validation_loss(validation)
        if validation is not None and not abs(judged) < float("inf"):
            raise diverged("the validation loss", self.progress.step, self.settings)
        if judged < self.progress.best:
            self.progress.best, self.progress.stale = judged, 0
            self.best = {name: each.clone() for name, each in self.average.state_dict().items()}
        else:
            self.progress.stale += 1
        values = {"loss": loss, "validation_loss": judged, "learning_rate": self.optimiser.param_groups[0]["lr"]}
        log.record(self.progress.step, **values, seconds=round(self.progress.seconds, 3))

    @torch.no_grad()
    def _validation_loss(self, validation: Judges) -> float:
        with self._precision():
            batches = validation.judged(4 * self.settings.batch)
            values = [self.average.moved(place).loss(fine, given) for fine, given, place in batches]
        return float(torch.cat(values).double().mean())

    def _ended(self) -> bool:
        done = self.progress.step
        return done >= self.progress.steps or (done > 0 and done % self.every == 0 and self._exhausted())

    def _exhausted(self) -> bool:
        patience, budget = self.settings.patience, self.settings.budget
        impatient = patience is not None and bool(self.best) and self.progress.stale >= patience
        return impatient or (budget is not None and self.ranks.agreed(self.progress.seconds) > budget)

    def _precision(self) -> Any:
        if not self._halves:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def state(self) -> State:
        """What a checkpoint holds; where weights are shared out, every rank has to ask."""
        return state_of(self.progress, self.head, self.average, self.best, self.optimiser)

    def kept(self) -> State:
        """What one rank can save on its own: where weights are shared out, the state of the last judgement."""
        return self.good if self.head is not self.whole and self.good is not None else self.state()

    def restore(self, state: State) -> None:
        """Go back to a saved state."""
        restore(state, self.head, self.average, self.optimiser)
        self.best = {name: each.to(self.device) for name, each in state.best.items()}
        self.progress = state.progress
        torch.set_rng_state(state.random)

    @torch.no_grad()
    def finish(self, judged: bool) -> None:
        """Leave the weights in the head that are to be used."""
        self._counted()
        self.whole.load_state_dict(self.best if judged and self.best else self.average.state_dict())
        self.whole.eval()

    def outcome(self, log: Log, judged: bool) -> Outcome:
        """The run in numbers."""
        parameters = sum(each.numel() for each in self.head.parameters())
        best = self.progress.best if judged else None
        done = self.progress
        return Outcome(
            done.step, done.seconds, len(self.samples), parameters, best, str(self.device), tuple(log.records)
        )
