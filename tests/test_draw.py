"""DRAW against its equations, the NumPy reference, and what is known in closed form."""

import math

import numpy as np
import pytest
import reference_recurrent as reference
import torch
from exact_models import hermite_grid
from small_recurrent import (
    INFERENCE,
    SHAPE,
    arrays,
    draw,
    silence,
    some_bits,
    start_of,
)
from torch import Tensor, nn

from drawlib.draw import DRAW, DRAWConfig
from drawlib.gaussian import Gaussian
from drawlib.vae import VAE, VAEConfig

KINDS = [
    {"attention": "none"},
    {"attention": "gaussian"},
    {"attention": "cauchy"},
    {"attention": "gaussian", "prior": "learned"},
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(k.values()))


# One step


@pytest.mark.parametrize("shape", [(1, 5, 4), (1, 4, 6), (3, 5, 4)])
def test_eqs_3_to_8_one_full_step_equals_the_numpy_reference(shape):
    """All T steps, for each of three images: colour, and A ≠ B both ways."""
    model = draw(image_shape=shape, attention="gaussian")
    x, noise = some_bits(3, shape), model.noise(3)
    bound, w = model.bound(x, noise), arrays(model)
    results = list(model.steps(x, noise))
    for k in range(3):
        state, log_ratios = start_of(model), 0.0
        for t in range(model.config.T):
            state, kl, log_ratio = reference.draw_step(
                w, state, x[k].numpy(), noise[k, t].numpy(), read=2, write=3
            )
            log_ratios += log_ratio
            for name, value in state.items():
                got = getattr(results[t][0], name)[k].detach().numpy()
                np.testing.assert_allclose(got, value, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(bound.kl[k, t].item(), kl, atol=1e-11)
        log_p = reference.bernoulli(state["canvas"], x[k].numpy())
        np.testing.assert_allclose(bound.log_likelihood[k].item(), log_p, atol=1e-11)
        np.testing.assert_allclose(
            bound.log_weight[k].item(), log_p + log_ratios, atol=1e-11
        )


def test_gradcheck_of_one_full_step_with_attention():
    """Inputs, states, noise and weights of both heads, by finite differences."""
    model = draw(image_shape=(1, 3, 4), hidden=3, attention="gaussian", write=2)
    x = torch.rand(1, 1, 3, 4).double()
    state = [torch.randn_like(s).requires_grad_() for s in model.start(1)]
    heads = ("read_head.weight", "write_head.weight", "encoder.weight", "writer.bias")
    weights = [dict(model.named_parameters())[name] for name in heads]

    def step(x: Tensor, eps: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state, changed = rest[:5], dict(zip(heads, rest[5:], strict=True))
        after, kl, log_ratio = torch.func.functional_call(
            Stepper(model),
            {f"model.{k}": v for k, v in changed.items()},
            (state, x, eps),
        )
        return (*after, kl, log_ratio)

    eps = torch.randn(1, 2).double().requires_grad_()
    inputs = (x.requires_grad_(), eps, *state, *weights)
    assert torch.autograd.gradcheck(step, inputs, atol=1e-7)


class Stepper(nn.Module):
    """A model whose forward is the step."""

    def __init__(self, model: DRAW) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: tuple[Tensor, ...], x: Tensor, eps: Tensor):
        start = self.model.start(1)._make(state)
        return self.model.step(start, x, eps, self.model.fixed(x))


def test_eqs_22_to_24_zero_heads_look_at_the_whole_image_and_write_on_it():
    model = draw(attention="gaussian")
    silence(model.read_head, model.write_head)
    trace = model.trace(some_bits())
    for windows, N in ((trace.read, 2), (trace.write, 3)):
        centres = torch.linspace(0, 4, N).double().expand(3, 3, N)
        torch.testing.assert_close(windows.mu_y, centres)
        torch.testing.assert_close(windows.mu_x, centres - 0.5)
        assert torch.equal(windows.gamma, torch.ones(3, 3).double())
        assert torch.equal(windows.sigma, torch.ones(3, 3).double())


def test_eq_29_the_intensity_is_inverted_on_write_and_not_on_read():
    """5.2-25."""
    model = draw(attention="gaussian")
    silence(model.read_head, model.write_head)
    x, h = some_bits(), torch.randn(3, 6).double()
    r, written = model.read(x, torch.zeros_like(x), h), model.write(h)
    with torch.no_grad():
        model.read_head.bias[4] = model.write_head.bias[4] = math.log(2)
    torch.testing.assert_close(model.read(x, torch.zeros_like(x), h), 2 * r)
    torch.testing.assert_close(model.write(h), written / 2)


def test_read_and_write_have_heads_of_their_own():
    """5.2-25, F6: one head's window does not move with the other's weights."""
    model = draw(attention="gaussian")
    h = torch.randn(3, 6).double()
    read, write = model.read_window(h), model.write_window(h)
    with torch.no_grad():
        model.read_head.bias.add_(0.3)
    assert not torch.equal(model.read_window(h).mu_x, read.mu_x)
    assert torch.equal(model.write_window(h).mu_x, write.mu_x)


def test_a_mirrored_image_and_a_mirrored_window_give_a_mirrored_patch():
    """5.2-12 through the model: off-by-one grids fail unless the stride is 1."""
    model = draw(attention="gaussian")
    nn.init.zeros_(model.read_head.weight)
    x, h = some_bits(), torch.randn(3, 6).double()
    zero = torch.full_like(x, -800.0)  # a canvas of zero probability: x̂ = x
    patch = model.read(x, zero, h).view(3, 2, 2, 2)
    with torch.no_grad():
        model.read_head.bias[0].neg_()
    mirrored = model.read(x.flip(3), zero, h).view(3, 2, 2, 2)
    torch.testing.assert_close(mirrored, patch.flip(3))


# What is known in closed form


@every_kind
def test_a_zero_network_pays_784_log_2_and_no_kl(kind):
    """5.3-27."""
    model = DRAW(DRAWConfig(T=3, hidden=8, z=2, **kind)).double()
    silence(model)
    bound = model.bound(some_bits(2, (1, 28, 28)), model.noise(2))
    assert torch.equal(bound.kl, torch.zeros(2, 3).double())
    wanted = torch.full((2,), -784 * math.log(2), dtype=torch.float64)
    torch.testing.assert_close(bound.elbo, wanted, rtol=1e-13, atol=0)
    assert round(-bound.elbo[0].item(), 3) == 543.427


def test_the_kl_constant_is_one_half_for_each_dimension_of_each_step():
    """4.4-2, with T ≠ D: eq. (11) as printed, with −T/2, differs by T(D − 1)/2."""
    model = draw(T=3, z=5)
    x, noise = some_bits(), model.noise(3)
    q = [model.posterior(state.h_enc) for state, _, _ in model.steps(x, noise)]
    without_constant = sum(
        0.5 * (g.mu**2 + g.sigma**2 - 2 * g.log_sigma).sum(1) for g in q
    )
    total = model.bound(x, noise).kl.sum(1)
    torch.testing.assert_close(total, without_constant - 3 * 5 / 2)


def test_eq_2_the_posterior_can_be_narrower_than_the_prior():
    """5.1-4: a head output of −10 is σ = e^{−10}; log σ, not log σ²."""
    model = draw()
    silence(model.q_head)
    with torch.no_grad():
        model.q_head.linear.bias[2:] = -10.0
    q = model.posterior(torch.randn(1, 6).double())
    wanted = torch.full((1, 2), math.exp(-10), dtype=torch.float64)
    torch.testing.assert_close(q.sigma, wanted)


@every_kind
def test_a_deaf_decoder_has_the_likelihood_of_its_bias(kind):
    """5.1-8: log p(x) is known; ELBO = log p − KL, and = log p where q is the prior."""
    model = draw(**{**kind, "prior": "standard"})
    nn.init.zeros_(model.writer.weight)
    if kind["attention"] != "none":
        nn.init.zeros_(model.writer.bias)
    x, noise = some_bits(), model.noise(3)
    logits = model.start_canvas
    if kind["attention"] == "none":
        logits = logits + 3 * model.writer.bias.view(SHAPE)
    log_p = (x * logits - torch.log1p(logits.exp())).sum((1, 2, 3))
    bound = model.bound(x, noise)
    torch.testing.assert_close(bound.elbo, log_p - bound.kl.sum(1))
    assert bound.kl.min() > 0
    silence(model.q_head)
    for value in (model.bound(x, noise).elbo, model.bound(x, noise).log_weight):
        torch.testing.assert_close(value, log_p)


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_bounds_lie_below_log_p_by_quadrature_and_the_weights_average_to_p(prior):
    """5.1-7, 5.3-34: T = 2, one latent a step; log p(x) from Gauss–Hermite nodes."""
    torch.manual_seed(4)
    model = draw(image_shape=(1, 2, 2), T=2, hidden=3, z=1, prior=prior)
    x = some_bits(1, (1, 2, 2))

    def log_p_with(nodes: int) -> Tensor:
        points, weights = hermite_grid(2, nodes)
        *_, last = model.dream(points.unsqueeze(2))
        log_x = model.likelihood(last.canvas, x.expand(len(points), -1, -1, -1))
        return torch.logsumexp(log_x + weights.log(), 0)

    with torch.no_grad():
        log_p = log_p_with(40)
        torch.testing.assert_close(log_p, log_p_with(30), rtol=1e-9, atol=0)
        n = 20000
        bound = model.bound(x.expand(n, -1, -1, -1), model.noise(n))
    assert bound.elbo.mean() < log_p
    w = (bound.log_weight - log_p).exp()
    assert (w.mean() - 1).abs() < 4 * w.std() / n**0.5
    # K = 1 has the ELBO's mean, from the densities of the draw and not from the KL
    gap = bound.log_weight - bound.elbo
    assert gap.std() > 1e-3
    assert gap.mean().abs() < 4 * gap.std() / n**0.5
    # The bound with K samples climbs towards log p.
    means = [
        (torch.logsumexp(bound.log_weight.view(-1, K), 1) - math.log(K)).mean()
        for K in (1, 10, 1000)
    ]
    assert means[0] < means[1] < means[2] <= log_p + 4 * w.std() / n**0.5
    assert log_p - means[2] < 0.1 * (log_p - means[0])


def test_with_one_step_and_no_attention_draw_is_a_vae_with_the_same_maps():
    """5.3-28."""
    model = draw(T=1)

    class SameMaps(VAE):
        def encode(self, x: Tensor) -> Gaussian:
            start = model.start(len(x))
            error = x - torch.sigmoid(start.canvas)
            seen = torch.cat([x.flatten(1), error.flatten(1), start.h_dec], 1)
            h, _ = model.encoder(seen, start.h_enc, start.c_enc)
            return model.q_head(h)

        def decode(self, z: Tensor) -> Tensor:
            start = model.start(len(z))
            h, _ = model.decoder(z, start.h_dec, start.c_dec)
            return start.canvas + model.writer(h).view(-1, *SHAPE)

    vae = SameMaps(VAEConfig(image_shape=SHAPE, encoder=(3,), decoder=(3,), z=2))
    x, noise = some_bits(), model.noise(3)
    ours, theirs = model.bound(x, noise), vae.bound(x, noise[:, 0])
    for name in ("log_likelihood", "kl", "log_weight"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(
        model.generate(3, noise=noise), vae.generate(3, noise=noise[:, 0])
    )


# Generation


@every_kind
def test_generation_reads_the_generative_parameters_alone(kind):
    """5.3-30: NaN in everything else changes no sample, and no gradient reaches it."""
    model = draw(**kind)
    noise = model.noise(2)
    before = model.generate(2, noise=noise)
    *_, last = model.dream(noise)
    last.canvas.square().sum().backward()
    for name, p in model.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 0)
        assert reached != name.startswith(INFERENCE), name
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith(INFERENCE):
                p.fill_(math.nan)
    assert torch.equal(model.generate(2, noise=noise), before)


def test_the_learned_prior_starts_at_the_papers():
    config = DRAWConfig.preset("tiny", attention="gaussian")
    torch.manual_seed(5)
    plain = DRAW(config)
    torch.manual_seed(5)
    learned = DRAW(DRAWConfig.preset("tiny", attention="gaussian", prior="learned"))
    x, noise = torch.rand(2, 1, 28, 28).round(), plain.noise(2)
    a, b = plain.bound(x, noise), learned.bound(x, noise)
    for name in ("log_likelihood", "kl", "log_weight"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert torch.equal(plain.generate(2, noise=noise), learned.generate(2, noise=noise))


def test_the_learned_prior_is_read_from_the_step_before():
    """p(z_t given h_dec_{t−1}): the KL of step t is to the Gaussian known before it."""
    model = draw(prior="learned")
    x, noise = some_bits(), model.noise(3)
    before = model.start(3)
    for state, kl, _ in model.steps(x, noise):
        mu, log_sigma = model.prior_head(before.h_dec).chunk(2, 1)
        q = model.posterior(state.h_enc)
        p = torch.distributions.Normal(mu, log_sigma.exp())
        q_ = torch.distributions.Normal(q.mu, q.sigma)
        wanted = torch.distributions.kl_divergence(q_, p).sum(1)
        torch.testing.assert_close(kl, wanted)
        before = state


# Numbers that go astray


@pytest.mark.parametrize("attention", ["gaussian", "cauchy"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_windows_stay_finite_forward_and_backward(attention, sign):
    """5.2-24 through the whole model, in float32."""
    model = DRAW(DRAWConfig.preset("tiny", attention=attention))
    for head in (model.read_head, model.write_head):
        with torch.no_grad():
            head.bias.copy_(sign * torch.tensor([100.0, -100.0, 20.0, 10.0, 5.0]))
    x = torch.rand(2, 1, 28, 28).round()
    bound = model(x)
    bound.elbo.mean().backward()
    assert torch.isfinite(bound.elbo).all() and torch.isfinite(bound.log_weight).all()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all(), name


# Configurations


def test_presets_have_the_published_sizes():
    sizes = {
        name: (c.T, c.hidden, c.z, c.attention, c.read, c.write, c.image_shape)
        for name in DRAWConfig.PRESETS
        for c in [DRAWConfig.preset(name)]
    }
    mnist = (1, 28, 28)
    assert sizes["paper"] == sizes["paper-attention"]
    assert sizes["paper"] == (64, 256, 100, "gaussian", 2, 5, mnist)
    assert sizes["paper-no-attention"][:4] == (64, 256, 100, "none")
    assert sizes["paper-svhn"][:2] == (32, 800)
    assert sizes["paper-svhn"][4:] == (12, 12, (3, 54, 54))
    assert sizes["paper-cifar10"] == (64, 400, 200, "gaussian", 5, 5, (3, 32, 32))
    assert sizes["source"][:4] == (10, 256, 32, "none")


def test_the_source_preset_has_its_parameters_but_for_the_extra_layer():
    """2.4: 3,262,304, less 784² + 784 of the layer, less two spare bias vectors."""
    model = DRAW(DRAWConfig.preset("source"))
    count = sum(p.numel() for p in model.parameters())
    assert count == 3_262_304 - (784 * 784 + 784) - 2 * 4 * 256


def test_the_encoder_sees_the_published_sizes():
    assert DRAW(DRAWConfig(T=1)).encoder.weight.shape == (1024, 2 * 784 + 256 + 256)
    small = DRAW(DRAWConfig(T=1, attention="gaussian"))
    assert small.encoder.weight.shape == (1024, 2 * 4 + 256 + 256)
    assert small.writer.weight.shape == (25, 256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "soft"}, "attention is 'soft'; allowed: none, gaussian, cauchy"),
        ({"prior": "flat"}, "prior is 'flat'; allowed: standard, learned"),
        ({"initial_state": "ones"}, "initial_state is 'ones'; allowed: learned, zeros"),
        ({"canvas": "grey"}, "canvas is 'grey'; allowed: learned, zeros"),
        ({"likelihood": "normal"}, "likelihood is 'normal'; allowed: bernoulli, disc"),
        ({"T": 0}, "T is 0; it must be at least 1"),
        ({"z": -1}, "z is -1; it must be at least 1"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
        ({"read": 0}, "read is 0; it must be at least 1"),
        ({"image_shape": (1, 0, 28)}, "image_shape is (1, 0, 28); it must be at least"),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError) as refused:
        DRAWConfig(**changes)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_wrong_images_and_wrong_noise_are_refused_in_one_line():
    model = draw()
    x = some_bits()
    with pytest.raises(ValueError, match=r"shape \(3, 1, 4, 5\); allowed: \(batch, 1"):
        model(x.mT)
    with pytest.raises(ValueError, match="allowed: finite values in"):
        model(x * math.nan)
    with pytest.raises(ValueError, match=r"noise has shape .* allowed: \(\(3, 3, 2\),"):
        model(x, noise=torch.zeros(3, 2, 3).double())
    with pytest.raises(ValueError, match="noise for 0 images"):
        model.generate(0)
    with pytest.raises(ValueError, match="allowed: finite"):
        model.trace(2 * x)
