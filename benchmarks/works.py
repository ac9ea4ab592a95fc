"""The pieces of work that are timed: each with its rivals and what it must reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.annealed import draws, plain_ais
from benchmarks.layered import PlainLadder, PlainVAE
from benchmarks.limit import (
    PRECISIONS,
    flops,
    forward_products,
    generating_products,
    layered_flops,
    training_flops,
)
from benchmarks.peer import jax_training
from benchmarks.plain import filterbank_by_loops, read_by_loops, textbook
from drawlib.annealing import AISConfig, ais
from drawlib.draw import DRAW, DRAWConfig
from drawlib.evaluation import estimate
from drawlib.fast import native
from drawlib.fast.kernels import kernel_trouble
from drawlib.fast.loop import accelerate, layers_of, rounded
from drawlib.filters import filterbank
from drawlib.glas import GLAS, GLASConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.machine.settings import matmul_precision
from drawlib.recurrent import Recurrent, RecurrentConfig
from drawlib.vae import VAE, VAEConfig

Call = Callable[[], Any]
PEER = "JAX float32"  # what somebody would use who does not use PyTorch


@dataclass(frozen=True)
class Work:
    """One row of the table: ``rivals`` by name, the textbook's in float32 first.

    ``goals`` are those of other columns than the first.
    """

    name: str
    title: str
    goal: float
    rivals: dict[str, Call]
    flops: float | None = None
    images: int = 1
    goals: dict[str, float] = field(default_factory=dict)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """float32 as it stands, with faster products, or bfloat16 autocast."""
    with (
        matmul_precision(PRECISIONS[name][1]),
        torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"),
    ):
        yield


def bits(n: int) -> Tensor:
    """Binary noise in the shape of MNIST: no product is faster for nicer images."""
    return (torch.rand(n, 1, 28, 28) < 0.2).float()


def spread(model: Any) -> Any:
    """Weights as after a little training: windows inside the image, no zero heads."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def check_equal(found: dict[str, Tensor]) -> None:
    """Refuse to time implementations that do not compute the same numbers."""
    first, *others = found
    for name in others:
        loose = 2e-2 if "bf16" in name else 1e-3
        error = (found[name] - found[first]).abs().max() / found[first].abs().max()
        if not error < loose:
            raise AssertionError(f"{name} is {error:.1e} off {first}")


def all_rivals(call: Callable[[bool, str], Call]) -> dict[str, Call]:
    """The textbook in each precision; ours, which compiles for each, in two."""
    names = [(True, kind) for kind in PRECISIONS]
    names += [(False, "float32"), (False, "bf16")]
    return {
        f"{'textbook' if slow else 'fast'} {kind}": call(slow, kind)
        for slow, kind in names
    }


def training(
    name: str, title: str, model: Any, goal: float, batch: int, **goals: float
) -> Work:
    """Loss and gradients of one batch, without the optimiser."""
    spread(model)
    plain: Any
    if isinstance(model, Recurrent):
        plain, work = textbook(model), training_flops(model.config, batch)
    else:
        plain = PlainVAE(model) if isinstance(model, VAE) else PlainLadder(model)
        work = layered_flops(model, batch)
    x, noise = bits(batch), model.noise(batch)
    accelerate(model)

    def call(slow: bool, kind: str) -> Call:
        def run() -> Tensor:
            with precision(kind):
                for parameter in (plain if slow else model).parameters():
                    parameter.grad = None
                if slow:
                    loss = plain.negative_elbo(x, noise).mean()
                else:
                    loss = -model.training_bound(x, noise).elbo.mean()
            loss.backward()
            return loss.detach()

        return run

    rivals = all_rivals(call)
    seen = getattr(model.config, "attention", "none") != "none"
    if seen and (peer := jax_training(plain, x, noise)):
        rivals[PEER] = peer
    check_equal({name: run() for name, run in rivals.items()})
    return Work(name, title, goal, rivals, work, batch, goals)


def generating(model: Recurrent, goal: float, images: int) -> Work:
    """Images from the prior."""
    plain, noise = textbook(spread(model)), model.noise(images)
    accelerate(model)

    def call(slow: bool, kind: str) -> Call:
        def run() -> Tensor:
            with precision(kind), torch.no_grad():
                if slow:
                    return plain.generate(noise)
                return model.generate(images, noise=noise)

        return run

    rivals = all_rivals(call)
    check_equal({name: run() for name, run in rivals.items()})
    products = generating_products(model.config, images)
    title = f"generating {images:,} images, T {model.config.T}"
    return Work(
        "generate", title, goal, rivals, model.config.T * flops(products), images
    )


def weighing(model: Recurrent, goal: float, samples: int) -> Work:
    """The importance-weighted bound of one image with K samples."""
    plain, x = textbook(spread(model)), bits(1)
    accelerate(model)

    def by_book() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        noise = model.noise(samples, generator)
        log_w = plain.log_weight(x.expand(samples, -1, -1, -1), noise)
        return log_w.logsumexp(0) - torch.tensor(float(samples)).log()

    def fast() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return estimate(model, x, samples, generator, chunk=samples)["log_iw"][0]

    def call(slow: bool, kind: str) -> Call:
        def run() -> Tensor:
            with precision(kind), torch.no_grad():
                return (by_book if slow else fast)()

        return run

    rivals = all_rivals(call)
    check_equal({name: run() for name, run in rivals.items()})
    config = model.config
    products = forward_products(config, samples)
    title = f"importance-weighted bound, K {samples:,}, T {config.T}"
    return Work("weigh", title, goal, rivals, config.T * flops(products), samples)


def filters(goal: float, batch: int) -> Work:
    """Making 5 × 5 filters, and reading with them: all images, or one by one.

    The fast one is the kernel of a step, which reads the error image too.
    """
    raw, x = 0.1 * torch.randn(batch, 5), bits(batch)
    few = min(batch, 8)

    def by_kernel() -> Call:
        model = DRAW(DRAWConfig(T=1, attention="gaussian", read=5))
        constants = rounded(layers_of(model, x), x.dtype, True)
        work = native.Work(model.config, constants, batch, 1, 1, (0,), x.dtype)
        machine = native.Machine(work, x)
        machine.give(x=machine.laid(x))
        machine.forward_tensors(2, False)
        h = torch.zeros(batch, 256)
        machine.begin(0, (h, h, h, h, torch.zeros(machine.canvas_shape()), raw))

        def look() -> Tensor:
            machine.kernels.look(machine.address, 0)
            return machine.tensors["u_e"][0, :, :25].unflatten(1, (5, 5))

        return look

    def by_loops() -> Tensor:
        return torch.stack([read_by_loops(x[i, 0], raw[i], 5) for i in range(few)])

    def batched() -> Tensor:
        return filterbank(raw, (28, 28), 5).read(x)[:, 0]

    rivals: dict[str, Call] = {
        "textbook float32": by_loops,
        "plain float32": batched,
        "fast float32": batched if kernel_trouble() else by_kernel(),
    }
    check_equal({name: run()[:few] for name, run in rivals.items()})
    assert filterbank_by_loops(raw[0], (28, 28), 5)[0].shape == (5, 28)
    title = "filterbank, one patch an image"
    return Work("filterbank", title, goal, rivals, None, batch)


def annealing(model: Recurrent, goal: float, images: int, budget: AISConfig) -> Work:
    """AIS: chain after chain on the textbook, side by side there, and the library's.

    The loop walks the chains of the first image, the others those of all. Where a test
    is so close that a rounding decides it, a chain goes another way from there on. So
    three chains of four must be equal, beside the scatter of the chains.
    """
    plain, x = textbook(spread(model)).requires_grad_(False), bits(images)
    accelerate(model)
    betas, K = budget.betas().float(), budget.chains
    sizes = torch.full((budget.temperatures - 1,), 0.3)
    drawn = draws(model, images * K, len(sizes))

    def some(chains: slice) -> Tensor:
        seen = x.repeat_interleave(K, 0)[chains]

        def log_weight(noise: Tensor) -> Tensor:
            return plain.log_weight(seen, noise)

        return plain_ais(log_weight, drawn.of(chains), betas, sizes, budget.leapfrog)

    def fast() -> Tensor:
        found = ais(model, x, budget, steps=sizes, chunk=images * K)
        return found.log_weights.flatten()

    rivals: dict[str, Call] = {
        "textbook float32": lambda: torch.cat(
            [some(slice(k, k + 1)) for k in range(K)]
        ),
        "textbook side by side": lambda: some(slice(0, images * K)),
        "fast float32": fast,
    }
    found = {name: run().double() for name, run in rivals.items()}
    wanted = found["textbook side by side"]
    off = {
        name: (each - wanted[: len(each)]).abs().quantile(0.75)
        for name, each in found.items()
    }
    check_equal({name: wanted.std() + gap for name, gap in off.items()})
    told = f"{images * K} chains, {budget.temperatures} temperatures"
    title = f"annealed importance sampling, {told}, T {model.config.T}"
    return Work("anneal", title, goal, rivals, None, images * K)


def has_amx() -> bool:
    """Whether this processor has a unit for bfloat16 products, as Linux tells it."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def share_of_images(work: Work, name: str) -> int:
    """Images in one call: the loops see only a few of the batch."""
    if work.name in ("filterbank", "anneal") and name == "textbook float32":
        return min(work.images, 8)
    return work.images


def all_works(quick: bool) -> dict[str, Callable[[], Work]]:
    """The rows of the table; ``quick`` has the same rows, with tiny models."""
    batch, many, samples = (8, 16, 16) if quick else (128, 1000, 1000)

    def sized(config: RecurrentConfig) -> Any:
        small = {"T": min(config.T, 3), "hidden": 16, "z": 4}
        return replace(config, **small) if quick else config

    see = DRAWConfig.preset("paper-attention")
    paint = DRAWConfig.preset("paper-no-attention")
    latent = GLASConfig.preset("readme")
    return {
        "draw-attention": lambda: training(
            "draw-attention",
            "DRAW with attention, T 64",
            DRAW(sized(see)),
            batch=batch,
            peer=4.0,
            **(
                {"goal": 6.0, "share": 0.35, "former": 1.9}
                if has_amx()
                else {"goal": 5.0, "share": 0.75, "former": 1.3}
            ),
        ),
        "draw-t10": lambda: training(
            "draw-t10",
            "DRAW without attention, T 10",
            DRAW(sized(replace(paint, T=10))),
            3.0,
            batch,
        ),
        "draw-t64": lambda: training(
            "draw-t64", "DRAW without attention, T 64", DRAW(sized(paint)), 7.0, batch
        ),
        "glas": lambda: training(
            "glas", "GLAS, T 64, 9×9, 5×5", GLAS(sized(latent)), 7.0, batch
        ),
        "vae": lambda: training(
            "vae", "VAE: a training step", VAE(VAEConfig()), 2.0, batch
        ),
        "ladder": lambda: training(
            "ladder",
            "Ladder VAE: a training step",
            LadderVAE(LadderConfig()),
            2.0,
            batch,
        ),
        "filterbank": lambda: filters(400.0, batch),
        "generate": lambda: generating(DRAW(sized(see)), 6.0, many),
        "weigh": lambda: weighing(DRAW(sized(see)), 6.0, samples),
        "anneal": lambda: annealing(
            DRAW(sized(replace(see, T=16))),
            4.0,
            2 if quick else 8,
            AISConfig(chains=8, temperatures=3 if quick else 20),
        ),
    }
