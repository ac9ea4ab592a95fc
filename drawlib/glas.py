"""GLAS: DRAW whose posterior looks into a learned matrix (github.com/dojoteef/glas)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Images, Noise
from drawlib.config import at_least, one_of
from drawlib.filters import KERNELS, NORMALISERS, Filters, filterbank
from drawlib.gaussian import Gaussian
from drawlib.layers import linear
from drawlib.lstm import Hidden
from drawlib.recurrent import Recurrent, RecurrentConfig, State
from drawlib.trace import Windows, windows

__all__ = ["GLAS", "GLASConfig"]

Features = Float[Tensor, "batch features"]
GATES = ("sigmoid", "softmax", "scaled-softmax")  # one for each column of L
LATENT = ("none", *GATES, "content", *KERNELS)


@dataclass(frozen=True)
class GLASConfig(RecurrentConfig):
    """Sizes of a GLAS network; the other fields are those of ``RecurrentConfig``.

    ``M``: the latent space L is an M × M matrix; ``N``: a window on it has N × N cells.
    ``latent_attention``: how L is read; ``none`` leaves L out, and GLAS is then DRAW.
    The ways to read are those of the code, and ``scaled-softmax`` is ours (``gates``).
    ``grid``: ``corrected``, or ``legacy``, the code's own with its two mistakes.
    ``rows``: ``exact``, filter rows that sum to one, or ``floor``, the code's own rule.
    ``space``: L is ``learned``, ``fixed`` at its initial value, or ``masked`` (learned,
    but revealed little by little, see ``GLAS.reveal``).
    ``memory``: L belongs to ``inference`` as in the code, or is ``generative`` as the
    code's description promises.

    Presets: ``readme`` and ``config`` are the two sizes that the repository gives for
    binarised MNIST; which of them its published number comes from is not recorded.

    Example:
        >>> GLASConfig.preset("config").M
        40
        >>> GLASConfig(grid="wrong")
        Traceback (most recent call last):
        ValueError: GLASConfig.grid is 'wrong'; allowed: corrected, legacy
    """

    z: int = 25
    initial_state: str = "zeros"
    canvas: str = "zeros"
    latent_attention: str = "cauchy"
    M: int = 9
    N: int = 5
    grid: str = "corrected"
    rows: str = "exact"
    space: str = "learned"
    memory: str = "inference"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "readme": {},
        "config": {"M": 40, "N": 4, "z": 50},
        "tiny": {"T": 4, "hidden": 32, "z": 6},
    }

    def check(self) -> None:
        super().check()
        at_least(self, 1, "M", "N")
        one_of(self, "latent_attention", LATENT)
        one_of(self, "grid", ("corrected", "legacy"))
        one_of(self, "rows", NORMALISERS)
        one_of(self, "space", ("learned", "fixed", "masked"))
        one_of(self, "memory", ("inference", "generative"))
        without = self.latent_attention == "none"
        for name, value in (("memory", "generative"), ("space", "masked")):
            if without and getattr(self, name) == value:
                raise ValueError(
                    f"GLASConfig.latent_attention is 'none' with a {value} {name}; "
                    f"allowed: {', '.join(LATENT[1:])}"
                )

    @property
    def cells(self) -> int:
        """How many numbers one reading of L gives."""
        return self.N**2 if self.latent_attention in KERNELS else self.M**2

    @property
    def head_numbers(self) -> int:
        """How many numbers tell where to look: five for a window, else by column."""
        if self.latent_attention in KERNELS:
            return 5
        return self.M + (self.latent_attention in ("content", "scaled-softmax"))


class GLAS(Recurrent):
    r"""DRAW's step with a latent space L: one M × M matrix for all images and steps.

    As the code has it (``memory="inference"``), with A the reading of L:
      x̂_t = x − σ(o_{t−1}),  e_t = LSTM([x, x̂_t, d_{t−1}]),  a_t = A(e_t, L),
      μ_t = W a_t + b,  log σ_t = W' a_t + b',  z_t = μ_t + σ_t ε,
      d_t = LSTM(z_t),  o_t = o_{t−1} + W'' d_t + b''.
    L is then a parameter of q alone: z_t ~ N(0, I) and the decoder, which never reads
    L, generate. With a window, a_t depends on the image through five numbers.

    ``memory="generative"`` is the model that the words of its author describe:
      z_t ~ N(0, I),  a_t = A(z_t, L),  d_t = LSTM(a_t),  o_t as before, and
      q(z_t given x, z_{<t}) = N(W e_t + b, exp(W' e_t + b')²),
    so that z_t says where to look, L holds what is seen, and both belong to p(x).

    Bound, noise and units are those of ``DRAW``.

    Example:
        >>> model = GLAS(GLASConfig.preset("tiny"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 4]))
        >>> sum(p.numel() for p in GLAS(GLASConfig.preset("readme")).parameters())
        2623866
    """

    config: GLASConfig
    L: Tensor
    mask: Tensor

    def __init__(self, config: GLASConfig | None = None) -> None:
        config = GLASConfig.given(config)
        if config.latent_attention == "none":
            super().__init__(config)
            return
        if config.memory == "inference":
            super().__init__(config, features=config.cells)
        else:
            super().__init__(config, drawn=config.cells)
        looks_from = config.hidden if config.memory == "inference" else config.z
        self.latent_head = linear(looks_from, config.head_numbers)
        L = torch.empty(config.M, config.M).uniform_(0, 1e-3)
        if config.space == "fixed":
            self.register_buffer("L", L)
        else:
            self.L = nn.Parameter(L)
        if config.space == "masked":
            self.register_buffer("mask", torch.zeros_like(L))
            self.reveal(0.0)

    @torch.no_grad()
    def reveal(self, fraction: float) -> None:
        """Show the middle square of a masked L, of side ⌈fraction · M⌉, at least 1.

        The schedule is ours: the repository names a progressive mask among what did not
        work, and holds no code for it. The trainer calls it before each epoch, with a
        fraction that ends at 1; the mask is saved with the weights.

        Raises:
            ValueError: where L is not masked, or for a fraction outside [0, 1].

        Example:
            >>> model = GLAS(GLASConfig.preset("tiny", space="masked"))
            >>> model.reveal(0.3)
            >>> model.mask.sum()
            tensor(9.)
        """
        if self.config.space != "masked":
            raise ValueError(f"space is {self.config.space!r}; allowed: masked")
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction is {fraction}; allowed: 0 to 1")
        side = max(1, math.ceil(fraction * self.config.M))
        low = (self.config.M - side) // 2
        self.mask.zero_()
        self.mask[low : low + side, low : low + side] = 1

    def begin_epoch(self, fraction: float) -> None:
        """Reveal more of a masked L."""
        if self.config.space == "masked":
            self.reveal(fraction)

    def latent_space(self) -> Float[Tensor, "M M"]:
        """L, or the part of it that is revealed."""
        return self.L * self.mask if self.config.space == "masked" else self.L

    def latent_window(self, features: Features) -> Filters:
        """The window on L: the corrected grid is DRAW's, with A = B = M."""
        return filterbank(
            self.latent_head(features),
            (self.config.M, self.config.M),
            self.config.N,
            self.config.latent_attention,
            legacy=self.config.grid == "legacy",
            normalise=self.config.rows,
        )

    def attend(self, features: Features) -> Float[Tensor, "batch cells"]:
        """a_t = A(features, L), row by row; the head's few numbers stay float32."""
        with torch.autocast(features.device.type, enabled=False):
            if self.config.latent_attention in KERNELS:
                L = self.latent_space().expand(len(features), 1, -1, -1)
                # γ vec(F_Y L F_Xᵀ)
                return self.latent_window(features).read(L).flatten(1)
            head = self.latent_head(features)
            if self.config.latent_attention == "content":
                return content(head, self.latent_space())
            # The same gates in all rows.
            g = gates(head, self.config.latent_attention)
            return (g[:, None] * self.latent_space()).flatten(1)

    def posterior(self, h_enc: Hidden) -> Gaussian:
        """q(z_t given e_t), through what the encoder saw in L where L is in q."""
        if self.config.latent_attention == "none" or self.config.memory == "generative":
            return super().posterior(h_enc)
        return super().posterior(self.attend(h_enc))

    def decoder_input(self, z: Float[Tensor, "batch z"], canvas: Images) -> Tensor:
        """z_t, or with a generative memory what z_t sees in L."""
        return self.attend(z) if self.config.memory == "generative" else z

    def latent_windows(self, states: list[State], noise: Noise) -> Windows | None:
        """Where each step looked in L, with ``sigma`` the width of the filters."""
        if self.config.latent_attention not in KERNELS:
            return None
        looks = [s.h_enc for s in states]
        if self.config.memory == "generative":
            assert isinstance(noise, Tensor)
            looks = [
                self.posterior(h_enc).sample(eps)
                for h_enc, eps in zip(looks, noise.unbind(1), strict=True)
            ]
        return windows(self.latent_window, self.latent_head, looks)


def gates(head: Float[Tensor, "batch numbers"], kind: str) -> Float[Tensor, "batch M"]:
    """One gate for each column of L.

    ``sigmoid`` and ``softmax`` as in the GLAS code; ``scaled-softmax`` is ours: with
    log γ the first of the head's numbers, g = γ softmax(the others). It has the free
    size that a softmax lacks, and that a window has in its intensity γ.

    Example:
        >>> gates(torch.zeros(1, 3), "scaled-softmax")
        tensor([[0.5000, 0.5000]])
    """
    if kind == "sigmoid":
        return torch.sigmoid(head)
    if kind == "softmax":
        return torch.softmax(head, 1)
    return head[:, :1].exp() * torch.softmax(head[:, 1:], 1)


def content(
    head: Float[Tensor, "batch numbers"], L: Float[Tensor, "M M"]
) -> Float[Tensor, "batch cells"]:
    """Rows of L, each weighted by how well it matches a key.

    With β and k from the head, L̂ and k̂ normalised to length 1 (L̂ row by row):
    w = softmax(β L̂ k̂), and the result is (w_1 L̂_1, …, w_M L̂_M): all rows, not their
    sum, and β may be negative, as in the GLAS code.

    Example:
        >>> content(torch.zeros(1, 3), torch.eye(2))
        tensor([[0.5000, 0.0000, 0.0000, 0.5000]])
    """
    beta, key = head[:, :1], F.normalize(head[:, 1:], dim=1, eps=1e-6)
    rows = F.normalize(L, dim=1, eps=1e-6)
    weights = torch.softmax(beta * (key @ rows.T), 1)
    return (weights[:, :, None] * rows).flatten(1)
