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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
WORKERS = ["-n", "2", "--dist", "loadfile"]
APART = "not colab and not browser and not built and not network"
FAST = f"{APART} and not slow and not faults"

STAGES: dict[str, list[str]] = {
    "ruff": [sys.executable, "-m", "ruff", "check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "unit": [*PYTEST, "tests", "-m", APART, *WORKERS],
    "unit-fast": [*PYTEST, "tests", "-m", FAST, *WORKERS],
    "doctests": [*PYTEST, "drawlib", "--doctest-modules"],
    "notebooks": [
        *[*PYTEST, "notebooks", "--nbval", "--nbval-current-env"],
        *["--nbval-sanitize-with", "tests/nbval_sanitize.cfg"],
        *["--nbval-cell-timeout", "300", *WORKERS],
    ],
    "book": [sys.executable, "tools/build_book.py"],
    "pdf": [sys.executable, "tools/make_pdf.py"],
    "links": [sys.executable, "tools/check_links.py"],
    "pages": [*PYTEST, "tests/book/test_book.py", "-m", "built"],
    "browser": [*PYTEST, "tests/pages/test_pages.py", "-m", "browser", "-n", "2"],
    # Each file drives a browser of its own, so each has a worker of its own.
    "live": [
        *[*PYTEST, "tests/pages/test_explorer.py", "tests/pages/test_web.py"],
        "tests/pages/test_live_draw.py",
        *["-m", "browser", *WORKERS],
    ],
    "faults": [*PYTEST, "tests", "-m", "faults"],
    "colab": [*PYTEST, "tests", "-m", "colab"],
}
ALL = "ruff mypy unit doctests notebooks book pdf links pages browser live".split()
NOTHING_COLLECTED = 5


def run(name: str) -> tuple[str, float]:
    """Run one stage; returns how it ended and the seconds it took."""
    print(f"\n=== {name} ".ljust(72, "="), flush=True)
    # Two workers on two cores: more threads would only get in each other's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    if name == "notebooks":
        del environment["MPLBACKEND"]  # the kernel's own shows the figures
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    start = time.time()
    code = subprocess.call(STAGES[name], cwd=ROOT, env=environment)
    if code == NOTHING_COLLECTED and "pytest" in STAGES[name]:
        return "nothing to run", time.time() - start
    return ("passed" if code == 0 else "FAILED"), time.time() - start


def main() -> int:
    """Run the stages asked for; returns 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=ALL)
    names = parser.parse_args().only
    print(f"test: {len(names)} stages: {', '.join(names)}", flush=True)
    ended = {name: run(name) for name in names}
    print("\n" + "=" * 72)
    for name, (how, seconds) in ended.items():
        print(f"{name:12s} {how:16s} {seconds:7.1f} s")
    total = sum(seconds for _, seconds in ended.values())
    failed = [name for name, (how, _) in ended.items() if how == "FAILED"]
    print(f"{'all':12s} {'FAILED' if failed else 'passed':16s} {total:7.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
