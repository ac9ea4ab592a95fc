"""Others' estimators of log p(x) on our weights: what a reader may compare.

Pyro, NumPyro and pythae are none of the library's needs. Each test is skipped where its
package is missing; the page *Paper against code* has what they found.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drawlib.annealing import simulate
from drawlib.evaluation import estimate
from drawlib.results.zoo import load_pretrained

RUNS = 400


@pytest.fixture(scope="module")
def weights() -> Any:
    return load_pretrained("mnist-dynamic/vae-source-0").requires_grad_(False).eval()


@pytest.fixture(scope="module")
def image(weights: Any) -> Tensor:
    """One digit of the model's own, so that no data set is needed."""
    return simulate(weights, 1, seed=3)[0]


def ours(weights: Any, image: Tensor, K: int) -> Tensor:
    """``RUNS`` values of log p̂_K of one image."""
    generator = torch.Generator().manual_seed(K)
    return estimate(weights, image.expand(RUNS, -1, -1, -1), K, generator)["log_iw"]


def same(theirs: Tensor, mine: Tensor) -> None:
    """Both have one mean within 4.5 standard errors of the difference."""
    error = math.hypot(*(v.std().item() / math.sqrt(len(v)) for v in (theirs, mine)))
    assert error < 0.4
    assert abs(theirs.mean() - mine.mean()) < 4.5 * error


@pytest.mark.parametrize("K", [1, 5, 50])
def test_pyro_s_renyi_elbo_at_alpha_0_is_our_importance_weighted_bound(
    weights: Any, image: Tensor, K: int
) -> None:
    pyro = pytest.importorskip("pyro")
    import pyro.distributions as dist

    x = image.expand(RUNS, -1, -1, -1)
    q = weights.encode(x)

    def model() -> None:
        with pyro.plate("images", RUNS):
            z = pyro.sample("z", dist.Normal(0.0, torch.ones(RUNS, 64)).to_event(1))
            canvas = weights.decode(z.reshape(-1, 64)).reshape(*z.shape[:-1], -1)
            pixels = dist.Bernoulli(logits=canvas).to_event(1)
            pyro.sample("x", pixels, obs=x.flatten(1))

    def guide() -> None:
        with pyro.plate("images", RUNS):
            pyro.sample("z", dist.Normal(q.mu, q.sigma).to_event(1))

    pyro.set_rng_seed(0)
    renyi = pyro.infer.RenyiELBO(
        alpha=0, num_particles=K, max_plate_nesting=1, vectorize_particles=True
    )
    mine = ours(weights, image, K)
    # One number for the sum over a plate: image by image inside, so no joint weight.
    total = -renyi.loss(model, guide) / RUNS
    error = mine.std().item() * math.sqrt(2 / RUNS)
    assert abs(total - mine.mean()) < 4.5 * error


@pytest.mark.parametrize("K", [1, 5, 50])
def test_numpyro_s_renyi_elbo_at_alpha_0_is_our_importance_weighted_bound(
    weights: Any, image: Tensor, K: int
) -> None:
    numpyro = pytest.importorskip("numpyro")
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as dist

    layers = [*weights.decoder, weights.output]
    maps = [
        (jnp.asarray(m.weight.numpy()), jnp.asarray(m.bias.numpy()))
        for m in layers
        if isinstance(m, nn.Linear)
    ]
    q = weights.encode(image)
    mu, sigma = (jnp.asarray(v[0].numpy()) for v in (q.mu, q.sigma))
    x = jnp.asarray(image.flatten().numpy())

    def model() -> None:
        h = numpyro.sample("z", dist.Normal(0.0, jnp.ones(64)).to_event(1))
        for number, (weight, bias) in enumerate(maps, 1):
            h = weight @ h + bias
            h = jnp.tanh(h) if number < len(maps) else h
        numpyro.sample("x", dist.Bernoulli(logits=h).to_event(1), obs=x)

    def guide() -> None:
        numpyro.sample("z", dist.Normal(mu, sigma).to_event(1))

    renyi = numpyro.infer.RenyiELBO(alpha=0, num_particles=K)
    keys = jax.random.split(jax.random.PRNGKey(0), RUNS)
    loss = jax.jit(jax.vmap(lambda key: renyi.loss(key, {}, model, guide)))
    theirs = torch.tensor([-float(value) for value in loss(keys)]).double()
    same(theirs, ours(weights, image, K))


class Encoder(nn.Module):
    """Our encoder as pythae wants one: the mean and log σ²."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.weights, self.drawn = weights, 0

    def forward(self, x: Tensor) -> Any:
        self.drawn += len(x)
        q = self.weights.encode(x)
        return SimpleNamespace(embedding=q.mu, log_covariance=2 * q.log_sigma)


@pytest.mark.parametrize("asked, batch, K", [(5, 50, 50), (50, 50, 50), (120, 50, 100)])
def test_pythae_s_get_nll_is_a_log_likelihood_of_as_many_samples_as_fill_batches(
    weights: Any, image: Tensor, asked: int, batch: int, K: int
) -> None:
    pythae = pytest.importorskip("pythae.models")

    def decoder(z: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": torch.sigmoid(weights.decode(z))}

    encoder = Encoder(weights)
    settings = SimpleNamespace(reconstruction_loss="bce")
    there = SimpleNamespace(
        encoder=encoder,
        decoder=decoder,
        model_config=settings,
        input_dim=(1, 28, 28),
        _sample_gauss=lambda mu, std: pythae.VAE._sample_gauss(None, mu, std),
    )
    torch.manual_seed(0)
    runs = 100
    theirs = torch.tensor(
        [pythae.VAE.get_nll(there, image, asked, batch) for _ in range(runs)]
    ).double()
    assert encoder.drawn == runs * K  # and not `asked`
    assert (theirs < 0).all()  # the log-likelihood itself, whatever the name says
    same(theirs, ours(weights, image, K))
    if K != asked:
        few = ours(weights, image, asked)
        apart = abs(theirs.mean() - few.mean())
        assert asked > K or apart > 4.5 * few.std() / math.sqrt(RUNS)


def test_at_one_draw_the_log_weight_scatters_less_than_the_elbo_with_an_analytic_kl(
    weights: Any, image: Tensor
) -> None:
    """As *Paper against code* says of the packages at K = 1, which take the former."""
    x, generator = image.expand(RUNS, -1, -1, -1), torch.Generator().manual_seed(0)
    bound = weights.bound(x, weights.noise(RUNS, generator))
    same(bound.log_weight, bound.elbo)
    assert bound.log_weight.std() < 0.9 * bound.elbo.std()
