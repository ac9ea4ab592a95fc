"""Models whose log p(x) is known exactly, written against the model contract.

Each is a ``LatentModel`` in float64 with a truth that uses none of the library's
formulas: a multivariate Gaussian, a quadrature, or independent pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from drawlib.bound import Bound, Images, LatentModel, Noise
from drawlib.gaussian import Gaussian, GaussianHead, standard
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.likelihood import Bernoulli


def seeded(*shape: int, seed: int = 0) -> Tensor:
    """Standard-normal numbers in float64 that depend on the seed alone."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def bits(n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """n random binary images in float64."""
    return (seeded(n, *shape, seed=seed) > 0).double()


def hermite_grid(dims: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Points and weights with Σ w f(ε) = E[f(ε)], ε ~ N(0, I).

    Gauss–Hermite in the probabilists' form, as a tensor product: (nodes^dims, dims).
    Exact for polynomials of degree below 2·nodes in each axis.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    axes = np.meshgrid(*[node] * dims, indexing="ij")
    weights = np.meshgrid(*[weight / weight.sum()] * dims, indexing="ij")
    points = np.stack([axis.ravel() for axis in axes], axis=1)
    return torch.from_numpy(points), torch.from_numpy(np.prod(weights, 0).ravel())


class GaussianPixels(nn.Module):
    """p(x given c) = N(c, s²) for each pixel: a likelihood for the linear models."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s

    def mean(self, c: Images) -> Images:
        return c

    def sample(self, c: Images, generator: torch.Generator | None = None) -> Images:
        return c + self.s * torch.randn(c.shape, generator=generator, dtype=c.dtype)

    def forward(self, c: Images, x: Images) -> Tensor:
        return Normal(c, self.s).log_prob(x).flatten(1).sum(1)


class OneLayer(LatentModel):
    """A bound from three parts: ``posterior``, ``canvas`` and ``likelihood``."""

    d: int
    bias: nn.Parameter
    likelihood: nn.Module
    config = None

    def posterior(self, x: Images) -> Gaussian:
        raise NotImplementedError

    def canvas(self, z: Tensor) -> Images:
        raise NotImplementedError

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return ((n, self.d),)

    def bound(self, x: Images, noise: Noise) -> Bound:
        q = self.posterior(x)
        z = q.sample(noise)
        log_likelihood = self.likelihood(self.canvas(z), x)
        log_weight = log_likelihood + standard(z).log_prob(z) - q.log_prob(z)
        return Bound(log_likelihood, q.kl()[:, None], log_weight)

    def latents(self, noise):
        return self.canvas(noise), noise

    def noise_of(self, x, z):
        return self.posterior(x).noise_of(z)

    @torch.no_grad()
    def generate(self, n, *, noise=None, generator=None):
        return self.likelihood.mean(self.canvas(self.take_noise(n, noise, generator)))

    @torch.no_grad()
    def reconstruct(self, x, *, noise=None, generator=None):
        z = self.posterior(x).sample(self.take_noise(len(x), noise, generator))
        return self.likelihood.mean(self.canvas(z))

    @torch.no_grad()
    def start_at(self, mean):
        self.bias.copy_(mean.flatten())


class PPCA(OneLayer):
    """z ~ N(0, I), x given z ~ N(Wz + b, s²I), W with orthogonal columns.

    So the true posterior is diagonal. ``wrong=True`` gives another diagonal q, whose
    ELBO is log p(x) − KL(q ‖ posterior), known in closed form as ``gap``.
    """

    def __init__(self, wrong: bool = False, s: float = 0.3) -> None:
        super().__init__()
        self.image_shape, self.d, self.wrong, self.s = (1, 2, 3), 2, wrong, s
        orthogonal = torch.linalg.qr(seeded(6, 2, seed=1)).Q
        self.W = nn.Parameter(orthogonal * torch.tensor([1.5, 0.4]))
        self.bias = nn.Parameter(0.5 + 0.1 * seeded(6, seed=2))
        self.likelihood = GaussianPixels(s)

    def canvas(self, z: Tensor) -> Images:
        return (z @ self.W.T + self.bias).unflatten(1, self.image_shape)

    def true_posterior(self, x: Images) -> tuple[Tensor, Tensor]:
        """Mean and covariance of p(z given x), by the matrix formula."""
        precision = torch.eye(self.d, dtype=x.dtype) + self.W.T @ self.W / self.s**2
        covariance = torch.linalg.inv(precision)
        return (x.flatten(1) - self.bias) @ self.W @ covariance / self.s**2, covariance

    def posterior(self, x: Images) -> Gaussian:
        mu, covariance = self.true_posterior(x)
        sigma = covariance.diagonal().sqrt().expand_as(mu)
        if self.wrong:
            mu, sigma = mu + 0.3, 1.5 * sigma
        return Gaussian(mu, sigma.log())

    def log_prob(self, x: Images) -> Tensor:
        """log p(x) = log N(x; b, WWᵀ + s²I)."""
        noise = self.s**2 * torch.eye(6, dtype=x.dtype)
        return MultivariateNormal(self.bias, self.W @ self.W.T + noise).log_prob(
            x.flatten(1)
        )

    def gap(self, x: Images) -> Tensor:
        """KL(q ‖ true posterior), from torch.distributions."""
        q = self.posterior(x)
        mine = MultivariateNormal(q.mu, torch.diag_embed(q.sigma**2))
        return kl_divergence(mine, MultivariateNormal(*self.true_posterior(x)))


class OneLatentBernoulli(OneLayer):
    """Four bits that share one latent: log p(x) by quadrature; q is not the posterior.

    One latent only, and p(x given z) is smooth, so that 100 Gauss–Hermite nodes reach
    float64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.d = (1, 2, 2), 1
        self.slope = nn.Parameter(torch.tensor([2.0, -1.5, 1.0, 0.5]).double())
        self.bias = nn.Parameter(torch.tensor([0.3, -0.2, 0.0, 1.0]).double())
        self.likelihood = Bernoulli()

    def canvas(self, z: Tensor) -> Images:
        return (z * self.slope + self.bias).unflatten(1, self.image_shape)

    def posterior(self, x: Images) -> Gaussian:
        mu = 0.3 * ((x.flatten(1) - 0.5) * self.slope).sum(1, keepdim=True)
        return Gaussian(mu, torch.full_like(mu, -0.4))

    def log_prob_by_quadrature(self, x: Images, nodes: int = 100) -> Tensor:
        """log ∫ p(x given z) N(z; 0, 1) dz, by torch's own Bernoulli."""
        z, weight = hermite_grid(1, nodes)
        logits = z * self.slope + self.bias
        each = TorchBernoulli(logits=logits).log_prob(x.flatten(1)[:, None]).sum(-1)
        return torch.logsumexp(each + weight.log(), dim=1)


class DeafDecoder(OneLayer):
    """The output ignores z, so log p(x) is that of independent pixels, exactly.

    ``q_is_prior`` makes the bound tight; otherwise it lies ``KL(q ‖ prior)`` below.
    """

    def __init__(self, q_is_prior: bool = False) -> None:
        super().__init__()
        self.image_shape, self.d, self.q_is_prior = (1, 2, 3), 3, q_is_prior
        self.bias = nn.Parameter(seeded(6, seed=3))
        self.likelihood = Bernoulli()

    def canvas(self, z: Tensor) -> Images:
        return self.bias.expand(len(z), -1).unflatten(1, self.image_shape)

    def posterior(self, x: Images) -> Gaussian:
        mu = x.flatten(1)[:, : self.d]
        q = Gaussian(mu, torch.full_like(mu, -1.0))
        return standard(mu) if self.q_is_prior else q

    def log_prob(self, x: Images) -> Tensor:
        """Σ log Bern(x; sigmoid(b)), from torch.distributions."""
        return TorchBernoulli(logits=self.bias).log_prob(x.flatten(1)).sum(1)


class TwoLayerLinearGaussian(LadderVAE):
    """The library's own ladder with every map linear, so that log p(x) is known.

    z_2 ~ N(0, I), z_1 given z_2 ~ N(A z_2 + a, S), x given z_1 ~ N(B z_1 + b, s²I).
    B has orthogonal columns and the columns of A have disjoint supports: then
    p(z_1 given z_2, x) is the merge of p(z_1 given z_2) with a diagonal Gaussian of x,
    and p(z_2 given x) is diagonal, so the true posterior is in the ladder's family.
    ``wrong=True`` moves and widens both bottom-up Gaussians.
    """

    def __init__(self, wrong: bool = False, s: float = 0.4) -> None:
        super().__init__(
            LadderConfig(
                image_shape=(1, 2, 3),
                hidden=(6, 6),
                z=(3, 2),
                decoder=(3,),
                norm=False,
                variance="exp",
            )
        )
        self.double()
        self.s = s
        self.A = torch.tensor([[0.8, 0.0], [0.0, -0.6], [0.5, 0.0]]).double()
        self.a = torch.tensor([0.2, -0.1, 0.4]).double()
        self.S = torch.tensor([0.3, 0.5, 0.2]).double()
        scale = torch.tensor([1.0, 0.7, 1.4]).double()
        self.B = torch.linalg.qr(seeded(6, 3, seed=4)).Q * scale
        self.b = 0.5 + 0.1 * seeded(6, seed=5)

        # p(x given z_1) as a Gaussian in z_1: the bottom-up factor of layer 1.
        var_1 = s**2 / scale**2
        W_1 = (self.B / scale**2).T
        # Without z_1: W_1 (x − b) given z_2 is N(A z_2 + a, S + var_1).
        D = self.S + var_1
        var_2 = 1 / (1 + (self.A**2 / D[:, None]).sum(0))
        W_2 = var_2[:, None] * (self.A / D[:, None]).T @ W_1
        c_1 = -W_1 @ self.b
        c_2 = -W_2 @ self.b - var_2 * ((self.A / D[:, None]).T @ self.a)
        if wrong:
            c_1, c_2, var_1, var_2 = c_1 + 0.2, c_2 - 0.3, 2 * var_1, 1.7 * var_2

        self.up = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.up_heads = nn.ModuleList(
            [affine_head(W_1, c_1, var_1), affine_head(W_2, c_2, var_2)]
        )
        self.priors = nn.ModuleList([affine_head(self.A, self.a, self.S)])
        self.decoder = nn.Sequential()
        self.output.weight = nn.Parameter(self.B)
        self.output.bias = nn.Parameter(self.b)
        self.likelihood = GaussianPixels(s)

    def joint(self) -> MultivariateNormal:
        """p(z_1, z_2, x) as one Gaussian of 3 + 2 + 6 numbers."""
        top = torch.eye(2, dtype=torch.float64)
        one = self.A @ self.A.T + torch.diag(self.S)
        pixels = self.B @ one @ self.B.T + self.s**2 * torch.eye(6).double()
        covariance = torch.cat(
            [
                torch.cat([one, self.A, one @ self.B.T], 1),
                torch.cat([self.A.T, top, self.A.T @ self.B.T], 1),
                torch.cat([self.B @ one, self.B @ self.A, pixels], 1),
            ]
        )
        mean = torch.cat([self.a, torch.zeros(2).double(), self.B @ self.a + self.b])
        return MultivariateNormal(mean, covariance)

    def log_prob(self, x: Images) -> Tensor:
        """log p(x), a Gaussian with both latents integrated out."""
        joint = self.joint()
        pixels = MultivariateNormal(joint.mean[5:], joint.covariance_matrix[5:, 5:])
        return pixels.log_prob(x.flatten(1))

    def gap(self, x: Images) -> Tensor:
        """KL(q(z_1, z_2 given x) ‖ true posterior), both as full 5-d Gaussians."""
        joint = self.joint()
        mean, cov = joint.mean, joint.covariance_matrix
        gain = cov[:5, 5:] @ torch.linalg.inv(cov[5:, 5:])
        true_mean = mean[:5] + (x.flatten(1) - mean[5:]) @ gain.T
        true = MultivariateNormal(true_mean, cov[:5, :5] - gain @ cov[5:, :5])
        flat = x.flatten(1)
        mu_1, log_1 = self.up_heads[0].linear(flat).chunk(2, dim=1)
        mu_2, log_2 = self.up_heads[1].linear(flat).chunk(2, dim=1)
        # q(z_1 given z_2) = N(M z_2 + m, V): the paper's precision-weighted mean.
        v_hat, v_2 = (2 * log_1[0]).exp(), (2 * log_2[0]).exp()
        V = 1 / (1 / v_hat + 1 / self.S)
        M = (V / self.S)[:, None] * self.A
        m = V * (mu_1 / v_hat + self.a / self.S)
        mean_q = torch.cat([mu_2 @ M.T + m, mu_2], dim=1)
        cross = M * v_2
        cov_q = torch.cat(
            [
                torch.cat([M @ torch.diag(v_2) @ M.T + torch.diag(V), cross], 1),
                torch.cat([cross.T, torch.diag(v_2)], 1),
            ]
        )
        return kl_divergence(MultivariateNormal(mean_q, cov_q), true)


def affine_head(W: Tensor, c: Tensor, variance: Tensor) -> GaussianHead:
    """The head N(W h + c, variance), whatever h."""
    z, features = W.shape
    head = GaussianHead(features, z, "exp").double()
    with torch.no_grad():
        head.linear.weight.copy_(torch.cat([W, torch.zeros_like(W)]))
        head.linear.bias.copy_(torch.cat([c, 0.5 * variance.log()]))
    return head
