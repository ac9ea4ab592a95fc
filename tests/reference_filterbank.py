"""The attention filters a second time: NumPy, one image, one number at a time.

Written from the equations of the DRAW paper (arXiv:1502.04623, eqs. 19–29), in its own
1-based indices, and from the code of GLAS (github.com/dojoteef/glas, attention.py).
Nothing here is taken from drawlib: it is what the tests hold drawlib against.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def draw_centres(g: float, log_delta: float, length: int, longest: int, n: int):
    """Eqs. (19)–(24) with i and the pixels counted from 1; then moved to 0."""
    delta = math.exp(log_delta) * (longest - 1) / (n - 1) if n > 1 else 0.0
    centre = (length + 1) / 2 * (g + 1)
    return [centre + (i - n / 2 - 0.5) * delta - 1 for i in range(1, n + 1)]


def glas_centres(g: float, log_delta: float, length: int, longest: int, n: int):
    """The grid as the GLAS code has it: its precedence, its offsets, its centre."""
    gap = longest - 1 / max(n - 1, 1)
    centre = (length + 1) / 2 * (g + 1)
    return [centre + (k - (n + 1) / 2) * gap * math.exp(log_delta) for k in range(n)]


def raw_row(mu: float, third: float, length: int, kernel: str, eps: float) -> Array:
    """The GLAS code's filter values before normalisation, with its maxima."""
    row = np.zeros(length)
    for a in range(length):
        if kernel == "gaussian":
            row[a] = math.exp(-((a - mu) ** 2) / max(2 * math.exp(third), eps))
        else:
            s = max(math.exp(third / 2), eps)
            row[a] = 1 / max(math.pi * s * (1 + ((a - mu) / s) ** 2), eps)
    return row


def floor_row(mu: float, third: float, length: int, kernel: str, eps: float) -> Array:
    row = raw_row(mu, third, length, kernel, eps)
    return row / max(row.sum(), eps)


def exact_row(mu: float, third: float, length: int, kernel: str, eps: float) -> Array:
    """Eq. (25) or the Cauchy density, over the row's own sum."""
    if kernel == "gaussian":
        log_f = [-((a - mu) ** 2) / (2 * math.exp(third)) for a in range(length)]
        # The largest is taken out, so that a row far outside has a sum to divide by.
        row = np.array([math.exp(value - max(log_f)) for value in log_f])
    else:
        s = max(math.exp(third / 2), eps)
        row = np.array([s * s / (s * s + (a - mu) ** 2) for a in range(length)])
    return row / row.sum()


def filters(
    raw, size, n, kernel="gaussian", legacy=False, normalise="exact", eps=1e-3
) -> tuple[Array, Array, float]:
    """F_X (n, width), F_Y (n, height) and γ of one image."""
    g_x, g_y, third, log_delta, log_gamma = (float(number) for number in raw)
    height, width = size
    centres = glas_centres if legacy else draw_centres
    row = exact_row if normalise == "exact" else floor_row
    F_x, F_y = (
        np.array(
            [
                row(mu, third, length, kernel, eps)
                for mu in centres(g, log_delta, length, max(size), n)
            ]
        )
        for g, length in ((g_x, width), (g_y, height))
    )
    return F_x, F_y, math.exp(log_gamma)


def read(F_x: Array, F_y: Array, gamma: float, image: Array) -> Array:
    """Eq. (27) for one channel, entry by entry."""
    n, (height, width) = len(F_x), image.shape
    patch = np.zeros((n, n))
    for j in range(n):
        for i in range(n):
            for b in range(height):
                for a in range(width):
                    patch[j, i] += gamma * F_y[j, b] * image[b, a] * F_x[i, a]
    return patch


def write(F_x: Array, F_y: Array, gamma: float, patch: Array) -> Array:
    """Eq. (29) for one channel, entry by entry."""
    n, height, width = len(F_x), F_y.shape[1], F_x.shape[1]
    image = np.zeros((height, width))
    for b in range(height):
        for a in range(width):
            for j in range(n):
                for i in range(n):
                    image[b, a] += F_y[j, b] * patch[j, i] * F_x[i, a] / gamma
    return image
