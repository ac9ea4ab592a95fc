#!/usr/bin/env bash
# The flags that hold JAX to one thread of a CPU are accepted and do nothing.
#
# Packages: jax 0.10.2 (jaxlib 0.10.2) on the CPU, Linux, two cores or more
# Expected: XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
#   often advised for it, leaves one thread at work; so do OMP_NUM_THREADS=1, as for
#   NumPy and PyTorch, and a single core for the process (os.sched_setaffinity).
# Seen: with each of them two to four threads work, without a warning. The size of the
#   pool is settled when JAX starts: NPROC=1 in the environment holds it, or an affinity
#   that was set before (taskset). One that is set later binds the calling thread alone.
# Why it matters: "one thread each" in a comparison with JAX was two or more: a speed-up
#   of three looks like one of 1.8. Look at processor time over wall time.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6)

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
[ "$(nproc)" -ge 2 ] || { echo "this needs two cores"; exit 2; }

cat >"$work/count.py" <<'EOF'
"""How many threads did at least a tenth of the work of a few matrix products."""
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp


def ticks():
    found = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[task.name] = int(fields[11]) + int(fields[12])
    return found


square = jax.jit(lambda a: (a @ a).sum())
a = jnp.ones((2000, 2000))
square(a).block_until_ready()
if "later" in sys.argv:
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
before = ticks()
for _ in range(10):
    square(a).block_until_ready()
after = ticks()
spent = [after[t] - before.get(t, 0) for t in after]
print(sum(s >= 0.1 * sum(spent) for s in spent))
EOF

export JAX_PLATFORMS=cpu
unset XLA_FLAGS OMP_NUM_THREADS NPROC
two=$(taskset -pc $$ | sed 's/.*: //' | "$PYTHON" -c '
places = []
for part in input().split(","):
    first, _, last = part.partition("-")
    places += range(int(first), int(last or first) + 1)
print(",".join(map(str, places[:2])))')
run() { taskset -c "$two" env "$@"; }
flags="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
plain=$(run "$PYTHON" "$work/count.py")
flagged=$(run XLA_FLAGS="$flags" "$PYTHON" "$work/count.py")
omp=$(run OMP_NUM_THREADS=1 "$PYTHON" "$work/count.py")
later=$(run "$PYTHON" "$work/count.py" later)
nproc=$(run NPROC=1 "$PYTHON" "$work/count.py")
before=$(taskset -c "${two%,*}" "$PYTHON" "$work/count.py")
echo "threads at work, of two cores: $plain; with the flags: $flagged;"
echo "  OMP_NUM_THREADS=1: $omp; affinity set later: $later"
echo "  NPROC=1: $nproc; affinity set before: $before"
several() { [ "$1" -gt 1 ] || { echo "changed: $2 leaves $1"; exit 1; }; }
one() { [ "$1" = 1 ] || { echo "changed: with $2 $1 threads work"; exit 1; }; }
several "$plain" "nothing"
several "$flagged" "the flag"
several "$omp" "OMP_NUM_THREADS=1"
several "$later" "a later affinity"
one "$nproc" "NPROC=1"
one "$before" "an affinity set before"
