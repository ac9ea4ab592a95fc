"""Check every local link, anchor and file that the built pages refer to.

    python tools/check_links.py [folder]

Addresses of other sites are not opened: that needs a network.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

PAGES = Path(__file__).resolve().parent.parent / "_build" / "html"
MOST = 20  # faults that are listed: one cause breaks a link on every page
REFERENCES = {
    "a": ("href",),
    "link": ("href",),
    "script": ("src",),
    "img": ("src",),
    "source": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "iframe": ("src",),
    "object": ("data",),
}


class Page(HTMLParser):
    """Collects the anchors of a page and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.references: list[tuple[int, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note `id`, `name` and every reference of one element."""
        values = dict(attrs)
        for key in ("id", "name"):
            value = values.get(key)
            if value and (key == "id" or tag == "a"):
                self.anchors.add(value)
        for key in REFERENCES.get(tag, ()):
            target = values.get(key)
            if target is not None:
                self.references.append((self.getpos()[0], tag, target))


def check(folder: Path) -> list[str]:
    """One line for each broken reference below `folder`."""
    folder = folder.resolve()
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.relative_to(folder).parts  # the theme's templates
    }
    faults = []
    for path, page in pages.items():
        for line, tag, target in page.references:
            parts = urlsplit(target)
            where = f"{path.relative_to(folder)}:{line}: <{tag}> {target!r}"
            if parts.scheme or parts.netloc:
                continue
            goal = path
            if parts.path:
                goal = (path.parent / unquote(parts.path)).resolve()
                if goal.is_dir():
                    goal = goal / "index.html"
                if folder not in goal.parents:
                    faults.append(f"{where}: leaves the book")
                    continue
                if not goal.exists():
                    faults.append(f"{where}: no such file")
                    continue
            anchor = unquote(parts.fragment)
            if anchor and goal in pages and anchor not in pages[goal].anchors:
                faults.append(f"{where}: no such anchor")
    return faults


def main() -> int:
    """Check the folder named, or `_build/html`; returns the exit code."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES
    count = sum("_static" not in path.parts for path in folder.rglob("*.html"))
    if not count:
        print(f"links: no built pages in {folder}", file=sys.stderr)
        return 1
    faults = check(folder)
    for fault in faults[:MOST]:
        print(f"links: {fault}", file=sys.stderr)
    if len(faults) > MOST:
        print(f"links: and {len(faults) - MOST} more", file=sys.stderr)
    print(f"links: {count} pages, {len(faults)} broken references")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
