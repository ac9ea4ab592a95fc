"""The VAE and the Ladder VAE in plain PyTorch: what the library's are timed against.

Written as their papers' readers write them: layers, a loss, nothing shared. Each holds
copies of the layers of a model of the library, so both compute the same numbers.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Noise
from drawlib.ladder import LadderVAE
from drawlib.vae import VAE

__all__ = ["PlainLadder", "PlainVAE"]


class PlainVAE(nn.Module):
    """A Gaussian posterior with σ = exp(log σ), and binary pixels.

    Example:
        >>> from drawlib.vae import VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> x, noise = torch.ones(3, 1, 28, 28), model.noise(3)
        >>> plain = PlainVAE(model).negative_elbo(x, noise)
        >>> torch.allclose(plain, -model.bound(x, noise).elbo, rtol=1e-5)
        True
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *deepcopy(model.encoder), deepcopy(model.head.linear)
        )
        self.decoder = nn.Sequential(*deepcopy(model.decoder), deepcopy(model.output))

    def negative_elbo(self, x: Tensor, noise: Noise) -> Tensor:
        """Nats, one per image: Kingma & Welling (2014), eq. 10."""
        x = x.flatten(1)
        mu, log_sigma = self.encoder(x).to(x.dtype).chunk(2, 1)
        sigma = log_sigma.exp()
        logits = self.decoder(mu + sigma * noise).to(x.dtype)
        kl = 0.5 * (mu**2 + sigma**2 - 1 - 2 * log_sigma).sum(1)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return bce.sum(1) + kl


class PlainLadder(nn.Module):
    """Posterior and prior merged on the way down; variances by softplus.

    Example:
        >>> from drawlib.ladder import LadderConfig
        >>> model = LadderVAE(LadderConfig.preset("tiny"))
        >>> x, noise = (torch.rand(5, 1, 28, 28) < 0.5).float(), model.noise(5)
        >>> plain = PlainLadder(model).negative_elbo(x, noise)
        >>> torch.allclose(plain, -model.bound(x, noise).elbo, rtol=1e-5)
        True
    """

    def __init__(self, model: LadderVAE) -> None:
        super().__init__()
        self.floor = model.config.floor
        self.up = deepcopy(model.up)
        self.heads = nn.ModuleList(deepcopy(head.linear) for head in model.up_heads)
        self.priors = nn.ModuleList(
            nn.Sequential(*deepcopy(net), deepcopy(head.linear))
            for net, head in model.priors  # type: ignore[misc]
        )
        self.decoder = nn.Sequential(*deepcopy(model.decoder), deepcopy(model.output))

    def negative_elbo(self, x: Tensor, noise: Noise) -> Tensor:
        """Nats, one per image: Sønderby et al. (2016)."""
        x = d = x.flatten(1)
        features = []
        for up in self.up:
            d = up(d)
            features.append(d)
        nats = x.new_zeros(len(x))
        z: Tensor | None = None
        for i in reversed(range(len(features))):
            mu, var = self.gaussian(self.heads[i](features[i]))
            mu_p, var_p = torch.zeros_like(mu), torch.ones_like(var)
            if z is not None:
                mu_p, var_p = self.gaussian(self.priors[i](z))
                precision, precision_p = 1 / var, 1 / var_p
                var = 1 / (precision + precision_p)
                mu = var * (mu * precision + mu_p * precision_p)
            z = mu + var.sqrt() * noise[i]
            far = (var + (mu - mu_p) ** 2) / var_p
            nats = nats + 0.5 * (var_p.log() - var.log() + far - 1).sum(1)
        logits = self.decoder(z).to(x.dtype)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return bce.sum(1) + nats

    def gaussian(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ², out of what a head gives."""
        mu, raw = y.to(self.heads[0].weight.dtype).chunk(2, 1)
        return mu, F.softplus(raw) + self.floor
