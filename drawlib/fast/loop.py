r"""The fast path of DRAW and GLAS: the numbers of the plain step, in less time.

``Recurrent.step`` is the implementation to read; this one computes the same bound and
the same gradients, and the tests hold the two together. What is different:

1. Weights are rounded to the products' precision once, not once per step.
2. Everything that is affine in h_dec_t (both windows, the patch, a learned prior) is
   one product; what x adds to the encoder's gates without attention is computed once.
3. Weight gradients are made after the loop. A step computes y_t = W u_t + b; with
   δ_t = ∂loss/∂y_t the gradient is ∂W = Σ_t δ_t u_tᵀ, a single product over all steps
   and images in place of T small ones and T sums.
4. Between products the step is element-wise work; reading and writing are sums over
   small axes. Each such stretch is one pass over memory.

There are three ways. On a CPU our own ``kernels`` do the fourth, where a C++ compiler
is found (``native``); on a GPU the step is ``compiled`` by PyTorch, a few steps as one
piece, so that 64 take as long to compile as 16 (``step``); elsewhere it is ``eager``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from drawlib.bound import Bound, Images, LatentModel, Noise
from drawlib.draw import DRAW
from drawlib.exchanged import EXCHANGED
from drawlib.fast import native
from drawlib.fast.kernels import kernel_trouble
from drawlib.fast.parts import Constant, Deferred, Layer
from drawlib.fast.step import (
    Constants,
    Layers,
    State,
    compiled,
    has_compiler,
    keep_memory,
    make_steps,
    say_once,
)
from drawlib.filters import KERNELS
from drawlib.glas import GLAS
from drawlib.ladder import LadderVAE
from drawlib.recurrent import FastPath, Recurrent, RecurrentConfig
from drawlib.stops import stop_bound
from drawlib.vae import VAE

__all__ = [
    "accelerate",
    "bound",
    "dream",
    "fast_path",
    "fits",
    "generate",
]

TOGETHER = 4  # steps that are compiled as one piece: more cost more to compile
NEAR = 256  # images whose states stay in a processor's cache, where nothing is kept


def accelerate(model: LatentModel, recompute: int = 0) -> None:
    """Give a model its fast path, if it has one: the same numbers in less time.

    From then on ``bound`` and the generation take it wherever it ``fits``. Elsewhere,
    and in every ConvDRAW, the plain step runs, compiled. The numbers agree within
    rounding. ``recompute`` is that of the fast ``bound``: less memory for more work.

    The bound of a VAE and of a Ladder VAE is compiled as it stands, for training only:
    an evaluation ends with a smaller batch, which is not worth compiling. It pays the
    more the less of the time is products: for a ladder, and in bfloat16. Other models
    stay as they are.

    Example:
        >>> import warnings
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # where there is no compiler
        ...     accelerate(model)
        >>> model.quick
        True
    """
    if isinstance(model, Recurrent):
        model.fast_path = fast_path(compiled(type(model).step), recompute)
    elif isinstance(model, VAE | LadderVAE):
        # Not where a layer speaks to other processes in the middle of the bound.
        if not any(isinstance(part, nn.SyncBatchNorm) for part in model.modules()):
            model.compiled_bound = compiled(own_bound)


def own_bound(model: LatentModel, x: Images, noise: Noise) -> Bound:
    """``model.bound``, looked up when it is compiled, with what is planted by then."""
    return model.bound(x, noise)


def fast_path(step: Callable[..., Any], recompute: int = 0) -> FastPath:
    """The fast path with ``step`` for the models that it does not fit.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> fast_path(DRAW.step).fits(DRAW(DRAWConfig.preset("tiny")))
        True
    """
    ours = partial(bound, recompute=recompute) if recompute else bound
    return FastPath(step, fits, ours, dream, generate)


def fits(model: LatentModel) -> bool:
    """Whether the fast path computes this very model; others run their plain step.

    Not while a mistake is planted, not for the rarer kinds of latent attention, and
    not for maps: the products of a ConvDRAW and of a diffusion are convolutions.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> fits(DRAW(DRAWConfig.preset("tiny")))
        True
    """
    if EXCHANGED or type(model) not in (DRAW, GLAS):
        return False
    kind = getattr(model.config, "latent_attention", "none")
    memory = getattr(model.config, "memory", "inference")
    rows = getattr(model.config, "rows", "exact")
    plain = kind in KERNELS and memory == "inference" and rows == "exact"
    return kind == "none" or plain


def layers_of(model: Recurrent, x: Images | None) -> Layers:
    """The model's affine maps as the step wants them, with their gradients."""
    config = model.config
    m: Any = model
    W_e, b_e = m.encoder.weight, m.encoder.bias[None]
    if config.attention == "none" and x is not None:
        # W₁x + W₂(x − σ(c)) = (W₁ + W₂) x − W₂ σ(c): the first part once.
        W_1, W_2, _ = W_e.split([n := x[0].numel(), n, W_e.shape[1] - 2 * n], 1)
        b_e = b_e + F.linear(x.flatten(1), W_1 + W_2)
        W_e = W_e[:, n:]
    heads = [m.writer]
    if config.attention != "none":
        heads = [m.write_head, m.writer, m.read_head]
    if getattr(config, "prior", "standard") == "learned":
        heads.append(m.prior_head)
    W_h = torch.cat([head.weight for head in heads])
    b_h = torch.cat([head.bias for head in heads])[None]
    latent = None
    if getattr(config, "latent_attention", "none") != "none":
        latent = Layer(m.latent_head.weight, m.latent_head.bias[None])
    return Layers(
        Layer(W_e, b_e),
        Layer(m.q_head.linear.weight, m.q_head.linear.bias[None]),
        Layer(m.decoder.weight, m.decoder.bias[None]),
        Layer(W_h, b_h),
        latent,
    )


def rounded(layers: Layers, low: torch.dtype, exact_heads: bool) -> Constants:
    """The constants of the step. Windows are placed in full precision."""

    def constant(layer: Layer, exact: bool) -> Constant:
        weight = layer.weight.detach()
        less = weight.to(low)
        return Constant(weight if exact else less, less, layer.rows.detach())

    return Constants(
        constant(layers.encoder, False),
        constant(layers.q, False),
        constant(layers.decoder, False),
        constant(layers.heads, exact_heads),
        None if layers.latent is None else constant(layers.latent, True),
    )


def start(model: Recurrent, n: int, layers: Layers) -> State:
    """h_0 and c_0, and what h_dec_0 says of the first step."""
    first = model.start(n)
    drawn = model.config.write**2 * model.image_shape[0] + 5
    if model.config.attention == "none":
        drawn = first.canvas[0].numel()
    ahead = None
    if len(layers.heads.weight) > drawn:
        # All of it is computed, so that it lies in memory as in the later steps.
        ahead = F.linear(first.h_dec, layers.heads.weight, layers.heads.rows[0])
        ahead = ahead[:, drawn:]
    return State(*first, ahead)


def by_step(noise: Noise) -> tuple[Tensor, ...]:
    """ε_t for each t, which lies in memory the same way whatever T is.

    So a step that was compiled for one T is met again by all that share its piece.

    Example:
        >>> [eps.stride() for eps in by_step(torch.zeros(2, 3, 5))]
        [(5, 1), (5, 1), (5, 1)]
    """
    return noise.transpose(0, 1).contiguous().unbind()


def piece(T: int, S: int = 0) -> int:
    """How many steps to compile as one: a divisor of T and S, for eight calls or more.

    Example:
        >>> piece(64), piece(10), piece(16), piece(64, 8), piece(64, 6)
        (4, 1, 2, 4, 2)
    """
    most = max(1, min(TOGETHER, T // 8))
    return max(d for d in range(1, most + 1) if math.gcd(T, S) % d == 0)


def low_precision(x: Tensor) -> torch.dtype:
    """What products are rounded to: autocast's choice, or nothing."""
    kind = x.device.type
    on = torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else x.dtype


def way_of(model: Recurrent, x: Tensor, noise: Tensor, often: bool) -> str:
    """``kernels``, ``compiled`` or ``eager``; ``often``: it is worth compiling."""
    if x.device.type != "cpu":
        return "compiled" if often and has_compiler() else "eager"
    traced = torch.compiler.is_compiling()
    if traced or not native.fits(model, x, noise, low_precision(x)):
        return "eager"
    if trouble := kernel_trouble():
        say_once(f"{trouble}: the step runs eagerly")
        return "eager"
    keep_memory()
    return "kernels"


_met: set[tuple[object, ...]] = set()


def met_before(*size: object) -> bool:
    """Whether this has been asked before: what comes once is not worth compiling.

    Only pictures depend on it: compiled numbers differ from eager ones by rounding.

    Example:
        >>> met_before("a"), met_before("a")
        (False, True)
    """
    known = size in _met
    _met.add(size)
    return known


def bound(
    model: Recurrent,
    x: Images,
    noise: Noise,
    *,
    way: str | None = None,
    recompute: int = 0,
) -> Bound:
    """``model.bound``, by the fast step.

    ``way``: ``kernels``, ``compiled`` or ``eager``; left out, whatever is fastest here.
    On a GPU training is compiled, and so are batches of more than ``NEAR`` images.
    ``recompute=S`` keeps, of S steps at a time, only the state before the first and
    computes the rest again in the backward pass: a third more work, and an S-th of the
    memory.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> x, noise = torch.ones(2, 1, 28, 28), model.noise(2)
        >>> quick = bound(model, x, noise, way="eager")
        >>> torch.allclose(quick.elbo, model.bound(x, noise).elbo)
        True
    """
    # Not what came before decides, but the size: a resumed training has met nothing,
    # and must log the same numbers, and so must several processes that share one.
    often = torch.is_grad_enabled() or len(x) > NEAR
    way, low = way or way_of(model, x, noise, often), low_precision(x)
    if len(x) > NEAR and x.device.type == "cpu" and not torch.is_grad_enabled():
        parts = zip(x.split(NEAR), noise.split(NEAR), strict=True)
        bounds = [bound(model, *part, way=way) for part in parts]
        names = ("log_likelihood", "kl", "log_weight")
        return Bound(*(torch.cat([getattr(b, n) for b in bounds]) for n in names))
    with torch.autocast(x.device.type, enabled=False):
        nats = by_kernels if way == "kernels" else by_steps
        scores, kl, log_ratio = nats(model, x, noise, way, low, recompute)
        return stop_bound(model.config.stops, scores, kl, log_ratio)


Nats = tuple[Tensor, Tensor, Tensor]  # log D(x|c) at the stops, KL_t and log p/q


def by_kernels(
    model: Recurrent, x: Tensor, noise: Tensor, way: str, low: torch.dtype, S: int
) -> Nats:
    """``native.steps``, with the layers and the state of a model."""
    layers, T = layers_of(model, x), noise.shape[1]
    constants = rounded(layers, low, model.config.attention != "none")
    L = model.latent_space() if layers.latent is not None else None  # type: ignore[operator]
    at = tuple(t for t, p in enumerate(model.config.stops) if p)
    work = native.Work(model.config, constants, len(x), T, S or T, at, low)
    canvases, kl, log_ratio = native.steps(
        work, x, noise, L, start(model, len(x), layers), layers
    )
    return model.log_likelihoods(list(canvases), x), kl, log_ratio


def by_steps(
    model: Recurrent, x: Tensor, noise: Tensor, way: str, low: torch.dtype,
    recompute: int,
) -> Nats:  # fmt: skip
    """The step of ``make_steps``, compiled or not."""
    T, pi, config = noise.shape[1], model.config.stops, one_step(model.config)
    inside, S = config.stop != "last", recompute or T
    steps = make_steps(config, way == "compiled", piece(T, S))
    layers = layers_of(model, x)
    constants = rounded(layers, low, config.attention != "none")
    state = start(model, len(x), layers)
    L = model.latent_space() if layers.latent is not None else None  # type: ignore[operator]
    used: list[list[Any]] = [[None] * T for _ in layers]
    taps: list[Any] = [None] * T
    if torch.is_grad_enabled():
        zeros = [
            [None] * T
            if layer is None or fixed is None
            else Deferred.apply(*layer, u, fixed.low, (T, len(x)))
            for layer, fixed, u in zip(layers, constants, used, strict=True)
        ]
        taps = list(zip(*zeros, strict=True))
    eps, begun = by_step(noise), set[int]()

    def score(canvas: Tensor) -> Tensor:
        return model.log_likelihoods([canvas], x)[:, 0]

    def some(state: State, first: int, last: int) -> tuple[State, list[Any]]:
        nats: list[Any] = []
        for t in range(first, last, steps.together):
            now = slice(t, t + steps.together)
            state, results = steps.step(state, x, eps[now], constants, L, taps[now])
            for s, (kl, log_ratio, canvas, inputs) in enumerate(results, t):
                stops_here = inside and pi[s] > 0
                nats.append((kl, log_ratio, score(canvas) if stops_here else None))
                if not recompute or first in begun:
                    for kept, u in zip(used, inputs, strict=False):
                        kept[s] = u
        begun.add(first)
        return state, nats

    nats: list[Any] = []
    for first in range(0, T, S):
        last = min(first + S, T)
        if recompute and torch.is_grad_enabled():
            with set_checkpoint_early_stop(False):
                state, each = checkpoint(some, state, first, last, use_reentrant=False)
        else:
            state, each = some(state, first, last)
        nats += each
    kl, log_ratio, scores = zip(*nats, strict=True)
    at_stops = [s for s in scores if s is not None] or [score(state.canvas)]
    return torch.stack(at_stops, 1), torch.stack(kl, 1), torch.stack(log_ratio, 1)


def dream(
    model: Recurrent, noise: Noise, *, way: str | None = None
) -> Iterator[Images]:
    """The canvases of a generation, step by step: ``model.dream`` by the fast step.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> len(list(dream(model, model.noise(2), way="eager")))
        4
    """
    return canvases(model, noise, way, range(noise.shape[1]))


def canvases(
    model: Recurrent, noise: Noise, way: str | None, at: range
) -> Iterator[Images]:
    """Those of a generation after the steps ``at``, counted from 0."""
    low, T, config = low_precision(noise), noise.shape[1], one_step(model.config)
    if way is None:
        met = met_before("dream", config, noise.shape, low)
        way = way_of(model, noise, noise, met)
    # Not around the ``yield``: between two steps the caller's settings hold.
    plain = torch.autocast(noise.device.type, enabled=False)
    with torch.no_grad(), plain:
        layers = layers_of(model, None)
        constants = rounded(layers, low, config.attention != "none")
        state = start(model, len(noise), layers)
    if way == "kernels":
        work = native.Work(config, constants, len(noise), T, T, tuple(at), low)
        yield from native.dream(work, noise, state)
        return
    steps, eps = make_steps(config, way == "compiled", piece(T)), by_step(noise)
    for t in range(0, T, steps.together):
        with torch.no_grad(), plain:
            now = eps[t : t + steps.together]
            state, made = steps.decode(state, now, constants)
        yield from (canvas for s, canvas in enumerate(made, t) if s in at)


def generate(model: Recurrent, noise: Noise, *, way: str | None = None) -> Images:
    """The last canvas of ``dream``, of some images after the other on a CPU.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> generate(model, model.noise(300), way="eager").shape
        torch.Size([300, 1, 28, 28])
    """
    parts = noise.split(NEAR) if noise.device.type == "cpu" else [noise]
    last = range(noise.shape[1] - 1, noise.shape[1])
    return torch.cat([c for p in parts for c in canvases(model, p, way, last)])


def one_step(config: RecurrentConfig) -> RecurrentConfig:
    """T is the loop's: all T share one step, and so do all that may stop inside.

    Example:
        >>> from drawlib import DRAWConfig
        >>> one_step(DRAWConfig(T=2, stop=(0.3, 0.7))).stop
        'uniform'
    """
    inside = any(config.stops[:-1])
    return replace(config, T=1, stop="uniform" if inside else "last")
