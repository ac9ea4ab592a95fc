r"""A recurrent model that may stop at any step, and the bound that it then has.

DRAW scores its last canvas alone, so nothing asks the earlier ones to look like
anything. Let the step t at which the drawing ends be drawn too, t ~ π:

    p(x) = Σ_t π_t ∫ p(z_1 … z_t) D(x given c_t) dz.

With q(t given x) q(z_1 … z_t given x), Jensen's inequality gives

    log p(x) ≥ Σ_t q_t [E log D(x given c_t) − Σ_{s≤t} KL_s] − KL(q(t) ‖ π),      (S1)

and each step is paid for only where it is reached: with Q_s = Σ_{t≥s} q_t the price of
the steps is Σ_s Q_s KL_s. With q = π the last term is 0; the q of the highest bound is
q_t ∝ π_t exp(E log D(x given c_t) − Σ_{s≤t} KL_s). One draw of z_1 … z_T serves all
stops at once, and t is summed out in its weight,

    w(z) = Σ_t π_t D(x given c_t) Π_{s≤t} p(z_s)/q(z_s),    E_q w = p(x),         (S2)

since what is drawn after a stop has the ratio 1 there. So log mean_k w(z_k) is the
importance-weighted bound, and π at T alone gives DRAW back.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from drawlib.bound import Bound
from drawlib.config import plain

__all__ = ["Stop", "best_stops", "elbo_at_stops", "stop_bound", "stop_prior"]

Stop = str | tuple[float, ...]
PerStop = Float[Tensor, "batch stops"]
PerStep = Float[Tensor, "batch T"]


def stop_prior(stop: Stop, T: int) -> tuple[float, ...]:
    """π_1 … π_T of ``stop``: ``last``, ``uniform``, or T probabilities.

    Raises:
        ValueError: for anything else.

    Example:
        >>> stop_prior("last", 3), stop_prior("uniform", 2)
        ((0.0, 0.0, 1.0), (0.5, 0.5))
        >>> stop_prior((0.5, 0.6), 2)
        Traceback (most recent call last):
        ValueError: stop is (0.5, 0.6); allowed: last, uniform, or 2 probabilities \
that sum to 1
    """
    if not isinstance(stop, str):
        stop = plain("stop", stop, tuple[float, ...])
    if stop == "last":
        return (0.0,) * (T - 1) + (1.0,)
    if stop == "uniform":
        return (1 / T,) * T
    listed = not isinstance(stop, str) and len(stop) == T and min(stop) >= 0
    if not listed or not math.isclose(sum(stop), 1, abs_tol=1e-6):  # type: ignore[arg-type]
        allowed = f"last, uniform, or {T} probabilities that sum to 1"
        raise ValueError(f"stop is {stop!r:.60}; allowed: {allowed}")
    return tuple(stop)  # type: ignore[arg-type]


def reached(q: PerStop, at: list[int], T: int) -> PerStep:
    """Q_s = Σ_{t≥s} q_t: how likely it is that step s is made at all.

    ``at`` holds the stops t of the columns of q.

    Example:
        >>> reached(torch.tensor([[0.25, 0.75]]), [1, 3], 3)
        tensor([[1.0000, 0.7500, 0.7500]])
    """
    # No product of matrices: autocast would round it.
    tails = F.pad(q.flip(1).cumsum(1).flip(1), (0, 1))
    return tails[:, [bisect_left(at, s) for s in range(1, T + 1)]]


def log_ratios(log_ratio: PerStep, at: list[int]) -> PerStop:
    """Σ_{s≤t} log p(z_s)/q(z_s) for each stop t: no step after it counts.

    Example:
        >>> log_ratios(torch.tensor([[1.0, 2.0, 4.0]]), [1, 3])
        tensor([[1., 7.]])
    """
    return torch.stack([log_ratio[:, :t].sum(1) for t in at], 1)


def stop_bound(
    pi: tuple[float, ...],
    log_likelihood: PerStop,
    kl: PerStep,
    log_ratio: PerStep,
    q: PerStop | None = None,
) -> Bound:
    r"""The bound (S1) and the weight (S2) of one draw, in nats, one row per image.

    Args:
        pi: π_1 … π_T; a stop with π_t = 0 has no column in what follows.
        log_likelihood: log D(x given c_t) at each stop.
        kl: KL_t of every step, stops or not.
        log_ratio: log p(z_t) − log q(z_t) of every step.
        q: q(t given x) at each stop; left out, it is π. It must not come from this
            very draw: then (S1) is no bound, while (S2) has the best q built in.

    Returns:
        ``log_likelihood`` = Σ_t q_t log D(x given c_t); the columns of ``kl`` are
        Q_s KL_s, with KL(q ‖ π) as one more where q is given.

    Example:
        >>> terms = torch.tensor([[-9.0, -3.0]]), torch.tensor([[1.0, 2.0]])
        >>> found = stop_bound((0.5, 0.5), *terms, log_ratio=torch.zeros(1, 2))
        >>> found.log_likelihood, found.kl
        (tensor([-6.]), tensor([[1., 1.]]))
        >>> stop_bound((0.0, 1.0), terms[0][:, 1:], terms[1], torch.zeros(1, 2)).elbo
        tensor([-6.])
    """
    at = [t for t, p in enumerate(pi, 1) if p]
    prior = log_likelihood.new_tensor([p for p in pi if p])
    weights = prior.expand_as(log_likelihood) if q is None else q
    # Eq. (S2), with t summed out
    log_weight = prior.log() + log_likelihood + log_ratios(log_ratio, at)
    # Eq. (S1)
    paid = reached(weights, at, len(pi)) * kl
    if q is not None:
        own = torch.special.xlogy(q, q / prior).sum(1, keepdim=True)
        paid = torch.cat([paid, own], 1)
    drawn = (weights * log_likelihood).sum(1)
    return Bound(drawn, paid, log_weight.logsumexp(1))


def elbo_at_stops(log_likelihood: PerStep, kl: PerStep) -> PerStep:
    """log D(x given c_t) − Σ_{s≤t} KL_s for t = 1 … T: each step's own ELBO, in nats.

    Example:
        >>> elbo_at_stops(torch.tensor([[-9.0, -3.0]]), torch.tensor([[1.0, 2.0]]))
        tensor([[-10.,  -6.]])
    """
    return log_likelihood - kl.cumsum(1)


def best_stops(pi: tuple[float, ...], elbo: PerStop) -> PerStop:
    """q(t given x) ∝ π_t exp(ELBO_t): the q with the highest bound (S1).

    ``elbo`` is a mean over draws of ``elbo_at_stops``, at the stops with π_t > 0; take
    other draws for the bound itself.

    Example:
        >>> best_stops((0.5, 0.5), torch.tensor([[-6.0, -6.0], [-8.0, -6.0]]))
        tensor([[0.5000, 0.5000],
                [0.1192, 0.8808]])
    """
    prior = elbo.new_tensor([p for p in pi if p])
    return torch.softmax(prior.log() + elbo, 1)
