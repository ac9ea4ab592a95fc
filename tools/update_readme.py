"""Write the table of results into the README, between its marks, from the records."""

import sys
from pathlib import Path

from drawlib.results.glance import glance

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")


def updated(text: str) -> str:
    """The README with today's table between the marks.

    Raises:
        ValueError: where a mark is missing.
    """
    for mark in MARKS:
        if text.count(mark) != 1:
            raise ValueError(
                f"README.md has {text.count(mark)} times {mark!r}, not once"
            )
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{glance().to_markdown()}\n{MARKS[1]}{after}"


def main() -> int:
    """Update; returns the exit code."""
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
    print("README.md: results written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
