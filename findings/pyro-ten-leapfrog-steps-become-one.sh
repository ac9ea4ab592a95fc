#!/usr/bin/env bash
# HMC that is asked for ten leapfrog steps takes one.
#
# Packages: pyro-ppl 1.9.2, torch 2.15.0
# Expected: HMC(step_size=0.01, num_steps=10) takes ten steps a trajectory, and the
#   warm-up adapts their size.
# Seen: only the product is kept, a length of 0.1. The size is adapted by default,
#   here to 0.76, and the number of steps becomes 0.1 / 0.76, but at least 1: one
#   gradient a sample in place of ten, and a chain that walks. With
#   adapt_step_size=False it is ten. (The page of num_steps calls it always equal to
#   the length over the size.)
# Why it matters: chains are compared per leapfrog step, as in a table of annealed
#   importance sampling; this one counts ten and made one. Count the gradients, or
#   give trajectory_length.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(pyro-ppl==1.9.2 torch==2.15.0 numpy==2.4.6)

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
import pyro
import torch
from pyro.infer.mcmc import HMC, MCMC


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


samples = 100


def gradients(**given):
    """Gradients of the potential a sample, and the kernel, after the warm-up."""
    pyro.set_rng_seed(0)
    calls = 0

    def potential(at):
        nonlocal calls
        calls += 1
        return 0.5 * (at["z"] ** 2).sum()

    def count(kernel, sample, stage, i):
        nonlocal calls
        if stage != "Sample":
            calls = 0  # the warm-up's do not count

    kernel = HMC(potential_fn=potential, step_size=0.01, num_steps=10, **given)
    MCMC(
        kernel,
        num_samples=samples,
        warmup_steps=samples,
        initial_params={"z": torch.zeros(2)},
        hook_fn=count,
        disable_progbar=True,
    ).run()
    return calls / samples, kernel


for adapt in (True, False):
    a_sample, kernel = gradients(adapt_step_size=adapt)
    print(
        f"adapt_step_size={adapt}: step {kernel.step_size:.2f}, "
        f"{kernel.num_steps} steps, {a_sample:.2f} gradients a sample"
    )
    must(kernel.num_steps == (1 if adapt else 10), f"{kernel.num_steps} steps")
    must(a_sample < 1.5 if adapt else a_sample > 9.5, f"{a_sample} gradients a sample")
EOF
