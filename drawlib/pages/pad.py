"""The pad: a page in which a DRAW or a GLAS looks at your drawing and redraws it.

Python packs the model; ``pad.js`` and ``web_models.js`` run it in the reader's browser.
``explorer.pad`` puts one model into a notebook's output; ``draw_a_digit`` makes the
book's page, which loads the shipped models from files beside it. Beside its weights a
model carries what the page says of it: what test images cost, and the directions along
which the page moves z.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from drawlib.bound import LatentModel
from drawlib.evaluation import check_model, mean_and_error
from drawlib.models import kind_of
from drawlib.pages import web
from drawlib.pages.embedded import LivePage, base64_of, tensor_of

__all__ = ["describe_live", "directions", "first_of_each", "pad"]

SCRIPTS = (*web.SCRIPTS[:1], "explorer_parts.js", *web.SCRIPTS[1:], "pad.js")
DIRECTIONS = 4
FEWEST = 50  # images from which directions and percentiles are worth their names


# What a model carries along


@torch.no_grad()
def directions(
    model: Any, x: Float[Tensor, "n channels height width"], count: int = DIRECTIONS
) -> tuple[Float[Tensor, "count T_times_z"], Float[Tensor, " count"]]:
    """Principal components of the posterior means of z, and their shares of variance.

    For each image the means of all steps are one row, e_t = (μ_q,t − μ_p,t) / σ_p,t,
    along the path on which every z is its posterior's mean. In these units the prior
    of each coordinate is N(0, 1) along every direction. The directions are orthonormal;
    the largest number of each is positive.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> found, shares = directions(model, torch.rand(9, 1, 28, 28).round(), 2)
        >>> found.shape, bool(shares[0] >= shares[1])
        (torch.Size([2, 24]), True)
    """
    rows = []
    for part in x.split(250):
        before, means = model.start(len(part)), []
        for state, _, _ in model.steps(part, torch.zeros_like(model.noise(len(part)))):
            q, p = model.posterior(state.h_enc), model.prior(before.h_dec)
            means.append((q.mu - p.mu) / p.log_sigma.exp())
            before = state
        rows.append(torch.stack(means, 1).flatten(1))
    centred = torch.cat(rows).double()
    centred -= centred.mean(0)
    # The images' Gram matrix is the smaller one.
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    found = (centred.T @ vectors.flip(1)[:, :count]).T
    # Where all images are alike nothing varies, and there is nothing to divide by.
    found /= found.norm(dim=1, keepdim=True).clamp(min=1e-30)
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    shares = values.flip(0)[:count] / values.sum().clamp(min=1e-30)
    return (found * largest.sign()).float(), shares.float()


@torch.no_grad()
def costs(model: Any, x: Tensor, seed: int = 0) -> Float[Tensor, " percentiles"]:
    """The percentiles 0 to 100 of −ELBO over images, one sample each, in nats.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> costs(DRAW(DRAWConfig.preset("tiny")), torch.zeros(3, 1, 28, 28)).shape
        torch.Size([101])
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [
        model.bound(part, model.noise(len(part), generator)) for part in x.split(250)
    ]
    neg_elbo = -torch.cat([bound.elbo for bound in parts]).double()
    return neg_elbo.quantile(torch.linspace(0, 1, 101, dtype=torch.float64))


def describe_live(
    model: LatentModel, x: Tensor, about: str, what: str = "test images"
) -> dict[str, Any]:
    """What the page shows of a model beside its weights.

    ``costs`` and ``directions`` only where ``x`` has at least 50 images.
    """
    if len(x) < FEWEST:
        return {"about": about}
    found, shares = directions(model, x)
    percent = ", ".join(f"{100 * share:.1f}" for share in shares.tolist())
    return {
        "costs": {
            "of": f"{len(x):,} {what}",
            "values": [round(v, 2) for v in costs(model, x, seed=0).tolist()],
        },
        "directions": base64_of(found),
        "about": f"{about} The directions: the first {len(found)} principal components "
        f"of the posterior's means of z, all steps together, of {len(x):,} {what} "
        f"({percent} % of their variance). A slider moves z along one of them, in "
        "standard deviations of the prior.",
    }


# In a notebook


def images_of(
    images: Any, shape: tuple[int, ...], likelihood: str
) -> UInt8[Tensor, "n channels height width"]:
    """Images as the model takes them, checked: bits, or 0 to 255 where it has levels.

    Example:
        >>> images_of(torch.zeros(2, 8, 9), (1, 8, 9), "bernoulli").shape
        torch.Size([2, 1, 8, 9])
    """
    given = tensor_of("images", images)
    found = given.detach().cpu()
    if found.ndim == 3 and shape[0] == 1:
        found = found[:, None]
    if found.ndim != 4 or tuple(found.shape[1:]) != shape or not len(found):
        sides = f"{shape[1]}, {shape[2]})"
        grey = f"(n, {sides} or " if shape[0] == 1 else ""
        raise ValueError(
            f"images have shape {tuple(given.shape)}; allowed: {grey}"
            f"(n, {shape[0]}, {sides}, n 1 or more"
        )
    if likelihood == "bernoulli":
        if not ((found == 0) | (found == 1)).all():
            raise ValueError(
                f"images go from {found.min().item():g} to {found.max().item():g}; "
                "allowed: bits, 0 or 1"
            )
    elif found.dtype != torch.uint8:
        raise ValueError(f"images are {found.dtype}; allowed: torch.uint8, 0 to 255")
    return found.to(torch.uint8)


def first_of_each(
    images: UInt8[Tensor, "n channels height width"],
    labels: Any,
    what: str = "picture",
    levels: int = 1,
) -> dict[str, Any]:
    """The first image of each label, at most ten, as the page takes them.

    ``levels`` is the largest value of a pixel: 1 of bits, 255 of 8-bit images.
    """
    names = [str(k + 1) for k in range(len(images))]
    if labels is not None:
        names = [str(getattr(label, "item", lambda v=label: v)()) for label in labels]
    if len(names) != len(images):
        raise ValueError(
            f"{len(names)} labels for {len(images)} images; allowed: one per image"
        )
    first: dict[str, int] = {}
    for k, label in enumerate(names):
        first.setdefault(label, k)
    chosen = sorted(first)[:10] if labels is not None else names[:10]
    return {
        "what": what,
        "shape": list(images.shape[1:]),
        "levels": levels,
        "images": [base64_of(images[first[k]]) for k in chosen],
        "labels": chosen,
    }


def texts(what: str) -> dict[str, str]:
    """The page's title and its first sentence; ``what`` the model draws is a digit, or
    a picture.

    Example:
        >>> texts("digit")["title"]
        'Draw a digit.'
    """
    return {
        "title": f"Draw a {what}.",
        "introduction": "With a mouse, a finger or the keys. The model looks at it, "
        "step by step, and draws it again.",
    }


def pad(
    model: LatentModel,
    images: Any = None,
    labels: Any = None,
    *,
    name: str = "your model",
    what: str = "picture",
) -> LivePage:
    """Draw, and watch ``model``, a DRAW or a GLAS, look at it and draw it again.

    The page of the book's "Draw a digit", for a model that was just trained: weights
    (rounded to int8, or to float16 where that costs less than 0.2 nats only so), images
    and script are in it, and it runs without the kernel.
    ``images``, (n, channels, height, width), or (n, height, width) of one channel, are
    bits, 0 or 1, or for a model of levels 8-bit, 0 to 255. ``labels`` is a list, an
    array or a tensor of n: one of each, at most ten, is offered to begin with. All
    images measure what the rounding costs, how a −ELBO compares (nats), and along which
    directions z varies; a few hundred are enough. ``what`` the page calls an image:
    "digit", say, where all of them are.

    Raises:
        TypeError: for what is neither a DRAW nor a GLAS.
        ValueError: for neither one nor three channels, a side above 64, or images of
            another shape or with other values than the model's.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> pad(DRAW(DRAWConfig.preset("tiny")))
        <pad explorer>
    """
    check_model(model)
    config: Any = model.config
    if (kind := kind_of(config)) not in web.KINDS:
        raise TypeError(f"model is of kind {kind!r}; allowed: {', '.join(web.KINDS)}")
    web.check_runs_in_a_page(model, "model")
    if web.has_letters(model):
        raise ValueError(
            "model draws letters; allowed: pictures (words() takes letters)"
        )
    shape = tuple(config.image_shape)
    levels = 1 if config.likelihood == "bernoulli" else 255
    offered: list[dict[str, Any]] = []
    x = torch.zeros(0, *shape)
    if images is not None:
        given = images_of(images, shape, config.likelihood)
        offered = [first_of_each(given, labels, f"the {what}", levels)]
        x = given.float() / levels
    inside = packed(model, x, name, what)
    return LivePage(
        "pad",
        {
            **texts(what),
            "shape": list(shape),
            "models": [{"label": name, "name": name, "json": inside}],
            "examples": offered,
        },
        files=SCRIPTS,
    )


def packed(model: LatentModel, x: Tensor, name: str, what: str) -> dict[str, Any]:
    """A model as the page takes it: in the first form that is good enough on ``x``.

    Where none is, in the last; where ``x`` is empty, in the first.
    """
    for form in web.FORMATS:
        copy = web.as_in_page(model, form)
        measured = rounding(web.as_in_page(model, None), copy, x) if len(x) else {}
        if not measured or measured["loss"] <= web.MOST_LOSS:
            break
    about = f"{name}: weights rounded to {form}."
    if measured:
        about = (
            f"{name}: −ELBO on the {len(x):,} given {what}s "
            f"{measured['quantised']:.2f} nats; rounding to {form} costs "
            f"{web.loss_of(measured)} of them."
        )
    inside = web.contents(model, name, form, measured)
    inside["live"] = describe_live(copy, x, about, what=f"given {what}s")
    return inside


@torch.no_grad()
def rounding(model: Any, copy: Any, x: Tensor) -> dict[str, Any]:
    """What rounding costs on given images, one sample each, with the same noise."""
    noise = model.noise(len(x), torch.Generator().manual_seed(0))
    shipped, quantised = (-one.bound(x, noise).elbo.double() for one in (model, copy))
    loss, error = mean_and_error(quantised - shipped)
    return {
        "protocol": "given images",
        "images": len(x),
        "shipped": round(shipped.mean().item(), 3),
        "quantised": round(quantised.mean().item(), 3),
        "loss": round(loss, 4),
        "loss_se": round(error, 4) if len(x) > 1 else None,
    }
