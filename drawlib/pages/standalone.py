"""One HTML file with a model in it, to keep or to send: it needs no network.

Python writes the file; what is in it runs in the browser of whoever opens it.
"""

from __future__ import annotations

import copy
import html
from pathlib import Path
from typing import Any

import torch

from drawlib.bound import LatentModel
from drawlib.data.sets import Data, stratified_subset
from drawlib.data.words import words_of
from drawlib.evaluation import check_likelihood
from drawlib.machine.files import check_target, path_of, write_atomically
from drawlib.pages import web
from drawlib.pages.explorer import pad, player, words
from drawlib.recurrent import Recurrent

__all__ = ["write_page"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>html {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 55rem; margin: 1rem auto;
padding: 0 1rem; }} h1 {{ font-size: 1.6rem; margin: 0 0 0.6rem; }}
[data-drawlib] {{ margin-bottom: 1.5rem; }}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{parts}
<p>{about}</p>
</main>
</body>
</html>
"""
ENDINGS = (".html", ".htm")
MOST = 16_000_000  # bytes of pixels in a file that is sent around
MEASURED = 200  # images that a pad is measured on: enough to see what rounding costs


def write_page(
    model: LatentModel,
    data: Data,
    out: str | Path,
    *,
    name: str,
    images: int = 4,
    seed: int = 0,
) -> None:
    """Write a page in which ``model`` draws test images of ``data``, step by step.

    A model that a browser can run gets a pad before it, on which a reader draws:
    one or three channels, sides of at most 64. A model of words gets a field to type
    into in their place.

    Raises:
        TypeError: for a model without steps.
        ValueError: for images of another kind than the model's, fewer than 1, or more
            than the test split has; for a file that is no ``.html``.
        OSError: whatever the disk says; as ``check_target`` before the work.

    Example:
        >>> import tempfile
        >>> from drawlib import DRAW, DRAWConfig
        >>> data = Data.from_arrays(torch.zeros(30, 28, 28, dtype=torch.bool))
        >>> out = Path(tempfile.mkdtemp()) / "page.html"
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> write_page(model, data, out, name="Mine", images=1)
        >>> out.read_text(encoding="utf-8").startswith("<!doctype html>")
        True
    """
    check_target(out := path_of("out", out), *ENDINGS)
    if not isinstance(model, Recurrent):
        raise TypeError(
            f"{type(model).__name__} adds to no canvas; allowed: DRAW, GLAS, ConvDRAW"
        )
    check_likelihood(model, data)
    if images < 1:
        raise ValueError(f"images is {images}; allowed: 1 or more")
    weight = next(model.parameters())
    model = copy.deepcopy(model).cpu()
    rows = stratified_subset(data.test, images, seed)
    x = data.binarise(data.test.images[rows].cpu(), split="test").to(weight.dtype)
    few = stratified_subset(data.test, min(MEASURED, len(data.test)), seed)
    given = data.test.images[few].cpu()
    pages: list[Any]
    if web.has_letters(model):
        typed, offered = words_of(given), words_of(x)
        pages = [words({name: model}, typed, examples=offered, what="word")]
    else:
        noise = model.noise(len(x), torch.Generator().manual_seed(seed))
        seen = model.trace(x, noise=noise)
        pages = [player(seen, images=range(len(x)), most=MOST)]
        if web.runs_in_a_page(model):
            labels = None if data.test.labels is None else data.test.labels[few]
            what = "digit" if data.name.startswith("mnist") else "picture"
            pages.insert(0, pad(model, given, labels, name=name, what=what))
    parts = "\n".join(page._repr_html_() for page in pages)
    text = PAGE.format(
        title=html.escape(name), about=html.escape(data.protocol.sentence), parts=parts
    )
    write_atomically(out, text.encode())
