"""One pass of a recurrent model, step by step: what it saw, what it drew, what it paid.

Made from the states alone, outside of the step: looking on costs the training nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from drawlib.bound import Images, Noise
from drawlib.filters import Filters

__all__ = [
    "Trace",
    "Windows",
    "one_after_the_other",
    "one_at_a_time",
    "trace",
    "written_ink",
]


class Windows(NamedTuple):
    """Where filters lay at each step, in pixels from 0.

    ``sigma`` is the filters' width: σ of a Gaussian, or the scale s of a Cauchy kernel.
    """

    mu_x: Float[Tensor, "T batch patch"]
    mu_y: Float[Tensor, "T batch patch"]
    sigma: Float[Tensor, "T batch"]
    gamma: Float[Tensor, "T batch"]


@dataclass(frozen=True, eq=False)
class Trace:
    """One pass over images, step by step; windows are ``None`` without attention.

    ``patches`` holds what was read of x (first half of the channels) and of x̂;
    ``errors`` x̂_t; ``canvases`` the means after each step; ``kl`` nats ``(batch, T)``;
    ``latent`` the windows on GLAS's latent space L; ``log_likelihood`` the nats
    log D(x given c_t) of each step, for ``drawlib.stops.elbo_at_stops``.

    Example:
        >>> from drawlib import GLAS, GLASConfig
        >>> seen = GLAS(GLASConfig.preset("tiny")).trace(torch.zeros(3, 1, 28, 28))
        >>> seen.kl.shape, seen.latent.mu_x.shape, seen.read is None
        (torch.Size([3, 4]), torch.Size([4, 3, 5]), True)
    """

    images: Images
    read: Windows | None
    write: Windows | None
    latent: Windows | None
    patches: Float[Tensor, "T batch twice_channels N N"] | None
    errors: Float[Tensor, "T batch channels height width"]
    canvases: Float[Tensor, "T batch channels height width"]
    kl: Float[Tensor, "batch T"]
    log_likelihood: Float[Tensor, "batch T"] | None = None


def windows(
    place: Callable[[Any], Filters], head: nn.Module, features: Iterable[Tensor]
) -> Windows:
    """What ``place`` makes of each step's features, by the five numbers of ``head``."""
    steps = [(place(f), head(f)) for f in features]
    return Windows(
        torch.stack([filters.mu_x for filters, _ in steps]),
        torch.stack([filters.mu_y for filters, _ in steps]),
        torch.stack([(0.5 * five[:, 2]).exp() for _, five in steps]),
        torch.stack([filters.gamma for filters, _ in steps]),
    )


@torch.no_grad()
def trace(model: Any, x: Images, noise: Noise) -> Trace:
    """One pass of a recurrent model over images, made of the states of its steps.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> seen = trace(model, torch.zeros(3, 1, 28, 28), model.noise(3))
        >>> seen.canvases.shape, seen.read.mu_x.shape
        (torch.Size([4, 3, 1, 28, 28]), torch.Size([4, 3, 2]))
    """
    results = list(model.steps(x, noise))
    after = [state for state, _, _ in results]
    before = [model.start(len(x)), *after[:-1]]
    errors = [model.error_image(x, s.canvas) for s in before]
    read = write = patches = None
    if model.config.attention != "none":
        looks, draws = ([s.h_dec for s in states] for states in (before, after))
        read = windows(model.read_window, model.read_head, looks)
        write = windows(model.write_window, model.write_head, draws)
        both = [torch.cat([x, error], 1) for error in errors]
        patches = torch.stack(
            [model.read_window(h).read(b) for h, b in zip(looks, both, strict=True)]
        )
    return Trace(
        images=x,
        read=read,
        write=write,
        latent=model.latent_windows(after, noise),
        patches=patches,
        errors=torch.stack(errors),
        canvases=torch.stack([model.mean(s.canvas) for s in after]),
        kl=torch.stack([kl for _, kl, _ in results], 1),
        log_likelihood=model.log_likelihoods([s.canvas for s in after], x),
    )


def written_ink(
    seen: Trace, parts: UInt8[Tensor, "batch parts height width"]
) -> Float[Tensor, "T batch parts"]:
    r"""How much ink each step laid on each part of an image, in pixels.

    Ink of step t is what it added to the mean, max(0, σ(c_t) − σ(c_{t−1})), summed over
    the pixels that are more white than black in one part (127 is the middle) and in no
    other: where two digits overlap nobody knows whose ink it is.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> seen = DRAW(DRAWConfig.preset("tiny")).trace(torch.zeros(3, 1, 28, 28))
        >>> written_ink(seen, torch.zeros(3, 2, 28, 28, dtype=torch.uint8)).shape
        torch.Size([4, 3, 2])
    """
    before = seen.images - seen.errors  # σ(c_{t−1}), since x̂_t = x − σ(c_{t−1})
    added = (seen.canvases - before).clamp(min=0).sum(2)
    marked = parts > 127
    alone = (marked & (marked.sum(1, keepdim=True) == 1)).to(added.dtype)
    return torch.einsum("tbhw,bphw->tbp", added, alone)


def one_at_a_time(
    ink: Float[Tensor, "T batch parts"],
) -> Float[Tensor, "batch"]:
    r"""The share of each step's ink that belongs to one part, a mean over the ink.

    Σ_t max_k a_tk / Σ_t Σ_k a_tk for a_tk from ``written_ink``: 1 where every step
    works on one part alone, and one half where each lays as much on the one of two
    parts as on the other. NaN for an image without ink.

    Example:
        >>> turns = torch.tensor([[[3.0, 0.0]], [[0.0, 2.0]]])
        >>> one_at_a_time(turns).item(), one_at_a_time(torch.ones(2, 1, 2)).item()
        (1.0, 0.5)
    """
    return ink.amax(2).sum(0) / ink.sum((0, 2))


def one_after_the_other(
    ink: Float[Tensor, "T batch parts"],
) -> Float[Tensor, "batch"]:
    r"""The share of the ink that fits one change from a part to another one.

    max_τ (max_k Σ_{t ≤ τ} a_tk + max_l Σ_{t > τ} a_tl) / Σ_t Σ_k a_tk: 1 where one
    part is finished before the other is begun. It lies between the share of the part
    with most ink (no change helps) and, for two parts, ``one_at_a_time`` (as many
    changes as steps). NaN for an image without ink.

    Example:
        >>> ink = torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]], [[0.0, 4.0]]])
        >>> one_after_the_other(ink).item(), one_after_the_other(ink[[0, 2, 1]]).item()
        (1.0, 0.875)
    """
    first = torch.cat([torch.zeros_like(ink[:1]), ink.cumsum(0)])
    rest = first[-1] - first
    return (first.amax(2) + rest.amax(2)).amax(0) / ink.sum((0, 2))
