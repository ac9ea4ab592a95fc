"""PyTorch's settings for the whole process: set for a while, left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch

__all__ = [
    "default_dtype",
    "for_measuring",
    "for_training",
    "in_main_memory",
    "matmul_precision",
]

# From PyTorch 2.9 on, each backend has a precision of its own; where it is "none", that
# of one before it in this list counts.
PLACES = (
    ("generic", "all"),
    ("mkldnn", "all"),
    ("mkldnn", "matmul"),
    ("cuda", "all"),
    ("cuda", "matmul"),
)
# What set_float32_matmul_precision makes of mkldnn's and cuda's, by its names.
AGREED = (("none", "none"), ("ieee", "ieee"), ("tf32", "tf32"), ("bf16", "tf32"))


@contextmanager
def for_training(
    device: torch.device, dtype: torch.dtype, precision: str
) -> Iterator[None]:
    """What a training needs, whatever its caller has set: gradients, and its precision.

    Weights learn inside ``torch.no_grad()`` and ``torch.inference_mode()`` too, and
    under any ``torch.set_default_device``; an
    autocast around the call does not reach them: ``precision`` alone says how exact
    products are. Anomaly detection, deterministic algorithms, warnings and threads
    stay as the caller has them.

    Example:
        >>> with torch.inference_mode():
        ...     with for_training(torch.device("cpu"), torch.float32, "float32"):
        ...         (2 * torch.ones(1, requires_grad=True)).requires_grad
        True
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        for_measuring(device, dtype),
        in_main_memory(),
        matmul_precision(None if precision == "float32" else "medium"),
    ):
        yield


@contextmanager
def for_measuring(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Numbers as exact as the weights, inside any autocast, under any default dtype.

    Example:
        >>> a = torch.rand(9, 9)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     with for_measuring(a.device, a.dtype):
        ...         (a @ a).dtype
        torch.float32
    """
    with (
        torch.autocast("cpu", enabled=False),
        torch.autocast(device.type, enabled=False),
        default_dtype(dtype),
    ):
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """The type of new tensors that name none: that of the model that meets them.

    Example:
        >>> with default_dtype(torch.float64):
        ...     torch.zeros(1).dtype
        torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def in_main_memory() -> Iterator[None]:
    """New tensors that name no device lie where they usually do: on the CPU.

    A caller may have set ``torch.set_default_device("cuda")``, or stand inside
    ``with torch.device(…)``: indices and generators would then lie elsewhere than the
    images. Nothing is done where the default is the usual one.

    Example:
        >>> with torch.device("meta"), in_main_memory():
        ...     torch.zeros(1).device
        device(type='cpu')
    """
    usual = torch.empty(0).device.type == "cpu"
    with nullcontext() if usual else torch.device("cpu"):
        yield


@contextmanager
def matmul_precision(name: str | None) -> Iterator[None]:
    """float32 products as ``torch.set_float32_matmul_precision`` takes a name.

    None leaves them as they are. ``torch.get_float32_matmul_precision`` raises where
    somebody has set ``torch.backends.….fp32_precision`` otherwise, so it is not asked.

    Example:
        >>> with matmul_precision("medium"):
        ...     torch.get_float32_matmul_precision()
        'medium'
        >>> torch.get_float32_matmul_precision()
        'highest'
    """
    if name is None:
        yield
        return
    own, before = take_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        put_precision(own)


def take_precision() -> tuple[list[str], str]:
    """What each of ``PLACES`` says itself, and what the older setting says.

    Both can be read only while the other settings are silent, or agree.
    """
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        return [], torch.get_float32_matmul_precision()
    get: Any = torch._C._get_fp32_precision_getter
    put: Any = torch._C._set_fp32_precision_setter
    own = []
    for place in PLACES:
        own.append(get(*place))
        put(*place, "none")
    before = "highest"
    for mkldnn, cuda in AGREED:
        put("mkldnn", "matmul", mkldnn)
        put("cuda", "matmul", cuda)
        with suppress(RuntimeError):  # they do not agree
            before = torch.get_float32_matmul_precision()
            break
    return own, before


def put_precision(own: list[str]) -> None:
    """Set each of ``PLACES`` as it was; none of them in an older PyTorch."""
    for place, value in zip(PLACES, own, strict=False):
        torch._C._set_fp32_precision_setter(*place, value)
