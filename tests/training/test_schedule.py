"""Learning rates and KL weights against their closed forms."""

from __future__ import annotations

import json
import math

import pytest

from drawlib.training.schedule import TrainConfig

N, BATCH = 1000, 100  # ten steps an epoch


def config(**changes):
    return TrainConfig(**{"epochs": 20, "batch_size": BATCH, "lr": 0.01, **changes})


def test_cosine_is_half_of_one_plus_cos():
    c = config(schedule="cosine")
    for step in (0, 1, 50, 100, 137, 199):
        expected = 0.01 * 0.5 * (1 + math.cos(math.pi * step / 200))
        assert c.learning_rate(step, N) == pytest.approx(expected, rel=1e-12)
    assert c.learning_rate(100, N) == pytest.approx(0.005)
    assert 0 < c.learning_rate(199, N) < 1e-6


def test_constant_stays():
    assert {config(schedule="constant").learning_rate(s, N) for s in range(200)} == {
        0.01
    }


def test_linear_ends_at_half_the_rate():
    c = config(schedule="linear")
    for step in (0, 60, 199):
        expected = 0.01 * (1 - 0.5 * step / 200)
        assert c.learning_rate(step, N) == pytest.approx(expected, rel=1e-12)


def test_staircase_is_a_tenth_every_decay_epochs_and_never_below_1e_5():
    c = config(schedule="staircase", decay_epochs=4, lr=1e-3)
    rates = {step: c.learning_rate(step, N) for step in (0, 39, 40, 79, 80, 120, 199)}
    assert rates[0] == rates[39] == 1e-3
    assert rates[40] == rates[79] == pytest.approx(1e-4)
    assert [rates[s] for s in (80, 120, 199)] == pytest.approx([1e-5] * 3)
    tiny = config(schedule="staircase", decay_epochs=1, lr=1e-6)
    assert tiny.learning_rate(150, N) == 1e-6  # never raised to the floor either


def test_warm_up_rises_linearly_from_above_zero():
    c = config(schedule="constant", warmup_steps=4)
    rates = [c.learning_rate(step, N) / 0.01 for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_kl_weight_is_above_zero_at_first_and_one_after_the_warm_up():
    c = config(kl_warmup=2)
    beta = [c.kl_weight(step, N) for step in range(25)]
    assert beta[0] == pytest.approx(1 / 20)
    assert beta == sorted(beta)
    assert beta[18] < 1 and beta[19:] == [1.0] * 6
    assert config().kl_weight(0, N) == 1.0


@pytest.mark.parametrize(
    ("n", "size", "steps"), [(1000, 100, 10), (1050, 100, 10), (7, 100, 1), (1, 1, 1)]
)
def test_an_epoch_has_full_batches_and_at_least_one(n, size, steps):
    c = config(batch_size=size)
    assert c.steps_per_epoch(n) == steps
    assert c.steps(n) == 20 * steps


def test_presets_and_json():
    glas = TrainConfig.preset("glas")
    assert (glas.schedule, glas.clip, glas.epochs) == ("staircase", "tensor", 250)
    for name in TrainConfig.PRESETS:
        c = TrainConfig.preset(name)
        assert TrainConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds is -1.0"),
        ({"recompute": -1, "compile": True}, "recompute is -1"),
        ({"recompute": 8}, "recompute is 8 and compile is False; allowed: 0, or"),
        ({"schedule": "cosin"}, "allowed: cosine, constant, linear, decay, staircase"),
        ({"clip": "value"}, "allowed: global, tensor, none"),
        ({"keep": "first"}, "allowed: best, last"),
        ({"precision": "fp16"}, "allowed: float32, medium, bf16"),
        ({"ema": 1.0}, "must be below 1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296; it must be below"),
        ({"lr": math.inf}, "lr is inf; it must be finite"),
        ({"beta1": 1.0}, "beta1 is 1.0; it must be below 1"),
        ({"beta2": -0.5}, "beta2 is -0.5; it must be at least 0"),
        ({"eps": -1e-8}, "eps is -1e-08; it must be at least 0"),
    ],
)
def test_impossible_values_are_refused_in_one_line(changes, told):
    with pytest.raises(ValueError, match=told) as caught:
        TrainConfig(**changes)
    assert "\n" not in str(caught.value)


def test_the_schedule_decay_is_constant_then_falls_linearly_to_zero():
    config = TrainConfig(epochs=4, batch_size=1, schedule="decay", lr=1.0)
    rates = [config.learning_rate(step, 100) for step in (0, 150, 300, 350, 399)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.01])
