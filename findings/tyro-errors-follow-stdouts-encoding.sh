#!/usr/bin/env bash
# An error that tyro writes to stderr has another shape when stdout is redirected oddly.
#
# Packages: tyro 1.0.16
# Expected: what stderr gets depends on stderr: boxes where it can show them, plain
#   lines where it cannot.
# Seen: only the encoding of stdout is looked at. With an ASCII stdout and a UTF-8
#   stderr the box goes, and not only its characters change: its title becomes a line
#   with a rule of minus signs beneath it, so there is one rule more. With an ASCII
#   stderr and a UTF-8 stdout the box stays, as escapes such as \u2502.
# Why it matters: a program that turns tyro's complaint into one line for its log must
#   know both shapes, and its tests see one of them alone. Split at rules of either
#   kind, and drop the first line of text, which is the title.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(tyro==1.0.16)

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

cat >"$work/program.py" <<'EOF'
import sys
from dataclasses import dataclass

import tyro


@dataclass
class Options:
    samples: int = 1


for name, encoding in zip(("stdout", "stderr"), sys.argv[1:], strict=True):
    getattr(sys, name).reconfigure(encoding=encoding, errors="backslashreplace")
tyro.cli(Options, args=["--sample", "3"], prog="program")
EOF
"$PYTHON" - "$work/program.py" <<'EOF'
import subprocess
import sys


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


told = {}
for stdout in ("ascii", "utf-8"):
    for stderr in ("ascii", "utf-8"):
        ended = subprocess.run(
            [sys.executable, sys.argv[1], stdout, stderr], capture_output=True
        )
        lines = told[stdout, stderr] = ended.stderr.decode().splitlines()
        print(f"stdout {stdout}, stderr {stderr}: {len(lines)} lines, of which")
        print(f"   {lines[0]}\n   {lines[1]}")
rules = {key: sum(set(x) <= set(" -") for x in v if x.strip()) for key, v in told.items()}
print("rules of minus signs:", rules)
must(rules["ascii", "utf-8"] == rules["ascii", "ascii"] > 0,
     "a UTF-8 stderr gets its box although stdout is ASCII")
must(any("\\u2502" in line for line in told["utf-8", "ascii"]),
     "an ASCII stderr gets no box any more")
EOF
