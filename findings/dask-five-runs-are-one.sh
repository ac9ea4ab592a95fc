#!/usr/bin/env bash
# Five repeats on Dask are one run, shown five times.
#
# Packages: dask and distributed 2026.8.0
# Expected: client.map(train, [0.001] * 5) trains five times, so that the spread
#   between runs can be seen.
# Seen: a function is taken to be pure: equal arguments give one task, which runs
#   once, and five futures to its one result. pure=False gives five runs. dask.delayed
#   has the opposite default and runs five times.
# Why it matters: repeats that draw their own seed show a spread of exactly zero, and
#   the error bar of the table is a fiction. Pass the seed as an argument, or
#   pure=False.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(dask==2026.8.0 distributed==2026.8.0)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$work/venv"
    PYTHON=$work/venv/bin/python
    "$PYTHON" -m pip install -q "${pins[@]}"
fi
"$PYTHON" -c 'import sys, importlib.metadata as m
for name, want in (pin.split("==") for pin in sys.argv[1:]):
    if m.version(name).split("+")[0] != want:
        sys.exit(f"{name}=={want} is needed, {m.version(name)} is here")' "${pins[@]}"

"$PYTHON" - <<'EOF'
import random

import dask
from dask.distributed import Client


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def train(learning_rate):
    return random.random()


def main():
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        rates = [0.001] * 5
        runs = {
            "client.map": client.gather(client.map(train, rates)),
            "client.submit": client.gather([client.submit(train, r) for r in rates]),
            "client.map, pure=False": client.gather(
                client.map(train, rates, pure=False)
            ),
            "dask.delayed": dask.compute(*[dask.delayed(train)(r) for r in rates]),
        }
    for name, results in runs.items():
        different = len(set(results))
        print(f"{name}: 5 asked for, {different} different results")
        want = 1 if name in ("client.map", "client.submit") else 5
        must(different == want, f"{name} gives {different} different results")


main()
EOF
