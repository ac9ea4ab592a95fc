#!/usr/bin/env bash
# The mean of 1000 ones in bfloat16 is 0.256.
#
# Packages: jax 0.10.2, ml_dtypes 0.6.0, numpy 2.4.6
# Expected: np.asarray of a JAX array is the same numbers in NumPy, and mean() of 1000
#   ones is 1, as it is in JAX and as it is in NumPy for float16.
# Seen: NumPy knows bfloat16 from ml_dtypes, whose sum goes from left to right and
#   rounds to 8 bits at each step: 256 + 1 is 256. So a sum of ones is at most 256, the
#   mean of 1000 is 0.256 and of 100,000 is 0.00256; the standard deviation of 100,000
#   normal numbers is 0.2. A product x @ x is right. No warning. dtype=np.float32 in the
#   call, or a cast before, helps. (Issue 63 of ml_dtypes knows of it.)
# Why it matters: summaries of weights, noise or nats that were computed in bfloat16 on
#   the accelerator and averaged on the host look small and plausible, the smaller the
#   more there are.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(jax==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6)

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
import jax
import jax.numpy as jnp
import numpy as np


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


for count in (100, 1000, 100_000):
    there = jnp.ones(count, jnp.bfloat16)
    here = np.asarray(there)
    mean, half = float(here.mean()), float(here.astype(np.float16).mean())
    wide = float(here.mean(dtype=np.float32))
    print(
        f"{count} ones, mean: JAX {float(there.mean()):g}, NumPy {mean:.4g}, "
        f"float16 {half:g}, summed in float32 {wide:g}; x @ x {float(here @ here):g}"
    )
    must(float(there.mean()) == half == wide == 1, "another mean is not 1")
    must(abs(mean - min(1, 256 / count)) < 0.01 * mean, "NumPy's mean is another one")
    must(abs(float(here @ here) / count - 1) < 0.01, "the product stops as well")
noise = jax.random.normal(jax.random.key(0), 100_000).astype(jnp.bfloat16)
spread = float(noise.std()), float(np.asarray(noise).std())
print(f"100000 normal numbers, spread: JAX {spread[0]:.3f}, NumPy {spread[1]:.3f}")
must(abs(spread[0] - 1) < 0.01 and spread[1] < 0.3, "NumPy's spread is another one")
EOF
