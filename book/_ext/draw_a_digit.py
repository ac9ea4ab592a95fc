"""Sphinx extension: the live page "Draw a digit" and the picture that leads to it.

    ```{draw-a-digit}
    ```
    ```{draw-a-digit-picture} book/live-draw
    ```

Both are made when the book is built: the shipped models are exported into
`_static/live`, the digits come from the data loader, and the picture from the first of
the models. `DRAWLIB_LIVE_IMAGES` sets on how many test digits is measured (1,000).
"""

from __future__ import annotations

import html
import os
import posixpath
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

FOLDER = "_static/live"
ALT = "what the picture of a digit shows"  # until the picture is made


class DrawADigit(Directive):
    """The page's element and its scripts."""

    def run(self) -> list[nodes.Node]:
        """A raw node; its addresses are relative to the document."""
        from drawlib.pages.draw_a_digit import page_html

        prefix = below(self.state.document.settings.env.docname, FOLDER) + "/"
        return [nodes.raw("", page_html(prefix), format="html")]


class DrawADigitPicture(Directive):
    """A picture of a digit that is read and redrawn, as a link to the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A raw node; the alternative text is filled in when the picture is made."""
        here = self.state.document.settings.env.docname
        text = (
            f'<p><a class="draw-a-digit" href="{below(here, self.arguments[0])}.html">'
            f'<img src="{below(here, FOLDER)}/picture.png" alt="{ALT}"/></a></p>\n'
        )
        return [nodes.raw("", text, format="html")]


def below(document: str, target: str) -> str:
    """The address of a target, both counted from the book's root."""
    return posixpath.relpath(target, posixpath.dirname(document) or ".")


def on_finished(app: Sphinx, error: Exception | None) -> None:
    """Write what the pages that were built ask for, and nothing where none does."""
    if error is not None or app.builder.format != "html":
        return
    from drawlib.pages import draw_a_digit

    out = Path(app.outdir)
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in out.rglob("*.html")
        if "_static" not in path.relative_to(out).parts
    }
    live = any(f"{FOLDER}/pad.js" in text for text in texts.values())
    seen = [path for path, text in texts.items() if f"{FOLDER}/picture.png" in text]
    try:
        if live:
            images = int(os.environ.get("DRAWLIB_LIVE_IMAGES", "1000"))
            draw_a_digit.write_assets(out / FOLDER, images=images)
        if seen:
            alt = html.escape(draw_a_digit.picture(out / FOLDER / "picture.png"))
    except (RuntimeError, ValueError, OSError) as trouble:
        raise ExtensionError(f"the live page cannot be made: {trouble}") from trouble
    for path in seen:
        path.write_text(texts[path].replace(ALT, alt), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("draw-a-digit", DrawADigit)
    app.add_directive("draw-a-digit-picture", DrawADigitPicture)
    # Before the pages are mended, which reads what is written here.
    app.connect("build-finished", on_finished, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
