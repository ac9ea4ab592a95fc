"""The model contract: what every latent variable model of the course returns.

Each model computes its own terms in its method ``bound`` (`VAE.bound`,
`LadderVAE.bound`, `Recurrent.bound` for DRAW and GLAS); what a training step minimises
is `training.train.negative_elbo`, and L_K is `evaluation.estimate`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from drawlib.config import plain

__all__ = [
    "Bound",
    "LatentModel",
    "Noise",
    "check_images",
    "check_weights",
    "evaluation_mode",
    "images_for",
]

# One tensor, or a tuple of them: each model knows which of the two it takes.
Noise = Any
Source = torch.Generator | None
Images = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Bound:
    r"""The terms of a variational bound at one posterior sample, one row per image.

    Attributes:
        log_likelihood: log p(x given z) in nats, ``(batch,)``.
        kl: analytic KL in nats, ``(batch, groups)``: a column for each latent layer
            or time step, given the sampled latents that it depends on.
        log_weight: log p(x, z) − log q(z given x) at the sampled z, ``(batch,)``.
            Made of log-densities at z, not of ``kl``: only so is
            log p̂_K(x) = logsumexp_k log w_k − log K the importance-weighted bound of
            Burda et al. (2016); ``drawlib.evaluation.estimate`` computes it.

    Example:
        >>> b = Bound(torch.tensor([-90.0]), torch.tensor([[20.0, 5.0]]),
        ...           torch.tensor([-114.0]))
        >>> b.elbo
        tensor([-115.])
    """

    log_likelihood: Float[Tensor, "batch"]
    kl: Float[Tensor, "batch groups"]
    log_weight: Float[Tensor, "batch"]

    @property
    def elbo(self) -> Float[Tensor, "batch"]:
        """ELBO = log p(x given z) − Σ_groups KL, in nats: never scaled by a warm-up."""
        return self.log_likelihood - self.kl.sum(1)


def check_generator(generator: Any) -> None:
    """Refuse what is neither a generator nor None, such as a seed.

    Raises:
        TypeError: with what is allowed.

    Example:
        >>> check_generator(3)
        Traceback (most recent call last):
        TypeError: generator is 3; allowed: a torch.Generator, such as ...
    """
    if not isinstance(generator, Source):
        raise TypeError(
            f"generator is {generator!r:.60}; allowed: a torch.Generator, such as "
            "torch.Generator().manual_seed(0)"
        )


def check_images(
    x: Tensor, image_shape: tuple[int, int, int], unit: bool = True
) -> None:
    """Refuse a batch that is not float images of ``image_shape`` in [0, 1].

    ``unit=False`` allows any finite values.

    Raises:
        TypeError: for anything but a floating-point tensor, dense and with values.
        ValueError: for a wrong shape, an empty batch, NaN, or a value outside [0, 1].

    Example:
        >>> check_images(torch.zeros(2, 1, 3, 3), (1, 28, 28))
        Traceback (most recent call last):
        ValueError: images have shape (2, 1, 3, 3); allowed: (batch, 1, 28, 28)
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"images are {given}; allowed: a floating-point tensor")
    # Of these PyTorch finds neither the smallest value nor the largest.
    if x.is_meta or x.layout != torch.strided or x.itemsize < 2:
        kind = "on the device meta" if x.is_meta else f"{x.layout}, {x.dtype}"
        raise TypeError(
            f"images are {kind}; allowed: a dense tensor of 16 bits or more, with "
            "values"
        )
    if x.ndim != 4 or tuple(x.shape[1:]) != tuple(image_shape):
        allowed = ", ".join(str(side) for side in image_shape)
        raise ValueError(
            f"images have shape {tuple(x.shape)}; allowed: (batch, {allowed})"
        )
    if len(x) == 0:
        raise ValueError("the batch is empty; allowed: one image or more")
    low, high = x.amin(), x.amax()
    least, most = (
        (0.0, 1.0) if unit else (-torch.finfo(x.dtype).max, torch.finfo(x.dtype).max)
    )
    # NaN fails every comparison, so this one catches it too.
    if not (low >= least and high <= most):
        allowed = "finite values" + " in [0, 1]" * unit
        raise ValueError(f"images lie in [{low:g}, {high:g}]; allowed: {allowed}")


def check_weights(model: nn.Module) -> None:
    """Refuse weights of half precision: a sum over pixels is off by tenths of a nat.

    Raises:
        ValueError: with the first weight in another type than float32 or float64.

    Example:
        >>> check_weights(nn.Linear(2, 2).half())
        Traceback (most recent call last):
        ValueError: weight is torch.float16; allowed: float32 or float64, such as \
model.float() gives; bfloat16 is for products alone: TrainConfig(precision="bf16"), or \
torch.autocast around a call of the model
    """
    for name, weight in model.named_parameters():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name} is {weight.dtype}; allowed: float32 or float64, such as "
                "model.float() gives; bfloat16 is for products alone: "
                'TrainConfig(precision="bf16"), or torch.autocast around a call '
                "of the model"
            )


def images_for(model: nn.Module, x: Any, unit: bool = True) -> Images:
    """Images given to a model, both checked; they come in the type of the weights.

    ``unit`` is that of ``check_images``.

    Raises:
        TypeError, ValueError: as ``check_images`` and ``check_weights``.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> model = VAE(VAEConfig.preset("tiny")).double()
        >>> images_for(model, torch.zeros(2, 1, 28, 28)).dtype
        torch.float64
    """
    check_weights(model)
    check_images(x, cast("Any", model).image_shape, unit)
    return x.to(next(model.parameters()).dtype)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode; afterwards each part in the mode that it had.

    Example:
        >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluation_mode(model):
        ...     model[0].training
        False
        >>> model[0].training, model[1].training
        (True, False)
    """
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


class LatentModel(nn.Module):
    """Base of VAE, LadderVAE, DRAW, GLAS, ConvDRAW and Diffusion.

    A subclass sets ``config`` and ``image_shape`` and implements ``noise_shapes``,
    ``bound``, ``generate``, ``reconstruct`` and ``start_at``; a model whose latents can
    be simulated also has ``latents`` and ``noise_of``. Randomness is an input: the same
    ``noise`` gives the same numbers in every process.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> model.noise_shapes(5)  # (images, steps, latents)
        ((5, 4, 6),)
        >>> x = torch.zeros(5, 1, 28, 28)
        >>> noise = model.noise(5, torch.Generator().manual_seed(0))
        >>> torch.equal(model(x, noise=noise).elbo, model(x, noise=noise).elbo)
        True
    """

    image_shape: tuple[int, int, int]
    # Computes the bound of this model in less time: ``drawlib.fast`` gives it to some.
    compiled_bound: Callable[[Any, Images, Noise], Bound] | None = None

    @abstractmethod
    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the standard-normal tensors that one pass over n images needs.

        The first axis is always n, so that noise can be cut like the images.
        """

    @abstractmethod
    def bound(self, x: Images, noise: Noise) -> Bound:
        """The bound on log p(x), unchecked: the function that is compiled."""

    @abstractmethod
    def generate(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        """Means of p(x given z) for n draws of z from the prior, in [0, 1]."""

    @abstractmethod
    def reconstruct(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        """Means of p(x given z), with one z ~ q(z given x) per image."""

    @abstractmethod
    def start_at(self, mean: Float[Tensor, "channels height width"]) -> None:
        """Set the output bias to the logit of the mean image, before training."""

    def latents(self, noise: Noise) -> tuple[Images, Any]:
        """The canvas of p(x given z), and z ~ p(z) as this noise draws it."""
        raise NotImplementedError(f"{type(self).__name__} has no method latents")

    def noise_of(self, x: Images, z: Any) -> Noise:
        """The noise with which ``bound`` draws these z, which ``latents`` gave."""
        raise NotImplementedError(f"{type(self).__name__} has no method noise_of")

    def matrices(self) -> list[Tensor]:
        """The weights that an optimiser for matrices (Muon) may take.

        Here those of all affine maps; a model leaves out what is no matrix between
        two layers of features.
        """
        maps = (m for m in self.modules() if isinstance(m, nn.Linear))
        return [m.weight for m in maps]

    def begin_epoch(self, fraction: float) -> None:
        """What a model changes about itself in training; most models change nothing.

        The trainer calls it before each epoch, with the fraction of the training that
        will be done after it, above 0 and up to 1.
        """

    def noise(self, n: int, generator: Source = None) -> Noise:
        """Standard-normal draws for one pass over n images.

        Drawn on the generator's device, so that a seed means the same numbers
        wherever the model lives. The noise of few images is not the start of that of
        more (PyTorch fills small tensors in another order): draw once, and cut.

        Raises:
            TypeError: for a generator that is none, such as a seed.
            ValueError: for n below 1, or no whole number.
        """
        if (n := plain("the number of images", n, int)) < 1:
            raise ValueError(f"noise for {n} images was asked for; allowed: 1 or more")
        drawn = self.draws(self.noise_shapes(n), generator)
        return drawn if len(drawn) > 1 else drawn[0]

    def draws(
        self, shapes: tuple[tuple[int, ...], ...], generator: Source
    ) -> tuple[Tensor, ...]:
        """Standard-normal draws of these shapes, where the model's weights are."""
        check_generator(generator)
        weight = next(self.parameters())
        source = generator.device if generator is not None else weight.device
        drawn = (
            torch.randn(shape, generator=generator, device=source, dtype=weight.dtype)
            for shape in shapes
        )
        return tuple(eps.to(weight.device) for eps in drawn)

    def training_noise(self, n: int, generator: Source = None) -> Noise:
        """The random numbers of ``training_bound``, for n images."""
        return self.noise(n, generator)

    def training_bound(self, x: Images, noise: Noise) -> Bound:
        """What a step of the training pays for: the bound, or an unbiased estimate.

        A model whose bound is a long sum may take a few of its terms at random. Only
        its ``elbo`` is used, and only its mean need be right; evaluation and validation
        take ``bound``.
        """
        # Not for a single image, which a ladder refuses, and in plain words.
        if self.compiled_bound is not None and len(x) > 1:
            return self.compiled_bound(self, x, noise)
        return self.bound(x, noise)

    def forward(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Bound:
        """One posterior sample per image: the checked form of ``bound``.

        Raises:
            TypeError, ValueError: as ``images_for``, and for noise of another shape.
        """
        x = images_for(self, x)
        return self.bound(x, self.take_noise(len(x), noise, generator))

    def take_noise(self, n: int, noise: Noise | None, generator: Source) -> Noise:
        """The given noise, checked, in the type of the weights, or a fresh draw.

        A single tensor comes bare.
        """
        check_weights(self)
        if noise is None:
            return self.noise(n, generator)
        given = noise if isinstance(noise, tuple) else (noise,)
        for eps in given:
            if not isinstance(eps, Tensor):
                raise TypeError(
                    f"noise is a {type(eps).__name__}; allowed: a tensor or a tuple "
                    "of tensors"
                )
        shapes = tuple(tuple(eps.shape) for eps in given)
        if shapes != self.noise_shapes(n):
            raise ValueError(
                f"noise has shape {shapes}; allowed: {self.noise_shapes(n)}"
            )
        dtype = next(self.parameters()).dtype
        given = tuple(eps.to(dtype) for eps in given)
        return given if len(given) > 1 else given[0]
