"""The built pages in a browser: from a file, from a server, on screens and on paper.

The network is cut off: every request that leaves the book is counted and refused.
Each page is opened once, and then looked at in one size after another. Without a
Chromium or without a built book these tests are skipped and say so.
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

from chromium import (  # noqa: E402, F401 (also for others)
    ARGUMENTS,
    PATIENCE,
    find_chromium,
)

# Preloading asks for style sheets a second time, which file:// refuses.
# The theme fades its colours, and finds out after a resize which boxes scroll.
SETTLED = """async () => {
  const pause = ms => new Promise(done => setTimeout(done, ms));
  for (let k = 0; k < 2; k++) await new Promise(done => requestAnimationFrame(done));
  const fading = document.getAnimations().map(each => each.finished);
  await Promise.race([Promise.allSettled(fading), pause(3000)]);
  const late = () => [...document.querySelectorAll("[tabindex='-1']")]
    .some(box => box.scrollWidth > box.clientWidth && box.matches("pre, div, table"));
  for (let i = 0; i < 60 && late(); i++) await pause(50);
}"""
RUN_AXE = """() => axe.run(
  document, { preload: false, resultTypes: ["violations"] }
).then(({ violations }) => ({ passed: [], violations }))"""
# What depends on colours is nine tenths of axe's time, so it is judged apart.
STRUCTURE = """() => axe.run(document, {
  preload: false, resultTypes: ["violations"],
  rules: {
    "color-contrast": { enabled: false }, "link-in-text-block": { enabled: false },
  },
}).then(({ violations }) => ({ passed: [], violations }))"""
# One element of each look that no page passed before: its ink, its ground, the size
# and weight of its letters; of a link in a text also what tells it from what is around.
COLOURS = """judged => {
  const grounds = new Map();  // what an element stands on, found once
  const ground = e => {
    if (!e) return "none";
    if (!grounds.has(e)) {
      const { backgroundColor, backgroundImage } = getComputedStyle(e);
      grounds.set(e, backgroundImage !== "none" ? backgroundImage
        : /^rgba\\(.*, 0\\)$/.test(backgroundColor) ? ground(e.parentElement)
        : backgroundColor);
    }
    return grounds.get(e);
  };
  const letters = e => {
    const { color, fontSize, fontWeight, opacity } = getComputedStyle(e);
    return [color, fontSize, fontWeight, opacity, ground(e)];
  };
  const hand = e => [getComputedStyle(e).fontFamily, getComputedStyle(e).fontStyle];
  const block = e => getComputedStyle(e).display.startsWith("inline")
    ? block(e.parentElement) : e;
  const looks = new Map(), known = new Set(judged);
  const see = (e, ...parts) => {
    const look = parts.join();
    if (!known.has(look) && !looks.has(look)) looks.set(look, e);
  };
  const isWord = text => /[\\p{L}\\p{N}]/u.test(text);
  const isSeen = e => {
    const { left, right, bottom } = e.getBoundingClientRect();
    return right > 0 && bottom > 0 && left < innerWidth
      && e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = words.nextNode());) {
    const e = text.parentElement;
    if (isWord(text.data) && isSeen(e) && !e.closest("mjx-assistive-mml"))
      see(e, "color-contrast", ...letters(e));
  }
  for (const a of document.links) {
    const around = block(a.parentElement), own = a.textContent.trim();
    const rest = [...around.querySelectorAll("a")]
      .reduce((text, link) => text.replace(link.textContent, ""), around.textContent);
    // As axe-core has it, a link stands in a text that is longer than itself.
    if (!own || rest.trim().length <= own.length || !isSeen(a)) continue;
    const { textDecorationLine, borderBottom } = getComputedStyle(a);
    see(a, "link-in-text-block", textDecorationLine, borderBottom,
      ...[a, around].flatMap(e => [...letters(e), ...hand(e)]));
  }
  if (!looks.size) return { passed: [], violations: [] };
  return axe.run([...looks.values()], {
    preload: false, elementRef: true, resultTypes: ["violations", "passes"],
    runOnly: ["color-contrast", "link-in-text-block"],
  }).then(({ violations, passes }) => {
    const well = ([look, e]) => passes.some(({ id, nodes }) =>
      look.startsWith(id) && nodes.some(node => node.element === e));
    return { passed: [...looks].filter(well).map(([look]) => look), violations };
  });
}"""
WIDE, PHONE, SMALL = (1280, 900), (390, 844), (360, 740)
# A4 and A5 without a browser's margins of a centimetre, in CSS pixels.
SHEET, SMALL_SHEET = (717, 1000), (484, 718)
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path != HTML / "index.html"
)
each_page = pytest.mark.parametrize("page", PAGES or ["none built"])
pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(1200),
]


@functools.cache
def axe_script() -> str:
    """axe-core as the Python package in requirements.txt carries it."""
    package = pytest.importorskip("axe_playwright_python")
    script = Path(package.__file__).parent / "axe.min.js"
    return script.read_text(encoding="utf-8")


class Visit:
    """One page after another in a window: what they asked for, what they complained of.

    Only a listener: with a route in its way no script would come from the cache.
    """

    def __init__(self, browser: Any, own: str) -> None:
        # Whatever is not of this machine goes to a proxy that is not there.
        self.context = browser.new_context(
            reduced_motion="reduce",
            color_scheme="light",
            proxy={"server": "http://127.0.0.1:1", "bypass": "127.0.0.1"},
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.own = own
        self.left: list[str] = []
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda r: self.errors.append(f"failed {r.url}"))
        self.page.on("console", self._console)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.own, "data:", "blob:")):
            self.left.append(request.url)
        if request.resource_type in ("fetch", "xhr"):
            self.asked.append(request.url)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def open(self, address: str, size: tuple[int, int] = WIDE) -> Any:
        """The page, with its equations set and nothing noted yet."""
        for noted in (self.left, self.asked, self.errors):
            noted.clear()
        self.resize(size)
        self.page.emulate_media(media="screen")
        self.page.goto(address, wait_until="load")
        self.page.evaluate(
            """() => document.querySelector(".math")
              ? MathJax.startup.promise.then(() => true) : true"""
        )
        return self.page

    def resize(self, size: tuple[int, int]) -> None:
        self.page.set_viewport_size({"width": size[0], "height": size[1]})


@pytest.fixture(scope="module")
def from_file(browser: Any) -> Iterator[Visit]:
    """A window on the book's files."""
    if not PAGES:
        pytest.skip("the book is not built: make book")
    one = Visit(browser, HTML.resolve().as_uri())
    yield one
    one.context.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def from_server(browser: Any) -> Iterator[Visit]:
    """A window on the book as a server of this machine hands it out."""
    if not PAGES:
        pytest.skip("the book is not built: make book")
    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = Visit(browser, f"http://127.0.0.1:{server.server_port}/")
    yield one
    one.context.close()
    server.shutdown()
    server.server_close()


def address_of(page: str) -> str:
    return (HTML / page).resolve().as_uri()


# No sideways scroll; what sticks out is named, to be mended.
STICKS_OUT = """slack => {
  const { clientWidth: room, scrollWidth: taken } = document.documentElement;
  if (taken <= room + slack) return [];
  const framed = e => e && e !== document.body &&
    (getComputedStyle(e).overflowX !== "visible" || framed(e.parentElement));
  const out = [...document.querySelectorAll("main *")]
    .filter(e => e.getBoundingClientRect().right > room + 1 && !framed(e))
    .slice(0, 5).map(e => e.outerHTML.slice(0, 120));
  return [`${taken} pixels of ${room}`, ...out];
}"""

# Formulas, outputs, pictures and words against their frames, folded parts opened. On a
# screen the nearest frame that cuts must scroll; the page's own column may not even do
# that. On paper nothing scrolls, so nothing may be wider than its frame.
CUT = """async paper => {
  for (const box of document.querySelectorAll("details")) box.open = true;
  const turn = () => new Promise(done => requestAnimationFrame(done));
  for (let k = 0; k < 3; k++) await turn();
  const room = document.documentElement.clientWidth, found = [];
  const frames = new Map();  // the nearest element around that cuts
  const frameOf = e => {
    if (!e || e === document.body) return null;
    if (!frames.has(e)) {
      const { overflowX } = getComputedStyle(e);
      frames.set(e, overflowX === "visible" ? frameOf(e.parentElement)
        : { right: e.getBoundingClientRect().right, element: e,
            scrolls: /auto|scroll/.test(overflowX)
              && !e.matches(".bd-article-container, .bd-main, main") });
    }
    return frames.get(e);
  };
  const told = (why, e) => found.push(
    `${why}: ${(e.closest(".math") ?? e).outerHTML.slice(0, 160)}`);
  const inner = [...document.querySelectorAll("[data-drawlib]")].flatMap(host =>
    [...host.shadowRoot.querySelectorAll("canvas, td, th, label, output, select, p")]);
  const kinds = "mjx-math, mjx-mtable, pre, pre span, table, th, td, img, canvas, svg,"
    + " p, li, dt, dd, code, h1, h2, h3, summary, [data-drawlib]";
  const outer = document.querySelectorAll(`.bd-article :is(${kinds})`);
  for (const e of [...outer, ...inner]) {
    const box = e.getBoundingClientRect();
    // On paper blanks hang at the end of a line of code: its words are looked at below.
    if (!box.width || (paper && e.matches("pre span"))) continue;
    const frame = frameOf(e.parentElement);
    if (frame && box.right > frame.right + 1) {
      if (paper || !frame.scrolls) told(`cut by ${frame.element.className}`, e);
    } else if (!frame && box.right > room + 1) told("beyond the page", e);
  }
  // A word can be longer than the box that it stands in.
  const words = document.createTreeWalker(  // the search page has no article
    document.querySelector(".bd-article") ?? document.querySelector("main"),
    NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let text; (text = words.nextNode());) {
    const e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility()
        || e.closest("mjx-container, script, style, svg")) continue;
    const frame = frameOf(e), end = frame ? frame.right : room;
    if (frame && frame.scrolls && !paper) continue;
    const beyond = () =>
      [...range.getClientRects()].some(box => box.width && box.right > end + 2);
    range.selectNodeContents(text);
    if (!beyond()) continue;
    // Blanks may hang at a line's end.
    for (const word of text.data.matchAll(/\\S+/g)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (beyond()) told(`the word's end is cut: ${word[0].slice(0, 40)}`, e);
    }
  }
  return found.slice(0, 8);
}"""


JUDGED: set[str] = set()  # the looks that axe-core has passed, on whatever page


def violations(opened: Any, *judges: str) -> list[str]:
    """What these runs of axe-core have against the page as it is shown now."""
    if not opened.evaluate("() => !!window.axe"):
        opened.evaluate(axe_script())
    for _ in range(4):  # what a page still fades is judged again
        opened.evaluate(SETTLED)
        told = [opened.evaluate(judge, sorted(JUDGED)) for judge in judges]
        JUDGED.update(look for one in told for look in one["passed"])
        found = [
            f"{v['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for one in told
            for v in one["violations"]
            for node in v["nodes"][:3]
        ]
        if not found:
            break
        opened.wait_for_timeout(500)
    return found


def written_to(folder: Path, page: Any) -> Path:
    """A notebook's output as a file of its own."""
    path = folder / "output.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>a</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
        f"<body><main><h1>a</h1>{page._repr_html_()}</main></body></html>",
        encoding="utf-8",
    )
    return path


def axe(opened: Any) -> list[str]:
    """What the whole of axe-core has against the page, live parts included."""
    return violations(opened, RUN_AXE)


def cut(opened: Any, paper: bool) -> list[str]:
    """What a frame cuts off once the page has laid itself out anew."""
    found = opened.evaluate(CUT, paper)
    for _ in range(30):
        if not found:
            break
        opened.wait_for_timeout(100)
        found = opened.evaluate(CUT, paper)
    return found


@each_page
def test_page_from_a_file_is_whole_on_every_screen_and_on_paper(from_file, page):
    opened = from_file.open(address_of(page))
    assert from_file.left == []
    assert from_file.errors == []

    # Equations: every one rendered, none in error.
    assert opened.locator("mjx-merror").count() == 0
    sources = opened.locator(".math").count()
    assert opened.locator("mjx-container").count() >= sources

    assert opened.evaluate(STICKS_OUT, 0) == []
    assert violations(opened, STRUCTURE, COLOURS) == []
    from_file.resize(PHONE)
    assert opened.evaluate(STICKS_OUT, 0) == []
    assert violations(opened, STRUCTURE, COLOURS) == []
    from_file.resize(SMALL)
    assert cut(opened, False) == []

    opened.emulate_media(media="print")
    for sheet in (SHEET, SMALL_SHEET):
        from_file.resize(sheet)
        assert cut(opened, True) == []
        # A letter of a formula may lean a pixel or two into the paper's margin.
        assert opened.evaluate(STICKS_OUT, 2) == []

    # What has every element styled anew comes last, and is not undone.
    opened.emulate_media(media="screen")
    opened.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    assert violations(opened, COLOURS) == []
    # A reader's settings ask for text of twice the size.
    opened.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")
    from_file.resize(SMALL)
    assert cut(opened, False) == []
    assert opened.evaluate(STICKS_OUT, 0) == []
    assert from_file.errors == []


def test_where_less_motion_is_asked_for_nothing_has_a_transition(from_file):
    """One of a hundredth of a millisecond has every element's style computed anew."""
    opened = from_file.open(address_of("book/intro.html"))
    assert opened.evaluate(
        """() => [...document.querySelectorAll("*")].every(e =>
          /^0s(, 0s)*$/.test(getComputedStyle(e).transitionDuration))"""
    )


def test_pale_words_are_found_wherever_they_stand(from_file):
    opened = from_file.open(address_of("book/intro.html"))
    opened.evaluate(
        """() => document.querySelector(".bd-article").insertAdjacentHTML(
          "beforeend", "<div><p>dark <em style='color: #ccc'>pale</em></p></div>")"""
    )
    (pale,) = violations(opened, COLOURS)
    assert "color-contrast" in pale and "#ccc" in pale


def test_links_that_look_like_the_words_around_them_are_found(from_file):
    """Though all other looks were judged before, on this page or on another."""
    opened = from_file.open(address_of("book/intro.html"))
    assert violations(opened, COLOURS) == []
    plain = "color: #223; text-decoration: none; border: 0"
    opened.evaluate(
        """plain => document.querySelector(".bd-article").insertAdjacentHTML(
          "beforeend", `<p>Words around <a href="#a" style="${plain}">one</a>, too.</p>`
        )""",
        plain,
    )
    (lost,) = violations(opened, COLOURS)
    assert "link-in-text-block" in lost and ">one</a>" in lost


LOOK = """() => ({
  theme: document.documentElement.dataset.theme,
  ground: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector(".bd-article p")).color,
  answers: [".tag_exercise-solution details", ".exercise details", ".solution details",
    "#questions details"].map(kind => [...document.querySelectorAll(kind)]
    .map(box => box.open)),
  frame: [...document.querySelectorAll(".bd-header, .bd-sidebar-primary")]
    .map(box => getComputedStyle(box).display),
  plumbing: getComputedStyle(
    document.querySelector("details.hide > summary"), "::after").content,
})"""


@pytest.mark.parametrize("event", ["media", "print dialogue"])
def test_paper_is_light_with_its_answers_open_and_the_screen_comes_back(
    from_file, event
):
    opened = from_file.open(address_of("notebooks/02-the-elbo.html"))
    opened.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    opened.evaluate(SETTLED)
    before = opened.evaluate(LOOK)
    assert before["theme"] == "dark"
    assert all(before["answers"]) and not any(map(any, before["answers"]))

    opened.emulate_media(media="print")
    if event != "media":
        # A browser that tells of its dialogue alone.
        opened.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    opened.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    opened.evaluate(SETTLED)
    paper = opened.evaluate(LOOK)
    assert all(map(all, paper["answers"]))
    assert paper["ground"] == "rgb(255, 255, 255)"
    assert max(int(v) for v in paper["ink"][4:-1].split(",")[:3]) < 90
    assert set(paper["frame"]) == {"none"}
    assert "folded" in paper["plumbing"]

    opened.emulate_media(media="screen")
    if event != "media":
        opened.evaluate("() => dispatchEvent(new Event('afterprint'))")
    opened.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    opened.evaluate(SETTLED)
    assert opened.evaluate(LOOK) == before


# Before any script of the page runs: one formula asks for all that the others do.
ONE_FORMULA = """document.addEventListener("readystatechange", () => {
  for (const formula of [...document.querySelectorAll(".math")].slice(1))
    formula.remove();
}, { once: true })"""


def test_book_from_a_server_asks_no_other_machine(browser, from_server):
    """Every page, with its first formula: from a file all of them are set."""
    visit = Visit(browser, from_server.own)
    visit.context.add_init_script(ONE_FORMULA)
    # The front page sends its visitor on to the introduction.
    visit.page.goto(visit.own + "index.html", wait_until="commit")
    visit.page.wait_for_url(visit.own + "book/intro.html")
    assert visit.left == visit.errors == []
    for page in PAGES:
        visit.open(visit.own + page)
        assert (page, visit.left, visit.errors) == (page, [], [])
    visit.context.close()


def test_a_tables_words_are_whole_on_paper(from_file):
    """A column as narrow as a letter had its head in five lines."""
    opened = from_file.open(address_of("book/paper-vs-code.html"), SHEET)
    opened.emulate_media(media="print")
    broken = opened.evaluate(
        r"""() => [...document.querySelectorAll("th p, td p, th:not(:has(p))")]
          .flatMap(cell => [...cell.childNodes].filter(node => node.nodeType === 3))
          .flatMap(text => [...text.data.matchAll(/[\p{L}]+/gu)].filter(word => {
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            return new Set([...range.getClientRects()].map(box => box.top)).size > 1;
          }).map(word => word[0]))"""
    )
    assert broken == []


def test_pages_can_be_walked_with_the_keyboard(from_file):
    opened = from_file.open(address_of("book/intro.html"))
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


def test_a_wide_formula_in_a_line_can_be_reached_and_scrolled(from_file):
    opened = from_file.open(address_of("notebooks/02-the-elbo.html"), SMALL)
    wide = opened.locator("span.wide-formula")
    wide.first.wait_for()
    assert wide.first.get_attribute("tabindex") == "0"
    assert wide.first.evaluate("span => span.scrollWidth > span.clientWidth")
    # On a wide screen it is a part of its line again.
    from_file.resize(WIDE)
    wide.first.wait_for(state="detached")
    assert opened.locator("span.math[tabindex]").count() == 0


def test_search_from_a_file_shows_results_and_asks_for_nothing(from_file):
    opened = from_file.open(address_of("search.html") + "?q=stride")
    opened.wait_for_selector("#search-results li a")
    opened.wait_for_function(
        "() => /found/.test(document.querySelector('.search-summary')?.textContent)"
    )
    assert (from_file.left, from_file.asked, from_file.errors) == ([], [], [])


def test_search_from_a_server_shows_the_words_around_what_was_found(from_server):
    opened = from_server.open(from_server.own + "search.html?q=stride")
    opened.wait_for_selector("#search-results li p.context")
    assert from_server.asked and from_server.left == from_server.errors == []


def test_questions_are_answered_with_the_keyboard_and_are_whole_on_paper(from_file):
    opened = from_file.open(address_of("notebooks/07-draw-without-attention.html"))
    options = opened.locator("details.answer:not([data-answer])")
    states = "boxes => boxes.map(box => box.open)"
    kept = "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])"
    before = opened.evaluate(kept)
    assert not any(options.evaluate_all(states))
    options.first.locator("summary").focus()
    opened.keyboard.press("Enter")
    assert options.first.evaluate("box => box.open")
    verdicts = options.locator("p strong:first-child").all_text_contents()
    assert {text for text in verdicts if text.endswith(".")} == {"Right.", "No."}

    number = opened.locator(".check-number").nth(1)  # the second number: −12
    field, told = number.get_by_label("Your number"), number.locator("output")
    for text, answer in (("12", "Not yet"), ("−12", "Right."), ("x", "A number")):
        field.fill(text)
        field.press("Enter")
        assert answer in told.inner_text()
    assert opened.evaluate(kept) == before
    assert (from_file.left, from_file.asked, from_file.errors) == ([], [], [])

    opened.emulate_media(media="print")
    opened.wait_for_function("() => document.querySelector('details.answer').open")
    assert all(opened.locator("details.answer").evaluate_all(states))
    assert not number.is_visible()
    opened.emulate_media(media="screen")
    opened.wait_for_function(
        "() => !document.querySelectorAll('details.answer')[1].open"
    )
