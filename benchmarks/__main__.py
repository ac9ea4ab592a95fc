"""Time every row of the table and write it down: ``python -m benchmarks``.

One process for each number of threads, since compiled code is made for one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GPU = (
    ("gpu-step", "H200, DRAW with attention, T 64, batch 128: a training step", 6.0),
)


def main() -> int:
    """Parse the arguments, run one child a number of threads, print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, nothing compiled by PyTorch"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    told = "some rows; with --out they replace those of the record that is there"
    parser.add_argument("--only", nargs="+", help=told)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of the records")
    told = "the parts of a step, on the first number of threads; nothing is written"
    parser.add_argument("--profile", action="store_true", help=told)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if min(*given.threads, given.turns) < 1:
        parser.error(f"threads are {given.threads}, turns {given.turns}; allowed: 1 up")
    from benchmarks.works import all_works
    from drawlib.results.bench import BENCH, bench_records, bench_table

    if given.profile:
        import torch

        from benchmarks.profile import parts_of_a_step, show_parts

        torch.set_num_threads(given.threads[0])
        show_parts(parts_of_a_step(given.turns))
        return 0

    names = (*all_works(quick=True), "first-step", "memory", "page", "threads")
    unknown = sorted(set(given.only or ()) - set(names))
    if unknown:
        parser.error(f"--only has {', '.join(unknown)}; allowed: {', '.join(names)}")
    out = given.out or (None if given.quick or given.only else BENCH)
    if given.child:
        record = measure(given.threads[0], given.quick, given.only, given.turns)
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"cpu-threads-{given.threads[0]}.json"
        if given.only and path.exists():
            record = joined(json.loads(path.read_text("utf-8")), record)
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        for threads in given.threads:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "DRAWLIB_NO_TYPECHECK": "1",
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
            }
            command = [sys.executable, "-m", "benchmarks", "--child"]
            command += ["--threads", str(threads), "--out", str(folder.resolve())]
            command += ["--turns", str(given.turns)] + ["--quick"] * given.quick
            command += ["--only", *given.only] if given.only else []
            code = subprocess.call(command, cwd=ROOT, env=environment)
            if code:
                return code
        for record in bench_records(folder):
            if record["threads"] in given.threads:
                show(record, bench_table(record))
    return 0


def measure(
    threads: int, quick: bool, only: list[str] | None, turns: int
) -> dict[str, Any]:
    """All rows on one number of threads."""
    import torch

    from benchmarks.former import COMMIT, FORMER, WORKS, former_call, former_files
    from benchmarks.limit import rates
    from benchmarks.memory import peak_memory
    from benchmarks.page import page_steps
    from benchmarks.profile import by_library
    from benchmarks.start import first_step
    from benchmarks.turns import more_threads
    from benchmarks.works import all_works
    from drawlib.draw import DRAWConfig
    from drawlib.fast import loop as fast
    from drawlib.fast import step as faststep
    from drawlib.results.zoo import describe_environment

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if quick:
        for module in (fast, faststep):
            module.has_compiler = lambda: False  # type: ignore[attr-defined]
        turns = 1
    started = time.time()
    limit = rates(DRAWConfig.preset("paper-attention"), 16 if quick else 128, turns)
    say(f"machine: {', '.join(f'{k} {v / 1e9:.0f} GFLOP/s' for k, v in limit.items())}")
    found: list[dict[str, Any]] = []
    former: dict[str, Any] = {"commit": COMMIT}
    with former_files() if not quick else nullcontext() as folder:
        if folder is None:
            former["why"] = "not with --quick" if quick else "its history is not here"
        for name, build in all_works(quick).items():
            if only and name not in only:
                continue
            work = build()
            if folder is not None and name in WORKS:
                try:
                    work.rivals[FORMER] = former_call(folder, name, threads)
                except RuntimeError as error:
                    former["why"] = f"{name} does not run here: {error}"
            found.append(run(work, turns, limit))
            if work.flops is not None and not quick:
                found[-1]["where"] = by_library(work.rivals[found[-1]["best"]])
            say(f"{found[-1]['title']}: {found[-1]['measured']:.2f} times")
            if FORMER in work.rivals:
                work.rivals[FORMER].close()
            torch._dynamo.reset()  # Each row has room for its own graphs.
    if not quick and (not only or "first-step" in only):
        found += first_step(threads)
    if not quick and (not only or "memory" in only):
        found += peak_memory(threads)
        say("memory: measured")
    if not quick and threads == 1 and (not only or "page" in only):
        found += page_steps(turns)  # on one thread, whatever there is
        say("page: measured")
    if not quick and threads > 1 and (not only or "threads" in only):
        found += more_threads(threads, turns)
        say(f"{found[-1]['title']}: {found[-1]['measured']:.2f} times")
    found += [
        {
            **{"name": name, "title": title, "goal": goal, "unit": "ms"},
            **{"measured": None, "why": "no GPU could be had"},
        }
        for name, title, goal in GPU
        if not only
    ]
    return {
        "schema": "drawlib-bench-1",
        "date": time.strftime("%Y-%m-%d"),
        "threads": threads,
        "quick": quick,
        "turns": turns,
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "flops": {name: round(value) for name, value in limit.items()},
        },
        "environment": describe_environment(torch.device("cpu")),
        "seconds": round(time.time() - started, 1),
        "former": former,
        "works": found,
    }


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old record with the new rows, each of which says what it was measured with.

    Raises:
        ValueError: where machine, threads or versions are not the same.
    """

    def kind(record: dict[str, Any]) -> list[Any]:
        machine, versions = record["machine"], record["environment"]["versions"]
        found = [record["threads"], record["quick"], machine["processor"]]
        return [*found, machine["cores"], *versions.values()]

    if kind(old) != kind(new):
        raise ValueError(f"rows of {kind(new)} for a record of {kind(old)}")
    run = {key: new[key] for key in ("date", "turns", "machine", "environment")}
    rows = {row["name"]: row for row in old["works"]}
    rows |= {row["name"]: row | {"run": run} for row in new["works"]}
    beside = any(row.get("former") for row in new["works"])
    former = new["former"] if beside else old.get("former", new["former"])
    return old | {"former": former, "works": list(rows.values())}


def run(work: Any, turns: int, limit: dict[str, float]) -> dict[str, Any]:
    """One row: its rivals in turn, and the ratios between them."""
    from benchmarks.clock import in_turn, ratio
    from benchmarks.former import FORMER
    from benchmarks.works import PEER, share_of_images

    if (work.flops or 0) > 8e10:
        turns = min(turns, 3)  # Long work scatters less, and ten minutes must do.
    times = in_turn(work.rivals, turns, least=0.02)
    images = {name: share_of_images(work, name) for name in times}
    each = {name: t.summary()["seconds"] / images[name] for name, t in times.items()}
    plain = "textbook float32"
    slow = min((n for n in times if n.startswith("textbook")), key=each.__getitem__)
    quick = min((n for n in times if n.startswith("fast")), key=each.__getitem__)

    def times_faster(a: str, b: str, of: str = "wall") -> float:
        return ratio(times[a], times[b], of) * images[b] / images[a]

    seconds = times[quick].summary()["seconds"]
    row = {
        "name": work.name,
        "title": work.title,
        "goal": work.goal,
        "unit": "x",
        "measured": times_faster(plain, quick),
        "measured_cpu": times_faster(plain, quick, "cpu"),
        "equal": times_faster(plain, "fast float32"),
        "both_best": times_faster(slow, quick),
        "peer": times_faster(PEER, quick) if PEER in times else None,
        "former": times_faster(FORMER, quick) if FORMER in times else None,
        "goals": work.goals,
        "best": quick,
        "seconds": seconds,
        "share": None,
        "rivals": {
            name: {**t.summary(), "images": images[name]} for name, t in times.items()
        },
    }
    if work.flops is not None:
        row["flops"] = work.flops
        row["share"] = work.flops / limit["bf16"] / seconds
        row["images_per_second"] = work.images / seconds
        row["profile"] = profile_of(work.rivals[quick])
        if missed := missed_goals(row):
            row["why"] = reason(row, missed)
    elif row["measured"] < work.goal:
        row["why"] = dearest(work.rivals[quick])
    return row


def dearest(call: Any, most: int = 4) -> str:
    """The operations that a call without a model spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(20):
            call()
    spent = {e.key: e.self_cpu_time_total for e in seen.key_averages()}
    total = sum(spent.values())
    first = sorted(spent, key=spent.__getitem__, reverse=True)[:most]
    parts = [f"{spent[name] / total:.0%} {name.split('::')[-1]}" for name in first]
    return (
        f"of the time measured {', '.join(parts)}, the rest in {len(spent) - most} "
        "other operations on small tensors"
    )


def profile_of(call: Any) -> dict[str, float]:
    """Shares of one call: products, the loops between them with their calls, rest."""
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.profile import LOOPS, PRODUCTS

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        start = time.perf_counter()
        call()
        wall = 1e6 * (time.perf_counter() - start)
    shares = {"products": 0.0, "compiled": 0.0, "rest": 0.0}
    for event in seen.key_averages():
        kind = "rest"
        if event.key in PRODUCTS:
            kind = "products"
        elif event.key in LOOPS or event.key.startswith("## Call CompiledFxGraph"):
            kind = "compiled"
        shares[kind] += event.self_cpu_time_total
    # Kernels that no autograd function surrounds are no event.
    shares["compiled"] += max(0.0, wall - sum(shares.values()))
    total = sum(shares.values())
    return {kind: round(value / total, 3) for kind, value in shares.items()}


def missed_goals(row: dict[str, Any]) -> list[str]:
    """The columns in which a row of ratios is below its goal, of those measured."""
    goals = {"measured": row["goal"], **row["goals"]}
    return [k for k, goal in goals.items() if row[k] is not None and row[k] < goal]


def reason(row: dict[str, Any], missed: list[str]) -> str:
    """What stands between a row and its goals, in one sentence made of numbers."""
    from benchmarks.former import COMMIT

    against = {"peer": "JAX", "former": f"the build of {COMMIT}"}
    most = [f"{row['measured'] / row['share']:.1f} times"]
    most += [
        f"{row[key] / row['share']:.1f} times {name}"
        for key, name in against.items()
        if key in missed
    ]
    part = row["profile"]
    return (
        "the products alone, at the machine's bf16 rate, would give "
        f"{', '.join(most)}; of the time measured {part['products']:.0%} is products, "
        f"{part['compiled']:.0%} loops between them, {part['rest']:.0%} the rest "
        "(calls, weight gradients' copies, allocation)"
    )


def processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def show(record: dict[str, Any], rows: list[dict[str, str]]) -> None:
    """The table, for a terminal."""
    from drawlib.results.bench import former_build

    rate = record["machine"]["flops"]
    rates = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in rate.items())
    print(f"\n{record['threads']} thread(s); matrix products, GFLOP/s: {rates}")
    columns = ("work", "goal", "measured", "met", "equal", "both best", "peer")
    columns += ("former", "share")
    wide = [max(len(c), *(len(r.get(c, "")) for r in rows)) for c in columns]
    for cells in [dict(zip(columns, columns, strict=True)), *rows]:
        line = zip(columns, wide, strict=True)
        print("  ".join(cells.get(c, "").ljust(w) for c, w in line).rstrip())
    print(f"former build: {former_build(record)}")
    for row in rows:
        told = (row[key] for key in ("run", "beside", "why") if key in row)
        if text := "; ".join(told):
            print(f"{row['work']}: {text}")


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
