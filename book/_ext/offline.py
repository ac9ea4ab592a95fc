"""Sphinx extension: pages that need no network and pass an accessibility check.

- MathJax and its fonts are copied out of the installed `sphinx-mathjax-offline`
  package into the built book, so equations show offline and over `file://`.
- Scripts, styles and pictures that a page would fetch from elsewhere are removed.
- What the theme leaves out for people who use a keyboard or a screen reader is added.

`DRAWLIB_BOOK_EXECUTE` (`cache` or `off`) overrides how notebooks are executed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bs4 import BeautifulSoup
from bs4.element import Tag
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

PLACEHOLDER = "OWNER/REPOSITORY"
MATHJAX = ("tex-chtml-full.js", "output/chtml/fonts/woff-v2/")
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src"}
# In the page itself: nothing is asked for, neither this nor a server's /favicon.ico.
ICON = "data:image/svg+xml," + quote(
    (Path(__file__).parents[1] / "_static" / "icon.svg").read_text(encoding="utf-8")
)
LINKS_FETCHED = {"stylesheet", "preload", "preconnect", "dns-prefetch", "icon"}


def on_config(app: Sphinx, config: Config) -> None:
    """Set what depends on the environment or on the repository's address."""
    mode = os.environ.get("DRAWLIB_BOOK_EXECUTE")
    if mode:
        if mode not in ("cache", "off"):
            raise ExtensionError(f"DRAWLIB_BOOK_EXECUTE is {mode!r}, not cache or off")
        config.nb_execution_mode = mode
    config.mathjax_path = "mathjax/tex-chtml-full.js"
    # A launch button that leads nowhere is worse than none.
    if PLACEHOLDER in config.html_theme_options.get("repository_url", PLACEHOLDER):
        config.html_theme_options.pop("repository_url", None)
        config.html_theme_options["launch_buttons"] = {}


def copy_mathjax(target: Path) -> None:
    """Copy the two parts of MathJax that a page needs out of the package."""
    count = 0
    for file in importlib.metadata.files("sphinx-mathjax-offline") or []:
        _, found, inside = file.as_posix().partition("/static/mathjax/")
        if found and inside.startswith(MATHJAX):
            goal = target / inside
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), goal)
            count += 1
    if count < 2:
        raise ExtensionError("the package sphinx-mathjax-offline is not installed")


def is_external(address: str) -> bool:
    """Whether a page would ask another machine for this address."""
    return address.startswith(("http://", "https://", "//"))


def words(tag: Tag, key: str) -> set[str]:
    """The words of an attribute that holds a list of them."""
    value = tag.get(key) or ""
    return set(value.split() if isinstance(value, str) else value)


def drop_external(page: BeautifulSoup) -> None:
    """Remove everything that would be fetched from elsewhere, and thebe's scripts."""
    for tag in page.find_all(list(FETCHED)):
        if tag.name == "link" and not LINKS_FETCHED & words(tag, "rel"):
            continue
        address = str(tag.get(FETCHED[tag.name], ""))
        # sphinx-thebe adds its script twice, which is an error on every page.
        # Preloading a font is refused over file://; the style sheet loads it anyway.
        font = tag.name == "link" and tag.get("as") == "font"
        if is_external(address) or "sphinx-thebe" in address or font:
            tag.decompose()
    for script in page.find_all("script", src=False):
        if "THEBE_JS_URL" in script.get_text():
            script.decompose()


def with_icon(page: BeautifulSoup) -> None:
    """Show the book's icon in the browser's tab."""
    if page.head is not None:
        page.head.append(page.new_tag("link", attrs={"rel": "icon", "href": ICON}))


def make_accessible(page: BeautifulSoup) -> None:
    """Add what the theme and the notebook renderer leave out."""
    # Code, tables and formulas that scroll sideways must be reachable by keyboard.
    boxes = page.find_all("div", class_="highlight")
    blocks = [pre for box in boxes for pre in box.find_all("pre", recursive=False)]
    for number, block in enumerate(blocks, start=1):
        block["tabindex"] = "0"
        block["role"] = "region"
        inside_output = block.find_parent(class_="cell_output") is not None
        block["aria-label"] = f"{'Output' if inside_output else 'Code'} {number}"
    for number, block in enumerate(page.find_all("div", class_="math"), start=1):
        block["tabindex"] = "0"
        block["role"] = "group"
        block["aria-label"] = f"Formula {number}"
    for number, table in enumerate(page.find_all("table"), start=1):
        parent = table.parent
        if parent is None or table.find_parent("table") is not None:
            continue
        if "pst-scrollable-table-container" not in words(parent, "class"):
            parent = table.wrap(
                page.new_tag("div", attrs={"class": "pst-scrollable-table-container"})
            )
        parent["tabindex"] = "0"
        parent["role"] = "region"
        parent["aria-label"] = f"Table {number}"

    # The theme's sidebar stands outside every landmark.
    for sidebar in page.find_all("div", class_="bd-sidebar-primary"):
        sidebar["role"] = "complementary"
        sidebar["aria-label"] = "Contents of the book"
    # Long signatures are written as definition lists without a term.
    for lines in page.find_all("dl"):
        if lines.find("dt") is None and lines.find_parent(class_="sig"):
            lines.name = "div"
            for line in lines.find_all("dd", recursive=False):
                line.name = "div"
                line["class"] = "sig-line"
    # Roles that were withdrawn or that these elements may not have.
    for entry in page.find_all("div", class_=["citation", "citation-list"]):
        del entry["role"]


def on_read(app: Sphinx, env: BuildEnvironment) -> None:
    """Write pages in two processes; sphinx_proof can only read them in one."""
    app.parallel = max(2, app.parallel)


def mend(text: str) -> str:
    """One page, offline and accessible."""
    page = BeautifulSoup(text, "html.parser")
    drop_external(page)
    with_icon(page)
    make_accessible(page)
    return str(page)


def mend_file(path: Path) -> None:
    """The same for a page that was written."""
    path.write_text(mend(path.read_text(encoding="utf-8")), encoding="utf-8")


def on_finished(app: Sphinx, error: Exception | None) -> None:
    """Copy MathJax and mend every page that was written."""
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    copy_mathjax(out / "_static" / "mathjax")
    pages = [
        path
        for path in out.rglob("*.html")
        if not re.match(r"_(static|sources)/", path.relative_to(out).as_posix())
    ]
    # The largest first, so that both end at the same time.
    pages.sort(key=lambda path: path.stat().st_size, reverse=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(mend_file, pages))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", on_config)
    app.connect("env-updated", on_read)
    app.connect("build-finished", on_finished)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
