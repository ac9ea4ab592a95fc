"""DRAW and GLAS as one would write them from the papers: the yardstick for speed.

Each line is one operation, with PyTorch's own LSTM cell; nothing is fused, hoisted or
compiled. The library's models compute the same numbers (the tests copy the weights and
compare), and `benchmarks` compares the times. `drawlib.textbook` is the same loop for
reading; here are also log weights, models without attention, and GLAS.

`filterbank_by_loops` is the other yardstick: one image at a time, one Python loop over
the columns and one over the rows, as in public code whose attention is too slow to use.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.config import one_of
from drawlib.draw import DRAW
from drawlib.glas import GLAS
from drawlib.recurrent import Recurrent

__all__ = ["TextbookDRAW", "TextbookGLAS", "filterbank_by_loops"]

Images = Float[Tensor, "batch 1 height width"]

# Whose numbers it computes; of a model with anything else they would be another's.
PLAIN: dict[str, tuple[str, ...]] = {
    "attention": ("none", "gaussian"),
    "likelihood": ("bernoulli",),
    "prior": ("standard",),
    "latent_attention": ("none", "cauchy", "gaussian"),
    "grid": ("corrected",),
    "rows": ("exact",),
    "space": ("learned", "fixed"),
    "memory": ("inference",),
}


def gaussian_filters(
    mu: Float[Tensor, "batch N"], sigma2: Float[Tensor, "batch"], length: int
) -> Float[Tensor, "batch N length"]:
    """Rows exp(−(a − μ)²/2σ²), each divided by its sum: eqs. (25), (26).

    Far outside the image every weight is 0 in float32, and the quotient is 0/0: the
    library takes a softmax instead.

    Example:
        >>> gaussian_filters(torch.zeros(1, 1), torch.ones(1), 3).sum()
        tensor(1.)
    """
    a = torch.arange(length, dtype=mu.dtype).view(1, 1, -1)
    f = torch.exp(-((a - mu.unsqueeze(2)) ** 2) / (2 * sigma2.view(-1, 1, 1)))
    return f / f.sum(2, keepdim=True)


def cauchy_filters(
    mu: Float[Tensor, "batch N"], s2: Float[Tensor, "batch"], length: int
) -> Float[Tensor, "batch N length"]:
    """Rows 1 / (1 + ((a − μ)/s)²), each divided by its sum.

    Example:
        >>> cauchy_filters(torch.zeros(1, 1), torch.ones(1), 3).sum()
        tensor(1.0000)
    """
    a = torch.arange(length, dtype=mu.dtype).view(1, 1, -1)
    f = 1 / (1 + (a - mu.unsqueeze(2)) ** 2 / s2.view(-1, 1, 1))
    return f / f.sum(2, keepdim=True)


def window(
    raw: Float[Tensor, "batch 5"], height: int, width: int, N: int
) -> tuple[Tensor, ...]:
    """Centres, third number and intensity: eqs. (21) to (24), from pixel 0.

    Example:
        >>> window(torch.zeros(1, 5), 9, 9, 5)[0]
        tensor([[0., 2., 4., 6., 8.]])
    """
    g_x, g_y, third, log_delta, log_gamma = torch.split(raw, 1, dim=1)
    g_x = (width - 1) / 2 + (width + 1) / 2 * g_x
    g_y = (height - 1) / 2 + (height + 1) / 2 * g_y
    delta = (max(height, width) - 1) / max(N - 1, 1) * torch.exp(log_delta)
    i = torch.arange(N, dtype=raw.dtype).view(1, -1) - (N - 1) / 2
    return (
        g_x + i * delta,
        g_y + i * delta,
        torch.exp(third).squeeze(1),
        torch.exp(log_gamma).view(-1, 1, 1),
    )


class TextbookDRAW(nn.Module):
    """DRAW for one-channel images, with or without attention, batched and eager.

    Built from a library model, whose weights it copies: ``TextbookDRAW(model)``.

    Raises:
        ValueError: for a model with more than one channel, or with a choice that is not
            in ``PLAIN``.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> x, noise = torch.ones(2, 1, 28, 28), model.noise(2)
        >>> plain = TextbookDRAW(model).negative_elbo(x, noise)
        >>> torch.allclose(plain, -model.bound(x, noise).elbo, rtol=1e-5)
        True
    """

    def __init__(self, model: Recurrent) -> None:
        super().__init__()
        self.config = config = model.config
        for name, allowed in PLAIN.items():
            if hasattr(config, name):
                one_of(config, name, allowed)
        channels, self.height, self.width = config.image_shape
        if channels != 1:
            raise ValueError(f"the model has {channels} channels; allowed: 1")
        hidden, z = config.hidden, config.z
        self.encoder = cell(model.encoder.weight, model.encoder.bias, hidden)
        self.decoder = cell(model.decoder.weight, model.decoder.bias, hidden)
        weight, bias = model.q_head.linear.weight, model.q_head.linear.bias
        self.mu = affine(weight[:z], bias[:z])
        self.log_sigma = affine(weight[z:], bias[z:])
        self.writer = affine(model.writer.weight, model.writer.bias)
        if config.attention != "none":
            self.read_head = affine(model.read_head.weight, model.read_head.bias)
            self.write_head = affine(model.write_head.weight, model.write_head.bias)
        names = ("h_enc", "c_enc", "h_dec", "c_dec", "canvas")
        starts = (getattr(model, f"start_{name}") for name in names)
        self.start = nn.ParameterList(
            nn.Parameter(start.detach().clone(), start.requires_grad)
            for start in starts
        )

    def read(self, x: Images, x_hat: Images, h_dec: Tensor) -> Tensor:
        """Eq. (17), or with attention eq. (27)."""
        if self.config.attention == "none":
            return torch.cat([x.flatten(1), x_hat.flatten(1)], dim=1)
        raw = self.read_head(h_dec)
        N = self.config.read
        mu_x, mu_y, sigma2, gamma = window(raw, self.height, self.width, N)
        F_x = gaussian_filters(mu_x, sigma2, self.width)
        F_y = gaussian_filters(mu_y, sigma2, self.height)
        patch = gamma * torch.bmm(torch.bmm(F_y, x.squeeze(1)), F_x.transpose(1, 2))
        error = gamma * torch.bmm(torch.bmm(F_y, x_hat.squeeze(1)), F_x.transpose(1, 2))
        return torch.cat([patch.flatten(1), error.flatten(1)], dim=1)

    def write(self, h_dec: Tensor) -> Images:
        """Eq. (18), or with attention eqs. (28) and (29)."""
        if self.config.attention == "none":
            return self.writer(h_dec).view(-1, 1, self.height, self.width)
        raw, N = self.write_head(h_dec), self.config.write
        mu_x, mu_y, sigma2, gamma = window(raw, self.height, self.width, N)
        F_x = gaussian_filters(mu_x, sigma2, self.width)
        F_y = gaussian_filters(mu_y, sigma2, self.height)
        w = self.writer(h_dec).view(-1, N, N)
        return (torch.bmm(torch.bmm(F_y.transpose(1, 2), w), F_x) / gamma).unsqueeze(1)

    def posterior_input(self, h_enc: Tensor) -> Tensor:
        """What μ and log σ are affine in."""
        return h_enc

    def negative_elbo(
        self, x: Images, noise: Float[Tensor, "batch T z"]
    ) -> Float[Tensor, "batch"]:
        """−ELBO in nats, one per image: eqs. (3) to (12), step by step."""
        return self.terms(x, noise, weigh=False)[0]

    def log_weight(
        self, x: Images, noise: Float[Tensor, "batch T z"]
    ) -> Float[Tensor, "batch"]:
        """log p(x, z) − log q(z given x) at the sampled z, in nats."""
        return self.terms(x, noise, weigh=True)[1]

    def terms(
        self, x: Images, noise: Float[Tensor, "batch T z"], weigh: bool
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """−ELBO and, where asked for, the log weight, one per image."""
        n = len(x)
        h_enc, c_enc, h_dec, c_dec, canvas = (s.expand(n, *s.shape) for s in self.start)
        kl = log_ratio = torch.zeros(n)
        for t in range(self.config.T):
            x_hat = x - torch.sigmoid(canvas)  # Eq. (3)
            r = self.read(x, x_hat, h_dec)  # Eq. (4)
            h_enc, c_enc = self.encoder(torch.cat([r, h_dec], 1), (h_enc, c_enc))
            features = self.posterior_input(h_enc)
            mu = self.mu(features)  # Eq. (1)
            log_sigma = self.log_sigma(features)
            sigma = torch.exp(log_sigma)  # Eq. (2)
            z = mu + sigma * noise[:, t]  # Eq. (6)
            h_dec, c_dec = self.decoder(z, (h_dec, c_dec))  # Eq. (7)
            canvas = canvas + self.write(h_dec)  # Eq. (8)
            # Eq. (11), with the constant of each dimension
            kl = kl + 0.5 * (mu**2 + sigma**2 - 2 * log_sigma - 1).sum(1)
            if not weigh:
                continue
            log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
            whitened = ((z - mu) / sigma) ** 2
            log_q = -0.5 * (whitened + 2 * log_sigma + math.log(2 * math.pi)).sum(1)
            log_ratio = log_ratio + log_p - log_q
        bce = F.binary_cross_entropy_with_logits(canvas, x, reduction="none")
        nats = bce.flatten(1).sum(1)
        return nats + kl, log_ratio - nats  # Eqs. (9), (12)

    def generate(self, noise: Float[Tensor, "batch T z"]) -> Images:
        """Mean images of fresh latents: eqs. (13) to (16)."""
        n = len(noise)
        _, _, h_dec, c_dec, canvas = (s.expand(n, *s.shape) for s in self.start)
        for t in range(self.config.T):
            h_dec, c_dec = self.decoder(noise[:, t], (h_dec, c_dec))
            canvas = canvas + self.write(h_dec)
        return torch.sigmoid(canvas)


class TextbookGLAS(TextbookDRAW):
    """GLAS with a Cauchy or Gaussian window on its latent space, batched and eager.

    Example:
        >>> from drawlib.glas import GLAS, GLASConfig
        >>> model = GLAS(GLASConfig.preset("tiny"))
        >>> x, noise = torch.ones(2, 1, 28, 28), model.noise(2)
        >>> plain = TextbookGLAS(model).negative_elbo(x, noise)
        >>> torch.allclose(plain, -model.bound(x, noise).elbo, rtol=1e-5)
        True
    """

    def __init__(self, model: GLAS) -> None:
        super().__init__(model)
        self.filters = (
            cauchy_filters
            if model.config.latent_attention == "cauchy"
            else gaussian_filters
        )
        self.latent_head = affine(model.latent_head.weight, model.latent_head.bias)
        self.L = nn.Parameter(model.L.detach().clone())
        self.M, self.N = model.config.M, model.config.N

    def posterior_input(self, h_enc: Tensor) -> Tensor:
        """a_t = γ vec(F_Y L F_Xᵀ)."""
        raw = self.latent_head(h_enc)
        mu_x, mu_y, width, gamma = window(raw, self.M, self.M, self.N)
        F_x = self.filters(mu_x, width, self.M)
        F_y = self.filters(mu_y, width, self.M)
        L = self.L.expand(len(h_enc), self.M, self.M)
        a = gamma * torch.bmm(torch.bmm(F_y, L), F_x.transpose(1, 2))
        return a.flatten(1)


def textbook(model: Recurrent) -> TextbookDRAW:
    """The textbook form of a DRAW or GLAS model, with its weights.

    Raises:
        TypeError: for another model.
        ValueError: as ``TextbookDRAW``.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> type(textbook(DRAW(DRAWConfig.preset("tiny")))).__name__
        'TextbookDRAW'
    """
    if isinstance(model, GLAS) and model.config.latent_attention != "none":
        return TextbookGLAS(model)
    if isinstance(model, (DRAW, GLAS)):
        return TextbookDRAW(model)
    raise TypeError(f"{type(model).__name__} has no textbook form; allowed: DRAW, GLAS")


def cell(weight: Tensor, bias: Tensor, hidden: int) -> nn.LSTMCell:
    """PyTorch's LSTM cell (two weights, two biases) with the library's weights."""
    inputs = weight.shape[1] - hidden
    made = nn.LSTMCell(inputs, hidden)
    with torch.no_grad():
        made.weight_ih.copy_(weight[:, :inputs])
        made.weight_hh.copy_(weight[:, inputs:])
        made.bias_ih.copy_(bias)
        made.bias_hh.zero_()
    return made


def affine(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with the given weights."""
    made = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made


def filterbank_by_loops(
    raw: Float[Tensor, "5"], size: tuple[int, int], N: int
) -> tuple[Float[Tensor, "N width"], Float[Tensor, "N height"]]:
    """F_X and F_Y of one image, one column of weights at a time.

    The numbers are right; the way is the one that makes public attention code slow:
    a Python loop over columns, another over rows, and a new small tensor at each turn.

    Example:
        >>> F_x, F_y = filterbank_by_loops(torch.zeros(5), (28, 28), 5)
        >>> F_x.shape
        torch.Size([5, 28])
    """
    height, width = size
    mu_x, mu_y, sigma2, _ = window(raw.unsqueeze(0), height, width, N)
    filters = []
    for mu, length in ((mu_x[0], width), (mu_y[0], height)):
        columns = []
        for a in range(length):
            distance = torch.full((N,), float(a)) - mu
            columns.append(torch.exp(-(distance**2) / (2 * sigma2[0])))
        f = torch.stack(columns, dim=1)
        filters.append(f / f.sum(1, keepdim=True))
    return filters[0], filters[1]


def read_by_loops(image: Tensor, raw: Tensor, N: int) -> Tensor:
    """One patch of one image, through ``filterbank_by_loops``.

    Example:
        >>> read_by_loops(torch.ones(28, 28), torch.zeros(5), 3).shape
        torch.Size([3, 3])
    """
    F_x, F_y = filterbank_by_loops(raw, (image.shape[0], image.shape[1]), N)
    return math.exp(raw[4].item()) * (F_y @ image @ F_x.T)
