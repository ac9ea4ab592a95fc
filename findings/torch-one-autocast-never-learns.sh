#!/usr/bin/env bash
# In one long autocast the loss of a training never changes.
#
# Packages: torch 2.15.0
# Expected: a step of the optimiser changes the weights, so the next forward pass sees
#   other weights, wherever the block of autocast begins and ends.
# Seen: autocast keeps the rounded copy of each weight until the outermost block ends,
#   and does not look whether the weight was changed meanwhile. With the whole training
#   in one block all 20 losses are equal, while the weights move, by 20 times the first
#   gradient, past the solution. It is so, too, if the block around is switched off and
#   each step has its own. With a block for each step alone the loss falls. No error,
#   no warning. cache_enabled=False, or torch.clear_autocast_cache() after each step,
#   helps. (The page of autocast says that there is a cache, not what it does here.)
# Why it matters: a caller that opens a block around everything, or weights that are
#   averaged and put in place within one, give a plateau in the log.
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
from contextlib import nullcontext

import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def train(around, cache=True):
    """The losses seen, and the loss of the weights that came out, in float32."""
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = x @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with around:
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
                loss = (model(x).float() - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, (model(x) - y).square().mean().item()


on = torch.autocast("cpu", torch.bfloat16)
off = torch.autocast("cpu", torch.bfloat16, enabled=False)
for name, learns, arguments in (
    ("a block for each step", True, (nullcontext(),)),
    ("one block around all", False, (on,)),
    ("a block around all, off", False, (off,)),
    ("one block, no cache", True, (on, False)),
):
    losses, after = train(*arguments)
    print(
        f"{name}: loss {losses[0]:.2f}, {losses[1]:.2f} ... {losses[-1]:.2f}; "
        f"of the trained weights in float32: {after:.2f}"
    )
    if learns:
        must(losses[-1] < 0.1 * losses[0], f"{name}: the loss does not fall")
    else:
        must(len(set(losses)) == 1, f"{name}: the loss changes")
        must(after > losses[0], f"{name}: the weights improve")
EOF
