"""DRAW's reading side as a classifier: a few glimpses, then one answer.

The DRAW paper's task on cluttered 100 × 100 digits (Gregor et al. 2015, sec. 4.1): no
canvas, no latent variable, no bound. The whole is differentiable, so where to look is
learned by back-propagation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Images, check_images
from drawlib.config import Config, at_least, one_of
from drawlib.filterbank import KERNELS, Filters, filterbank
from drawlib.layers import linear
from drawlib.lstm import LSTM, Hidden
from drawlib.trace import Windows, windows

__all__ = ["Classifier", "ClassifierConfig", "loss"]


@dataclass(frozen=True)
class ClassifierConfig(Config):
    """Sizes of the classifier; the defaults are the paper's (from memory).

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

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "four-glimpses": {"glimpses": 4},
        "tiny": {"image_shape": (1, 40, 40), "glimpses": 2, "hidden": 16, "read": 4},
    }

    def check(self) -> None:
        at_least(self, 1, "image_shape", "glimpses", "hidden", "read", "classes")
        one_of(self, "kernel", KERNELS)


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
        self.config = config = config or ClassifierConfig()
        self.image_shape = config.image_shape
        seen = config.image_shape[0] * config.read**2
        self.start_h = nn.Parameter(torch.zeros(config.hidden))
        self.start_c = nn.Parameter(torch.zeros(config.hidden))
        self.read_head = nn.Linear(config.hidden, 5)
        self.lstm = LSTM(seen, config.hidden, config.forget_bias)
        self.answer = linear(config.hidden, config.classes)

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

    def forward(self, x: Images) -> Float[Tensor, "batch classes"]:
        """The logits of each class.

        Raises:
            TypeError, ValueError: as ``check_images``.
        """
        check_images(x, self.image_shape)
        *_, (_, h) = self.look(x)
        return self.answer(h)

    @torch.no_grad()
    def trace(self, x: Images) -> tuple[Windows, Float[Tensor, "T batch channels N N"]]:
        """The window of each glimpse, in pixels from 0, and the patch that it saw."""
        check_images(x, self.image_shape)
        places = [before for before, _ in self.look(x)]
        patches = torch.stack([self.window(h).read(x) for h in places])
        return windows((self.window(h), self.read_head(h)) for h in places), patches


def loss(
    model: nn.Module,
    images: Images,
    labels: Integer[Tensor, " batch"] | None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, a mean over the batch: the loss that ``fit`` takes.

    Raises:
        ValueError: where the data set has no labels.

    Example:
        >>> model = Classifier(ClassifierConfig.preset("tiny"))
        >>> loss(model, torch.zeros(2, 1, 40, 40), torch.tensor([3, 7])).shape
        torch.Size([])
    """
    if labels is None:
        raise ValueError("labels are None; allowed: one class number for each image")
    return F.cross_entropy(model(images), labels.long())
