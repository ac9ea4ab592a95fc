"""DRAW with attention in JAX, as somebody who prefers JAX would write it: the peer.

One `lax.scan` over the steps, `jit` around loss and gradients, float32, a whole batch
at once. JAX is no dependency of the course; where it is missing, its row is left out.

JAX starts as many threads as there are cores that it may use. So it is held to the
row's number of threads by so many cores, at its start and in each call, as Linux can;
on other systems its row is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.plain import TextbookDRAW

__all__ = ["jax_training"]


def jax_training(
    plain: TextbookDRAW, x: Tensor, noise: Tensor
) -> Callable[[], Tensor] | None:
    """Mean −ELBO and all its gradients with the weights of ``plain``, or no JAX: None.

    On as many cores as PyTorch has threads.

    Raises:
        ValueError: for a model without attention.
    """
    if plain.config.attention != "gaussian":
        raise ValueError("the peer is DRAW with a Gaussian window alone")
    if find_spec("jax") is None or not hasattr(os, "sched_setaffinity"):
        return None
    threads = torch.get_num_threads()
    with cores(threads):
        import jax

        jax.devices()  # starts its threads

    weights = {name: p.detach().numpy() for name, p in plain.named_parameters()}
    sizes = (plain.height, plain.width, plain.config.read, plain.config.write)
    step = jax.jit(jax.value_and_grad(loss), static_argnums=3)
    images, draws = x[:, 0].numpy(), noise.transpose(0, 1).contiguous().numpy()

    def run() -> Tensor:
        with cores(threads):
            value, gradients = step(weights, images, draws, sizes)
            jax.block_until_ready(gradients)
        return torch.tensor(float(value))

    return run


@contextmanager
def cores(n: int) -> Iterator[None]:
    """n cores for this thread and for those that it starts.

    Example:
        >>> with cores(1):
        ...     len(os.sched_getaffinity(0))
        1
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def loss(weights: Any, x: Any, noise: Any, sizes: tuple[int, int, int, int]) -> Any:
    """Mean −ELBO in nats; x is (n, height, width), noise (T, n, z)."""
    import jax
    import jax.numpy as jnp

    height, width, n_read, n_write = sizes

    def affine(name: str, u: Any) -> Any:
        return u @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def lstm(name: str, u: Any, h: Any, c: Any) -> tuple[Any, Any]:
        gates = u @ weights[f"{name}.weight_ih"].T + weights[f"{name}.bias_ih"]
        gates += h @ weights[f"{name}.weight_hh"].T + weights[f"{name}.bias_hh"]
        i, f, g, o = jnp.split(gates, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def filters(raw: Any, N: int) -> tuple[Any, Any, Any]:
        g_x, g_y, log_variance, log_delta, log_gamma = jnp.split(raw, 5, 1)
        g_x = (width - 1) / 2 + (width + 1) / 2 * g_x
        g_y = (height - 1) / 2 + (height + 1) / 2 * g_y
        delta = (max(height, width) - 1) / max(N - 1, 1) * jnp.exp(log_delta)
        offset = (jnp.arange(N) - (N - 1) / 2) * delta
        double = 2 * jnp.exp(log_variance)[:, :, None]

        def rows(centre: Any, length: int) -> Any:
            distance = jnp.arange(length) - (centre + offset)[:, :, None]
            return jax.nn.softmax(-(distance**2) / double, 2)

        return rows(g_x, width), rows(g_y, height), jnp.exp(log_gamma)[:, :, None]

    def step(state: Any, eps: Any) -> tuple[Any, Any]:
        h_enc, c_enc, h_dec, c_dec, canvas = state
        F_x, F_y, gamma = filters(affine("read_head", h_dec), n_read)
        both = jnp.stack([x, x - jax.nn.sigmoid(canvas)], 1)
        r = gamma[:, None] * (F_y[:, None] @ both @ F_x.mT[:, None])
        seen = jnp.concatenate([r.reshape(len(x), -1), h_dec], 1)
        h_enc, c_enc = lstm("encoder", seen, h_enc, c_enc)
        mu, log_sigma = affine("mu", h_enc), affine("log_sigma", h_enc)
        z = mu + jnp.exp(log_sigma) * eps
        h_dec, c_dec = lstm("decoder", z, h_dec, c_dec)
        F_x, F_y, gamma = filters(affine("write_head", h_dec), n_write)
        w = affine("writer", h_dec).reshape(-1, n_write, n_write)
        canvas = canvas + F_y.mT @ w @ F_x / gamma
        kl = 0.5 * (mu**2 + jnp.exp(2 * log_sigma) - 2 * log_sigma - 1).sum(1)
        return (h_enc, c_enc, h_dec, c_dec, canvas), kl

    started = [weights[f"start.{k}"] for k in range(4)]
    start = [jnp.broadcast_to(s, (len(x), *s.shape)) for s in started]
    canvas = jnp.broadcast_to(weights["start.4"][0], x.shape)
    (*_, canvas), kl = jax.lax.scan(step, (*start, canvas), noise)
    nats = (jax.nn.softplus(canvas) - x * canvas).sum((1, 2))
    return (nats + kl.sum(0)).mean()
