"""Notebooks executed by Dask's workers, several at a time, and what became of each."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drawlib.batches.jobs import Job
from drawlib.machine.files import write_atomically
from drawlib.machine.progress import clock
from drawlib.machine.stopping import Terminated, ended_by_sigterm
from drawlib.training.runstate import History

__all__ = ["EXTRA", "Outcome", "run_batch", "run_job", "say_at_once"]

EXTRA = "batches need two more packages: in a clone, pip install '.[batches]'"
TOPIC = "drawlib-jobs"
BUSY = "another process trains in"


@dataclass(frozen=True)
class Outcome:
    """How one run ended; ``told`` is one line."""

    name: str
    good: bool
    told: str
    seconds: float


def run_job(job: Job, batch: str = "") -> Outcome:
    """Execute one notebook, in a worker; never raises for what the notebook does.

    The command line of its kernel names the ``batch``, for ``interrupt_kernels``.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from drawlib.batches.kernels import LocalKernelManager

    tell(job.name)
    start = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    # The kernel of a worker that was killed may take some seconds to notice it.
    for patience in (*[2.0] * 15, 0.0):
        told = ""  # what the attempt before said is over
        try:
            papermill.execute_notebook(
                str(job.notebook),
                str(job.output),
                parameters=job.parameters,
                kernel_name="python3",
                kernel_manager_class=LocalKernelManager,
                cwd=str(job.notebook.parent),
                progress_bar=False,
                extra_arguments=[mark(batch)],
            )
        except PapermillExecutionError as error:
            told = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
            if BUSY in told and patience:
                time.sleep(patience)
                continue
        except Exception as error:  # a notebook that cannot be read, a full disk
            told = f"{type(error).__name__}: {error}".splitlines()[0]
        break
    if not told:
        told = mark_done(job)
    return Outcome(job.name, not told, told, time.monotonic() - start)


def mark_done(job: Job) -> str:
    """Leave the marker that makes the next batch skip this run; what is wrong, if so.

    Without its record a run is not done, however well the notebook ended.
    """
    left = [f"{path.parent.name}/{path.stem}" for path in job.written()]
    if job.chosen and not left:
        return f"the notebook wrote no record {job.rows[0]}-{job.seed}"
    content = {"parameters": job.parameters, "records": sorted(left)}
    write_atomically(job.marker, json.dumps(content, indent=1).encode())
    return ""


def tell(name: str) -> None:
    """Say from a worker that a run begins."""
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # no worker: called by itself
        worker = get_worker()
        worker.log_event(TOPIC, {"job": name, "where": str(worker.name)})


def mark(batch: str) -> str:
    """What the kernels of a batch are known by: an argument that they ignore."""
    return f"--Drawlib.batch={batch}"


def interrupt_kernels(batch: str) -> int:
    """SIGINT for a batch's kernels on this worker: their trainings save and end."""
    import psutil

    count = 0
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if mark(batch) in child.cmdline():
                child.send_signal(signal.SIGINT)
                count += 1
    return count


def outlive_interrupts(client: Any) -> None:
    """Let the workers of a local cluster outlive Ctrl-C, which reaches them too.

    Otherwise their kernels would end without saving; the batch says what is to be done.
    """
    from distributed import WorkerPlugin

    class Patient(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, lambda number, frame: None)

    client.register_plugin(Patient())


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` calls each GPU that this process may use.

    torch counts them from 0, whichever they are: its numbers would name others' GPUs.
    """
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(k) for k in range(count)]
    return [name.strip() for name in names[:count]]


def data_folders() -> dict[str, str]:
    """Where data may lie, from any folder: kernels start in that of the notebooks."""
    given = {name: os.environ.get(name) for name in ("DRAWLIB_DATA", "DRAWLIB_CACHE")}
    return {k: os.path.abspath(os.path.expanduser(v)) for k, v in given.items() if v}


def local_cluster(at_once: int, device: str) -> Any:
    """Dask workers on this machine: one a GPU where there are any, else on the CPU.

    ``CUDA_VISIBLE_DEVICES`` says which GPUs may be had; each worker gets one of them.
    """
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus() if device in ("auto", "cuda") else []
    count = min(at_once, len(gpus)) if gpus else at_once
    cores = max(1, (os.cpu_count() or 1) // count)
    workers = {}
    for k in range(count):
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))}
        environment |= data_folders()
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[k]
        workers[k] = {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,  # a kernel's memory is not the worker's
                "env": environment,
                "dashboard": False,
                "silence_logs": logging.ERROR,
                "resources": {"GPU": 1} if gpus else {},
            },
        }
    address = {"host": "127.0.0.1", "port": 0, "dashboard": False}
    return SpecCluster(
        workers, {"cls": Scheduler, "options": address}, silence_logs=logging.ERROR
    )


def say_at_once(line: str) -> None:
    """Print also where the output is a file that somebody follows."""
    print(line, flush=True)


def run_batch(
    jobs: Sequence[Job],
    *,
    at_once: int = 1,
    scheduler: str | None = None,
    every: float = 30.0,
    say: Callable[[str], None] = say_at_once,
) -> list[Outcome]:
    """Run what is not done, ``at_once`` at a time; all outcomes, good and bad.

    ``scheduler`` is the address of a Dask scheduler that runs elsewhere; left out, a
    local cluster is made. Where workers have a resource ``GPU``, a run takes one. A
    worker that dies gives its run to another one, which goes on from the checkpoint;
    a run that fails stops no other.

    Raises:
        ValueError: where the ``batches`` extra is not installed.
        OSError: where the scheduler cannot be reached.
    """
    try:
        import papermill  # noqa: F401
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"{EXTRA} ({error})") from None
    todo = [job for job in jobs if not job.done()]
    if not todo:
        return []
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_sigterm("stopped; the same command goes on"))
        if scheduler is None:
            where = stack.enter_context(local_cluster(at_once, todo[0].device))
        else:
            where = scheduler
        client = stack.enter_context(Client(where, timeout=30))
        if scheduler is None:
            outlive_interrupts(client)
        batch = Batch(client, todo, at_once, every, say)
        try:
            return batch.run()
        except (KeyboardInterrupt, Terminated):
            batch.stop()
            raise


class Batch:
    """The running of one batch: what is submitted, what has begun, what has ended."""

    def __init__(
        self,
        client: Any,
        todo: Sequence[Job],
        at_once: int,
        every: float,
        say: Callable[[str], None],
    ) -> None:
        self.client, self.every, self.say = client, every, say
        self.waiting, self.at_once, self.total = list(todo), at_once, len(todo)
        self.running: dict[Any, Job] = {}
        self.outcomes: list[Outcome] = []
        self.begun, self.name = time.monotonic(), uuid.uuid4().hex
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        gpu = any("GPU" in worker["resources"] for worker in workers)
        self.resources = {"GPU": 1} if gpu else None
        client.subscribe_topic(TOPIC, self.started)

    def started(self, event: tuple[float, dict[str, str]]) -> None:
        """A worker said that it begins, perhaps with what another one left."""
        self.say(f"started   {event[1]['job']} on worker {event[1]['where']}")

    def submit(self) -> None:
        """Fill up what may run at once."""
        while self.waiting and len(self.running) < self.at_once:
            job = self.waiting.pop(0)
            future = self.client.submit(
                run_job, job, self.name, key=f"{job.name} {time.time_ns()}",
                pure=False, resources=self.resources,
            )  # fmt: skip
            self.running[future] = job

    def run(self) -> list[Outcome]:
        """Until everything has ended."""
        from distributed import wait

        self.submit()
        while self.running:
            try:
                ended = wait(list(self.running), self.every, "FIRST_COMPLETED").done
            except TimeoutError:
                self.say(self.summary())
                continue
            for future in ended:
                self.end(future)
            self.submit()
        return self.outcomes

    def end(self, future: Any) -> None:
        """Note how a run ended."""
        job = self.running.pop(future)
        try:
            outcome = future.result()
        except Exception as error:  # every worker that tried it died
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            outcome = Outcome(job.name, False, told, time.monotonic() - self.begun)
        self.outcomes.append(outcome)
        told = "finished" if outcome.good else "FAILED  "
        why = f": {outcome.told}" if outcome.told else ""
        self.say(f"{told}  {job.name}, {clock(outcome.seconds)}{why}")
        self.say(self.summary())

    def summary(self) -> str:
        """Where the batch stands, with the newest epoch of each run."""
        bad = sum(not outcome.good for outcome in self.outcomes)
        line = (
            f"{len(self.outcomes) - bad} of {self.total} finished, {bad} failed, "
            f"{len(self.running)} running, {len(self.waiting)} waiting, "
            f"{clock(time.monotonic() - self.begun)}"
        )
        return "\n".join([line, *map(newest_epoch, self.running.values())])

    def stop(self) -> None:
        """Let the running trainings save; give them half a minute for it."""
        from distributed import wait

        self.say("stopping: the running trainings write their checkpoints")
        # Workers may be gone as well: Ctrl-C in a terminal reaches them too.
        with contextlib.suppress(Exception):
            workers = self.workers()
            self.client.run(interrupt_kernels, self.name, workers=workers)
            wait(list(self.running), 30)

    def workers(self) -> list[str]:
        """Where this batch's runs are: others may use the same scheduler."""
        own = {future.key for future in self.running}
        processing = self.client.processing().items()
        return [worker for worker, keys in processing if own.intersection(keys)]


def newest_epoch(job: Job) -> str:
    """What the log of a running job says last."""
    for log in job.logs()[:1]:
        for row in History.read(log.parent).rows[-1:]:
            told = (
                f"  {job.name}: {log.parent.name} epoch {row['epoch']}, "
                f"validation {row['valid']:.2f} nats"
            )
            bits = row.get("valid_bits")
            return told if bits is None else f"{told} ({bits:.3f} bits per dimension)"
    return f"  {job.name}: no epoch yet"
