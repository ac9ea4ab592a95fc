#!/usr/bin/env bash
# After the library is mended, the book still shows the old number.
#
# Packages: myst-nb 1.4.0, jupyter-cache 1.0.1
# Expected: nb_execution_mode = "cache" executes a page again when its result may have
#   changed, for instance when a module beside it did, or when everything is rebuilt
#   (sphinx -E -a).
# Seen: the cache looks at the text of the code cells and at nothing else. After a
#   change of an imported module a complete rebuild shows the number from before, with
#   exit status 0 and no warning.
# Why it matters: a course's pages are thin and its library is where mistakes are
#   mended, so a cached book contradicts its own code. Use force.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(myst-nb==1.4.0 jupyter-cache==1.0.1 Sphinx==9.0.4 ipykernel==7.4.0)

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
mkdir "$work/book"

"$PYTHON" - "$work/book" <<'EOF'
import pathlib
import re
import subprocess
import sys

import nbformat


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


book = pathlib.Path(sys.argv[1])
(book / "conf.py").write_text('extensions = ["myst_nb"]\nnb_execution_mode = "cache"\n')
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
cell = nbformat.v4.new_code_cell("import course\nprint('bound', course.bound)")
made = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
nbformat.write(made, book / "index.ipynb")


def build(mode):
    """The number on the page after everything was built anew."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-a", "-b", "html"]
    command += ["-D", f"nb_execution_mode={mode}", book, book / "_build" / "html"]
    subprocess.run(command, check=True, capture_output=True)
    return re.search(r"bound \d+", (book / "_build/html/index.html").read_text())[0]


seen = []
for number, mode in ((97, "cache"), (80, "cache"), (80, "force")):
    (book / "course.py").write_text(f"bound = {number}\n")
    seen.append(build(mode))
    print(f"course.py says {number}, mode {mode}: the page says {seen[-1]}")
must(seen[0] == "bound 97", "the first build does not show the first number")
must(seen[1] == "bound 97", "the cache notices a change of the module")
must(seen[2] == "bound 80", "force does not show the new number")
EOF
