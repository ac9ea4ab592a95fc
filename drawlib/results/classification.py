"""From a classifier's configuration to a record of its error, and back to the model.

``runs`` does this for models with a bound. A classifier has none: its number is the
share of wrong answers, so it has a record of its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drawlib.bound import evaluation_mode
from drawlib.classifier import Classifier, ClassifierConfig, loss
from drawlib.data.sets import Data, load_data, stratified_subset
from drawlib.evaluation import blocks_of
from drawlib.machine.device import pick_device
from drawlib.machine.settings import for_measuring, in_main_memory
from drawlib.results import zoo
from drawlib.results.runs import finish, of_training, read_json, ship_weights
from drawlib.results.zoo import ZooError
from drawlib.training.runstate import History
from drawlib.training.schedule import TrainConfig
from drawlib.training.train import fit

__all__ = [
    "Errors",
    "load_classifier",
    "measure_errors",
    "publish_classifier",
    "train_classifier",
]

PROTOCOL = "cluttered-mnist"


@dataclass(frozen=True)
class Errors:
    """Wrong answers in percent, after each glimpse t = 1 … T.

    ``percent[-1]`` is the model's ``error``; ``se`` are the binomial standard errors
    100 √(p (1 − p) / n) over the n ``images``, and ``nats`` the mean cross-entropies.

    Example:
        >>> found = Errors("toy", "test", 400, (50.0, 10.0), (2.5, 1.5), (1.0, 0.3))
        >>> found.error, found.to_dict()["error_se"]
        (10.0, 1.5)
    """

    protocol: str
    split: str
    images: int
    percent: tuple[float, ...]
    se: tuple[float, ...]
    nats: tuple[float, ...]

    @property
    def error(self) -> float:
        """Percent wrong after the last glimpse."""
        return self.percent[-1]

    def to_dict(self) -> dict[str, Any]:
        """What a record holds of one split."""
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {**own, "error": self.percent[-1], "error_se": self.se[-1]}


@torch.no_grad()
@in_main_memory()
def measure_errors(
    model: Classifier, data: Data, split: str, images: int | None = None, seed: int = 0
) -> Errors:
    """The errors of a classifier on a split, or on a seeded, stratified part of it.

    Raises:
        ValueError: for an unknown or empty split, or more ``images`` than it has.

    Example:
        >>> from drawlib.data.protocols import Protocol
        >>> from drawlib.data.sets import Split
        >>> digits = torch.zeros(6, 1, 40, 40, dtype=torch.uint8)
        >>> part = Split(digits, torch.arange(6), visit="scale")
        >>> toy = Protocol("toy", "Six blank squares.", image_shape=(1, 40, 40))
        >>> model = Classifier(ClassifierConfig.preset("tiny"))
        >>> measure_errors(model, Data("toy", toy, part, part, part), "test").images
        6
    """
    part = data.split(split)
    data.check(split)
    if part.labels is None:
        raise ValueError(f"the {split} split of {data.name} has no labels")
    index = stratified_subset(part, len(part) if images is None else images, seed)
    wrong, nats = torch.zeros(2, model.config.glimpses, dtype=torch.float64)
    answers = part.labels[index.to(part.labels.device)].split(500)
    blocks = blocks_of(model, data, split, index, 500, seed)
    weight = next(model.parameters())
    exact = for_measuring(weight.device, weight.dtype)
    with evaluation_mode(model), exact:
        for x, known in zip(blocks, answers, strict=True):
            y, logits = known.to(x.device), model.answers(x).float()
            wrong += (logits.argmax(-1) != y).sum(1).cpu()
            chosen = logits.log_softmax(-1)[:, torch.arange(len(y)), y]
            nats -= chosen.cpu().double().sum(1)
    n = len(index)
    share = wrong / n
    return Errors(
        data.name,
        split,
        n,
        tuple((100 * share).tolist()),
        tuple((100 * (share * (1 - share) / n).sqrt()).tolist()),
        tuple((nats / n).tolist()),
    )


def train_classifier(
    config: ClassifierConfig,
    train: TrainConfig,
    run_dir: Path,
    *,
    fragments: int = 8,
    progress: bool = True,
) -> tuple[Classifier, Data, History]:
    """Train on cluttered digits, or go on training; ``run.json`` says it is finished.

    Example:
        >>> from inspect import signature
        >>> signature(train_classifier).parameters["fragments"].default
        8
    """
    data = load_data(PROTOCOL, fragments=fragments)
    torch.manual_seed(train.seed)
    model = Classifier(config)
    history = fit(model, data, train, run_dir, loss=loss, progress=progress)
    values = {
        "kind": "classifier",
        "model": config.to_dict(),
        "data": PROTOCOL,
        "fragments": data.fragments,
        "train": train.to_dict(),
    }
    finish(run_dir, model, values)
    return model, data, history


def publish_classifier(
    run_dir: Path,
    row: str,
    *,
    ship: bool = False,
    note: str = "",
    published: str | None = None,
    root: Path | None = None,
) -> Path:
    """Measure a finished run's errors on validation and test images; its record.

    The record is of kind ``classifier``: its ``bounds`` are errors in percent, and
    there is no importance-weighted one. With ``ship``, the weights go beside it in half
    precision, and the numbers are those of the rounded weights.

    Raises:
        FileNotFoundError: where ``run_dir`` holds no finished run.
        ValueError: for a ``published`` that is no key of ``zoo/published.json``.
        ZooError: where the weights are missing, truncated or altered.
    """
    zoo.check_published(published)
    run = read_json(run_dir)
    model = Classifier(ClassifierConfig.from_dict(run["model"]))
    zoo.fill(model, run_dir / "model.safetensors", run["weights_sha256"])
    device = pick_device(run["train"]["device"])
    data = load_data(run["data"], fragments=run["fragments"])
    name = f"{run['data']}/{row}-{run['train']['seed']}"
    if ship:
        model.load_state_dict(zoo.rounded(model.state_dict()))
    model.to(device)
    bounds = {
        split: measure_errors(model, data, split).to_dict()
        for split in ("valid", "test")
    }
    zoo.check_finite(name, {"bounds": bounds})
    file = (root or zoo.ZOO) / f"{name}.safetensors"
    shipped = ship_weights(file, model) if ship else None
    values = {
        "row": row,
        "kind": "classifier",
        "protocol": run["data"],
        "fragments": run["fragments"],
        "config": run["model"],
        "train_config": run["train"],
        "seed": run["train"]["seed"],
        **of_training(model, data, History.read(run_dir), device),
        "weights": shipped,
        "bounds": bounds,
        "importance_weighted": None,
        "published": published,
        "note": note,
    }
    return zoo.write_record(name, values, root=root)


def load_classifier(name: str, *, root: Path | None = None) -> Classifier:
    """The classifier of a record with its shipped weights, ready to evaluate.

    Raises:
        ZooError: for an unknown name, a record without weights or of another kind, or
            weights whose sha256 is not the recorded one.

    Example:
        >>> load_classifier("cluttered-mnist/no-such-row-0")
        Traceback (most recent call last):
        drawlib.results.zoo.ZooError: no classifier 'cluttered-mnist/no-such-row-0'
    """
    root = root or zoo.ZOO
    found = [r for r in zoo.records(PROTOCOL, root=root) if r.name == name]
    if not found or found[0]["kind"] != "classifier":
        raise ZooError(f"no classifier {name!r}")
    record = found[0]
    if not record["weights"]:
        raise ZooError(f"{name} ships no weights")
    model = Classifier(ClassifierConfig.from_dict(record["config"]))
    file = (root / name).with_name(record["weights"]["file"])
    zoo.fill(model, file, record["weights"]["sha256"])
    return model.eval()
