"""The step that DRAW, GLAS and ConvDRAW share: look, encode, sample, decode, write.

Numbers of equations are those of the DRAW paper (Gregor et al. 2015, arXiv:1502.04623).
A subclass changes small methods of the step: ``posterior``, ``prior`` or
``decoder_input``. Every method is looked up when it is called, so that one of them can
be exchanged for a faulty one, and the effect of the mistake be measured.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from drawlib.bound import Bound, Images, LatentModel, Noise, Source, images_for
from drawlib.config import Config, at_least, one_of
from drawlib.filters import KERNELS, Filters, filterbank
from drawlib.gaussian import Gaussian, GaussianHead, standard
from drawlib.layers import linear
from drawlib.likelihood import LIKELIHOODS, likelihood
from drawlib.lstm import LSTM, Fixed, Hidden, lstm, product
from drawlib.stops import Stop, stop_bound, stop_prior
from drawlib.trace import Trace, Windows, trace

__all__ = ["FastPath", "Recurrent", "RecurrentConfig", "State"]


@dataclass(frozen=True)
class RecurrentConfig(Config):
    """What recurrent models have in common; ``read`` and ``write`` are the patches' N.

    ``attention``: ``none``, or the kernel of the filters that read and write the image.
    ``initial_state``, ``canvas``: h_0 and c_0 are ``learned`` (as in the paper) or
    ``zeros``.
    ``stop``: when a drawing ends: after the ``last`` step (as in the paper), at a step
    drawn ``uniform``-ly, or with these T probabilities; see ``drawlib.stops``.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    T: int = 64
    hidden: int = 256
    z: int = 100
    attention: str = "none"
    read: int = 2
    write: int = 5
    initial_state: str = "learned"
    canvas: str = "learned"
    likelihood: str = "bernoulli"
    forget_bias: float = 1.0
    stop: Stop = "last"

    LATER: ClassVar[tuple[str, ...]] = ("stop",)

    def check(self) -> None:
        at_least(self, 1, "image_shape", "T", "hidden", "z", "read", "write")
        one_of(self, "attention", ("none", *KERNELS))
        one_of(self, "initial_state", ("learned", "zeros"))
        one_of(self, "canvas", ("learned", "zeros"))
        one_of(self, "likelihood", LIKELIHOODS)
        _ = self.stops

    @property
    def stops(self) -> tuple[float, ...]:
        """π_1 … π_T, the probability of each step to be the last one."""
        return stop_prior(self.stop, self.T)


class FastPath(NamedTuple):
    """What computes a model's numbers in less time: ``drawlib.fast`` gives it to one.

    ``fits`` says whether the other three compute this very model; where they do not,
    ``step`` takes the place of the class's own.
    """

    step: Callable[..., Any]
    fits: Callable[[Any], bool]
    bound: Callable[..., Bound]
    dream: Callable[..., Iterator[Images]]
    generate: Callable[..., Images]


class State(NamedTuple):
    """What one step hands to the next: both LSTMs' states and the canvas c_t."""

    h_enc: Hidden
    c_enc: Hidden
    h_dec: Hidden
    c_dec: Hidden
    canvas: Images


class Recurrent(LatentModel):
    """DRAW's step and its loop; see ``DRAW``, ``GLAS`` and ``ConvDRAW``."""

    # Each subclass has its own.
    likelihood: Any
    q_head: Any
    writer: Any
    start_canvas: Tensor

    def __init__(
        self, config: RecurrentConfig, features: int = 0, drawn: int = 0
    ) -> None:
        """``features``, ``drawn``: what q's head and decoder read, if not h and z."""
        super().__init__()
        self.config, self.image_shape = config, config.image_shape
        self.make_layers(features, drawn)
        self.likelihood = likelihood(config.likelihood, config.image_shape[0])
        for name in State._fields:
            shape = config.image_shape if name == "canvas" else self.hidden_shape
            zeros = torch.zeros(shape)
            start = config.canvas if name == "canvas" else config.initial_state
            if start == "learned":
                self.register_parameter(f"start_{name}", nn.Parameter(zeros))
            else:
                self.register_buffer(f"start_{name}", zeros, persistent=False)
        self.fast_path: FastPath | None = None

    @property
    def hidden_shape(self) -> tuple[int, ...]:
        """The shape of an LSTM's state for one image."""
        return (self.config.hidden,)

    def make_layers(self, features: int, drawn: int) -> None:
        """Both LSTMs, q's head, the writer, and with attention the windows' heads."""
        config = self.config
        channels, hidden = config.image_shape[0], config.hidden
        written = math.prod(config.image_shape)
        looked_at = 2 * written
        if config.attention != "none":
            looked_at = 2 * channels * config.read**2
            written = channels * config.write**2
            # Two heads: the window that reads is not the window that writes.
            self.read_head = nn.Linear(hidden, 5)
            self.write_head = nn.Linear(hidden, 5)
        self.encoder = LSTM(looked_at + hidden, hidden, config.forget_bias)
        self.q_head = GaussianHead(features or hidden, config.z)  # Eqs. (1), (2)
        for weight in self.q_head.linear.weight.data.chunk(2):  # as ``linear``, twice
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.q_head.linear.bias)
        self.decoder = LSTM(drawn or config.z, hidden, config.forget_bias)
        self.writer = linear(hidden, written)

    # One step, in the order of the equations.

    def error_image(self, x: Images | float, canvas: Images) -> Images:
        """x̂_t = x − σ(c_{t−1}): the canvas holds logits, the error is one of means."""
        return x - self.likelihood.mean(canvas)  # Eq. (3)

    def window(self, head: nn.Module, h_dec: Hidden, patch: int) -> Filters:
        """The filters that ``head`` places on the image; five numbers stay float32."""
        with torch.autocast(h_dec.device.type, enabled=False):
            size = self.image_shape[1:]
            return filterbank(head(h_dec), size, patch, self.config.attention)

    def read_window(self, h_dec: Hidden) -> Filters:
        """The window through which the next step looks, from h_dec_{t−1}."""
        return self.window(self.read_head, h_dec, self.config.read)

    def write_window(self, h_dec: Hidden) -> Filters:
        """The window in which a step writes, from h_dec_t, with a head of its own."""
        return self.window(self.write_head, h_dec, self.config.write)

    def whole(self, image: Images) -> Tensor:
        """An image as both LSTMs take it where no window lies between: flat."""
        return image.flatten(1)

    def read(self, x: Images, canvas: Images, h_dec: Hidden) -> Tensor:
        """r_t, flat; without attention only the part that is not in ``fixed`` yet."""
        if self.config.attention == "none":
            return self.whole(self.error_image(0.0, canvas))
        both = torch.cat([x, self.error_image(x, canvas)], 1)
        return self.read_window(h_dec).read(both).flatten(1)  # Eqs. (4), (27)

    def write(self, h_dec: Hidden) -> Images:
        """What is added to the canvas."""
        if self.config.attention == "none":
            return self.writer(h_dec).unflatten(1, self.image_shape)  # Eq. (18)
        N = self.config.write
        w = self.writer(h_dec).unflatten(1, (self.image_shape[0], N, N))  # Eq. (28)
        return self.write_window(h_dec).write(w)  # Eq. (29)

    def posterior(self, h_enc: Hidden) -> Gaussian:
        """Q(Z_t given h_enc_t)."""
        return self.q_head(h_enc)

    def prior(self, h_dec: Hidden) -> Gaussian:
        """P(Z_t given what was drawn so far); N(0, I) in the paper."""
        return standard(h_dec.new_zeros(len(h_dec), self.config.z))

    def decoder_input(self, z: Float[Tensor, "batch z"], canvas: Images) -> Tensor:
        """What the decoder receives of z_t, and of c_{t−1}: nothing in the paper."""
        return z

    def encode(self, state: State, x: Images, fixed: Fixed) -> tuple[Hidden, Hidden]:
        """The inference half of a step: (h_enc_t, c_enc_t)."""
        r = self.read(x, state.canvas, state.h_dec)
        seen = torch.cat([r, state.h_dec], 1)
        return lstm(seen, state.h_enc, state.c_enc, fixed)  # Eq. (5)

    def decode(self, state: State, z: Float[Tensor, "batch z"]) -> State:
        """The generative half of a step: neither x nor the encoder is read."""
        inputs = self.decoder_input(z, state.canvas)
        h_dec, c_dec = self.decoder(inputs, state.h_dec, state.c_dec)  # Eqs. (7), (14)
        canvas = state.canvas + self.write(h_dec)  # Eqs. (8), (15)
        return state._replace(h_dec=h_dec, c_dec=c_dec, canvas=canvas)

    def step(
        self, state: State, x: Images, eps: Float[Tensor, "batch z"], fixed: Fixed
    ) -> tuple[State, Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Eqs. (3) to (8): the next state, KL_t, and log p(z_t) − log q(z_t), in nats.

        A pure function of tensors, so that it can be compiled.
        """
        h_enc, c_enc = self.encode(state, x, fixed)
        # Under autocast the head rounds; densities and KL are summed in full precision.
        q = self.posterior(h_enc).to(state.canvas.dtype)
        p = self.prior(state.h_dec)
        z = q.sample(eps)  # Eq. (6)
        state = self.decode(state._replace(h_enc=h_enc, c_enc=c_enc), z)
        return state, q.kl(p), p.log_prob(z) - q.log_prob(z)

    # The loop.

    def fixed(self, x: Images) -> Fixed:
        r"""What the encoder computes once for all steps.

        Without attention r_t = [x; x̂_t] (Eq. (17)) and x̂_t = x − σ(c) is affine in x:
        W₁x + W₂x̂_t = (W₁ + W₂) x + W₂ (0 − σ(c)), of which the first product is the
        same at each step.
        """
        weight, bias = fixed = self.encoder.fixed()
        if self.config.attention != "none":
            return fixed
        seen = self.whole(x)
        W_1, W_2 = weight.split(seen.shape[1], 1)[:2]
        with torch.autocast(x.device.type, enabled=False):
            bias = bias + product(seen, W_1 + W_2)
        return Fixed(weight[:, W_1.shape[1] :], bias)

    def start(self, n: int) -> State:
        """h_0 and c_0 for n images."""
        starts = (getattr(self, f"start_{name}") for name in State._fields)
        state = State(*(s.expand(n, *s.shape).clone() for s in starts))
        if torch.is_grad_enabled():
            # As in all later steps; else the compiler would build step 1 for itself.
            for value in state:
                if not value.requires_grad:
                    value.requires_grad_()
        return state

    def steps(self, x: Images, noise: Noise) -> Iterator[tuple[State, Tensor, Tensor]]:
        """The results of ``step`` for t = 1 … T; ``noise`` is ``(batch, T, z)``."""
        assert isinstance(noise, Tensor)
        state, fixed = self.start(len(x)), self.fixed(x)
        for eps in noise.unbind(1):
            step = type(self).step
            if self.fast_path is not None and not self.quick:
                step = self.fast_path.step  # compiled, for what has no faster form
            state, kl, log_ratio = step(self, state, x, eps, fixed)
            yield state, kl, log_ratio

    @property
    def quick(self) -> bool:
        """Whether ``bound`` and ``generate`` take the fast path."""
        return self.fast_path is not None and self.fast_path.fits(self)

    # The contract.

    def matrices(self) -> list[Tensor]:
        """Both LSTMs, q's head and the writer; the windows' five numbers are none."""
        head = self.q_head.linear.weight
        return [self.encoder.weight, head, self.decoder.weight, self.writer.weight]

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return ((n, self.config.T, self.config.z),)

    def output(self, canvas: Images) -> Images:
        """The logits of D(X given c_T): the canvas itself, with no layer between."""
        return canvas

    def bound(self, x: Images, noise: Noise) -> Bound:
        if self.fast_path is not None and self.quick:
            return self.fast_path.bound(self, x, noise)
        pi, canvases, terms = self.config.stops, [], []
        for p, (state, *nats) in zip(pi, self.steps(x, noise), strict=True):
            terms.append(nats)
            if p:
                canvases.append(state.canvas)
        kl, log_ratio = (torch.stack(t, 1) for t in zip(*terms, strict=True))
        # Eq. (10), and log w = log p(x|c_T) + Σ_t [log p(z_t) − log q(z_t)]
        return stop_bound(pi, self.log_likelihoods(canvases, x), kl, log_ratio)

    def log_likelihoods(
        self, canvases: list[Images], x: Images
    ) -> Float[Tensor, "batch stops"]:
        """log D(x given c_t) for each canvas at which the model may stop."""
        each = [self.likelihood(self.output(c), x) for c in canvases]  # Eq. (9)
        return torch.stack(each, 1)

    def at_every_step(
        self, x: Images, noise: Noise
    ) -> tuple[Float[Tensor, "batch T"], Float[Tensor, "batch T"]]:
        """log D(x given c_t) and KL_t for t = 1 … T, whatever ``stop`` is."""
        results = list(self.steps(x, noise))
        canvases = [state.canvas for state, _, _ in results]
        kl = torch.stack([kl for _, kl, _ in results], 1)
        return self.log_likelihoods(canvases, x), kl

    def dream(self, noise: Noise) -> Iterator[State]:
        """The states of a generation, a fresh z_t at each step: eqs. (13) to (15)."""
        assert isinstance(noise, Tensor)
        state = self.start(len(noise))
        for eps in noise.unbind(1):
            state = self.decode(state, self.prior(state.h_dec).sample(eps))
            yield state

    def latents(self, noise: Noise) -> tuple[Images, Tensor]:
        if self.config.stops[-1] != 1:  # the image hides its stop too
            stop = self.config.stop
            raise ValueError(f"stop is {stop!r}; to draw x with its z allowed: 'last'")
        state, z = self.start(len(noise)), []
        for eps in noise.unbind(1):
            z.append(self.prior(state.h_dec).sample(eps))
            state = self.decode(state, z[-1])
        return self.output(state.canvas), torch.stack(z, 1)

    def noise_of(self, x: Images, z: Tensor) -> Noise:
        state, fixed, noise = self.start(len(x)), self.fixed(x), []
        for z_t in z.unbind(1):
            h_enc, c_enc = self.encode(state, x, fixed)
            noise.append(self.posterior(h_enc).noise_of(z_t))
            state = self.decode(state._replace(h_enc=h_enc, c_enc=c_enc), z_t)
        return torch.stack(noise, 1)

    @torch.no_grad()
    def generate_steps(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Float[Tensor, "T n channels height width"]:
        """The mean image after each step; the last one is ``generate``'s."""
        canvases = self.canvases(self.take_noise(n, noise, generator))
        return torch.stack([self.mean(canvas) for canvas in canvases])

    @torch.no_grad()
    def generate(
        self,
        n: int,
        *,
        noise: Noise | None = None,
        generator: Source = None,
        stops: Tensor | None = None,
    ) -> Images:
        """Means of D(X given c_t), t ~ π; ``stops`` ``(n,)`` gives each image's t.

        Raises:
            ValueError: for stops of another shape, or outside 1 … T.
        """
        taken = self.take_noise(n, noise, generator)
        if stops is None:
            if self.config.stops[-1] == 1:
                return self.mean(self.last_canvas(taken))  # Eq. (16)
            stops = self.draw_stops(n, generator)
        T = self.config.T
        if stops.shape != (n,) or not bool(((stops >= 1) & (stops <= T)).all()):
            given = " ".join(str(stops.tolist()).split())
            allowed = f"{n} numbers from 1 to {T}"
            raise ValueError(f"stops is {given:.60}; allowed: {allowed}")
        ends = stops.to(taken.device)[:, None, None, None]
        drawn = ends.new_zeros(n, *self.image_shape, dtype=taken.dtype)
        for t, canvas in enumerate(self.canvases(taken), 1):
            drawn = torch.where(ends == t, canvas, drawn)
        return self.mean(drawn)

    def draw_stops(self, n: int, generator: Source = None) -> Tensor:
        """n steps t ~ π, each from 1 to T."""
        device = "cpu" if generator is None else generator.device
        pi = torch.tensor(self.config.stops, device=device)
        return 1 + torch.multinomial(pi, n, replacement=True, generator=generator)

    def last_canvas(self, noise: Noise) -> Images:
        """c_T of ``dream``."""
        if self.fast_path is not None and self.quick:
            return self.fast_path.generate(self, noise)
        (last,) = deque(self.dream(noise), maxlen=1)
        return last.canvas

    def canvases(self, noise: Noise) -> Iterator[Images]:
        """The canvases of ``dream``."""
        if self.fast_path is not None and self.quick:
            return self.fast_path.dream(self, noise)
        return (state.canvas for state in self.dream(noise))

    def mean(self, canvas: Images) -> Images:
        """The mean of D(X given the canvas)."""
        return self.likelihood.mean(self.output(canvas))

    def latent_windows(self, states: list[State], noise: Noise) -> Windows | None:
        """Where the steps looked in a latent space; only GLAS has one."""
        return None

    def trace(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Trace:
        """One pass over images, step by step: ``drawlib.trace.trace``."""
        x = images_for(self, x)
        return trace(self, x, self.take_noise(len(x), noise, generator))

    @torch.no_grad()
    def reconstruct(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        x = images_for(self, x)
        *_, (state, _, _) = self.steps(x, self.take_noise(len(x), noise, generator))
        return self.mean(state.canvas)

    @torch.no_grad()
    def start_at(self, mean: Float[Tensor, "channels height width"]) -> None:
        """Start c_0 at the mean image; where c_0 is zero, a T-th in each dense write.

        With a zero canvas and attention nothing can be set, and nothing is.
        """
        logits = self.likelihood.canvas_of(mean[None])[0]
        if self.config.canvas == "learned":
            self.start_canvas.copy_(logits)
        elif self.config.attention == "none":
            self.writer.bias.copy_(logits.flatten() / self.config.T)
