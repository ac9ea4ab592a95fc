"""The diffusion model: its bound, its steps, one term of it, and an exact case."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_models import bits, seeded
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from toy_runs import assert_same_bits, toy_config, toy_data, weights

from drawlib.bound import Bound, LatentModel
from drawlib.diffusion import Diffusion, DiffusionConfig, cosine_log_snr, snr_steps
from drawlib.fast import loop as fast
from drawlib.gaussian import Gaussian
from drawlib.training import train
from drawlib.training.train import fit

SMALL = DiffusionConfig(
    image_shape=(1, 2, 3), T=5, log_snr=(3.0, -8.0), channels=(8, 8)
)
TINY = DiffusionConfig(image_shape=(1, 6, 6), T=4, channels=(8, 8))


def small(**changes) -> Diffusion:
    """A model in float64 whose weights are far from zero."""
    model = Diffusion(replace(SMALL, **changes)).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(0.3 * seeded(*p.shape, seed=100 + i))
    return model


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# The schedule


def test_the_schedule_is_a_cosine_between_its_ends():
    log_snr = cosine_log_snr(10, 3.0, -8.0)
    assert len(log_snr) == 11 and sorted(log_snr, reverse=True) == list(log_snr)
    assert (log_snr[0], log_snr[-1]) == pytest.approx((3.0, -8.0))
    alphas = [(1 / (1 + math.exp(-v))) ** 0.5 for v in log_snr]
    angles = np.arccos(alphas)
    assert np.diff(angles) == pytest.approx([(angles[-1] - angles[0]) / 10] * 10)


def test_a_step_of_the_posterior_keeps_its_marginal():
    """∫ q(z_{t−1} | z_t, x) q(z_t | x) dz_t = q(z_{t−1} | x), by the moments."""
    model, target = small(), 2 * bits(2, (1, 2, 3)) - 1
    for t in range(1, 6):
        at, below = model.level(t, target), model.level(t - 1, target)
        q = model.diffused(target, at)
        down = model.step_down(q.mu, at, target)
        nudged = model.step_down(q.mu + 1, at, target)
        wanted = model.diffused(target, below)
        slope = nudged.mu - down.mu  # the mean is affine in z_t
        close(down.mu, wanted.mu)
        close(down.sigma**2 + slope**2 * q.sigma**2, wanted.sigma**2)


# The bound


def reference(
    model: Diffusion, x: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    """The bound in NumPy, by DDPM's formulas in β and ᾱ; the network is given."""
    T, bar = model.config.T, 1 / (1 + np.exp(-np.array(model.log_snr)))
    x0, kl, log_ratio = 2 * x - 1, [], []

    def total(a):
        return a.reshape(len(a), -1).sum(1)

    def log_normal(z, mean, var):
        return total(-0.5 * ((z - mean) ** 2 / var + np.log(2 * np.pi * var)))

    def logits(z, t):
        told = torch.full((len(z),), model.log_snr[t], dtype=torch.float64)
        net = model.network(torch.from_numpy(z), told).detach().numpy()
        # log N(z; α, σ²) − log N(z; −α, σ²) = 2 α z / σ²
        return model.bias.detach().numpy() + net + 2 * bar[t] ** 0.5 * z / (1 - bar[t])

    mean_q, var_q = bar[T] ** 0.5 * x0, 1 - bar[T]
    mean_p, var_p = np.zeros_like(x0), 1.0
    for t in range(T, -1, -1):
        z = mean_q + var_q**0.5 * noise[:, T - t]
        kl.append(
            total(
                0.5
                * (np.log(var_p / var_q) - 1 + (var_q + (mean_q - mean_p) ** 2) / var_p)
            )
        )
        log_ratio.append(log_normal(z, mean_p, var_p) - log_normal(z, mean_q, var_q))
        c = logits(z, t)
        if t:
            a, before = bar[t], bar[t - 1]
            beta = 1 - a / before
            w_x = before**0.5 * beta / (1 - a)
            w_z = (1 - beta) ** 0.5 * (1 - before) / (1 - a)
            guess = 2 / (1 + np.exp(-c)) - 1
            mean_q, mean_p = w_x * x0 + w_z * z, w_x * guess + w_z * z
            var_q = var_p = (1 - before) / (1 - a) * beta
    log_likelihood = total(x * c - np.logaddexp(0, c))
    return {
        "log_likelihood": log_likelihood,
        "kl": np.stack(kl, 1),
        "log_weight": log_likelihood + sum(log_ratio),
    }


def test_ddpm_eq_5_the_bound_equals_plain_numpy():
    model, x, noise = small(), bits(4, (1, 2, 3)), seeded(4, 6, 1, 2, 3, seed=1)
    bound = model(x, noise=noise)
    for name, wanted in reference(model, x.numpy(), noise.numpy()).items():
        close(getattr(bound, name), torch.from_numpy(wanted))


def test_vdm_eq_13_the_kl_of_a_step_is_the_fall_of_the_snr_times_the_error():
    model, x, noise = small(), bits(4, (1, 2, 3)), seeded(4, 6, 1, 2, 3, seed=1)
    bound, snr = model(x, noise=noise), np.exp(model.log_snr)
    target, T = 2 * x - 1, 5
    q = model.diffused(target, model.level(T, x))
    for t in range(T, 0, -1):
        z = q.sample(noise[:, T - t])
        guess = model.guess(model.canvas(z, model.level(t, x)))
        error = ((target - guess) ** 2).flatten(1).sum(1)
        close(bound.kl[:, T - t + 1], 0.5 * (snr[t - 1] - snr[t]) * error)
        q = model.step_down(z, model.level(t, x), target)
    close(
        snr_steps(torch.tensor(model.log_snr)),
        torch.tensor([0.0, *(snr[:-1] - snr[1:])]).float(),
        1e-5,
    )


def test_the_kl_of_each_step_equals_monte_carlo():
    model, x, n = small(), bits(1, (1, 2, 3)), 40_000
    many = x.expand(n, -1, -1, -1)
    for t in (5, 3, 1):
        z = seeded(1, 1, 2, 3, seed=t)
        at = model.level(t, z)
        q = model.step_down(z, at, 2 * x - 1)
        p = model.step_down(z, at, model.guess(model.canvas(z, at)))
        drawn = Gaussian(*(v.expand_as(many) for v in q)).sample(
            seeded(n, 1, 2, 3, seed=9)
        )
        each = (q.log_prob(drawn) - p.log_prob(drawn)).flatten(1).sum(1)
        exact = kl_divergence(Normal(*moments(q)), Normal(*moments(p))).sum()
        close(q.kl(p).sum(), exact)
        error = each.std().item() / math.sqrt(n)
        assert abs(each.mean().item() - exact.item()) < 4 * error


def moments(g: Gaussian) -> tuple[torch.Tensor, torch.Tensor]:
    return g.mu, g.sigma


def test_log_weight_has_the_mean_of_the_elbo_and_is_not_the_elbo():
    model, n = small(), 8_000
    x = bits(1, (1, 2, 3)).expand(n, -1, -1, -1)
    with torch.no_grad():
        b = model.bound(x, seeded(n, 6, 1, 2, 3, seed=2))
    gap = b.log_weight - b.elbo
    assert gap.std() > 0.1
    assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(n)


def test_the_weights_of_all_images_sum_to_one():
    """Σ_x p(x) = 1 over all 2⁴ images, by the mean weight of each."""
    model, K = small(image_shape=(1, 2, 2), T=10, log_snr=(1.0, -6.0)), 400
    with torch.no_grad():
        for p in model.network.parameters():
            p.mul_(0.3)
        every = torch.tensor([[i >> b & 1 for b in range(4)] for i in range(16)])
        x = every.double().view(16, 1, 2, 2).repeat_interleave(K, 0)
        w = model.bound(x, seeded(16 * K, 11, 1, 2, 2, seed=3)).log_weight.exp()
    w = w.view(16, K)
    error = (w.var(1) / K).sum().sqrt().item()
    assert error < 0.03
    assert abs(w.mean(1).sum().item() - 1) < 4 * error


def test_independent_pixels_are_known_to_the_bound_as_t_grows():
    """A silent network is the best denoiser for them: log p(x) is a sum of bits."""
    x, gaps = bits(200, (1, 2, 3), seed=5), []
    bias = seeded(1, 2, 3, seed=6)
    truth = torch.distributions.Bernoulli(logits=bias).log_prob(x).flatten(1).sum(1)
    for T in (8, 32, 128):
        model = Diffusion(replace(SMALL, T=T, log_snr=(4.0, -14.0))).double()
        with torch.no_grad():
            model.bias.copy_(bias)
            met = model.bound(x, seeded(200, T + 1, 1, 2, 3, seed=T)).log_weight
        gaps.append((truth - met).mean().item())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0 and gaps[2] < 0.05


# A linear-Gaussian case that is known exactly


class GaussianPosterior(torch.nn.Module):
    """p(x given z_0) as Bayes has it, with the correlations of pixels left out."""

    def __init__(self, variance: torch.Tensor) -> None:
        super().__init__()
        self.variance = variance

    def mean(self, c: torch.Tensor) -> torch.Tensor:
        return c

    def forward(self, c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return Normal(c, self.variance.sqrt()).log_prob(x).flatten(1).sum(1)


class LinearGaussian(Diffusion):
    """The library's own diffusion with the best denoiser of Gaussian images.

    x̃ = 2x − 1 ~ N(m, C), so that E[x̃ given z_t] is affine in z_t, and log p(x) known.
    """

    def __init__(self, T: int) -> None:
        super().__init__(replace(SMALL, T=T, log_snr=(4.0, -14.0)))
        self.double()
        W = seeded(6, 2, seed=1)
        self.m, self.C = 0.3 * seeded(6, seed=2), W @ W.T + 0.2 * torch.eye(6).double()
        a2 = torch.sigmoid(torch.tensor(self.log_snr[0]).double())
        gain = a2.sqrt() * self.C @ torch.linalg.inv(self.seen(a2))
        after = self.C - a2.sqrt() * gain @ self.C
        self.likelihood = GaussianPosterior(after.diagonal().view(1, 2, 3) / 4)

    def seen(self, a2: torch.Tensor) -> torch.Tensor:
        """The covariance of z_t."""
        return a2 * self.C + (1 - a2) * torch.eye(6, dtype=torch.float64)

    def canvas(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a2 = torch.sigmoid(torch.tensor(self.log_snr).double())[t[0]]
        gain = a2.sqrt() * self.C @ torch.linalg.inv(self.seen(a2))
        mean = self.m + (z.flatten(1) - a2.sqrt() * self.m) @ gain.T
        return ((mean + 1) / 2).view_as(z)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        jacobian = 6 * math.log(2)
        p = MultivariateNormal(self.m, self.C)
        return p.log_prob(2 * x.flatten(1) - 1) + jacobian


def test_with_the_best_denoiser_the_bound_tends_to_log_p_as_t_grows():
    n, gaps, spreads = 400, [], []
    for T in (16, 64, 256):
        model = LinearGaussian(T)
        target = MultivariateNormal(model.m, model.C)
        torch.manual_seed(0)
        x = (target.sample((n,)).view(n, 1, 2, 3) + 1) / 2
        met = model.bound(x, seeded(n, T + 1, 1, 2, 3, seed=T))
        each = model.log_prob(x) - met.log_weight
        gaps.append(each.mean().item())
        spreads.append(each.std().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
    assert gaps[2] < 0.2 and spreads[0] > 2 * spreads[1] > 4 * spreads[2]


# One term of it


def test_every_term_of_the_estimate_is_the_one_of_the_bound():
    model, x, eps = small(), bits(3, (1, 2, 3)), seeded(3, 1, 2, 3, seed=1)
    target, T = 2 * x - 1, 5
    for t in range(T + 1):
        u = torch.full((3,), (t + 0.5) / (T + 1), dtype=torch.float64)
        found = model.training_bound(x, (u, eps))
        at = model.level(t, x)
        z = model.diffused(target, at).sample(eps)
        canvas = model.canvas(z, at)
        last, step = model.likelihood(canvas, x), torch.zeros(3).double()
        if t:
            q = model.step_down(z, at, target)
            p = model.step_down(z, at, model.guess(canvas))
            last, step = torch.zeros(3).double(), q.kl(p).flatten(1).sum(1)
        close(found.log_likelihood, (T + 1) * last)
        close(found.kl[:, 1], (T + 1) * step)
        prior = model.diffused(target, model.level(T, x)).kl().flatten(1).sum(1)
        close(found.kl[:, 0], prior)
        assert found.log_weight.isnan().all()  # nobody takes it for a weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_number_below_one_names_a_term_that_is_not_there(dtype):
    largest = 1 - torch.finfo(dtype).eps / 2
    u = torch.tensor(largest, dtype=dtype)
    assert u < 1
    terms = torch.arange(1, 5000).to(dtype)
    assert ((u * terms).long() < terms).all()


def test_the_estimate_of_one_step_is_unbiased_for_the_sum():
    model, x, n = small(), bits(1, (1, 2, 3)), 10_000
    many = x.expand(n, -1, -1, -1)
    with torch.no_grad():
        noise = model.training_noise(n, torch.Generator().manual_seed(1))
        one = model.training_bound(many, noise)
        whole = model.bound(many, seeded(n, 6, 1, 2, 3, seed=4))
    for name in ("elbo", "log_likelihood"):
        a, b = getattr(one, name), getattr(whole, name)
        error = math.sqrt((a.var().item() + b.var().item()) / n)
        assert abs(a.mean().item() - b.mean().item()) < 4 * error, name


def test_the_terms_of_a_batch_are_spread_evenly_and_each_is_uniform():
    model = Diffusion(TINY)
    first = []
    for seed in range(400):
        u, eps = model.training_noise(8, torch.Generator().manual_seed(seed))
        assert eps.shape == (8, 1, 6, 6) and ((u >= 0) & (u < 1)).all()
        gaps = u.sort().values.diff()
        torch.testing.assert_close(gaps, torch.full((7,), 1 / 8))
        first.append(u[3].item())
    counts = np.histogram(first, 4, (0, 1))[0]
    assert (abs(counts - 100) < 4 * math.sqrt(75)).all()


def test_a_training_step_takes_the_estimate_and_other_models_their_bound():
    model, x = Diffusion(TINY), bits(6, (1, 6, 6)).float()
    model.start_at(torch.full((1, 6, 6), 0.3))
    g = torch.Generator().manual_seed(2)
    loss, shown = train.negative_elbo(model, x, g, 1.0)
    g = torch.Generator().manual_seed(2)
    found = model.training_bound(x, model.training_noise(6, g))
    torch.testing.assert_close(loss, -found.elbo.mean())
    torch.testing.assert_close(shown, loss.detach())
    # Two processes with half of the rows each have the noise that one has.
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        g = torch.Generator().manual_seed(2)
        halves.append(train.negative_elbo(model, x, g, 1.0, rows)[1])
    torch.testing.assert_close(sum(halves) / 2, shown)
    assert LatentModel.training_bound is not Diffusion.training_bound


class Cut(Exception):
    """What a planted crash raises."""


def test_a_run_that_was_cut_ends_with_the_same_weights_bit_for_bit(tmp_path):
    def cut(row):
        raise Cut

    def fresh() -> Diffusion:
        torch.manual_seed(0)
        return Diffusion(TINY)

    config = toy_config(epochs=2, ema=0.9)
    whole, data = fresh(), toy_data()
    fit(whole, data, config, tmp_path / "a", progress=False)
    with pytest.raises(Cut):
        fit(fresh(), data, config, tmp_path / "b", progress=False, on_epoch=cut)
    again = fresh()
    fit(again, data, config, tmp_path / "b", progress=False)
    assert_same_bits(weights(whole), weights(again))
    assert not torch.equal(whole.network.leave.weight, fresh().network.leave.weight)


def test_training_raises_the_bound(tmp_path):
    torch.manual_seed(0)
    model, data = Diffusion(TINY), toy_data()
    history = fit(model, data, toy_config(epochs=8), tmp_path, progress=False)
    valid = history.column("valid")
    assert valid[-1] < valid[0] - 1


# Drawing


def test_generation_follows_the_model_and_ends_at_its_steps_last_image():
    model, noise = small(), seeded(3, 6, 1, 2, 3, seed=2)
    steps = model.generate_steps(3, noise=noise)
    assert steps.shape == (6, 3, 1, 2, 3) and not steps.requires_grad
    assert torch.equal(steps[-1], model.generate(3, noise=noise))
    z = noise[:, 0]
    for t in range(5, 0, -1):
        at = model.level(t, z)
        close(steps[5 - t], model.likelihood.mean(model.canvas(z, at)).detach())
        p = model.step_down(z, at, model.guess(model.canvas(z, at)))
        z = p.mu + p.sigma * noise[:, 6 - t]


def test_drawn_states_have_the_spread_of_the_posterior():
    """With the best denoiser z_t of a drawing is distributed as z_t of an image."""
    model, n = LinearGaussian(64), 4000
    noise = seeded(n, 65, 1, 2, 3, seed=8)
    z = torch.stack([z for z, _ in model.dream(noise)], 1).flatten(2)
    for t in (32, 8, 0):
        a2 = torch.sigmoid(torch.tensor(model.log_snr[t]).double())
        seen = z[:, 64 - t]
        torch.testing.assert_close(seen.mean(0), a2.sqrt() * model.m, rtol=0, atol=0.1)
        ratio = seen.var(0) / model.seen(a2).diagonal()
        assert ((ratio - 1).abs() < 0.12).all(), t


def test_a_reconstruction_starts_at_the_middle_level():
    model, x = small(), bits(3, (1, 2, 3))
    noise = seeded(3, 6, 1, 2, 3, seed=2)
    found = model.reconstruct(x, noise=noise)
    other = noise.clone()
    other[:, :3] += 1  # z_5, z_4 and z_3 are not drawn at all
    assert torch.equal(model.reconstruct(x, noise=other), found)
    other[:, 3] += 1
    assert not torch.equal(model.reconstruct(x, noise=other), found)
    q = model.diffused(2 * x - 1, model.level(2, x))
    *_, (_, canvas) = model.descend(q, noise[:, 3:])
    close(found, torch.sigmoid(canvas).detach())


def test_noise_of_leads_the_posterior_along_the_latents():
    model, x, start = small(), bits(3, (1, 2, 3)), seeded(3, 6, 1, 2, 3, seed=2)
    with torch.no_grad():
        canvas, z = model.latents(start)
        met = model.bound(x, model.noise_of(x, z))
    close(met.log_likelihood, model.likelihood(canvas, x).detach())


def test_start_at_makes_the_silent_output_the_mean_image():
    model = Diffusion(replace(SMALL, log_snr=(-30.0, -40.0))).double()
    mean = torch.tensor([[[0.2, 0.5, 0.9], [0.3, 0.0, 1.0]]], dtype=torch.float64)
    model.start_at(mean)
    close(model.generate(1)[0], mean.clamp(0.01, 0.99), 1e-5)


def test_letters_have_the_same_posterior_logits():
    """2 α z / σ² is Bayes' rule for one channel of many, as it is for a bit."""
    model = Diffusion(
        DiffusionConfig(
            image_shape=(4, 1, 3), T=3, channels=(8, 8), likelihood="categorical"
        )
    ).double()
    z, t = seeded(2, 4, 1, 3), torch.tensor([1, 2])
    found = model.likelihood.mean(model.canvas(z, t)).detach()
    each = []
    for k in range(4):
        one = -torch.ones(2, 4, 1, 3, dtype=torch.float64)
        one[:, k] = 1
        q = model.diffused(one, t)
        each.append(Normal(q.mu, q.sigma).log_prob(z).sum(1))
    close(found, torch.stack(each, 1).softmax(1))
    x = torch.eye(4).double()[:, None, None].movedim(-1, 1).expand(4, 4, 1, 3)
    assert model(x).elbo.isfinite().all() and model.generate(2).sum(1).allclose(
        torch.ones(2, 1, 3).double()
    )


# What else the contract asks


def test_images_do_not_see_each_other():
    model, x, noise = small(), bits(4, (1, 2, 3)), seeded(4, 6, 1, 2, 3, seed=1)
    together = model(x, noise=noise)
    alone = [model(x[i : i + 1], noise=noise[i : i + 1]).elbo for i in range(4)]
    close(together.elbo, torch.cat(alone))


def test_every_parameter_gets_a_gradient():
    model = small()
    for bound in (
        model(bits(4, (1, 2, 3))),
        model.training_bound(bits(4, (1, 2, 3)), model.training_noise(4)),
    ):
        model.zero_grad()
        bound.elbo.sum().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and (p.grad != 0).any(), name


def test_the_weights_do_not_depend_on_the_number_of_steps():
    long = small(T=9)
    long.load_state_dict(small().state_dict())
    assert isinstance(long(bits(2, (1, 2, 3))), Bound)


def test_the_fast_path_leaves_a_diffusion_as_it_is():
    model = Diffusion(TINY)
    assert not fast.fits(model)
    fast.accelerate(model)
    assert not hasattr(model, "fast_path")


@pytest.mark.parametrize("log_snr", [(-1.0, 1.0), (2.0, 2.0), (math.inf, 0.0)])
def test_ends_that_do_not_fall_are_refused(log_snr):
    with pytest.raises(
        ValueError, match=r"log_snr is .*; allowed: two falling numbers"
    ):
        DiffusionConfig(log_snr=log_snr)


def test_the_course_s_weights_are_small():
    assert sum(p.numel() for p in Diffusion().parameters()) < 600_000
