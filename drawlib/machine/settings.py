"""PyTorch's settings for the whole process: set for a while, left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["matmul_precision"]


@contextmanager
def matmul_precision(config: str) -> Iterator[None]:
    """Allow faster float32 products for the length of a training."""
    before = torch.get_float32_matmul_precision()
    if config != "float32":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
