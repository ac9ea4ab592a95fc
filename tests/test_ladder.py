"""The Ladder VAE: its equations, an exact model, and the public mistakes L1 to L4."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exact_models import TwoLayerLinearGaussian, bits, hermite_grid, seeded
from reference_ladder import ReferenceLadder
from torch import Tensor
from torch.func import functional_call

import drawlib
from drawlib.bound import Bound
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.vae import VAE, VAEConfig

THREE = {
    "image_shape": (1, 2, 3),
    "hidden": (7, 6, 5),
    "z": (4, 3, 2),  # all different: a sampler that starts at the wrong end fails
    "decoder": (5,),
}
SHAPE = (1, 2, 3)


def ladder(seed: int = 100, **changes) -> LadderVAE:
    """A small three-layer model in float64 with seeded weights and statistics."""
    model = LadderVAE(LadderConfig(**{**THREE, **changes})).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.3 * seeded(*p.shape, seed=seed + i))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(0.1 * seeded(*value.shape, seed=seed))
            elif name.endswith("running_var"):
                value.copy_(0.5 + seeded(*value.shape, seed=seed) ** 2)
    return model.eval()


def draws(n: int, model: LadderVAE, seed: int = 1) -> tuple[Tensor, ...]:
    shapes = model.noise_shapes(n)
    return tuple(seeded(*shape, seed=seed + i) for i, shape in enumerate(shapes))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- equations ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_bound_equals_the_numpy_reference(norm, training):
    model = ladder(norm=norm).train(training)
    x, noise = bits(6, SHAPE), draws(6, model)
    weights = {k: v.detach().clone().numpy() for k, v in model.state_dict().items()}
    reference = ReferenceLadder(weights, model.config.floor, training)
    b = model(x, noise=noise)
    each = reference.bound(x.numpy(), tuple(eps.numpy() for eps in noise))
    for ours, theirs in zip((b.log_likelihood, b.kl, b.log_weight), each, strict=True):
        close(ours, torch.from_numpy(theirs))
    close(b.elbo, torch.from_numpy(each[0] - each[1].sum(1)))


@pytest.mark.parametrize("training", [True, False])
def test_generation_equals_the_numpy_reference_in_either_mode(training):
    model = ladder().train(training)
    noise = draws(4, model)
    weights = {k: v.detach().clone().numpy() for k, v in model.state_dict().items()}
    reference = ReferenceLadder(weights, model.config.floor, training=False)
    images = reference.generate(tuple(eps.numpy() for eps in noise))
    close(model.generate(4, noise=noise).flatten(1), torch.from_numpy(images))


def test_each_kl_is_between_q_and_the_generative_p_of_its_layer():
    # The columns run from bottom to top, like config.z.
    model = ladder()
    x, noise = bits(5, SHAPE), draws(5, model)
    rungs = model.infer(x, noise)
    kl = model.bound(x, noise).kl
    for i, (z, q, p) in enumerate(rungs):
        assert z.shape == q.mu.shape == p.mu.shape == (5, model.config.z[i])
        mine = torch.distributions.Normal(q.mu, q.sigma)
        other = torch.distributions.Normal(p.mu, p.sigma)
        close(kl[:, i], torch.distributions.kl_divergence(mine, other).sum(1))
    top = rungs[-1].p
    assert torch.equal(top.mu, torch.zeros_like(top.mu))
    assert torch.equal(top.sigma, torch.ones_like(top.mu))


@pytest.mark.parametrize("norm", [True, False])
def test_a_rung_of_depth_two_has_two_layers_on_both_ways_and_in_the_decoder(norm):
    model, x = ladder(depth=2, norm=norm), bits(5, SHAPE)
    parts = 3 if norm else 2
    blocks = [*model.up, *(prior[0] for prior in model.priors), *model.decoder]
    for made, width in zip(blocks, (7, 6, 5, 7, 6, 5), strict=True):
        first, second = made[:parts], made[parts:]
        assert len(second) == parts and second[0].weight.shape == (width, width)
        inner = seeded(5, first[0].in_features, seed=3)
        close(made(inner), second(first(inner)))
        assert [type(a) for a in first] == [type(a) for a in second]
    b = model(x)
    assert b.kl.shape == (5, 3) and (b.kl > 0).all()
    # With a depth of one the names of the weights are those of always.
    names = set(ladder(norm=norm).state_dict())
    assert names < set(model.state_dict())


def test_softplus_acts_on_the_variance_and_the_floor_is_added():
    model, x = ladder(floor=1e-3), bits(5, SHAPE)
    for d, head in zip(model.bottom_up(x), model.up_heads, strict=True):
        raw = head.linear(d).chunk(2, dim=1)[1]
        close(head(d).sigma ** 2, torch.log1p(raw.exp()) + 1e-3)


@pytest.mark.parametrize("variance", ["softplus", "exp"])
def test_zero_network_has_its_kl_in_closed_form(variance):
    # μ is 0 everywhere; q̂ = p = N(0, v) below the top, so q = N(0, v/2) there, and
    # KL = ½(½ − log ½ − 1) a dimension whatever v; at the top v meets N(0, 1).
    model = ladder(norm=False, variance=variance, floor=0.0)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    b = model(bits(3, SHAPE))
    v = math.log(2) if variance == "softplus" else 1.0
    half = 0.5 * (0.5 + math.log(2) - 1)
    top = 0.5 * (v - math.log(v) - 1)
    expected = torch.tensor([4 * half, 3 * half, 2 * top], dtype=torch.float64)
    close(b.kl, expected.expand(3, 3))
    close(b.log_likelihood, torch.full((3,), -6 * math.log(2), dtype=torch.float64))


def test_bottom_up_is_affine_then_norm_then_leaky_rectifier_of_slope_a_tenth():
    model, x = ladder(), bits(5, SHAPE)
    linear, norm, activation = model.up[0]
    assert linear.bias is None and activation.negative_slope == 0.1
    d_1 = model.bottom_up(x)[0]
    close(d_1, torch.nn.functional.leaky_relu(norm(linear(x.flatten(1))), 0.1))
    close(model.bottom_up(x)[1], model.up[1](d_1))


# --- an exact model -----------------------------------------------------------------


def expected_terms(model, image) -> tuple[Tensor, Tensor]:
    """E[ELBO] and E[log w], exactly: both are quadratic in the five noise numbers."""
    points, weight = hermite_grid(5, 3)
    noise = (points[:, :3], points[:, 3:])
    b = model.bound(image.expand(len(points), -1, -1, -1), noise)
    return b.elbo @ weight, b.log_weight @ weight


def test_two_layer_linear_gaussian_with_the_true_posterior_is_tight():
    model, x = TwoLayerLinearGaussian(), 0.5 + 0.4 * seeded(4, *SHAPE, seed=30)
    exact = model.log_prob(x)
    close(model.gap(x), torch.zeros(4, dtype=torch.float64), 1e-8)
    for seed in (31, 32):
        close(model.bound(x, draws(4, model, seed)).log_weight, exact)
    for image, value in zip(x, exact, strict=True):
        close(expected_terms(model, image)[0], value)


def test_two_layer_linear_gaussian_with_another_q_loses_its_kl():
    model, x = TwoLayerLinearGaussian(wrong=True), 0.5 + 0.4 * seeded(4, *SHAPE)
    gap = model.gap(x)
    assert (gap > 0.1).all()
    for image, exact, lost in zip(x, model.log_prob(x), gap, strict=True):
        elbo, log_weight = expected_terms(model, image)
        close(elbo, exact - lost, 1e-8)
        close(log_weight, elbo, 1e-8)


@pytest.mark.parametrize("variance", ["softplus", "exp"])
def test_one_layer_without_norm_is_the_vae(variance):
    sizes = {"image_shape": SHAPE, "variance": variance}
    vae = VAE(
        VAEConfig(encoder=(5,), decoder=(4, 3), z=2, decoder_activation="relu", **sizes)
    ).double()
    one = LadderVAE(
        LadderConfig(
            hidden=(5,),
            z=(2,),
            decoder=(4, 3),
            activation="relu",
            norm=False,
            floor=1e-6,
            **sizes,
        )
    ).double()
    values = list(vae.state_dict().values())
    with torch.no_grad():
        for mine, theirs in zip(one.state_dict().values(), values, strict=True):
            mine.copy_(theirs)
    x, noise = bits(5, SHAPE), seeded(5, 2, seed=3)
    assert isinstance(one.noise(5), Tensor) and one.noise_shapes(5) == ((5, 2),)
    for given in (noise, (noise,)):
        mine, theirs = one(x, noise=given), vae(x, noise=noise)
        assert torch.equal(mine.log_likelihood, theirs.log_likelihood)
        assert torch.equal(mine.log_weight, theirs.log_weight)
        close(mine.kl, theirs.kl, 1e-14)
    assert torch.equal(one.generate(5, noise=noise), vae.generate(5, noise=noise))
    ours = one.reconstruct(x, noise=noise)
    assert torch.equal(ours, vae.reconstruct(x, noise=noise))


# --- public mistakes ----------------------------------------------------------------


def test_v1_l2_every_posterior_and_prior_can_be_narrow():
    model, x = ladder(), bits(4, SHAPE)
    with torch.no_grad():
        for head in (*model.up_heads, *(prior[1] for prior in model.priors)):
            head.linear.bias[len(head.linear.bias) // 2 :] = -12.0
    for i, rung in enumerate(model.infer(x, draws(4, model))):
        assert (rung.q.sigma < 0.1).all()
        assert i == 2 or (rung.p.sigma < 0.1).all()


def test_l1_the_reconstruction_alone_reaches_every_bottom_up_head():
    model = ladder()
    model(bits(6, SHAPE), noise=draws(6, model)).log_likelihood.sum().backward()
    for i, head in enumerate(model.up_heads):
        grad = head.linear.weight.grad
        assert grad is not None, f"no gradient reaches head {i}"
        assert (grad.abs().sum(1) > 0).all(), f"head {i}"


def test_l1_the_z_passed_down_is_the_draw_from_q():
    model, x = ladder(), bits(5, SHAPE)
    noise = draws(5, model)
    rungs = model.infer(x, noise)
    for i, rung in enumerate(rungs):
        close(rung.z, rung.q.mu + rung.q.sigma * noise[i])
        if i < 2:
            p = model.prior(i, rungs[i + 1].z)
            close(rung.p.mu, p.mu)
            close(rung.p.sigma, p.sigma)
            assert (rung.q.mu - rung.p.mu).abs().max() > 1e-3
    canvas = model.decode(rungs[0].q.mu + rungs[0].q.sigma * noise[0])
    close(model.reconstruct(x, noise=noise), torch.sigmoid(canvas))


def test_l1_with_a_confident_encoder_the_reconstruction_forgets_the_prior():
    # σ̂ → 0 at the bottom: z_1 ≡ μ̂_1, whatever lies above it.
    model, x = ladder(floor=1e-14), bits(5, SHAPE)
    with torch.no_grad():
        model.up_heads[0].linear.weight[4:] = 0
        model.up_heads[0].linear.bias[4:] = -40.0
    mu_hat = model.up_heads[0](model.bottom_up(x)[0]).mu
    for seed in (1, 2):
        z = model.infer(x, draws(5, model, seed))[0].z
        close(z, mu_hat, 1e-5)


def test_l3_the_merge_uses_the_parameters_of_the_kl():
    model, x = ladder(), bits(5, SHAPE)
    rungs, features = model.infer(x, draws(5, model)), model.bottom_up(x)
    for i in (0, 1):
        _, q, p = rungs[i]
        q_hat = model.up_heads[i](features[i])
        precision = q.sigma**-2 - q_hat.sigma**-2
        close(precision, p.sigma**-2, 1e-8)
        pull = q.mu * q.sigma**-2 - q_hat.mu * q_hat.sigma**-2
        close(pull, p.mu * p.sigma**-2, 1e-8)


def test_l3_an_ignorant_encoder_costs_nothing_below_the_top():
    # σ̂ → ∞ makes q = p in every merged layer, so KL_i = 0.
    model, x = ladder(variance="exp"), bits(5, SHAPE)
    with torch.no_grad():
        for head, z in zip(model.up_heads[:2], model.config.z, strict=False):
            head.linear.bias[z:] = 40.0
    kl = model(x, noise=draws(5, model)).kl
    close(kl[:, :2], torch.zeros(5, 2, dtype=torch.float64))
    assert (kl[:, 2] > 0).all()


def test_l4_generation_starts_from_the_top():
    model = ladder()
    noise = draws(3, model)
    assert model.noise_shapes(3) == ((3, 4), (3, 3), (3, 2))
    assert torch.equal(model.draw_top(noise), noise[2])
    z = model.prior(1, noise[2])
    z = z.mu + z.sigma * noise[1]
    z = model.prior(0, z)
    z = z.mu + z.sigma * noise[0]
    close(model.generate(3, noise=noise), torch.sigmoid(model.decode(z)))


def test_every_layer_of_noise_is_used_and_is_its_own():
    model, x = ladder(), bits(3, SHAPE)
    noise = draws(3, model)
    image, elbo = model.generate(3, noise=noise), model(x, noise=noise).elbo
    for i in range(3):
        other = tuple(-eps if j == i else eps for j, eps in enumerate(noise))
        assert (model.generate(3, noise=other) != image).any(1).all()
        assert (model(x, noise=other).elbo != elbo).all()


# --- behaviour ----------------------------------------------------------------------


def test_generation_reads_the_generative_parameters_only():
    model = ladder()
    noise = draws(3, model)
    before = model.generate(3, noise=noise)
    with torch.no_grad():
        for part in (model.up, model.up_heads):
            for p in part.parameters():
                p.add_(1.0)
            for b in part.buffers():
                b.add_(1)
    assert torch.equal(model.generate(3, noise=noise), before)


@pytest.mark.parametrize("norm", [True, False])
def test_every_parameter_gets_a_gradient(norm):
    model = ladder(norm=norm).train()
    model(bits(8, SHAPE), noise=draws(8, model)).elbo.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and (p.grad.abs() > 1e-12).any(), name


def test_in_evaluation_images_do_not_see_each_other():
    model, x = ladder(), bits(4, SHAPE)
    noise = draws(4, model)
    together = model(x, noise=noise).elbo
    for i in range(4):
        one = tuple(eps[i : i + 1] for eps in noise)
        close(model(x[i : i + 1], noise=one).elbo, together[i : i + 1])
    changed = x.clone()
    changed[3] = 1 - changed[3]
    close(model(changed, noise=noise).elbo[:3], together[:3])
    assert model(changed, noise=noise).elbo[3] != together[3]


def test_training_uses_and_records_the_statistics_of_the_batch():
    model, x = ladder(), bits(4, SHAPE)
    noise = draws(4, model)
    running = model.up[0][1].running_mean.clone()
    settled = model(x, noise=noise).elbo
    assert torch.equal(model.up[0][1].running_mean, running)
    model.train()
    assert (model(x, noise=noise).elbo - settled).abs().max() > 1e-3
    batch = model.up[0][0](x.flatten(1)).mean(0)
    close(model.up[0][1].running_mean, 0.9 * running + 0.1 * batch)


def test_pictures_leave_mode_and_statistics_alone_and_work_for_one_image():
    model = ladder().train()
    model.up[1].eval()  # a part that somebody froze stays frozen
    modes = [part.training for part in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert model.generate(1).shape == (1, *SHAPE)
    x = bits(1, SHAPE)
    assert model.reconstruct(x).shape == (1, *SHAPE)
    with pytest.raises(ValueError):
        model.generate(0)
    assert [part.training for part in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_training_batch_of_one_image_is_refused_with_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ladder().train()(bits(1, SHAPE))
    assert ladder(norm=False).train()(bits(1, SHAPE)).elbo.shape == (1,)


def test_start_at_makes_the_silent_output_the_mean_image():
    model = ladder()
    mean = torch.tensor([[[0.2, 0.5, 0.9], [0.3, 0.0, 1.0]]], dtype=torch.float64)
    model.start_at(mean)
    with torch.no_grad():
        model.output.weight.zero_()
    close(model.generate(1)[0], mean.clamp(0.01, 0.99))


@pytest.mark.parametrize("name", LadderConfig.PRESETS)
def test_every_preset_runs(name):
    model = LadderVAE(LadderConfig.preset(name))
    b = model(bits(3, (1, 28, 28)).float())
    assert b.kl.shape == (3, len(model.config.z)) and torch.isfinite(b.elbo).all()
    assert model.generate(2).shape == (2, 1, 28, 28)


def test_sizes_of_the_source_account_for_its_number_of_parameters():
    # Published: 1,349,520. Less the second network of each merge (mistake L3), less
    # the biases that batch normalisation makes idle, plus its scale and shift in the
    # three decoder layers, where the source normalises nothing.
    own_networks = (32 * 512 + 3 * 512 + 2 * (512 * 64 + 64)) + (
        32 * 256 + 3 * 256 + 2 * (256 * 32 + 32)
    )
    widths = 512 + 256 + 256
    idle = widths + (512 + 256) + widths
    ours = sum(p.numel() for p in LadderVAE().parameters())
    assert ours == 1_349_520 - own_networks - idle + 2 * widths


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_any_number_of_layers(layers):
    model = ladder(hidden=(6,) * layers, z=tuple(range(layers + 1, 1, -1)))
    b = model(bits(3, SHAPE))
    assert b.kl.shape == (3, layers) and (b.kl > 0).all()
    assert model.generate(2).shape == (2, *SHAPE)


def test_colour_uses_the_discretised_logistic():
    config = LadderConfig.preset(
        "tiny", image_shape=(3, 4, 4), likelihood="discretised-logistic"
    )
    model = LadderVAE(config)
    x = (255 * torch.rand(5, 3, 4, 4)).round() / 255
    model(x).elbo.sum().backward()
    assert model.likelihood.log_scale.grad.shape == (3, 1, 1)
    assert model.generate(2).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": (4, 3)}, "has 3 hidden widths for 2 latent layers; allowed: one width"),
        ({"z": (), "hidden": ()}, "has 0 hidden widths for 0 latent layers"),
        ({"depth": 0}, "LadderConfig.depth is 0; it must be at least 1"),
        ({"decoder": ()}, r"decoder is \(\); allowed: one width or more"),
        ({"z": (4, 0, 2)}, r"LadderConfig.z is \(4, 0, 2\); it must be at least 1"),
        ({"floor": -1.0}, "LadderConfig.floor is -1.0; it must be at least 0"),
        ({"activation": "elu"}, "LadderConfig.activation is 'elu'; allowed: relu, "),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LadderConfig(**{**THREE, **changes})


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_of_one_full_pass(training):
    model = ladder(hidden=(4, 3), z=(3, 2), decoder=(3,), activation="tanh").train(
        training
    )
    x, noise = bits(4, SHAPE), draws(4, model)
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


COMPILED = """
import torch
from drawlib.ladder import LadderConfig, LadderVAE

model = LadderVAE(LadderConfig.preset("tiny")).eval()
x, noise = torch.rand(4, 1, 28, 28).round(), model.noise(4)
compiled = torch.compile(model.bound, backend="eager", fullgraph=True)
assert torch.equal(compiled(x, noise).elbo, model.bound(x, noise).elbo)
print("one graph")
"""


@pytest.mark.slow
def test_the_bound_is_one_graph_for_the_compiler():
    # In a process of its own: the compiler cannot see through the run-time shape checks
    # that the tests put around every function.
    root = Path(drawlib.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILED],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.stdout == "one graph\n", done.stderr


def test_training_raises_the_bound():
    torch.manual_seed(0)
    model = LadderVAE(
        LadderConfig(image_shape=(1, 4, 4), hidden=(16, 8), z=(3, 2), decoder=(16,))
    )
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
    assert first < -9 and -loss.item() > -4
    settled = model.eval()(bars, generator=noise).elbo.mean().item()
    assert settled > -4  # the running statistics serve as well
