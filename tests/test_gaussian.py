"""Diagonal Gaussians: models.md's tests of KL, sampling, merge and head, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from drawlib.gaussian import Gaussian, GaussianHead, merge, standard

SHAPE = (7, 5)  # batch, dimensions


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def pair() -> tuple[Gaussian, Gaussian]:
    q = Gaussian(draw(*SHAPE, seed=1), 0.7 * draw(*SHAPE, seed=2))
    p = Gaussian(draw(*SHAPE, seed=3), 0.7 * draw(*SHAPE, seed=4))
    return q, p


def torch_normal(g: Gaussian) -> Independent:
    return Independent(Normal(g.mu, g.log_sigma.exp()), 1)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_kl_to_the_standard_normal_equals_torch_distributions():
    q, _ = pair()
    close(q.kl(), kl_divergence(torch_normal(q), torch_normal(standard(q.mu))))
    close(q.kl(), q.kl(standard(q.mu)))


def test_kl_between_gaussians_equals_torch_distributions():
    q, p = pair()
    close(q.kl(p), kl_divergence(torch_normal(q), torch_normal(p)))
    close(p.kl(q), kl_divergence(torch_normal(p), torch_normal(q)))
    assert not torch.allclose(q.kl(p), p.kl(q))


def test_kl_is_zero_only_for_equal_gaussians_and_never_negative():
    q, p = pair()
    assert torch.equal(q.kl(q), torch.zeros(7, dtype=torch.float64))
    assert torch.equal(standard(q.mu).kl(), torch.zeros(7, dtype=torch.float64))
    assert (q.kl(p) > 0).all() and (q.kl() > 0).all()
    nudged = Gaussian(q.mu, q.log_sigma + 1e-3)
    assert (nudged.kl(q) > 0).all()


@pytest.mark.parametrize(("steps", "d"), [(4, 3), (10, 10), (64, 100)])
def test_eq_11_the_kl_constant_is_half_a_dimension_not_half_a_step(steps, d):
    # Over T steps of D latents the constant is T·D/2; eq. 11 of the paper prints T/2.
    mu, log_sigma = draw(steps, d, seed=5), 0.5 * draw(steps, d, seed=6)
    total = Gaussian(mu, log_sigma).kl().sum()
    parts = 0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma).sum()
    assert total.item() == pytest.approx((parts - steps * d / 2).item(), abs=1e-8)


def test_kl_is_the_mean_of_log_q_minus_log_p():
    q = Gaussian(torch.tensor([0.7, -0.3]).double(), torch.tensor([-0.5, 0.2]).double())
    p = Gaussian(torch.tensor([0.1, 0.4]).double(), torch.tensor([0.3, -0.1]).double())
    z = q.sample(draw(100_000, 2, seed=7))
    for other in (p, standard(q.mu)):
        gap = q.log_prob(z) - other.log_prob(z)
        standard_error = (gap.std() / math.sqrt(len(gap))).item()
        assert abs(gap.mean().item() - q.kl(other).item()) < 4 * standard_error
        assert standard_error < 0.01


def test_log_prob_equals_torch_distributions_and_integrates_to_one():
    q, _ = pair()
    z = draw(*SHAPE, seed=8)
    close(q.log_prob(z), torch_normal(q).log_prob(z))
    one = Gaussian(torch.tensor([0.3]).double(), torch.tensor([-0.6]).double())
    line = torch.linspace(-10, 10, 20_001, dtype=torch.float64)[:, None]
    assert (one.log_prob(line).exp().sum() * 1e-3).item() == pytest.approx(1, abs=1e-9)


def test_reparametrised_sample_has_derivatives_one_and_epsilon():
    mu = draw(*SHAPE, seed=9).requires_grad_()
    log_sigma = draw(*SHAPE, seed=10).requires_grad_()
    noise = draw(*SHAPE, seed=11)
    q = Gaussian(mu, log_sigma)
    by_mu, by_log = torch.autograd.grad(q.sample(noise).sum(), (mu, log_sigma))
    close(by_mu, torch.ones_like(mu))
    close(by_log / q.sigma, noise)  # dz/dσ = (dz/d log σ) / σ
    assert torch.equal(q.sample(torch.zeros_like(mu)), mu)


def test_every_axis_but_the_last_is_kept():
    q = Gaussian(draw(2, 3, 4), draw(2, 3, 4, seed=1))
    assert q.kl().shape == q.log_prob(q.mu).shape == (2, 3)


def test_merge_is_the_product_of_gaussians():
    # log N(z; μ̂, σ̂²) + log N(z; μ_p, σ_p²) − log N(z; μ_q, σ_q²) is constant in z and
    # equal to log N(μ̂; μ_p, σ̂² + σ_p²).
    q_hat, p = pair()
    q = merge(q_hat, p)
    spread = 0.5 * (q_hat.sigma**2 + p.sigma**2).log()
    constant = Gaussian(p.mu, spread).log_prob(q_hat.mu)
    for seed in (12, 13, 14):
        z = 3 * draw(*SHAPE, seed=seed)
        close(q_hat.log_prob(z) + p.log_prob(z) - q.log_prob(z), constant, 1e-9)


def test_merge_equals_the_printed_precision_formula():
    q_hat, p = pair()
    var = 1 / (q_hat.sigma**-2 + p.sigma**-2)
    close(merge(q_hat, p).sigma ** 2, var)
    mean = var * (q_hat.mu * q_hat.sigma**-2 + p.mu * p.sigma**-2)
    close(merge(q_hat, p).mu, mean)


def test_merge_limits():
    q_hat, p = pair()
    wide = torch.full_like(q_hat.mu, 30.0)
    ignorant = merge(Gaussian(q_hat.mu, wide), p)
    close(ignorant.mu, p.mu)
    close(ignorant.log_sigma, p.log_sigma)
    close(ignorant.kl(p), torch.zeros(7, dtype=torch.float64))
    flat_prior = merge(q_hat, Gaussian(p.mu, wide))
    close(flat_prior.mu, q_hat.mu)
    close(flat_prior.log_sigma, q_hat.log_sigma)


def test_merge_is_symmetric_and_narrower_than_both():
    q_hat, p = pair()
    one, other = merge(q_hat, p), merge(p, q_hat)
    close(one.mu, other.mu)
    close(one.log_sigma, other.log_sigma)
    assert (one.log_sigma < torch.minimum(q_hat.log_sigma, p.log_sigma)).all()
    same = merge(p, p)
    close(same.mu, p.mu)
    close(same.sigma**2, p.sigma**2 / 2)


@given(
    st.floats(-40, 40), st.floats(-40, 40), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)
)
def test_merge_stays_finite_and_between_its_means(log_hat, log_p, mu_hat, mu_p):
    leaves = [
        torch.tensor([v], requires_grad=True) for v in (mu_hat, log_hat, mu_p, log_p)
    ]
    q = merge(Gaussian(*leaves[:2]), Gaussian(*leaves[2:]))
    low, high = min(mu_hat, mu_p), max(mu_hat, mu_p)
    slack = 1e-4 * (1 + abs(low) + abs(high))
    assert low - slack <= q.mu.item() <= high + slack
    assert q.log_sigma.item() <= min(log_hat, log_p) + 1e-4
    for grad in torch.autograd.grad((q.mu + q.log_sigma).sum(), leaves):
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("variance", ["exp", "softplus"])
def test_v1_the_posterior_can_be_narrower_than_the_prior(variance):
    # Softplus taken as the log-variance would keep σ at 1 or more.
    head = GaussianHead(4, 3, variance).double()
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.fill_(-10.0)
    assert (head(draw(2, 4)).sigma < 0.01).all()


def test_softplus_head_is_the_variance_plus_floor():
    head = GaussianHead(4, 3, "softplus", floor=1e-3).double()
    h = draw(6, 4)
    raw = head.linear(h)[:, 3:]
    close(head(h).sigma ** 2, torch.log1p(raw.exp()) + 1e-3)
    close(head(h).mu, head.linear(h)[:, :3])
    with torch.no_grad():
        head.linear.bias.fill_(-1000.0)
    close(head(h).sigma ** 2, torch.full((6, 3), 1e-3, dtype=torch.float64))


def test_exp_head_emits_log_sigma_not_log_variance():
    head = GaussianHead(4, 3, "exp").double()
    h = draw(6, 4)
    close(head(h).sigma, head.linear(h)[:, 3:].exp())


def test_an_unknown_variance_is_refused():
    with pytest.raises(ValueError, match="variance is 'log'; allowed: exp, softplus"):
        GaussianHead(4, 3, "log")
