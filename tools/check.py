"""Run everything that is tested, stage by stage, and say how each one ended.

    python tools/check.py                    every stage of `make test`
    python tools/check.py --only unit book   some of them

A stage that fails does not stop the next ones; the exit code is that of the whole.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
WORKERS = ["-n", "2", "--dist", "loadfile"]
# A worker that has nothing left takes over what the other one has not begun.
SHARED = ["-n", "2", "--dist", "worksteal"]
APART = "not colab and not browser and not built and not network"
FAST = f"{APART} and not slow and not faults"

STAGES: dict[str, list[str]] = {
    "ruff": [sys.executable, "-m", "ruff", "check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "unit": [*PYTEST, "tests", "-m", APART, *SHARED, "--durations", "25"],
    "unit-fast": [*PYTEST, "tests", "-m", FAST, *SHARED],
    "doctests": [*PYTEST, "drawlib", "--doctest-modules"],
    "notebooks": [
        *[*PYTEST, "notebooks", "--nbval", "--nbval-current-env"],
        *["--nbval-sanitize-with", "tests/nbval_sanitize.cfg"],
        *["--nbval-cell-timeout", "1200", *WORKERS],
    ],
    "book": [sys.executable, "tools/build_book.py"],
    "pdf": [sys.executable, "tools/make_pdf.py"],
    "links": [sys.executable, "tools/check_links.py"],
    "pages": [*PYTEST, "tests/book/test_book.py", "-m", "built"],
    "browser": [*PYTEST, "tests/pages", "-m", "browser", *SHARED, "--durations", "25"],
    "faults": [*PYTEST, "tests", "-m", "faults"],
    "colab": [*PYTEST, "tests", "-m", "colab"],
}
# Two chains beside each other. Where one waits, at a page's load or for its last test,
# the other has both cores; what ends each has two workers, until nothing is left.
PLAN = [
    ["book", "pdf", "links", "pages", "browser"],
    ["ruff", "mypy", "doctests", "notebooks", "unit"],
]
ALL = [name for chain in PLAN for name in chain]
NOTHING_COLLECTED = 5
Ended = dict[str, tuple[str, float]]


def run(name: str, alone: bool = True) -> tuple[str, float]:
    """Run one stage; returns how it ended and the seconds it took.

    What it prints is shown at once where it runs alone, else in one piece at its end.
    """
    # Two workers on two cores: more threads would only get in each other's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    if name == "notebooks":
        del environment["MPLBACKEND"]  # the kernel's own shows the figures
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    # Hundreds of processes import the same modules: one of them compiles each.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    headline = f"\n=== {name} ".ljust(72, "=") + "\n"
    print(headline if alone else f"{name} ...\n", end="", flush=True)
    start = time.time()
    done = subprocess.run(
        STAGES[name],
        cwd=ROOT,
        env=environment,
        stdout=None if alone else subprocess.PIPE,
        stderr=None if alone else subprocess.STDOUT,
    )
    seconds = time.time() - start
    if not alone:
        print(headline + done.stdout.decode(errors="replace"), end="", flush=True)
    if done.returncode == NOTHING_COLLECTED and "pytest" in STAGES[name]:
        return "nothing to run", seconds
    return ("passed" if done.returncode == 0 else "FAILED"), seconds


def run_beside_each_other(chains: list[list[str]]) -> Ended:
    """Run chains of stages at the same time; how each stage ended."""

    def one_after_the_other(chain: list[str]) -> Ended:
        return {name: run(name, alone=len(chains) == 1) for name in chain}

    ended: Ended = {}
    with ThreadPoolExecutor(len(chains)) as pool:
        for part in pool.map(one_after_the_other, chains):
            ended |= part
    return ended


def chosen(names: list[str]) -> list[list[str]]:
    """The plan's stages of these names; what is in no plan comes after the others."""
    kept = [[name for name in chain if name in names] for chain in PLAN]
    chains = [chain for chain in kept if chain] or [[]]
    chains[-1] += [name for name in names if name not in ALL]
    return chains


def main() -> int:
    """Run the stages asked for; returns 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=ALL)
    names = parser.parse_args().only
    print(f"test: {len(names)} stages: {', '.join(names)}", flush=True)
    start = time.time()
    ended = run_beside_each_other(chosen(names))
    print("\n" + "=" * 72)
    for name, (how, seconds) in ended.items():
        print(f"{name:12s} {how:16s} {seconds:7.1f} s")
    failed = [name for name, (how, _) in ended.items() if how == "FAILED"]
    how, seconds = "FAILED" if failed else "passed", time.time() - start
    print(f"{'all':12s} {how:16s} {seconds:7.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
