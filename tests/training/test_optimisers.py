"""Muon: which weights it takes, what a step does, and that a resume changes nothing."""

import copy
import math

import pytest
import torch

from drawlib import (
    DRAW,
    GLAS,
    VAE,
    DRAWConfig,
    GLASConfig,
    LadderConfig,
    LadderVAE,
    TrainConfig,
    VAEConfig,
)
from drawlib.training.optimisers import Optimisers, make_optimisers

CPU = torch.device("cpu")
MUON = TrainConfig(optimiser="muon")


@pytest.mark.parametrize(
    "model",
    [
        VAE(VAEConfig.preset("tiny")),
        LadderVAE(LadderConfig.preset("tiny")),
        DRAW(DRAWConfig.preset("tiny", attention="gaussian")),
        DRAW(DRAWConfig.preset("tiny", prior="learned")),
        GLAS(GLASConfig.preset("tiny")),
    ],
    ids=lambda model: type(model).__name__,
)
def test_each_weight_has_one_optimiser_and_muon_has_matrices_alone(model):
    muon, adam = make_optimisers(model, MUON, CPU).members
    taken = [[p for g in o.param_groups for p in g["params"]] for o in (muon, adam)]
    assert all(p.ndim == 2 for p in taken[0])
    together = [id(p) for part in taken for p in part]
    assert sorted(together) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "first"),
    [
        (VAE(VAEConfig.preset("tiny")), "encoder.0.weight"),
        (LadderVAE(LadderConfig.preset("tiny")), "up.0.0.weight"),
        # As many pixels as hidden units.
        (VAE(VAEConfig((1, 4, 4), (16, 16), (16, 16), z=16)), "encoder.0.weight"),
    ],
    ids=["vae", "ladder", "square"],
)
def test_maps_from_and_to_the_pixels_stay_with_adam(model, first):
    named = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    taken = {id(p) for p in model.matrices()}
    left = {name for name, p in named.items() if id(p) not in taken}
    assert left == {first, "output.weight"} and len(named) > 3


def test_the_windows_heads_and_the_biases_stay_with_adam():
    model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)] for p in model.matrices()}
    assert found == {
        "encoder.weight",
        "q_head.linear.weight",
        "decoder.weight",
        "writer.weight",
    }


def test_muon_moves_all_singular_directions_alike():
    """W ← W − η √max(1, rows / columns) · orth(M): singular values near one."""
    model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
    optimisers = make_optimisers(model, MUON, CPU)
    weight = model.encoder.weight
    before = weight.detach().clone()
    model.bound(torch.zeros(4, 1, 28, 28), model.noise(4)).elbo.sum().backward()
    optimisers.step(lambda full: full)
    step = (before - weight.detach()) / MUON.muon_lr
    step /= math.sqrt(max(1.0, weight.shape[0] / weight.shape[1]))
    rank = torch.linalg.matrix_rank(weight.grad)
    values = torch.linalg.svdvals(step)[:rank]
    # Five iterations in bf16 leave the large ones between 0.6 and 1.3.
    assert 0.5 < values[: rank // 2].min() and values.max() < 1.4


def test_a_schedule_moves_both_rates_alike():
    model = DRAW(DRAWConfig.preset("tiny"))
    optimisers = make_optimisers(model, TrainConfig(optimiser="muon", lr=1e-3), CPU)
    model.bound(torch.zeros(2, 1, 28, 28), model.noise(2)).elbo.sum().backward()
    optimisers.step(lambda full: full / 4)
    rates = [o.param_groups[0]["lr"] for o in optimisers.members]
    assert rates == [0.02 / 4, 1e-3 / 4]


def test_states_go_there_and_back():
    model = DRAW(DRAWConfig.preset("tiny"))
    x, noise = torch.zeros(2, 1, 28, 28), model.noise(2)

    def steps(optimisers: Optimisers, count: int) -> None:
        for _ in range(count):
            optimisers.zero_grad()
            (-model.bound(x, noise).elbo.mean()).backward()
            optimisers.step(lambda full: full)

    optimisers = make_optimisers(model, MUON, CPU)
    steps(optimisers, 2)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    kept = copy.deepcopy(optimisers.state_dict())
    steps(optimisers, 2)
    uncut = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(weights)
    again = make_optimisers(model, MUON, CPU)
    again.load_state_dict(kept)
    steps(again, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, uncut[name]), name


def test_a_model_that_names_no_matrices_is_refused():
    with pytest.raises(ValueError, match="names no matrices; allowed: adam"):
        make_optimisers(torch.nn.Linear(2, 2), MUON, CPU)


def test_a_pytorch_without_muon_is_told_in_one_line(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match="allowed: adam, or PyTorch 2.9 or newer"):
        make_optimisers(DRAW(DRAWConfig.preset("tiny")), MUON, CPU)
