"""The VAE against NumPy, closed forms and the claims of its docstrings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_models import bits, hermite_grid, seeded
from torch.func import functional_call

from drawlib.bound import Bound
from drawlib.vae import VAE, VAEConfig

SMALL = VAEConfig(
    image_shape=(1, 2, 3),
    encoder=(5, 4),
    decoder=(4, 3),
    z=2,
    encoder_activation="tanh",
)


def small(**changes) -> VAE:
    model = VAE(replace(SMALL, **changes)).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(0.5 * seeded(*p.shape, seed=100 + i))
    return model


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("variance", ["exp", "softplus"])
def test_eq_10_the_bound_equals_plain_numpy(variance):
    model, x, noise = small(variance=variance), bits(4, (1, 2, 3)), seeded(4, 2, seed=1)
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}

    def layer(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    flat, eps = x.flatten(1).numpy(), noise.numpy()
    h = np.tanh(layer("encoder.2", np.tanh(layer("encoder.0", flat))))
    out = layer("head.linear", h)
    mu, raw = out[:, :2], out[:, 2:]
    var = np.exp(2 * raw) if variance == "exp" else np.log(1 + np.exp(raw)) + 1e-6
    z = mu + np.sqrt(var) * eps
    h = np.tanh(layer("decoder.2", np.tanh(layer("decoder.0", z))))
    p = 1 / (1 + np.exp(-layer("output", h)))
    recon = (flat * np.log(p) + (1 - flat) * np.log(1 - p)).sum(1)
    kl = 0.5 * (mu**2 + var - np.log(var) - 1).sum(1)
    log_q = -0.5 * (eps**2 + np.log(2 * np.pi * var)).sum(1)
    log_p = -0.5 * (z**2 + np.log(2 * np.pi)).sum(1)

    b = model(x, noise=noise)
    close(b.log_likelihood, torch.from_numpy(recon))
    close(b.kl, torch.from_numpy(kl)[:, None])
    close(b.log_weight, torch.from_numpy(recon + log_p - log_q))
    close(b.elbo, torch.from_numpy(recon - kl))
    close(model.reconstruct(x, noise=noise), torch.from_numpy(p).view(4, 1, 2, 3))


def test_sizes_of_the_source_give_its_number_of_parameters():
    assert sum(p.numel() for p in VAE().parameters()) == 1_162_000


@pytest.mark.parametrize("name", VAEConfig.PRESETS)
def test_every_preset_runs(name):
    model = VAE(VAEConfig.preset(name))
    assert model(bits(2, (1, 28, 28)).float()).elbo.shape == (2,)
    assert model.generate(2).shape == (2, 1, 28, 28)


def test_zero_network_costs_784_log_2():
    model = VAE(VAEConfig.preset("tiny")).double()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    b = model(bits(3, (1, 28, 28)))
    assert torch.equal(b.kl, torch.zeros(3, 1, dtype=torch.float64))
    close(-b.elbo, torch.full((3,), 784 * math.log(2), dtype=torch.float64))
    assert torch.equal(b.log_weight, b.log_likelihood)


@pytest.mark.parametrize("variance", ["exp", "softplus"])
def test_v1_the_posterior_can_be_narrower_than_the_prior(variance):
    model = small(variance=variance)
    with torch.no_grad():
        model.head.linear.bias[2:] = -12.0
    assert (model.encode(bits(4, (1, 2, 3))).sigma < 0.01).all()


def test_log_weight_has_the_mean_of_the_elbo_and_is_not_the_elbo():
    model, x = small(), bits(1, (1, 2, 3))
    noise, weight = hermite_grid(2, 40)
    b = model.bound(x.expand(len(noise), -1, -1, -1), noise)
    close(b.log_weight @ weight, b.elbo @ weight, 1e-8)
    assert (b.log_weight - b.elbo).abs().max() > 0.1


def test_the_elbo_is_below_log_p_by_quadrature():
    model, x = small(), bits(6, (1, 2, 3), seed=3)
    z, weight = hermite_grid(2, 40)
    logits = model.decode(z).flatten(1)
    each = torch.distributions.Bernoulli(logits=logits)
    log_p = each.log_prob(x.flatten(1)[:, None]).sum(-1) + weight.log()
    exact = torch.logsumexp(log_p, 1)
    for image, value in zip(x, exact, strict=True):
        b = model.bound(image.expand(len(z), -1, -1, -1), z)
        assert (b.elbo @ weight).item() < value.item()


def test_every_parameter_gets_a_gradient():
    model = small()
    model(bits(4, (1, 2, 3)), noise=seeded(4, 2, seed=1)).elbo.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and (p.grad != 0).any(), name


def test_generation_reads_the_decoder_only():
    model, noise = small(), seeded(3, 2, seed=2)
    before = model.generate(3, noise=noise)
    with torch.no_grad():
        for p in (*model.encoder.parameters(), *model.head.parameters()):
            p.add_(1.0)
    assert torch.equal(model.generate(3, noise=noise), before)
    assert not torch.equal(model.generate(3, noise=-noise), before)
    close(before, torch.sigmoid(model.decode(noise)))  # means: probabilities


def test_pictures_lie_in_the_unit_interval_and_carry_no_gradient():
    model, x = small(), bits(3, (1, 2, 3))
    for picture in (model.generate(3), model.reconstruct(x)):
        assert picture.shape == (3, 1, 2, 3) and not picture.requires_grad
        assert (picture > 0).all() and (picture < 1).all()


def test_images_do_not_see_each_other():
    model, x, noise = small(), bits(4, (1, 2, 3)), seeded(4, 2, seed=1)
    together = model(x, noise=noise)
    alone = [model(x[i : i + 1], noise=noise[i : i + 1]).elbo for i in range(4)]
    close(together.elbo, torch.cat(alone))
    order = torch.tensor([2, 0, 3, 1])
    close(model(x[order], noise=noise[order]).elbo, together.elbo[order])


def test_start_at_makes_the_silent_output_the_mean_image():
    model = small()
    mean = torch.tensor([[[0.2, 0.5, 0.9], [0.3, 0.0, 1.0]]], dtype=torch.float64)
    model.start_at(mean)
    with torch.no_grad():
        model.output.weight.zero_()
    close(model.generate(1)[0], mean.clamp(0.01, 0.99))


def test_colour_uses_the_discretised_logistic():
    model = VAE(
        VAEConfig.preset(
            "tiny", image_shape=(3, 4, 4), likelihood="discretised-logistic"
        )
    )
    x = (255 * torch.rand(5, 3, 4, 4)).round() / 255
    model(x).elbo.sum().backward()
    assert model.likelihood.log_scale.grad.shape == (3, 1, 1)
    assert model.generate(2).shape == (2, 3, 4, 4)


def test_gradcheck_of_one_full_pass():
    model, x, noise = small(), bits(3, (1, 2, 3)), seeded(3, 2, seed=1)
    names = [name for name, _ in model.named_parameters()]

    class Terms(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x, noise):
            b: Bound = self.model.bound(x, noise)
            return b.elbo, b.log_weight

    def run(*values):
        weights = {f"model.{n}": v for n, v in zip(names, values, strict=True)}
        return functional_call(Terms(), weights, (x, noise))

    leaves = tuple(p.detach().clone().requires_grad_() for p in model.parameters())
    assert torch.autograd.gradcheck(run, leaves)


def test_training_raises_the_bound():
    torch.manual_seed(0)
    model = VAE(VAEConfig(image_shape=(1, 4, 4), encoder=(16,), decoder=(16,), z=2))
    bars = torch.eye(4).repeat_interleave(4, 1).view(4, 1, 4, 4).repeat(16, 1, 1, 1)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    noise = torch.Generator().manual_seed(1)
    first = model(bars, generator=noise).elbo.mean().item()
    for _ in range(120):
        optimiser.zero_grad()
        loss = -model(bars, generator=noise).elbo.mean()
        loss.backward()
        optimiser.step()
    # Independent pixels cost 16 H(1/4) = 9.0 nats; four bars cost log 4 = 1.39.
    assert first < -10 and -loss.item() > -4
