"""Labels for the fixed binarisation of MNIST, which was published without any.

Its test file is the official test set sorted by class, in the official order within a
class. Its training and validation files are the official 60,000 training images in an
order that nobody has published. But a pixel of grey level g came up as ink with
probability g/255, so the bits tell which image they were drawn from: the one under
which they are most likely, with every image taken once.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from drawlib.data.download import DataError, Raw, keep
from drawlib.machine.cache import cache_dir

__all__ = ["Match", "labels_of_fixed", "match"]

NEARLY = math.log(1000)  # nats: what is less likely than this is no rival
PLANES = 96  # principal components in which candidates are sought
IMPOSSIBLE = -1e6  # nats, instead of −∞, which no auction can add


@dataclass(frozen=True, eq=False)
class Match:
    """Which grey image each image of bits was drawn from.

    Attributes:
        position: of its grey image, for each image of bits; all of them differ.
        rivals: for how many images of bits another grey image is nearly as likely,
            with at most 1,000 times less probability.
        other_class: for how many of them such a rival has another label.
    """

    position: Integer[np.ndarray, " n"]
    rivals: int
    other_class: int

    def __str__(self) -> str:
        return (
            "matched with MNIST: the test file by its order, training and validation "
            f"by likelihood; {self.rivals:,} of {len(self.position):,} images could be "
            f"another one nearly as well, {self.other_class:,} of them one of another "
            "class"
        )


def match(
    bits: Integer[np.ndarray, "n pixels"],
    grey: Integer[np.ndarray, "n pixels"],
    labels: Integer[np.ndarray, " n"],
    among: int = 16,
) -> Match:
    r"""The assignment of grey images to images of bits that makes the bits most likely.

    log p(b given g) = Σ b log(g/255) + (1 − b) log(1 − g/255), in nats, is computed for
    the ``among`` nearest grey images of each image of bits; an auction (Bertsekas 1988)
    gives every grey image to one of them.

    Raises:
        DataError: where no assignment is possible: the bits are not those images'.

    Example:
        >>> grey = np.eye(20, 30, dtype="u1") * 255
        >>> found = match((grey[::-1] > 0).astype("u1"), grey, np.arange(20))
        >>> found.position[:3].tolist(), found.rivals
        ([19, 18, 17], 0)
    """
    b = torch.from_numpy(bits).float()
    p = torch.from_numpy(grey).float() / 255
    candidate = nearest(b, p, min(among, len(p)))
    nats = log_likelihood(b, p, candidate)
    taken = assigned(nats.double().numpy(), candidate.numpy())
    mine = nats.gather(1, torch.from_numpy(taken)[:, None])
    if (mine <= IMPOSSIBLE / 2).any():
        raise DataError("mnist-fixed holds bits that MNIST's grey levels forbid")
    position = candidate.gather(1, torch.from_numpy(taken)[:, None])[:, 0].numpy()
    close = (nats > mine - NEARLY) & (candidate != torch.from_numpy(position)[:, None])
    label = torch.from_numpy(labels.astype(np.int64))
    other = close & (label[candidate] != label[position][:, None])
    return Match(position, int(close.any(1).sum()), int(other.any(1).sum()))


def nearest(
    b: Float[Tensor, "n pixels"], p: Float[Tensor, "m pixels"], k: int
) -> Integer[Tensor, "n k"]:
    """The k images p that are nearest to each b, in the p's principal components.

    Bits scatter about their grey levels, along an axis by σ² = Σ v² p(1 − p). So what
    lies more than 6 σ away along the first two axes need not be looked at, and most of
    the n m distances are never computed.
    """
    mean = p.mean(0)
    some = p[:: max(1, len(p) // 20_000)] - mean
    planes = min(PLANES, p.shape[1])
    axes = torch.linalg.eigh(some.T @ some / len(some)).eigenvectors[:, -planes:]
    axes = axes.flip(1)
    b, p, spread = (b - mean) @ axes, (p - mean) @ axes, p * (1 - p)
    reach = 6 * (spread @ axes[:, :2].square()).mean(0).sqrt() + 1e-3
    half_squares = p.square().sum(1) / 2
    found = torch.empty(len(b), k, dtype=torch.long)
    pieces = max(1, round(len(b) ** 0.25))
    for strip in b[:, 0].argsort().chunk(pieces):
        for cell in strip[b[strip, 1].argsort()].chunk(pieces):
            low, high = b[cell, :2].amin(0) - reach, b[cell, :2].amax(0) + reach
            inside = ((p[:, :2] >= low) & (p[:, :2] <= high)).all(1)
            near = inside.nonzero()[:, 0]
            if len(near) < k:
                near = torch.arange(len(p))
            score = b[cell] @ p[near].T - half_squares[near]
            found[cell] = near[score.topk(k, 1).indices]
    return found


def log_likelihood(
    b: Float[Tensor, "n pixels"],
    p: Float[Tensor, "m pixels"],
    candidate: Integer[Tensor, "n k"],
) -> Float[Tensor, "n k"]:
    """log p(b given the candidate), in nats; a bit that cannot be counts −10⁶."""
    ink, none = (q.log().clamp(min=IMPOSSIBLE) for q in (p, 1 - p))
    rows = []
    for bits, chosen in zip(b.split(500), candidate.split(500), strict=True):
        rows.append(torch.where(bits[:, None] > 0, ink[chosen], none[chosen]).sum(2))
    return torch.cat(rows)


def assigned(
    score: Float[np.ndarray, "n k"], candidate: Integer[np.ndarray, "n k"]
) -> Integer[np.ndarray, " n"]:
    """Which of its candidates each row is given, so that the sum of scores is greatest.

    An auction: who has nothing bids for the best candidate at its price, as much more
    than the second best is worth to it. The sum is at most n/1000 below the greatest.

    Raises:
        DataError: where the auction does not end.

    Example:
        >>> score = np.array([[5.0, 4.0], [5.0, 1.0]])
        >>> assigned(score, np.array([[0, 1], [0, 1]])).tolist()
        [1, 0]
    """
    price = np.zeros(candidate.max() + 1)
    owner = np.full(len(price), -1)
    taken = np.full(len(score), -1)
    waiting = list(range(len(score)))
    for _ in range(100 * len(score)):
        if not waiting:
            return taken
        row = waiting.pop()
        worth = score[row] - price[candidate[row]]
        first = int(worth.argmax())
        second = np.partition(worth, -2)[-2] if len(worth) > 1 else worth[first]
        item = candidate[row, first]
        price[item] += worth[first] - second + 1e-3
        if owner[item] >= 0:
            waiting.append(int(owner[item]))
        owner[item], taken[row] = row, first
    raise DataError("mnist-fixed's bits could not be shared out among MNIST's images")


def labels_of_fixed(fixed: Raw, mnist: Raw) -> tuple[dict[str, np.ndarray], Match]:
    """Labels of the three files by name, and how the images of two were matched.

    What was matched once is kept in the cache.

    Raises:
        DataError: where the bits are not those of these images.
    """
    bits = {name: np.unpackbits(a, axis=1) for name, a in fixed.arrays.items()}
    order = np.argsort(mnist.arrays["test_labels"], kind="stable")
    grey = mnist.arrays["test_images"].reshape(len(order), -1)[order]
    if ((bits["test"] == 1) & (grey == 0) | (bits["test"] == 0) & (grey == 255)).any():
        raise DataError("mnist-fixed's test file is not MNIST's, sorted by class")
    known = mnist.arrays["train_labels"]
    kept = cache_dir() / "mnist-fixed-labels.npz"
    key = f"{fixed.content} {mnist.content}"
    found = read(kept, key)
    if found is None:
        both = np.concatenate([bits["train"], bits["valid"]])
        images = mnist.arrays["train_images"].reshape(len(known), -1)
        found = match(both, images, known)
        keep(kept, {"key": key, **vars(found)})
    of_both = known[found.position]
    cut = len(bits["train"])
    labels = {
        "train": of_both[:cut],
        "valid": of_both[cut:],
        "test": mnist.arrays["test_labels"][order],
    }
    return labels, found


def read(path: Path, key: str) -> Match | None:
    """What was matched before; None where nothing was, or for other data."""
    try:
        with np.load(path, allow_pickle=False) as z:
            if str(z["key"]) != key:
                return None
            return Match(z["position"], int(z["rivals"]), int(z["other_class"]))
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a broken file makes numpy raise
        warnings.warn(f"{path}: {error}; the file is not used", stacklevel=2)
        return None
