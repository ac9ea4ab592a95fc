"""The sizes and choices that DRAW and GLAS have in common."""

from __future__ import annotations

from dataclasses import dataclass

from drawlib.config import Config, at_least, one_of
from drawlib.filterbank import KERNELS

__all__ = ["RecurrentConfig"]


@dataclass(frozen=True)
class RecurrentConfig(Config):
    """What DRAW and GLAS have in common; ``read`` and ``write`` are the patches' N.

    ``attention``: ``none``, or the kernel of the filters that read and write the image.
    ``initial_state``, ``canvas``: h_0 and c_0 are ``learned`` (as in the paper) or
    ``zeros``.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    T: int = 64
    hidden: int = 256
    z: int = 100
    attention: str = "none"
    read: int = 2
    write: int = 5
    initial_state: str = "learned"
    canvas: str = "learned"
    likelihood: str = "bernoulli"
    forget_bias: float = 1.0

    def check(self) -> None:
        at_least(self, 1, "image_shape", "T", "hidden", "z", "read", "write")
        one_of(self, "attention", ("none", *KERNELS))
        one_of(self, "initial_state", ("learned", "zeros"))
        one_of(self, "canvas", ("learned", "zeros"))
        one_of(self, "likelihood", ("bernoulli", "discretised-logistic"))
