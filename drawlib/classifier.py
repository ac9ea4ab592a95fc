"""DRAW's reading side as a classifier: a few glimpses, then one answer.

The DRAW paper's task on cluttered 100 × 100 digits (Gregor et al. 2015, sec. 4.1): no
canvas, no latent variable, no bound. The whole is differentiable, so where to look is
learned by back-propagation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Images, images_for
from drawlib.config import Config, at_least, one_of
from drawlib.filters import KERNELS, Filters, filterbank
from drawlib.layers import linear
from drawlib.lstm import LSTM, Hidden
from drawlib.trace import Windows, windows

__all__ = ["Classifier", "ClassifierConfig", "loss"]


@dataclass(frozen=True)
class ClassifierConfig(Config):
    """Sizes of the classifier; the defaults are the paper's (from memory).

    The last five fields are ours, because the paper leaves them open or does otherwise:

    ``start_sigma``: σ of the filters of the first window, in pixels; 0 leaves it to the
    head's random bias, σ ≈ 1; ``start_gamma`` and ``start_zoom`` then have no effect. A
    12 × 12 grid over 100 pixels has a stride of 9:
    filters of σ = 1 see less than a third of the image, and what lies between gives the
    window no gradient. Half a stride leaves no gap.
    ``start_gamma``: the intensity of the first window. Ink is rare, and so a blurred
    patch is faint.
    ``start_zoom``: the first window spans the image, and those after it start with this
    fraction of its side. What is learned from digits in the middle then helps to find
    the others.
    ``ink``: weight, in the loss, of the mean of −log of the ink near the centre of each
    later window. It needs no labels, moves the centres alone, and has a gradient far
    from the ink too.
    ``supervise``: the cross-entropy of the ``last`` answer, as in the paper, or the
    mean over the answers after ``all`` glimpses, which gives gradients a shorter way.

    Example:
        >>> ClassifierConfig().read
        12
        >>> ClassifierConfig(glimpses=0)
        Traceback (most recent call last):
        ValueError: ClassifierConfig.glimpses is 0; it must be at least 1
    """

    image_shape: tuple[int, int, int] = (1, 100, 100)
    glimpses: int = 8
    hidden: int = 256
    read: int = 12
    classes: int = 10
    kernel: str = "gaussian"
    forget_bias: float = 1.0
    start_sigma: float = 0.0
    start_gamma: float = 1.0
    start_zoom: float = 1.0
    ink: float = 0.0
    supervise: str = "last"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "four-glimpses": {"glimpses": 4},
        "course": {
            "start_sigma": 4.5,
            "start_gamma": 8.0,
            "start_zoom": 0.4,
            "ink": 0.2,
            "supervise": "all",
        },
        "tiny": {"image_shape": (1, 40, 40), "glimpses": 2, "hidden": 16, "read": 4},
    }

    def check(self) -> None:
        at_least(self, 1, "image_shape", "glimpses", "hidden", "read", "classes")
        at_least(self, 0, "start_sigma", "ink")
        one_of(self, "kernel", KERNELS)
        one_of(self, "supervise", ("last", "all"))
        for name in ("start_gamma", "start_zoom"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(
                    f"ClassifierConfig.{name} is {value}; it must be above 0"
                )


class Classifier(nn.Module):
    r"""T glimpses at an image, each placed by what was seen before; then the logits.

    For t = 1 … T: r_t = γ F_Y x F_Xᵀ with the window from h_{t−1} (eqs. (21) to (27)),
    h_t = LSTM(h_{t−1}, r_t). The answer is softmax(W h_T + b). h_0 is learned; the
    first window, which knows nothing of the image, starts at about the whole of it.

    Example:
        >>> model = Classifier(ClassifierConfig.preset("tiny"))
        >>> model(torch.zeros(3, 1, 40, 40)).shape
        torch.Size([3, 10])
    """

    def __init__(self, config: ClassifierConfig | None = None) -> None:
        super().__init__()
        self.config = config = ClassifierConfig.given(config)
        self.image_shape = config.image_shape
        seen = config.image_shape[0] * config.read**2
        self.start_h = nn.Parameter(torch.zeros(config.hidden))
        self.start_c = nn.Parameter(torch.zeros(config.hidden))
        self.read_head = nn.Linear(config.hidden, 5)
        self.lstm = LSTM(seen, config.hidden, config.forget_bias)
        self.answer = linear(config.hidden, config.classes)
        if config.start_sigma:
            self.start_windows()

    @torch.no_grad()
    def start_windows(self) -> None:
        """Set the head so that the windows start as ``ClassifierConfig`` says.

        h_0 becomes a random vector, unlike the states that follow it, and the head's
        rows for log σ² and log δ̃ respond to it: only the first window spans the image.
        """
        config, head = self.config, self.read_head
        log_zoom = math.log(config.start_zoom)
        self.start_h.copy_(0.5 * torch.randint(2, (config.hidden,)) - 0.25)
        u = self.start_h / self.start_h.square().sum()
        head.weight -= (head.weight @ self.start_h)[:, None] * u
        head.weight *= 0.5
        head.bias.zero_()
        head.bias[2] = 2 * (math.log(config.start_sigma) + log_zoom)
        head.bias[3] = log_zoom
        head.bias[4] = math.log(config.start_gamma)
        head.weight[2] -= 2 * log_zoom * u
        head.weight[3] -= log_zoom * u

    def window(self, h: Hidden) -> Filters:
        """Where h looks; the five numbers stay float32 under autocast."""
        with torch.autocast(h.device.type, enabled=False):
            size, kernel = self.image_shape[1:], self.config.kernel
            return filterbank(self.read_head(h), size, self.config.read, kernel)

    def look(self, x: Images) -> Iterator[tuple[Hidden, Hidden]]:
        """(h_{t−1}, h_t) for t = 1 … T: what places a glimpse, and what it gives."""
        h = self.start_h.expand(len(x), -1)
        c = self.start_c.expand(len(x), -1)
        for _ in range(self.config.glimpses):
            before = h
            # Eq. (27), of x alone
            r = self.window(h).read(x).flatten(1)
            h, c = self.lstm(r, h, c)
            yield before, h

    def answers(self, x: Images) -> Float[Tensor, "T batch classes"]:
        """The logits after each glimpse: what the model would say if it stopped there.

        Raises:
            TypeError, ValueError: as ``images_for``.
        """
        x = images_for(self, x)
        return torch.stack([self.answer(h) for _, h in self.look(x)])

    def forward(self, x: Images) -> Float[Tensor, "batch classes"]:
        """The logits of each class, after the last glimpse.

        Raises:
            TypeError, ValueError: as ``images_for``.
        """
        x = images_for(self, x)
        *_, (_, h) = self.look(x)
        return self.answer(h)

    @torch.no_grad()
    def trace(self, x: Images) -> tuple[Windows, Float[Tensor, "T batch channels N N"]]:
        """The window of each glimpse, in pixels from 0, and the patch that it saw."""
        x = images_for(self, x)
        places = [before for before, _ in self.look(x)]
        patches = torch.stack([self.window(h).read(x) for h in places])
        return windows(self.window, self.read_head, places), patches


def ink_near(
    model: Classifier, x: Images, h: Hidden, sigma: float = 8.0
) -> Float[Tensor, " batch"]:
    """Ink near the centre of the window that h places, weighted by a wide Gaussian.

    One filter an axis, of σ = ``sigma`` pixels; the window's own size plays no part.

    Example:
        >>> model = Classifier(ClassifierConfig.preset("tiny"))
        >>> x = torch.ones(2, 1, 40, 40)
        >>> ink_near(model, x, model.start_h.expand(2, -1)).round()
        tensor([1., 1.], grad_fn=<RoundBackward0>)
    """
    centre = model.read_head(h)[:, :2]
    rest = centre.new_tensor([2 * math.log(sigma), 0.0, 0.0]).expand(len(x), 3)
    bank = filterbank(torch.cat([centre, rest], 1), model.image_shape[1:], 1)
    return bank.read(x).mean(1).flatten()


def loss(
    model: nn.Module,
    images: Images,
    labels: Integer[Tensor, " batch"] | None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, a mean over the batch: the loss that ``fit`` takes.

    Of the last answer, or with ``supervise="all"`` a mean over all of them; with
    ``ink`` plus the price of windows that lie where there is none.

    Raises:
        ValueError: where the data set has no labels.

    Example:
        >>> model = Classifier(ClassifierConfig.preset("tiny"))
        >>> loss(model, torch.zeros(2, 1, 40, 40), torch.tensor([3, 7])).shape
        torch.Size([])
    """
    if labels is None:
        raise ValueError("labels are None; allowed: one class number for each image")
    assert isinstance(model, Classifier)
    config = model.config
    images = images_for(model, images)
    before, after = zip(*model.look(images), strict=True)
    used = after if config.supervise == "all" else after[-1:]
    logits = torch.stack([model.answer(h) for h in used]).flatten(0, 1)
    price = F.cross_entropy(logits, labels.long().repeat(len(used)))
    if config.ink and config.glimpses > 1 and model.training:
        ink = torch.stack([ink_near(model, images, h) for h in before[1:]])
        price = price - config.ink * (ink + 1e-6).log().mean()
    return price
