#!/usr/bin/env bash
# A formula in a reason makes the wrong options vanish, and 1e-3 is read as 1.
#
# Packages: pygiftparser 1.1 (Markdown 3.0.1, setuptools 80.9.0)
# Expected: an escaped brace is a character, as in GIFT's rules, and a number keeps
#   its value; or the reader raises.
# Seen: the first closing brace ends the answers, escaped or not. Behind a reason with
#   \{b\} no option is read, and a choice whose right option came first becomes a
#   short answer that is valid. A number is digits with at most one point: 1e-3:1e-4
#   becomes 1.0 with tolerance 0, valid; a negative answer makes the question not
#   valid, without an error. Moodle's import hides escaped characters first and asks
#   PHP's is_numeric, which takes all of these (read there, not run).
# Why it matters: formulas have braces, log-likelihoods are negative, and "%g" writes
#   exponents. A question file that is checked with this reader passes with other
#   questions in it. Compare what was read with what was written.
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


def read(answers):
    """The kind of question, whether it is valid, and the answers that are read."""
    (question,) = parser.parseFile([f"::q:: How many? {{{answers}}}\n"])
    found = getattr(question, "answers", None)
    kept = [
        (a.value, a.tolerance) if hasattr(a, "value") else a.answer
        for a in getattr(found, "answers", [])
    ]
    return type(found).__name__, question.valid, kept


for answers, want in {
    "=one#It is b. ~two#No. ~ten#No.": ("SelectSet", True, ["one", "two", "ten"]),
    r"=one#It is \{b\}. ~two#No. ~ten#No.": ("ShortSet", True, ["one"]),
    r"~two#Not \{b\}. =one#It is.": ("MultipleChoicesSet", False, ["two"]),
    "#97.3:0.1": ("NumericAnswerSet", True, [(97.3, 0.1)]),
    "#1e-3:1e-4": ("NumericAnswerSet", True, [(1.0, 0)]),
    "#-97.3:0.1": ("NumericAnswerSet", False, []),
}.items():
    seen = read(answers)
    print(f"{{{answers}}}\n  {seen[0]}, valid {seen[1]}: {seen[2]}")
    must(seen == want, f"{answers} is read as {seen}")
EOF
