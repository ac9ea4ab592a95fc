#!/usr/bin/env bash
# In bfloat16, JAX draws 98 of 100 categories from the first half.
#
# Packages: jax 0.10.2 on the CPU
# Expected: jax.random draws from the distribution that is asked for, rounded to the
#   dtype: torch and a cast from float32 do.
# Seen: every draw starts from a uniform number of 7 bits. Of 1000 equally likely
#   categories 98 % of the draws are among the first 500 (62 % in float16): the Gumbel
#   numbers are tied, and the first of a tie is taken. normal has 128 different values,
#   from -2.9 to 2.5; bernoulli(0.002) is 1 in 0.77 % of the draws. The
#   documentation of categorical speaks of float32 and of rare events alone.
# Why it matters: who samples latents or pixels in the dtype of a bfloat16 model gets
#   another distribution, without a word: codes of a large codebook, tails, dark
#   pixels. Draw in float32, then cast.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(jax==0.10.2 numpy==2.4.6)

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

export JAX_PLATFORMS=cpu
"$PYTHON" - <<'EOF'
import jax
import jax.numpy as jnp
import numpy as np


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


n, key, first = 1_000_000, jax.random.key(0), {}
for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
    logits = jnp.zeros(1000, dtype)
    drawn = np.asarray(jax.random.categorical(key, logits, shape=(100_000,)))
    first[dtype] = (drawn < 500).mean()
    normal = np.asarray(jax.random.normal(key, (n,), dtype)).astype(np.float32)
    values, most = len(np.unique(normal)), np.abs(normal).max()
    ones = np.asarray(jax.random.bernoulli(key, jnp.full(n, 0.002, dtype))).mean()
    print(
        f"{dtype.__name__}: {first[dtype]:.1%} of the categories in the first half; "
        f"normal: {values} values within {most:.2f}; bernoulli(0.002): {ones:.2%}"
    )
cast = np.asarray(jax.random.normal(key, (n,)).astype(jnp.bfloat16))
cast_values = len(np.unique(cast.astype(np.float32)))
print(f"normal in float32, then cast to bfloat16: {cast_values} values")
must(abs(first[jnp.float32] - 0.5) < 0.01, "float32 is uneven too")
must(first[jnp.float16] > 0.58, "float16 is even")
must(first[jnp.bfloat16] > 0.95, "bfloat16 is even")
must(values == 128 and most < 3, f"normal has {values} values, within {most}")
must(ones > 0.006, f"bernoulli(0.002) is 1 in {ones:.2%}")
EOF
