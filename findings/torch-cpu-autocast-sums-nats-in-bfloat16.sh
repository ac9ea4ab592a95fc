#!/usr/bin/env bash
# On the CPU, autocast adds up nats in bfloat16.
#
# Packages: torch 2.15.0 (no GPU needed)
# Expected: autocast keeps exp, log, softplus and sum in float32; so says its list for
#   CUDA.
# Seen: the list for the CPU is much shorter. Densities, exp, logsumexp and sums that
#   follow a Linear stay in bfloat16, which has 8 bits: between 64 and 128 nats it
#   knows half nats, and a running sum over time steps loses whole steps.
#   binary_cross_entropy_with_logits alone is float32, so the reconstruction looks
#   healthy.
# Why it matters: the KL of a recurrent model is wrong by more than 2 percent, on the
#   CPU only. Switch autocast off around densities.
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
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


torch.manual_seed(0)
head, h = torch.nn.Linear(256, 200), torch.randn(64, 256)
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    mu, log_sigma = head(h).chunk(2, 1)
    for name, op in {
        "exp": torch.exp,
        "softplus": F.softplus,
        "sum": torch.sum,
    }.items():
        print(f"{name}: {op(mu).dtype}")
        must(op(mu).dtype == torch.bfloat16, f"{name} is {op(mu).dtype} under autocast")
    loss = F.binary_cross_entropy_with_logits(mu, torch.zeros_like(mu))
    print("binary_cross_entropy_with_logits:", loss.dtype)
    must(loss.dtype == torch.float32, "binary_cross_entropy_with_logits is not float32")

    def kl(mu, log_sigma):
        prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        step = kl_divergence(Normal(mu, log_sigma.exp()), prior).sum(1)
        return sum(step for _ in range(64))  # 64 time steps, all alike

    low, right = kl(mu, log_sigma), kl(mu.float(), log_sigma.float())
print("KL over 64 steps, autocast:", low[:4].tolist())
print("KL over 64 steps, float32: ", [round(v, 1) for v in right[:4].tolist()])
worst = ((low.float() - right).abs() / right).max().item()
print(f"largest relative error: {worst:.1%}")
must(low.dtype == torch.bfloat16 and worst > 0.02, "the sum is right to 2 percent")
EOF
