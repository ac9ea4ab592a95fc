"""Evaluation: −ELBO, its parts and the importance-weighted bound, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drawlib.bound import (
    Images,
    LatentModel,
    check_images,
    check_weights,
    evaluation_mode,
    images_for,
)
from drawlib.config import of_kind, whole_number
from drawlib.data.sets import Data, stratified_subset
from drawlib.likelihood import (
    Likelihood,
    bits_per_dimension,
    check_support,
    with_bits,
)
from drawlib.machine.distributed import ALONE, Team
from drawlib.machine.progress import progress_bar
from drawlib.machine.settings import for_measuring, in_main_memory

__all__ = ["Evaluation", "check_likelihood", "check_seed", "estimate", "evaluate"]


DRAWN = {"by class": "by class", "plain": "without regard to class"}


@dataclass(frozen=True)
class Evaluation:
    """Bounds on −log p(x) in nats (lower is better), averaged over images.

    Each ``*_se`` is a standard error for images in general: how far the mean over
    other images of the same kind may lie from this one. Over a whole split it is the
    standard deviation over images divided by √images, over a subset that of
    ``subset_errors``.

    Attributes:
        neg_elbo: −ELBO, averaged over ``samples`` posterior draws per image.
        reconstruction: −log p(x given z), the first part of ``neg_elbo``.
        kl: the second part, the sum of ``kl_groups`` (one per layer or step).
        neg_iw: the importance-weighted bound −log p̂_K with K = ``samples``.
        ess: effective sample size (Σw)²/Σw² of those K weights, mean over images.
        whole_neg_elbo: −ELBO of every image of the split, one draw per image. This and
            what follows is None unless a subset was weighted.
        whole_neg_iw: −log p̂_K of every image of the split, by the difference
            estimator (``whole_split``). This is the number to report.
        whole_neg_iw_split_se: its error for this split: what weighting the other
            images too could change.
        draw: how a subset was drawn, ``by class`` where labels are known or ``plain``;
            None for a whole split. Records that do not say it are older: their subsets
            of mnist-fixed are plain draws, those of other data are drawn by class.
        dimensions: pixels times channels of 8-bit images, whose bounds are given in
            bits per dimension too; None for images of bits.
        noun: ``word`` where each image is one; None for pictures.

    Example:
        >>> from drawlib import records
        >>> measured = records("mnist-dynamic", "vae-source")[0]["bounds"]["test"]
        >>> sorted(measured)[:4]
        ['ess', 'images', 'kl', 'kl_groups']
    """

    protocol: str
    split: str
    images: int
    samples: int
    seed: int
    neg_elbo: float
    neg_elbo_se: float
    reconstruction: float
    reconstruction_se: float
    kl: float
    kl_se: float
    kl_groups: tuple[float, ...]
    neg_iw: float
    neg_iw_se: float
    ess: float
    whole_neg_elbo: float | None = None
    whole_neg_elbo_se: float | None = None
    whole_neg_iw: float | None = None
    whole_neg_iw_se: float | None = None
    whole_neg_iw_split_se: float | None = None
    draw: str | None = None
    dimensions: int | None = None
    noun: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without what was not measured.

        Bounds of 8-bit images stand there in bits per dimension too, under
        ``neg_elbo_bits`` and the like.
        """
        values = {**asdict(self), "kl_groups": list(self.kl_groups)}
        if self.dimensions is not None:
            for name in ("neg_elbo", "neg_iw", "whole_neg_elbo", "whole_neg_iw"):
                if (nats := values[name]) is not None:
                    bits = bits_per_dimension(nats, self.dimensions)
                    values[f"{name}_bits"] = bits
        return {key: value for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        one = self.images == 1  # a single image has no standard error
        noun = self.noun or "image"

        def told(nats: float, error: float | None, unit: str = "") -> str:
            text = f"{nats:.2f}" + ("" if one else f" ± {error:.2f}") + unit
            return with_bits(text, nats, self.dimensions)

        drawn = f", drawn {DRAWN[self.draw]}" if self.draw else ""
        text = (
            f"{self.protocol} {self.split}, {counted(self.images, noun)}"
            f"{drawn}, "
            f"K {self.samples}: −ELBO {told(self.neg_elbo, self.neg_elbo_se, ' nats')} "
            f"(reconstruction {self.reconstruction:.2f} + KL {self.kl:.2f}), "
            f"importance-weighted {told(self.neg_iw, self.neg_iw_se)}"
        )
        if self.whole_neg_elbo is None or self.whole_neg_iw is None or one:
            return text
        iw = told(self.whole_neg_iw, self.whole_neg_iw_split_se, " for this split")
        return (
            f"{text}; all {noun}s of the split: "
            f"−ELBO {told(self.whole_neg_elbo, self.whole_neg_elbo_se)}, "
            f"importance-weighted by the difference {iw}, "
            f"± {self.whole_neg_iw_se:.2f} for {noun}s in general"
        )


def noun_of(data: Data) -> str:
    """What an image of these data is called: a word where its places are letters.

    Example:
        >>> noun_of(Data.from_arrays(torch.zeros(9, 4, 4, dtype=torch.uint8)))
        'image'
    """
    return "word" if data.likelihood == "categorical" else "image"


def counted(n: int, noun: str) -> str:
    """So many of them.

    Example:
        >>> counted(1, "word"), counted(0, "image")
        ('1 word', '0 images')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"


@torch.no_grad()
@in_main_memory()
def estimate(
    model: LatentModel,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    chunk: int = 2000,
) -> dict[str, Tensor]:
    r"""Per-image estimates from K posterior samples, in nats.

    −ELBO is the mean over the K samples of −log p(x given z) + Σ KL;
    the importance-weighted bound is log p̂_K(x) = logsumexp_k log w_k − log K
    (Burda et al. 2016, eq. 8). At most ``chunk`` (image, sample) pairs are in memory
    at once, whatever K is (or one sample of each image, where there are more images).

    Returns:
        float64 tensors over images, in main memory, since not every GPU has float64:
        ``reconstruction``, ``kl`` (images, groups), ``log_iw`` (log p̂_K) and ``ess``.

    Raises:
        TypeError, ValueError: for images as ``images_to_measure``, and for K or a chunk
            below 1.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny")).eval()
        >>> g = torch.Generator().manual_seed(0)
        >>> estimate(model, torch.zeros(2, 1, 28, 28), 8, g)["log_iw"].shape
        torch.Size([2])
    """
    samples = whole_number("samples (K)", samples, lowest=1)
    chunk, x = whole_number("chunk", chunk, lowest=1), images_to_measure(model, x)
    n = len(x)
    reconstruction = torch.zeros(n, dtype=torch.float64)
    kl = torch.zeros(n, 1, dtype=torch.float64)
    log_sum = torch.full((n,), -math.inf, dtype=torch.float64)
    log_sum_squares = log_sum.clone()
    for k in passes(n, samples, chunk):
        repeated = x.repeat_interleave(k, dim=0)
        bound = model.bound(repeated, model.noise(n * k, generator))
        reconstruction -= bound.log_likelihood.cpu().double().view(n, k).sum(1)
        kl = kl + bound.kl.cpu().double().view(n, k, -1).sum(1)
        log_w = bound.log_weight.cpu().double().view(n, k)
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(1))
        log_sum_squares = torch.logaddexp(log_sum_squares, (2 * log_w).logsumexp(1))
    return {
        "reconstruction": reconstruction / samples,
        "kl": kl / samples,
        "log_iw": log_sum - math.log(samples),
        "ess": (2 * log_sum - log_sum_squares).exp(),
    }


def passes(n: int, samples: int, chunk: int) -> list[int]:
    """How many samples of each of n images every pass takes.

    Example:
        >>> passes(4, 5, chunk=8)
        [2, 2, 1]
    """
    at_once = max(1, chunk // n)
    return [min(at_once, samples - first) for first in range(0, samples, at_once)]


def images_to_measure(model: LatentModel, x: Any) -> Images:
    """Images as ``images_for``, which a likelihood of the course can have drawn.

    A model with another one, or with a bound of its own, may take any finite values.

    Raises:
        TypeError, ValueError: as ``images_for`` and ``check_support``.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> images_to_measure(model, torch.full((1, 1, 28, 28), 2.0))
        Traceback (most recent call last):
        ValueError: images lie in [2, 2]; allowed: finite values in [0, 1]
    """
    of = getattr(model, "likelihood", None)
    x = images_for(model, x, unit=isinstance(of, Likelihood))
    check_support(of, x)
    return x


def check_model(model: Any) -> None:
    """Refuse what has no bound to measure, and weights of half precision.

    Raises:
        TypeError: for a name, a tensor, a class, a model inside of another module, or a
            module without a bound, such as a classifier.
        ValueError: as ``check_weights`` and ``check_values``.

    Example:
        >>> check_model("mnist-fixed/draw-attention-t16-0")
        Traceback (most recent call last):
        TypeError: model is a str; allowed: a model, such as load_pretrained gives
    """
    kind = "class" if isinstance(model, type) else type(model).__name__
    if not isinstance(model, nn.Module) or not hasattr(model, "image_shape"):
        inside = hasattr(getattr(model, "module", None), "image_shape")
        allowed = "its .module" if inside else "a model, such as load_pretrained gives"
        raise TypeError(f"model is a {kind}; allowed: {allowed}")
    if not hasattr(model, "bound"):
        raise TypeError(
            f"model is a {kind}, which has no bound; allowed: a model with one, or a "
            "fit with a loss of its own"
        )
    check_values(model)
    check_weights(model)


def check_values(model: nn.Module) -> None:
    """Refuse a model of which nothing has a value.

    Raises:
        ValueError: for no weights at all, as where they were quantised, and for those
            on the device meta.
    """
    name, weights = type(model).__name__, list(model.parameters())
    if not weights:
        raise ValueError(f"{name} has no weights that could be trained or measured")
    if any(weight.is_meta for weight in weights):
        raise ValueError(
            f"{name} was built on the device meta, so its weights have no values; "
            "build it on another"
        )


def check_kinds(model: Any, data: Any) -> None:
    """Refuse what is no model, as ``check_model``, or no data set.

    Raises:
        TypeError: for a name or a tensor in place of data, and as ``check_model``.
        ValueError: as ``check_model``.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> check_kinds(VAE(VAEConfig.preset("tiny")), "mnist-fixed")
        Traceback (most recent call last):
        TypeError: data is a str; allowed: a data set, such as load_data gives
    """
    check_model(model)
    of_kind("data", data, Data, "a data set, such as load_data gives")


def check_likelihood(model: Any, data: Data, *splits: str) -> None:
    """Refuse data that the model's likelihood is none for; every image is looked at.

    Bernoulli's formula on grey values is no likelihood, and masses of 256 levels on
    bits are another number than the tables' (chapter 1).

    Raises:
        TypeError: as ``check_kinds``.
        ValueError: where the likelihood is not the protocol's, as ``Data.check`` and as
            ``check_kinds``.
    """
    check_kinds(model, data)
    name = getattr(getattr(model, "config", None), "likelihood", None)
    if name is not None and name != data.likelihood:
        raise ValueError(
            f"the model's likelihood is {name!r}; allowed on {data.name}: "
            f"{data.likelihood!r}"
        )
    data.check(*splits, likelihood=name)


@in_main_memory()
def chosen(
    model: LatentModel, data: Data, split: str, images: int, seed: int
) -> Tensor:
    """The images that ``evaluate`` takes of a split for this seed, as bits or levels.

    Raises:
        ValueError: as ``evaluate``.
    """
    check_likelihood(model, data, split)
    part, seed = data.split(split), check_seed(seed)
    index = stratified_subset(part, whole_number("images", images), seed)
    (x,) = blocks_of(model, data, split, index, len(index), seed)
    return x


def blocks_of(
    model: nn.Module, data: Data, split: str, index: Tensor, size: int, seed: int
) -> Iterator[Tensor]:
    """These images of a split, ``size`` at a time, as the model takes them.

    The grey levels of a dynamic training split are binarised from the seed.
    """
    images, weight = data.split(split).images, next(model.parameters())
    bits = torch.Generator().manual_seed(seed)
    for block in index.split(size):
        levels = images[block.to(images.device)]
        yield data.binarise(levels, bits, split=split).to(weight)


def check_seed(seed: int) -> int:
    """A seed as a plain number; refuse one that not every generator tells apart.

    Raises:
        ValueError: for a negative one, or one of more than 32 bits. Torch knows no
            more of it on the CPU: 2**32 would draw what 0 draws.
    """
    return whole_number("seed", seed, below=2**32)


@in_main_memory()
def evaluate(
    model: LatentModel,
    data: Data,
    split: str = "test",
    *,
    samples: int,
    images: int | None = None,
    whole: bool = True,
    seed: int = 0,
    chunk: int = 2000,
    progress: bool = False,
    team: Team = ALONE,
) -> Evaluation:
    """Bounds of ``model`` on a split, with their standard errors over images.

    ``samples`` is K. ``images`` takes a seeded subset, stratified by class where the
    labels are known; left out, every image of the split counts. The model is put into
    evaluation mode and back. The same seed gives the same number.

    A subset may be easier or harder than its split, and every model that is measured
    on it has the same luck. So where a subset is weighted (K > 1), one sample of every
    image of the split is evaluated too, and the bound of the whole split comes from
    ``whole_split``. ``whole=False`` saves that pass.

    Under ``torchrun`` the processes of ``team`` share the blocks of images out, and
    each ends with the whole result: block by block the noise and the arithmetic are
    those of a single process, and so is every digit. All of them must call this.

    Raises:
        ValueError: for K or a chunk below 1, a seed as ``check_seed`` has it, an
            unknown or empty split, more images than there are, images of another shape
            than the model's, and as ``check_likelihood``.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> data = Data.from_arrays(torch.zeros(40, 28, 28, dtype=torch.bool))
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> result = evaluate(model, data, "test", samples=3)
        >>> result.images, result.neg_elbo > 300
        (4, True)
    """
    samples, seed = whole_number("samples (K)", samples, lowest=1), check_seed(seed)
    chunk = whole_number("chunk", chunk, lowest=1)
    check_likelihood(model, data, split)
    part = data.split(split)
    index = everything = torch.arange(len(part))
    if images is not None:
        index = stratified_subset(part, whole_number("images", images), seed)
    labels = None if part.labels is None else part.labels.cpu()[index]
    draw = None
    if len(index) < len(part):
        draw = "plain" if labels is None else "by class"

    def measure(index: Tensor, samples: int) -> dict[str, Tensor]:
        return per_image(
            model, data, split, index, samples, seed, chunk, progress, team
        )

    values = measure(index, samples)
    kl, iw = values["kl"].sum(1), -values["log_iw"]
    reconstruction = values["reconstruction"]
    elbo = reconstruction + kl
    terms = {"neg_elbo": elbo, "reconstruction": reconstruction, "kl": kl, "neg_iw": iw}
    means = {name: term.mean().item() for name, term in terms.items()}
    errors = {
        f"{name}_se": error_in_general(term, labels, len(part))
        for name, term in terms.items()
    }
    of_whole: dict[str, float] = {}
    if whole and samples > 1 and len(index) < len(part):
        one = measure(everything, 1)
        all_elbo = one["reconstruction"] + one["kl"].sum(1)
        noise = (all_elbo[index] - elbo).square().mean().item() / (1 + 1 / samples)
        of_whole = whole_split(all_elbo, elbo, iw, labels, noise)
    return Evaluation(
        protocol=data.name,
        split=split,
        images=len(index),
        samples=samples,
        seed=seed,
        kl_groups=tuple(values["kl"].mean(0).tolist()),
        ess=values["ess"].mean().item(),
        draw=draw,
        dimensions=data.dimensions,
        noun=None if noun_of(data) == "image" else noun_of(data),
        **means,
        **errors,
        **of_whole,
    )


def per_image(
    model: LatentModel,
    data: Data,
    split: str,
    index: Tensor,
    samples: int,
    seed: int = 0,
    chunk: int = 2000,
    progress: bool = False,
    team: Team = ALONE,
) -> dict[str, Tensor]:
    """What ``estimate`` says of these images of a split, block by block.

    The noise is that of the seed; so are the bits of grey levels.
    """
    weight = next(model.parameters())
    generator = torch.Generator(weight.device).manual_seed(seed)
    (first,) = blocks_of(model, data, split, torch.arange(1), 1, seed)
    check_images(first, model.image_shape)
    mine: dict[int, dict[str, Tensor]] = {}
    per_block = max(1, min(chunk // samples, 500))
    count = math.ceil(len(index) / per_block)
    blocks = blocks_of(model, data, split, index, per_block, seed)
    bar = progress_bar(
        blocks, "evaluate", total=count, disable=not progress, leave=False
    )
    with evaluation_mode(model):
        for number, x in enumerate(bar):
            if number % team.size != team.rank:
                # The noise of another's block is drawn and dropped: what follows is
                # then the noise that a single process draws.
                for k in passes(len(x), samples, chunk):
                    model.noise(len(x) * k, generator)
                continue
            with for_measuring(weight.device, weight.dtype):
                mine[number] = estimate(model, x, samples, generator, chunk)
    rows = {k: row for part in team.gather(mine) for k, row in part.items()}
    return {name: torch.cat([rows[k][name] for k in range(count)]) for name in rows[0]}


def whole_split(
    all_elbo: Tensor, elbo: Tensor, iw: Tensor, labels: Tensor | None, noise: float
) -> dict[str, float]:
    r"""−L_K of a whole split, from −ELBO of all of it and both bounds of a subset.

    The difference estimator of survey sampling: −L_K(all) ≈ −ELBO(all) −
    [−ELBO(subset) − (−L_K(subset))]. The gap between the two bounds varies far less
    from image to image than either, so the luck of the subset cancels.

    Args:
        all_elbo: −ELBO of every image of the split, one sample per image; nats.
        elbo, iw: −ELBO and −log p̂_K of the subset.
        labels: of the subset, if it was stratified by them.
        noise: the variance over z of one entry of ``all_elbo``; nats².

    Returns:
        The fields ``whole_…`` of ``Evaluation``. The error for this split is that of
        the mean gap, with that of z in −ELBO(all); the error for images in general
        adds that of −ELBO(all), for the images that the split itself was drawn from.

    Example:
        >>> elbo = torch.tensor([80.0, 100.0, 70.0, 110.0])
        >>> found = whole_split(elbo, elbo[:2], elbo[:2] - torch.tensor([3.0, 5.0]),
        ...     None, noise=0.0)
        >>> found["whole_neg_elbo"], found["whole_neg_iw"]
        (90.0, 86.0)
        >>> round(found["whole_neg_iw_split_se"], 2)
        0.71
    """
    neg_elbo, neg_elbo_se = mean_and_error(all_elbo)
    gap = elbo - iw
    of_gap = subset_errors(gap, labels, len(all_elbo))[1]
    return {
        "whole_neg_elbo": neg_elbo,
        "whole_neg_elbo_se": neg_elbo_se,
        "whole_neg_iw": neg_elbo - gap.mean().item(),
        # all_elbo_se holds the noise of z already.
        "whole_neg_iw_se": math.hypot(neg_elbo_se, of_gap),
        "whole_neg_iw_split_se": math.sqrt(of_gap**2 + noise / len(all_elbo)),
    }


def subset_errors(
    values: Tensor, labels: Tensor | None, total: int
) -> tuple[float, float]:
    r"""Standard errors of the mean over n of ``total`` images, drawn by class.

    With n_h images of class h, W_h = n_h/n, and s_h² their variance,

    - for images in general: √(Σ W_h s_h² / n + Σ W_h (m_h − m)² / total), since the
      subset has the classes in the shares of its split, whose own classes were drawn;
    - for this split: √((1 − n/total) Σ W_h s_h² / n), the error of stratified
      sampling without replacement (Cochran 1977, section 5.6).

    Without labels there is one class. Classes with one image are taken together with
    a neighbour, as their variance is not known. NaN for a single image.

    Example:
        >>> values, labels = torch.tensor([1.0, 3, 11, 13]), torch.tensor([0, 0, 1, 1])
        >>> [round(e, 3) for e in subset_errors(values, labels, 100)]
        [0.866, 0.693]
        >>> [round(e, 3) for e in subset_errors(values, None, 100)]
        [2.944, 2.884]
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    groups = strata(torch.zeros(n) if labels is None else labels)
    share = torch.tensor([len(g) / n for g in groups], dtype=torch.float64)
    inside = torch.stack([values[g].double().var() for g in groups])
    means = torch.stack([values[g].double().mean() for g in groups])
    within = (share * inside).sum().item() / n
    between = (share * (means - values.double().mean()) ** 2).sum().item() / total
    return math.sqrt(within + between), math.sqrt((1 - n / total) * within)


def error_in_general(values: Tensor, labels: Tensor | None, total: int) -> float:
    """The standard error of a mean over a split, or over some of its ``total`` images.

    Example:
        >>> error_in_general(torch.tensor([1.0, 3.0]), None, 2)
        1.0
    """
    if len(values) == total:
        return mean_and_error(values)[1]
    return subset_errors(values, labels, total)[0]


def strata(labels: Tensor) -> list[Tensor]:
    """Positions of each class, in groups of two or more wherever there are two.

    Example:
        >>> [g.tolist() for g in strata(torch.tensor([2, 0, 0, 1, 2]))]
        [[1, 2, 3], [0, 4]]
    """
    groups: list[Tensor] = []
    for label in labels.unique():
        here = (labels == label).nonzero().flatten()
        if groups and min(len(here), len(groups[-1])) < 2:
            groups[-1] = torch.cat([groups[-1], here])
        else:
            groups.append(here)
    return groups


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean over images and its standard error (NaN for a single image).

    Example:
        >>> mean_and_error(torch.tensor([1.0, 3.0]))
        (2.0, 1.0)
    """
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), float(error)
