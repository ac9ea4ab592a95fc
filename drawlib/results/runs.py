"""From a configuration to a record: train, evaluate, publish one run."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drawlib.bound import LatentModel
from drawlib.config import Config, whole_number
from drawlib.data.download import DataError
from drawlib.data.own import is_own, moved
from drawlib.data.sets import Data, load_data, some_of
from drawlib.evaluation import check_likelihood, evaluate
from drawlib.every_stop import every_stop
from drawlib.machine.device import pick_device
from drawlib.machine.distributed import join
from drawlib.machine.files import path_of, write_atomically
from drawlib.machine.settings import in_main_memory
from drawlib.mistakes.planting import planted
from drawlib.models import build, config_in, kind_of
from drawlib.recurrent import Recurrent
from drawlib.results import zoo
from drawlib.training.runstate import History
from drawlib.training.schedule import TrainConfig
from drawlib.training.train import fit

__all__ = ["Run", "load_run", "publish", "read_run", "run_directory", "train_run"]


@dataclass(frozen=True)
class Run:
    """One training: which model, on which data, how, and where it is kept.

    ``model`` and ``train`` are the two configurations, ``data`` names the protocol.
    ``mistakes`` names public mistakes (keys of ``MISTAKES``) that are made all along:
    when the model is built, trained and evaluated. Its record says so. ``start`` names
    weights to begin with: a finished run's directory, or a record that ships them.

    Raises:
        ValueError: for an unknown mistake, and as ``files.path_of``.
    """

    model: Config
    data: str
    run_dir: Path
    train: TrainConfig = field(default_factory=TrainConfig)
    mistakes: tuple[str, ...] = ()
    start: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_dir", path_of("run_dir", self.run_dir))
        with planted(*self.mistakes):
            pass

    def to_dict(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        return {
            "kind": kind_of(self.model),
            "model": self.model.to_dict(),
            "data": self.data,
            "train": self.train.to_dict(),
            "mistakes": list(self.mistakes),
            "start": self.start,
        }


def read_run(run_dir: Path) -> Run:
    """The finished run that a directory holds.

    Raises:
        FileNotFoundError: where the directory holds none.
        ValueError: where its ``run.json`` is damaged, of another schema, or holds
            what is unknown here.
    """
    values, path = read_json(run_dir), run_dir / "run.json"
    model = config_in(str(path), values["kind"], values["model"])
    try:
        return Run(
            model,
            values["data"],
            run_dir,
            TrainConfig.from_dict(values["train"]),
            tuple(values.get("mistakes", ())),
            values.get("start", ""),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


SCHEMA = "drawlib-run-1"
# What a run.json holds, of which kind, and how that is told.
FIELDS: dict[str, tuple[Any, str]] = {
    "schema": (str, "text"),
    "kind": (str, "text"),
    "model": (dict, "a dict"),
    "data": (str, "text"),
    "train": (dict, "a dict"),
    "weights_sha256": (str, "text"),
    "mistakes": (list, "a list"),
    "start": (str, "text"),
    "data_content": (str | None, "text or null"),
    "began": (dict | None, "a dict or null"),
    "fragments": (int, "a whole number"),
}
# What a run of another kind lacks, or an older one.
OPTIONAL = {"schema", "mistakes", "start", "data_content", "began", "fragments"}


def read_json(run_dir: Path) -> dict[str, Any]:
    """What ``run.json`` holds; errors as ``read_run``."""
    path = run_dir / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"{run_dir} holds no finished run (no run.json)")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no whole JSON file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {values!r:.40}, not what describes a run")
    if (schema := values.get("schema", SCHEMA)) != SCHEMA:
        raise ValueError(
            f"{path} has the schema {schema!r:.40}; allowed: {SCHEMA!r}, or none in an "
            "older file; a newer drawlib may read it"
        )
    if missing := FIELDS.keys() - OPTIONAL - values.keys():
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    if unknown := values.keys() - FIELDS.keys():
        raise ValueError(
            f"{path} holds {', '.join(sorted(unknown))}; allowed: {', '.join(FIELDS)}"
        )
    for name, value in values.items():
        kind, allowed = FIELDS[name]
        if not isinstance(value, kind):
            raise ValueError(f"{path}: {name} is {value!r:.40}; allowed: {allowed}")
    return values


@in_main_memory()
def load_run(run_dir: str | Path) -> tuple[Run, LatentModel]:
    """A finished run and its model with the trained weights, in evaluation mode.

    The mistakes of the run are no part of the model: plant them to evaluate it.

    Raises:
        FileNotFoundError, ValueError: as ``read_run``.
        ZooError: where the weights are missing, truncated or altered.
    """
    run = read_run(run_dir := path_of("run_dir", run_dir))
    with planted(*run.mistakes):
        model = build(run.model)
    sha256 = read_json(run_dir)["weights_sha256"]
    zoo.fill(model, run_dir / "model.safetensors", sha256)
    return run, model.eval()


@in_main_memory()
def train_run(
    run: Run, *, data: Data | None = None, progress: bool = True
) -> tuple[LatentModel, Data, History]:
    """Train, or go on training, and leave ``model.safetensors`` in the directory.

    ``data`` is what ``run.data`` names, where it has been loaded already.

    The seed of the configuration also draws the initial weights, unless the run has a
    ``start``. Under ``torchrun`` every process calls this, and the first one writes.

    Raises:
        FileNotFoundError, ValueError, ZooError: for a ``start`` that cannot be loaded,
            or is another model.
    """
    team = join(run.train.device)
    if data is None:
        data = team.in_turn(lambda: load_data(run.data))
    # What the caller draws afterwards is what it would have drawn.
    with torch.random.fork_rng([]), planted(*run.mistakes):
        torch.manual_seed(run.train.seed)
        model = build(run.model)
        began = None
        if run.start:  # what the first process reads, ``fit`` gives to all
            began = team.from_first(lambda: begin(model, run.start))
        start = began["weights_sha256"] if began else ""
        history = fit(
            model, data, run.train, run.run_dir, start=start, progress=progress
        )
    team.from_first(lambda: write_run(run, model, data, began))
    return model, data, history


def begin(model: LatentModel, start: str) -> dict[str, Any]:
    """Give a model the weights of an earlier training; whose, and after which epochs.

    They are rounded as those of a record are: who has the run and who has its record
    begin alike.
    """
    folder = Path(start)
    if folder.is_dir():
        _, earlier = load_run(folder)
        values = read_json(folder)
        before, began = History.read(folder).rows[-1]["epoch"], values.get("began")
        name = folder.name
    else:
        earlier, name = zoo.load_pretrained(start), start
        values = zoo.read_json(zoo.ZOO / f"{start}.json")
        before, began = values["epochs"], values.get("began")
    state = zoo.rounded(earlier.state_dict())
    zoo.put(model, zoo.in_float32(state), start)
    return {
        "name": name,
        "epochs": before + (began["epochs"] if began else 0),
        "weights_sha256": hashlib.sha256(zoo.packed(state)).hexdigest(),
    }


def has_same_data(run_dir: Path, data: Data) -> bool:
    """Whether a finished run was trained on these data, as far as it says on which."""
    before = read_json(run_dir).get("data_content")
    return before in (None, data.sha256.get("content"))


def check_same_data(run_dir: Path, data: Data) -> None:
    """Refuse data that are not those that a finished run was trained on.

    A folder of pictures may have changed since: what was for training could then be
    in the test split.

    Raises:
        ValueError: where the content is another one.
    """
    if not has_same_data(run_dir, data):
        raise ValueError(
            f"{data.origin} holds other images than {run_dir} was trained on; allowed: "
            "the same ones, or a training with these"
        )


def data_of_run(
    run_dir: Path, before: str, now: str | None = None, labels: bool = False
) -> Data:
    """The data that a finished run was trained on, also where they lie elsewhere now.

    ``before`` names them as the run does, and ``now`` where they lie; ``labels`` is
    that of ``load_data``.

    Raises:
        DataError: where they cannot be read.
        ValueError: where the content is another one, as ``check_same_data``.
    """
    try:
        data = load_data(before if now is None else moved(before, now), labels=labels)
    except DataError as error:
        if now is not None or not is_own(before):
            raise
        kind = before.partition(":")[0]
        raise DataError(f"{error}; if it has moved: --data {kind}:PATH") from None
    check_same_data(run_dir, data)
    return data


def write_run(
    run: Run, model: LatentModel, data: Data, began: dict[str, Any] | None
) -> None:
    """Write what ``finish`` does, of a run of any model with a bound."""
    content = data.sha256.get("content")
    values = {**run.to_dict(), "data_content": content, "began": began}
    finish(run.run_dir, model, values)


def finish(run_dir: Path, model: nn.Module, values: dict[str, Any]) -> None:
    """Write the weights and, last, ``run.json``: what has one is a finished run."""
    weights = run_dir / "model.safetensors"
    sha256 = zoo.save_weights(weights, model.state_dict(), half=False)
    values = {"schema": SCHEMA, **values, "weights_sha256": sha256}
    content = json.dumps(values, indent=1)
    write_atomically(run_dir / "run.json", content.encode())


def publish(
    run_dir: str | Path,
    row: str,
    *,
    iw_samples: int = 1000,
    iw_images: int | None = None,
    images: int | None = None,
    ship: bool = False,
    note: str = "",
    published: str | None = None,
    root: str | Path | None = None,
    data_now: str | None = None,
    labels: bool = False,
    progress: bool = True,
) -> Path:
    """Evaluate a finished run on every split and write its record.

    −ELBO is measured with one posterior sample on every image, or, for a model whose
    bound takes long, on ``images`` seeded ones of each split (and the weighted images
    are then not set against the whole split);
    the importance-weighted bound with K = ``iw_samples`` on ``iw_images`` seeded test
    images (left out, 1000, or all of fewer); of a recurrent model, −ELBO after each
    step of the test split too. With ``ship``, the weights go beside the record in half
    precision, all numbers are those of the rounded weights, and the change in nats is
    recorded. Under ``torchrun`` the processes share the images out, and the first one
    writes. ``data_now`` names the data of the run where they have moved since.
    ``labels`` finds those of mnist-fixed, so that subsets are drawn by class.

    Raises:
        ValueError: for a ``published`` that is no key of ``zoo/published.json``; for
            a ``row`` that names no file, K or images below 1, more images than the test
            split has, or a run without a log;
            for ``ship`` where mistakes were planted, since nobody could use the
            weights. All of them before the work, as the OSError of a place where no
            record can be written. Also for a bound that is not finite,
            and then nothing is written.
        FileNotFoundError, ZooError: as ``load_run``.
    """
    zoo.check_published(published)
    if not re.fullmatch(r"[\w.-]+", row):
        raise ValueError(f"row is {row!r}; allowed: letters, digits, '-', '_' and '.'")
    iw_samples = whole_number("samples (K)", iw_samples, lowest=1)
    if iw_images is not None:
        iw_images = whole_number("images", iw_images, lowest=1)
    run, model = load_run(run_dir := path_of("run_dir", run_dir))
    history = History.read(run_dir)
    if not history.rows or not {"step", "skipped", "seconds"} <= set(history.rows[-1]):
        raise ValueError(f"{run_dir} holds no log of its training (log.jsonl)")
    if published is not None and is_own(run.data):
        raise ValueError(
            f"published is {published!r} for images of your own; allowed: none, since "
            "no published number is comparable"
        )
    if ship and run.mistakes:
        raise ValueError(f"ship is True for a run with mistakes {run.mistakes}")
    team = join(run.train.device)
    data = team.in_turn(lambda: data_of_run(run_dir, run.data, data_now, labels))
    name = f"{folder_of(data)}/{row}-{run.train.seed}"
    path = zoo.folder_of(root) / f"{name}.json"
    team.from_first(lambda: zoo.check_place(path))
    weighed = some_of(data.test, iw_images)
    check_likelihood(model, data, "train", "valid", "test")
    device = pick_device(team.device(run.train.device))
    model.to(device)
    progress = progress and team.first
    change = 0.0
    some: dict[str, Any] = {"samples": 1, "images": images, "team": team}
    if ship:
        exact = evaluate(model, data, "valid", **some)
        model.load_state_dict(zoo.rounded(model.state_dict()))
        rounded = evaluate(model, data, "valid", **some)
        change = rounded.neg_elbo - exact.neg_elbo
    with planted(*run.mistakes):
        bounds = {
            split: evaluate(model, data, split, progress=progress, **some).to_dict()
            for split in ("train", "valid", "test")
        }
        weighted = evaluate(
            model,
            data,
            "test",
            samples=iw_samples,
            images=weighed,
            whole=images is None,
            progress=progress,
            team=team,
        ).to_dict()
        stops = every_stop(model, data) if isinstance(model, Recurrent) else None
    # Before the weights are written: those of a failed training are of no use.
    measured = {"bounds": bounds, "importance_weighted": weighted}
    zoo.check_finite(name, measured)
    values = {
        "row": row,
        "kind": kind_of(run.model),
        "protocol": data.name,
        "config": run.model.to_dict(),
        "mistakes": list(run.mistakes),
        "train_config": run.train.to_dict(),
        "seed": run.train.seed,
        **({"began": began} if (began := read_json(run_dir).get("began")) else {}),
        **of_training(model, data, history, device),
        "weights": None,
        **measured,
        **({} if stops is None else {"every_stop": stops.to_dict()}),
        "published": published,
        "note": note,
    }

    def write() -> Path:
        """The record, and the weights that it names: nobody's come in between."""
        with zoo.only_writer(path):
            if ship:
                shipped = ship_weights(path.with_suffix(".safetensors"), model)
                values["weights"] = {**shipped, "rounding_nats": change}
            return zoo.write_record(name, values, root=root)

    return team.from_first(write)


def of_training(
    model: nn.Module, data: Data, history: History, device: torch.device
) -> dict[str, Any]:
    """What a record says of a training: how long it was, on what, and its curve."""
    last = history.rows[-1]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": last["epoch"],
        "steps": last["step"],
        "training_images": len(data.train),
        "skipped_steps": last["skipped"],
        "seconds": last["seconds"],
        "data_sha256": dict(data.sha256),
        **zoo.describe_environment(device),
        "curve": [
            # Six digits of each, so that a small learning rate is not a zero.
            {k: float(f"{v:.6g}") for k, v in line.items()}
            for line in history.rows
        ],
    }


def folder_of(data: Data) -> str:
    """The folder of a data set's records: its name, or what a file may be called.

    Example:
        >>> data = Data.from_arrays(torch.zeros(9, 4, 4, dtype=torch.uint8))
        >>> folder_of(data)[:19]
        'arrays-arrays-4x4-g'
    """
    return re.sub(r"[^\w.]+", "-", data.name).strip("-")


def ship_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Write the weights in half precision: the file's name, sha256 and size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = zoo.save_weights(path, model.state_dict())
    return {"file": path.name, "sha256": sha256, "bytes": path.stat().st_size}


def run_directory(chapter: str, mode: str, seed: int) -> Path:
    """Where a chapter keeps its trainings: the clone's ``runs``, else the folder's.

    Example:
        >>> run_directory("04-vae", "full", 0).parts[-3:]
        ('runs', '04-vae', 'full-0')
    """
    return runs_folder(Path.cwd()) / chapter / f"{mode}-{seed}"


def runs_folder(here: Path) -> Path:
    """The clone's ``runs``, seen from a folder of it; elsewhere the folder's own."""
    here = here.resolve()
    tops = (p for p in (here, *here.parents) if (p / "drawlib/__init__.py").exists())
    return next(tops, here) / "runs"
