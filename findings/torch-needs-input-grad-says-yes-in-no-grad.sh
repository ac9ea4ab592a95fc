#!/usr/bin/env bash
# An own function is told that gradients are needed where none will ever be asked for.
#
# Packages: torch 2.15.0
# Expected: under no_grad and inference_mode nothing is recorded, so in the forward pass
#   of an own autograd function ctx.needs_input_grad is False for every input: "only
#   keep and compute what backward needs" is what its page shows it for.
# Seen: it is True for every input with requires_grad, whatever the mode; the result
#   has no gradient, backward is never called. Inside forward the grad mode is off in
#   training too, so it does not tell the two apart either. Whether a backward pass can
#   follow has to be asked before apply.
# Why it matters: a recurrent model whose own function lays out a tensor for each step
#   where gradients are needed lays out all of them in every evaluation, and a bound
#   with thousands of samples takes T times the memory it should.
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
import contextlib

import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


class Loop(torch.autograd.Function):
    """h_t = tanh(W h_{t-1}) for 64 steps; keeps all h_t where a gradient is needed."""

    told = []

    @staticmethod
    def forward(ctx, weight, h):
        needed = any(ctx.needs_input_grad)
        Loop.told.append((needed, torch.is_grad_enabled(), 64 if needed else 1))
        states = torch.empty(64 if needed else 1, *h.shape)
        for t in range(64):
            h = torch.tanh(h @ weight.T)
            states[t % len(states)] = h
        ctx.save_for_backward(weight, states)
        return h

    @staticmethod
    def backward(ctx, delta):
        raise NotImplementedError


weight, h = torch.eye(3, requires_grad=True), torch.ones(2, 3)
modes = {
    "training": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
for name, mode in modes.items():
    with mode():
        result = Loop.apply(weight, h)
    needed, enabled, kept = Loop.told[-1]
    print(
        f"{name}: needs_input_grad {needed}, grad mode inside {enabled}, "
        f"{kept} states kept, the result has a gradient: {result.requires_grad}"
    )
    must(needed and not enabled, f"in {name} forward is told {needed}, {enabled}")
    must(result.requires_grad == (name == "training"), f"{name} records otherwise")

with torch.no_grad():
    Loop.apply(weight.detach(), h)
print("weights without requires_grad:", Loop.told[-1][0])
must(not Loop.told[-1][0], "it says yes for tensors without requires_grad too")
EOF
