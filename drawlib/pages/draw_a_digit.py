"""The book's page "Draw a digit": its element, the files beside it, a picture of it.

Python runs when the book is built: it exports the models and takes the digits from the
data loader, and nothing of this is kept in the repository. The page itself, ``pad.js``,
runs in the reader's browser.
"""

from __future__ import annotations

import functools
import html
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from drawlib.data.sets import Split, load_data, stratified_subset
from drawlib.machine.files import write_atomically
from drawlib.pages import web
from drawlib.pages.animation import redrawing
from drawlib.pages.pad import SCRIPTS, describe_live, first_of_each, texts
from drawlib.results.turns import EDGES, distances
from drawlib.results.zoo import load_pretrained, records

__all__ = ["MODELS", "page_html", "picture", "some_test_digits", "write_assets"]

# The one place that names the models of the book's page; the first is shown first.
MODELS = {
    "DRAW with attention": "mnist-fixed/draw-attention-t64-muon-long-0",
    "DRAW that may stop early": "mnist-fixed/draw-attention-t16-anytime-0",
    "DRAW without attention": "mnist-fixed/draw-no-attention-t16-0",
    "GLAS, its window on L": "mnist-fixed/glas-cauchy-t16-0",
    "DRAW with attention, two digits": "mnist-two/draw-attention-t16-long-0",
}
SHAPE = (1, 28, 28)  # of what is drawn first


loaded = functools.cache(load_data)  # several models share a data set


class Source(NamedTuple):
    """Where a model's test images come from, and what the page calls them."""

    protocol: str
    images: str
    offered: str


# The test images of both can be had wherever the book is built.
DIGITS = Source("mnist-dynamic", "test digits", "the test digit")
PAIRS = Source("mnist-two", "pairs of test digits", "the pair of test digits")


def file_of(name: str) -> str:
    """The file of a shipped model beside the page.

    Example:
        >>> file_of("mnist-fixed/glas-cauchy-t16-0")
        'mnist-fixed-glas-cauchy-t16-0.js'
    """
    return name.replace("/", "-") + ".js"


def source_of(name: str) -> Source:
    """Which test images a model of the page is measured on.

    Example:
        >>> source_of("mnist-fixed/glas-cauchy-t16-0").protocol
        'mnist-dynamic'
    """
    return PAIRS if name.startswith("mnist-two/") else DIGITS


def page_html(prefix: str = "", models: dict[str, str] = MODELS) -> str:
    """The page's element and its scripts, which lie below ``prefix``.

    Example:
        >>> page_html("_static/live/").count("<script")
        6
    """
    data = {
        **texts("digit"),
        "shape": list(SHAPE),
        "models": [
            {"label": label, "name": name, "url": prefix + file_of(name)}
            for label, name in models.items()
        ],
    }
    payload = html.escape(json.dumps(data, ensure_ascii=False))
    # The first model is large: asked for at once, it comes while the scripts do.
    first = prefix + file_of(next(iter(models.values())))
    scripts = "".join(
        f'<script src="{prefix}{name}"></script>\n' for name in ("digits.js", *SCRIPTS)
    )
    return (
        '<div id="draw-a-digit" class="drawlib-live" data-drawlib="pad" '
        f'data-payload="{payload}"><p>This page is live: it needs a browser with '
        f"JavaScript, and nothing else.</p></div>\n"
        f'<link rel="preload" as="script" href="{first}">\n{scripts}'
    )


def some_test_digits(n: int, protocol: str = DIGITS.protocol) -> Split:
    """Genuine test digits: a seeded draw from test bits, stratified by class."""
    split = loaded(protocol).test
    return split.subset(stratified_subset(split, n, seed=0))


def write_assets(folder: Path, *, images: int = 1000) -> dict[str, web.WebModel]:
    """Write the scripts, the digits and the models that ``page_html`` names.

    Each model is exported by ``export_model``: at most 4 MB, at most 0.2 nats lost,
    which is measured on ``images`` test images (``source_of``). Pairs of digits to
    begin with come with their model. Returns what was exported.

    Raises:
        ZooError, drawlib.data.download.DataError, ValueError: as ``export_model``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        write_atomically(folder / name, text.encode())
    some = some_test_digits(10)
    assert some.labels is not None
    offered = first_of_each(some.images, some.labels.tolist(), DIGITS.offered)
    text = f"window.drawlibExamples = {json.dumps([offered])};\n"
    write_atomically(folder / "digits.js", text.encode())
    written = {}
    for name in MODELS.values():
        path, (protocol, what, offer) = folder / file_of(name), source_of(name)
        model = load_pretrained(name)
        one = web.export_model(model, loaded(protocol), path, name=name, images=images)
        test = some_test_digits(images, protocol)
        live = describe_live(one.build(), test.images.float(), told(one), what=what)
        text = path.read_text(encoding="utf-8")
        text += f"window.drawlibModels[{json.dumps(name)}].live = {json.dumps(live)};\n"
        if test.parts is not None:
            # Some that lie far apart, which are drawn one after the other. Digits of
            # the usual size: the pen stays as it was.
            apart = distances(test.parts) >= EDGES[-2]
            pairs = {**first_of_each(test.images[apart][:5], None, offer), "pen": 1}
            text += f"window.drawlibExamples.push({json.dumps(pairs)});\n"
        if len(text.encode()) > web.MOST_BYTES:
            raise ValueError(
                f"{path.name} has {len(text) / 1e6:.1f} MB; "
                f"allowed: {web.MOST_BYTES / 1e6:.0f} MB"
            )
        write_atomically(path, text.encode())
        written[name] = one
    return written


def told(model: web.WebModel) -> str:
    """Where a shipped model comes from, and what its rounding costs."""
    record = next(r for r in records() if r.name == model.name)
    m = model.measured
    note = f" {record['note']}" if record["note"] else ""
    return (
        f"{model.name}: trained for {record['epochs']} epochs on {record.protocol}; "
        f"−ELBO on {m['images']:,} {source_of(model.name).images} with the bits of "
        f"{m['protocol']} "
        f"{m['quantised']:.1f} nats; rounding to {model.format} costs "
        f"{web.loss_of(m)} of them.{note}"
    )


def picture(path: Path) -> str:
    """Draw a test digit, and how the page's first model looks at it and redraws it.

    One column per step, evenly chosen: the digit with the window that reads, the canvas
    with the window that writes. Returns the alt text.
    """
    label = 5
    model: Any = load_pretrained(next(iter(MODELS.values())))
    some = some_test_digits(10)
    assert some.labels is not None
    x = some.images[some.labels == label][:1].float()
    seen = model.trace(x, generator=torch.Generator().manual_seed(0))
    what = f"images of a handwritten {label}"
    made = redrawing(seen, name="the network", what=what, frames=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, made.png())
    return made.alt
