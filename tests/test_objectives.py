"""The abandoned objectives: what they compute, and why none of them is a bound."""

import math

import pytest
import torch
from exact_models import hermite_grid, seeded
from small_recurrent import draw, glas, some_bits
from torch.nn import functional as F

from drawlib.gaussian import Gaussian, standard
from drawlib.objectives import (
    OBJECTIVES,
    chi_square,
    estimated,
    hellinger,
    hellinger_distance,
    objective,
    surrogate,
    uniform,
)

N = 100_000


def constant(mu: float, sigma: float = 1.0) -> Gaussian:
    full = torch.full((N, 1), mu, dtype=torch.float64)
    return Gaussian(full, torch.full_like(full, math.log(sigma)))


def near(draws: torch.Tensor, wanted: float) -> bool:
    """Is the mean of these draws within four standard errors of ``wanted``?"""
    return bool((draws.mean() - wanted).abs() < 4 * draws.std() / len(draws) ** 0.5)


def test_hellinger_is_one_minus_the_overlap_of_the_densities():
    q = Gaussian(torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double())
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]
    overlap = (0.5 * (q.log_prob(grid) + standard(grid).log_prob(grid))).exp()
    wanted = 1 - torch.trapezoid(overlap, grid[:, 0])
    torch.testing.assert_close(hellinger_distance(q, standard(q.mu))[0], wanted)


def test_hellinger_is_zero_where_q_is_p_and_never_above_the_dimension():
    q = Gaussian(seeded(50, 4) * 100, seeded(50, 4, seed=1) * 3)
    assert hellinger_distance(q, q).abs().max() < 1e-14
    distance = hellinger_distance(q, standard(q.mu))
    assert distance.min() > 0 and distance.max() <= 4
    assert (distance <= q.kl()).all()


def test_hellinger_exceeds_log_p_so_it_is_no_bound():
    """Two bits that say 1 < z < 1.2: rare evidence, and the penalty is at most 1.

    With the KL the same q gives a number below log p(x); with Hellinger one above it.
    """

    def log_x(z: torch.Tensor) -> torch.Tensor:
        return F.logsigmoid(400 * (z - 1)) + F.logsigmoid(400 * (1.2 - z))

    z = torch.linspace(-1, 3, 40001, dtype=torch.float64)[:, None]
    log_p = torch.trapezoid((log_x(z)[:, 0] + standard(z).log_prob(z)).exp(), z[:, 0])
    log_p = log_p.log()
    q = Gaussian(torch.tensor([[1.1]]).double(), torch.tensor([[-4.0]]).double())
    points, weights = hermite_grid(1, 60)
    reconstruction = (weights * log_x(q.sample(points))[:, 0]).sum()
    assert reconstruction - q.kl() < log_p
    assert reconstruction - hellinger_distance(q, standard(q.mu)) > log_p + 1


def test_chi_square_draws_have_the_mean_and_not_the_variance_that_is_claimed():
    """1.5: mean m; variance 1 + 2m², where the class reports 1 − m²."""
    m = 0.6
    z, penalty = chi_square(constant(m), seeded(N, 1))
    assert near(z, m)
    assert near((z - m) ** 2, 1 + 2 * m**2)
    assert not near((z - m) ** 2, 1 - m**2)
    torch.testing.assert_close(penalty, torch.full_like(penalty, math.log(1 + m**2)))


def test_the_chi_square_density_is_negative_somewhere():
    z, m = torch.linspace(-4, 4, 9), 0.6
    f = torch.exp(-0.5 * z**2) * (1 + m * z)
    assert f.min() < 0


def test_uniform_draws_have_the_mean_and_variance_and_leave_the_prior():
    z, penalty = uniform(constant(0.8, 0.3), seeded(N, 1))
    assert near(z, 0.8) and near((z - 0.8) ** 2, 0.09)
    half = 3**0.5 * 0.3
    assert 0.8 - half <= z.min() and z.max() <= 0.8 + half
    assert z.max() > 1
    torch.testing.assert_close(
        penalty, torch.full_like(penalty, math.log(1 + 12 * 0.3**2))
    )


def test_estimated_uses_no_noise_and_one_image_moves_with_its_neighbours():
    q = Gaussian(seeded(6, 2), seeded(6, 2, seed=1))
    z, penalty = estimated(q, seeded(6, 2, seed=2))
    assert torch.equal(z, estimated(q, seeded(6, 2, seed=3))[0])
    assert torch.count_nonzero(penalty) == 0
    assert 0 < z.min() and z.max() < 1
    moved = q.mu.clone()
    moved[5] += 1
    other, _ = estimated(Gaussian(moved, q.log_sigma), seeded(6, 2))
    assert not torch.allclose(other[0], z[0])
    flat = Gaussian(torch.ones(1, 2).double(), torch.zeros(1, 2).double())
    assert torch.equal(estimated(flat, flat.mu)[0], torch.full((1, 2), 0.5).double())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("build", [draw, glas])
def test_each_objective_trains_a_model(name, build):
    model = build()
    value = objective(name)(model, some_bits(4))
    value.backward()
    assert torch.isfinite(value) and value.shape == ()
    assert model.writer.weight.grad.abs().max() > 0


def test_with_hellinger_the_draws_are_those_of_the_bound():
    """Only the penalty differs: log p(x given z) is that of ``bound``."""
    model = glas()
    x, noise = some_bits(), model.noise(3)
    log_likelihood, penalties = surrogate(model, x, noise, "hellinger")
    bound = model.bound(x, noise)
    torch.testing.assert_close(log_likelihood, bound.log_likelihood)
    q = [model.posterior(state.h_enc) for state, _, _ in model.steps(x, noise)]
    wanted = [hellinger(each, noise[:, 0])[1] for each in q]
    torch.testing.assert_close(penalties, torch.stack(wanted, 1))
    assert (penalties < bound.kl).all()


def test_the_loss_is_a_mean_over_images_of_penalties_minus_log_likelihood():
    """And asks nothing but a sampler of the model: with the KL it would be −ELBO."""
    model, x = glas(), some_bits()
    value = objective("hellinger")(model, x, None, torch.Generator().manual_seed(1))
    noise = model.noise(3, torch.Generator().manual_seed(1))
    log_likelihood, penalties = surrogate(model, x, noise, "hellinger")
    each = [p.sum() - nats for p, nats in zip(penalties, log_likelihood, strict=True)]
    torch.testing.assert_close(value, sum(each) / 3)
    assert value < -model.bound(x, noise).elbo.mean()


def test_the_same_generator_gives_the_same_loss():
    model, x = glas(), some_bits()
    values = [
        objective("uniform")(model, x, None, torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    assert torch.equal(*values)


def test_an_unknown_objective_is_refused_in_one_line():
    model = glas()
    with pytest.raises(ValueError, match="objective is 'kl'; allowed: hellinger, chi"):
        surrogate(model, some_bits(), model.noise(3), "kl")
