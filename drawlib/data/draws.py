"""Draws that are made once: split membership, bits, subsets; the same everywhere.

They use PCG64's raw 64-bit numbers: numpy promises that stream for all time, which
neither torch nor numpy promises for its ready-made samplers.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SEED", "draw_bits", "permutation", "uint32"]

SEED = 0  # of every draw that is made once, at load: split membership, bits, clutter


def uint32(n: int, seed: int, what: str) -> np.ndarray:
    """n whole numbers below 2³², for a seed and a purpose."""
    stream = np.random.PCG64(np.random.SeedSequence([seed, *what.encode()]))
    return stream.random_raw((n + 1) // 2).astype("<u8").view("<u4")[:n]


def permutation(n: int, seed: int, what: str) -> np.ndarray:
    """0 to n − 1 in an order that the seed and the purpose fix.

    >>> sorted(permutation(4, 0, "an example").tolist())
    [0, 1, 2, 3]
    """
    keys = uint32(2 * n, seed, what).view("<u8")
    return np.argsort(keys, kind="stable").astype(np.int64)


def draw_bits(grey: np.ndarray, what: str) -> np.ndarray:
    """Bits b ~ Bernoulli(grey/255), the same ones on every machine.

    >>> draw_bits(np.array([0, 255], "u1"), "an example").tolist()
    [0, 1]
    """
    u, flat = uint32(grey.size, SEED, what), grey.reshape(-1)
    bits = np.empty(grey.size, "u1")
    for first in range(0, grey.size, 2**20):  # wide numbers of a part at a time
        s = slice(first, first + 2**20)
        drawn, level = u[s].astype(np.uint64), flat[s].astype(np.uint64)
        # u / 2^32 < grey / 255, in whole numbers
        bits[s] = drawn * np.uint64(255) < level << np.uint64(32)
    return bits.reshape(grey.shape)
