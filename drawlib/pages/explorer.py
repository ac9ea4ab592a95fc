"""Live pages that need no kernel: filters, a bound, a merge, a player, a pad.

Each function returns a page that a notebook shows: Python prepares its data, and the
reader's browser runs it. It carries its data and its script
(`explorer_maths.js`, `explorer_parts.js`, then `explorer.js` or what `pad` names), and
so works in Jupyter, in the static book and from a file, without a request to anywhere.
Without JavaScript a sentence stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from drawlib.bound import LatentModel
from drawlib.config import of_kind, plain
from drawlib.pages import animation as animations
from drawlib.pages.embedded import (
    LivePage,
    base64_of,
    eight_bits,
    numbers,
    tensor_of,
)
from drawlib.pages.pad import pad
from drawlib.pages.side_by_side import side_by_side
from drawlib.pages.words import words
from drawlib.stops import elbo_at_stops
from drawlib.trace import Trace, Windows

__all__ = [
    "LivePage",
    "animation",
    "elbo_1d",
    "filterbank_explorer",
    "merge_gaussians",
    "pad",
    "player",
    "side_by_side",
    "words",
]

MOST_DIGITS, MOST_SIDE = 12, 64
MOST_BYTES = 1_000_000  # of a player's pixels: a notebook stays readable and below 2 MB
# Wide and fine enough that the trapezoid rule is exact to 1e-6 nats for every q that
# the sliders can reach: 6 standard deviations to both ends, 5 points in the smallest.
GRID = (-12.0, 12.0, 1201)
# A decoder with one latent and three pixels: log-odds w z + b, of which two are ink.
WEIGHTS, BIASES, PIXELS = (3.0, 2.0, -4.0), (-1.0, 0.5, 3.0), (1.0, 1.0, 0.0)


def filterbank_explorer(digits: Any, labels: Sequence[str] | None = None) -> LivePage:
    """Move DRAW's filters over an image, and switch the public mistakes on.

    ``digits`` are a few 8-bit images, (n, height, width) or (n, 1, height, width): an
    array or a tensor of uint8, n at most 12, sides at most 64; 0 to 255, or bits, where
    1 is ink. DRAW paper, eqs. (19) to (29); the kernel, the grid and the normalisation
    are those of ``filterbank``.

    Raises:
        TypeError: for images that are not uint8.
        ValueError: for another shape, or labels that are not one per image.

    Example:
        >>> filterbank_explorer(torch.zeros(2, 28, 28, dtype=torch.uint8))
        <filterbank explorer>
    """
    images = tensor_of("digits", digits)
    if images.dtype != torch.uint8:
        raise TypeError(f"digits are {images.dtype}; allowed: torch.uint8, 0 to 255")
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    few = images.ndim == 3 and 1 <= len(images) <= MOST_DIGITS
    if not few or not 1 <= min(images.shape) <= max(images.shape[1:]) <= MOST_SIDE:
        raise ValueError(
            f"digits have shape {tuple(images.shape)}; allowed: (n, height, width) "
            f"with n 1 to {MOST_DIGITS} and sides 1 to {MOST_SIDE}"
        )
    if images.max() <= 1:
        images = images * 255
    if labels is None:
        labels = [f"digit {k + 1}" for k in range(len(images))]
    if len(labels) != len(images):
        raise ValueError(
            f"{len(labels)} labels for {len(images)} digits; allowed: one per digit"
        )
    return LivePage(
        "filterbank",
        {
            "introduction": "Five numbers and N place a grid of filters on the image. "
            "Move them, and see what is read and what is written back.",
            "size": list(images.shape[1:]),
            "images": [base64_of(image) for image in images],
            "labels": [str(label) for label in labels],
        },
    )


def elbo_1d(
    log_likelihood: Callable[[Tensor], Tensor] | None = None,
    introduction: str | None = None,
) -> LivePage:
    """Watch the ELBO and KL(q‖posterior) add up to log p(x), in one dimension.

    log p(x) = ELBO + KL(q‖posterior), in nats, with p(z) = N(0, 1) and a Gaussian q.
    ``log_likelihood`` maps z ``(points,)``, float64, to log p(x|z) of the one x that
    was seen; left out, x are three binary pixels whose log-odds are affine in z. The
    values are sent along and integrated on the page, by the trapezoid rule over
    z = −12 … 12.

    Raises:
        ValueError: for values of another shape, or not finite.

    Example:
        >>> elbo_1d(lambda z: -0.5 * ((1 - z**2) / 0.5) ** 2)
        <elbo explorer>
    """
    low, high, points = GRID
    z = torch.linspace(low, high, points, dtype=torch.float64)
    values = tensor_of("log_likelihood(z)", (log_likelihood or three_pixels)(z))
    values = values.detach().double()
    if values.shape != z.shape or not values.isfinite().all():
        raise ValueError(
            f"log_likelihood gave shape {tuple(values.shape)}, finite: "
            f"{bool(values.isfinite().all())}; allowed: {tuple(z.shape)}, all finite"
        )
    return LivePage(
        "elbo",
        {
            "introduction": introduction
            or "One latent z decides three pixels, and one x was seen. Move q: bring "
            "it as near to the posterior as a Gaussian can come.",
            "grid": [low, high, points],
            "log_likelihood": base64_of(values),
        },
    )


def three_pixels(z: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """log p(x|z) of the bits 1, 1, 0: what ``elbo_1d`` takes where none is given.

    log p(x|z) = Σ_d log Bern(x_d; sigmoid(w_d z + b_d)), in nats.

    Example:
        >>> three_pixels(torch.zeros(1))
        tensor([-4.8359])
    """
    pixels = zip(WEIGHTS, BIASES, PIXELS, strict=True)
    terms = [logsigmoid((2 * x - 1) * (w * z + b)) for w, b, x in pixels]
    return torch.stack(terms).sum(0)


def merge_gaussians() -> LivePage:
    """Move two Gaussians and see their normalised product: the Ladder VAE's posterior.

    σ_q² = 1 / (σ̂⁻² + σ_p⁻²), μ_q = σ_q² (μ̂ σ̂⁻² + μ_p σ_p⁻²): Sønderby et al. 2016,
    eqs. 17 to 19, as in ``drawlib.gaussian.merge``.

    Example:
        >>> merge_gaussians()
        <merge explorer>
    """
    introduction = (
        "What the data say, times what the layer above expects, is what both "
        "together say. Each counts by its precision, 1/σ²."
    )
    return LivePage("merge", {"introduction": introduction})


def player(
    trace: Trace,
    *,
    images: Sequence[int] = (0,),
    memory: Float[Tensor, "rows columns"] | None = None,
    introduction: str | None = None,
    most: int = MOST_BYTES,
) -> LivePage:
    """Play a trained DRAW's or GLAS's steps: windows, canvases, and the KL of each.

    ``images`` are positions in the trace. With ``memory``, GLAS's L, its windows are
    shown on it too, from its smallest value (white) to its largest. Each step tells
    −ELBO if the drawing stopped there, −log D(x given c_t) + Σ_{s≤t} KL_s, where the
    trace holds the first part. Pixels are sent as 8 bits, windows to a hundredth of a
    pixel, KL and −ELBO in nats; ``most`` bytes of pixels.

    Raises:
        ValueError: for no image, one that the trace does not have, a memory that is
            no matrix, or more pixels than ``most``.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> player(model.trace(torch.zeros(3, 1, 28, 28)), images=(0, 2))
        <player explorer>
    """
    of_kind("trace", trace, Trace, "a Trace, such as model.trace(x) gives")
    T, n, *shape = trace.canvases.shape
    chosen = list(plain("images", images, tuple[int, ...]))
    if not chosen or not all(0 <= k < n for k in chosen):
        raise ValueError(f"images are {chosen}; allowed: one or more of 0 to {n - 1}")
    pixels = (T + 1) * len(chosen) * math.prod(shape)
    if pixels > most:
        raise ValueError(
            f"{len(chosen)} images in {T} steps are {pixels:,} bytes; "
            f"allowed: at most {most:,}, take fewer images"
        )
    patches = None
    if trace.patches is not None and trace.read is not None:
        # Divided by γ, a patch of an image in [0, 1] is in [0, 1] too.
        of_x = trace.patches[:, chosen, : shape[0]]
        patches = of_x / trace.read.gamma[:, chosen, None, None, None]
    return LivePage(
        "player",
        {
            "introduction": introduction
            or "Move through the steps, by hand or with Play, and see where the model "
            "reads, what it writes, and how many nats each step costs.",
            "T": T,
            "n": len(chosen),
            "shape": shape,
            "kl": numbers(trace.kl[chosen], 8),
            "stops": priced(trace, chosen),
            "images": base64_of(eight_bits(trace.images[chosen])),
            "canvases": base64_of(eight_bits(trace.canvases[:, chosen])),
            "patches": None if patches is None else base64_of(eight_bits(patches)),
            "read": placed(trace.read, chosen),
            "write": placed(trace.write, chosen),
            "latent": placed(trace.latent, chosen),
            "memory": remembered(memory),
        },
    )


def animation(
    source: Trace | LatentModel,
    n: int = 4,
    *,
    seed: int = 0,
    memory: Float[Tensor, "rows columns"] | None = None,
    frames: int | None = None,
    scale: int | None = None,
    fps: int = 10,
    name: str = "the model",
) -> animations.Animation:
    """Show a DRAW or a GLAS at work, as a GIF in the page with its description.

    ``source`` is a trace, whose images are seen and drawn again, or a model, which then
    dreams n images. ``memory`` is as for ``player``; ``frames`` of the steps are shown,
    left out all, ``fps`` a second; ``scale`` enlarges. ``animate`` on the command line
    writes the same into a file.

    Raises:
        ValueError: for a model without steps, numbers out of range, or a GIF of more
            than 1 MB.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> animation(model.trace(torch.zeros(2, 1, 28, 28)), fps=2)
        <animation of 4 steps>
        >>> animation(model, 3).alt[:39]
        'The model draws 3 images of its own in '
    """
    look: dict[str, Any] = {"frames": frames, "scale": scale, "fps": fps, "name": name}
    if isinstance(source, Trace):
        made = animations.redrawing(source, memory=memory, **look)
    else:
        made = animations.dreaming(source, n, seed=seed, **look)
    if (size := len(made.gif())) > MOST_BYTES:
        raise ValueError(
            f"the GIF has {size:,} bytes; allowed: at most {MOST_BYTES:,}, take fewer "
            "images or frames, or a smaller scale"
        )
    return made


def remembered(memory: Tensor | None) -> dict[str, Any] | None:
    """The latent space as an 8-bit image."""
    if memory is None:
        return None
    if memory.ndim != 2:
        raise ValueError(f"memory has shape {tuple(memory.shape)}; allowed: (M, M)")
    shades = animations.shades_of(memory.detach().double())
    return {"size": list(memory.shape), "values": base64_of(eight_bits(shades))}


def placed(windows: Windows | None, chosen: list[int]) -> dict[str, Any] | None:
    """Windows of the chosen images, one list per step."""
    if windows is None:
        return None
    named = windows._asdict()
    return {name: numbers(values[:, chosen], 2) for name, values in named.items()}


def priced(trace: Trace, chosen: list[int]) -> list[Any] | None:
    """−ELBO of the chosen images at each stop, where the trace tells log D."""
    if trace.log_likelihood is None:
        return None
    return numbers(-elbo_at_stops(trace.log_likelihood, trace.kl)[chosen], 4)
