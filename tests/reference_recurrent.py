"""One step of DRAW and one of GLAS in NumPy, an image at a time, from the equations.

Nothing here comes from the library: the filters are computed with the paper's own
1-based pixels and filters, the encoder sees [r_t, h_dec] whole, and every sum is
written out. Weights arrive as plain arrays; `w` maps names to them. Gates are in the
order input, forget, candidate, output.
"""

from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Any]


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def affine(w: Weights, name: str, h: Array) -> Array:
    return w[f"{name}.weight"] @ h + w[f"{name}.bias"]


def lstm(w: Weights, name: str, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """h', c' with one bias vector and no peepholes."""
    n = len(h)
    total = affine(w, name, np.concatenate([x, h]))
    i, f, o = sigmoid(total[:n]), sigmoid(total[n : 2 * n]), sigmoid(total[3 * n :])
    g = np.tanh(total[2 * n : 3 * n])
    c = f * c + i * g
    return o * np.tanh(c), c


def bank(raw: Array, B: int, A: int, N: int, cauchy: bool = False) -> tuple[Any, ...]:
    """F_X (N × A), F_Y (N × B), γ: eqs. (19) to (26), counted from 1 as there."""
    g_x = (A + 1) / 2 * (raw[0] + 1)
    g_y = (B + 1) / 2 * (raw[1] + 1)
    width = np.exp(raw[2])  # σ², or s² of the Cauchy kernel
    delta = (max(A, B) - 1) / (N - 1) * np.exp(raw[3])
    F_x, F_y = np.zeros((N, A)), np.zeros((N, B))
    for i in range(1, N + 1):
        for F, g, length in ((F_x, g_x, A), (F_y, g_y, B)):
            mu = g + (i - N / 2 - 0.5) * delta
            for a in range(1, length + 1):
                d = (a - mu) ** 2 / width
                F[i - 1, a - 1] = 1 / (1 + d) if cauchy else np.exp(-d / 2)
            F[i - 1] /= F[i - 1].sum()
    return F_x, F_y, np.exp(raw[4])


def draw_step(
    w: Weights, state: dict[str, Array], x: Array, eps: Array, read: int, write: int
) -> tuple[dict[str, Array], float, float]:
    """Eqs. (3) to (8) with attention, for one image x (channels, B, A).

    Returns the next state, KL_t and log p(z_t) − log q(z_t).
    """
    channels, B, A = x.shape
    # Eq. (3)
    error = x - sigmoid(state["canvas"])
    # Eq. (27)
    F_x, F_y, gamma = bank(affine(w, "read_head", state["h_dec"]), B, A, read)
    patches = [gamma * (F_y @ im @ F_x.T) for im in (*x, *error)]
    r = np.concatenate([p.ravel() for p in patches])
    # Eq. (5)
    seen = np.concatenate([r, state["h_dec"]])
    h_enc, c_enc = lstm(w, "encoder", seen, state["h_enc"], state["c_enc"])
    # Eqs. (1), (2), (6)
    mu, log_sigma = np.split(affine(w, "q_head.linear", h_enc), 2)
    z, kl, log_ratio = sample(mu, log_sigma, eps)
    # Eq. (7)
    h_dec, c_dec = lstm(w, "decoder", z, state["h_dec"], state["c_dec"])
    # Eqs. (28), (29)
    patch = affine(w, "writer", h_dec).reshape(channels, write, write)
    F_x, F_y, gamma = bank(affine(w, "write_head", h_dec), B, A, write)
    written = np.stack([F_y.T @ p @ F_x / gamma for p in patch])
    # Eq. (8)
    canvas = state["canvas"] + written
    after = dict(h_enc=h_enc, c_enc=c_enc, h_dec=h_dec, c_dec=c_dec, canvas=canvas)
    return after, kl, log_ratio


def glas_step(
    w: Weights, state: dict[str, Array], x: Array, eps: Array, N: int
) -> tuple[dict[str, Array], float, float]:
    """GLAS as coded, with the Cauchy window on the corrected grid, for one image."""
    L = w["L"]
    M = len(L)
    error = x - sigmoid(state["canvas"])
    seen = np.concatenate([x.ravel(), error.ravel(), state["h_dec"]])
    e, c_enc = lstm(w, "encoder", seen, state["h_enc"], state["c_enc"])
    F_x, F_y, gamma = bank(affine(w, "latent_head", e), M, M, N, cauchy=True)
    a = gamma * (F_y @ L @ F_x.T).ravel()
    mu, log_sigma = np.split(affine(w, "q_head.linear", a), 2)
    z, kl, log_ratio = sample(mu, log_sigma, eps)
    d, c_dec = lstm(w, "decoder", z, state["h_dec"], state["c_dec"])
    canvas = state["canvas"] + affine(w, "writer", d).reshape(x.shape)
    after = dict(h_enc=e, c_enc=c_enc, h_dec=d, c_dec=c_dec, canvas=canvas)
    return after, kl, log_ratio


def sample(mu: Array, log_sigma: Array, eps: Array) -> tuple[Array, float, float]:
    """z = μ + σ ε, KL(q ‖ N(0, I)) and log N(z; 0, I) − log N(z; μ, σ²)."""
    sigma = np.exp(log_sigma)
    z = mu + sigma * eps
    kl = 0.5 * np.sum(mu**2 + sigma**2 - np.log(sigma**2) - 1)
    log_p = -0.5 * np.sum(z**2 + np.log(2 * np.pi))
    log_q = -0.5 * np.sum(((z - mu) / sigma) ** 2 + np.log(2 * np.pi * sigma**2))
    return z, kl, log_p - log_q


def bernoulli(canvas: Array, x: Array) -> float:
    """log p(x given c) from the probabilities."""
    p = sigmoid(canvas)
    return float(np.sum(x * np.log(p) + (1 - x) * np.log(1 - p)))
