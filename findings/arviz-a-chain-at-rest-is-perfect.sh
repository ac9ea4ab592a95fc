#!/usr/bin/env bash
# A chain that never moved has the effective sample size of independent draws.
#
# Packages: arviz 0.23.4
# Expected: four chains in which every proposal was refused tell nothing: an effective
#   sample size of 0, 1 or NaN.
# Seen: 4000 of 4000, with a standard error of 0; r_hat is NaN. With three of the four
#   chains at rest where the fourth has its centre, 4030, and r_hat alone, 3.2, tells.
#   Chains at rest in four places do give 4. (For chains at rest NumPyro 0.22 says NaN
#   and BlackJAX 1.7.1 says 0.)
# Why it matters: HMC with too large a step refuses everything. Where all chains start
#   at one point, such as an encoder's mean, the step size with the best sample size is
#   the one that moves nothing. Look at the acceptance rate too.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(arviz==0.23.4 numpy==2.4.6)

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
import warnings

import arviz
import numpy as np


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


warnings.simplefilter("ignore")  # NumPy's, of r_hat's division by zero
draws = np.random.default_rng(0).normal(size=(4, 1000))
rest = np.zeros((4, 1000))
three = np.concatenate([rest[:3], draws[3:]])
apart = rest + np.arange(4)[:, None]
seen = {}
for name, chains in {
    "independent draws": draws,
    "four chains at rest": rest,
    "three of four at rest": three,
    "four at rest, apart": apart,
}.items():
    size = float(arviz.ess(chains))
    error, r_hat = float(arviz.mcse(chains)), float(arviz.rhat(chains))
    print(f"{name}: size {size:.0f} of 4000, error {error:.4f}, r_hat {r_hat:.2f}")
    seen[name] = size
must(seen["four chains at rest"] == 4000, "chains at rest have another sample size")
must(seen["three of four at rest"] > 3500, "three chains at rest are noticed")
must(seen["four at rest, apart"] < 10, "chains at rest apart are not noticed")
must(arviz.mcse(rest) == 0, "chains at rest have a standard error")
EOF
