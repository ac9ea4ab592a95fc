#!/usr/bin/env bash
# A normal that is truncated to its right tail is drawn as six numbers and infinity.
#
# Packages: scipy 1.17.1
# Expected: truncate(Normal(), lb=8) and truncate(Normal(), ub=-8) are mirror images; so
#   are truncnorm(8, inf) and truncnorm(-inf, -8), the older ones.
# Seen: on the left 10,000 samples are 10,000 numbers. On the right they are six, from
#   7.99, which lies outside, to 8.21, and 184 times inf; from 7 on they are 6736, and
#   from 8.2 on one, and 5363 times inf. The median from 8 on is 8.0766 in place of
#   8.0849, and from 8.2 on inf: they are quantiles of numbers next to 1. mean() of the
#   same object is right. No warning.
# Why it matters: a latent variable whose posterior is a normal cut off at 0 is such a
#   tail wherever its mean is far below 0. Its mean from samples and its mean() then
#   differ, and only one is right. Draw from the left tail and turn the sign.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(scipy==1.17.1 numpy==2.4.6)

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

import numpy as np
from scipy import stats


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


warnings.simplefilter("error")
n, seen = 10_000, {}
for bound in (4.0, 7.0, 8.0, 8.2):
    right = stats.truncate(stats.Normal(), lb=bound)
    left = stats.truncate(stats.Normal(), ub=-bound)
    old = stats.truncnorm(bound, np.inf)
    for name, sample, median in (
        ("right", right.sample(n, rng=np.random.default_rng(0)), right.median()),
        ("left", -left.sample(n, rng=np.random.default_rng(0)), -left.median()),
        ("truncnorm", old.rvs(n, random_state=np.random.default_rng(0)), old.median()),
    ):
        finite = sample[np.isfinite(sample)]
        values, lost = len(np.unique(finite)), n - len(finite)
        print(
            f"from {bound} on, {name}: {values} numbers, {lost} times inf, mean "
            f"{finite.mean():.4f}, median() {float(median):.4f}"
        )
        seen[bound, name] = values, lost, float(median)
        if values < 10:
            print(f"  the numbers: {np.round(np.unique(finite), 4).tolist()}")
    means = [float(right.mean()), -float(left.mean()), float(old.mean())]
    print(f"  mean() of the three: {[round(m, 4) for m in means]}")
    must(np.allclose(means, means[2], rtol=1e-6), f"the means are {means}")
    for name in ("left", "truncnorm"):
        must(seen[bound, name][:2] == (n, 0), f"{name}, {bound}: {seen[bound, name]}")
must(seen[4.0, "right"][:2] == (n, 0), "the right tail is wrong from 4 on")
must(seen[7.0, "right"][0] < 0.8 * n, "the right tail from 7 on is drawn well")
must(seen[8.0, "right"][0] < 10, "the right tail from 8 on has more numbers")
must(seen[8.0, "right"][1] > 100, "nothing is infinite")
must(seen[8.2, "right"][2] == np.inf, "the median from 8.2 on is finite")
wrong = abs(seen[8.0, "right"][2] - seen[8.0, "truncnorm"][2])
must(wrong > 5e-3, f"the median is off by {wrong}")
EOF
