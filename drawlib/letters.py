"""Models of words whose likelihood is exact, to hold a latent variable model against.

A word is a row of letters and, where it has fewer than 13, an end. Each model here
gives p(word) letter by letter, p(w_1) p(w_2 given w_1) …, with 27 signs at each place,
and the probabilities of all words of at most 13 letters sum to one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Images
from drawlib.layers import linear

__all__ = ["KneserNey", "LetterLSTM", "letter_loss", "places"]

START, END, SIGNS, LONGEST = "^", "$", 27, 13


def places(
    train: Float[Tensor, "n channels height width"], images: Images
) -> Float[Tensor, " batch"]:
    """−log p of words whose places are independent, each with its own frequencies.

    It is all that a canvas knows before the first step: c_0 at the mean image. One is
    added to each count. Unlike the others it spends probability on what is no word.

    Example:
        >>> from drawlib.data.words import codes_of, images_of
        >>> word = torch.from_numpy(images_of(codes_of(["LEE"]))).float()
        >>> places(word, word)  # 13 log(28/2)
        tensor([34.3077])
    """
    counts = 1 + train.sum(0)
    log_p = (counts / counts.sum(0)).log()
    return -(images * log_p).flatten(1).sum(1)


class KneserNey:
    r"""n-grams of letters with interpolated Kneser–Ney smoothing.

    Counts of shorter histories: Kneser and Ney (1995); D: Ney, Essen and Kneser (1994);
    interpolated as by Chen and Goodman (1999).

    P(w given h) = max(c(hw) − D, 0)/c(h·) + D N(h·)/c(h·) P(w given h'), with h' the
    history h without its first sign and N(h·) how many different signs followed h.
    c counts how often where the history is as long as it can be; shorter ones count in
    how many different longer ones they ended. Below a single letter lies 1/27.
    D = n_1/(n_1 + 2 n_2), of the n-grams that were counted once and twice.

    Example:
        >>> model = KneserNey(["ANNA", "HANNAH", "ANN", "NAN"], order=3)
        >>> round(model.nats("ANNA"), 2) < round(model.nats("XQZJ"), 2)
        True
        >>> signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ$"
        >>> round(sum(model.p("AN", sign) for sign in signs), 9)
        1.0
    """

    def __init__(self, words: Sequence[str], order: int) -> None:
        if order < 1:
            raise ValueError(f"order is {order}; allowed: 1 or more")
        self.order = order
        counts: list[Counter[str]] = [Counter() for _ in range(order)]
        for word in words:
            for history, sign in self.events(word):
                counts[len(history)][history + sign] += 1
        for longer, shorter in zip(counts[:0:-1], counts[-2::-1], strict=True):
            shorter.update(gram[1:] for gram in longer)
        self.counts, self.discounts = counts, [discount(each) for each in counts]
        self.total: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        for each in counts:
            for gram, count in each.items():
                self.total[gram[:-1]] += count
                self.kinds[gram[:-1]] += 1

    def events(self, word: str) -> list[tuple[str, str]]:
        """What is drawn in a word: each sign, with the history that it depends on."""
        text = START + word + (END if len(word) < LONGEST else "")
        first = (max(0, t - self.order + 1) for t in range(1, len(text)))
        return [(text[a:t], text[t]) for t, a in enumerate(first, 1)]

    def p(self, history: str, sign: str) -> float:
        """P(sign given the last order − 1 signs of history)."""
        p, history = 1 / SIGNS, history[max(0, len(history) - self.order + 1) :]
        for start in range(len(history), -1, -1):
            h = history[start:]
            if not (total := self.total[h]):
                break  # what never came in a history is in no longer one either
            D, count = self.discounts[len(h)], self.counts[len(h)][h + sign]
            p = max(count - D, 0) / total + D * self.kinds[h] / total * p
        return p

    def nats(self, word: str) -> float:
        """−log p(word) in nats, its end included."""
        each = torch.tensor([self.p(h, s) for h, s in self.events(word)])
        return -each.double().log().sum().item()


def discount(counts: Counter[str]) -> float:
    """D = n_1/(n_1 + 2 n_2), kept inside (0, 1).

    Example:
        >>> discount(Counter({"A": 1, "B": 1, "C": 2}))
        0.5
    """
    once, twice = (sum(c == k for c in counts.values()) for k in (1, 2))
    return min(max(once / (once + 2 * twice), 0.1), 0.9) if once else 0.5


class LetterLSTM(nn.Module):
    """A language model: an LSTM reads the letters so far, and 27 logits follow.

    Example:
        >>> from drawlib.data.words import codes_of, images_of
        >>> word = torch.from_numpy(images_of(codes_of(["LEE"]))).float()
        >>> LetterLSTM(hidden=8)(word).shape
        torch.Size([1])
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SIGNS, hidden, batch_first=True)
        self.head = linear(hidden, SIGNS)

    def forward(self, words: Images) -> Float[Tensor, " batch"]:
        """−log p(word) in nats; what stands behind the end costs nothing."""
        signs = words[:, :, 0].mT
        before = F.pad(signs[:, :-1], (0, 0, 1, 0))  # nothing stands before the first
        log_p = torch.log_softmax(self.head(self.lstm(before)[0]), 2)
        going_on = before[:, :, -1].cumsum(1) == 0
        return -((signs * log_p).sum(2) * going_on).sum(1)


def letter_loss(
    model: Any,
    images: Images,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The loss of a ``LetterLSTM`` for ``fit``: the mean over words.

    Example:
        >>> letter_loss(LetterLSTM(8), torch.zeros(2, 27, 1, 13)).shape
        torch.Size([])
    """
    return model(images).mean()
