"""Two digits at random places of one image: the DRAW paper's own picture."""

from __future__ import annotations

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from drawlib.data.clutter import generator_on

__all__ = ["two_digits"]

NUMBERS = 5  # an image's random integers: which other digit, two rows, two columns


def two_digits(
    digits: UInt8[Tensor, "n 1 height width"],
    generator: torch.Generator | None = None,
    *,
    pool: UInt8[Tensor, "m 1 height width"] | None = None,
    size: int = 60,
) -> UInt8[Tensor, "n 2 size size"]:
    """Each digit beside one drawn from `pool`, each alone at a random place of its own.

    The two are kept apart, so that it is known whose ink is where; `together` lays them
    on one another. Without a pool the other digit is one of those given. Raises
    `ValueError` for a size below the digits'. The images are those of Gregor et al.
    (2015, section 4.3): two digits in 60x60 pixels.

    >>> digits = torch.full((3, 1, 28, 28), 200, dtype=torch.uint8)
    >>> apart = two_digits(digits, torch.Generator().manual_seed(0))
    >>> apart.shape, bool((apart.flatten(2).sum(2) == 200 * 28 * 28).all())
    (torch.Size([3, 2, 60, 60]), True)
    """
    n, _, height, width = digits.shape
    if size < max(height, width):
        raise ValueError(
            f"size={size} given, allowed: {max(height, width)} (the digit's) or more"
        )
    generator = generator_on(generator, digits.device)
    numbers = torch.randint(
        2**31, (n, NUMBERS), generator=generator, device=digits.device
    )
    return apart(digits, digits if pool is None else pool, numbers, size)


def apart(
    digits: Tensor, pool: Tensor, numbers: Integer[Tensor, "n 5"], size: int
) -> UInt8[Tensor, "n 2 size size"]:
    """Both digits of each image, each alone, from given random integers."""
    n, _, height, width = digits.shape
    device = digits.device
    both = torch.stack([digits[:, 0], pool[numbers[:, 0] % len(pool), 0]], 1)
    top = (numbers[:, 1:3] % (size - height + 1))[..., None, None]
    left = (numbers[:, 3:5] % (size - width + 1))[..., None, None]
    layers = torch.zeros(n, 2, size, size, dtype=torch.uint8, device=device)
    image = torch.arange(n, device=device)[:, None, None, None]
    layer = torch.arange(2, device=device)[:, None, None]
    rows = top + torch.arange(height, device=device)[:, None]
    columns = left + torch.arange(width, device=device)
    layers[image, layer, rows, columns] = both
    return layers


def together(
    layers: UInt8[Tensor, "n 2 height width"],
) -> UInt8[Tensor, "n 1 height width"]:
    """The image of both digits: grey levels are added, and cut off at white.

    >>> layers = torch.tensor([[3, 0], [200, 250]], dtype=torch.uint8)
    >>> together(layers.reshape(1, 2, 1, 2)).flatten().tolist()
    [203, 250]
    """
    first, second = layers.unbind(1)
    # What is left of white bounds the sum: no wider type is needed.
    return (first + torch.minimum(second, 255 - first))[:, None]
