#!/usr/bin/env bash
# NumPyro's SVI.evaluate draws the same noise for every batch.
#
# Packages: numpyro 0.22.0, jax 0.10.2
# Expected: the mean of evaluate over the batches of a test set averages the noise of
#   the guide out, as it averages the images; called twice, it differs a little.
# Seen: the key is taken from the state and does not go on. Called five times, it is one
#   number, and the next update has the same noise. One image a batch, 1000 images all
#   have one draw: over 50 keys the mean scatters by 2.86 nats, where the 1000 values of
#   one key say that it is known to 0.01. In batches of 100 it scatters by 0.34, in one
#   batch by 0.09. The docstring calls it "a single step of SVI"; a comment in the code
#   says that it has the seed of the update.
# Why it matters: a test loss with its error bar, or five evaluations that agree to the
#   last digit, say nothing about the noise; and it depends on the batch size how
#   noisy the number is. Give each batch a state with a key of its own:
#   state._replace(rng_key=key).
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(numpyro==0.22.0 jax==0.10.2 numpy==2.4.6)

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
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


SIZE = 20


def model(x):
    with numpyro.plate("images", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(SIZE), 1.0).to_event(1))
        numpyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x):
    with numpyro.plate("images", len(x)):
        numpyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
x = jnp.asarray(np.random.default_rng(0).normal(size=(1000, SIZE)), jnp.float32) / 2
state = svi.init(jax.random.key(0), x[:1])
calls = [float(svi.evaluate(state, x[:1])) for _ in range(5)]
_, loss = svi.update(state, x[:1])
print(f"five calls: {calls}; the loss of the next update: {float(loss)}")
must(len({*calls, float(loss)}) == 1, "the values differ")


def losses(key, size, fresh):
    """The losses of all batches, a nat per image."""
    batches = x.reshape(-1, size, SIZE)
    keys = jax.random.split(key, len(batches))

    def one(key_of_batch, batch):
        its_key = key_of_batch if fresh else key
        return svi.evaluate(state._replace(rng_key=its_key), batch) / size

    return jax.vmap(one)(keys, batches)


many = jax.random.split(jax.random.key(1), 50)
scatter = {}
for size, fresh in ((1, False), (100, False), (1000, False), (1, True), (100, True)):
    run = jax.jit(lambda key: losses(key, size, fresh))
    means = np.array([run(key).mean() for key in many])
    scatter[size, fresh] = means.std()
    its_own = "a key for each batch" if fresh else "one state"
    print(f"{its_own}, {size} a batch: the test loss scatters by {means.std():.3f}")
values = np.asarray(jax.jit(lambda key: losses(key, 1, False))(many[0]))
error = values.std() / len(values) ** 0.5
print(f"one image a batch: the values of one state say +- {error:.3f}")
must(scatter[1, False] > 15 * error, "the error bar is right")
must(scatter[1, False] > 7 * scatter[100, False], "batches of 1 and of 100 are alike")
must(scatter[1, True] < 0.15, "a key for each batch does not help")
EOF
