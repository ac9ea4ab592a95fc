"""Likelihoods: exact values, masses that sum to one, and both tails."""

from __future__ import annotations

import math

import pytest
import torch

from drawlib.likelihood import (
    Bernoulli,
    Categorical,
    DiscretisedLogistic,
    bits_per_dimension,
    likelihood,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def logistic(channels: int, *scales: float) -> DiscretisedLogistic:
    """In float64, with scales that were never rounded to float32."""
    p = DiscretisedLogistic(channels).double()
    with torch.no_grad():
        p.log_scale.copy_(
            torch.tensor(scales, dtype=torch.float64).log().view(-1, 1, 1)
        )
    return p


def test_bernoulli_equals_torch_distributions():
    c = 3 * draw(5, 1, 4, 3)
    x = (draw(5, 1, 4, 3, seed=1) > 0).double()
    exact = torch.distributions.Bernoulli(logits=c).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli()(c, x), exact, rtol=1e-12, atol=1e-12)


def test_bernoulli_masses_of_all_images_sum_to_one():
    c = draw(1, 1, 2, 2)
    every = torch.tensor([[i >> b & 1 for b in range(4)] for i in range(16)]).double()
    images = every.view(16, 1, 2, 2)
    total = Bernoulli()(c.expand_as(images), images).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_categorical_equals_torch_distributions_place_by_place():
    c, k = 3 * draw(5, 4, 2, 3), torch.arange(30).view(5, 2, 3) % 4
    x = torch.nn.functional.one_hot(k, 4).permute(0, 3, 1, 2).double()
    places = torch.distributions.Categorical(logits=c.permute(0, 2, 3, 1))
    exact = places.log_prob(k).flatten(1).sum(1)
    torch.testing.assert_close(Categorical()(c, x), exact, rtol=1e-12, atol=1e-12)
    mean = places.probs.permute(0, 3, 1, 2)
    torch.testing.assert_close(Categorical().mean(c), mean)


def test_the_canvas_of_a_mean_image_has_that_mean():
    mean = torch.softmax(draw(2, 4, 1, 3), 1)
    for one in (Bernoulli(), logistic(4, 0.1, 0.1, 0.1, 0.1), Categorical()):
        torch.testing.assert_close(one.mean(one.canvas_of(mean)), mean)


def test_zero_logits_cost_784_log_2_an_image():
    c = torch.zeros(3, 1, 28, 28, dtype=torch.float64)
    x = (draw(3, 1, 28, 28) > 0).double()
    value = Bernoulli()(c, x)
    assert value.shape == (3,)  # one number an image: summed, never averaged
    assert value.tolist() == pytest.approx([-784 * math.log(2)] * 3, abs=1e-9)
    assert value[0].item() == pytest.approx(-543.427, abs=5e-4)


def test_bernoulli_keeps_its_tails_in_float32():
    # A sigmoid followed by a logarithm is −inf here.
    c = torch.tensor([200.0, -200.0]).view(1, 1, 1, 2).requires_grad_()
    wrong, right = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    assert Bernoulli()(c, wrong.view(1, 1, 1, 2)).item() == -400
    assert Bernoulli()(c, right.view(1, 1, 1, 2)).item() == 0
    value = Bernoulli()(c, wrong.view(1, 1, 1, 2))
    (grad,) = torch.autograd.grad(value.sum(), c)
    assert grad.flatten().tolist() == [-1.0, 1.0]


def test_the_mean_is_a_probability():
    c = draw(2, 1, 3, 3)
    torch.testing.assert_close(Bernoulli().mean(c), 1 / (1 + (-c).exp()))
    # E[x] under the mass itself: p(x=1) of one pixel
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    logit = torch.full_like(one, 0.7)
    assert Bernoulli()(logit, one).exp().item() == pytest.approx(
        Bernoulli().mean(logit).item(), abs=1e-12
    )


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.1, 3.0])
@pytest.mark.parametrize("logit", [-30.0, -0.8, 0.0, 30.0])
def test_256_masses_sum_to_one(scale, logit):
    p = logistic(1, scale)
    levels = (torch.arange(256).double() / 255).view(256, 1, 1, 1)
    total = p(torch.full_like(levels, logit), levels).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_inner_bins_are_the_difference_of_two_sigmoids():
    p = logistic(1, 0.05)
    levels = (torch.arange(1, 255).double() / 255).view(254, 1, 1, 1)
    c = torch.full_like(levels, 0.4)
    m = torch.sigmoid(c)
    edge = 0.5 / 255
    mass = torch.sigmoid((levels + edge - m) / 0.05) - torch.sigmoid(
        (levels - edge - m) / 0.05
    )
    torch.testing.assert_close(p(c, levels), mass.log().flatten(), rtol=0, atol=1e-9)


def test_outer_bins_take_the_tails():
    p = logistic(1, 0.05)
    ends = torch.tensor([0.0, 1.0]).double().view(2, 1, 1, 1)
    m = torch.tensor(0.5).double()
    mass = torch.sigmoid((0.5 / 255 - m) / 0.05).log().item()
    assert p(torch.zeros_like(ends), ends).tolist() == pytest.approx([mass, mass])


def test_colour_is_finite_with_gradients_far_in_the_tails():
    p = DiscretisedLogistic(3, 1e-3)
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = (255 * x).round() / 255
    c = torch.full_like(x, 40.0).requires_grad_()
    value = p(c, x)
    assert value.shape == (2,) and torch.isfinite(value).all()
    grads = torch.autograd.grad(value.sum(), (c, p.log_scale))
    assert all(torch.isfinite(g).all() for g in grads)
    assert grads[1].shape == (3, 1, 1) and (grads[1] != 0).all()


def test_the_scale_of_each_channel_is_its_own():
    p = logistic(2, 0.1, 0.2)
    x = torch.full((1, 2, 1, 1), 100 / 255).double()
    one = logistic(1, 0.1)
    two = logistic(1, 0.2)
    c = torch.zeros_like(x)
    apart = one(c[:, :1], x[:, :1]) + two(c[:, 1:], x[:, 1:])
    torch.testing.assert_close(p(c, x), apart, rtol=1e-12, atol=1e-12)


def test_bits_per_dimension_of_a_fair_coin_is_one():
    assert bits_per_dimension(784 * math.log(2), 784) == pytest.approx(1, abs=1e-12)
    assert bits_per_dimension(3072 * math.log(256), 3072) == pytest.approx(8, abs=1e-12)


def test_likelihood_by_name():
    assert isinstance(likelihood("bernoulli", 1), Bernoulli)
    assert likelihood("discretised-logistic", 3).log_scale.shape == (3, 1, 1)
    with pytest.raises(ValueError, match="likelihood is 'mse'; allowed: bernoulli, "):
        likelihood("mse", 1)


@pytest.mark.parametrize("name", ["bernoulli", "discretised-logistic"])
def test_a_rounded_canvas_is_summed_in_the_precision_of_the_image(name):
    seeded = torch.Generator().manual_seed(0)
    canvas = (5 * torch.randn(4, 1, 6, 6, generator=seeded)).bfloat16()
    x = torch.rand(4, 1, 6, 6, generator=seeded).round()
    p = likelihood(name, 1)
    assert torch.equal(p(canvas, x), p(canvas.float(), x))
