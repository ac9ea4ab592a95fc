"""A run directory: its checkpoint and its log, and how a training goes on from them."""

from __future__ import annotations

import json
import math
import time
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from drawlib.data.own import alike
from drawlib.data.sets import Data
from drawlib.machine.device import is_full
from drawlib.machine.distributed import ALONE, Team
from drawlib.machine.files import path_of, write_atomically
from drawlib.mistakes.planting import active
from drawlib.training import checkpoint
from drawlib.training.optimisers import Optimisers
from drawlib.training.schedule import TrainConfig

__all__ = ["History", "RunState", "TrainingStopped"]


SCHEMA = "drawlib-checkpoint-1"
ROW = {"epoch", "valid"}  # in every row of a log


def is_row(row: Any) -> bool:
    """Whether this is a row of a log: numbers by name.

    Example:
        >>> is_row({"epoch": 1, "valid": 150.0}), is_row({"epoch": "1", "valid": 150.0})
        (True, False)
    """
    named = isinstance(row, dict) and ROW <= set(row)
    return named and all(isinstance(row[name], int | float) for name in ROW)


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says why and what is kept.

    Example:
        >>> raise TrainingStopped("another process trains in runs/draw")
        Traceback (most recent call last):
        drawlib.training.runstate.TrainingStopped: another process trains in runs/draw
    """


@dataclass(frozen=True)
class History:
    """What a run logged: one dictionary per evaluated epoch, all bounds in nats.

    Example:
        >>> History(({"epoch": 1, "valid": 150.0},)).column("valid")
        [150.0]
    """

    rows: tuple[dict[str, float], ...]

    @classmethod
    def read(cls, run_dir: str | Path) -> History:
        """The log of a run directory, also while it trains.

        Raises:
            ValueError: where it is truncated, or holds anything else.
        """
        path = path_of("run_dir", run_dir) / "log.jsonl"
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            rows = tuple(json.loads(line) for line in text.splitlines())
        except ValueError as error:
            raise ValueError(f"{path} is no whole log: {error}") from None
        for row in rows:
            if not is_row(row):
                needed = ", ".join(sorted(ROW))
                raise ValueError(
                    f"{path} holds {row!r:.40}; allowed: {needed} …, all numbers"
                )
        return cls(rows)

    def column(self, name: str) -> list[float]:
        """One number of every row."""
        return [row[name] for row in self.rows]


class RunState:
    """What a run directory holds: the checkpoint, the log, the counters.

    Of several processes only the first one reads and writes; what it has read is
    given to all, so that no other one needs to see the directory.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        model: nn.Module,
        data: Data,
        team: Team = ALONE,
        start: str = "",
        loss: str = "",
    ) -> None:
        self.team = team
        self.path, self.log_path = run_dir / checkpoint.NAME, run_dir / "log.jsonl"
        # Where and how often a run saves, or on which device it goes on, may change
        # between two parts of it; what is trained may not.
        what = {k: v for k, v in config.to_dict().items() if k not in MAY_CHANGE}
        self.config = {
            "train": what,
            "data": {
                "name": str(data.name),
                "images": len(data.train),
                "content": data.sha256.get("content"),
                "pixels": [pixels(split.images) for split in (data.train, data.valid)],
            },
        }
        # Neither shows in the configuration of the model or of the training. Each is
        # left out where there is nothing to say, as in checkpoints that lack it.
        if data.fragments:
            self.config["data"]["fragments"] = int(data.fragments)
        if active():
            what["mistakes"] = list(active())
        if start:
            what["start"] = start
        what["loss"] = loss
        described: Any = getattr(model, "config", None)
        if described is not None:
            self.config["model"] = described.to_dict()
        self.keep = config.keep
        self.step, self.skipped, self.in_a_row = 0, 0, 0
        self.seconds, self.total, self.counted = 0.0, 0.0, 0
        self.smooth, self.saved_at = math.nan, time.monotonic()
        self.every = config.checkpoint_seconds
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"valid": math.inf, "state": {}}

    def resume(
        self,
        model: nn.Module,
        optimisers: Optimisers,
        average: AveragedModel | None,
        device: torch.device,
    ) -> None:
        """Load the newest whole checkpoint, if there is one."""
        # What travels to the other processes travels through main memory.
        where = device if self.team.size == 1 else torch.device("cpu")
        state = self.team.from_first(lambda: checkpoint.load(self.path, where))
        if state is None:
            if self.team.first:
                self.log_path.unlink(missing_ok=True)
            return
        if (schema := state.get("schema", SCHEMA)) != SCHEMA:
            raise checkpoint.CheckpointError(
                f"{self.path} has the schema {schema!r:.40}; allowed: {SCHEMA!r}, or "
                "none in an older file: the version of drawlib that wrote it, or "
                "another run directory"
            )
        lost = {"config", "model", "optimiser", "rows", "best", "rng"} - set(state)
        if lost or not {"train", "data"} <= set(state["config"]):
            raise checkpoint.CheckpointError(
                f"{self.path} holds no training: it lacks "
                f"{', '.join(sorted(lost)) or 'its configuration'}; allowed: another "
                "run directory"
            )
        # What an older checkpoint does not name had its default then.
        plain = TrainConfig().to_dict()
        defaults = {k: v for k, v in plain.items() if k not in MAY_CHANGE}
        of_loss = {"loss": self.config["train"]["loss"]}
        state["config"]["train"] = {**defaults, **of_loss, **state["config"]["train"]}
        if "model" in state["config"]:
            described: Any = model.config
            had = {f.name: f.default for f in fields(described)}
            later = self.config["model"].keys() - state["config"]["model"].keys()
            state["config"]["model"] |= {k: had[k] for k in later if k in had}
        # A folder that has moved holds the same images: its content is compared too.
        before, now = state["config"].get("data", {}), self.config["data"]
        before.setdefault("pixels", now["pixels"])  # not in older checkpoints
        if alike(str(before.get("name")), now["name"]):
            before["name"] = now["name"]
        if state["config"] != self.config:
            raise TrainingStopped(
                f"{self.path.parent} belongs to another config: "
                f"{differences(state['config'], self.config)}; "
                "choose another run directory, or the old config"
            )
        own, weights = model.state_dict(), state["model"]
        if {k: v.shape for k, v in own.items()} != {
            k: v.shape for k, v in weights.items()
        }:
            raise checkpoint.CheckpointError(
                f"{self.path} holds weights of another model; allowed: another run "
                "directory"
            )
        model.load_state_dict(weights)
        # Whole, and yet not as this version writes it: its sha256 is its own.
        try:
            optimisers.load_state_dict(state["optimiser"])
            if average is not None:
                average.load_state_dict(state["average"])
            for name in COUNTERS:
                setattr(self, name, state[name])
            self.rows, self.best = list(state["rows"]), dict(state["best"])
            if not all(map(is_row, self.rows)) or not {"valid", "state"} <= set(
                self.best
            ):
                raise ValueError("other rows, or another best")
            torch.set_rng_state(state["rng"].cpu())
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if is_full(error):
                raise
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise checkpoint.CheckpointError(
                f"{self.path} is no checkpoint of this version of drawlib "
                f"({reason}); allowed: the version that wrote "
                "it, or another run directory"
            ) from error
        # Epochs after the checkpoint are trained again, and logged again.
        self.write_log()

    def save(
        self,
        model: nn.Module,
        optimisers: Optimisers,
        average: AveragedModel | None,
    ) -> None:
        if not self.team.first:
            return
        state = {name: getattr(self, name) for name in COUNTERS} | {
            "schema": SCHEMA,
            "config": self.config,
            "model": model.state_dict(),
            "optimiser": optimisers.state_dict(),
            "average": None if average is None else average.state_dict(),
            "rows": self.rows,
            "best": self.best,
            "rng": torch.get_rng_state(),
        }
        checkpoint.save(self.path, state)
        self.saved_at = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self.saved_at > self.every

    def record(self, value: float) -> None:
        """Count one good step whose −ELBO was ``value``."""
        self.in_a_row = 0
        self.total, self.counted = self.total + value, self.counted + 1
        mixed = 0.95 * self.smooth + 0.05 * value
        self.smooth = value if math.isnan(self.smooth) else mixed

    def skip(self) -> None:
        """Count one non-finite step.

        Raises:
            TrainingStopped: for the tenth in a row.
        """
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.in_a_row >= 10:
            where = self.path.parent
            kept = (
                f"the last good checkpoint is in {where}"
                if self.path.exists()
                else f"no checkpoint had been written in {where}"
            )
            raise TrainingStopped(
                f"ten steps in a row were not finite, the last at step {self.step}; "
                + kept
            )

    def log(
        self, epoch: int, rate: float, valid: dict[str, float], model: nn.Module
    ) -> dict[str, float]:
        """Append a row, and keep the weights if they are the best so far; the row."""
        self.rows.append(
            {
                "epoch": epoch,
                "step": self.step,
                # No number, rather than 0, where every step was skipped.
                "train": self.total / self.counted if self.counted else math.nan,
                **valid,
                "lr": rate,
                "skipped": self.skipped,
                "seconds": round(self.seconds, 3),
            }
        )
        self.total, self.counted = 0.0, 0
        better = math.isfinite(valid["valid"]) and valid["valid"] < self.best["valid"]
        if better or self.keep == "last":
            weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
            self.best = {"valid": valid["valid"], "epoch": epoch, "state": weights}
        self.write_log()
        return self.rows[-1]

    def write_log(self) -> None:
        if not self.team.first:
            return
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        try:
            write_atomically(self.log_path, lines.encode())
        except OSError as error:
            raise checkpoint.refused(self.log_path, error) from error

    def history(self) -> History:
        """The log, for those who wrote it and those who did not."""
        if self.team.first:
            return History.read(self.log_path.parent)
        return History(tuple(self.rows))

    def finish(self, model: nn.Module, average: AveragedModel | None) -> None:
        """Leave in ``model`` the weights that were asked for, ready to evaluate.

        Raises:
            TrainingStopped: where no validation of the run was finite.
        """
        valid = [row["valid"] for row in self.rows]
        if not any(math.isfinite(value) for value in valid):
            told = f"the last is {valid[-1]}" if valid else "there is none"
            raise TrainingStopped(
                f"{self.path.parent} has no finite validation: {told} after step "
                f"{self.step}; the training has diverged, and none of its weights are "
                "kept (a lower lr, or clipping, helps)"
            )
        if self.best["state"]:
            model.load_state_dict(self.best["state"])
        elif average is not None:
            model.load_state_dict(average.module.state_dict())
        model.eval()


COUNTERS = (
    "step",
    "skipped",
    "in_a_row",
    "seconds",
    "total",
    "counted",
    "smooth",
)


MAY_CHANGE = ("device", "compile", "recompute", "checkpoint_seconds")


def pixels(images: Tensor) -> int:
    """A checksum of images, which tells them from others where their name does not.

    Example:
        >>> pixels(torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
        1696784233
    """
    return zlib.crc32(images.cpu().contiguous().numpy().data)


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which fields of two nested configs differ, in words."""
    found = []
    for part in sorted(set(old) | set(new)):
        a, b = old.get(part, {}), new.get(part, {})
        found += [
            f"{part}.{key} was {a.get(key)!r} and is {b.get(key)!r}"
            for key in sorted(set(a) | set(b))
            if a.get(key) != b.get(key)
        ]
    return ", ".join(found)
