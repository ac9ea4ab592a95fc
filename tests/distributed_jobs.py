"""What the processes of ``test_distributed.py`` run, alone and under ``torchrun``.

``distributed_jobs.py checks FOLDER`` runs every check and writes what each process saw;
``distributed_jobs.py main ARGUMENTS`` is ``python -m drawlib`` on toy data, with a
fault planted by ``PLANT=rank:step:fault``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from small_recurrent import draw, glas
from torch import Tensor, nn
from torch.nn import functional as F
from toy_runs import (
    TOY,
    Planted,
    nan_loss,
    toy_config,
    toy_data,
    toy_model,
    use_toy_data,
    weights,
)

from drawlib.data.sets import Data
from drawlib.evaluation import evaluate
from drawlib.machine import distributed
from drawlib.machine.distributed import Team
from drawlib.results import runs
from drawlib.results.runs import Run, publish, train_run
from drawlib.training import train
from drawlib.training.train import fit

BATCH = 15  # odd, so that two processes have different shares


class Exact(Data):
    """The toy data in float64."""

    def binarise(self, *args: Any, **options: Any) -> Tensor:
        return super().binarise(*args, **options).double()


def exact_data() -> Exact:
    data = toy_data()
    return Exact(**{f.name: getattr(data, f.name) for f in fields(data)})


def classes(model: nn.Module, x: Tensor, y: Tensor | None, _: Any) -> Tensor:
    """A loss that needs the labels and draws nothing."""
    assert y is not None
    return F.cross_entropy(model(x), y)


def exact_model(kind: str, seed: int) -> Any:
    """A small model in float64."""
    torch.manual_seed(seed)
    if kind == "vae":
        return toy_model(seed).double()
    if kind == "draw":
        return draw(image_shape=(1, 6, 6))
    if kind == "glas":
        return glas(image_shape=(1, 6, 6))
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()


KINDS = ("vae", "draw", "glas", "classifier")


def gradients(kind: str, folder: Path, rank: int) -> dict[str, Any]:
    """All gradients of a short training, its rows and the weights it ends with."""
    seen: list[Tensor] = []
    clip = train.clip_gradients

    def watch(model: nn.Module, config: Any) -> Tensor:
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        seen.append(torch.cat(found).clone())
        return clip(model, config)

    # Every process but the first starts from weights that must not count.
    model = exact_model(kind, seed=rank)
    loss = classes if kind == "classifier" else None
    config = toy_config(epochs=2, batch_size=BATCH, kl_warmup=3, ema=0.5)
    train.clip_gradients = watch
    try:
        history = fit(model, exact_data(), config, folder, loss=loss, progress=False)
    finally:
        train.clip_gradients = clip
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    return {"gradients": torch.stack(seen), "rows": rows, "weights": weights(model)}


def evaluations(team: Team) -> dict[str, dict[str, Any]]:
    """Bounds from blocks of seven images, the last one of two or of one."""
    data, model = toy_data(other=23), toy_model()
    return {
        split: evaluate(
            model, data, split, samples=3, chunk=21, seed=4, team=team
        ).to_dict()
        for split in ("train", "test")
    }


def bad_step(folder: Path, bad_rank: int, rank: int) -> dict[str, Any]:
    """A training in which one process alone sees a loss that is not finite."""
    model = toy_model(kind=Planted)
    model.plant = {2: nan_loss} if rank == bad_rank else {}
    history = fit(model, toy_data(), toy_config(epochs=1), folder, progress=False)
    return {"skipped": history.rows[-1]["skipped"], "weights": weights(model)}


def batch_norm(folder: Path) -> dict[str, Any]:
    """A training with batch norm: what it warned of, and what it ended with."""
    torch.manual_seed(0)
    layers = nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    model = nn.Sequential(nn.Flatten(), *layers)
    config = toy_config(epochs=1, batch_size=BATCH)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, toy_data(), config, folder, loss=classes, progress=False)
    return {"told": [str(w.message) for w in caught], "weights": weights(model)}


def logged(folder: Path, team: Team) -> dict[str, Any]:
    """A training whose first process alone has a logger, which fails in epoch 2."""
    rows: list[dict[str, float]] = []

    def look(row: dict[str, float]) -> None:
        rows.append(row)
        if row["epoch"] == 2:
            raise ValueError("the logger's disk is full")

    def train_on() -> None:
        hook = look if team.first else None
        fit(toy_model(), toy_data(), toy_config(), folder, on_epoch=hook)

    return {"told": told_by(ValueError, train_on), "epochs": [r["epoch"] for r in rows]}


def told_by(error: type[Exception], action: Any) -> str:
    """The message of the error that an action must raise."""
    try:
        action()
    except error as caught:
        return f"{type(caught).__name__}: {caught}"
    raise AssertionError("nothing was raised")


def refusals(folder: Path, team: Team) -> dict[str, str]:
    """What is refused by all processes at once."""

    def small() -> None:
        fit(toy_model(), toy_data(), toy_config(batch_size=1), folder, progress=False)

    def locked() -> None:
        fit(toy_model(), toy_data(), toy_config(), folder, progress=False)

    def normed() -> None:
        layers = nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        model = nn.Sequential(nn.Flatten(), *layers)
        config = toy_config(batch_size=3)
        fit(model, toy_data(), config, folder, loss=classes, progress=False)

    found = {"small": told_by(ValueError, small), "normed": told_by(ValueError, normed)}
    lock = FileLock(folder / ".lock")
    if team.first:
        lock.acquire(timeout=0)
    team.wait()
    found["locked"] = told_by(train.TrainingStopped, locked)
    lock.release()
    return found


def record(folder: Path) -> dict[str, Any]:
    """A run from its configuration to its record."""
    run = Run(TOY, "mnist-dynamic", folder / "run", toy_config(epochs=1))
    train_run(run, progress=False)
    sizes = {"iw_samples": 300, "iw_images": 13, "root": folder / "zoo"}
    publish(run.run_dir, "toy", ship=True, progress=False, **sizes)
    _, model = runs.load_run(run.run_dir)
    if distributed.rank_of_process():
        runs.begin = None  # type: ignore[assignment] # the first process reads for all
    kept = toy_config(epochs=1, lr=0.0)
    on = Run(TOY, "mnist-dynamic", folder / "on", kept, start=str(run.run_dir))
    begun, _, _ = train_run(on, progress=False)
    return {"weights": weights(model), "begun": weights(begun)}


def checks(folder: Path) -> None:
    """Everything at once: it is the start of the processes that takes long."""
    use_toy_data(setattr)
    team = distributed.join("cpu")
    found: dict[str, Any] = {"team": (team.rank, team.size)}
    for kind in KINDS:
        found[kind] = gradients(kind, folder / kind, team.rank)
    found["evaluations"] = evaluations(team)
    found["bad step"] = bad_step(folder / "bad", 1, team.rank)
    found["batch norm"] = batch_norm(folder / "norm")
    found["refusals"] = refusals(folder / "refused", team)
    found["record"] = record(folder / "record")
    found["logged"] = logged(folder / "logged", team)
    torch.save(found, folder / f"found-{team.rank}.pt")
    distributed.leave()


def plant(text: str) -> None:
    """Let one process be ill at a step of its training."""
    rank, step, fault = text.split(":")
    if distributed.rank_of_process() != int(rank):
        return
    clip, steps = train.clip_gradients, iter(range(10**6))

    def ill(model: nn.Module, config: Any) -> Tensor:
        if next(steps) == int(step):
            if fault == "silence":
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                time.sleep(600)
            for _ in range(2):  # as a scheduler and torchrun both send it
                os.kill(os.getpid(), signal.Signals[fault])
        return clip(model, config)

    train.clip_gradients = ill


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "checks":
        checks(Path(sys.argv[2]))
    else:
        from drawlib.__main__ import main

        use_toy_data(setattr)
        plant(os.environ["PLANT"])
        sys.exit(main(sys.argv[2:]))
