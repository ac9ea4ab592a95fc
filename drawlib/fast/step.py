"""The step of DRAW and GLAS for a compiler: eqs. (3) to (8) of the DRAW paper again.

``make_steps`` writes the step for one configuration; ``loop`` runs it T times.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import platform
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drawlib.exchanged import EXCHANGED
from drawlib.fast.compiler import compiler_command, compiler_trouble
from drawlib.fast.parts import Constant, Layer, affine
from drawlib.filters import filterbank
from drawlib.lstm import gates
from drawlib.recurrent import RecurrentConfig

__all__ = [
    "Constants",
    "Layers",
    "State",
    "Steps",
    "compiled",
    "has_compiler",
    "keep_memory",
    "make_steps",
    "say_once",
]


class State(NamedTuple):
    """What a step hands on; ``ahead`` is what h_dec says of the next step."""

    h_enc: Tensor
    c_enc: Tensor
    h_dec: Tensor
    c_dec: Tensor
    canvas: Tensor
    ahead: Tensor | None


class Layers(NamedTuple):
    """All affine maps of a step, with their gradients."""

    encoder: Layer
    q: Layer
    decoder: Layer
    heads: Layer
    latent: Layer | None


class Constants(NamedTuple):
    """The same, as the step reads them: without gradients, rounded."""

    encoder: Constant
    q: Constant
    decoder: Constant
    heads: Constant
    latent: Constant | None


KEPT = "autograd_cache_allow_custom_autograd_functions"
TRUSTED = (
    "2.15"  # with the oldest PyTorch that runs drawlib, compiled gradients are off
)


def has_compiler() -> bool:
    """Whether the step can be compiled: PyTorch 2.15, and a C++ compiler that works.

    Example:
        >>> has_compiler() in (True, False)
        True
    """
    return not why_not()


def why_not() -> str:
    """Why the step cannot be compiled; empty where it can."""
    if torch.__version__ < TRUSTED:
        return f"PyTorch {torch.__version__} is older than {TRUSTED}"
    return compiler_trouble()


def compiler_options() -> dict[str, Any]:
    """What ``torch.compile`` is told: partition, vectors and compiler."""
    options = keep_activations() | trust_processor()
    if sys.platform != "win32":
        options["cpp.cxx"] = (None, compiler_command())
    return options


def keep_activations() -> dict[str, Any]:
    """The compiler option of ``drawlib.fast.partition``; older versions have none."""
    try:
        from drawlib.fast.partition import KeepActivations
    except ImportError:
        return {}
    return {"custom_partitioner_fn": KeepActivations()}


def trust_processor() -> dict[str, Any]:
    """The compiler option that takes a processor's own word for the vectors it has.

    In place of programs that are compiled to try them, which takes seconds on a new
    machine. Elsewhere than on x86 the trial decides more.

    Example:
        >>> set(trust_processor().values()) <= {True}
        True
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return {"cpp.vec_isa_ok": True} if x86 else {}


def keep_gradients() -> AbstractContextManager[Any]:
    """While this holds, PyTorch keeps on disk what it traces of own autograd functions.

    It does not unless asked, since such a function may depend on more than what is
    traced. Those of ``parts`` do not: a second process need not trace them again. A
    PyTorch that does not know the option traces them.

    Example:
        >>> with keep_gradients():
        ...     torch._functorch.config.autograd_cache_allow_custom_autograd_functions
        True
    """
    config = torch._functorch.config
    return (
        config.patch({KEPT: True})
        if hasattr(config, KEPT)
        else contextlib.nullcontext()
    )


@lru_cache(1)
def keep_memory() -> None:
    """Ask the C library to keep freed blocks, where it has a word for that.

    A step allocates and frees the same blocks again and again. glibc hands large ones
    back to the kernel at once, and gets them again page by page.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


@lru_cache(1)
def say_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a Python function with a code object of its own.

    Dynamo counts its programs by code object, and after ``recompile_limit`` of them (8)
    runs what it is given eagerly. Without a copy, the steps that ``make_steps`` writes
    for different configurations would count as one function.

    Example:
        >>> copy = own_code(own_code)
        >>> copy.__code__ is own_code.__code__, copy.__code__ == own_code.__code__
        (False, True)
    """
    if not isinstance(function, FunctionType):
        return function  # a builtin has no code
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled, or itself where nothing can be: that is said once.

    Compiled anew for each set of planted mistakes. The compiler does not look again at
    the methods that it has met: a mistake would not be made, or not be undone.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     callable(compiled(len))
        True
    """
    if not has_compiler():
        say_once(f"{why_not()}: the step runs eagerly")
        return function
    keep_memory()
    # It would tell every user that a CUDA compiler is there and no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return Compiled(function)


class Compiled:
    """A function that is compiled where it is first called, in each process anew."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.options = function, compiler_options()
        self.made: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        now = tuple(EXCHANGED)
        if now not in self.made:
            own = own_code(self.function)
            self.made[now] = torch.compile(own, dynamic=False, options=self.options)
        try:
            with keep_gradients():
                return self.made[now](*given, **named)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            # A folder for what is compiled that takes no files, say, or a full disk.
            inner = getattr(error, "inner_exception", error)
            reason = next(filter(str.strip, str(inner).splitlines()), "no reason given")
            say_once(f"PyTorch compiles nothing ({reason:.200}): the step runs eagerly")
            self.made[now] = self.function
            return self.function(*given, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        return compiled, (self.function,)

    def __deepcopy__(self, memo: Any) -> Compiled:
        return self  # a copy of a model has the same step


class Steps(NamedTuple):
    """The functions of one configuration, compiled or not."""

    step: Callable[..., Any]
    decode: Callable[..., Any]
    together: int


@lru_cache(32)
def make_steps(config: RecurrentConfig, fused: bool, together: int) -> Steps:
    """The step, and its generative half, for one configuration."""
    C, H, W = config.image_shape
    N, M, kernel = config.write, config.read, config.attention
    seen, drawn_numbers = kernel != "none", C * H * W
    if seen:
        drawn_numbers = 5 + C * N * N
    learned = getattr(config, "prior", "standard") == "learned"
    latent: Any = config
    legacy = getattr(config, "grid", "corrected") == "legacy"
    inside = config.stop != "last"
    letters = config.likelihood == "categorical"

    def mean_of(canvas: Tensor) -> Tensor:
        return torch.softmax(canvas, 1) if letters else torch.sigmoid(canvas)

    def prior(state: State) -> tuple[Tensor, Tensor] | None:
        if not learned:
            return None
        assert state.ahead is not None
        mu, log_sigma = state.ahead[:, -2 * config.z :].chunk(2, 1)
        return mu, log_sigma

    def look(state: State, x: Tensor, mean: Tensor) -> Tensor:
        """What is read of x and of x̂ = x − σ(c), which is linear in both."""
        if not seen:
            return -mean.flatten(1)  # x itself is in the encoder's rows
        assert state.ahead is not None
        filters = filterbank(state.ahead[:, :5], (H, W), M, kernel)
        return filters.read(torch.cat([x, x - mean], 1)).flatten(1)

    def draw(y: Tensor) -> Tensor:
        """What is added to the canvas, of the numbers that h_dec gives for it."""
        if not seen:
            return y.unflatten(1, (C, H, W))
        raw, w = y.split([5, C * N * N], 1)
        filters = filterbank(raw, (H, W), N, kernel)
        return filters.write(w.unflatten(1, (C, N, N)))

    def attend(raw: Tensor, L: Tensor) -> Tensor:
        """a_t = γ vec(F_Y L F_Xᵀ)."""
        size, n, shape = (latent.M, latent.M), latent.N, latent.latent_attention
        filters = filterbank(raw, size, n, shape, legacy=legacy)
        return filters.read(L.expand(len(raw), 1, -1, -1)).flatten(1)

    def decode(
        state: State, z: Tensor, layers: Constants, taps: Any
    ) -> tuple[State, tuple[Tensor, Tensor]]:
        """Eqs. (7), (8): h_dec_t, all that is affine in it, and the canvas."""
        u = torch.cat([z, state.h_dec], 1).to(layers.decoder.weight.dtype)
        h_dec, c_dec = gates(affine(layers.decoder, u, taps[2]), state.c_dec)
        v = h_dec.to(layers.heads.weight.dtype)
        y = affine(layers.heads, v, taps[3])
        canvas = state.canvas + draw(y[:, :drawn_numbers])
        ahead = y[:, drawn_numbers:] if seen or learned else None
        return State(state.h_enc, state.c_enc, h_dec, c_dec, canvas, ahead), (u, v)

    def step(
        state: State, x: Tensor, eps: Tensor, layers: Constants, L: Any, taps: Any
    ) -> tuple[State, Tensor, Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Eqs. (3) to (8): the next state, KL_t, log p(z_t) − log q(z_t), all u_t.

        Before the u_t stands c_t, where the model may stop at it.
        """
        taps = taps or (None,) * 5
        r = look(state, x, mean_of(state.canvas))
        u_e = torch.cat([r, state.h_dec, state.h_enc], 1)
        u_e = u_e.to(layers.encoder.weight.dtype)
        h_enc, c_enc = gates(affine(layers.encoder, u_e, taps[0]), state.c_enc)
        features = h_enc
        if layers.latent is not None:
            features = attend(affine(layers.latent, h_enc, taps[4]), L)
        u_q = features.to(layers.q.weight.dtype)
        mu, log_sigma = affine(layers.q, u_q, taps[1]).chunk(2, 1)
        sigma = log_sigma.exp()
        z = mu + sigma * eps  # Eq. (6)
        # Eq. (11); and at z = μ + σ ε the quadratic form of log q is ε² / 2.
        gap, far, wide, off = log_sigma, mu, sigma, z
        if (p := prior(state)) is not None:
            narrow = (-p[1]).exp()
            gap, far = log_sigma - p[1], (mu - p[0]) * narrow
            wide, off = sigma * narrow, (z - p[0]) * narrow
        kl = 0.5 * (wide**2 - 2 * gap - 1 + far**2).sum(1)
        log_ratio = (0.5 * eps**2 + gap - 0.5 * off**2).sum(1)
        state = state._replace(h_enc=h_enc, c_enc=c_enc)
        new, (u_d, u_h) = decode(state, z, layers, taps)
        used = [u_e, u_q, u_d, u_h.to(layers.heads.low.dtype)]
        if layers.latent is not None:
            used.append(h_enc.to(layers.latent.low.dtype))
        canvas = new.canvas if inside else None
        return new, kl, log_ratio, canvas, tuple(u.detach() for u in used)

    def steps(
        state: State, x: Tensor, eps: Any, layers: Constants, L: Any, taps: Any
    ) -> tuple[State, list[Any]]:
        results = []
        for each, tap in zip(eps, taps, strict=True):
            state, *result = step(state, x, each, layers, L, tap)
            results.append(result)
        return state, results

    def dream_steps(
        state: State, eps: Any, layers: Constants
    ) -> tuple[State, list[Any]]:
        canvases = []
        for z in eps:
            if (p := prior(state)) is not None:
                z = p[0] + p[1].exp() * z
            state, _ = decode(state, z, layers, (None,) * 5)
            canvases.append(state.canvas)
        return state, canvases

    if fused:
        return Steps(compiled(steps), compiled(dream_steps), together)
    return Steps(steps, dream_steps, together)
