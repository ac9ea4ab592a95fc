"""Every long run of the course, in one place: what is trained, how, by which chapter.

The plan itself is data, ``zoo/plan.json``. Two readers share it: the chapters, which
train their rows in ``full`` mode with ``train_rows``, and ``drawlib.batches``, which
executes the chapters many at a time and must know what is done and what is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from drawlib.bound import LatentModel
from drawlib.classifier import ClassifierConfig
from drawlib.config import Config
from drawlib.models import CONFIGS, config_of
from drawlib.results import zoo
from drawlib.results.runs import Run, publish, run_directory, train_run
from drawlib.results.zoo import Record, records
from drawlib.training.schedule import TrainConfig

__all__ = ["Planned", "find_records", "load_row", "plan", "plan_of", "train_rows"]

# What a smoke run makes small; what kind of model it is stays.
SIZES = ("T", "hidden", "z", "encoder", "decoder", "channels", "blocks")
SMOKE: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 1000,
    "valid_images": 200,
    "precision": "float32",
    "compile": False,
    "evaluate_every": 1,
}


@dataclass(frozen=True)
class Planned:
    """One run of the plan, for any seed.

    Attributes:
        name: ``protocol/row``; its records are ``protocol/row-seed``.
        chapter: the two digits of the notebook that trains it.
        mistakes: public mistakes that are planted from the start to the evaluation.
        ship: whether seed 0 ships its weights.
        iw: K and the number of test images of the importance-weighted bound.
        images: on how many images of each split the record's −ELBO is measured; None
            for all. For a model whose bound takes long.
        seconds_an_epoch: about what an epoch takes on one core of a CPU.
        start: the row (``protocol/row``) with whose weights the training begins, those
            of the same seed: trained beside it, else as they ship. None for weights
            drawn from the seed.
    """

    name: str
    chapter: str
    model: Config
    train: TrainConfig
    mistakes: tuple[str, ...]
    published: str | None
    ship: bool
    iw: tuple[int, int]
    images: int | None
    seconds_an_epoch: float
    start: str | None = None

    @property
    def protocol(self) -> str:
        """The data set and its binarisation."""
        return self.name.partition("/")[0]

    @property
    def row(self) -> str:
        """The row's name in the tables and records."""
        return self.name.partition("/")[2]

    def run(self, folder: Path, seed: int, device: str = "auto") -> Run:
        """The training of one seed, kept in ``folder/protocol/row``."""
        train = replace(self.train, seed=seed, device=device)
        where, start = folder / self.protocol / self.row, ""
        if self.start is not None:
            trained = folder / self.start
            here = (trained / "run.json").exists()
            start = str(trained) if here else f"{self.start}-{seed}"
        return Run(self.model, self.protocol, where, train, self.mistakes, start)

    def small(self) -> Planned:
        """The same model and mistakes at toy sizes, for one epoch: ``smoke`` mode.

        It begins with weights from its seed, since none of this size ship.
        """
        tiny = type(self.model).PRESETS["tiny"]
        known = {**self.model.to_dict(), **{k: tiny[k] for k in SIZES if k in tiny}}
        model = type(self.model).from_dict(known)
        train = replace(self.train, **SMOKE)
        images = self.images and 20
        return replace(
            self,
            model=model,
            train=train,
            ship=False,
            iw=(5, 20),
            images=images,
            start=None,
        )


def plan(chapter: str | None = None) -> dict[str, Planned]:
    """The planned runs by name; of one chapter (``"06"``, or the notebook's name).

    Raises:
        ValueError: for a chapter that trains nothing.

    Example:
        >>> list(plan("07"))[0], plan("07-draw")["mnist-dynamic/draw-source"].model.T
        ('mnist-dynamic/draw-source', 10)
    """
    every = written((zoo.ZOO / "plan.json").read_text(encoding="utf-8"))
    found = {
        name: planned
        for name, planned in every.items()
        if chapter is None or planned.chapter == chapter[:2]
    }
    if not found:
        allowed = sorted({planned.chapter for planned in every.values()})
        raise ValueError(f"chapter is {chapter!r}; allowed: {', '.join(allowed)}")
    return found


@lru_cache(maxsize=2)
def written(text: str) -> dict[str, Planned]:
    """What a plan's file says; tables ask for it once per row."""
    content = json.loads(text)
    return {
        name: read(name, entry, content["recipes"])
        for name, entry in content["runs"].items()
    }


def read(name: str, entry: dict[str, Any], recipes: dict[str, Any]) -> Planned:
    """One entry of the file with its recipe."""
    kind, preset, changes = entry["kind"], entry["preset"], entry.get("model", {})
    classifier = kind == "classifier"
    return Planned(
        name,
        entry["chapter"],
        # A classifier has no bound, so the models by name do not list it.
        ClassifierConfig.preset(preset, **changes)
        if classifier
        else config_of(kind, preset, **changes),
        TrainConfig.from_dict({**recipes[entry["recipe"]], **entry.get("train", {})}),
        tuple(entry.get("mistakes", ())),
        entry.get("published"),
        entry.get("ship", False),
        tuple(entry.get("iw", (1000, 1000))),
        entry.get("images"),
        entry["seconds_an_epoch"],
        entry.get("start"),
    )


def plan_of(name: str) -> Planned:
    """One planned run.

    Raises:
        ValueError: for a name that the plan does not hold.

    Example:
        >>> plan_of("mnist-dynamic/vae-source-V1").mistakes
        ('V1',)
        >>> plan_of("mnist-dynamic/vae-sorce")
        Traceback (most recent call last):
        ValueError: 'mnist-dynamic/vae-sorce' is not planned; allowed: mnist-dynamic/...
    """
    known = plan()
    if name not in known:
        raise ValueError(f"{name!r} is not planned; allowed: {', '.join(known)}")
    return known[name]


def train_rows(
    chapter: str,
    mode: str,
    seed: int = 0,
    device: str = "auto",
    rows: str = "",
    *,
    epochs: int = 0,
    progress: bool = True,
) -> Path | None:
    """Train the planned rows of a chapter and publish them; where their records lie.

    ``chapter`` is the notebook's name (``"06-the-ladder-vae"``). In ``read`` mode
    nothing is trained and None is returned, which stands for the records that ship.
    In ``smoke`` mode the models are tiny. ``rows`` (names with spaces between them,
    ``protocol/row``) takes some of them; left empty, all. ``epochs`` replaces the
    plan's. What was cut goes on, and what has its record is left alone. A classifier
    has no bound: its chapter trains it, with the recipe of ``plan_of``.

    Raises:
        ValueError: for a row that this chapter does not train.

    Example:
        >>> train_rows("06-ladder", "read") is None
        True
        >>> train_rows("06-ladder", "full", rows="mnist-dynamic/vae-source")
        Traceback (most recent call last):
        ValueError: rows is 'mnist-dynamic/vae-source'; allowed: mnist-dynamic/...
    """
    if mode == "read":
        return None
    known = plan(chapter)
    chosen = rows.split() or list(known)
    if not set(chosen) <= set(known):
        raise ValueError(f"rows is {rows!r}; allowed: {', '.join(known)}")
    folder = run_directory(chapter, mode, seed)
    for name in chosen:
        planned = known[name].small() if mode == "smoke" else known[name]
        if type(planned.model) not in CONFIGS.values():
            continue
        if epochs:
            planned = replace(planned, train=replace(planned.train, epochs=epochs))
        train_row(planned, folder, seed, device, progress=progress)
    return folder / "zoo"


def train_row(
    planned: Planned, folder: Path, seed: int, device: str, *, progress: bool = True
) -> Path:
    """Train one row, or go on with it, and write its record unless it is there.

    A row that begins with the weights of another one, which do not ship, has that one
    trained before.
    """
    if (first := planned.start) is not None:
        trained = (folder / first / "run.json").exists()
        if not trained and not (zoo.ZOO / f"{first}-{seed}.safetensors").exists():
            train_row(plan_of(first), folder, seed, device, progress=progress)
    run, record = planned.run(folder, seed, device), record_path(planned, folder, seed)
    train_run(run, progress=progress)
    if not record.exists():
        samples, images = planned.iw
        publish(
            run.run_dir,
            planned.row,
            iw_samples=samples,
            iw_images=images,
            images=planned.images,
            ship=planned.ship and seed == 0,
            published=planned.published,
            root=folder / "zoo",
            progress=progress,
        )
    return record


def record_path(planned: Planned, folder: Path, seed: int) -> Path:
    """Where a chapter's folder keeps the record of one row and seed."""
    return folder / "zoo" / planned.protocol / f"{planned.row}-{seed}.json"


def find_records(
    own: Path | None, protocol: str | None = None, row: str | None = None
) -> list[Record]:
    """Records of ``own`` (what ``train_rows`` returned), and else those that ship.

    So a chapter that trained one of its rows finds the others too.

    Example:
        >>> find_records(None, "mnist-dynamic", "vae-gated")[0].name
        'mnist-dynamic/vae-gated-0'
    """
    shipped = {r.name: r for r in records(protocol, row)}
    if own is not None:
        shipped |= {r.name: r for r in records(protocol, row, root=own)}
    return [shipped[name] for name in sorted(shipped)]


def load_row(name: str, own: Path | None) -> LatentModel:
    """The model of a record, trained here where it was, else as it ships.

    Raises:
        ZooError: as ``load_pretrained``.

    Example:
        >>> load_row("mnist-dynamic/vae-gated-0", None).config.z
        40
    """
    trained = own is not None and (own / f"{name}.safetensors").exists()
    return zoo.load_pretrained(name, root=own if trained else None)
