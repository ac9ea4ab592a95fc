"""A three-layer Ladder VAE in NumPy, from the equations: the library's second opinion.

Variances and precisions as the paper prints them (Sønderby et al. 2016), nothing
rearranged for speed or range. Weights come by name from a ``state_dict``.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
SLOPE = 0.1  # leaky rectifier
EPSILON = 1e-5  # batch normalisation


class ReferenceLadder:
    """Layers 1 (bottom) to 3 (top); ``training`` chooses whose statistics normalise."""

    def __init__(self, weights: dict[str, Array], floor: float, training: bool) -> None:
        self.w, self.floor, self.training = weights, floor, training

    def bound(
        self, x: Array, noise: tuple[Array, Array, Array]
    ) -> tuple[Array, Array, Array]:
        """log p(x given z_1), the three KLs from bottom to top, log w."""
        d_1 = self.block("up.0", x.reshape(len(x), -1))
        d_2 = self.block("up.1", d_1)
        d_3 = self.block("up.2", d_2)

        mu_q3, var_q3 = self.head("up_heads.2", d_3)
        z_3 = mu_q3 + np.sqrt(var_q3) * noise[2]
        mu_p3, var_p3 = np.zeros_like(mu_q3), np.ones_like(var_q3)

        mu_p2, var_p2 = self.head("priors.1.1", self.block("priors.1.0", z_3))
        mu_q2, var_q2 = weigh(*self.head("up_heads.1", d_2), mu_p2, var_p2)
        z_2 = mu_q2 + np.sqrt(var_q2) * noise[1]

        mu_p1, var_p1 = self.head("priors.0.1", self.block("priors.0.0", z_2))
        mu_q1, var_q1 = weigh(*self.head("up_heads.0", d_1), mu_p1, var_p1)
        z_1 = mu_q1 + np.sqrt(var_q1) * noise[0]

        probability = self.pixels(z_1)
        flat = x.reshape(len(x), -1)
        log_likelihood = np.log(np.where(flat == 1, probability, 1 - probability))
        log_likelihood = log_likelihood.sum(1)
        divergences = [
            divergence(mu_q1, var_q1, mu_p1, var_p1),
            divergence(mu_q2, var_q2, mu_p2, var_p2),
            divergence(mu_q3, var_q3, mu_p3, var_p3),
        ]
        log_weight = (
            log_likelihood
            + (log_normal(z_1, mu_p1, var_p1) - log_normal(z_1, mu_q1, var_q1))
            + (log_normal(z_2, mu_p2, var_p2) - log_normal(z_2, mu_q2, var_q2))
            + (log_normal(z_3, mu_p3, var_p3) - log_normal(z_3, mu_q3, var_q3))
        )
        return log_likelihood, np.stack(divergences, axis=1), log_weight

    def generate(self, noise: tuple[Array, Array, Array]) -> Array:
        """Pixel probabilities, from z_3 ~ N(0, I) down."""
        mu, var = self.head("priors.1.1", self.block("priors.1.0", noise[2]))
        z_2 = mu + np.sqrt(var) * noise[1]
        mu, var = self.head("priors.0.1", self.block("priors.0.0", z_2))
        return self.pixels(mu + np.sqrt(var) * noise[0])

    def pixels(self, z_1: Array) -> Array:
        h = self.block("decoder.0", z_1)
        logits = h @ self.w["output.weight"].T + self.w["output.bias"]
        return 1 / (1 + np.exp(-logits))

    def block(self, name: str, h: Array) -> Array:
        h = h @ self.w[f"{name}.0.weight"].T
        if f"{name}.0.bias" in self.w:
            h = h + self.w[f"{name}.0.bias"]
        if f"{name}.1.running_mean" in self.w:
            mean, var = h.mean(0), h.var(0)
            if not self.training:
                mean = self.w[f"{name}.1.running_mean"]
                var = self.w[f"{name}.1.running_var"]
            h = (h - mean) / np.sqrt(var + EPSILON)
            h = h * self.w[f"{name}.1.weight"] + self.w[f"{name}.1.bias"]
        return np.where(h > 0, h, SLOPE * h)

    def head(self, name: str, h: Array) -> tuple[Array, Array]:
        out = h @ self.w[f"{name}.linear.weight"].T + self.w[f"{name}.linear.bias"]
        half = out.shape[1] // 2
        return out[:, :half], np.log(1 + np.exp(out[:, half:])) + self.floor


def weigh(
    mu_hat: Array, var_hat: Array, mu_p: Array, var_p: Array
) -> tuple[Array, Array]:
    """The precision-weighted combination of two Gaussians."""
    var = 1 / (1 / var_hat + 1 / var_p)
    return var * (mu_hat / var_hat + mu_p / var_p), var


def divergence(mu_q: Array, var_q: Array, mu_p: Array, var_p: Array) -> Array:
    """KL(q ‖ p) of diagonal Gaussians, summed over dimensions."""
    each = np.log(np.sqrt(var_p / var_q)) + (var_q + (mu_q - mu_p) ** 2) / (2 * var_p)
    return (each - 0.5).sum(1)


def log_normal(z: Array, mu: Array, var: Array) -> Array:
    """log N(z; mu, var), summed over dimensions."""
    return np.log(np.exp(-((z - mu) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)).sum(
        1
    )
