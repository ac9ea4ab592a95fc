"""Several models draw the same images: what each has made of them after each step.

DRAW in its steps, a ladder in its layers from the top down, a diffusion in its levels:
one bound, log p(x given z) − Σ_k KL_k, paid in the order in which a drawing goes.
``explorer.side_by_side`` shows it; ``side_by_side.js`` runs in the reader's browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from drawlib.bound import Images, LatentModel, Noise, check_images
from drawlib.config import of_kind
from drawlib.diffusion import Diffusion
from drawlib.ladder import LadderVAE, running_statistics
from drawlib.pages.embedded import LivePage, base64_of, eight_bits, numbers
from drawlib.recurrent import Recurrent
from drawlib.stops import elbo_at_stops

__all__ = ["Drawing", "drawing", "side_by_side"]

SCRIPTS = ("explorer_maths.js", "explorer_parts.js", "side_by_side.js")
MOST_MODELS = 5  # each has a line of its own
MOST_BYTES = 280_000  # of pixels: the whole page stays below 450 kB
Passed = tuple[list[Images], list[Tensor]]  # canvases, and the KL of each step


class Drawing(NamedTuple):
    """One pass over images in the order of a drawing, which may stop at any step.

    ``images``: the mean of p(x given z_1 … z_k), the later latents at their prior's
    mean. ``kl``: what z_k costs. ``stops``: −ELBO of the model that stops there,
    −log p(x given z_1 … z_k) + Σ_{j≤k} KL_j; nats. The last is the model's own −ELBO.
    """

    images: Float[Tensor, "steps batch channels height width"]
    kl: Float[Tensor, "batch steps"]
    stops: Float[Tensor, "batch steps"]


@torch.no_grad()
def drawing(model: LatentModel, x: Images, noise: Noise) -> Drawing:
    """What ``model`` makes of images after each of its steps, layers or levels.

    Raises:
        TypeError: for a model of another kind.

    Example:
        >>> from drawlib import LadderConfig
        >>> model = LadderVAE(LadderConfig.preset("tiny"))
        >>> drawing(model, torch.zeros(3, 1, 28, 28), model.noise(3)).stops.shape
        torch.Size([3, 2])
    """
    with running_statistics(model):
        if isinstance(model, Recurrent):
            canvases, kl = of_recurrent(model, x, noise)
        elif isinstance(model, LadderVAE):
            canvases, kl = of_ladder(model, x, noise)
        elif isinstance(model, Diffusion):
            canvases, kl = of_diffusion(model, x, noise)
        else:
            raise TypeError(
                f"{type(model).__name__} draws in one step; allowed: DRAW, GLAS, "
                "ConvDRAW, LadderVAE, Diffusion"
            )
        likelihood = model.likelihood
        log_likelihood = torch.stack([likelihood(c, x) for c in canvases], 1)
        images = torch.stack([likelihood.mean(c) for c in canvases])
    paid = torch.stack(kl, 1)
    return Drawing(images, paid, -elbo_at_stops(log_likelihood, paid))


def of_recurrent(model: Recurrent, x: Images, noise: Noise) -> Passed:
    """DRAW, GLAS, ConvDRAW: the canvas grows."""
    results = list(model.steps(x, noise))
    return [model.output(s.canvas) for s, _, _ in results], [kl for _, kl, _ in results]


def of_ladder(model: LadderVAE, x: Images, noise: Noise) -> Passed:
    """A ladder: layers from the top down, those below at their prior's mean."""
    rungs, canvases = model.infer(x, noise)[::-1], []
    for layers_below, rung in zip(reversed(range(len(rungs))), rungs, strict=True):
        z = rung.z
        for i in reversed(range(layers_below)):
            z = model.prior(i, z).mu
        canvases.append(model.decode(z))
    return canvases, [q.kl(p) for _, q, p in rungs]


def of_diffusion(model: Diffusion, x: Images, noise: Noise) -> Passed:
    """A diffusion: one chain from z_T to z_0, at each level the network's guess."""
    kl, _, canvases = zip(*model.steps(x, noise), strict=True)
    return list(canvases), list(kl)


def side_by_side(
    models: Mapping[str, LatentModel],
    x: Images,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    introduction: str | None = None,
) -> LivePage:
    """Watch several models draw the same images, with one slider for all of them.

    ``models`` maps what the page calls them to one to five DRAW, GLAS, ConvDRAW,
    LadderVAE or Diffusion. DRAW's steps, a ladder's layers and a diffusion's levels are
    spread over the slider, from the first latent to the last; what the later ones would
    say is left at its mean. Each tells the KL of its step and −ELBO if it stopped there
    (``Drawing``), in nats. ``seed`` makes the noise.

    Raises:
        TypeError: for a model that draws in one step.
        ValueError: for no model or more than five, images of another shape than a
            model's, or more than fit into a page.

    Example:
        >>> from drawlib import DRAW, DRAWConfig, LadderConfig
        >>> two = {"DRAW": DRAW(DRAWConfig.preset("tiny")),
        ...        "ladder": LadderVAE(LadderConfig.preset("tiny"))}
        >>> side_by_side(two, torch.zeros(1, 1, 28, 28))
        <side-by-side explorer>
    """
    of_kind("models", models, Mapping, "a dictionary of models by name")
    if not 1 <= len(models) <= MOST_MODELS:
        raise ValueError(f"{len(models)} models; allowed: 1 to {MOST_MODELS}")
    named = [f"image {k + 1}" for k in range(len(x))] if labels is None else labels
    if len(named) != len(x) or not len(x):
        raise ValueError(
            f"{len(named)} labels for {len(x)} images; allowed: one per image"
        )
    parts = []
    for label, model in models.items():
        check_images(x, model.image_shape)
        noise = model.noise(len(x), torch.Generator().manual_seed(seed))
        made = drawing(model, x.to(next(model.parameters())), noise)
        parts.append(
            {
                "label": label,
                "kl": numbers(made.kl, 4),
                "stops": numbers(made.stops, 4),
                "images": base64_of(eight_bits(made.images)),
            }
        )
    pixels = sum(len(part["kl"][0]) for part in parts) * x.numel()
    if pixels > MOST_BYTES:
        raise ValueError(
            f"{len(x)} images in all steps are {pixels:,} bytes; "
            f"allowed: at most {MOST_BYTES:,}, take fewer images"
        )
    return LivePage(
        "side-by-side",
        {
            "introduction": introduction
            or "All see the same image, and one slider leads through their drawings. "
            "Read what each step costs, and what it would be worth to stop there.",
            "shape": list(x.shape[1:]),
            "labels": [str(label) for label in named],
            "images": base64_of(eight_bits(x)),
            "models": parts,
        },
        files=SCRIPTS,
    )
