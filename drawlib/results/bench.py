"""The benchmark's records: how fast each piece of work is, and beside what limit.

``python -m benchmarks`` writes ``zoo/bench/cpu-threads-N.json``; a folder within, given
with ``--out``, holds those of another machine. Chapter 10 reads them, so no time is
typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drawlib.results.zoo import ZOO

__all__ = ["bench_records", "bench_table", "former_build"]

BENCH = ZOO / "bench"
SCHEMA = "drawlib-bench-1"


def bench_records(root: Path | None = None) -> list[dict[str, Any]]:
    """All benchmark records, one for each machine and number of threads.

    Those of the folder itself come first, and of each machine those of fewest threads.

    Example:
        >>> all(record["schema"] == SCHEMA for record in bench_records())
        True
    """
    root = root or BENCH
    found = [
        (path.parent.relative_to(root).parts, json.loads(path.read_text("utf-8")))
        for path in root.rglob("*.json")
    ]
    found = [(machine, r) for machine, r in found if r.get("schema") == SCHEMA]
    return [r for _, r in sorted(found, key=lambda f: (f[0], f[1]["threads"]))]


def bench_table(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row for each piece of work, as text: goal, what was measured, shares.

    ``best`` is our fastest against the textbook in float32; ``equal`` is float32
    against float32; ``both best`` our fastest against the textbook's fastest setting.
    ``peer`` is our fastest against the same step in JAX, where that was there, and
    ``former`` against the build of an earlier commit (the record's ``former``).
    ``share`` is the time that the matrix products alone would take at the machine's
    bf16 rate, divided by the time measured. ``beside`` has the other programs and all
    of these columns' goals, in one line.

    Example:
        >>> row = {"title": "a", "goal": 3.0, "unit": "x", "measured": None}
        >>> bench_table({"works": [row]})[0]["measured"]
        'not measured'
    """
    commit = record.get("former", {}).get("commit", "")
    return [_row(work, commit) for work in record["works"]]


def former_build(record: dict[str, Any]) -> str:
    """Which build the column ``former`` is about, or why it is empty.

    Example:
        >>> former_build({"former": {"commit": "7a58c15", "why": "no history"}})
        '7a58c15: no history'
    """
    if (former := record.get("former")) is None:
        return "none was timed beside it"
    why = f": {former['why']}" if "why" in former else ""
    return f"{former['commit']}{why}"


def _row(work: dict[str, Any], commit: str) -> dict[str, str]:
    times = work["unit"] == "x"
    goal = f"{work['goal']:g} times" if times else f"{work['goal']:g} {work['unit']}"
    cells = {"work": work["title"], "goal": goal, "measured": "not measured"}
    if work["measured"] is not None:
        fine = times or work["measured"] < 1  # a share of something needs two digits
        digits = 0 if work["measured"] >= 100 else 2 if fine else 1
        unit = "times" if times else work["unit"]
        cells["measured"] = f"{work['measured']:.{digits}f} {unit}"
        met = (
            work["measured"] >= work["goal"]
            if times
            else (work["measured"] <= work["goal"])
        )
        cells["met"] = "yes" if met else "no"
    for key in ("equal", "both_best", "peer", "former"):
        if work.get(key) is not None:
            digits = 0 if work[key] >= 100 else 2
            cells[key.replace("_", " ")] = f"{work[key]:.{digits}f}"
    if work.get("seconds") is not None:
        cells["seconds"] = f"{work['seconds']:.4f}"
    if work.get("share") is not None:
        cells["share"] = f"{work['share']:.0%}"
    goals, beside = work.get("goals", {}), []
    for key, name in (("peer", "times JAX"), ("former", f"times {commit}")):
        if key in cells:
            goal = f" (goal {goals[key]:g})" if key in goals else ""
            beside.append(f"{cells[key]} {name}{goal}")
    if "plain float32" in (rivals := work.get("rivals", {})):
        a, b = (rivals[f"{kind} float32"]["seconds"] for kind in ("plain", "fast"))
        beside.append(f"{a / b:.1f} times the library's own, not fused")
    if "share" in goals:
        beside.append(f"share {cells['share']} (goal {goals['share']:.0%})")
    if beside:
        cells["beside"] = ", ".join(beside)
    if run := work.get("run"):
        cells["run"] = f"measured {run['date']} at {run['environment']['commit'][:7]}"
    if work.get("why"):
        cells["why"] = work["why"]
    return cells
