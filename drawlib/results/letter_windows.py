r"""Where GLAS's window on L stands while it writes a vowel, an ending, a double letter.

GLAS writes all places of a word in every step, so no window belongs to a letter. But
step t of word n raises the probability of the right sign at some places more than at
others. With a_nt(k) the sum of these rises over the places of a kind k of letters, and
w_nt the middle of the window, in cells of L,

    D_k = Σ_nt a_nt(k) (w_nt − w̄_t) / Σ_nt a_nt(k),    w̄_t = mean_n w_nt,           (W1)

says how far the window stands from its usual place at that step while k is written. If
the windows of a step belonged to other words, D_k would be 0 in the mean: a kind that
is written early has early windows, and that is taken out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from drawlib.bound import evaluation_mode
from drawlib.data.sets import Data
from drawlib.data.words import ALPHABET
from drawlib.evaluation import evaluate
from drawlib.glas import GLAS
from drawlib.results import zoo
from drawlib.trace import Trace

__all__ = [
    "LetterWindows",
    "away",
    "kinds_of",
    "letter_windows",
    "measure_windows",
    "read_windows",
    "written",
]

VOWELS = tuple(ALPHABET.index(letter) for letter in "AEIOU")
END = len(ALPHABET)


@dataclass(frozen=True)
class LetterWindows:
    """How the window on L moves, and where it stands while a kind is written; cells.

    Attributes:
        path: w̄_t, the mean middle of the window at each step, (x, y) from 0 to M − 1.
        scatter: the standard deviation of w_nt over words, a mean over the steps.
        share: of each kind, the share of its rises that each step made.
        away: of each kind, D_k of Eq. (W1), as (x, y).
        away_se: its standard error over words.
        shuffled: the standard deviation of D_k where each step's windows are dealt out
            to the words anew.
    """

    words: int
    M: int
    path: list[list[float]]
    scatter: list[float]
    share: dict[str, list[float]]
    away: dict[str, list[float]]
    away_se: dict[str, list[float]]
    shuffled: dict[str, list[float]]


def kinds_of(
    images: Float[Tensor, "words 27 1 places"],
) -> dict[str, Bool[Tensor, "words places"]]:
    """Which places hold a letter of each kind, by name.

    A letter is of a double if its neighbour is the same; an ending is a word's last
    two letters.

    Example:
        >>> from drawlib.data.words import codes_of, images_of
        >>> kinds = kinds_of(torch.from_numpy(images_of(codes_of(["LEES"]))))
        >>> [(name, int(places.sum())) for name, places in kinds.items()]
        [('vowels', 2), ('consonants', 2), ('endings', 2), ('double letters', 2)]
    """
    codes = images[:, :, 0].argmax(1)
    letter = codes < END
    vowel = torch.isin(codes, torch.tensor(VOWELS, device=codes.device))
    same = letter[:, 1:] & (codes[:, 1:] == codes[:, :-1])
    double = torch.zeros_like(letter)
    double[:, 1:] |= same
    double[:, :-1] |= same
    left = letter.flip(1).cumsum(1).flip(1)  # letters from here to the word's last
    return {
        "vowels": vowel,
        "consonants": letter & ~vowel,
        "endings": letter & (left <= 2),
        "double letters": double,
    }


def written(seen: Trace) -> Float[Tensor, "T words places"]:
    """How far each step raised the probability of the right sign, at least 0.

    Example:
        >>> from drawlib import GLAS, GLASConfig
        >>> shape = {"image_shape": (27, 1, 13), "likelihood": "categorical"}
        >>> model = GLAS(GLASConfig.preset("tiny", **shape))
        >>> written(model.trace(torch.zeros(5, 27, 1, 13))).shape
        torch.Size([4, 5, 13])
    """
    before = seen.images - seen.errors  # of the canvas before, since x̂_t = x − mean
    return (seen.images * (seen.canvases - before)).sum(2).clamp(min=0)[:, :, 0]


def away(
    amount: Float[Tensor, "T words"], middle: Float[Tensor, "T words 2"]
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """D_k of Eq. (W1) and its standard error over words, each as (x, y).

    Example:
        >>> amount = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
        >>> middle = torch.tensor([[[3.0, 1.0], [1.0, 1.0], [1.0, 1.0], [3.0, 1.0]]])
        >>> away(amount, middle)[0]
        tensor([1., 0.])
    """
    apart = middle - middle.mean(1, keepdim=True)
    total = amount.sum() / amount.shape[1]  # of a word, in the mean
    found = (amount[..., None] * apart).sum((0, 1)) / amount.sum()
    # What one word adds to the numerator, to w̄_t and to the denominator.
    centred = amount - amount.mean(1, keepdim=True)
    each = (centred[..., None] * apart).sum(0) - amount.sum(0)[:, None] * found
    return found, each.std(0) / total / amount.shape[1] ** 0.5


@torch.no_grad()
def letter_windows(
    model: GLAS,
    data: Data,
    split: str = "test",
    *,
    shuffles: int = 200,
    seed: int = 0,
) -> LetterWindows:
    """Measure Eq. (W1) on all words of a split, one posterior draw per word.

    Raises:
        ValueError: for a model without a window on L, or images that are no words.

    Example:
        >>> from drawlib import GLASConfig
        >>> letter_windows(GLAS(GLASConfig.preset("tiny")), None)
        Traceback (most recent call last):
        ValueError: images have shape (1, 28, 28); allowed: words, (27, 1, places)
    """
    if (shape := model.config.image_shape)[:2] != (END + 1, 1):
        raise ValueError(
            f"images have shape {shape}; allowed: words, ({END + 1}, 1, places)"
        )
    generator = torch.Generator().manual_seed(seed)
    found: list[tuple[Tensor, ...]] = []
    with evaluation_mode(model):
        for images in data.split(split).images.split(1000):
            x = images.float()
            seen = model.trace(x, generator=generator)
            if seen.latent is None:
                raise ValueError(
                    f"latent_attention is {model.config.latent_attention!r}; allowed: "
                    "cauchy, gaussian"
                )
            middle = torch.stack([seen.latent.mu_x.mean(2), seen.latent.mu_y.mean(2)])
            rise, kinds = written(seen), kinds_of(x)
            amounts = torch.stack([(rise * k).sum(2) for k in kinds.values()])
            found.append((middle.permute(1, 2, 0), amounts))
    middle = torch.cat([part[0] for part in found], 1).double()
    amounts = torch.cat([part[1] for part in found], 2).double()
    names = list(kinds)
    each = {name: away(a, middle) for name, a in zip(names, amounts, strict=True)}
    chance = []
    for _ in range(shuffles):
        order = torch.randperm(middle.shape[1], generator=generator)
        chance.append(torch.stack([away(a, middle[:, order])[0] for a in amounts]))
    share = amounts.sum(2) / amounts.sum((1, 2))[:, None]
    return LetterWindows(
        middle.shape[1],
        model.config.M,
        middle.mean(1).tolist(),
        middle.std(1).mean(0).tolist(),
        dict(zip(names, share.tolist(), strict=True)),
        {name: d.tolist() for name, (d, _) in each.items()},
        {name: se.tolist() for name, (_, se) in each.items()},
        dict(zip(names, torch.stack(chance).std(0).tolist(), strict=True)),
    )


def measure_windows(model: GLAS, data: Data, run_dir: Path) -> Path:
    """Write ``letter_windows`` of a trained model, and of one of its size that is not.

    Windows follow the words in any network, so the second one is the control: training
    explains only what the two do not share.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        models = {"trained": model, "untrained": GLAS(model.config)}
    values = {
        "protocol": data.name,
        "neg_elbo": evaluate(model, data, "test", samples=1).neg_elbo,
        **{name: asdict(letter_windows(m, data)) for name, m in models.items()},
        "data_sha256": dict(data.sha256),
        **zoo.describe_environment(next(model.parameters()).device),
    }
    return zoo.write_json(run_dir / "windows.json", values)


def read_windows(path: Path | None = None) -> dict[str, LetterWindows]:
    """What a file of ``measure_windows`` holds; left out, that of the surnames.

    Example:
        >>> {name: windows.words for name, windows in read_windows().items()}
        {'trained': 8879, 'untrained': 8879}
    """
    values = zoo.read_json(path or zoo.ZOO / "surnames" / "windows.json")
    return {name: LetterWindows(**values[name]) for name in ("trained", "untrained")}
