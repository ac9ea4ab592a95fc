"""Evaluation: −ELBO, its parts and the importance-weighted bound, with intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drawlib.bound import LatentModel, check_images
from drawlib.config import whole
from drawlib.data.sets import Data, stratified_subset
from drawlib.machine.distributed import ALONE, Team
from drawlib.machine.settings import default_dtype

__all__ = ["Evaluation", "check_likelihood", "check_seed", "estimate", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Bounds on −log p(x) in nats (lower is better), averaged over images.

    Each ``*_se`` is the standard error of the mean over images: the standard
    deviation over images divided by √images.

    Attributes:
        neg_elbo: −ELBO, averaged over ``samples`` posterior draws an image.
        reconstruction: −log p(x given z), the first part of ``neg_elbo``.
        kl: the second part, the sum of ``kl_groups`` (one a layer or step).
        neg_iw: the importance-weighted bound −log p̂_K with K = ``samples``.
        ess: effective sample size (Σw)²/Σw² of those K weights, mean over images.

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

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "kl_groups": list(self.kl_groups)}

    def __str__(self) -> str:
        return (
            f"{self.protocol} {self.split}, {self.images} images, K {self.samples}: "
            f"−ELBO {self.neg_elbo:.2f} ± {self.neg_elbo_se:.2f} nats "
            f"(reconstruction {self.reconstruction:.2f} + KL {self.kl:.2f}), "
            f"importance-weighted {self.neg_iw:.2f} ± {self.neg_iw_se:.2f}"
        )


@torch.no_grad()
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

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny")).eval()
        >>> g = torch.Generator().manual_seed(0)
        >>> estimate(model, torch.zeros(2, 1, 28, 28), 8, g)["log_iw"].shape
        torch.Size([2])
    """
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


def check_likelihood(model: Any, data: Data, *splits: str) -> None:
    """Refuse data that the model's likelihood is none for; every image is looked at.

    Bernoulli's formula on grey values is no likelihood, and masses of 256 levels on
    bits are another number than the tables' (chapter 1).

    Raises:
        ValueError: where the likelihood is not the protocol's, and as ``Data.check``.
    """
    name = getattr(getattr(model, "config", None), "likelihood", None)
    if name is not None and name != data.likelihood:
        raise ValueError(
            f"the model's likelihood is {name!r}; allowed on {data.name}: "
            f"{data.likelihood!r}"
        )
    data.check(*splits, likelihood=name)


def check_seed(seed: int) -> int:
    """A seed as a plain number; refuse one that not every generator takes.

    Raises:
        ValueError: for a negative one, or one of more than 63 bits.
    """
    return whole("seed", seed, below=2**63)


def evaluate(
    model: LatentModel,
    data: Data,
    split: str = "test",
    *,
    samples: int,
    images: int | None = None,
    seed: int = 0,
    chunk: int = 2000,
    progress: bool = False,
    team: Team = ALONE,
) -> Evaluation:
    """Bounds of ``model`` on a split, with their standard errors over images.

    ``samples`` is K. ``images`` takes a seeded subset, stratified by class where the
    labels are known; left out, every image of the split counts. The model is put into
    evaluation mode and back. The same seed gives the same number.

    Under ``torchrun`` the processes of ``team`` share the blocks of images out, and
    each ends with the whole result: block by block the noise and the arithmetic are
    those of a single process, and so is every digit. All of them must call this.

    Raises:
        ValueError: for K below 1, a seed as ``check_seed`` has it, an unknown or empty
            split, more images than there are, images of another shape than the
            model's, and as ``check_likelihood``.

    Example:
        >>> from drawlib import VAE, Data, Split, VAEConfig
        >>> from drawlib.data.protocols import Protocol
        >>> empty = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
        >>> toy = Protocol("toy", "Four empty images.")
        >>> data = Data("toy", toy, empty, empty, empty)
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> result = evaluate(model, data, "test", samples=3)
        >>> result.images, result.neg_elbo > 300
        (4, True)
    """
    samples, seed = whole("samples (K)", samples, lowest=1), check_seed(seed)
    part = data.split(split)
    check_likelihood(model, data, split)
    if images is None:
        index = torch.arange(len(part.images))
    else:
        index = stratified_subset(part, whole("images", images), seed)
    weight = next(model.parameters())
    generator = torch.Generator(weight.device).manual_seed(seed)
    # The grey levels of a dynamic training split are binarised from the same seed.
    bits = torch.Generator().manual_seed(seed)
    look = torch.Generator().manual_seed(seed)
    first = data.binarise(part.images[:1], look, split=split).to(weight)
    check_images(first, model.image_shape)
    mine: dict[int, dict[str, Tensor]] = {}
    training = model.training
    model.eval()
    try:
        per_block = max(1, min(chunk // samples, 500))
        blocks = index.split(per_block)
        bar = tqdm(blocks, "evaluate", disable=not progress, leave=False)
        for number, block in enumerate(bar):
            images_8bit = part.images[block.to(part.images.device)]
            x = data.binarise(images_8bit, bits, split=split).to(weight)
            if number % team.size != team.rank:
                # The noise of another's block is drawn and dropped: what follows is
                # then the noise that a single process draws.
                for k in passes(len(block), samples, chunk):
                    model.noise(len(block) * k, generator)
                continue
            with default_dtype(weight.dtype):
                mine[number] = estimate(model, x, samples, generator, chunk)
    finally:
        model.train(training)
    rows = {k: row for part in team.gather(mine) for k, row in part.items()}
    values = {
        name: torch.cat([rows[k][name] for k in range(len(blocks))]) for name in rows[0]
    }
    kl = values["kl"].sum(1)
    neg_elbo, neg_elbo_se = mean_and_error(values["reconstruction"] + kl)
    reconstruction, reconstruction_se = mean_and_error(values["reconstruction"])
    kl_mean, kl_se = mean_and_error(kl)
    neg_iw, neg_iw_se = mean_and_error(-values["log_iw"])
    return Evaluation(
        protocol=data.name,
        split=split,
        images=len(index),
        samples=samples,
        seed=seed,
        neg_elbo=neg_elbo,
        neg_elbo_se=neg_elbo_se,
        reconstruction=reconstruction,
        reconstruction_se=reconstruction_se,
        kl=kl_mean,
        kl_se=kl_se,
        kl_groups=tuple(values["kl"].mean(0).tolist()),
        neg_iw=neg_iw,
        neg_iw_se=neg_iw_se,
        ess=values["ess"].mean().item(),
    )


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean over images and its standard error (NaN for a single image).

    Example:
        >>> mean_and_error(torch.tensor([1.0, 3.0]))
        (2.0, 1.0)
    """
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), float(error)
