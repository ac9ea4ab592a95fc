"""What exact models make of the same words: the rows beside those of DRAW and GLAS."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from drawlib.data.sets import Data
from drawlib.data.words import words_of
from drawlib.evaluation import mean_and_error
from drawlib.letters import KneserNey, LetterLSTM, letter_loss, places
from drawlib.results import zoo
from drawlib.training.schedule import TrainConfig
from drawlib.training.train import fit

__all__ = ["ExactRow", "bits_a_letter", "exact_rows", "measure_exact"]

ORDERS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class ExactRow:
    """−log p of a test word: nats per word with its standard error over words."""

    label: str
    nats: float
    nats_se: float
    bits_a_letter: float


def bits_a_letter(nats: float, images: Tensor) -> float:
    """Nats per word as bits for each of its letters; the end is paid, not counted.

    Example:
        >>> from drawlib.data.words import codes_of, images_of
        >>> word = torch.from_numpy(images_of(codes_of(["LEES"])))
        >>> bits_a_letter(4 * math.log(2), word)
        1.0
    """
    letters = images[:, :-1].sum().item() / len(images)
    return nats / letters / math.log(2)


def measure_exact(
    data: Data,
    run_dir: Path,
    train: TrainConfig,
    *,
    orders: Iterable[int] = ORDERS,
    hidden: int = 128,
) -> Path:
    """Fit every exact model to the training words, and write what the test words cost.

    ``train`` is how the LSTM is trained; it goes on where it was interrupted.

    Example:
        >>> import tempfile
        >>> from drawlib import load_data
        >>> from drawlib.data.words import ALPHABET
        >>> where = Path(tempfile.mkdtemp())
        >>> text = "\\n".join(a + b for a in ALPHABET for b in "AEIOU")
        >>> _ = (where / "words.txt").write_text(text)
        >>> data = load_data(f"words:{where / 'words.txt'}")
        >>> config = TrainConfig(epochs=1, batch_size=50)
        >>> path = measure_exact(data, where, config, orders=(2,), hidden=4)
        >>> [row.label for row in exact_rows(path)]
        ['letters by place', '2-gram, Kneser–Ney', 'LSTM, 4 units']
    """
    test = data.test.images.float()
    found = {"letters by place": places(data.train.images.float(), test)}
    known, asked = (words_of(split.images) for split in (data.train, data.test))
    for order in orders:
        model = KneserNey(known, order)
        label = f"{order}-gram, Kneser–Ney"
        found[label] = torch.tensor([model.nats(word) for word in asked])
    torch.manual_seed(train.seed)
    reader = LetterLSTM(hidden)
    history = fit(
        reader, data, train, run_dir / "letters", loss=letter_loss, progress=False
    )
    weight = next(reader.parameters())
    with torch.no_grad():
        each = [reader(part.to(weight)).cpu() for part in test.split(2000)]
    found[f"LSTM, {hidden} units"] = torch.cat(each)
    rows = []
    for label, nats in found.items():
        mean, error = mean_and_error(nats.double())
        bits = bits_a_letter(mean, data.test.images)
        rows.append(asdict(ExactRow(label, mean, error, bits)))
    values = {
        "protocol": data.name,
        "rows": rows,
        "train_config": train.to_dict(),
        "seconds": history.rows[-1]["seconds"],
        "data_sha256": dict(data.sha256),
        **zoo.describe_environment(weight.device),
    }
    return zoo.write_json(run_dir / "exact.json", values)


def exact_rows(path: Path | None = None) -> list[ExactRow]:
    """The rows of a file of ``measure_exact``; left out, that of the surnames.

    Example:
        >>> best = min(exact_rows(), key=lambda row: row.nats)
        >>> best.bits_a_letter < 4
        True
    """
    path = path or zoo.ZOO / "surnames" / "exact.json"
    return [ExactRow(**row) for row in zoo.read_json(path)["rows"]]
