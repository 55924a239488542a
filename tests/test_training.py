"""The training loop finds known answers, repeats itself to the last bit, and goes on where it was stopped."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from finegrid.conventions import InputError
from finegrid.heads import Conditions, Head
from finegrid.training import SCHEDULES, Diverged, Interrupted, Samples, Settings, checkpoint, chosen_device, train
from finegrid.training.batches import batch_at
from finegrid.training.checkpoint import Progress, State
from finegrid.training.log import Log

TRUE_WEIGHTS = torch.tensor([[0.5, -1.0, 2.0]])
TRUE_BIAS = 0.3


class LinearHead(Head):
    """Fine values as a linear map of three features: its right answer is known."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, 1, 1)
        self.drop = nn.Dropout(dropout)

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        return (self.linear(self.drop(given.features)).to(fine.dtype) - fine).square().mean((1, 2, 3))

    def sample(self, given, members, generator, project=None):
        return self.linear(given.features)[None].expand(members, -1, -1, -1, -1)


def head(seed: int = 0, **options) -> LinearHead:
    torch.manual_seed(seed)
    return LinearHead(**options)


def samples(count: int = 24, *, seed: int = 0, sign: float = 1.0, noise: float = 0.0) -> Samples:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 3, 2, 2, generator=random)
    fine = sign * (torch.einsum("oc,ncyx->noyx", TRUE_WEIGHTS, features) + TRUE_BIAS)
    fine = fine + noise * torch.randn(fine.shape, generator=random)
    return Samples(fine, Conditions(features, fine, fine, fine))


def settings(**options) -> Settings:
    standard = {"budget": None, "steps": 50, "batch": 8, "learning_rate": 0.05, "device": "cpu", "precision": "float32"}
    return Settings(**{**standard, **options})


def weights(trained: Head) -> list[np.ndarray]:
    return [each.detach().numpy().copy() for each in trained.parameters()]


def same(one: Head, other: Head) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_a_known_linear_map_is_recovered():
    trained = head()
    outcome = train(trained, samples(64), settings(steps=150, learning_rate=0.1, weight_decay=0.0))
    np.testing.assert_allclose(trained.linear.weight.detach().reshape(1, 3), TRUE_WEIGHTS, atol=2e-3)
    assert trained.linear.bias.item() == pytest.approx(TRUE_BIAS, abs=2e-3)
    assert outcome.records[-1]["loss"] < 1e-4 * outcome.records[0]["loss"]
    assert (outcome.steps, outcome.samples, outcome.parameters, outcome.device) == (150, 64, 4, "cpu")
    assert not trained.training


def test_the_steps_are_those_of_adamw_on_shuffled_batches():
    # An independent loop of a dozen lines.
    material, given_settings = (
        samples(),
        settings(steps=30, ema=0.0, clip=0.5, schedule="constant", seed=3, weight_decay=0.1),
    )
    trained, other = head(), head()
    train(trained, material, given_settings)
    optimiser = torch.optim.AdamW(other.parameters(), lr=0.05, weight_decay=0.1)
    for step in range(30):
        optimiser.param_groups[0]["lr"] = 0.05 * min(1.0, (30 - step) / 6)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(4 * 1_000_003 + step // 3))
        indices = order[8 * (step % 3) : 8 * (step % 3 + 1)]
        optimiser.zero_grad()
        other.loss(material.fine[indices], material.given.at(indices)).mean().backward()
        nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        optimiser.step()
    for found, expected in zip(weights(trained), weights(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_average_follows_the_weights_at_its_own_pace():
    material, how = samples(), settings(steps=12, ema=0.9, clip=None, weight_decay=0.0)
    averaged = head()
    train(averaged, material, how)
    with_each_step = head()
    seen = [weights(with_each_step)[0]]
    original = torch.optim.AdamW.step

    def noting(self, *arguments, **options):
        result = original(self, *arguments, **options)
        seen.append(self.param_groups[0]["params"][0].detach().numpy().copy())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", noting)
        train(with_each_step, material, how)
    average = seen[0]
    for step, current in enumerate(seen[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * current
    np.testing.assert_allclose(weights(averaged)[0], average, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights_to_the_last_bit_and_another_seed_others():
    def run(seed: int) -> Head:
        trained = head(dropout=0.3)
        torch.manual_seed(seed)
        train(trained, samples(noise=1.0), settings(seed=seed), validation=samples(8, seed=1))
        return trained

    assert same(run(0), run(0))
    assert not same(run(0), run(1))


@pytest.fixture
def usual_interrupts():
    """Ctrl-C as in a program of its own: test runners may handle it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pressing_ctrl_c(monkeypatch, owner, method: str, *, at: int, when=lambda self: True, after: bool = True) -> None:
    """Ctrl-C in the `at`-th call of a method, once."""
    calls, original = [0], getattr(owner, method)

    def wrapped(self, *arguments, **options):
        calls[0] += when(self)
        press = calls[0] == at and when(self)
        if press and not after:
            signal.raise_signal(signal.SIGINT)
        result = original(self, *arguments, **options)
        if press and after:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, method, wrapped)


@pytest.mark.parametrize(
    ("owner", "method", "at", "when"),
    [
        (LinearHead, "loss", 1, lambda self: self.training),
        (LinearHead, "loss", 37, lambda self: self.training),
        (LinearHead, "loss", 60, lambda self: self.training),
        (LinearHead, "loss", 5, lambda self: not self.training),
        (torch.optim.AdamW, "step", 22, lambda self: True),
        (Log, "advance", 40, lambda self: True),
        (Log, "record", 20, lambda self: True),
    ],
    ids=["first step", "within a step", "last step", "validation", "optimiser", "bar", "log"],
)
def test_a_run_that_was_stopped_anywhere_and_resumed_ends_with_the_same_weights(
    tmp_path, monkeypatch, usual_interrupts, owner, method, at, when
):
    how = settings(steps=60, ema=0.9, seed=2)
    judges = samples(10, seed=1)
    straight = head(dropout=0.3)
    expected = train(straight, samples(noise=1.0), how, validation=judges)

    stopped = head(dropout=0.3)
    with monkeypatch.context() as patch:
        pressing_ctrl_c(patch, owner, method, at=at, when=when)
        with pytest.raises(Interrupted, match=r"stopped at step \d+ of 60"):
            train(stopped, samples(noise=1.0), how, validation=judges, folder=tmp_path, fingerprint="job")
    assert (tmp_path / checkpoint.FILE).exists()

    resumed = head(7, dropout=0.3)
    found = train(resumed, samples(noise=1.0), how, validation=judges, folder=tmp_path, fingerprint="job", resume=True)
    assert same(resumed, straight)
    assert (found.steps, found.validation_loss) == (expected.steps, expected.validation_loss)
    assert checkpoint.load(tmp_path, fingerprint="job").progress.step == 60  # until the folder is complete
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [each["step"] for each in logged] == [each["step"] for each in expected.records]
    assert [each["validation_loss"] for each in logged] == [each["validation_loss"] for each in expected.records]


class MeasuringHead(LinearHead):
    """A head whose loss depends on what it has measured on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("measured", torch.ones(()))

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        value = super().loss(fine, given) * self.measured.clone()
        if self.training:
            self.measured.lerp_(value.detach().mean().sqrt() + 0.5, 0.2)
        return value


def test_what_a_head_measured_on_its_way_is_resumed_judged_and_kept_with_the_best_weights(
    tmp_path, monkeypatch, usual_interrupts
):
    how, judges = settings(steps=60, seed=2, patience=None), samples(10, seed=1)
    torch.manual_seed(0)
    straight = MeasuringHead()
    expected = train(straight, samples(noise=1.0), how, validation=judges)
    torch.manual_seed(0)
    stopped = MeasuringHead()
    with monkeypatch.context() as patch:
        pressing_ctrl_c(patch, MeasuringHead, "loss", at=37, when=lambda self: self.training)
        with pytest.raises(Interrupted):
            train(stopped, samples(noise=1.0), how, validation=judges, folder=tmp_path, fingerprint="job")
    resumed = MeasuringHead()
    found = train(resumed, samples(noise=1.0), how, validation=judges, folder=tmp_path, fingerprint="job", resume=True)
    assert same(resumed, straight) and torch.equal(resumed.measured, straight.measured)
    assert found.validation_loss == expected.validation_loss
    resumed.eval()
    with torch.no_grad():
        again = resumed.loss(judges.fine, judges.given).double().mean()
    assert float(again) == pytest.approx(found.validation_loss, rel=1e-5)


def test_a_judgement_takes_samples_from_all_of_the_validation_block():
    many = samples(100)
    few = many.thinned(4)
    assert torch.equal(few.fine, many.fine[[0, 33, 66, 99]])
    assert torch.equal(few.given.features, many.given.features[[0, 33, 66, 99]])
    assert many.thinned(100) is many


def test_a_run_that_crashed_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    how = settings(steps=40, checkpoint_minutes=1e-9)
    straight = head(dropout=0.3)
    train(straight, samples(), how)
    broken = head(dropout=0.3)
    original, calls = LinearHead.loss, [0]

    def failing(self, fine, given):
        calls[0] += 1
        if calls[0] == 25:
            raise RuntimeError("out of memory")
        return original(self, fine, given)

    with monkeypatch.context() as patch:
        patch.setattr(LinearHead, "loss", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(broken, samples(), how, folder=tmp_path, fingerprint="job")
    resumed = head(5, dropout=0.3)
    train(resumed, samples(), how, folder=tmp_path, fingerprint="job", resume=True)
    assert same(resumed, straight)


def test_the_best_weights_before_a_stop_are_still_the_best_after_it(tmp_path, monkeypatch, usual_interrupts):
    how, judges = settings(patience=None, learning_rate=0.01), samples(16, seed=1, sign=-1.0)
    straight = head()
    expected = train(straight, samples(), how, validation=judges)
    judged = [each["validation_loss"] for each in expected.records]
    assert int(np.argmin(judged)) < 30
    with monkeypatch.context() as patch:
        pressing_ctrl_c(patch, Log, "record", at=30)
        with pytest.raises(Interrupted):
            train(head(), samples(), how, validation=judges, folder=tmp_path)
    resumed = head(3)
    train(resumed, samples(), how, validation=judges, folder=tmp_path, resume=True)
    assert same(resumed, straight)


def test_ctrl_c_without_a_folder_is_passed_on(monkeypatch, usual_interrupts):
    pressing_ctrl_c(monkeypatch, LinearHead, "loss", at=3)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(head(), samples(), settings())
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_someone_elses_handler_of_ctrl_c_stays(monkeypatch, usual_interrupts):
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    pressing_ctrl_c(monkeypatch, LinearHead, "loss", at=3)
    assert train(head(), samples(), settings()).steps == 50
    assert seen == ["mine"]


def state() -> State:
    tensors = {"a": torch.rand(2, 3), "b": torch.rand(1)}
    return State(Progress(steps=9, step=4, seconds=1.5, best=0.25, stale=2), tensors, tensors, tensors, tensors)


def test_a_checkpoint_comes_back_to_the_last_bit(tmp_path):
    saved = state()
    checkpoint.save(saved, tmp_path / "new", fingerprint="job")
    found = checkpoint.load(tmp_path / "new", fingerprint="job")
    assert asdict(found.progress) == asdict(saved.progress)
    for group in ("weights", "average", "best", "moments"):
        assert all(torch.equal(each, getattr(saved, group)[name]) for name, each in getattr(found, group).items())
    assert torch.equal(found.random, saved.random)
    assert [each.name for each in (tmp_path / "new").iterdir()] == [checkpoint.FILE]


def test_a_checkpoint_of_another_job_is_refused(tmp_path):
    checkpoint.save(state(), tmp_path, fingerprint="yesterday")
    with pytest.raises(InputError, match=r"checkpoint.safetensors belongs to another job.*fit without resume"):
        train(head(), samples(), settings(), folder=tmp_path, fingerprint="today", resume=True)


def test_a_missing_checkpoint_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint in .*; fit without resume"):
        train(head(), samples(), settings(), folder=tmp_path, resume=True)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-7], lambda whole: b"", lambda whole: b"\x00" * len(whole)])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = checkpoint.save(state(), tmp_path, fingerprint="job")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint.safetensors is damaged .*delete it and fit without resume"):
        checkpoint.load(tmp_path, fingerprint="job")


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_loss_that_is_not_a_number_stops_the_run_before_it_spoils_the_weights(clip):
    material, trained = samples(), head()
    material.given.features[3] = torch.inf
    with pytest.raises(Diverged, match=r"the loss is not a number at step \d+.*learning_rate to 0.017 .*training.clip"):
        train(trained, material, settings(clip=clip))
    assert all(torch.isfinite(each).all() for each in trained.parameters())


class _Root(LinearHead):
    """Its loss is finite and its gradient is not, where it is perfect."""

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        return (0.0 * super().loss(fine, given)).sqrt()


def test_a_gradient_that_is_not_a_number_stops_the_run_too():
    torch.manual_seed(0)
    trained = _Root()
    with pytest.raises(Diverged, match="the gradient of the loss is not a number at step 1;"):
        train(trained, samples(), settings())
    assert all(torch.isfinite(each).all() for each in trained.parameters())


def test_trial_steps_that_diverge_say_so():
    material = samples()
    material.given.features[:] = torch.inf
    with pytest.raises(Diverged, match="the loss is not a number at step 1;"):
        train(head(), material, settings(budget=1.0, steps=None))


class _Spoilt(LinearHead):
    """Its loss is a number for some steps only."""

    def __init__(self, *, good: int) -> None:
        super().__init__()
        self.good = good

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        self.good -= self.training
        return super().loss(fine, given) * (1.0 if self.good >= 0 else torch.nan)


def test_the_last_good_state_is_kept_and_a_run_goes_on_from_it_with_a_lower_rate(tmp_path):
    material, judges = samples(), samples(16, seed=1)
    torch.manual_seed(0)
    spoilt = _Spoilt(good=30)
    with pytest.raises(
        Diverged, match=r"step 31;.*good state, of step 29, is in .*checkpoint.safetensors: resume with"
    ):
        train(spoilt, material, settings(), validation=judges, folder=tmp_path, fingerprint="job")
    kept = checkpoint.load(tmp_path, fingerprint="job")
    assert kept.progress.step == 29
    assert kept.best and all(torch.isfinite(each).all() for each in (*kept.weights.values(), *kept.best.values()))
    trained = head()
    lower = settings(learning_rate=0.01)
    outcome = train(trained, material, lower, validation=judges, folder=tmp_path, fingerprint="job", resume=True)
    assert outcome.steps == 50
    assert outcome.validation_loss <= kept.progress.best


def test_a_validation_loss_that_is_not_a_number_is_told():
    judges = samples(16, seed=1)
    judges.given.features[3] = torch.nan
    with pytest.raises(Diverged, match="the validation loss is not a number at step 1;"):
        train(head(), samples(), settings(), validation=judges)


def test_early_stopping_keeps_the_best_weights():
    # The validation block has the opposite sign: the better the fit, the worse the judgement.
    judges = samples(16, seed=1, sign=-1.0)
    trained = head()
    with torch.no_grad():
        trained.linear.weight.mul_(0.1)
    outcome = train(trained, samples(), settings(steps=500, patience=3, learning_rate=0.01), validation=judges)
    judged = [each["validation_loss"] for each in outcome.records]
    best = int(np.argmin(judged))
    assert outcome.steps < 500
    assert len(judged) == best + 4
    assert outcome.validation_loss == judged[best]
    assert trained.loss(judges.fine, judges.given).mean().item() == pytest.approx(judged[best], rel=1e-6)


def test_without_patience_or_validation_a_run_goes_to_its_end():
    judges = samples(16, seed=1, sign=-1.0)
    assert train(head(), samples(), settings(patience=None), validation=judges).steps == 50
    assert train(head(), samples(), settings(patience=1)).steps == 50


def test_a_budget_ends_the_run_in_time():
    outcome = train(head(), samples(), settings(budget=0.5, steps=None))
    assert outcome.steps > 20
    assert outcome.seconds < 2.0
    assert train(head(), samples(), settings(budget=5.0, steps=7)).steps == 7


def test_trial_steps_leave_no_trace():
    trained = {}
    for budget in (None, 60.0):
        trained[budget] = head(dropout=0.3)
        train(trained[budget], samples(), settings(steps=20, budget=budget))
    assert same(trained[None], trained[60.0])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
@given(steps=st.integers(2, 5000), warmup=st.sampled_from([0.0, 0.05, 0.3]))
def test_schedules_warm_up_to_one_and_end_near_zero(schedule, steps, warmup):
    rates = np.array([schedule(step, steps, warmup) for step in range(steps)])
    start = max(int(warmup * steps), 1)
    np.testing.assert_allclose(rates[:start], np.arange(1, start + 1) / start)
    assert rates.max() == pytest.approx(1.0)
    assert (np.diff(rates[start:]) <= 1e-12).all()
    assert 0 < rates[-1] <= max(2 / (steps - start + 1), 1 / max(0.2 * steps - 1, 1))
    assert schedule(steps, steps, warmup) == pytest.approx(0.0, abs=1e-12)


def test_the_log_is_json_a_line_with_what_the_outcome_holds(tmp_path):
    outcome = train(head(), samples(), settings(), validation=samples(8, seed=1), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [dict(each) for each in outcome.records]
    assert set(lines[0]) == {"step", "loss", "validation_loss", "learning_rate", "seconds"}
    assert [each["step"] for each in lines] == list(range(1, 51))
    without = train(head(), samples(), settings())
    assert "validation_loss" not in without.records[0]
    assert without.validation_loss is None


def test_a_new_run_starts_a_new_log(tmp_path):
    for _ in range(2):
        train(head(), samples(), settings(steps=5), folder=tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5


def test_half_precision_trains_on_the_processor_and_keeps_whole_weights():
    trained = head()
    outcome = train(
        trained,
        samples(64),
        settings(steps=100, learning_rate=0.1, precision="bfloat16"),
        validation=samples(8, seed=1),
    )
    assert outcome.validation_loss < 0.02
    assert trained.linear.weight.dtype == torch.float32


@given(count=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 5))
def test_every_epoch_sees_every_sample_at_most_once_and_whole_batches_only(count, batch, seed):
    numbered = torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1)
    material = Samples(numbered, Conditions(numbered, numbered, numbered, numbered))
    size = min(batch, count)
    turns = count // size
    for epoch in (0, 3):
        seen = [batch_at(epoch * turns + turn, material, batch=batch, seed=seed) for turn in range(turns)]
        assert all(fine.shape[0] == size and torch.equal(fine, given.features) for fine, given in seen)
        numbers = torch.cat([fine.flatten() for fine, _ in seen]).tolist()
        assert len(set(numbers)) == len(numbers) == turns * size


def test_epochs_and_seeds_have_orders_of_their_own():
    numbered = torch.arange(100.0).reshape(-1, 1, 1, 1)
    material = Samples(numbered, Conditions(numbered, numbered, numbered, numbered))
    orders = {
        tuple(batch_at(step, material, batch=100, seed=seed)[0].flatten().tolist())
        for step in (0, 1)
        for seed in (0, 1)
    }
    assert len(orders) == 4


def test_all_samples_come_in_order_for_judging():
    parts = [each.fine for each in samples(10).judged(4)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat(parts), samples(10).fine)


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(InputError, match=r"device 'abacus', which cannot be used .*training.device: auto"):
        chosen_device("abacus")
    assert chosen_device("cpu") == torch.device("cpu")


def test_progress_on_the_terminal_is_wanted_and_harmless(capsys):
    one, other = head(), head()
    train(one, samples(), settings(steps=5), progress=True)
    train(other, samples(), settings(steps=5))
    assert same(one, other)
    assert "5/5 steps" in capsys.readouterr().err


def test_samples_go_to_a_device_together():
    moved = samples(4).to("cpu")
    assert len(moved) == 4
    assert isinstance(moved.given, Conditions)


def test_a_folder_is_made_for_the_log(tmp_path: Path):
    train(head(), samples(), settings(steps=2), folder=tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "log.jsonl").exists()


def test_tensorboard_gets_the_records_of_the_log_when_it_is_asked_for(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = train(head(), samples(), settings(steps=10, tensorboard=True), folder=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    written = events.Scalars("loss")
    assert [each.step for each in written] == [record["step"] for record in outcome.records]
    assert [each.value for each in written] == pytest.approx([record["loss"] for record in outcome.records])
    train(head(), samples(), settings(steps=10), folder=tmp_path / "plain")
    assert not (tmp_path / "plain" / "tensorboard").exists()
