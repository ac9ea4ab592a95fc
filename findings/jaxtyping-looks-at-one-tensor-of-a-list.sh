#!/usr/bin/env bash
# Shape checks look at one tensor of a list, drawn at random.
#
# Packages: jaxtyping 0.3.11 with beartype 0.23.1
# Expected: a function annotated list[Float[ndarray, "batch units"]] refuses a list in
#   which one array has a wrong shape, and one in which "batch" takes two values, as
#   it does for single arrays.
# Seen: one item, drawn at random, is looked at each time that arguments are checked.
#   A list of 100 with one bad array passes about 98 times in 100, and a list of two
#   batch sizes every other time. A tuple of fixed length is checked whole.
# Why it matters: the noise and the latents of a ladder are sequences of tensors, and
#   a shape test that is green almost always is a flaky test. Annotate fixed tuples,
#   or loop.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(jaxtyping==0.3.11 beartype==0.23.1 numpy==2.4.6)

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
from beartype import beartype
from jaxtyping import Float, TypeCheckError, jaxtyped


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


Batch = Float[np.ndarray, "batch units"]


@jaxtyped(typechecker=beartype)
def from_list(layers: list[Batch]) -> None: ...


@jaxtyped(typechecker=beartype)
def from_pair(layers: tuple[Batch, Batch]) -> None: ...


def accepted(function, layers, calls=1000):
    count = 0
    for _ in range(calls):
        try:
            function(layers)
            count += 1
        except TypeCheckError:
            pass
    return count


good, other, bad = np.zeros((4, 3)), np.zeros((5, 3)), np.zeros(3)
one_bad = accepted(from_list, [good] * 99 + [bad])
mixed = accepted(from_list, [good, other])
pair = accepted(from_pair, (good, other))
print(f"99 good arrays and a bad one: accepted {one_bad} times in 1000")
print(f"two batch sizes in a list: {mixed}; in a tuple of two: {pair}")
must(900 < one_bad < 1000, "a list is checked whole, or not at all")
must(200 < mixed < 1000, "two batch sizes in one list are always or never accepted")
must(pair == 0, "a pair of different batch sizes is accepted")
EOF
