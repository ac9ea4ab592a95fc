"""Cluttered digits: one digit at a random place, among fragments of other digits."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from drawlib.bound import check_generator

__all__ = ["clutter"]


def clutter(
    digits: UInt8[Tensor, "n 1 height width"],
    generator: torch.Generator | None = None,
    *,
    pool: UInt8[Tensor, "m 1 height width"] | None = None,
    size: int = 100,
    fragments: int = 8,
    patch: int = 8,
) -> UInt8[Tensor, "n 1 size size"]:
    """Place each digit at random in a larger image, among fragments of other digits.

    Each of the `fragments` is a patch x patch square cut at random from a random digit
    of `pool` (without one: of the other digits given) and put at a random place. Where
    pieces overlap the brighter one shows. Raises `ValueError` for sizes that do not
    fit. The task is that of Mnih et al., Recurrent models of visual attention (2014).

    >>> digits = torch.full((2, 1, 28, 28), 200, dtype=torch.uint8)
    >>> made = clutter(digits, torch.Generator().manual_seed(0), fragments=0)
    >>> made.shape, bool((made.flatten(1).sum(1) == 200 * 28 * 28).all())
    (torch.Size([2, 1, 100, 100]), True)
    """
    n, _, height, width = digits.shape
    if fragments < 0:
        raise ValueError(f"fragments={fragments} given, allowed: 0 or more")
    if not 1 <= patch <= min(height, width):
        raise ValueError(
            f"patch={patch} given, allowed: 1 to {min(height, width)}, the digit's size"
        )
    if size < max(height, width):
        raise ValueError(
            f"size={size} given, allowed: {max(height, width)} (the digit's) or more"
        )
    if pool is None and fragments and n < 2:
        raise ValueError("one digit given, its fragments need others: give a pool")
    generator = generator_on(generator, digits.device)
    numbers = torch.randint(
        2**31, (n, 2 + 5 * fragments), generator=generator, device=digits.device
    )
    return place(digits, pool, numbers, size, patch)


def place(
    digits: Tensor, pool: Tensor | None, numbers: Tensor, size: int, patch: int
) -> Tensor:
    """Cluttered images from given random integers, 2 + 5 a fragment for each image."""
    n, _, height, width = digits.shape
    device = digits.device
    canvas = torch.zeros(n, size * size, dtype=torch.uint8, device=device)

    def paste(pixels: Tensor, row: Tensor, column: Tensor) -> None:
        h, w = pixels.shape[1:]
        r = row[:, None, None] + torch.arange(h, device=device)[:, None]
        c = column[:, None, None] + torch.arange(w, device=device)
        index = (r * size + c).reshape(n, -1)
        brighter = torch.maximum(canvas.gather(1, index), pixels.reshape(n, -1))
        canvas.scatter_(1, index, brighter)

    for k in range(2, numbers.shape[1], 5):
        which, top, left, row, column = numbers[:, k : k + 5].unbind(1)
        if pool is None:  # any digit of the batch but one's own
            which = (torch.arange(n, device=device) + 1 + which % (n - 1)) % n
        else:
            which = which % pool.shape[0]
        r = (top % (height - patch + 1))[:, None, None]
        c = (left % (width - patch + 1))[:, None, None]
        r = r + torch.arange(patch, device=device)[:, None]
        c = c + torch.arange(patch, device=device)
        source = digits if pool is None else pool
        pixels = source[which[:, None, None], 0, r, c]
        paste(pixels, row % (size - patch + 1), column % (size - patch + 1))
    paste(digits[:, 0], numbers[:, 0] % (size - height + 1),
          numbers[:, 1] % (size - width + 1))  # fmt: skip
    return canvas.reshape(n, 1, size, size)


def generator_on(
    generator: torch.Generator | None, device: torch.device
) -> torch.Generator | None:
    """The generator itself, or one seeded by its next number where devices differ."""
    check_generator(generator)
    if generator is None or generator.device.type == device.type:
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(device).manual_seed(int(seed))
