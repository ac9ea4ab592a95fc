"""The loop over the steps, forwards and backwards, written out."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drawlib.fast.native import LANES, Parts

AT_ONCE = 16  # steps whose weight gradients are one product


class Layer(NamedTuple):
    """y = W u + b; ``rows`` is b, or b and what x adds, one row an image."""

    weight: Tensor
    rows: Tensor


class Layers(NamedTuple):
    """All affine maps of a step."""

    encoder: Layer
    q: Layer
    decoder: Layer
    heads: Layer
    latent: Layer | None


class State(NamedTuple):
    """What a step hands on: h_enc and h_dec in the next step's u, and y of the heads."""

    u: Tensor
    c_enc: Tensor
    c_dec: Tensor
    y: Tensor
    canvas: Tensor


class Tape(NamedTuple):
    """What some steps keep for the backward pass; the first index is the step."""

    u: Tensor  # (steps + 1, n, ·): h_enc, r, h_dec, z, in the products' precision
    enc: Tensor  # the encoder's gates
    dec: Tensor
    c_enc: Tensor  # (steps + 1, n, hidden)
    c_dec: Tensor
    y_q: Tensor
    y: Tensor  # (steps + 1, n, ·), of all that is affine in h_dec
    prior: Tensor | None  # (steps + 1, n, 2 z)
    mean: Tensor | None  # σ(c), images side by side
    y_a: Tensor | None  # where the posterior looks into L
    a: Tensor | None  # and what it sees


def pack(W, n):
    if W.dtype != torch.bfloat16: return W
    return torch.ops.mkldnn._reorder_linear_weight(W.contiguous(), n)

def affine(u, W):
    if W.is_mkldnn: return torch.ops.mkldnn._linear_pointwise(u, W, None, "none", [], "")
    return torch.mm(u, W.mT)

def row(rows: Tensor) -> int:
    """How far apart two images' rows lie."""
    return rows.stride(0)


class Loop:
    """T steps of one model on n images."""

    def __init__(
        self, config: Any, parts: Parts, x: Tensor, eps: Tensor, layers: Layers,
        L: Tensor | None, low: torch.dtype,
    ) -> None:  # fmt: skip
        C, H, W = config.image_shape
        self.parts, self.eps, self.n, self.T = parts, eps, len(eps), eps.shape[1]
        self.hidden, self.z, self.seen = config.hidden, config.z, config.attention != "none"
        cauchy = config.attention == "cauchy"
        self.read = shape(C, H, W, config.read, cauchy)
        self.write = shape(C, H, W, config.write, cauchy)
        self.looked = 2 * C * config.read**2 if self.seen else C * H * W
        self.drawn = 5 + C * config.write**2 if self.seen else C * H * W
        self.pixels, self.image_shape = C * H * W, (C, H, W)
        self.learned = getattr(config, "prior", "standard") == "learned"
        first = self.hidden + self.looked
        self.encoder = slice(0, first + self.hidden)
        self.decoder = slice(first, first + self.hidden + self.z)
        self.h_dec = slice(first, first + self.hidden)
        self.layers, self.low = layers, low
        self.W = [None if l is None else l.weight.detach().to(low) for l in layers]
        W_e, _, W_d = self.W[:3]
        self.packed = [pack(w, self.n) for w in (W_e, W_d, W_e.mT, W_d.mT)]
        self.b = [None if l is None else l.rows.detach() for l in layers]
        self.exact = layers.heads.weight.detach()
        self.b_e_row = row(self.b[0]) if len(self.b[0]) > 1 else 0
        self.x = in_lanes(x.detach()) if self.seen else None
        self.real = eps.dtype
        if L is not None:
            self.M, self.N = config.M, config.N
            kind = config.latent_attention == "cauchy", config.grid == "legacy"
            self.latent = shape(1, config.M, config.M, config.N, *kind)
            self.L = L.detach().flatten()[:, None].expand(-1, LANES).contiguous()
            self.exact_a = layers.latent.weight.detach()
        self.has_latent = L is not None

    def new(self, *size: int, low: bool = False) -> Tensor:
        return torch.empty(size, dtype=self.low if low else self.real)

    def start(self, h_enc, c_enc, h_dec, c_dec, canvas) -> State:
        u = self.new(self.n, self.decoder.stop, low=True)
        u[:, : self.hidden], u[:, self.h_dec] = h_enc, h_dec
        canvas = in_lanes(canvas) if self.seen else canvas.flatten(1).clone()
        return State(u, c_enc.clone(memory_format=torch.contiguous_format), c_dec.clone(memory_format=torch.contiguous_format), self.heads(h_dec, u[:, self.h_dec]), canvas)

    def heads(self, h: Tensor, h_low: Tensor, out: Tensor | None = None) -> Tensor:
        if self.seen:
            return torch.addmm(self.b[3][0], h, self.exact.mT, out=out)
        return torch.mm(h_low, self.W[3].mT, out=out)

    def forward(self, state: State, first: int, last: int, kl: Tensor, ratio: Tensor) -> tuple[State, Tape]:
        n, hidden, Z, parts, steps = self.n, self.hidden, self.z, self.parts, last - first
        W_e, W_q, W_d, _, _ = self.W
        K = len(self.exact)
        blocks = -(-n // LANES)
        tape = Tape(
            u=self.new(steps + 1, n, self.decoder.stop, low=True),
            enc=self.new(steps, n, 4 * hidden, low=True),
            dec=self.new(steps, n, 4 * hidden, low=True),
            c_enc=self.new(steps + 1, n, hidden, low=True),
            c_dec=self.new(steps + 1, n, hidden, low=True),
            y_q=self.new(steps, n, 2 * Z, low=True),
            y=self.new(steps + 1, n, K, low=not self.seen),
            prior=self.new(steps + 1, n, 2 * Z) if self.learned else None,
            mean=self.new(steps, blocks, self.pixels, LANES, low=True) if self.seen else None,
            y_a=self.new(steps, n, 5) if self.has_latent else None,
            a=self.new(steps, n, self.N**2, low=True) if self.has_latent else None,
        )
        for all_steps, now in zip(tape[0:1] + tape[3:5] + tape[6:7], state):
            all_steps[0] = now
        canvas, cell_e, cell_d = state.canvas, state.c_enc, state.c_dec
        u_e, u_d = tape.u[..., self.encoder].unbind(), tape.u[..., self.decoder].unbind()
        r, z = tape.u[..., hidden:self.h_dec.start].unbind(), tape.u[..., self.h_dec.stop:].unbind()
        h_e, h_d = tape.u[..., :hidden].unbind(), tape.u[..., self.h_dec].unbind()
        enc, dec, c_e, c_d, y_q, y = (t.unbind() for t in (tape.enc, tape.dec, tape.c_enc, tape.c_dec, tape.y_q, tape.y))
        eps = self.eps.unbind(1)[first:last]
        h = self.new(n, hidden)
        W_q = W_q.mT
        P_e, P_d = self.packed[:2]
        if self.seen:
            raw = tape.y[:, :, self.drawn:].unbind()
            mean = tape.mean.unbind()
        b_e, b_q, b_d, b_h, b_a = self.b
        for s in range(steps):
            if self.seen:
                parts.look(self.read, n, raw[s], K, self.x, canvas, mean[s], r[s], row(r[s]))
            elif first == s == 0:
                parts.dense(n, self.pixels, None, 0, None, canvas, r[0], row(r[0]))
            p = None
            if self.learned:
                p = tape.y[s, :, -2 * Z:]
                p = tape.prior[s].copy_(p if self.seen else p + b_h[0, -2 * Z:])
            made = affine(u_e[s], P_e)
            parts.gates(n, hidden, made, b_e, self.b_e_row, cell_e, enc[s], c_e[s + 1], h if self.has_latent else None, h_e[s + 1], row(h_e[0]))
            features = h_e[s + 1]
            if self.has_latent:
                torch.addmm(b_a[0], h, self.exact_a.mT, out=tape.y_a[s])
                features = tape.a[s]
                parts.attend(self.latent, n, tape.y_a[s], 5, self.L, features, row(features))
            torch.mm(features, W_q, out=y_q[s])
            parts.sample(n, Z, y_q[s], b_q, p, 2 * Z, eps[s], row(eps[s]), z[s], row(z[s]), kl[first + s], ratio[first + s])
            made = affine(u_d[s], P_d)
            parts.gates(n, hidden, made, b_d, 0, cell_d, dec[s], c_d[s + 1], h if self.seen else None, h_d[s + 1], row(h_d[0]))
            self.heads(h, h_d[s + 1], out=y[s + 1])
            if self.seen:
                parts.paint(self.write, n, y[s + 1], K, canvas)
            else:
                parts.dense(n, self.pixels, y[s + 1], K, b_h, canvas, r[s + 1], row(r[0]))
        return State(tape.u[-1], cell_e, cell_d, tape.y[-1], canvas), tape

    def backward(self, tape: Tape, first: int, last: int, carry: dict, d_kl: Tensor, d_ratio: Tensor, grads) -> None:
        n, hidden, Z, parts, steps = self.n, self.hidden, self.z, self.parts, last - first
        W_e, W_q, W_d, W_h, W_a = self.W
        b_e, b_q, b_d, b_h, b_a = self.b
        K = len(self.exact)
        u_e, u_d = tape.u[..., self.encoder], tape.u[..., self.decoder]
        d_e, d_d = (self.new(steps, n, 4 * hidden, low=True) for _ in range(2))
        d_q = self.new(steps, n, 2 * Z, low=True)
        d_y = torch.zeros(steps + 1, n, K, dtype=self.low)
        if carry["d_y"] is not None:
            d_y[steps] = carry["d_y"]
        d_a = self.new(steps, n, 5, low=True) if self.has_latent else None
        enc, dec, c_e, c_d, y_q, y = (t.unbind() for t in (tape.enc, tape.dec, tape.c_enc, tape.c_dec, tape.y_q, tape.y))
        de, dd, dq, dy = (t.unbind() for t in (d_e, d_d, d_q, d_y))
        eps = self.eps.unbind(1)[first:last]
        canvas = carry["canvas"]
        r = tape.u[..., hidden:self.h_dec.start].unbind()
        if self.seen:
            raw, d_raw = tape.y[:, :, self.drawn:].unbind(), d_y[:, :, self.drawn:].unbind()
            mean = tape.mean.unbind()
        d_p = d_y[:, :, -2 * Z:].unbind()
        back_e, back_d = carry["u_e"], carry["u_d"]
        for s in reversed(range(steps)):
            if self.seen:
                parts.paint_back(self.write, n, y[s + 1], K, canvas, dy[s + 1], K)
            else:
                d_y[s + 1, :, :self.pixels] = canvas
            h = torch.mm(dy[s + 1], W_h)
            more = (None, 0, None, 0)
            if back_e is not None:
                part = back_e[:, self.h_dec]
                more = (part, row(part), back_d, row(back_d))
            parts.gates_back(n, hidden, dec[s], c_d[s], c_d[s + 1], h, hidden, *more, carry["c_d"], dd[s])
            back_d = affine(dd[s], self.packed[3])
            d_z = back_d[:, hidden:]
            p = None if tape.prior is None else tape.prior[s]
            parts.sample_back(n, Z, y_q[s], b_q, p, 2 * Z, eps[s], row(eps[s]), d_z, row(d_z), d_kl[first + s], d_ratio[first + s], dq[s], d_p[s], K)
            h = torch.mm(dq[s], W_q)
            if self.has_latent:
                parts.attend_back(self.latent, n, tape.y_a[s], 5, self.L, h, row(h), carry["L"], d_a[s], 5)
                h = torch.mm(d_a[s], W_a)
            more = (None, 0, None, 0)
            if back_e is not None:
                more = (back_e, row(back_e), None, 0)
            parts.gates_back(n, hidden, enc[s], c_e[s], c_e[s + 1], h, hidden, *more, carry["c_e"], de[s])
            back_e = affine(de[s], self.packed[2])
            d_r = back_e[:, hidden:]
            if self.seen:
                parts.look_back(self.read, n, raw[s], K, self.x, mean[s], d_r, row(d_r), canvas, d_raw[s], K)
            else:
                parts.dense_back(n, self.pixels, r[s], row(r[s]), d_r, row(d_r), canvas)
        carry["u_e"], carry["u_d"], carry["d_y"] = back_e, back_d, d_y[0]
        begin = 0 if first == 0 else 1
        features = tape.u[1:, :, :hidden]
        pairs = [
            (d_e, u_e[:-1]),
            (d_q, tape.a if self.has_latent else features),
            (d_d, u_d[:-1]),
            (d_y[begin:], tape.u[begin:, :, self.h_dec]),
        ]
        if self.has_latent:
            pairs.append((d_a, features))
        for k, (delta, u) in enumerate(pairs):
            rows = delta.flatten(0, 1)
            grads[2 * k] += rows.mT @ u.flatten(0, 1)
            if len(self.b[k]) == 1:
                grads[2 * k + 1] += rows.new_ones(1, len(rows)) @ rows
            else:
                grads[2 * k + 1] += delta.sum(0)


class Looped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loop: Loop, recompute: int, keep: bool, *tensors):
        state = loop.start(*tensors[:5])
        kl, ratio = loop.new(loop.T, loop.n), loop.new(loop.T, loop.n)
        S = recompute or AT_ONCE
        saved = []
        for first in range(0, loop.T, S):
            last = min(first + S, loop.T)
            if recompute and keep:
                saved.append(State(*(t.clone() for t in state)))
            state, tape = loop.forward(state, first, last, kl, ratio)
            if keep and not recompute:
                saved.append(tape)
        ctx.loop, ctx.recompute, ctx.count = loop, recompute, len(saved)
        ctx.save_for_backward(*(t for each in saved for t in each))
        canvas = state.canvas
        canvas = out_of_lanes(canvas, loop.n, loop.image_shape) if loop.seen else canvas.unflatten(1, loop.image_shape)
        return canvas, kl.mT, ratio.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_canvas, d_kl, d_ratio):
        loop, flat = ctx.loop, ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            grads = []
            for layer in loop.layers:
                if layer is not None:
                    grads += [torch.zeros_like(layer.weight), torch.zeros_like(layer.rows)]
            d_kl, d_ratio = d_kl.mT.contiguous(), d_ratio.mT.contiguous()
            blocks = -(-loop.n // LANES)
            carry = dict(
                u_e=None, u_d=None, d_y=None,
                c_e=torch.zeros(loop.n, loop.hidden, dtype=loop.real),
                c_d=torch.zeros(loop.n, loop.hidden, dtype=loop.real),
                canvas=in_lanes(d_canvas) if loop.seen else d_canvas.flatten(1).clone(),
                L=torch.zeros(blocks, loop.M**2, LANES, dtype=loop.real) if loop.has_latent else None,
            )
            S = ctx.recompute or AT_ONCE
            kind = State if ctx.recompute else Tape
            size = len(kind._fields)
            for first in reversed(range(0, loop.T, S)):
                last = min(first + S, loop.T)
                k = first // S
                kept = kind(*flat[k * size : (k + 1) * size])
                if ctx.recompute:
                    state = State(*(t.clone() for t in kept))
                    nats = loop.new(loop.T, loop.n)
                    _, kept = loop.forward(state, first, last, nats, nats.clone())
                loop.backward(kept, first, last, carry, d_kl, d_ratio, grads)
            e, d = carry["u_e"], carry["u_d"]
            h_dec = e[:, loop.h_dec].to(loop.real) + d[:, :loop.hidden] + carry["d_y"] @ loop.W[3]
            canvas = carry["canvas"]
            canvas = out_of_lanes(canvas, loop.n, loop.image_shape) if loop.seen else canvas.unflatten(1, loop.image_shape)
            start = [e[:, :loop.hidden].to(loop.real), carry["c_e"], h_dec, carry["c_d"], canvas]
            if loop.has_latent:
                grads.append(carry["L"].sum((0, 2)).view(loop.M, loop.M))
        return (None, None, None, *start, *grads)


def shape(*numbers: int) -> int:
    """``Shape`` of the parts, from its fields; the last ones may be left out."""
    made = torch.zeros(6, dtype=torch.int64)
    made[: len(numbers)] = torch.tensor([int(k) for k in numbers])
    return made


def in_lanes(images: Tensor) -> Tensor:
    n = len(images)
    rows = images.flatten(1)
    if n % LANES:
        rows = torch.cat([rows, rows.new_zeros(-n % LANES, rows.shape[1])])
    return rows.unflatten(0, (-1, LANES)).mT.contiguous()


def out_of_lanes(blocks: Tensor, n: int, image_shape) -> Tensor:
    return blocks.mT.flatten(0, 1)[:n].contiguous().unflatten(1, image_shape)
