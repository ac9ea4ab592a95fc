r"""Annealed importance sampling: how much of log p(x) a bound has missed.

A pass of a model makes one weight w(ε) of standard-normal noise ε, and E[w(ε)] = p(x):
that is all this module knows of a model. Between N(ε) and the posterior of the noise,
N(ε) w(ε) / p(x), lie f_β(ε) = N(ε) w(ε)^β, 0 ≤ β ≤ 1. A chain starts at β = 0, is led
along by steps of Hamiltonian Monte Carlo (HMC), and multiplies w^{Δβ} on its way: the
product has mean p(x) too, and scatters far less than w (Neal 2001). K chains without
steps, β going from 0 to 1 at once, are the importance-weighted bound.

Led backwards from an exact sample of the posterior, a chain estimates 1/p(x), so that
its logarithm bounds log p(x) from above (Grosse et al. 2015). Such samples are known
for images that the model has drawn itself; on those log p(x) is held from both sides.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drawlib.bound import LatentModel, Noise, evaluation_mode
from drawlib.config import Config, at_least, one_of, refusal, whole_number
from drawlib.evaluation import (
    check_model,
    check_seed,
    images_to_measure,
    mean_and_error,
)
from drawlib.likelihood import with_bits
from drawlib.machine.files import check_target, write_atomically
from drawlib.machine.progress import progress_bar
from drawlib.machine.settings import for_measuring, in_main_memory

__all__ = ["AISConfig", "Annealed", "Sandwich", "ais", "sandwich", "simulate"]

LogWeight = Callable[[Tensor], Tensor]
PILOT_IMAGES, PILOT_CHAINS, WANTED, GAIN = 8, 4, 0.7, 0.2


@dataclass(frozen=True)
class AISConfig(Config):
    """The budget of annealed importance sampling, and where its paths start.

    An image costs ``chains`` × ``temperatures`` × ``leapfrog`` gradients of the bound.
    ``start``: ``q``, so that β = 0 is the model's own q(z given x) and log w the log
    weight, or ``prior``, so that β = 0 is p(z) and log w = log p(x given z).

    Example:
        >>> AISConfig(chains=0)
        Traceback (most recent call last):
        ValueError: AISConfig.chains is 0; it must be at least 1
    """

    chains: int = 8
    temperatures: int = 1000
    leapfrog: int = 2
    start: str = "q"

    def check(self) -> None:
        at_least(self, 1, "chains", "temperatures", "leapfrog")
        one_of(self, "start", ("q", "prior"))

    def betas(self) -> Tensor:
        """β_0 = 0 … β_T = 1: evenly from q; from the prior dense at both ends.

        Example:
            >>> AISConfig(temperatures=4).betas().tolist()
            [0.0, 0.25, 0.5, 0.75, 1.0]
        """
        even = torch.linspace(0, 1, self.temperatures + 1, dtype=torch.float64)
        if self.start == "q":
            return even
        s = torch.sigmoid(8 * even - 4)  # the schedule of Wu et al. (2017)
        return (s - s[0]) / (s[-1] - s[0])

    def __str__(self) -> str:
        return " × ".join(
            f"{n} {word}{'' if n == 1 else 's'}"
            for n, word in (
                (self.chains, "chain"),
                (self.temperatures, "temperature"),
                (self.leapfrog, "leapfrog step"),
            )
        )


@dataclass(frozen=True, eq=False)
class Annealed:
    """What the chains of every image say of log p(x), in nats.

    Attributes:
        log_weights: one estimate a chain, (images, chains), float64: forward chains
            have E[exp(log_weight)] = p(x), reverse ones E[exp(−log_weight)] = 1/p(x).
        accepted: the share of the HMC steps that were accepted.
        reverse: whether the chains were led from the posterior.

    Example:
        >>> two = torch.tensor([[-90.0, -90.0]])
        >>> Annealed(two, 0.7, False).log_p
        tensor([-90.])
    """

    log_weights: Tensor
    accepted: float
    reverse: bool

    @property
    def log_p(self) -> Tensor:
        """log p̂(x) of every image: in expectation below log p(x), in reverse above."""
        sign = -1 if self.reverse else 1
        log_mean = (sign * self.log_weights).logsumexp(1)
        return sign * (log_mean - math.log(self.log_weights.shape[1]))

    @property
    def errors(self) -> Tensor:
        """Standard error of each log p̂(x) over chains, by the delta method.

        That of the mean weight divided by the mean weight; NaN for one chain. Few
        chains, of which one carries all the weight, make it too small.
        """
        sign, chains = -1 if self.reverse else 1, self.log_weights.shape[1]
        if chains == 1:
            return torch.full_like(self.log_p, math.nan)
        relative = (sign * self.log_weights).softmax(1) * chains
        return relative.std(1) / math.sqrt(chains)

    @property
    def error(self) -> float:
        """Standard error over chains of the mean log p̂ over images."""
        return self.errors.square().sum().sqrt().item() / len(self.errors)

    @property
    def finite(self) -> bool:
        """Whether every image has a number."""
        return bool(self.log_p.isfinite().all())

    def told(self, dimensions: int | None = None) -> str:
        """In words, with bits per dimension where images of 8 bits have dimensions.

        An error that nobody can know, of one image or one chain, is left out, and so is
        the share of steps where there was none (one temperature).
        """
        mean, over_images = mean_and_error(-self.log_p)
        errors = [(over_images, "images"), (self.error, "chains")]
        parts = [with_bits(f"{mean:.2f} nats", mean, dimensions)]
        parts += [f"± {e:.2f} over {what}" for e, what in errors if not math.isnan(e)]
        if not math.isnan(self.accepted):
            parts.append(f"{self.accepted:.0%} of the steps accepted")
        return ", ".join(parts)

    def __str__(self) -> str:
        return self.told()


@dataclass(frozen=True, eq=False)
class Sandwich:
    """log p(x) of simulated images between two bounds.

    Example:
        >>> low, high = torch.tensor([[-90.5]]), torch.tensor([[-90.1]])
        >>> both = Sandwich(Annealed(low, 0.7, False), Annealed(high, 0.7, True))
        >>> round(both.width, 1)
        0.4
    """

    lower: Annealed
    upper: Annealed

    @property
    def widths(self) -> Tensor:
        """Upper minus lower bound of log p(x), (images,)."""
        return self.upper.log_p - self.lower.log_p

    @property
    def width(self) -> float:
        """Their mean; in expectation above 0, in one run of many chains about 0."""
        return self.widths.mean().item()

    @property
    def error(self) -> float:
        """Standard error over images of ``width``; it holds that over chains."""
        return mean_and_error(self.widths)[1]

    @property
    def finite(self) -> bool:
        """Whether both bounds of every image are numbers."""
        return self.lower.finite and self.upper.finite

    def told(self, dimensions: int | None = None) -> str:
        """In words, as ``Annealed.told``.

        Chance may put the lower bound above the upper one; the words say so.
        """
        low, high = (-b.log_p.mean().item() for b in (self.upper, self.lower))
        wide = f"{self.width:.3f}".replace("-", "−")
        error = "" if math.isnan(self.error) else f" ± {self.error:.3f}"
        crossed = ", crossed by chance: too few chains or images" * (self.width < 0)
        return (
            f"−log p(x) between {with_bits(f'{low:.2f}', low, dimensions)} and "
            f"{with_bits(f'{high:.2f} nats', high, dimensions)}: width {wide}{error}"
            f"{crossed}"
        )

    def __str__(self) -> str:
        return self.told()


class Point(NamedTuple):
    """Where the chains are: their noise, log w there, and its gradient."""

    noise: Tensor
    log_w: Tensor
    slope: Tensor


def at(log_w: LogWeight, noise: Tensor) -> Point:
    """log w and its gradient at some noise."""
    noise = noise.detach().requires_grad_()
    value = log_w(noise)
    (slope,) = torch.autograd.grad(value.sum(), noise)
    return Point(noise.detach(), value.detach().double(), slope)


def energy(point: Point, momentum: Tensor, beta: float) -> Tensor:
    """−log f_β(ε) + |momentum|²/2, without constants; float64."""
    squares = (point.noise.double().square() + momentum.double().square()).sum(1)
    return 0.5 * squares - beta * point.log_w


def leap(
    log_w: LogWeight,
    point: Point,
    momentum: Tensor,
    beta: float,
    step: float,
    leapfrog: int,
) -> tuple[Point, Tensor]:
    """Leapfrog steps: half a push, a move, half a push; back by the negated momentum.

    With N(ε) for a target, one step keeps the energy up to the third power of its size:

    Example:
        >>> flat = lambda noise: 0 * noise.sum(1)
        >>> start, p = at(flat, torch.ones(1, 1)), torch.ones(1, 1)
        >>> end, p_end = leap(flat, start, p, 0.0, 0.1, 1)
        >>> bool((energy(end, p_end, 0.0) - energy(start, p, 0.0)).abs() < 1e-3)
        True
    """
    for _ in range(leapfrog):
        momentum = momentum - 0.5 * step * (point.noise - beta * point.slope)
        point = at(log_w, point.noise + step * momentum)
        momentum = momentum - 0.5 * step * (point.noise - beta * point.slope)
    return point, momentum


def hmc(
    log_w: LogWeight,
    point: Point,
    beta: float,
    step: float,
    leapfrog: int,
    generator: torch.Generator,
) -> tuple[Point, Tensor]:
    """One step that leaves f_β as it is, and the probabilities of acceptance.

    The momentum is drawn anew, so its sign at the end of the last step is of no
    consequence. Without the Metropolis test the leapfrog's error would move f_β.
    """
    momentum = randn_like(point.noise, generator)
    proposed, end = leap(log_w, point, momentum, beta, step, leapfrog)
    rise = energy(proposed, end, beta) - energy(point, momentum, beta)
    accept = (-rise).exp().clamp(max=1).nan_to_num(0)  # a number that broke: rejected
    u = torch.rand(len(accept), generator=generator, device=accept.device)
    taken = u < accept
    after = Point(
        torch.where(taken[:, None], proposed.noise, point.noise),
        torch.where(taken, proposed.log_w, point.log_w),
        torch.where(taken[:, None], proposed.slope, point.slope),
    )
    return after, accept


def anneal(
    log_w: LogWeight,
    noise: Tensor,
    betas: Tensor,
    steps: Tensor,
    leapfrog: int,
    generator: torch.Generator,
    tick: Callable[[], Any] = lambda: None,
) -> tuple[Tensor, float]:
    """Σ_t (β_t − β_{t−1}) log w(ε_{t−1}) of each chain, and the share accepted.

    ``betas`` from 0 to 1 with noise ~ N(0, I): its exponential has mean p(x). ``betas``
    from 1 to 0 with noise ~ f_1: mean 1/p(x). ``steps`` holds the size of the step at
    every β between the ends. It is fixed beforehand: a size that follows the chain
    makes a step depend on more than where the chain is; f_β is then not left as it is,
    and the mean not p(x).
    """
    point = at(log_w, noise)
    # Between one temperature and the next no step is made.
    total, accepted = torch.zeros_like(point.log_w), 0.0 if len(steps) else math.nan
    path = betas.tolist()
    for t, (before, beta) in enumerate(zip(path[:-1], path[1:], strict=True)):
        total += (beta - before) * point.log_w
        if t < len(steps):
            size = float(steps[t])
            point, accept = hmc(log_w, point, beta, size, leapfrog, generator)
            accepted += accept.mean().item() / len(steps)
        tick()
    return total, accepted


def tune(
    log_w: LogWeight,
    noise: Tensor,
    betas: Tensor,
    leapfrog: int,
    generator: torch.Generator,
) -> Tensor:
    """A step size for every β between the ends, by chains that measure nothing.

    Wherever more (less) than ``WANTED`` of the steps is accepted, the next is longer
    (shorter). These chains are thrown away: given the sizes, those that measure are
    independent of them, and their mean weight is p(x) whatever the sizes are.
    """
    point, step, steps = at(log_w, noise), noise.shape[1] ** -0.25, []
    for beta in betas[1:-1].tolist():
        point, accept = hmc(log_w, point, beta, step, leapfrog, generator)
        steps.append(step)
        step = min(step * math.exp(GAIN * (accept.mean().item() - WANTED)), 1.5)
    return torch.tensor(steps, dtype=torch.float64)


@contextmanager
def held(model: LatentModel) -> Iterator[torch.Tensor]:
    """A model whose weights stay, in evaluation mode, with gradients of the noise."""
    learning = [p for p in model.parameters() if p.requires_grad]
    weight = next(model.parameters())
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        with (
            evaluation_mode(model),
            torch.inference_mode(False),
            torch.enable_grad(),
            for_measuring(weight.device, weight.dtype),
            in_main_memory(),
        ):
            yield weight
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def flat(noise: Noise) -> Tensor:
    """A model's noise as one matrix, a row for every image.

    Example:
        >>> flat((torch.zeros(2, 3), torch.zeros(2, 4, 5))).shape
        torch.Size([2, 23])
    """
    each = noise if isinstance(noise, tuple) else (noise,)
    return torch.cat([part.flatten(1) for part in each], 1)


def shaped(model: LatentModel, rows: Tensor) -> Noise:
    """The way back from ``flat``."""
    shapes = model.noise_shapes(len(rows))
    parts = rows.split([math.prod(shape[1:]) for shape in shapes], 1)
    each = tuple(p.view(s) for p, s in zip(parts, shapes, strict=True))
    return each if len(each) > 1 else each[0]


def log_weight_of(model: LatentModel, x: Tensor, start: str) -> LogWeight:
    """log w as a function of flat noise: from q, or with the prior in its place."""

    def from_q(noise: Tensor) -> Tensor:
        return model.bound(x, shaped(model, noise)).log_weight

    def from_prior(noise: Tensor) -> Tensor:
        canvas, _ = model.latents(shaped(model, noise))
        likelihood: Any = model.likelihood
        return likelihood(canvas, x)

    return from_q if start == "q" else from_prior


def randn_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard-normal draws from a generator, shaped and placed like a tensor."""
    return torch.randn(
        like.shape, generator=generator, dtype=like.dtype, device=like.device
    )


@in_main_memory()
def ais(
    model: LatentModel,
    x: Tensor,
    config: AISConfig | None = None,
    *,
    steps: Any = None,
    posterior: Noise | None = None,
    seed: int = 0,
    chunk: int = 400,
    keep: str | Path | None = None,
    progress: bool = False,
) -> Annealed:
    r"""log p(x) of each image by annealed importance sampling (Neal 2001).

    Model, images and noise are as in ``bound``, which is all that is used of a model
    (with ``start="prior"``, ``latents`` and the likelihood). At most ``chunk`` chains
    are in memory at once, whatever images and chains there are. The same seed gives the
    same numbers.

    Args:
        steps: sizes of the HMC steps, one for every temperature but the last; left out,
            ``tune`` finds them first, with chains of its own on the first images.
        posterior: noise from the exact posterior, an image's in a row: the chains are
            led backwards from it and bound log p(x) from above.
        keep: a file for what is finished; the same call goes on from there.

    Raises:
        TypeError, ValueError: for a model as ``check_model``, images as
            ``images_to_measure``, a chunk below 1, steps of another number or not
            above 0, and a file that holds another run.
        OSError: for a file to keep that cannot be written.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> found = ais(model, torch.zeros(2, 1, 28, 28), AISConfig(3, 5))
        >>> found.log_p.shape, found.log_weights.shape
        (torch.Size([2]), torch.Size([2, 3]))
    """
    config, chunk = budget(model, config, chunk)
    x = images_to_measure(model, x)
    if posterior is not None:
        posterior = model.take_noise(len(x), posterior, None)
    if keep is not None:
        check_target(keep := Path(keep))
    return run(model, x, config, steps, posterior, seed, chunk, keep, progress)


def budget(model: Any, config: Any, chunk: Any) -> tuple[AISConfig, int]:
    """Config and chunk, checked as the model is, before anything is computed.

    Raises:
        TypeError, ValueError: as ``check_model``, and for another kind of config.
    """
    check_model(model)
    return AISConfig.given(config), whole_number("chunk", chunk, lowest=1)


def run(
    model: LatentModel,
    x: Tensor,
    config: AISConfig,
    steps: Any,
    posterior: Noise | None,
    seed: int,
    chunk: int,
    keep: Path | None,
    progress: bool,
) -> Annealed:
    """``ais`` without the look at the images: simulated ones may be any numbers."""
    seed = check_seed(seed)
    betas, reverse = config.betas(), posterior is not None
    with held(model) as weight:
        generator = torch.Generator(weight.device)
        if steps is None:
            steps = pilot(model, x, config, seed, chunk)
        steps = step_sizes(steps, config)
        begin = None if posterior is None else flat(posterior)
        if reverse:
            betas, steps = betas.flip(0), steps.flip(0)
        pairs = torch.arange(len(x) * config.chains, device=x.device)
        blocks = pairs.div(config.chains, rounding_mode="floor").split(chunk)
        digest = fingerprint(model, x, config, steps, begin, seed, chunk)
        done = read_kept(keep, digest)
        # Every block has a seed of its own, so that what is kept need not be done.
        draws = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (len(blocks),), generator=draws).tolist()
        todo = (len(blocks) - len(done)) * config.temperatures
        with progress_bar(total=todo, desc="anneal", disable=not progress) as bar:
            for block, own in list(zip(blocks, seeds, strict=True))[len(done) :]:
                generator.manual_seed(own)
                noise = flat(model.noise(len(block), generator))
                if begin is not None:
                    noise = begin[block]
                log_w = log_weight_of(model, x[block], config.start)
                total, accepted = anneal(
                    log_w, noise, betas, steps, config.leapfrog, generator, bar.update
                )
                done.append((total.tolist(), accepted))
                write_kept(keep, digest, done)
    values = torch.tensor([v for part, _ in done for v in part], dtype=torch.float64)
    shares = sum(len(part) * share for part, share in done) / len(values)
    sign = -1 if reverse else 1
    return Annealed(sign * values.view(len(x), config.chains), shares, reverse)


def pilot(
    model: LatentModel, x: Tensor, config: AISConfig, seed: int, chunk: int
) -> Tensor:
    """Step sizes for a run, from chains on the first images that are then dropped."""
    x = x[: min(PILOT_IMAGES, max(1, chunk // PILOT_CHAINS))]
    x = x.repeat_interleave(min(PILOT_CHAINS, chunk), 0)
    # Not the numbers of a block of the run: their seeds are draws from this one.
    generator = torch.Generator(x.device).manual_seed(seed)
    noise = flat(model.noise(len(x), generator))
    log_w = log_weight_of(model, x, config.start)
    return tune(log_w, noise, config.betas(), config.leapfrog, generator)


def step_sizes(steps: Any, config: AISConfig) -> Tensor:
    """Step sizes in float64; refuse what is not one number above 0 for every β inside.

    Example:
        >>> step_sizes([0.5, 0.25], AISConfig(temperatures=3))
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    given, wanted = steps, config.temperatures - 1
    try:
        steps = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(refusal("steps", given, f"{wanted} numbers")) from None
    if steps.shape != (wanted,):
        raise ValueError(
            f"steps have shape {tuple(steps.shape)}; allowed: ({wanted},), one for "
            "every temperature but the last"
        )
    if not (steps > 0).all() or not steps.isfinite().all():
        raise ValueError(f"a step is {steps.min():g}; allowed: above 0, finite")
    return steps


def simulate(
    model: LatentModel, n: int, seed: int = 0, start: str = "q"
) -> tuple[Tensor, Noise]:
    """Images x ~ p(x given z), z ~ p(z), and noise from their exact posterior.

    (x, z) is a draw from the joint, so z is one from p(z given x). The noise is that
    with which ``bound`` meets z, or with ``start="prior"`` that which made z.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> x, noise = simulate(model, 3)
        >>> x.shape, noise.shape, x.unique().tolist()
        (torch.Size([3, 1, 28, 28]), torch.Size([3, 4]), [0.0, 1.0])
    """
    n = whole_number("images", n, lowest=1)
    with held(model) as weight, torch.no_grad():
        seed = check_seed(seed)
        generator = torch.Generator(weight.device).manual_seed(seed)
        noise = model.noise(n, generator)
        canvas, z = model.latents(noise)
        likelihood: Any = model.likelihood
        x = likelihood.sample(canvas, generator)
        return x, (noise if start == "prior" else model.noise_of(x, z))


@in_main_memory()
def sandwich(
    model: LatentModel,
    images: int,
    config: AISConfig | None = None,
    *,
    steps: Any = None,
    seed: int = 0,
    chunk: int = 400,
    progress: bool = False,
) -> Sandwich:
    """Both bounds on log p(x) of images that the model has drawn itself.

    Bidirectional Monte Carlo (Grosse et al. 2015; Wu et al. 2017): forward chains bound
    log p(x) from below, and chains led backwards from the z that made x from above. The
    width says how far either can be from the truth, of *simulated* images; what holds
    for genuine ones is the lower bound alone. ``steps``, errors: those of ``ais``.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> found = sandwich(VAE(VAEConfig.preset("tiny")), 2, AISConfig(4, 20))
        >>> found.widths.shape
        torch.Size([2])
    """
    config, chunk = budget(model, config, chunk)
    x, posterior = simulate(model, images, seed, config.start)
    if steps is None:
        with held(model):
            steps = pilot(model, x, config, seed, chunk)

    def chains(posterior: Noise | None, seed: int) -> Annealed:
        return run(model, x, config, steps, posterior, seed, chunk, None, progress)

    seeds = [(seed + k) % 2**32 for k in (1, 2)]  # the images have the seed itself
    return Sandwich(chains(None, seeds[0]), chains(posterior, seeds[1]))


def fingerprint(
    model: LatentModel,
    x: Tensor,
    config: AISConfig,
    steps: Tensor,
    begin: Tensor | None,
    seed: int,
    chunk: int,
) -> str:
    """What a kept block depends on: weights, images, settings."""
    digest = hashlib.sha256(json.dumps([config.to_dict(), seed, chunk]).encode())
    for tensor in (*model.state_dict().values(), x, steps, begin):
        if tensor is not None:
            # As bytes: numpy has no bfloat16.
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


Blocks = list[tuple[list[float], float]]


def read_kept(path: Path | None, digest: str) -> Blocks:
    """The blocks that this very run has finished.

    Raises:
        ValueError: for the file of another run, or no such file at all.
    """
    if path is None or not path.exists():
        return []
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        same, blocks = kept["run"] == digest, kept["blocks"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} holds no annealed blocks; allowed: a new file"
        ) from None
    if not same:
        raise ValueError(
            f"{path} is of another run (weights, images, settings); allowed: a new file"
        )
    return [(part, share) for part, share in blocks]


def write_kept(path: Path | None, digest: str, blocks: Blocks) -> None:
    """Keep the blocks that are finished."""
    if path is not None:
        content = json.dumps({"run": digest, "blocks": blocks})
        write_atomically(path, content.encode())
