#!/usr/bin/env bash
# The same parameter has another type with papermill's -p and with its -y.
#
# Packages: papermill 2.7.0
# Expected: -p lr 1e-3 and -y '{lr: 1e-3}' both give the float 0.001, and -p flag
#   false gives False.
# Seen: -p gives the float, -y the string '1e-3'. -p flag false gives the string
#   'false', which is true; only False, with a capital, is the boolean (-y takes
#   both). A run called 2024_01 becomes the integer 202401, and one called nan a
#   float.
# Why it matters: a sweep from a shell or a YAML file runs another configuration than
#   the one written, with exit status 0. Check types in the first cell of a notebook.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(papermill==2.7.0 ipykernel==7.4.0)

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

"$PYTHON" - "$work/in.ipynb" "$work/out.ipynb" <<'EOF'
import subprocess
import sys

import nbformat


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


notebook, filled = sys.argv[1:]
source = [nbformat.v4.new_code_cell("value = 0", metadata={"tags": ["parameters"]})]
source.append(nbformat.v4.new_code_cell("print(repr(value))"))
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
made = nbformat.v4.new_notebook(cells=source, metadata={"kernelspec": kernel})
nbformat.write(made, notebook)


def run(*options):
    """What the notebook sees, as its own repr."""
    command = [sys.executable, "-m", "papermill", notebook, filled, *options]
    subprocess.run(command, check=True, capture_output=True)
    return nbformat.read(filled, 4).cells[-1].outputs[0].text.strip()


cases = {  # written: seen with -p, seen with -y
    "1e-3": ("0.001", "'1e-3'"),
    "false": ("'false'", "False"),
    "2024_01": ("202401", "202401"),
    "nan": ("nan", "'nan'"),
}
for text, want in cases.items():
    seen = run("-p", "value", text), run("-y", f"value: {text}")
    print(f"{text}: -p gives {seen[0]}, -y gives {seen[1]}")
    must(seen == want, f"{text} becomes {seen}")
EOF
