"""The loop of DRAW and GLAS on a CPU: products by PyTorch, all between by ``kernels``.

What a step computes lies in one tensor for all steps. The products read it there, and
so do those of the weights' gradients (``loop`` says why they come last). Autograd sees
the loop as one function, ``Steps``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from drawlib.fast.kernels import LANES, PRECISIONS, Loop, kernels
from drawlib.fast.parts import AT_ONCE, Constant

__all__ = ["Work", "dream", "fits", "steps"]

ATTENTION = {"none": 0, "gaussian": 1, "cauchy": 2}


class Work(NamedTuple):
    """One loop: T steps of n images, with the constants of a model."""

    config: Any
    constants: Any
    n: int
    T: int
    S: int  # after so many steps their tensors are given up, and made again backwards
    at: tuple[int, ...]  # the steps whose canvases are asked for
    low: torch.dtype


def fits(model: nn.Module, x: Tensor, noise: Tensor, low: torch.dtype) -> bool:
    """Whether the kernels take these tensors; gradients of x they do not make.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> x, noise = torch.zeros(2, 1, 28, 28), model.noise(2)
        >>> fits(model, x, noise, torch.bfloat16), fits(model, x, noise, torch.half)
        (True, False)
    """
    config: Any = model.config
    all_of_them = [x, noise, *chain(model.parameters(), model.buffers())]
    kinds = {(t.device.type, t.dtype) for t in all_of_them}
    return (
        len(x) > 0
        and kinds == {("cpu", x.dtype)}
        and (x.dtype, low) in PRECISIONS
        and not x.requires_grad
        and (x is noise or x.shape == (len(noise), *config.image_shape))
        and noise.ndim == 3
        and noise.shape[2] == config.z
    )


def in_lanes(images: Tensor) -> Tensor:
    """(n, channels, height, width) as (blocks, channels, height, width, 16).

    Neighbours in memory are the same pixel of 16 images; zeros fill the last block.

    Example:
        >>> in_lanes(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([1, 1, 28, 28, 16])
    """
    full = F.pad(images, (0, 0) * 3 + (0, -len(images) % LANES))
    blocks = full.unflatten(0, (-1, LANES)).permute(0, 2, 3, 4, 1)
    return blocks.clone(memory_format=torch.contiguous_format)


def out_of_lanes(blocks: Tensor, n: int) -> Tensor:
    """The way back, to n images.

    Example:
        >>> images = torch.rand(3, 1, 2, 2)
        >>> torch.equal(out_of_lanes(in_lanes(images), 3), images)
        True
    """
    return blocks.permute(0, 4, 1, 2, 3).flatten(0, 1)[:n].contiguous()


class Machine:
    """The tensors of one loop, and the kernels that read and write them.

    Names are those of ``kernels.cpp``: e, q, d, h and l for encoder, q's head, decoder,
    what is affine in h_dec, and latent window; u what a product takes, y what it gives,
    g the gates, d_ a gradient, delta that of a product.
    """

    def __init__(self, work: Work, like: Tensor, dreams: bool = False) -> None:
        c, image = work.config, work.config.image_shape
        latent = getattr(c, "latent_attention", "none")
        learned = getattr(c, "prior", "standard") == "learned"
        self.work, self.dtype, self.dreams = work, like.dtype, dreams
        self.sees, self.latent = c.attention != "none", latent != "none" and not dreams
        pixels = image[0] * image[1] * image[2]
        self.look = 2 * image[0] * c.read**2 if self.sees else pixels
        self.drawn = 5 + image[0] * c.write**2 if self.sees else pixels
        self.heads = 5 * self.sees + 2 * c.z * learned
        self.kept = self.heads + self.drawn * self.sees
        self.features = c.N**2 if self.latent else c.hidden
        # Where a drawing may stop before its end, all canvases are kept.
        self.inside = not dreams and work.at != (work.T - 1,)
        self.tensors: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.kernels = kernels(like.dtype, work.low)
        self.loop = Loop(
            threads=torch.get_num_threads(),
            images=work.n,
            deltas=AT_ONCE,
            **dict(zip(("channels", "height", "width"), image, strict=True)),
            **{name: getattr(c, name) for name in ("hidden", "z", "read", "write")},
            attention=ATTENTION[c.attention],
            learned=learned,
            letters=c.likelihood == "categorical",
        )
        if self.latent:
            self.loop.latent, self.loop.N, self.loop.M = ATTENTION[latent], c.N, c.M
            self.loop.legacy = c.grid == "legacy"
        self.address = ctypes.addressof(self.loop)
        for name, (layer, taken, given) in self.layers().items():
            if layer.weight.shape != (given, taken):
                found = tuple(layer.weight.shape)
                raise ValueError(f"a weight is {found}; allowed: {(given, taken)}")
            self.give(**{"b_" + name: layer.rows.contiguous()})
        self.loop.own_rows = len(work.constants.encoder.rows) > 1

    def layers(self) -> dict[str, tuple[Constant, int, int]]:
        """The layers by their letters, with how many numbers they take and give."""
        k, h, z = self.work.constants, self.work.config.hidden, self.work.config.z
        found = {
            "e": (k.encoder, self.look + 2 * h, 4 * h),
            "q": (k.q, self.features, 2 * z),
            "d": (k.decoder, z + h, 4 * h),
            "h": (k.heads, h, self.drawn + self.heads),
            "l": (k.latent, h, 5),
        }
        left_out = ("e", "q", "l") if self.dreams else () if self.latent else ("l",)
        return {name: each for name, each in found.items() if name not in left_out}

    def give(self, **tensors: Tensor | None) -> None:
        """Tell the kernels where tensors lie."""
        for name, tensor in tensors.items():
            if tensor is not None:
                assert tensor.is_contiguous(), name
                self.tensors[name] = tensor
                setattr(self.loop, name, tensor.data_ptr())

    def make(self, dtype: torch.dtype, make: Any = torch.empty, **shapes: Any) -> None:
        """New tensors."""
        self.give(**{k: make(s, dtype=dtype, device="cpu") for k, s in shapes.items()})

    def forward_tensors(self, slots: int, keep: bool) -> None:
        """Those of ``slots`` steps; step t + slots writes over those of step t."""
        n, T, h, z = self.work.n, self.work.T, self.loop.hidden, self.loop.z
        low, full = self.work.low, self.dtype
        self.loop.slots, canvases = slots, T + 1 if self.inside else slots
        self.loop.canvases = canvases
        self.make(low, u_d=(slots, n, z + h), u_h=(slots, n, h), y=(n, 4 * h))
        self.make(full, c_d=(slots, n, h), said=(slots, n, self.kept), exact=(n, h))
        self.make(full, canvas=(canvases, *self.canvas_shape()))
        self.make(full if self.sees else low, y_h=(n, self.drawn + self.heads))
        if self.dreams:
            return
        self.make(low, u_e=(slots, n, self.look + 2 * h), y_q=(n, 2 * z))
        self.make(low, u_q=(slots, n, self.features))
        self.make(full, c_e=(slots, n, h), q=(slots, n, 2 * z))
        self.make(full, kl=(T, n), log_ratio=(T, n))
        if self.latent:
            self.make(low, u_l=(slots, n, h))
            self.make(full, raw=(slots, n, 5))
        if keep:
            self.make(low, g_e=(slots, n, 4 * h), g_d=(slots, n, 4 * h))

    def canvas_shape(self) -> tuple[int, ...]:
        n, image = self.work.n, tuple(self.work.config.image_shape)
        return (-(-n // LANES), *image, LANES) if self.sees else (n, *image)

    def laid(self, images: Tensor) -> Tensor:
        """Images as the kernels want them: in blocks where there is attention."""
        return in_lanes(images) if self.sees else images

    def images(self, canvas: Tensor) -> Tensor:
        """The way back, as a copy."""
        return out_of_lanes(canvas, self.work.n) if self.sees else canvas.clone()

    def begin(self, first: int, state: Any) -> None:
        """Put the state before step ``first`` into the first slot."""
        h_enc, c_enc, h_dec, c_dec, canvas, ahead = state
        t, h, z = self.tensors, self.loop.hidden, self.loop.z
        self.loop.first, self.loop.canvas_first = first, first if self.inside else 0
        t["u_d"][0, :, z:], t["c_d"][0] = h_dec, c_dec
        if not self.dreams:
            t["u_e"][0, :, -h:], t["c_e"][0] = h_enc, c_enc
            t["u_e"][0, :, self.look : -h] = h_dec
        t["canvas"][self.loop.canvas_first] = canvas
        if ahead is not None:
            t["said"][0, :, self.kept - self.heads :] = ahead

    def state(self, slot: int) -> tuple[Tensor, ...]:
        """The state in a slot, as ``begin`` takes it."""
        t, h = self.tensors, self.loop.hidden
        u, said = t["u_e"][slot], t["said"][slot]
        canvas = t["canvas"][(self.loop.canvas_first + slot) % self.loop.canvases]
        h_enc, h_dec = u[:, -h:], u[:, self.look : -h]
        parts = h_enc, t["c_e"][slot], h_dec, t["c_d"][slot], canvas
        return tuple(p.clone() for p in (*parts, said[:, self.kept - self.heads :]))

    def forward(self, count: int) -> Iterator[int]:
        """So many steps, from the state in the first slot: eqs. (3) to (8)."""
        t, run, at, slots = self.tensors, self.kernels, self.address, self.loop.slots
        layers = {name: layer.weight.mT for name, (layer, *_) in self.layers().items()}
        u = {name: t["u_" + name].unbind() for name in layers}
        for s in range(count):
            slot = s % slots
            if self.dreams:
                run.dream(at, s)
            else:
                run.look(at, s)
                torch.mm(u["e"][slot], layers["e"], out=t["y"])
                run.encode(at, s)
                if self.latent:
                    torch.mm(t["exact"], layers["l"], out=t["raw"][slot])
                    run.attend(at, s)
                torch.mm(u["q"][slot], layers["q"], out=t["y_q"])
                run.sample(at, s)
            torch.mm(u["d"][slot], layers["d"], out=t["y"])
            run.decode(at, s)
            v = t["exact"] if self.sees else u["h"][slot]
            torch.mm(v, layers["h"], out=t["y_h"])
            run.draw(at, s)
            yield s

    def canvas_after(self, s: int) -> Tensor:
        """The images that step s leaves."""
        at = (self.loop.canvas_first + s + 1) % self.loop.canvases
        return self.images(self.tensors["canvas"][at])

    def backward_tensors(self) -> dict[str, Tensor]:
        """Those of a step back, and the sums of the layers' gradients."""
        n, h, low, full = self.work.n, self.loop.hidden, self.work.low, self.dtype
        sums = {}
        for name, (layer, taken, given) in self.layers().items():
            self.make(low, torch.zeros, **{"d_u_" + name: (n, taken)})
            self.make(low, **{"delta_" + name: (AT_ONCE, n, given)})
            sums["W_" + name] = torch.zeros_like(layer.low, dtype=full)
            sums["b_" + name] = torch.zeros_like(layer.rows)
            if self.work.S < self.work.T:  # the steps of one product, from some pieces
                self.inputs[name] = layer.low.new_empty(AT_ONCE, n, taken)
        self.make(full, torch.zeros, d_c_e=(n, h), d_c_d=(n, h))
        self.make(full, torch.zeros, d_ahead=(n, self.heads))
        self.make(full, torch.zeros, d_canvas=self.canvas_shape())
        if self.latent:
            M = self.loop.M
            self.make(full, torch.zeros, d_L=(self.loop.threads, M, M, LANES))
        return sums

    def backward(
        self, count: int, sums: dict[str, Tensor], d_canvases: dict[int, Tensor]
    ) -> None:
        """The gradients of so many steps, last first."""
        t, run, at, first = self.tensors, self.kernels, self.address, self.loop.first
        layers = {name: layer.low for name, (layer, *_) in self.layers().items()}
        deltas = {name: t["delta_" + name].unbind() for name in layers}

        def product(name: str, some: int) -> None:
            torch.mm(deltas[name][some], layers[name], out=t["d_u_" + name])

        for s in reversed(range(count)):
            some = (first + s) % AT_ONCE
            if s in d_canvases:
                t["d_canvas"] += d_canvases[s]
            run.draw_back(at, s)
            product("h", some)
            run.decode_back(at, s)
            product("d", some)
            run.sample_back(at, s)
            product("q", some)
            if self.latent:
                run.attend_back(at, s)
                product("l", some)
            run.encode_back(at, s)
            product("e", some)
            run.look_back(at, s)
            together = min(AT_ONCE, self.work.T - first - s)
            for name in layers:
                u = t["u_" + name][s : s + together]
                if self.inputs:
                    self.inputs[name][some] = u[0]
                    u = self.inputs[name][:together]
                if some == 0:
                    self.add(sums, name, t["delta_" + name][:together], u)

    def add(self, sums: dict[str, Tensor], name: str, delta: Tensor, u: Tensor) -> None:
        """Σ_t δ_t u_tᵀ and Σ_t δ_t of some steps."""
        flat, b = delta.flatten(0, 1), sums["b_" + name]
        sums["W_" + name] += flat.mT @ u.flatten(0, 1)
        if len(b) == 1:
            b += flat.new_ones(1, len(flat)) @ flat
        else:
            b += delta.sum(0, dtype=b.dtype)


def begin_at(T: int, S: int) -> list[tuple[int, int]]:
    """From which step to which the tensors of S steps reach.

    Example:
        >>> begin_at(5, 2)
        [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + S, T)) for first in range(0, T, S)]


def run(work: Work, x: Tensor, eps: Tensor, L: Any, state: Any, keep: bool) -> Any:
    """All steps: the machine after them, the canvases, and the states to begin at."""
    machine = Machine(work, x)
    machine.give(x=machine.laid(x.contiguous()), eps=eps, L=L)
    machine.forward_tensors(work.S + 1 if keep else 2, keep)
    *hidden, canvas, ahead = state
    state = (*hidden, machine.laid(canvas), ahead)
    canvases: list[Tensor] = []
    states: list[Tensor] = []
    parts = begin_at(work.T, work.S if keep else work.T)
    for first, last in parts:
        machine.begin(first, state)
        if len(parts) > 1:
            states += machine.state(0)
        for s in machine.forward(last - first):
            if first + s in work.at:
                canvases.append(machine.canvas_after(s))
        if last < work.T:
            state = machine.state(last - first)
    return machine, canvases, states


class Steps(torch.autograd.Function):
    """KL_t, log p(z_t) − log q(z_t) and canvases, of all that has a gradient."""

    @staticmethod
    def forward(
        ctx: Any, work: Work, x: Tensor, eps: Tensor, L: Any, *given: Any
    ) -> tuple[Tensor, ...]:
        machine, canvases, states = run(work, x, eps, L, given[:6], True)
        nats = machine.tensors["kl"], machine.tensors["log_ratio"]
        kept = machine.tensors
        if states:
            kept = {name: kept[name] for name in ("x", "eps", "L") if name in kept}
        ctx.work, ctx.names, ctx.learned = work, list(kept), len(given) - 6
        # The constants too, so that weights that change before the backward are seen.
        fixed = [
            part for layer in work.constants if layer is not None for part in layer
        ]
        ctx.states = len(states)
        ctx.save_for_backward(*kept.values(), *states, *fixed)
        return *nats, *canvases

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_kl: Tensor, d_log_ratio: Tensor, *d_canvases: Tensor
    ) -> tuple[Tensor | None, ...]:
        work, count = ctx.work, len(ctx.names)
        kept = dict(zip(ctx.names, ctx.saved_tensors, strict=False))
        states, eps = ctx.saved_tensors[count : count + ctx.states], kept["eps"]
        machine = Machine(work, eps)
        if states:
            machine.forward_tensors(work.S + 1, True)
        machine.give(**kept)
        machine.loop.slots, machine.loop.canvases = (
            len(machine.tensors[name]) for name in ("u_d", "canvas")
        )
        sums = machine.backward_tensors()
        machine.give(d_kl=d_kl.contiguous(), d_log_ratio=d_log_ratio.contiguous())
        if ctx.needs_input_grad[2]:
            machine.make(eps.dtype, d_eps=eps.shape)
        asked = dict(zip(work.at, d_canvases, strict=True))
        for k, (first, last) in reversed(list(enumerate(begin_at(work.T, work.S)))):
            if states:
                machine.begin(first, states[6 * k : 6 * k + 6])
                list(machine.forward(last - first))
            else:
                machine.loop.first = machine.loop.canvas_first = 0
            here = range(first, last)
            now = {t - first: machine.laid(d) for t, d in asked.items() if t in here}
            machine.backward(last - first, sums, now)
        t, h = machine.tensors, work.config.hidden
        d_u_e, d_u_d = t["d_u_e"].to(eps.dtype), t["d_u_d"].to(eps.dtype)
        d_h_dec = d_u_e[:, machine.look : -h] + d_u_d[:, work.config.z :]
        d_state = (d_u_e[:, -h:], t["d_c_e"], d_h_dec, t["d_c_d"])
        d_ahead = t["d_ahead"] if machine.heads else None
        d_L = t["d_L"].sum((0, 3)) if machine.latent else None
        learned = [sums[k + name] for name in machine.layers() for k in ("W_", "b_")]
        d_given = (*d_state, machine.images(t["d_canvas"]), d_ahead, *learned)
        return None, None, t.get("d_eps"), d_L, *d_given


def steps(
    work: Work, x: Tensor, noise: Tensor, L: Tensor | None, state: Any, layers: Any
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Canvases (n, …) at the steps ``work.at``, KL_t and log p/q (n, T) in nats.

    ``layers``: the ``Layers`` with gradients of which ``work`` has the constants.
    """
    eps = noise.transpose(0, 1).contiguous()
    learned = [part for layer in layers if layer is not None for part in layer]
    given = (x, eps, L, *state, *learned)
    if torch.is_grad_enabled() and any(t.requires_grad for t in given if t is not None):
        kl, log_ratio, *canvases = Steps.apply(work, *given)
    else:
        with torch.no_grad():
            machine, canvases, _ = run(work, x, eps, L, state, False)
        kl, log_ratio = machine.tensors["kl"], machine.tensors["log_ratio"]
    return canvases, kl.mT, log_ratio.mT


@torch.no_grad()
def dream(work: Work, noise: Tensor, state: Any) -> Iterator[Tensor]:
    """The canvases of a generation at the steps ``work.at``: eqs. (13) to (15)."""
    machine = Machine(work, noise, dreams=True)
    machine.give(eps=noise.transpose(0, 1).contiguous())
    machine.forward_tensors(2, False)
    *hidden, canvas, ahead = state
    machine.begin(0, (*hidden, machine.laid(canvas), ahead))
    for s in machine.forward(work.T):
        if s in work.at:
            yield machine.canvas_after(s)
