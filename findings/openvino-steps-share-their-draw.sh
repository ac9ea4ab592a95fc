#!/usr/bin/env bash
# In a converted model all steps draw the same uniform numbers.
#
# Packages: openvino 2026.4.1, torch 2.15.0
# Expected: in a model that draws bits at each of three steps, by torch.bernoulli(p) or
#   by rand_like(p) < p, the bits of two steps are independent, and the next call has
#   others, as in torch.
# Seen: equal draws are taken for a repeated computation and made once: all steps
#   compare their p with one field of uniform numbers. Two steps have equal bits, and a
#   step with a larger p has the same ones and some more. From torch.bernoulli the bits
#   are also the same in ten calls, until the model is compiled again. Shares of ones
#   are right. randn_like is not hit. No warning.
# Why it matters: an exported sampler has the right amount of ink, and averages over
#   its steps or calls average nothing. Give the noise as an input.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(openvino==2026.4.1 torch==2.15.0 numpy==2.4.6)

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
import warnings

import numpy as np
import openvino
import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


class Bernoulli(torch.nn.Module):
    def forward(self, p):
        return torch.bernoulli(p), torch.bernoulli(p), torch.bernoulli(p + 0.1)


class Uniform(torch.nn.Module):
    def forward(self, p):
        return tuple((torch.rand_like(p) < q).float() for q in (p, p, p + 0.1))


class Normal(torch.nn.Module):
    def forward(self, p):
        return tuple((torch.randn_like(p) < z).float() for z in (-0.52, -0.52, -0.25))


warnings.simplefilter("ignore")
p = torch.full((1, 1000), 0.3)
for kind, want in {Bernoulli: (1, 1, 1), Uniform: (10, 1, 1), Normal: None}.items():
    traced = torch.jit.trace(kind(), (p,), check_trace=False)
    model = openvino.compile_model(openvino.convert_model(traced, example_input=p))
    calls = []
    for _ in range(10):
        result = model(p.numpy())
        calls.append([result[step].copy() for step in range(3)])
    first, second, more = calls[0]
    means = [round(float(bits.mean()), 2) for bits in calls[0]]
    pictures = len({step.tobytes() for step, _, _ in calls})
    equal, kept = float((first == second).mean()), float((more >= first).mean())
    print(
        f"{kind.__name__}: shares of ones {means}; {pictures} pictures in 10 calls; "
        f"steps 1 and 2 share {equal:.0%} of the bits; {kept:.0%} in order with step 3"
    )
    must(np.allclose(means, [0.3, 0.3, 0.4], atol=0.07), "the shares are not p")
    if want is None:
        must(pictures == 10 and equal < 0.8 and kept < 0.95, "normal noise is shared")
    else:
        must((pictures, equal, kept) == want, f"{kind.__name__} draws more often")
EOF
