#!/usr/bin/env bash
# One test that could not be made changes the verdict on the others.
#
# Packages: statsmodels 0.15.0, scipy 1.17.1
# Expected: a p value that is NaN is left out, or refused, or counted, the same way by
#   all methods; and reject says what the adjusted p values say.
# Seen: for the same four p values and one NaN, fdr_bh rejects four with all adjusted
#   values NaN; simes-hochberg rejects two, without the NaN all four; hommel rejects
#   none, without it all four; holm counts the NaN as a fifth test and keeps its
#   values. Nothing is said, with warnings as errors too.
# Why it matters: a paired t test between two runs that are equal gives NaN, so do
#   rows without a second seed; whoever reads reject and whoever reads the values then
#   report other results. Take the NaN out first, and say how many tests there are.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6)

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
from statsmodels.stats.multitest import multipletests


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


same = np.array([-86.3, -85.9, -86.1])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    missing = stats.ttest_rel(same, same).pvalue
must(np.isnan(missing), "the t test of two equal runs has a p value")
warnings.simplefilter("error")
values = [0.001, 0.01, 0.02, 0.04]
#         rejected without the NaN, with it, finite adjusted values with it
expected = {
    "holm": (4, 2, 4),
    "simes-hochberg": (4, 2, 0),
    "hommel": (4, 0, 0),
    "fdr_bh": (4, 4, 0),
    "fdr_by": (2, 1, 0),
}
for method, want in expected.items():
    before, _, _, _ = multipletests(values, method=method)
    after, adjusted, _, _ = multipletests([*values, missing], method=method)
    seen = (sum(before), sum(after), int(np.isfinite(adjusted).sum()))
    print(
        f"{method}: {seen[0]} of 4 rejected; with a NaN {seen[1]}, "
        f"adjusted {np.round(adjusted, 3).tolist()}"
    )
    must(seen == want, f"{method} gives {seen} in place of {want}")
EOF
