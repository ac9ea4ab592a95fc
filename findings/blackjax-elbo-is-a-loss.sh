#!/usr/bin/env bash
# Of two fields called elbo one has the other sign.
#
# Packages: blackjax 1.7.1, jax 0.10.2
# Expected: info.elbo is the evidence lower bound, at most log Z, the larger the
#   better, as it is for pathfinder in the same package.
# Seen: meanfield_vi and fullrank_vi put the loss there, the negative bound: for a
#   target with log Z = -10 that q meets exactly, both give elbo = +10.0, pathfinder
#   -10.0. The docstrings, too, call it the ELBO.
# Why it matters: -10 and +10 differ by 20 nats in a table, and by everything in a
#   rule such as "keep the state with the largest elbo", which keeps the worst one.
#   Compare the sign on a target whose log Z is known, once.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(blackjax==1.7.1 jax==0.10.2 numpy==2.4.6)

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
import blackjax
import jax
import jax.numpy as jnp
import optax


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


log_z = -10.0


def target(x):
    return jax.scipy.stats.norm.logpdf(x, 1.0).sum() + log_z


for name in ("meanfield_vi", "fullrank_vi"):
    algorithm = getattr(blackjax, name)(target, optax.adam(1e-2), 500)
    state, step = algorithm.init(jnp.zeros(3)), jax.jit(algorithm.step)
    elbos = []
    for key in jax.random.split(jax.random.key(0), 600):
        state, info = step(key, state)
        elbos.append(float(info.elbo))
    print(f"{name}: elbo {elbos[0]:.2f} at first, {elbos[-1]:.2f} at last")
    must(abs(elbos[-1] + log_z) < 0.05, f"{name} ends at {elbos[-1]:.2f}")
    must(elbos[0] > elbos[-1], f"the elbo of {name} rises while it learns")
state, _ = blackjax.vi.pathfinder.approximate(jax.random.key(1), target, jnp.ones(3))
print(f"pathfinder: elbo {float(state.elbo):.2f}; log Z is {log_z:.2f}")
must(abs(float(state.elbo) - log_z) < 0.05, "pathfinder has another elbo")
EOF
