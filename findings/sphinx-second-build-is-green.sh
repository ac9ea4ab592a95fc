#!/usr/bin/env bash
# A book whose build fails passes when it is built again.
#
# Packages: sphinx 9.0.4
# Expected: sphinx-build -W ends with status 1 as long as a page has a warning.
# Seen: the first build fails over an unknown reference and an undefined substitution.
#   The second one, with nothing changed, ends with status 0 and says nothing, and the
#   pages that it leaves have the faults: warnings belong to the reading of a page, and
#   unchanged pages are not read again. (Sphinx 7.4.7, which Jupyter Book 1 uses, does
#   so with --keep-going. Its makers call it working as designed.)
# Why it matters: a second try, or a build folder that is kept between runs, turns a
#   broken book green. Use -E, or delete the build folder first.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(sphinx==9.0.4)

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
touch "$work/book/conf.py"
printf 'Book\n====\n\n.. toctree::\n\n   chapter\n' >"$work/book/index.rst"
printf 'Chapter\n=======\n\nAs :ref:`shown` by |whom|.\n' >"$work/book/chapter.rst"

build() {
    local code=0
    "$PYTHON" -m sphinx "$@" -W -q "$work/book" "$work/out" 2>"$work/said" || code=$?
    echo "build $*: status $code, $(grep -c . "$work/said" || true) lines on stderr"
    last=$code
}

must() {
    if ! "$@"; then
        echo "changed: expected $*" >&2
        exit 1
    fi
}

build # the first time
must [ "$last" -ne 0 ]
build # again, with nothing changed
must [ "$last" -eq 0 ]
must grep -q '|whom|' "$work/out/chapter.html"
build -E
must [ "$last" -ne 0 ]
