"""Sphinx extension: the live page "Draw a digit" and the picture that leads to it.

    ```{draw-a-digit}
    ```
    ```{draw-a-digit-picture} book/live-draw
    ```

Both are made when the book is built: the shipped models are exported into
`_static/live`, the digits come from the data loader, and the picture from the first of
the models. `DRAWLIB_LIVE_IMAGES` sets on how many test digits is measured (1,000): half
a minute of a core, in a process beside the one that reads and writes the pages.
"""

from __future__ import annotations

import html
import os
import posixpath
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

FOLDER = "_static/live"
TROUBLE = (RuntimeError, ValueError, OSError)
ALT = "what the picture of a digit shows"  # until the picture is made


class DrawADigit(Directive):
    """The page's element and its scripts."""

    def run(self) -> list[nodes.Node]:
        """A raw node; its addresses are relative to the document."""
        from drawlib.pages.draw_a_digit import page_html

        env = self.state.document.settings.env
        env.metadata[env.docname][FOLDER] = "wanted"
        prefix = below(env.docname, FOLDER) + "/"
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


class Files:
    """What the pages ask for: made only where one asks, while the others are read."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1)
        self.models: Future[Any] | None = None

    def begin(self, app: Sphinx, *_: Any) -> None:
        """One page was read, or all: now it may be known that one asks."""
        asked = any(FOLDER in about for about in app.env.metadata.values())
        if app.builder.format == "html" and asked and self.models is None:
            from drawlib.pages import draw_a_digit

            images = int(os.environ.get("DRAWLIB_LIVE_IMAGES", "1000"))
            folder = Path(app.outdir) / FOLDER
            self.models = self.pool.submit(
                draw_a_digit.write_assets, folder, images=images
            )

    def draw_picture(self, app: Sphinx, error: Exception | None) -> None:
        """The picture, and its alternative text in the pages that show it."""
        if error is not None or app.builder.format != "html":
            return
        from drawlib.pages import draw_a_digit

        out = Path(app.outdir)
        texts = {
            path: path.read_text(encoding="utf-8")
            for path in out.rglob("*.html")
            if "_static" not in path.relative_to(out).parts
        }
        seen = [path for path, text in texts.items() if f"{FOLDER}/picture.png" in text]
        if seen:
            try:
                alt = html.escape(draw_a_digit.picture(out / FOLDER / "picture.png"))
            except TROUBLE as trouble:
                raise not_made(trouble) from trouble
        for path in seen:
            path.write_text(texts[path].replace(ALT, alt), encoding="utf-8")

    def finish(self, app: Sphinx, error: Exception | None) -> None:
        """Wait for the models."""
        try:
            if self.models is not None and error is None:
                self.models.result()
        except TROUBLE as trouble:
            raise not_made(trouble) from trouble
        finally:
            self.pool.shutdown()


def not_made(trouble: Exception) -> ExtensionError:
    """The build's error where a file cannot be made."""
    return ExtensionError(f"the live page cannot be made: {trouble}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("draw-a-digit", DrawADigit)
    app.add_directive("draw-a-digit-picture", DrawADigitPicture)
    files = Files()
    app.connect("doctree-read", files.begin)
    app.connect("env-updated", files.begin)  # where no page had to be read anew
    # Before the pages are mended, which reads what is written here, and after it.
    app.connect("build-finished", files.draw_picture, priority=400)
    app.connect("build-finished", files.finish, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
