"""The training loop: order, clipping, averages, warm-ups, faults, resumption."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy_runs import (
    Planted,
    assert_same_bits,
    nan_gradient,
    nan_loss,
    toy_config,
    toy_data,
    toy_model,
    weights,
)

from drawlib.data.sets import Data, stratified_subset
from drawlib.diffusion import Diffusion, DiffusionConfig
from drawlib.evaluation import evaluate
from drawlib.glas import GLAS, GLASConfig
from drawlib.machine import stopping
from drawlib.machine.device import pick_device
from drawlib.machine.stopping import Terminated
from drawlib.training import checkpoint, train
from drawlib.training.runstate import History, TrainingStopped
from drawlib.training.statistics import Statistics
from drawlib.training.train import clip_gradients, epoch_order, fit
from drawlib.vae import VAE


def run(folder, data=None, model=None, loss=None, **changes):
    """Train the toy model; it and its history."""
    model = model or toy_model()
    config = toy_config(**changes)
    history = fit(model, data or toy_data(), config, folder, loss=loss, progress=False)
    return model, history


class Cut(Exception):
    """What a planted crash raises."""


def cut(_):
    raise Cut


# What is learned


def test_training_lowers_the_bound_and_logs_it(tmp_path):
    model, history = run(tmp_path, epochs=30)
    valid = history.column("valid")
    assert len(valid) == 30 and valid[-1] < valid[0] - 2
    assert history.column("epoch") == list(range(1, 31))
    assert history.column("step") == [4 * e for e in range(1, 31)]
    parts = [row["valid_kl"] + row["valid_reconstruction"] for row in history.rows]
    assert parts == pytest.approx(valid)
    assert not model.training  # ready to evaluate
    assert History.read(tmp_path) == history


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    a, _ = run(tmp_path / "a", epochs=1)
    b, _ = run(tmp_path / "b", epochs=1)
    c, _ = run(tmp_path / "c", epochs=1, seed=1)
    assert_same_bits(weights(a), weights(b))
    assert not torch.equal(a.output.weight, c.output.weight)


def test_the_bias_starts_at_the_mean_image(tmp_path):
    data = toy_data()
    model, _ = run(tmp_path, data, epochs=1, lr=0.0)
    mean = data.train.images.float().mean(0) / 255
    torch.testing.assert_close(
        model.output.bias.detach(), torch.logit(mean.flatten(), eps=1e-2)
    )
    left, _ = run(tmp_path / "b", data, epochs=1, lr=0.0, start_at_mean=False)
    assert left.output.bias.eq(0).all()


def classification(data):
    return replace(data, protocol=replace(data.protocol, likelihood="classification"))


def test_no_bias_starts_at_the_mean_of_images_that_no_model_sees(tmp_path):
    def zero(model, x, labels, generator):
        return 0 * model.output.bias.sum()

    data = classification(toy_data())
    model, _ = run(tmp_path, data, epochs=1, lr=0.0, loss=zero)
    assert model.output.bias.eq(0).all()


def test_a_likelihood_that_is_not_the_protocols_is_refused(tmp_path):
    told = "likelihood is 'bernoulli'; allowed on mnist-dynamic: 'classification'"
    with pytest.raises(ValueError, match=told):
        run(tmp_path, classification(toy_data()))


# The order of the images


class Watched(Data):
    """A data set that notes which images are binarised, and which splits are named."""

    seen: list
    splits: list

    def binarise(self, images, generator=None, *, split="train"):
        if split == "train" and len(images) > 1:
            self.seen.append(images)
        self.splits.append(split)
        return super().binarise(images, generator, split=split)

    def split(self, name):
        self.splits.append(name)
        return super().split(name)


def watched(n):
    data = toy_data(n)
    numbers = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 6, 6)
    names = ("name", "protocol", "valid", "test", "sha256")
    data = Watched(
        train=replace(data.train, images=numbers.contiguous()),
        **{name: getattr(data, name) for name in names},
    )
    Watched.seen, Watched.splits = [], []
    return data


def epochs_of(data, per_epoch):
    seen = [x[:, 0, 0, 0].tolist() for x in data.seen]
    return [sum(seen[i : i + per_epoch], []) for i in range(0, len(seen), per_epoch)]


def test_the_batches_of_an_epoch_are_a_permutation_and_epochs_differ(tmp_path):
    data = watched(64)
    run(tmp_path, data)
    epochs = epochs_of(data, 4)
    assert [len(x) for x in data.seen] == [16] * 12
    assert all(sorted(epoch) == list(range(64)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[1] == epoch_order(toy_config(), 1, 64).tolist()


def test_what_does_not_fill_a_batch_waits_for_another_epoch(tmp_path):
    data = watched(70)
    run(tmp_path, data, epochs=4)
    epochs = epochs_of(data, 4)
    assert all(len(set(epoch)) == 64 for epoch in epochs)
    assert set(sum(epochs, [])) == set(range(70))


def test_a_batch_larger_than_the_data_is_the_data(tmp_path):
    data = watched(10)
    _, history = run(tmp_path, data, batch_size=500)
    assert [len(x) for x in data.seen] == [10] * 3
    assert history.column("step") == [1, 2, 3]


def test_training_and_choosing_never_look_at_the_test_split(tmp_path):
    data = watched(64)
    run(tmp_path / "a", data)
    assert "test" not in data.splits and "valid" in data.splits
    one, _ = run(tmp_path / "b", toy_data(test_seed=7))
    two, _ = run(tmp_path / "c", toy_data(test_seed=8))
    assert_same_bits(weights(one), weights(two))


# Which weights are kept


@pytest.mark.parametrize("best", [1, 2, 3])
def test_keep_best_takes_the_epoch_with_the_lowest_validation(
    tmp_path, monkeypatch, best
):
    values = iter([9.0 - 5 * (epoch == best) for epoch in (1, 2, 3)])
    with monkeypatch.context() as patch:
        patch.setattr(train, "validate", lambda *_: {"valid": next(values)})
        kept, _ = run(tmp_path / "kept", schedule="constant")
    until, _ = run(tmp_path / "u", epochs=best, keep="last", schedule="constant")
    assert_same_bits(weights(kept), weights(until))


def test_keep_last_takes_the_last(tmp_path, monkeypatch):
    values = iter([1.0, 2.0, 3.0])
    with monkeypatch.context() as patch:
        patch.setattr(train, "validate", lambda *_: {"valid": next(values)})
        kept, _ = run(tmp_path / "kept", keep="last")
    last = checkpoint.load(tmp_path / "kept" / "checkpoint.pt")
    assert_same_bits(weights(kept), last["model"])


def test_ema_is_the_hand_rolled_average(tmp_path):
    steps = {"batch_size": 64, "schedule": "constant", "keep": "last"}
    after = [
        weights(run(tmp_path / f"{k}", epochs=k, **steps)[0]) for k in (1, 2, 3, 4)
    ]
    averaged, _ = run(tmp_path / "ema", epochs=4, ema=0.7, **steps)
    for name, value in averaged.state_dict().items():
        expected = after[0][name]
        for later in after[1:]:
            expected = 0.7 * expected + 0.3 * later[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, after[-1][name])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_averaged_weights_are_the_ones_that_are_evaluated(tmp_path, keep):
    data = toy_data()
    model, history = run(tmp_path, data, ema=0.9, keep=keep, lr=1e-3)
    again = evaluate(model, data, "valid", samples=1)
    assert again.neg_elbo == pytest.approx(min(history.column("valid")), rel=1e-6)


def test_the_average_of_a_masked_L_is_revealed_wholly(tmp_path):
    """Its mask is no weight: a mean over epochs would leave cells half in sight."""
    sizes = {"image_shape": (1, 6, 6), "space": "masked", "M": 6, "N": 3}
    model = GLAS(GLASConfig.preset("tiny", **sizes))
    run(tmp_path, model=model, epochs=3, ema=0.9, keep="last")
    assert model.mask.eq(1).all()


def test_training_an_already_finished_run_gives_its_weights_at_once(tmp_path):
    first, history = run(tmp_path)
    other = toy_model(seed=5)
    _, again = run(tmp_path, model=other)
    assert_same_bits(weights(first), weights(other))
    assert again == history


# KL warm-up


def test_the_reported_bound_never_depends_on_beta(tmp_path):
    # Weights that stand still: whatever differs comes from the weight of the KL.
    _, plain = run(tmp_path / "a", lr=0.0)
    _, warm = run(tmp_path / "b", lr=0.0, kl_warmup=50)
    for name in ("train", "valid", "valid_kl"):
        assert plain.column(name) == warm.column(name)


def test_the_loss_scales_the_kl_by_beta(tmp_path):
    model, x = toy_model(), torch.rand(5, 1, 6, 6).round()
    for beta in (0.25, 1.0):
        noise = torch.Generator().manual_seed(1)
        loss, shown = train.negative_elbo(model, x, noise, beta)
        b = model.bound(x, model.noise(5, torch.Generator().manual_seed(1)))
        torch.testing.assert_close(
            loss, (-b.log_likelihood + beta * b.kl.sum(1)).mean()
        )
        torch.testing.assert_close(shown, -b.elbo.mean().detach())
    _, warm = run(tmp_path / "w", kl_warmup=3)
    _, plain = run(tmp_path / "p")
    assert warm.column("valid") != plain.column("valid")


# Clipping


def with_gradients(*norms):
    model = nn.ParameterList([nn.Parameter(torch.zeros(4)) for _ in norms])
    for p, norm in zip(model, norms, strict=True):
        p.grad = torch.full((4,), norm / 2.0)
    return model, lambda: [p.grad.norm().item() for p in model]


def test_global_clipping_scales_all_gradients_by_one_factor():
    model, norms = with_gradients(3.0, 4.0)
    before = clip_gradients(model, toy_config(clip="global", clip_norm=1.0))
    assert before.item() == pytest.approx(5.0)
    assert norms() == pytest.approx([0.6, 0.8], rel=1e-4)
    model, norms = with_gradients(3.0, 4.0)
    clip_gradients(model, toy_config(clip="global", clip_norm=6.0))
    assert norms() == pytest.approx([3.0, 4.0])


def test_clipping_each_tensor_leaves_the_small_ones_alone():
    model, norms = with_gradients(0.5, 4.0)
    before = clip_gradients(model, toy_config(clip="tensor", clip_norm=1.0))
    assert before.item() == pytest.approx((0.25 + 16) ** 0.5)
    assert norms() == pytest.approx([0.5, 1.0], rel=1e-4)


def test_no_clipping_is_none():
    model, norms = with_gradients(30.0, 40.0)
    assert clip_gradients(model, toy_config(clip="none")).item() == pytest.approx(50)
    assert norms() == pytest.approx([30.0, 40.0])


# Steps that are not finite


@pytest.mark.parametrize("bad", [nan_loss, nan_gradient])
def test_a_non_finite_step_is_skipped_counted_and_leaves_no_trace(tmp_path, bad):
    how = {"batch_size": 64, "schedule": "constant", "keep": "last", "ema": 0.5}
    one, _ = run(tmp_path / "one", epochs=1, **how)
    model = toy_model(kind=Planted)
    model.plant = {1: bad}
    _, history = run(tmp_path / "two", model=model, epochs=2, **how)
    assert_same_bits(weights(one), weights(model))
    assert history.column("skipped") == [0, 1]
    kept = checkpoint.load(tmp_path / "two" / "checkpoint.pt")
    for adam in kept["optimiser"]["state"].values():
        assert adam["step"] == 1 and torch.isfinite(adam["exp_avg_sq"]).all()
    assert all(torch.isfinite(v).all() for v in kept["average"].values())
    # an epoch without one good step has no training bound, rather than a bound of 0
    first, second = history.column("train")
    assert first > 0 and second != second


@pytest.mark.parametrize("bad", [nan_loss, nan_gradient])
def test_training_goes_on_after_nine_bad_steps(tmp_path, bad):
    model = toy_model(kind=Planted)
    model.plant = dict.fromkeys([*range(0, 9), *range(10, 19)], bad)
    _, history = run(tmp_path, model=model, epochs=6)
    assert history.rows[-1]["skipped"] == 18 and history.rows[-1]["step"] == 24
    assert all(torch.isfinite(v).all() for v in weights(model).values())


class Normed(Planted):
    """A VAE with running statistics, which a bad batch reaches before its loss."""

    poison = None

    def __init__(self, config=None):
        super().__init__(config)
        self.norm = nn.BatchNorm1d(36)

    def encode(self, x):
        if self.training and self.step == self.poison:
            x = x * float("nan")
        return super().encode(self.norm(x.flatten(1)).view_as(x))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_bad_batch_does_not_stay_in_running_statistics(tmp_path, ema):
    model = toy_model(kind=Normed)
    model.poison = 5
    _, history = run(tmp_path, model=model, ema=ema)
    assert history.rows[-1]["skipped"] == 1
    assert all(torch.isfinite(v).all() for v in weights(model).values())
    assert model.norm.num_batches_tracked > 0
    assert model.norm.running_mean.abs().max() > 0.01
    assert all(value == value for value in history.column("valid"))


@pytest.mark.parametrize(("kind", "each"), [(VAE, 0), (Normed, 3)])
def test_only_buffers_that_a_step_changes_are_copied_in_every_step(
    tmp_path, monkeypatch, kind, each
):
    """``constant`` is a buffer of both that no step changes."""
    model = toy_model(kind=kind)
    model.register_buffer("constant", torch.ones(5))
    copies, clone = [0], torch.Tensor.clone
    buffers = [id(b) for b in model.buffers()]

    def counted(tensor, **how):
        copies[0] += id(tensor) in buffers
        return clone(tensor, **how)

    monkeypatch.setattr(torch.Tensor, "clone", counted)
    run(tmp_path, model=model, epochs=1, batch_size=4, valid_images=2, keep="best")
    # Once all of them, then those of batch norm in each of the other steps.
    assert copies[0] == len(buffers) + 15 * each


def test_a_buffer_that_the_model_sets_itself_stays_through_a_bad_first_step():
    """As GLAS does with its mask before each epoch."""
    model = nn.Sequential(nn.BatchNorm1d(1))
    model.register_buffer("mask", torch.zeros(1))
    statistics = Statistics(model)
    for epoch, x in enumerate((torch.nan, torch.nan, 1.0, torch.nan)):
        model.mask.fill_(epoch)
        statistics.remember()
        model(torch.full((2, 1), x))
        statistics.keep() if x == 1.0 else statistics.put_back()
    assert model.mask.item() == 3
    assert model[0].running_mean.item() == pytest.approx(0.1)
    assert model[0].num_batches_tracked.item() == 1


def test_ten_bad_steps_in_a_row_stop_and_leave_a_good_checkpoint(tmp_path):
    model = toy_model(kind=Planted)
    model.plant = dict.fromkeys(range(6, 16), nan_loss)
    with pytest.raises(TrainingStopped, match="ten steps in a row") as caught:
        run(tmp_path, model=model, epochs=9)
    message = str(caught.value)
    assert "the last at step 15" in message and "\n" not in message
    assert f"last good checkpoint is in {tmp_path}" in message
    kept = checkpoint.load(tmp_path / "checkpoint.pt")
    assert kept["step"] == 12 and kept["skipped"] == 6
    assert all(torch.isfinite(v).all() for v in kept["model"].values())
    # Once the cause is gone, training goes on from there.
    _, history = run(tmp_path, epochs=9)
    assert history.rows[-1]["step"] == 36


def test_ten_bad_steps_before_any_checkpoint_say_so(tmp_path):
    model = toy_model(kind=Planted)
    model.plant = dict.fromkeys(range(10), nan_loss)
    with pytest.raises(TrainingStopped, match="no checkpoint had been written"):
        run(tmp_path, toy_data(600), model=model)


# Loggers


def test_on_epoch_gets_each_row_once_it_and_a_checkpoint_are_written(tmp_path):
    told = []

    def look(row):
        state = checkpoint.load(tmp_path / "checkpoint.pt")
        assert state["step"] == row["step"]
        assert History.read(tmp_path).rows[-1] == row
        told.append(dict(row))
        row.clear()  # a copy: the log is not the logger's

    config = toy_config(epochs=5, evaluate_every=2)
    history = fit(
        toy_model(), toy_data(), config, tmp_path, on_epoch=look, progress=False
    )
    assert tuple(told) == history.rows
    assert [row["epoch"] for row in told] == [2, 4, 5]
    # A run that is finished logs nothing more.
    fit(toy_model(), toy_data(), config, tmp_path, on_epoch=cut, progress=False)


def test_a_logger_that_fails_costs_no_epoch(tmp_path):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Cut):
        fit(toy_model(), toy_data(), toy_config(), tmp_path / "cut", on_epoch=cut)
    assert checkpoint.load(tmp_path / "cut" / "checkpoint.pt")["step"] == 4
    resumed, _ = run(tmp_path / "cut")
    assert_same_bits(weights(whole), weights(resumed))


def test_the_docstring_s_lines_for_tensorboard_log_every_number(tmp_path):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == tmp_path

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

    _, found = inspect.getdoc(fit).split("where it is installed::\n\n")
    lines = found.split("\n\n")[0]
    given = {"model": toy_model(), "data": toy_data(), "config": toy_config(epochs=2)}
    writer = {"SummaryWriter": SummaryWriter, "fit": fit, "run_dir": tmp_path}
    exec(textwrap.dedent(lines), {**given, **writer})
    rows = History.read(tmp_path).rows
    assert written == [(k, v, row["step"]) for row in rows for k, v in row.items()]
    assert len(lines.splitlines()) == 5


# Going on where a run was cut


@pytest.mark.parametrize("at", [1, 4, 7, 11])
@pytest.mark.parametrize("how", [{}, {"ema": 0.9, "kl_warmup": 2, "clip": "tensor"}])
def test_a_resumed_run_sees_the_same_order_and_the_same_noise(tmp_path, at, how):
    whole, history = run(tmp_path / "whole", **how)
    model = toy_model(kind=Planted)
    model.plant = {at: cut}
    with pytest.raises(Cut):
        run(tmp_path / "cut", model=model, checkpoint_seconds=0.0, **how)
    assert checkpoint.load(tmp_path / "cut" / "checkpoint.pt")["step"] == at
    resumed, again = run(tmp_path / "cut", model=toy_model(seed=9), **how)
    assert_same_bits(weights(whole), weights(resumed))
    for name in ("epoch", "step", "train", "valid", "lr"):
        assert again.column(name) == history.column(name)


def test_a_run_cut_before_its_first_checkpoint_starts_again(tmp_path):
    model = toy_model(kind=Planted)
    model.plant = {2: cut}
    with pytest.raises(Cut):
        run(tmp_path / "a", model=model)
    again, _ = run(tmp_path / "a")
    whole, _ = run(tmp_path / "b")
    assert_same_bits(weights(again), weights(whole))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_newest_checkpoint_ends_with_the_same_weights(tmp_path, damage):
    whole, _ = run(tmp_path / "whole")
    model = toy_model(kind=Planted)
    model.plant = {6: cut}
    with pytest.raises(Cut):
        run(tmp_path / "cut", model=model, checkpoint_seconds=0.0)
    path = tmp_path / "cut" / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content[:-100] if damage == "cut" else content)
    with pytest.warns(UserWarning, match="resuming from checkpoint-previous.pt"):
        resumed, _ = run(tmp_path / "cut")
    assert_same_bits(weights(whole), weights(resumed))
    for kept in tmp_path.glob("cut/checkpoint*.pt"):
        kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(checkpoint.CheckpointError, match="no whole checkpoint"):
        run(tmp_path / "cut")


def test_the_log_can_be_read_while_training(tmp_path):
    lengths = []
    model = toy_model(kind=Planted)
    look = lambda _: lengths.append(len(History.read(tmp_path).rows))  # noqa: E731
    model.plant = {0: look, 5: look, 9: look}
    run(tmp_path, model=model)
    assert lengths == [0, 1, 2]


def test_two_trainings_in_one_directory_are_refused(tmp_path):
    told = []

    def second(_):
        with pytest.raises(TrainingStopped) as caught:
            run(tmp_path)
        told.append(str(caught.value))

    model = toy_model(kind=Planted)
    model.plant = {3: second}
    run(tmp_path, model=model)
    assert told == [f"another process trains in {tmp_path}"]


# Signals


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)],
)
def test_a_signal_saves_and_the_run_goes_on_later(tmp_path, number, kind):
    whole, _ = run(tmp_path / "whole")
    before = signal.getsignal(number)
    model = toy_model(kind=Planted)
    model.plant = {5: lambda _: os.kill(os.getpid(), number)}
    with pytest.raises(kind) as caught:
        run(tmp_path / "cut", model=model)
    where = tmp_path / "cut"
    assert str(caught.value) == f"stopped at step 6; {where} holds a checkpoint"
    if kind is Terminated:
        assert caught.value.code == 143
    assert signal.getsignal(number) is before
    assert checkpoint.load(tmp_path / "cut" / "checkpoint.pt")["step"] == 6
    resumed, _ = run(tmp_path / "cut")
    assert_same_bits(weights(whole), weights(resumed))


def test_a_signal_during_the_last_validation_is_not_lost(tmp_path, monkeypatch):
    real = train.validate

    def signalled(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(train, "validate", signalled)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4"):
        run(tmp_path, epochs=1)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["step"] == 4
    monkeypatch.undo()
    assert len(run(tmp_path, epochs=1)[1].rows) == 1


def test_a_second_signal_acts_at_once(tmp_path):
    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # two signals at once would count as one
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    model = toy_model(kind=Planted)
    model.plant = {5: twice}
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, model=model)
    assert "stopped" not in str(caught.value)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["step"] == 4  # the last epoch's
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_after_the_check_for_one_ends_the_next_step_with_a_checkpoint(
    tmp_path,
):
    """It comes between the line that saves and the one that ends the training."""
    lines, first = inspect.getsourcelines(train.train_loop)
    (end,) = (first + k for k, line in enumerate(lines) if line.strip() == "if stop:")

    def trace(frame, event, _):
        if frame.f_code.co_name != "train_loop":
            return None
        here = (event, frame.f_lineno) == ("line", end)
        if here and frame.f_locals["state"].step == 5:
            signal.raise_signal(signal.SIGTERM)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(
            Terminated, match="stopped at step 6; .* holds a checkpoint"
        ):
            run(tmp_path)
    finally:
        sys.settrace(before)
    state = checkpoint.load(tmp_path / "checkpoint.pt")
    assert state is not None and state["step"] == 6


def test_training_works_in_a_thread(tmp_path):
    done = []
    worker = threading.Thread(target=lambda: done.append(run(tmp_path)))
    worker.start()
    worker.join()
    assert len(done[0][1].rows) == 3


def test_handlers_that_were_not_set_from_python_are_no_obstacle(monkeypatch):
    real, before = signal.getsignal, signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        none = {signal.SIGTERM: None}
        patch.setattr(
            stopping.signal, "getsignal", lambda n: none.get(n, signal.SIG_DFL)
        )
        with stopping.stop_signals() as stop:
            assert stop == {}
    assert real(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


# Models that give no bound


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(36, 2)


def cross_entropy(model, x, labels, generator):
    return F.cross_entropy(model.linear(x.flatten(1)), labels)


@pytest.mark.parametrize("count", [0, 8])
def test_a_loss_of_ones_own(tmp_path, count):
    data, model = toy_data(), Classifier()
    _, history = run(
        tmp_path, data, model, cross_entropy, epochs=5, lr=0.1, valid_images=count
    )
    valid = history.column("valid")
    assert valid[-1] < 0.5 * valid[0]
    part = data.valid
    if count:
        # a stratified draw, never the first images of a file that may be sorted
        part = part.subset(stratified_subset(part, count, 0))
    with torch.no_grad():
        by_hand = cross_entropy(model, part.images.float(), part.labels, None)
    assert min(valid) == pytest.approx(by_hand.item(), rel=1e-5)


# Precision, devices, compiling


@pytest.mark.parametrize("precision", ["medium", "bf16"])
def test_lower_precision_trains_and_leaves_the_setting_alone(tmp_path, precision):
    before = torch.get_float32_matmul_precision()
    model, history = run(tmp_path, precision=precision, epochs=10)
    assert torch.get_float32_matmul_precision() == before
    valid = history.column("valid")
    assert valid[-1] < valid[0] and model.output.weight.dtype == torch.float32


def test_compile_asks_for_nothing_of_a_model_without_a_fast_path(tmp_path):
    small = Diffusion(DiffusionConfig.preset("tiny", image_shape=(1, 8, 8)))
    model, _ = run(tmp_path, toy_data(side=8), small, compile=True, epochs=1)
    assert not hasattr(model, "fast_path") and model.compiled_bound is None


def test_compile_gives_a_recurrent_model_its_fast_path(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(train, "accelerate", lambda *what: given.append(what))
    model = toy_model()
    run(tmp_path, model=model, compile=True, epochs=1)
    assert given == [(model, 0)]


def test_a_device_that_nobody_has_tried_is_taken_only_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta:1:2", "meta"])
def test_a_device_that_is_none_gets_one_line(name):
    with pytest.raises(ValueError, match="allowed: auto, cpu, or a GPU") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


# Errors before the first step


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_gets_one_line(tmp_path, split):
    data = toy_data()
    empty = getattr(data, split).subset(torch.arange(0))
    with pytest.raises(ValueError, match=f"the {split} split is empty"):
        run(tmp_path, replace(data, **{split: empty}))


@pytest.mark.parametrize("own_loss", [None, cross_entropy])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_bad_image_is_found_before_anything_is_computed(tmp_path, split, own_loss):
    data, model = toy_data(), toy_model()
    images = torch.zeros_like(getattr(data, split).images)
    images[-1, 0, -1, -1] = 3
    bad = replace(getattr(data, split), images=images, visit="bits")
    before = weights(model)
    with pytest.raises(ValueError, match=f"the {split} split .* holds 3 where"):
        run(tmp_path, replace(data, **{split: bad}), model, own_loss)
    assert_same_bits(weights(model), before)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_run_without_one_finite_validation_ends_with_an_error(
    tmp_path, monkeypatch, keep, value
):
    monkeypatch.setattr(train, "validate", lambda *_: {"valid": value})
    told = f"{tmp_path} has no finite validation: the last is {value} after step 12"
    for _ in range(2):  # also if the same is asked for again
        with pytest.raises(TrainingStopped, match=re.escape(told)) as caught:
            run(tmp_path, keep=keep)
        assert "\n" not in str(caught.value)


def test_one_finite_validation_is_enough(tmp_path, monkeypatch):
    values = iter([math.nan, 5.0, -math.inf])
    monkeypatch.setattr(train, "validate", lambda *_: {"valid": next(values)})
    _, history = run(tmp_path)
    assert history.column("valid")[1] == 5.0
    assert checkpoint.load(tmp_path / "checkpoint.pt")["best"]["epoch"] == 2


@pytest.mark.parametrize("n", [1, 64])
def test_batch_norm_over_one_image_is_refused_before_a_step(tmp_path, n):
    model = toy_model(kind=Normed)
    told = "a batch of 1 leaves batch norm 1 image, .*; allowed: 2 images or more"
    with pytest.raises(ValueError, match=told):
        run(tmp_path, toy_data(n), model, batch_size=1 if n > 1 else 16)
    run(tmp_path / "two", toy_data(2), model, epochs=1)
    run(tmp_path / "one", toy_data(1), toy_model(), epochs=1)


def test_a_bar_moves_in_the_log_of_a_notebook_and_says_where_the_run_lies(tmp_path):
    """In a kernel tqdm would take a widget, whose text never changes."""
    program = f"""
import sys, types
import IPython
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
IPython.get_ipython = lambda: type("ZMQInteractiveShell", (), {{}})()
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from toy_runs import toy_config, toy_data, toy_model
from drawlib.training.train import fit
fit(toy_model(), toy_data(), toy_config(), {str(tmp_path / "run")!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    last = done.stderr.splitlines()[-1]
    assert "12/12" in last and "100%" in last
    assert last.startswith(f"{tmp_path / 'run'}: ")


def test_images_of_another_shape_get_one_line(tmp_path):
    told = r"\(1, 1, 5, 5\); allowed: \(batch, 1, 6, 6\)"
    with pytest.raises(ValueError, match=told):
        run(tmp_path, toy_data(side=5))


def test_a_file_in_the_way_of_the_directory_is_an_os_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError):
        run(tmp_path / "run")


def test_the_log_is_json_line_by_line(tmp_path):
    run(tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert not list(tmp_path.glob(".*.partial"))


def test_a_run_directory_has_a_name(tmp_path, monkeypatch):
    """An unset variable would train in the current folder, and ~ make one called ~."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def train(run_dir):
        return fit(toy_model(), toy_data(), toy_config(), run_dir, progress=False)

    with pytest.raises(ValueError, match="run_dir is ''; allowed: the name of a file"):
        train("")
    with pytest.raises(ValueError, match="after ~ the name of a user"):
        train("~nobody-by-this-name/run")
    assert not list(tmp_path.iterdir())
    assert len(train("~/run").rows) == 3
    assert len(History.read("~/run").rows) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_told_before_the_first_step(tmp_path, value):
    """They were told as a training that has diverged, which a lower rate helps."""
    model = toy_model()
    fit(model, toy_data(), toy_config(epochs=1), tmp_path / "whole", progress=False)
    torch.nn.init.constant_(model.decoder[0].weight, value)
    with pytest.raises(ValueError, match="decoder.0.weight of VAE is not finite"):
        fit(model, toy_data(), toy_config(), tmp_path / "new", progress=False)
    # What goes on begins with the weights of its checkpoint.
    fit(model, toy_data(), toy_config(epochs=1), tmp_path / "whole", progress=False)
    assert model.decoder[0].weight.isfinite().all()
