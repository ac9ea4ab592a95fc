"""Batches of notebooks in ``full`` mode, run by Dask, that reproduce the tables.

One run is one notebook with one seed, and with one row where the notebook lets it be
chosen. What is to be run comes from the plan (``drawlib.results.plan``), what is done
from the records, how it goes on from the checkpoints. So a batch can be stopped,
killed, or moved to another machine at any moment, and the same command continues it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from drawlib.batches.batch import EXTRA, run_batch, say_at_once
from drawlib.batches.jobs import BatchFailed, adopt, describe, gather, jobs_for
from drawlib.results import tables
from drawlib.results.runs import runs_folder

__all__ = ["reproduce"]


def reproduce(
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    at_once: int = 1,
    scheduler: str | None = None,
    device: str = "auto",
    mode: str = "full",
    dry_run: bool = False,
    unfinished: bool = False,
    adopt_records: bool = False,
    notebooks: Path = Path("notebooks"),
    say: Callable[[str], None] = say_at_once,
) -> None:
    """The whole command: plan, batch, new records, tables.

    Raises:
        BatchFailed: where a run failed; the message names it.
        ValueError: as ``jobs_for`` and ``run_batch``, or for fewer than one at a time.
    """
    if at_once < 1:
        raise ValueError(f"jobs is {at_once}; allowed: 1 or more")
    if mode not in ("smoke", "full"):
        raise ValueError(f"mode is {mode!r}; allowed: smoke, full")
    try:
        jobs, missing = jobs_for(
            names,
            seeds,
            notebooks=notebooks,
            device=device,
            mode=mode,
            unfinished=unfinished,
        )
    except ImportError as error:
        raise ValueError(f"{EXTRA} ({error})") from None
    say(describe(jobs, missing, at_once))
    if dry_run:
        return
    outcomes = run_batch(jobs, at_once=at_once, scheduler=scheduler, say=say)
    for job in jobs:
        lacking = {p.name for p in job.planned()} - {
            f"{path.parent.name}/{path.stem.rpartition('-')[0]}"
            for path in job.written()
        }
        if job.done() and lacking:
            say(f"{job.name} wrote no record of {', '.join(sorted(lacking))}")
    if adopt_records:
        for path in adopt([job for job in jobs if job.done()]):
            say(f"adopted {path.parent.name}/{path.name}")
    runs = runs_folder(notebooks)
    where = runs / ("tables" if mode == "full" else f"tables-{mode}")
    found = gather(runs, mode)
    tables.write_tables(where, found)
    for name in names:
        say(f"\nTable {name}\n\n{tables.table(name, found).to_markdown()}")
    say(f"all tables as CSV, Markdown and HTML: {where}")
    bad = [outcome for outcome in outcomes if not outcome.good]
    if bad:
        told = "; ".join(f"{outcome.name} ({outcome.told})" for outcome in bad)
        raise BatchFailed(f"{len(bad)} of {len(outcomes)} runs failed: {told}")
