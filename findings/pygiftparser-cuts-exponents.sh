#!/usr/bin/env bash
# A question with the answer 1e-3 is read as one with the answer 1.
#
# Packages: pygiftparser 1.1 (Markdown 3.0.1, setuptools 80.9.0)
# Expected: a numerical question in GIFT keeps its answer, or the reader raises.
# Seen: to this reader a number is digits with at most one point. An exponent is cut
#   off, and the tolerance behind it with it: 1e-3:1e-4 becomes 1.0, tolerance 0, and
#   valid. A range up to 1e3 ends at 1; a tolerance of .001 becomes 0. A leading minus
#   makes the whole question not valid, without an error, also if another of its
#   answers is positive. Moodle takes all of these for numbers.
# Why it matters: log-likelihoods are negative, and "%g" writes small numbers with an
#   exponent. A check of a question file with this reader passes with other answers.
#   Ask for the negative ELBO, write plain decimals, and compare what was read.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(pygiftparser==1.1 Markdown==3.0.1 setuptools==80.9.0)

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
import logging
import warnings

warnings.simplefilter("ignore")  # the old Markdown's own, when it is imported
from pygiftparser import parser


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


logging.disable()


def read(answer):
    """What one numerical question is read as: valid, and its answers."""
    (question,) = parser.parseFile([f"::q:: How many nats? {{#{answer}}}\n"])
    answers = question.answers.answers if hasattr(question, "answers") else []
    numbers = [(a.value, a.tolerance, a.fraction) for a in answers]
    return question.valid, numbers


for answer, want in {
    "97.3:0.1": (True, [(97.3, 0.1, 100)]),
    "-97.3:0.1": (False, []),
    "=%50%97.3:0.1 =-97.3:0.1": (False, []),
    "1e-3:1e-4": (True, [(1.0, 0, 100)]),
    "0.693:.001": (True, [(0.693, 0, 100)]),
}.items():
    seen = read(answer)
    print(f"{{#{answer}}}: valid {seen[0]}, (value, tolerance, percent) {seen[1]}")
    must(seen == want, f"{answer} is read as {seen}")
EOF
