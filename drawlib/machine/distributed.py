"""Several processes train one model: ``torchrun`` starts them, torch connects them.

Each process holds the whole model and takes its rows of every global batch. The noise
and the bits of the whole batch are drawn by every process from the same seed and then
cut like the images, so that the gradient is the one that a single process computes.
That costs each process the draw of the whole batch: little beside a pass through a
model, except for cluttered digits.

After the backward pass one all-reduce adds up the gradients; the loss and the signals
that came ride along, so that all processes skip the same steps and stop after the same
one. ``DistributedDataParallel`` is not used: it hooks into ``forward``, whereas what is
trained here is ``bound``, part of which may be compiled; and it averages over
processes, which is the mean over the batch only where all have as many rows. The price
is that the sum does not overlap with the backward pass.

A process by itself is ``ALONE``, and then nothing here does anything.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["ALONE", "Team", "WorkerLost", "join", "leave", "rank_of_process"]

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS = 600.0  # to wait for the others; DRAWLIB_TIMEOUT changes it


class WorkerLost(RuntimeError):
    """Another process of the job ended or fell silent; the checkpoint resumes.

    Example:
        >>> raise WorkerLost("process 1 fell silent")
        Traceback (most recent call last):
        drawlib.machine.distributed.WorkerLost: process 1 fell silent
    """


@dataclass(frozen=True)
class Team:
    """The processes of one job, as one of them sees it.

    ``rank`` counts from 0 over all machines, ``local_rank`` on this machine.

    Example:
        >>> [Team(rank, size=2).rows(5) for rank in (0, 1)]
        [slice(0, 2, None), slice(2, 5, None)]
        >>> Team(1, size=2).share(5)
        0.6
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """This process's part of n rows; parts differ by one row at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def share(self, n: int) -> float:
        """The weight of a mean over this process's rows in the mean over all n."""
        rows = self.rows(n)
        return (rows.stop - rows.start) / n

    def check_batch(self, n: int, model: nn.Module, device: torch.device) -> None:
        """Refuse a batch of n images that is too small to be shared, or normalised.

        All processes refuse at once: one that failed alone would keep others waiting.

        Raises:
            ValueError: where a process would have no image, or batch norm only one,
                which has no variance (on several GPUs it sees the whole batch).

        Example:
            >>> Team(size=2).check_batch(1, nn.Flatten(), torch.device("cpu"))
            Traceback (most recent call last):
            ValueError: a batch of 1 is shared by 2 processes; allowed: 2 images or more
        """
        if n < self.size:
            raise ValueError(
                f"a batch of {n} is shared by {self.size} processes; "
                f"allowed: {self.size} images or more"
            )
        together = self.size > 1 and device.type == "cuda"
        normed = any(isinstance(layer, nn.BatchNorm1d) for layer in norms(model))
        if normed and not together and n // self.size == 1:
            least = 2 * self.size
            where = "" if self.size == 1 else f" for one of {self.size} processes"
            raise ValueError(
                f"a batch of {n} leaves batch norm 1 image{where}, which has no "
                f"variance; allowed: {least} images or more"
            )

    def device(self, name: str) -> str:
        """The device of this process, where the job asks for ``name``.

        Raises:
            ValueError: for one device asked for by several processes.

        Example:
            >>> Team(1, size=2).device("cuda:0")
            Traceback (most recent call last):
            ValueError: device is 'cuda:0'; allowed with 2 processes: auto, cpu, cuda
        """
        if self.size == 1:
            return name
        if name not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f"device is {name!r}; allowed with {self.size} processes: "
                "auto, cpu, cuda"
            )
        if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return "cpu"
        if self.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {self.local_rank + 1} of this machine has no GPU of its own;"
                f" allowed: --nproc-per-node {torch.cuda.device_count()} or fewer"
            )
        return f"cuda:{self.local_rank}"

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, given to all; they wait, or fail as it does."""
        if self.size == 1:
            return make()
        made: list[Any] = [None]
        if self.first:
            try:
                made = [(make(), None)]
            except Exception as error:
                made = [(None, error)]
        with collective():
            dist.broadcast_object_list(made)
        value, failure = made[0]
        if failure is not None:
            raise failure
        return value

    def in_turn(self, load: Callable[[], T]) -> T:
        """``load()`` everywhere: first by one process a machine, then by the others.

        So that a download is made once, and found by those that come after.
        """
        try:
            if self.local_rank == 0:
                return load()
        finally:
            self.wait()
        return load()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            with collective():
                dist.barrier()

    def gather(self, mine: T) -> list[T]:
        """What every process has, in the order of their ranks, known to all."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        with collective():
            dist.all_gather_object(found, mine)
        return found

    def prepare(self, model: nn.Module) -> None:
        """The first process's weights everywhere, and batch norm as it can be had.

        On GPUs its statistics become those of the global batch (``SyncBatchNorm``). On
        CPUs torch has no such layer: each process normalises by its own rows, and the
        running statistics are averaged after each step.
        """
        if self.size == 1:
            return
        if norms(model):
            if next(model.parameters()).device.type == "cuda":
                nn.SyncBatchNorm.convert_sync_batchnorm(model)
            elif self.first:
                warnings.warn(
                    "on CPUs each process normalises by the batch statistics of its "
                    "own rows: this is not the training of a single process",
                    stacklevel=2,
                )
        with collective():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)

    @torch.no_grad()
    def add_up(
        self,
        model: nn.Module,
        value: Tensor,
        shown: Tensor,
        stop: dict[str, int],
        share: float,
    ) -> tuple[Tensor, Tensor, dict[str, int]]:
        """Gradients of all added up in place; loss, −ELBO and signal of the whole job.

        The gradients come weighted by ``share`` already; the two means do not. A value
        or a gradient that is not finite on one process is so on all of them.
        """
        if self.size == 1:
            # A copy: a signal may fill ``stop`` at any line of the loop, also between
            # the one that saves and the one that ends the training.
            return value, shown, dict(stop)
        shared = [p.grad for p in model.parameters() if p.grad is not None]
        for norm in norms(model):
            if not isinstance(norm, nn.SyncBatchNorm):
                for statistic in (norm.running_mean, norm.running_var):
                    if statistic is not None:
                        shared.append(statistic.mul_(share))
        came = [float(stop.get("signal") == number) for number in SIGNALS]
        means = torch.stack([value.detach(), shown.detach()]) * share
        parts = [
            *(tensor.flatten() for tensor in shared),
            means,
            means.new_tensor(came),
        ]
        flat = torch.cat(parts)
        with collective():
            dist.all_reduce(flat)
        *sums, means, told = flat.split([len(part) for part in parts])
        for tensor, total in zip(shared, sums, strict=True):
            tensor.copy_(total.view_as(tensor))
        asked = [n for n, flag in zip(SIGNALS, told.tolist(), strict=True) if flag]
        return means[0], means[1], {"signal": asked[-1]} if asked else {}


ALONE = Team()


def join(device: str = "auto") -> Team:
    """The team of the job that ``torchrun`` started, or ``ALONE`` outside of one.

    The first call connects the processes: by NCCL where they train on GPUs, by Gloo on
    CPUs. Whoever hears nothing from another for ten minutes (``DRAWLIB_TIMEOUT``, in
    seconds) gives up.

    Raises:
        ValueError: for a device that several processes cannot have, or a timeout that
            is none.
        WorkerLost: where the others never come.

    Example:
        >>> join()
        Team(rank=0, size=1, local_rank=0)
    """
    if not dist.is_available():
        return ALONE
    local = int(os.environ.get("LOCAL_RANK", 0))
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
            return ALONE
        team = Team(rank_of_process(), int(os.environ["WORLD_SIZE"]), local)
        mine = torch.device(team.device(device))
        if mine.type == "cuda":
            torch.cuda.set_device(mine)
        with collective():
            dist.init_process_group(
                "nccl" if mine.type == "cuda" else "gloo", timeout=patience()
            )
    return Team(dist.get_rank(), dist.get_world_size(), local)


def patience() -> timedelta:
    """How long to wait for the others: ``DRAWLIB_TIMEOUT`` seconds, or ten minutes.

    Raises:
        ValueError: for anything but a number above 0.
    """
    given = os.environ.get("DRAWLIB_TIMEOUT") or SECONDS
    try:
        found = timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        found = timedelta(0)
    if found <= timedelta(0):
        raise ValueError(f"DRAWLIB_TIMEOUT is {given!r}; allowed: seconds, above 0")
    return found


def leave() -> None:
    """Part in peace: for the end of a program that went well."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank_of_process() -> int:
    """Which process of a job this is, also before it has joined; 0 outside of one."""
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return int(os.environ["RANK"]) if launched else 0


def norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers of a model."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


@contextmanager
def collective() -> Iterator[None]:
    """Say in one line what it means when a collective operation fails."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise WorkerLost(
            "another process of the job ended or did not answer; the same command "
            f"goes on from the last checkpoint (torch says: {reason})"
        ) from error
