"""A page that carries its data and its script: what a notebook shows of it.

Python writes the element once; from then on it runs in the reader's browser alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawlib.config import of_kind

__all__ = ["LivePage", "base64_of", "eight_bits", "numbers", "script", "tensor_of"]

SCRIPTS = ("explorer_maths.js", "explorer_parts.js", "explorer.js")


def tensor_of(where: str, value: Any) -> Tensor:
    """A tensor, or what makes one: an array, or lists of numbers.

    Raises:
        TypeError: for anything else, such as a data set.

    Example:
        >>> tensor_of("digits", None)
        Traceback (most recent call last):
        TypeError: digits is a NoneType; allowed: an array or a tensor
    """
    if isinstance(value, Tensor):
        return value
    array = np.array(value)
    allowed = "an array or a tensor"
    return torch.as_tensor(
        array if array.dtype.kind in "buif" else of_kind(where, value, Tensor, allowed)
    )


@dataclass(frozen=True, eq=False)
class LivePage:
    """One live page: its kind and the data that its script reads.

    Example:
        >>> page = LivePage("merge", {"introduction": "Two Gaussians."})
        >>> page
        <merge explorer>
        >>> page._repr_html_().startswith('<div id="drawlib-merge-')
        True
    """

    kind: str
    data: dict[str, Any]
    files: tuple[str, ...] = SCRIPTS

    def __post_init__(self) -> None:
        try:
            json.dumps(self.data, allow_nan=False)
        except (
            ValueError
        ):  # a browser reads neither NaN nor infinity, and shows nothing
            raise ValueError(
                f"the {self.kind} explorer shows a number that is not finite; allowed: "
                "finite images, and a model with finite weights"
            ) from None

    def __repr__(self) -> str:
        return f"<{self.kind} explorer>"

    def _repr_html_(self) -> str:
        """The page's element and the script that brings it to life.

        The script may stand on a page many times. The id is made from the content, so
        that the same page is the same text in every run.
        """
        payload = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        key = hashlib.sha256(payload.encode()).hexdigest()[:8]
        return (
            f'<div id="drawlib-{self.kind}-{key}" data-drawlib="{self.kind}" '
            f'data-payload="{html.escape(payload)}">'
            "<p>This figure is live: it needs a browser with JavaScript, in the book "
            "or in a trusted notebook.</p></div>\n"
            f"<script>\n{script(self.files)}</script>"
        )


@cache
def script(files: tuple[str, ...] = SCRIPTS) -> str:
    """The JavaScript of a live page, as it is put into each.

    Example:
        >>> "window.drawlib" in script()
        True
    """
    here = Path(__file__)
    return "".join(here.with_name(name).read_text(encoding="utf-8") for name in files)


def base64_of(values: Tensor) -> str:
    """A tensor's bytes, in little-endian order, as the script reads them.

    Example:
        >>> import torch
        >>> base64_of(torch.tensor([0, 255], dtype=torch.uint8))
        'AP8='
    """
    array = values.cpu().contiguous().numpy()
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(array.tobytes()).decode()


def eight_bits(values: Tensor) -> Tensor:
    """Numbers in [0, 1] as 0 to 255.

    Example:
        >>> import torch
        >>> eight_bits(torch.tensor([0.0, 0.5, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return (values.detach().clamp(0, 1) * 255).round().to(torch.uint8)


def numbers(values: Tensor, digits: int) -> list[Any]:
    """A tensor as nested lists of rounded numbers.

    Example:
        >>> import torch
        >>> numbers(torch.tensor([[1.23456]]), 2)
        [[1.23]]
    """
    rows = values.detach().double().cpu()
    if rows.ndim == 1:
        return [round(value, digits) for value in rows.tolist()]
    return [numbers(row, digits) for row in rows]
