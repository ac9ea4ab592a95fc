"""The built pages in a browser: from a file, from a server, wide and on a phone.

The network is cut off: every request that leaves the book is counted and refused.
Without a Chromium or without a built book these tests are skipped and say so.
"""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "tools"))

from chromium import ARGUMENTS, find_chromium  # noqa: E402

# Preloading asks for style sheets a second time, which file:// refuses.
RUN_AXE = """() => axe.run(
  document, { preload: false, resultTypes: ["violations"] }
).then(result => result.violations)"""
WIDE, PHONE = (1280, 900), (390, 844)
DARK = (
    "book/notation.html",
    "book/how-to-read.html",
    "book/api.html",
    "notebooks/14-all-results.html",
)
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path != HTML / "index.html"
)
each_page = pytest.mark.parametrize("page", PAGES or ["none built"])
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    executable = find_chromium()
    if not (HTML / "book").exists():
        pytest.skip("the book is not built: make book")
    if executable is None:
        pytest.skip("no Chromium was found; DRAWLIB_CHROMIUM can name one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, headless=True
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe_script() -> str:
    """axe-core as the Python package in requirements.txt carries it."""
    package = pytest.importorskip("axe_playwright_python")
    script = Path(package.__file__).parent / "axe.min.js"
    return script.read_text(encoding="utf-8")


class Visit:
    """One page in one window, with what it asked for and what it complained of."""

    def __init__(self, browser: Any, size: tuple[int, int], own: str) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            reduced_motion="reduce",
            color_scheme="light",
        )
        self.page = self.context.new_page()
        self.left: list[str] = []
        self.errors: list[str] = []
        self.own = own
        self.page.route("**/*", self._route)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda r: self.errors.append(f"failed {r.url}"))
        self.page.on("console", self._console)

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self.own, "data:", "blob:")):
            route.continue_()
        else:
            self.left.append(route.request.url)
            route.abort()

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def open(self, address: str) -> Any:
        self.page.goto(address, wait_until="load")
        if self.page.locator(".math").count():
            self.page.wait_for_function(
                "window.MathJax?.startup?.promise !== undefined"
            )
            self.page.evaluate("() => MathJax.startup.promise.then(() => true)")
        return self.page


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    visits: list[Visit] = []

    def start(size: tuple[int, int], own: str) -> Visit:
        visits.append(Visit(browser, size, own))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()


def address_of(page: str) -> str:
    return (HTML / page).resolve().as_uri()


@each_page
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_page_from_a_file_is_whole_and_accessible(visit, axe_script, page, size):
    seen = visit(size, HTML.resolve().as_uri())
    opened = seen.open(address_of(page))
    assert seen.left == []
    assert seen.errors == []

    # Equations: every one rendered, none in error.
    assert opened.locator("mjx-merror").count() == 0
    sources = opened.locator(".math").count()
    assert opened.locator("mjx-container").count() >= sources

    # No sideways scroll; name what sticks out, to be mended.
    wide = opened.evaluate(
        """() => {
          const room = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= room) return [];
          const framed = e => e && e !== document.body &&
            (getComputedStyle(e).overflowX !== "visible" || framed(e.parentElement));
          return [...document.querySelectorAll("main *")]
            .filter(e => e.getBoundingClientRect().right > room + 1 && !framed(e))
            .slice(0, 5).map(e => e.outerHTML.slice(0, 120));
        }"""
    )
    assert wide == []
    assert opened.evaluate(
        "() => document.documentElement.scrollWidth"
    ) <= opened.evaluate("() => document.documentElement.clientWidth")

    opened.evaluate(axe_script)
    found = opened.evaluate(RUN_AXE)
    told = [
        f"{v['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for v in found
        for node in v["nodes"][:3]
    ]
    assert told == []


def test_page_in_dark_colours_has_enough_contrast(visit, axe_script):
    if not PAGES:
        pytest.skip("the book is not built: make book")
    for page in DARK:
        seen = visit(WIDE, HTML.resolve().as_uri())
        seen.page.add_init_script(
            "localStorage.setItem('mode', 'dark'); localStorage.setItem('theme','dark')"
        )
        opened = seen.open(address_of(page))
        assert opened.get_attribute("html", "data-theme") == "dark"
        opened.evaluate(axe_script)
        found = opened.evaluate(RUN_AXE)
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_book_from_a_server_asks_no_other_machine(visit):
    if not PAGES:
        pytest.skip("the book is not built: make book")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        own = f"http://127.0.0.1:{server.server_port}/"
        for page in ["index.html", *PAGES]:
            seen = visit(WIDE, own)
            seen.open(own + page)
            assert (page, seen.left, seen.errors) == (page, [], [])
            seen.context.close()
    finally:
        server.shutdown()
        server.server_close()


def test_pages_can_be_walked_with_the_keyboard(visit):
    if not PAGES:
        pytest.skip("the book is not built: make book")
    seen = visit(WIDE, HTML.resolve().as_uri())
    opened = seen.open(address_of("book/intro.html"))
    reached = []
    for _ in range(40):
        opened.keyboard.press("Tab")
        reached.append(
            opened.evaluate("() => document.activeElement.textContent.trim()")
        )
    assert any("Skip to main content" in text for text in reached[:2])
    assert any("How to read this book" in text for text in reached)
    # Focus can be seen: the focused element has an outline.
    width = opened.evaluate(
        "() => getComputedStyle(document.activeElement).outlineStyle"
    )
    assert width != "none"


def test_search_works_offline_from_a_file(visit):
    if not PAGES:
        pytest.skip("the book is not built: make book")
    seen = visit(WIDE, HTML.resolve().as_uri())
    opened = seen.open(address_of("search.html") + "?q=stride")
    opened.wait_for_selector("#search-results li a", timeout=15_000)
    assert seen.left == []
