"""What a batch has to run: one notebook, one seed and one row each (see reproduce)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drawlib.machine.files import write_atomically
from drawlib.machine.progress import clock
from drawlib.results import tables, zoo
from drawlib.results.plan import Planned, plan
from drawlib.results.runs import runs_folder
from drawlib.results.zoo import Record, records
from drawlib.training.runstate import History

__all__ = [
    "BatchFailed",
    "Job",
    "adopt",
    "describe",
    "gather",
    "jobs_for",
]

DEVICES = ("auto", "cpu", "cuda", "mps")


class BatchFailed(RuntimeError):
    """Some runs of a batch failed; the message names them."""


@dataclass(frozen=True)
class Job:
    """One execution of one notebook.

    Attributes:
        rows: the planned rows that it trains (``protocol/row``).
        chosen: whether the notebook has a ``rows`` parameter, and is given them.
    """

    notebook: Path
    seed: int
    rows: tuple[str, ...]
    chosen: bool
    device: str = "auto"
    mode: str = "full"

    @property
    def name(self) -> str:
        """What the plan and the summary call it."""
        row = f" {self.rows[0]}" if self.chosen else ""
        return f"{self.notebook.stem}{row} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the notebook keeps its trainings, as ``run_directory`` says."""
        runs = runs_folder(self.notebook.parent)
        return runs / self.notebook.stem / f"{self.mode}-{self.seed}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What papermill injects."""
        given = {"mode": self.mode, "seed": self.seed, "device": self.device}
        return given | ({"rows": " ".join(self.rows)} if self.chosen else {})

    @property
    def output(self) -> Path:
        """The executed notebook."""
        row = self.rows[0].replace("/", "-") if self.chosen else "all"
        return self.folder / f"{row}.ipynb"

    @property
    def marker(self) -> Path:
        """What a finished execution leaves behind."""
        return self.output.with_suffix(".done.json")

    def planned(self) -> list[Planned]:
        """The plan of its rows."""
        known = plan()
        return [known[name] for name in self.rows]

    def zoos(self) -> list[Path]:
        """Where its records may lie: a chapter may shorten its folder's name."""
        chapter = f"{self.notebook.stem[:2]}-*"
        runs = self.folder.parent.parent
        found = list(runs.glob(f"{chapter}/{self.mode}-{self.seed}/zoo"))
        found += runs.glob(f"{chapter}/zoo-{self.mode}")
        return sorted({self.folder / "zoo", *found})

    def written(self) -> list[Path]:
        """The records that its rows have."""
        names = [f"{row}-{self.seed}.json" for row in self.rows]
        return [z / name for z in self.zoos() for name in names if (z / name).exists()]

    def done(self) -> bool:
        """Whether the notebook ran to its end, and its records are still there."""
        if not self.marker.exists():
            return False
        left = json.loads(self.marker.read_text(encoding="utf-8"))["records"]
        return set(left) <= {f"{p.parent.name}/{p.stem}" for p in self.written()}

    def logs(self) -> list[Path]:
        """The logs of its trainings, also while they run; the newest one first."""
        runs, part = self.folder.parent.parent, f"{self.mode}-{self.seed}"
        found, changed = [], {}
        # Somebody may throw trainings away meanwhile, which is no reason to fail.
        with contextlib.suppress(FileNotFoundError):
            found = list(runs.glob(f"{self.notebook.stem[:2]}-*/{part}/**/log.jsonl"))
        if self.chosen:
            found = [p for p in found if p.parent == self.folder / self.rows[0]]
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                changed[path] = path.stat().st_mtime
        return sorted(changed, key=lambda path: -changed[path])

    def seconds(self) -> float:
        """About how long it still takes on a CPU core."""
        left = 0.0
        for p in self.planned():
            run_dir = self.folder / p.protocol / p.row
            rows = History.read(run_dir).rows
            epochs = p.train.epochs - (rows[-1]["epoch"] if rows else 0)
            # The bounds at the end cost about what two epochs cost.
            left += (max(epochs, 0) + 2) * p.seconds_an_epoch
        return left


def chooses_rows(notebook: Path) -> bool:
    """Whether the parameters cell has ``rows``."""
    import papermill

    return "rows" in papermill.inspect_notebook(str(notebook))


def jobs_for(
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    notebooks: Path = Path("notebooks"),
    device: str = "auto",
    mode: str = "full",
    unfinished: bool = False,
) -> tuple[list[Job], list[str]]:
    """The runs that the tables need, and what no notebook can run.

    ``names``: tables; none of them stands for all. ``unfinished`` leaves out the rows
    whose shipped record has as many epochs as planned. ``device`` is a kind: each run
    has one GPU, and ``CUDA_VISIBLE_DEVICES`` says which ones there are to be had.

    Raises:
        ValueError: for an unknown table, no seed, a device that is no kind, or
            ``notebooks`` that are no folder.
    """
    titles = tables.table_names()
    for name in names:
        if name not in titles:
            raise ValueError(f"table is {name!r}; allowed: {', '.join(titles)}")
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds is {tuple(seeds)}; allowed: one or more, from 0")
    if device not in DEVICES:
        raise ValueError(
            f"device is {device!r}; allowed: {', '.join(DEVICES)} "
            "(CUDA_VISIBLE_DEVICES says which GPUs are used)"
        )
    if not notebooks.is_dir():
        raise ValueError(
            f"notebooks is {str(notebooks)!r}; allowed: the folder of the chapters"
        )
    known, wanted, missing, jobs = plan(), {}, [], []
    for name in names or titles:
        for entry in tables.definitions()[name]["rows"]:
            for row in filter(None, (entry["name"], entry.get("compare"))):
                if row in known:
                    wanted[row] = known[row]
                else:
                    missing.append(f"{row} is not planned")
    for chapter in sorted({p.chapter for p in wanted.values()}):
        rows = [name for name, p in wanted.items() if p.chapter == chapter]
        found = sorted(notebooks.glob(f"{chapter}-*.ipynb"))
        if not found:
            what = f"chapter {chapter} is not in {notebooks}"
            missing.append(f"{what}: {', '.join(rows)}")
            continue
        notebook, chosen = found[0].resolve(), chooses_rows(found[0])
        for seed in dict.fromkeys(seeds):  # one given twice is one
            need = [r for r in rows if not (unfinished and is_finished(known[r], seed))]
            groups = [(row,) for row in need] if chosen else [tuple(need)] * bool(need)
            jobs += [Job(notebook, seed, g, chosen, device, mode) for g in groups]
    return jobs, missing


def is_finished(planned: Planned, seed: int) -> bool:
    """Whether the record that ships is as long as planned."""
    return any(
        r["seed"] == seed and r["epochs"] >= planned.train.epochs
        for r in records(planned.protocol, planned.row)
    )


def describe(jobs: Sequence[Job], missing: Sequence[str], at_once: int) -> str:
    """The plan in words: what runs, what is done, and the expected time."""
    lines, total = [], 0.0
    for job in jobs:
        if job.done():
            lines.append(f"  done     {job.name}")
            continue
        total += (seconds := job.seconds())
        begun = " (goes on)" if job.logs() else ""
        lines.append(f"  {clock(seconds):>8s} {job.name}{begun}")
        if not job.chosen:
            lines.append(f"           trains {', '.join(job.rows)}")
    lines += [f"  not run  {why}" for why in missing]
    left = sum(not job.done() for job in jobs)
    lines.append(
        f"{left} of {len(jobs)} runs to do, {at_once} at a time: about "
        f"{clock(total / max(1, min(at_once, left)))} on CPU cores as fast as those "
        "of the records; a GPU is faster, by how much the records say"
    )
    return "\n".join(lines)


def gather(runs: Path, mode: str = "full") -> list[Record]:
    """The records that ship, with those that batches have written in their place."""
    found = {record.name: record for record in records()}
    own = [*runs.glob(f"*/{mode}-*/zoo"), *runs.glob(f"*/zoo-{mode}")]
    for folder in sorted(own):
        found |= {record.name: record for record in records(root=folder)}
    return [found[name] for name in sorted(found)]


def adopt(jobs: Sequence[Job]) -> list[Path]:
    """Copy the records and weights of finished jobs to where the tables read them."""
    copied = []
    for job in jobs:
        for path in job.written():
            target = zoo.ZOO / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            weights = path.with_suffix(".safetensors")
            if weights.exists():  # first the weights: a record names what is there
                there = target.with_suffix(".safetensors")
                write_atomically(there, weights.read_bytes())
            write_atomically(target, path.read_bytes())
            copied.append(target)
    return copied
