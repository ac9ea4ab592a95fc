#!/usr/bin/env bash
# The probability that a normal number lies below -6 is 0.
#
# Packages: torch 2.15.0, scipy 1.17.1
# Expected: Normal(0, 1).cdf(-6) is 9.9e-10, which float32 can hold, and icdf(1e-8) is
#   -5.6; SciPy gives both.
# Seen: the left tail is 1 + erf(...), which cancels: 10 % too small at -5.2, and
#   exactly 0 from about -5.6 in float32 and from -8.4 in float64; torch.special.ndtr
#   is the same. The right tail's complement, cdf(-z), is lost with it. icdf is -inf
#   below 1.5e-8, although torch.special.ndtri is right there; log_ndtr and
#   erfc(-z / sqrt(2)) / 2 are right, too. No warning. (Issue 192295.)
# Why it matters: a discretised normal gives log 0 for a grey level six standard
#   deviations below the mean, where it need not (above it, one counts from the other
#   end), and a truncated normal drawn through icdf is infinite. Use log_ndtr and ndtri.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 scipy==1.17.1 numpy==2.4.6)

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
import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch.distributions import Normal


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


for dtype, places in {torch.float32: (-4, -5.2, -6), torch.float64: (-6, -9)}.items():
    z = torch.tensor(places, dtype=dtype)
    normal = Normal(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))
    want = ndtr(z.double().numpy())
    ways = {
        "Normal.cdf": normal.cdf(z),
        "special.ndtr": torch.special.ndtr(z),
        "exp(log_ndtr)": torch.special.log_ndtr(z).exp(),
        "erfc": torch.special.erfc(-z / 2**0.5) / 2,
    }
    print(f"{dtype}, at {list(places)}: SciPy {[float(f'{w:.3g}') for w in want]}")
    for name, values in ways.items():
        print(f"  {name}: {[float(f'{v:.3g}') for v in values.tolist()]}")
        error = np.abs(values.double().numpy() / want - 1)
        if name in ("exp(log_ndtr)", "erfc"):
            must(error.max() < 1e-4, f"{name} is wrong as well")
        else:
            must(values[-1] == 0, f"{name} has its tail at {places[-1]}")
p = torch.tensor([1e-3, 1e-8])
quantiles = Normal(0.0, 1.0).icdf(p).tolist(), torch.special.ndtri(p).tolist()
print(f"float32, quantiles of {p.tolist()}: Normal.icdf {quantiles[0]}, ", end="")
print(f"special.ndtri {quantiles[1]}, SciPy {ndtri(p.double().numpy()).tolist()}")
must(quantiles[0][1] == -np.inf, "icdf(1e-8) is finite")
must(abs(quantiles[1][1] + 5.612) < 0.01, "ndtri is wrong as well")
EOF
