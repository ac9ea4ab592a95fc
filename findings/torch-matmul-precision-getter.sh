#!/usr/bin/env bash
# Choosing TF32 the new way makes the old getter raise.
#
# Packages: torch 2.15.0 (no GPU needed)
# Expected: torch.get_float32_matmul_precision() tells the setting, as its name says,
#   so that code can change the precision and put it back.
# Seen: once anybody has written torch.backends.cuda.matmul.fp32_precision = "tf32",
#   the setting that the documentation now recommends, the getter raises RuntimeError,
#   and so does reading allow_tf32. The setter still works, and heals the getter.
# Why it matters: a training loop that saves and restores the precision stops with an
#   error for the very reader who followed the current documentation. Catch the error,
#   or set the old name first.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 numpy==2.4.6)

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
import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


torch.backends.cuda.matmul.fp32_precision = "tf32"
print("fp32_precision:", torch.backends.cuda.matmul.fp32_precision)
raised = 0
for name, read in {
    "get_float32_matmul_precision()": torch.get_float32_matmul_precision,
    "backends.cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
}.items():
    try:
        print(f"{name}: {read()}")
    except RuntimeError as error:
        raised += 1
        print(f"{name}: RuntimeError: {str(error)[:60]}...")
must(raised == 2, "both old names can be read beside the new setting")
torch.set_float32_matmul_precision("high")
print("after set_float32_matmul_precision('high'):", end=" ")
print(torch.get_float32_matmul_precision())
must(torch.get_float32_matmul_precision() == "high", "the setter no longer heals it")
EOF
