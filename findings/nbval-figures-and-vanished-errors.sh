#!/usr/bin/env bash
# nbval passes a changed figure, and an error that is no longer raised.
#
# Packages: nbval 0.11.0, pytest 9.2.0
# Expected: --nbval fails when a stored output differs from a fresh one; a cell tagged
#   raises-exception fails when it raises nothing.
# Seen: a PNG is not compared: a figure of other numbers passes. So does a tagged cell
#   that raises nothing. SVG and text that differ do fail.
# Why it matters: in a course the figures are the results. They can be wrong for years
#   while the tests are green, and a cell that shows an error message may show none.
#   Assert the plotted numbers, and catch the error in the cell.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(nbval==0.11.0 pytest==9.2.0 ipykernel==7.4.0)

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

"$PYTHON" - "$work" <<'EOF'
import subprocess
import sys

import nbformat


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


folder = sys.argv[1]
v4 = nbformat.v4
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}


def bundle(kind, data):
    return {kind: data, "text/plain": "figure"}


def passes(source, output, tags=()):
    """Does a notebook of this one cell and this stored output pass?"""
    metadata = {"tags": list(tags)}
    cell = v4.new_code_cell(source, execution_count=1, metadata=metadata)
    cell.outputs = [output]
    made = v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(made, f"{folder}/n.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "n.ipynb"]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    must(done.returncode in (0, 1), "pytest did not run the notebook")
    return done.returncode == 0


def figure(kind, fresh, stored):
    """A cell that shows the fresh picture while the stored one is another."""
    output = v4.new_output("display_data", data=bundle(kind, stored))
    return f"display({bundle(kind, fresh)}, raw=True)", output


one = v4.new_output("stream", name="stdout", text="1\n")
cases = {  # what the one cell is; whether it should pass for the claim to hold
    "another text": (("print(2)", one), False),
    "another SVG": (figure("image/svg+xml", "<svg/>", "<svg a='1'/>"), False),
    "another PNG": (figure("image/png", "aGVsbG8=", "b3RoZXI="), True),
    "tagged, but raises nothing": (("print(1)", one, ["raises-exception"]), True),
}
for name, (case, want) in cases.items():
    verdict = {True: "passes", False: "fails"}
    passed = passes(*case)
    print(f"{name}: {verdict[passed]}")
    must(passed == want, f"{name} {verdict[passed]}")
EOF
