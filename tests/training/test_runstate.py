"""What a run directory holds, and which config may go on in it."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from toy_runs import TOY, assert_same_bits, toy_config, toy_data, toy_model, weights

from drawlib.mistakes.planting import planted
from drawlib.training import checkpoint
from drawlib.training.runstate import History, RunState, TrainingStopped, differences
from drawlib.training.train import fit
from drawlib.vae import VAE


def trained(folder, data=None, model=None, **changes):
    model = model or toy_model()
    config = toy_config(**{"epochs": 2, **changes})
    return fit(model, data or toy_data(), config, folder, progress=False)


def state(folder, **changes):
    return RunState(folder, toy_config(**changes), toy_model(), toy_data())


def test_a_history_gives_columns_and_keeps_nan(tmp_path):
    fresh = state(tmp_path)
    fresh.rows = [{"epoch": 1, "valid": 2.5, "valid_se": math.nan}]
    fresh.write_log()
    history = History.read(tmp_path)
    assert history.column("valid") == [2.5]
    assert math.isnan(history.column("valid_se")[0])
    assert History.read(tmp_path / "nowhere").rows == ()
    with pytest.raises(KeyError):
        history.column("vaild")


@pytest.mark.parametrize("line", ["[1]", "3", '{"a": 1}', '{"epoch": 1}'])
def test_a_log_of_something_else_is_refused(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="log.jsonl holds .*; allowed: epoch, valid"):
        History.read(tmp_path)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("config", "holds no training: it lacks config"),
        ("optimiser", "holds no training: it lacks optimiser"),
        ("weight", "holds weights of another model"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_in_one_line(tmp_path, lost, told):
    trained(tmp_path)
    path = tmp_path / "checkpoint.pt"
    kept = checkpoint.load(path)
    part = kept["model"] if lost == "weight" else kept
    del part[next(iter(part)) if lost == "weight" else lost]
    checkpoint.save(path, kept)
    with pytest.raises(checkpoint.CheckpointError, match=told) as caught:
        trained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.5}, "train.lr was 0.01 and is 0.5"),
        ({"epochs": 7}, "train.epochs was 2 and is 7"),
        ({"seed": 3}, "train.seed was 0 and is 3"),
        ({"ema": 0.9}, "train.ema was 0.0 and is 0.9"),
    ],
)
def test_another_training_config_is_refused_by_its_fields(tmp_path, changes, told):
    trained(tmp_path)
    kept = checkpoint.load(tmp_path / "checkpoint.pt")["step"]
    with pytest.raises(TrainingStopped, match=told) as caught:
        trained(tmp_path, **changes)
    assert "belongs to another config" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["step"] == kept


def test_another_model_or_other_data_are_refused_by_their_fields(tmp_path):
    trained(tmp_path)
    other = VAE(type(TOY).from_dict({**TOY.to_dict(), "z": 3}))
    with pytest.raises(TrainingStopped, match="model.z was 2 and is 3"):
        trained(tmp_path, model=other)
    with pytest.raises(TrainingStopped, match="data.images was 64 and is 80"):
        trained(tmp_path, toy_data(80))
    with pytest.raises(TrainingStopped, match="data.content was"):
        trained(tmp_path, toy_data(seed=1))


def test_where_and_how_often_may_change(tmp_path):
    trained(tmp_path)
    again = trained(tmp_path, device="auto", compile=True, checkpoint_seconds=1.0)
    assert len(again.rows) == 2


def test_differences_names_what_is_only_on_one_side():
    old, new = {"train": {"a": 1}}, {"train": {"a": 1, "b": 2}, "model": {"z": 3}}
    told = "model.z was None and is 3, train.b was None and is 2"
    assert differences(old, new) == told
    assert differences(new, new) == ""


def test_a_log_without_a_checkpoint_is_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 99}\n')
    assert trained(tmp_path).column("epoch") == [1, 2]


def test_epochs_logged_after_the_checkpoint_are_logged_again(tmp_path):
    history = trained(tmp_path)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"epoch": 3}\n')
    assert trained(tmp_path) == history


def test_a_full_disk_while_logging_names_the_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(checkpoint.CheckpointError, match="log.jsonl .* disk is full"):
        state(tmp_path).write_log()


def test_the_smoothed_bound_and_the_mean_of_an_epoch(tmp_path):
    fresh = state(tmp_path)
    for value in (10.0, 20.0):
        fresh.record(value)
    assert fresh.smooth == pytest.approx(0.95 * 10 + 0.05 * 20)
    fresh.log(1, 0.1, {"valid": 12.0}, toy_model())
    assert fresh.rows[0]["train"] == 15.0
    fresh.log(2, 0.1, {"valid": 12.0}, toy_model())
    assert math.isnan(fresh.rows[1]["train"])


def test_a_good_step_resets_the_count_of_bad_ones(tmp_path):
    fresh = state(tmp_path)
    for _ in range(9):
        fresh.skip()
    fresh.record(1.0)
    for _ in range(9):
        fresh.skip()
    assert fresh.skipped == 18
    with pytest.raises(TrainingStopped):
        fresh.skip()


def test_a_validation_bound_that_is_nan_is_never_the_best(tmp_path):
    fresh, models = state(tmp_path), [toy_model(seed) for seed in (1, 2, 3)]
    for epoch, valid in enumerate((8.0, math.nan, 9.0)):
        fresh.log(epoch + 1, 0.1, {"valid": valid}, models[epoch])
    model = toy_model(4).train()
    fresh.finish(model, None)
    assert_same_bits(weights(model), weights(models[0]))
    assert not model.training


def test_left_overs_of_a_killed_process_are_swept(tmp_path):
    (tmp_path / ".checkpoint-new.pt.1.partial").write_bytes(b"half")
    trained(tmp_path)
    assert not list(tmp_path.glob(".*.partial"))


def test_a_run_goes_on_only_under_the_mistakes_that_it_began_with(tmp_path):
    with planted("V1"):
        trained(tmp_path)
    with pytest.raises(
        TrainingStopped, match=r"train.mistakes was \['V1'\] and is None"
    ):
        trained(tmp_path)
    with planted("V1"):
        assert trained(tmp_path).rows


def test_a_run_goes_on_only_with_the_clutter_that_it_began_with(tmp_path):
    cluttered = replace(toy_data(), fragments=8)
    trained(tmp_path, cluttered)
    with pytest.raises(TrainingStopped, match="data.fragments was 8 and is 2"):
        trained(tmp_path, replace(toy_data(), fragments=2))
    assert trained(tmp_path, cluttered).rows


@pytest.fixture
def unchecked_types():
    """Turn the tests' type checking off, so that the library's own answers."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def test_a_run_of_numpy_s_numbers_is_opened_again(tmp_path, unchecked_types):
    numbers = {
        "lr": np.logspace(-4, -2, 3)[1],
        "epochs": np.int64(2),
        "seed": np.int32(3),
    }
    data = replace(toy_data(), name=np.str_("toy"))
    object.__setattr__(data, "fragments", np.int64(3))  # past the tests' own check
    first = trained(tmp_path, data, **numbers)
    assert trained(tmp_path, data, **numbers) == first
    again = replace(toy_data(), name="toy", fragments=3)
    assert trained(tmp_path, again, lr=1e-3, epochs=2, seed=3) == first


def test_a_checkpoint_from_before_a_field_of_the_model_goes_on(tmp_path):
    first, again = toy_model(), toy_model()
    trained(tmp_path, model=first)
    path = tmp_path / "checkpoint.pt"
    content = checkpoint.load(path)
    field = next(
        f
        for f in dataclasses.fields(TOY)
        if f.default is not dataclasses.MISSING and f.default == getattr(TOY, f.name)
    )
    del content["config"]["model"][field.name]
    checkpoint.save(path, content)
    trained(tmp_path, model=again)
    assert_same_bits(weights(again), weights(first))


@pytest.mark.parametrize(
    ("schema", "other"), [("drawlib-checkpoint-2", "rows"), (1, "best"), (None, "")]
)
def test_a_checkpoint_of_a_newer_schema_is_refused_in_one_line(tmp_path, schema, other):
    trained(tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = checkpoint.load(path)
    assert state["schema"] == "drawlib-checkpoint-1"
    state.pop(other, None)  # which may name its parts in another way
    checkpoint.save(path, {**state, "schema": schema})
    told = f"has the schema {schema!r}; allowed: 'drawlib-checkpoint-1', or none in an"
    with pytest.raises(checkpoint.CheckpointError, match=told) as caught:
        trained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_a_schema_is_an_older_one_and_goes_on(tmp_path):
    history = trained(tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = checkpoint.load(path)
    del state["schema"]
    checkpoint.save(path, state)
    assert trained(tmp_path) == history


WAYS = {
    "a counter that is lost": lambda state: state.pop("seconds"),
    "an optimiser by another name": lambda state: state.update(optimiser={}),
    "an optimiser that is a list": lambda state: state.update(optimiser=[]),
    "rows by other names": lambda state: state.update(rows=[{"loss": 1.0}]),
    "another best": lambda state: state.update(best={}),
    "another generator": lambda state: state.update(rng=torch.zeros(3).byte()),
}


@pytest.mark.parametrize("change", WAYS.values(), ids=WAYS)
def test_a_checkpoint_of_another_version_is_told_as_one(tmp_path, change):
    """Whole, with its own sha256, and yet a traceback: KeyError, AttributeError …"""
    trained(tmp_path, toy_data())
    path = tmp_path / "checkpoint.pt"
    state = checkpoint.load(path)
    change(state)
    checkpoint.save(path, state)
    told = "checkpoint.pt is no checkpoint of this version of drawlib .*; allowed: the"
    with pytest.raises(checkpoint.CheckpointError, match=told):
        trained(tmp_path, toy_data())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "log.jsonl is no whole log"),
        (b'{"epoch": "one", "valid": 3.0}\n', "log.jsonl holds .* all numbers"),
    ],
)
def test_a_log_that_is_none_is_named(tmp_path, content, told):
    """It ended in "unknown format code 'g'", and in a codec's complaint, of no file."""
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        History.read(tmp_path)


def test_a_run_goes_on_only_with_its_own_images(tmp_path):
    """Data made by hand have no content hash, and a subset keeps that of the whole."""
    data = toy_data()
    one, other = (
        replace(data, train=data.train.subset(torch.arange(k, k + 48))) for k in (0, 16)
    )
    history = trained(tmp_path, data=one)
    with pytest.raises(TrainingStopped, match="belongs to another config: data.pixels"):
        trained(tmp_path, data=other)
    # A checkpoint from before the checksum goes on.
    path = tmp_path / "checkpoint.pt"
    kept = checkpoint.load(path)
    del kept["config"]["data"]["pixels"]
    checkpoint.save(path, kept)
    assert trained(tmp_path, data=one).rows == history.rows


def half(model, x, labels, generator):
    """A loss of one's own."""
    return -model.training_bound(x, model.noise(len(x), generator)).elbo.mean() / 2


@pytest.mark.parametrize("losses", [(half, None), (None, half)])
def test_a_training_goes_on_with_its_own_loss_alone(tmp_path, losses):
    def train(loss, epochs):
        config = toy_config(epochs=epochs)
        return fit(toy_model(), toy_data(), config, tmp_path, loss=loss, progress=False)

    first, other = losses
    train(first, 2)
    with pytest.raises(
        TrainingStopped, match="train.loss was '.*' and is '.*'; choose"
    ):
        train(other, 2)
    assert len(train(first, 2).rows) == 2


def test_a_checkpoint_that_says_nothing_of_the_loss_is_read(tmp_path):
    trained(tmp_path)
    path = tmp_path / "checkpoint.pt"
    old = checkpoint.load(path)
    del old["config"]["train"]["loss"]
    checkpoint.save(path, old)
    assert len(trained(tmp_path).rows) == 2
