"""The compiled bound of VAE and Ladder VAE is their own: values, gradients, log."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from toy_runs import assert_same_bits, toy_config, toy_data, weights

from drawlib.fast import step as faststep
from drawlib.fast.loop import accelerate, own_bound
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.training import train
from drawlib.training.train import fit
from drawlib.vae import VAE, VAEConfig

SIZES = {"image_shape": (1, 6, 6), "decoder": (9,)}
LAYERED = {
    "vae": lambda: VAE(VAEConfig(encoder=(9,), z=3, **SIZES)),
    "ladder": lambda: LadderVAE(LadderConfig(hidden=(9, 7), z=(3, 2), **SIZES)),
}

COMPILED = """
import copy, sys, torch
from drawlib import LadderConfig, LadderVAE, VAE, VAEConfig, accelerate

sizes = dict(image_shape=(1, 6, 5), decoder=(9,))
models = dict(
    vae=VAE(VAEConfig(encoder=(9,), z=3, **sizes)),
    gated=VAE(VAEConfig(encoder=(9,), z=3, encoder_activation="gated",
        decoder_activation="gated", variance="softplus", **sizes)),
    grey=VAE(VAEConfig(encoder=(9,), z=3, likelihood="discretised-logistic", **sizes)),
    ladder=LadderVAE(LadderConfig(hidden=(9, 7), z=(3, 2), **sizes)),
    plain=LadderVAE(LadderConfig(hidden=(9, 7), z=(3, 2), norm=False, variance="exp",
        **sizes)),
)
D, F, B = torch.float64, torch.float32, torch.bfloat16
for name, kind, n in (
    ("gated", D, 17), ("grey", D, 3), ("ladder", D, 15), ("plain", D, 2),
    ("vae", F, 16), ("vae", B, 128), ("ladder", B, 127),
):
    torch.manual_seed(0)
    model = copy.deepcopy(models[name]).to(D if kind == D else F)
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    quick, exact = copy.deepcopy(model), copy.deepcopy(model)
    accelerate(quick)
    x = (torch.rand(n, 1, 6, 5) < 0.4).to(p.dtype)
    for again in range(2):
        noise, found = model.noise(n), []
        for each, low in ((exact, False), (model, kind == B), (quick, kind == B)):
            each.zero_grad()
            with torch.autocast("cpu", B, enabled=low):
                bound = each.training_bound(x, noise)
            terms = bound.elbo, bound.log_likelihood, bound.kl[:, 0], bound.log_weight
            sum(w * t.sum() for w, t in enumerate(terms, 1)).backward()
            found.append(terms)
        close = {D: (1e-10, 1e-12), F: (1e-4, 1e-5), B: (3e-2, 3e-2)}[kind]
        for a, b in zip(*found[1:]):
            torch.testing.assert_close(b, a, rtol=close[0], atol=close[1])
        def worst(each):
            pairs = [(p.grad.flatten(), r.grad.flatten())
                for p, r in zip(each.parameters(), exact.parameters())]
            if kind == B:
                # A unit beside its kink may fall on the other side: then one weight's
                # gradient is off by a third, whoever rounds, the whole by a twentieth.
                pairs = [tuple(map(torch.cat, zip(*pairs)))]
            return max(((a - b).norm() / b.norm()).item() for a, b in pairs)
        most = {D: 1e-10, F: 1e-4, B: 0.15}[kind]
        assert worst(quick) < most, (name, kind, worst(quick), worst(model))
        for key, value in model.state_dict().items():  # the running statistics too
            torch.testing.assert_close(quick.state_dict()[key], value,
                rtol=close[0], atol=close[1])
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(name, n, graphs)
    torch._dynamo.utils.counters.clear()
try:
    ladder = models["ladder"]
    accelerate(ladder)
    ladder.training_bound(torch.zeros(1, 1, 6, 5), ladder.noise(1))
except ValueError as error:
    print("one image:", error)
"""

PLANTED = """
import torch
from drawlib import LadderConfig, LadderVAE, VAE, VAEConfig, accelerate, planted

right = torch.compile
torch.compile = lambda f, dynamic, options: right(f, backend="eager", dynamic=dynamic)
sizes = dict(image_shape=(1, 6, 5), decoder=(9,), variance="softplus")
vae = VAE(VAEConfig(encoder=(9,), z=3, **sizes))
ladder = LadderVAE(LadderConfig(hidden=(9, 7), z=(3, 2), **sizes))
for model, keys in ((vae, (None, "V1", None)), (ladder, (None, "L1", "L2", None))):
    model = model.double()
    x, noise = (torch.rand(4, 1, 6, 5) < 0.4).double(), model.noise(4)

    def bounds():
        for key in keys:
            with planted(*([key] if key else [])):
                yield model.training_bound(x, noise).elbo

    wanted = list(bounds())
    assert not torch.allclose(wanted[0], wanted[1])
    accelerate(model)
    for key, a, b in zip(keys, bounds(), wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-10), (key, a, b)
"""


@pytest.fixture(params=LAYERED)
def model(request):
    torch.manual_seed(1)
    return LAYERED[request.param]()


@pytest.fixture
def asked(monkeypatch):
    """How many images each call of the compiled bound had; it runs uncompiled."""
    sizes = []

    def watched(model, x, noise):
        sizes.append((len(x), torch.is_grad_enabled()))
        return own_bound(model, x, noise)

    monkeypatch.setattr("drawlib.fast.loop.own_bound", watched)
    monkeypatch.setattr("drawlib.fast.loop.compiled", lambda function: function)
    return sizes


def test_training_takes_the_compiled_bound_and_evaluation_does_not(model, asked):
    accelerate(model)
    x, noise = torch.rand(3, 1, 6, 6).round(), model.noise(3)
    model(x, noise=noise)
    assert asked == []
    model.training_bound(x, noise)
    assert asked == [(3, True)]


def test_a_training_goes_on_with_the_compiled_bound(
    model, asked, tmp_path, monkeypatch
):
    """Begun without, resumed with it: the log and weights of one that never had it.

    No evaluation takes it. (Here it stands for itself: nothing is compiled.)
    """
    data, begun = toy_data(), copy.deepcopy(model)
    config = toy_config(epochs=2)
    log = fit(model, data, config, tmp_path / "plain", progress=False)
    assert asked == []
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        right, left = train.negative_elbo, iter(range(5))  # an epoch has four steps

        def until_cut(*given):
            if next(left) == 4:
                raise InterruptedError
            return right(*given)

        patch.setattr(train, "negative_elbo", until_cut)
        fit(begun, data, config, tmp_path / "cut", progress=False)
    config = toy_config(epochs=2, compile=True)
    again = fit(begun, data, config, tmp_path / "cut", progress=False)
    assert asked == [(16, True)] * 4
    for column in ("train", "valid"):
        assert again.column(column) == log.column(column)
    assert_same_bits(weights(begun), weights(model))


def test_a_model_with_a_compiled_bound_is_copied_and_travels(model):
    model.compiled_bound = faststep.Compiled(own_bound)
    assert copy.deepcopy(model).compiled_bound is model.compiled_bound
    there = pickle.loads(pickle.dumps(model)).compiled_bound
    assert there is own_bound or there.function is own_bound


def test_layers_that_speak_to_other_processes_are_not_compiled(asked):
    """What SyncBatchNorm sends in the middle of the bound is no pure function."""
    ladder = nn.SyncBatchNorm.convert_sync_batchnorm(LAYERED["ladder"]())
    accelerate(ladder)
    assert ladder.compiled_bound is None


def in_a_process_of_its_own(program):
    """The shape checks of the tests are not made for a compiler."""
    env = {**os.environ, "DRAWLIB_NO_TYPECHECK": "1", "OMP_NUM_THREADS": "1"}
    env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    not faststep.has_compiler(), reason="torch.compile needs a compiler"
)
def test_the_compiled_bound_equals_the_plain_one_in_every_precision():
    """Each term, each gradient and each running statistic, over two steps.

    One program for each size and precision; a ladder refuses a single image as before.
    """
    *programs, refused = in_a_process_of_its_own(COMPILED)
    assert [line.split()[-1] for line in programs] == ["1"] * 7
    assert refused.startswith("one image: Expected more than 1 value per channel")


@pytest.mark.slow
@pytest.mark.skipif(
    not faststep.has_compiler(), reason="torch.compile needs a compiler"
)
def test_a_compiled_bound_makes_the_planted_mistakes_and_no_others():
    in_a_process_of_its_own(PLANTED)
