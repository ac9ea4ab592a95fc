"""The lectures' slides: what they are made of, and one lecture in a browser."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from test_pages import HTML, RUN_AXE, SETTLED, STICKS_OUT, Visit, violations

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import make_slides  # noqa: E402

SECTION = """<section><h2>The gap</h2>
<p>First prose, see <a href="b.html">there</a>.</p>
<div class="math" id="equation-a">(2.1) one</div><div class="math">two</div>
<p>Second prose.</p><div class="math">three</div>
<p><strong>Predict.</strong> How <em>large</em>?</p>
<div class="cell"><div class="cell_input">secret = 1</div>
<div class="cell_output"><img alt="A curve." src="../_images/a.png"/></div></div>
<p><strong>Explain.</strong> This large.</p>
<section><h3>Below</h3><p>More.</p><table><tr><td>1</td></tr></table></section>
<div class="admonition">An exercise.</div></section>"""
TITLE = '<span class="section-number">2.</span>A<a class="headerlink">#</a>'


def tag(html: str) -> Any:
    return BeautifulSoup(html, "html.parser").find()


def test_eight_lectures_name_sections_that_their_chapters_have():
    given = make_slides.lectures()
    assert len(given) == 8 and all(lecture.minutes == 90 for lecture in given)
    for lecture in given:
        assert lecture.sections
        for chapter, heading in lecture.sections:
            (path,) = (ROOT / "notebooks").glob(f"{chapter}-*.ipynb")
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells)
            assert re.search(rf"(?m)^##+ {re.escape(heading)}$", text), heading


def test_what_is_asked_comes_before_the_figure_and_prose_becomes_notes():
    slides = make_slides.slides_of(tag(SECTION))
    shown = [BeautifulSoup("\n".join(s.shown), "html.parser") for s in slides]
    assert [" ".join(page.get_text().split()) for page in shown] == [
        "(2.1) one two",
        "three",
        "Predict. How large?",
        "",
        "1",
    ]
    assert shown[3].find("img")["alt"] == "A curve."
    assert [len(slide.notes) for slide in slides] == [2, 0, 0, 1, 1]
    assert "Explain" in slides[3].notes[0]
    assert [slide.heading for slide in slides] == ["The gap"] * 4 + ["Below"]
    assert all(slide.level == 3 for slide in slides)
    everything = "".join(part for s in slides for part in (*s.shown, *s.notes))
    assert "secret" not in everything and "exercise" not in everything


@pytest.mark.parametrize(
    ("before", "shown"),
    [("Afterwards you can", True), ("Two models:", True), ("Both are made.", False)],
)
def test_the_words_that_a_list_completes_stand_above_it(before, shown):
    html = f"<section><h2>A</h2><p>{before}</p><ul><li>count</li></ul></section>"
    (slide,) = make_slides.slides_of(tag(html))
    assert slide.shown[-1] == "<ul><li>count</li></ul>"
    assert (f"<p>{before}</p>" in slide.shown, len(slide.notes)) == (shown, 1 - shown)


def test_a_section_that_a_chapter_does_not_have_is_named(tmp_path):
    page = tmp_path / "02-a.html"
    page.write_text(f"<article><section><h1>{TITLE}</h1>{SECTION}</section></article>")
    chapter = make_slides.Page(page)
    assert chapter.title == "A"
    # A link to another page would lead nowhere from the slides.
    assert not chapter.soup.find("a") and "see there" in chapter.soup.get_text()
    with pytest.raises(ValueError, match=r"02-a.html has no section 'Gone'"):
        chapter.section("Gone")


def test_no_name_occurs_twice_on_a_lecture_but_that_of_a_live_part():
    kept = '<div data-drawlib="pad" id="live"></div><p id="x">a</p><pre>b</pre>'
    text = make_slides.without_ids(kept)
    assert 'id="live"' in text and 'id="x"' not in text
    assert BeautifulSoup(text, "html.parser").pre["tabindex"] == "0"


@pytest.fixture(scope="module")
def lecture(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Visit, str]]:
    """A small lecture of the built book, in a folder of its own."""
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    folder = tmp_path_factory.mktemp("slides")
    parts = (("02", "The posterior says where to look"), ("02", "The best Gaussian"))
    make_slides.make([make_slides.Lecture(1, "One lecture", 90, parts)], folder)
    visit = Visit(browser, folder.resolve().as_uri())
    yield visit, (folder / "lecture-1.html").resolve().as_uri()
    visit.context.close()


# Words of a table, and the line in the corner, that are broken over two lines.
BROKEN = r"""() => [...document.querySelectorAll("th, td, #place")].flatMap(cell => {
  const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode())
    for (const word of walk.currentNode.data.matchAll(
        cell.id ? /.+/g : /[\p{L}]+/gu)) {
      const range = document.createRange();
      range.setStart(walk.currentNode, word.index);
      range.setEnd(walk.currentNode, word.index + word[0].length);
      const tops = [...range.getClientRects()].map(box => Math.round(box.top));
      if (new Set(tops).size > 1) found.push(word[0]);
    }
  return found;
})"""


@pytest.mark.browser
def test_a_phone_breaks_no_word_of_a_table_and_not_the_place(browser, tmp_path):
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    parts = (("02", "When the integral cannot be computed: sampling"),)
    make_slides.make([make_slides.Lecture(1, "One lecture", 90, parts)], tmp_path)
    address = (tmp_path / "lecture-1.html").resolve().as_uri()
    visit = Visit(browser, tmp_path.resolve().as_uri())
    opened = visit.open(address, (390, 844))
    row = f"<th>dynamic</th><td>threshold</td><td>{'as they were drawn ' * 9}</td>"
    table = f"<table><tr>{row}</tr></table>"
    opened.evaluate(
        """html => document.querySelector(".slide")
          .insertAdjacentHTML("beforeend", html)""",
        f'<div class="pst-scrollable-table-container">{table}</div>',
    )
    assert opened.evaluate(BROKEN) == []
    place = "() => document.querySelector('nav').getBoundingClientRect().left"
    assert opened.evaluate(place) >= 0
    visit.context.close()


@pytest.fixture(scope="module")
def all_lectures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make slides` writes."""
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    folder = tmp_path_factory.mktemp("lectures")
    make_slides.make(make_slides.lectures(), folder)
    return folder


# Slides whose content ends behind the bar or below the screen, once one is there.
CUT_OFF = """() => {
  const bar = document.querySelector("nav").getBoundingClientRect().top;
  return [...document.querySelectorAll(".slide")].flatMap(slide => {
    const { bottom } = slide.querySelector(".shown").getBoundingClientRect();
    const end = bottom - slide.getBoundingClientRect().top;
    return end > bar + 1 ? [`${slide.id} ends at ${end}, the screen at ${bar}`] : [];
  });
}"""
SHARES = """() => [...document.querySelectorAll(".shown")]
  .map(shown => Number(getComputedStyle(shown).zoom))"""


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("number", range(1, 9))
def test_every_slide_fits_a_small_screen(browser, all_lectures, number):
    visit = Visit(browser, all_lectures.resolve().as_uri())
    address = (all_lectures / f"lecture-{number}.html").resolve().as_uri()
    opened = visit.open(address, (1280, 720))
    for size in ((1280, 720), (1024, 768)):
        visit.resize(size)
        opened.evaluate(SETTLED)
        assert opened.evaluate(CUT_OFF) == []
        shares = opened.evaluate(SHARES)
        # Most are as large as they were made, and none is too small to read.
        assert sum(share == 1 for share in shares) > len(shares) / 2
        assert min(shares) > 0.55
    # Who has enlarged the page twofold wants large letters, and so does a phone.
    for size in ((640, 360), (390, 844)):
        visit.resize(size)
        opened.evaluate(SETTLED)
        assert set(opened.evaluate(SHARES)) == {1}
    assert (visit.left, visit.asked, visit.errors) == ([], [], [])
    visit.context.close()


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_a_slide_keeps_its_size_when_an_answer_is_opened_and_on_paper(lecture):
    visit, address = lecture
    opened = visit.open(address, (1280, 720))
    answer = f"<details><summary>A</summary><p>{'word ' * 900}</p></details>"
    opened.evaluate(
        """html => document.querySelector("#slide-2 .shown")
          .insertAdjacentHTML("beforeend", html)""",
        f"<div style='height: 900px'></div>{answer}",
    )
    share = "() => getComputedStyle(document.querySelector('#slide-2 .shown')).zoom"
    opened.evaluate(SETTLED)
    assert 0.3 < (before := float(opened.evaluate(share))) < 0.7
    opened.evaluate("() => { document.querySelector('#slide-2 details').open = true }")
    opened.evaluate(SETTLED)
    assert float(opened.evaluate(share)) == before
    opened.emulate_media(media="print")
    assert float(opened.evaluate(share)) == 1


# An observer that tells what it saw only when it is asked to: a busy machine.
LATE = """(() => {
  const Right = IntersectionObserver, told = window.told = [];
  window.IntersectionObserver = class extends Right {
    constructor(tell, how) { super((...seen) => told.push(() => tell(...seen)), how); }
  };
})()"""


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_what_the_observer_tells_late_does_not_undo_a_key(lecture, browser):
    address, visit = lecture[1], Visit(browser, lecture[0].own)
    visit.context.add_init_script(LATE)
    opened = visit.open(address)
    opened.keyboard.press("ArrowRight")
    opened.wait_for_function("() => told.length > 0")
    opened.keyboard.press(" ")
    opened.evaluate("() => told.splice(0).forEach(tell => tell())")
    assert opened.locator("#place").inner_text().startswith("3 of ")
    visit.context.close()


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_a_lecture_runs_offline_by_keyboard_and_axe_has_nothing_against_it(lecture):
    visit, address = lecture
    opened = visit.open(address)
    count = opened.locator(".slide").count()
    assert count > 12
    assert opened.locator("mjx-merror").count() == 0
    assert opened.locator("mjx-container").count() > 10
    assert opened.locator("img").first.evaluate("image => image.naturalWidth > 100")

    place = opened.locator("#place")
    for key, number in [("ArrowRight", 2), (" ", 3), ("PageUp", 2), ("End", count)]:
        opened.keyboard.press(key)
        assert place.inner_text() == f"{number} of {count}"
        assert opened.evaluate("() => document.activeElement.id") == f"title-{number}"
    opened.keyboard.press("Home")
    opened.keyboard.press("ArrowRight")
    notes = opened.locator("#slide-2 .notes")
    opened.keyboard.press("n")
    assert notes.evaluate("box => box.open")
    # What has keys of its own keeps them: space folds the notes, and does not go on.
    notes.locator("summary").focus()
    opened.keyboard.press(" ")
    assert not notes.evaluate("box => box.open")
    assert place.inner_text() == f"2 of {count}"

    headings = opened.locator(":is(h1, h2, h3)").evaluate_all(
        "all => all.map(one => Number(one.tagName[1]))"
    )
    assert headings[:3] == [1, 2, 3]
    steps = [b - a for a, b in zip(headings, headings[1:], strict=False)]
    assert max(steps) == 1
    live = opened.locator("[data-drawlib]")
    assert live.evaluate("host => host.shadowRoot.querySelectorAll('input').length") > 1
    assert opened.evaluate(STICKS_OUT, 0) == []
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        assert violations(opened, RUN_AXE) == []
    visit.resize((390, 844))
    assert opened.evaluate(STICKS_OUT, 0) == []
    opened.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert notes.evaluate("box => box.open")
    assert (visit.left, visit.asked, visit.errors) == ([], [], [])
