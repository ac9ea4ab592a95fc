"""Convolutional DRAW: maps in place of vectors (Gregor et al. 2016, arXiv:1604.08772).

DRAW's step and loop are those of ``Recurrent``. What is said here is what becomes a
map, and what the paper adds to DRAW: a learned prior, and a decoder that sees the
canvas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Images
from drawlib.config import at_least, one_of
from drawlib.gaussian import Gaussian
from drawlib.layers import convolution
from drawlib.lstm import LSTM, Hidden
from drawlib.recurrent import Recurrent, RecurrentConfig

__all__ = ["ConvDRAW", "ConvDRAWConfig"]


@dataclass(frozen=True)
class ConvDRAWConfig(RecurrentConfig):
    """Sizes of a convolutional DRAW; other fields are those of ``RecurrentConfig``.

    ``stride``: the side, in pixels, of the block of the image behind each place of a
    map. ``hidden`` and ``z`` count the channels of a map, ``kernel`` is the side of
    all convolutions, in places. There is no window, and c_0 is learned.

    The presets have our sizes, for one core of a CPU.

    Example:
        >>> ConvDRAWConfig.preset("course").places
        (7, 7)
        >>> ConvDRAWConfig(image_shape=(1, 28, 30))
        Traceback (most recent call last):
        ValueError: ConvDRAWConfig.image_shape is (1, 28, 30); allowed: sides \
that stride 4 divides
    """

    T: int = 8
    hidden: int = 32
    z: int = 4
    stride: int = 4
    kernel: int = 3

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "course": {},
        "tiny": {"T": 3, "hidden": 8, "z": 2},
    }

    def check(self) -> None:
        super().check()
        at_least(self, 1, "stride", "kernel")
        one_of(self, "attention", ("none",))
        one_of(self, "canvas", ("learned",))
        if any(side % self.stride for side in self.image_shape[1:]):
            raise ValueError(
                f"ConvDRAWConfig.image_shape is {self.image_shape}; allowed: sides "
                f"that stride {self.stride} divides"
            )
        if self.kernel % 2 == 0:
            raise ValueError(
                f"ConvDRAWConfig.kernel is {self.kernel}; allowed: an odd number"
            )

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of all maps."""
        _, height, width = self.image_shape
        return height // self.stride, width // self.stride


class ConvDRAW(Recurrent):
    r"""An image drawn in T steps by convolutional LSTMs, under a learned prior.

    With blocks(·) an image cut into blocks of stride × stride pixels, each of which
    becomes the channels of one place of a map, and * a convolution, for t = 1 … T:
      x̂_t = x − σ(c_{t−1}),
      h_enc_t = ConvLSTM(h_enc_{t−1}, [blocks(x), blocks(x̂_t), h_dec_{t−1}]),
      q_t = N(μ_q, σ_q²),  (μ_q, log σ_q) = W_q * h_enc_t + b_q,  z_t ~ q_t,
      p_t = N(μ_p, σ_p²),  (μ_p, log σ_p) = W_p * h_dec_{t−1} + b_p,
      h_dec_t = ConvLSTM(h_dec_{t−1}, [z_t, blocks(σ(c_{t−1}))]),
      c_t = c_{t−1} + blocks⁻¹(W_c * h_dec_t + b_c).
    The bound in nats is log D(x given c_T) − Σ_t KL(q_t ‖ p_t). Generation runs the
    second half of the step alone, z_t ~ p_t. A convolution of blocks is one of pixels
    with that stride: with ``kernel`` 3 each place sees 3 × 3 blocks.

    Kept of the paper: what each half of a step reads, the prior, the canvas that is
    added to, learned first states. Different: bits or 8-bit colours in place of its
    density of real values, so that the decoder and the error image have σ(c) and not
    the canvas itself; one layer of latents per step; sizes. p_1 starts at N(0, I), as
    W_p and b_p start at 0.

    A draw of ``noise`` is flat, ``(batch, T, z · height · width)`` with the sides of
    ``config.places``, so that code written for DRAW's latents takes these too.

    Example:
        >>> import torch
        >>> model = ConvDRAW(ConvDRAWConfig.preset("tiny"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 3]))
        >>> model.noise_shapes(5)  # images, steps, 2 · 7 · 7 latents
        ((5, 3, 98),)
        >>> model.generate_steps(2).shape
        torch.Size([3, 2, 1, 28, 28])
    """

    config: ConvDRAWConfig

    def __init__(self, config: ConvDRAWConfig | None = None) -> None:
        super().__init__(ConvDRAWConfig.given(config))

    @property
    def hidden_shape(self) -> tuple[int, ...]:
        """Channels, and height and width of the maps."""
        return (self.config.hidden, *self.config.places)

    def make_layers(self, features: int, drawn: int) -> None:
        """Both LSTMs, the heads of q and p, and the writer: all convolutions."""
        c = self.config
        block = c.image_shape[0] * c.stride**2
        self.encoder = LSTM(2 * block + c.hidden, c.hidden, c.forget_bias, c.kernel)
        self.q_head = convolution(c.hidden, 2 * c.z, c.kernel)
        self.prior_head = convolution(c.hidden, 2 * c.z, c.kernel)
        nn.init.zeros_(self.prior_head.weight)
        self.decoder = LSTM(c.z + block, c.hidden, c.forget_bias, c.kernel)
        self.writer = convolution(c.hidden, block, c.kernel)

    def whole(self, image: Images) -> Float[Tensor, "batch pixels rows columns"]:
        """blocks(image): a map whose channels are the pixels of a block."""
        return F.pixel_unshuffle(image, self.config.stride)

    def write(self, h_dec: Hidden) -> Images:
        """blocks⁻¹(W_c * h_dec + b_c): what is added to the canvas."""
        return F.pixel_shuffle(self.writer(h_dec), self.config.stride)

    def posterior(self, h_enc: Hidden) -> Gaussian:
        """q(z_t given h_enc_t), of all places together."""
        return gaussian(self.q_head(h_enc))

    def prior(self, h_dec: Hidden) -> Gaussian:
        """p(z_t given h_dec_{t−1}): it depends on what was drawn so far."""
        return gaussian(self.prior_head(h_dec)).to(h_dec.dtype)

    def decoder_input(self, z: Float[Tensor, "batch z"], canvas: Images) -> Tensor:
        """z_t as a map, and beside it what the canvas shows."""
        latents = z.unflatten(1, (self.config.z, *self.config.places))
        return torch.cat([latents, self.whole(self.likelihood.mean(canvas))], 1)

    def matrices(self) -> list[Tensor]:
        """None: with kernels flattened to matrices Muon learned more slowly."""
        return []

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        latents = self.config.z * math.prod(self.config.places)
        return ((n, self.config.T, latents),)


def gaussian(maps: Float[Tensor, "batch twice_z height width"]) -> Gaussian:
    """The Gaussian of a map's flat latents: the channels of μ, then those of log σ.

    Example:
        >>> gaussian(torch.zeros(5, 4, 7, 7)).mu.shape
        torch.Size([5, 98])
    """
    return Gaussian(*maps.flatten(1).chunk(2, 1))
