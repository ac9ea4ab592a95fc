"""Checkpoints that survive a kill: atomic, verified, the previous one kept.

What is in one, and how a training goes on from it, says `drawlib.training.runstate`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from drawlib.machine.files import mistaken, replace, write_atomically

__all__ = ["CheckpointError", "load", "save"]

NAME = "checkpoint.pt"  # in a run directory
DIGEST = hashlib.sha256().digest_size


class CheckpointError(RuntimeError):
    """No checkpoint could be written or read, and why, in one line."""


def refused(path: Path, error: OSError) -> CheckpointError:
    """What to raise where the disk takes no more.

    Example:
        >>> str(refused(Path("a/log.jsonl"), OSError(errno.ENOSPC, ""))).split(";")[0]
        'log.jsonl was not written in a: the disk is full'
    """
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    reason = "the disk is full" if full else error.strerror
    newest = path.with_name(NAME)
    kept = any(place.exists() for place in (fresh(newest), newest, previous(newest)))
    left = "the last good checkpoint is intact" if kept else "no checkpoint is there"
    return CheckpointError(
        f"{path.name} was not written in {path.parent}: {reason}; {left}"
    )


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_stem(f"{path.stem}-previous")


def fresh(path: Path) -> Path:
    """Where a checkpoint is written, before it takes the newest one's place."""
    return path.with_stem(f"{path.stem}-new")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dictionaries) to ``path``.

    The file is a sha256 digest followed by what ``torch.save`` writes, so that a
    corrupted file is known as one. The checkpoint that stood there is kept beside it.

    Raises:
        CheckpointError: where the disk refuses; the last good checkpoint stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> save(path, {"step": 3, "w": torch.ones(2)})
        >>> load(path)["step"]
        3
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    try:
        # Three names, two renames: at every moment one whole checkpoint has a name
        # that `load` tries.
        write_atomically(fresh(path), hashlib.sha256(payload).digest() + payload)
        if path.exists():
            replace(path, previous(path))
        replace(fresh(path), path)
    except OSError as error:
        raise refused(path, error) from error


def read(path: Path, device: torch.device | str) -> dict[str, Any]:
    content = path.read_bytes()
    digest, payload = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        what = mistaken(content) or "truncated or altered (wrong sha256)"
        raise CheckpointError(f"{path.name} is {what}")
    # weights_only: a checkpoint is data, and loading it executes nothing.
    try:
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path.name} holds more than data") from error


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest whole checkpoint, or None where there has never been one.

    A newest checkpoint that is damaged is passed over with a warning that says so.

    Raises:
        CheckpointError: where files exist and none of them is whole.
    """
    damaged = []
    for candidate in (fresh(path), path, previous(path)):
        if not candidate.exists():
            continue
        try:
            state = read(candidate, device)
        except (CheckpointError, RuntimeError, OSError) as error:
            told = str(error)
            named = told if told.startswith(candidate.name) else f"{candidate.name}: "
            damaged.append(named if named == told else f"{named}{told}")
            continue
        if damaged:
            warnings.warn(
                f"{'; '.join(damaged)}; resuming from {candidate.name}", stacklevel=2
            )
        return state
    if damaged:
        raise CheckpointError(
            f"no whole checkpoint in {path.parent}: {'; '.join(damaged)}; allowed: "
            "another run directory, or the whole files in this one"
        )
    return None
