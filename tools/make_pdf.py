"""Print the built book to one PDF, with an outline, and link it from its page.

    python tools/make_pdf.py [PAGE ...]

Each page is printed by an installed Chromium (DRAWLIB_CHROMIUM can name one) after
its equations are set, by the print rules of `book/_static`, which unfold hints and
solutions; then the prints are joined.
Needs `_build/html`. Without a Chromium it says so and ends with 0: the book is whole
without the PDF. A PAGE such as `notebooks/04-vae` prints that page
alone, into `_build/pages.pdf`.
"""

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from chromium import ARGUMENTS, PATIENCE, find_chromium
from pypdf import PdfReader, PdfWriter

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
NAME = "recurrence-and-attention.pdf"
PLACE = re.compile(r'<p id="printable-edition">.*?</p>', flags=re.DOTALL)
# The book's own style and script make a page fit for paper; the PDF has an outline.
STYLE = "#jb-print-toc { display: none !important }"
ON_PAPER = """() => document.documentElement.dataset.theme === "light"
  && !document.querySelector("details.answer:not([open])")"""


def pages() -> list[str]:
    """The book in reading order, without the API: a hundred sheets to look up in."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [
        entry["file"]
        for part in toc["parts"]
        for entry in part["chapters"]
        if entry["file"] != "book/api"
    ]


async def print_page(browser: Any, name: str) -> tuple[str, bytes]:
    """One page's title and its PDF."""
    page = await browser.new_page(viewport={"width": 900, "height": 1200})
    page.set_default_timeout(PATIENCE)
    try:
        await page.goto((HTML / f"{name}.html").as_uri(), wait_until="load")
        if await page.locator(".math").count():
            started = "window.MathJax?.startup?.promise !== undefined"
            await page.wait_for_function(started)
            await page.evaluate("() => MathJax.startup.promise.then(() => true)")
            await page.wait_for_selector("mjx-container", state="attached")
        await page.emulate_media(media="print")
        await page.wait_for_function(ON_PAPER)
        await page.add_style_tag(content=STYLE)
        await page.evaluate("() => document.fonts.ready.then(() => true)")
        title = await page.locator("article h1").first.inner_text()
        margin = {side: "18mm" for side in ("top", "bottom", "left", "right")}
        content = await page.pdf(
            format="A4", scale=0.8, margin=margin, print_background=True
        )
        return title.rstrip("#").strip(), content
    finally:
        await page.close()


async def print_pages(executable: str, names: list[str]) -> list[tuple[str, bytes]]:
    """Title and PDF of each page; two print at a time, each in a process of its own."""
    from playwright.async_api import async_playwright

    two = asyncio.Semaphore(2)

    async def one(browser: Any, name: str) -> tuple[str, bytes]:
        async with two:
            return await print_page(browser, name)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable,
            args=ARGUMENTS,
            headless=True,
            timeout=PATIENCE,
        )
        try:
            return await asyncio.gather(*(one(browser, name) for name in names))
        finally:
            await browser.close()


def print_book(executable: str, names: list[str], target: Path) -> int:
    """Print these pages into one file; returns its number of sheets."""
    book = PdfWriter()
    for title, content in asyncio.run(print_pages(executable, names)):
        first = len(book.pages)
        book.append(PdfReader(io.BytesIO(content)), import_outline=False)
        book.add_outline_item(title=title, page_number=first)
    book.add_metadata({"/Title": "Recurrence and attention", "/Lang": "en"})
    book.compress_identical_objects()
    temporary = target.with_suffix(".part")
    with temporary.open("wb") as file:
        book.write(file)
    temporary.replace(target)
    return len(book.pages)


def link(target: Path, sheets: int) -> None:
    """Say on the book's page of downloads that the file is there."""
    page = HTML / "book" / "downloads.html"
    size = target.stat().st_size / 1e6
    text = f'<a href="../{target.name}">The book as one PDF</a>'
    text = f'<p id="printable-edition">{text} ({sheets} sheets A4, {size:.0f} MB).</p>'
    old = page.read_text(encoding="utf-8")
    page.write_text(PLACE.sub(text, old), encoding="utf-8")


def main() -> int:
    """Print the book; returns the exit code."""
    names = sys.argv[1:] or pages()
    missing = [name for name in names if not (HTML / f"{name}.html").exists()]
    if missing:
        print(f"pdf: not built: {', '.join(missing)}; first `make book`")
        return 1
    executable = find_chromium()
    if executable is None:
        print("pdf: no Chromium was found, so none was made; the book is whole without")
        return 0
    print(f"pdf: printing {len(names)} pages", flush=True)
    target = HTML / NAME if not sys.argv[1:] else HTML.parent / "pages.pdf"
    sheets = print_book(executable, names, target)
    if not sys.argv[1:]:
        link(target, sheets)
    print(f"pdf: {target}, {sheets} sheets, {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
