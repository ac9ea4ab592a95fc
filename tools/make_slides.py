"""Make the slides of eight lectures out of the built book: `make slides`.

    python tools/make_slides.py

`book/slides.toml` says which sections of the chapters make a lecture. From each page in
`_build/html` come the slides: a question that the chapter asks (*Predict*), then the
formulas, figures, tables, outputs and live parts that answer it. What the chapter says
in prose becomes the speaker's notes, folded on each slide and printed below it. The
chapters' own questions end the lecture. The folder `_build/slides` needs no network and
can be taken along; the keys are told on its first page.
"""

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.element import Tag

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
SLIDES = ROOT / "_build" / "slides"
SELECTION = ROOT / "book" / "slides.toml"
LOOK = ROOT / "book" / "_static" / "slides.css"
KEYS = ROOT / "book" / "_static" / "slides.js"
ASKED = re.compile(r"^(Predict|The question)\.?$")
SHORT = 700  # characters of a list that still fits a slide
LEAD = 200  # characters of what introduces it there
MOST = 2  # formulas on a slide


@dataclass
class Slide:
    """What is shown under a heading, and what is said."""

    level: int  # of its heading: 1 a lecture, 2 a chapter, 3 a section
    heading: str
    shown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    formulas: int = 0
    full: bool = False  # nothing else fits below a question or a figure


@dataclass(frozen=True)
class Lecture:
    """A title, its time, and the sections that it is made of."""

    number: int
    title: str
    minutes: int
    sections: tuple[tuple[str, str], ...]  # (chapter, heading)

    @property
    def chapters(self) -> list[str]:
        """The chapters in the order in which they come."""
        return list(dict.fromkeys(chapter for chapter, _ in self.sections))


def lectures(path: Path = SELECTION) -> list[Lecture]:
    """The lectures as the selection names them."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["lecture"]
    return [
        Lecture(
            k, entry["title"], entry["minutes"], tuple(map(tuple, entry["sections"]))
        )
        for k, entry in enumerate(entries, start=1)
    ]


# From a page


class Page:
    """One chapter as it was built."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        # What belongs to the page and not to its text.
        for tag in self.soup.select(".headerlink, .section-number, .check-number"):
            tag.decompose()
        for link in self.soup.select("article a[href]"):
            if not str(link["href"]).startswith(("http://", "https://")):
                link.unwrap()  # it leads to a place that is not on the slides
        article = self.soup.select_one("article")
        if article is None or article.section is None:
            raise ValueError(f"{path.name} is no page of the book")
        self.chapter = article.section
        self.title = heading_of(self.chapter)

    def section(self, heading: str) -> Tag:
        """The section under a heading."""
        for section in self.chapter.find_all("section"):
            if heading_of(section) == heading:
                return section
        raise ValueError(f"{self.path.name} has no section {heading!r}")


def heading_of(section: Tag) -> str:
    """A section's heading, as plain text with straight apostrophes."""
    found = section.find(re.compile("^h[1-6]$"), recursive=False)
    text = found.get_text() if isinstance(found, Tag) else ""
    return " ".join(text.split()).replace("’", "'")


def is_question(tag: Tag) -> bool:
    """Whether a paragraph asks something before the chapter shows it."""
    first = tag.find("strong")
    at_once = tag.get_text().strip()
    return (
        tag.name == "p"
        and isinstance(first, Tag)
        and bool(ASKED.match(first.get_text().strip()))
        and at_once.startswith(first.get_text().strip())
    )


def is_list(tag: Tag) -> bool:
    """Whether this is a list that fits a slide."""
    return tag.name in ("ul", "ol") and len(tag.get_text()) <= SHORT


def introduces(tag: Tag) -> bool:
    """Whether a paragraph is the short beginning of the list that follows it."""
    after, text = tag.find_next_sibling(), tag.get_text().strip()
    return (
        tag.name == "p"
        and isinstance(after, Tag)
        and is_list(after)
        and len(text) <= LEAD
        and not text.endswith((".", "?", "!"))
    )


def blocks(section: Tag) -> Iterator[tuple[str, Tag]]:
    """What a section holds, in order, each with how it is used.

    `heading`, `question`, `formula`, `figure` (pictures, tables, outputs, live parts),
    `list` (with what introduces it), or `prose`, which goes into the notes. Code and
    exercises are left out.
    """
    for tag in section.find_all(recursive=False):
        classes: list[str] = list(tag.get("class") or [])
        if re.fullmatch("h[1-6]", tag.name):
            continue
        if tag.name == "section":
            yield "heading", tag
            yield from blocks(tag)
        elif "cell" in classes:
            for output in tag.select(".cell_output"):
                yield "figure", output
        elif "math" in classes:
            yield "formula", tag
        elif tag.name == "table" or tag.find("table", recursive=False):
            yield "figure", tag
        elif is_question(tag):
            yield "question", tag
        elif is_list(tag) or introduces(tag):
            yield "list", tag
        elif tag.name in ("p", "ul", "ol", "dl", "blockquote"):
            yield "prose", tag


def slides_of(section: Tag) -> list[Slide]:
    """A section's slides: what is asked has a slide of its own, before the answer."""
    slides = [Slide(3, heading_of(section))]

    for kind, tag in blocks(section):
        slide, whole = slides[-1], kind in ("question", "figure")
        if kind == "prose":
            slide.notes.append(str(tag))
            continue
        crowded = kind == "formula" and slide.formulas == MOST
        if slide.full or crowded or (slide.shown and (whole or kind == "heading")):
            slide = Slide(3, slide.heading)
            slides.append(slide)
        if kind == "heading":
            slide.heading = heading_of(tag)
        else:
            slide.shown.append(str(tag))
            slide.formulas += kind == "formula"
            slide.full = whole
    return [slide for slide in slides if slide.shown or slide.notes]


def opening(page: Page) -> Slide:
    """A chapter's first slide: its question, and what one can do afterwards."""
    slide = Slide(2, page.title)
    for kind, tag in blocks_before_sections(page.chapter):
        if kind in ("question", "list"):
            slide.shown.append(str(tag))
        else:
            slide.notes.append(str(tag))
    return slide


def blocks_before_sections(chapter: Tag) -> Iterator[tuple[str, Tag]]:
    """What a chapter says before its first section."""
    for kind, tag in blocks(chapter):
        if kind == "heading":
            return
        if kind != "figure":
            yield kind, tag


def closing(page: Page) -> list[Slide]:
    """The chapter's questions, one per slide, their options folded."""
    found = page.chapter.find("section", id="questions")
    slides: list[Slide] = []
    for tag in found.find_all(recursive=False) if isinstance(found, Tag) else []:
        if tag.name == "p" and re.match(r"\d+\.", tag.get_text().strip()):
            slides.append(Slide(3, f"Question {len(slides) + 1}", [str(tag)]))
        elif slides and tag.name in ("p", "details"):
            slides[-1].shown.append(str(tag))
    return slides


# To a folder


def slide_html(slide: Slide, number: int) -> str:
    """One slide."""
    told = "\n".join(slide.notes)
    notes = f'<details class="notes"><summary>Notes</summary>\n{told}\n</details>'
    tag = f"h{slide.level}"
    return (
        f'<div class="slide" id="slide-{number}">\n'
        f'<{tag} id="title-{number}" tabindex="-1">{escape(slide.heading)}</{tag}>\n'
        '<div class="shown">\n'
        + "\n".join(slide.shown)
        + "\n</div>"
        + (f"\n{notes}" if told else "")
        + "\n</div>\n"
    )


def without_ids(html: str) -> str:
    """Content that stood on several pages, without names that could occur twice."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all(id=True):
        if not tag.has_attr("data-drawlib"):
            del tag["id"]
    for box in soup.select("pre"):  # wide ones scroll, also by the keyboard
        box["tabindex"], box["role"], box["aria-label"] = "0", "group", "Output"
    return str(soup)


def page_html(lecture: Lecture, slides: list[Slide], mathjax: str) -> str:
    """A lecture as one page."""
    body = "".join(slide_html(slide, k) for k, slide in enumerate(slides, start=1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{lecture.number}. {escape(lecture.title)}</title>\n"
        f"<style>\n{LOOK.read_text(encoding='utf-8')}</style>\n"
        f"<script>{mathjax}</script>\n"
        '<script defer src="mathjax/tex-chtml-full.js"></script>\n'
        f"<script>\n{KEYS.read_text(encoding='utf-8')}</script>\n"
        f"</head>\n<body>\n<main>\n{body}</main>\n"
        '<nav aria-label="Slides"><a href="index.html">Lectures</a>\n'
        '<button type="button" data-step="-1">Back</button>\n'
        '<span id="place" aria-live="polite"></span>\n'
        '<button type="button" data-step="1">Next</button></nav>\n</body>\n</html>\n'
    )


def lecture_slides(lecture: Lecture, pages: dict[str, Page]) -> list[Slide]:
    """All slides of a lecture."""
    first = Slide(1, lecture.title)
    names = "".join(f"<li>{escape(pages[c].title)}</li>" for c in lecture.chapters)
    first.shown.append(f"<p>{lecture.minutes} minutes, from</p><ul>{names}</ul>")
    slides = [first]
    for chapter in lecture.chapters:
        slides.append(opening(pages[chapter]))
        for name, heading in lecture.sections:
            if name == chapter:
                slides += slides_of(pages[chapter].section(heading))
        slides += closing(pages[chapter])
    for slide in slides:
        slide.shown = [without_ids(part) for part in slide.shown]
        slide.notes = [without_ids(part) for part in slide.notes]
    return slides


def take_pictures(text: str, folder: Path, html: Path) -> str:
    """Copy the pictures of a page beside it, and let it look for them there."""
    for name in set(re.findall(r'src="\.\./_images/([^"]+)"', text)):
        (folder / "images").mkdir(exist_ok=True)
        shutil.copyfile(html / "_images" / name, folder / "images" / name)
    return text.replace('src="../_images/', 'src="images/')


def index_html(given: list[Lecture]) -> str:
    """The page that leads to the lectures and names the keys."""
    items = "".join(
        f'<li><a href="lecture-{one.number}.html">{escape(one.title)}</a>, '
        f"{one.minutes} minutes</li>"
        for one in given
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><title>Lectures</title>'
        f"<style>\n{LOOK.read_text(encoding='utf-8')}</style></head>\n<body><main>"
        f'<div class="slide"><h1>Lectures</h1><ol>{items}</ol>\n'
        "<p>Next: →, space or Page Down. Back: ← or Page Up. First: Home. Last: End. "
        "Notes: N. On paper each slide has its notes below it.</p>"
        "<p>The drawlib authors, CC BY 4.0.</p></div></main></body></html>\n"
    )


def make(given: list[Lecture], folder: Path = SLIDES, html: Path = HTML) -> None:
    """Write the lectures into a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = sorted({chapter for lecture in given for chapter in lecture.chapters})
    pages = {
        chapter: Page(path)
        for chapter in wanted
        for path in (html / "notebooks").glob(f"{chapter}-*.html")
    }
    setting = next(
        script.get_text()
        for script in pages[wanted[0]].soup.find_all("script", src=False)
        if "window.MathJax" in script.get_text()
    )
    shutil.copytree(html / "_static" / "mathjax", folder / "mathjax")
    for lecture in given:
        slides = lecture_slides(lecture, pages)
        text = take_pictures(page_html(lecture, slides, setting), folder, html)
        path = folder / f"lecture-{lecture.number}.html"
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"slides: {path.name}, {lecture.title}: {len(slides)} slides", flush=True)
    index = folder / "index.html"
    index.write_text(index_html(given), encoding="utf-8", newline="\n")
    print(f"slides: open {index}")


def main() -> int:
    """Make all lectures; returns the exit code."""
    if not (HTML / "index.html").exists():
        print("slides: the book is not built; first `make book`", file=sys.stderr)
        return 1
    make(lectures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
