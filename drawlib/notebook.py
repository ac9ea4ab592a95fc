"""What every notebook needs: its mode, its checked parameters, and plain tables."""

from __future__ import annotations

import ast
import io
import re
import zipfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from drawlib.config import whole_number
from drawlib.evaluation import check_seed
from drawlib.machine.device import pick_device

__all__ = ["Below", "Files", "Folded", "Shown", "check_parameters", "in_mode"]

MODES = ("read", "smoke", "full")
LEFT, RIGHT = "text-align:left", "text-align:right"


def check_parameters(namespace: dict[str, Any], **types: type) -> None:
    """Refuse notebook parameters that are misspelt, of a wrong type or out of range.

    Call it with ``globals()`` in the cell after the one tagged ``parameters``.
    papermill injects whatever it is given: a misspelt name would be ignored, and
    ``true`` would arrive as a string. ``mode`` (read, smoke or full), ``seed`` and
    ``device`` are known; a chapter names the types of further ones.

    Raises:
        ValueError, TypeError: one line with what was given and what is allowed.

    Example:
        >>> check_parameters({"mode": "ful", "seed": 0, "device": "cpu"})
        Traceback (most recent call last):
        ValueError: mode is 'ful'; allowed: read, smoke, full
    """
    allowed = {"mode": str, "seed": int, "device": str, **types}
    for name in injected(namespace.get("In", [])):
        if name not in allowed:
            raise ValueError(
                f"{name!r} is no parameter of this notebook; "
                f"allowed: {', '.join(allowed)}"
            )
    for name, kind in allowed.items():
        value = namespace.get(name)
        # bool is an int for Python, and never a seed or a size; a whole number is a
        # float to whoever writes `-p lr 1`.
        allowed_types = (int, float) if kind is float else kind
        wrong = isinstance(value, bool) and kind is not bool
        if not isinstance(value, allowed_types) or wrong:
            raise TypeError(
                f"{name} is {value!r} ({type(value).__name__}); "
                f"allowed: {kind.__name__}"
            )
    if namespace["mode"] not in MODES:
        raise ValueError(f"mode is {namespace['mode']!r}; allowed: {', '.join(MODES)}")
    check_seed(namespace["seed"])
    for name, kind in types.items():  # sizes and epochs
        if kind is int:
            whole_number(name, namespace[name])
    pick_device(namespace["device"])


def injected(cells: list[str]) -> list[str]:
    """Names that papermill assigned: its cells start with ``# Parameters``.

    Example:
        >>> injected(["x = 1", "# Parameters\\nmode = 'smoke'\\nsede = 1"])
        ['mode', 'sede']
    """
    names = []
    for cell in cells:
        if cell.startswith("# Parameters"):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    names += [t.id for t in node.targets if isinstance(t, ast.Name)]
    return names


def in_mode(mode: str, *, read: Any, smoke: Any, full: Any) -> Any:
    """The value for this mode: sizes, epochs, numbers of images.

    Example:
        >>> in_mode("smoke", read=1000, smoke=10, full=10_000)
        10
    """
    return {"read": read, "smoke": smoke, "full": full}[mode]


@dataclass(frozen=True)
class Below:
    """What stands below a line of a table: texts by their names.

    Some are in sight, others folded behind a ``summary`` that opens them.
    """

    seen: Mapping[str, str]
    folded: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""

    def __str__(self) -> str:
        return "; ".join(f"{k}: {v}" for k, v in {**self.seen, **self.folded}.items())

    def to_html(self) -> str:
        """The texts in a row, their names in bold; empty where there is none."""
        seen, folded = (
            " · ".join(f"<b>{escape(k)}</b> {escape(v)}" for k, v in part.items())
            for part in (self.seen, self.folded)
        )
        return seen + (details(self.summary, folded) if folded else "")


@dataclass(frozen=True)
class Shown:
    """A table of texts: headings, then lines, the first text of each its head.

    A line of one text is a heading above those that follow. ``below`` has what stands
    under each line, ``heads`` may be empty. Every table of the course that is shown as
    HTML is one of these.

    Example:
        >>> Shown(("row", "nats"), (("a/b", "1.00"),))
        row    nats
        a/b    1.00
    """

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    caption: str = ""
    below: Sequence[Below] = ()

    def __repr__(self) -> str:
        table = [line for line in (self.heads, *self.lines) if line]
        width = max(map(len, table), default=0)
        table = [[*line, *[""] * (width - len(line))] for line in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rows = (zip(line, widths, strict=True) for line in table)
        lines = ["    ".join(text.ljust(w) for text, w in row).rstrip() for row in rows]
        for place, under in reversed(list(enumerate(self.below, start=1))):
            lines.insert(bool(self.heads) + place, f"    {under}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """A table with a caption, and headings that a screen reader knows."""
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        sides = self.sides()
        top = "".join(
            f'<th scope="col" style="{side}">{escape(head)}</th>'
            for head, side in zip(self.heads, sides, strict=False)
        )
        head = f"<thead><tr>{top}</tr></thead>" if top else ""
        under = self.below or [Below({})] * len(self.lines)
        body = "\n".join(
            line_html(line, part.to_html(), sides)
            for line, part in zip(self.lines, under, strict=True)
        )
        return f'<table class="table">{caption}{head}\n<tbody>{body}</tbody></table>'

    def to_markdown(self) -> str:
        """The same for a README; a heading is a line of its own, in bold."""
        rule = ["---:" if side == RIGHT else "---" for side in self.sides()]
        lines = [
            line if len(line) > 1 else [f"**{line[0]}**", *[""] * (len(rule) - 1)]
            for line in self.lines
        ]
        rows = [self.heads, rule, *lines]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"

    def sides(self) -> list[str]:
        """The style of each column: numbers stand at the right, words at the left."""
        full = [line for line in self.lines if len(line) > 1]
        columns = [[t for t in column if t] for column in zip(*full, strict=True)]
        numbers = [
            place > 0 and bool(texts) and all(map(is_number, texts))
            for place, texts in enumerate(columns or [[] for _ in self.heads])
        ]
        return [RIGHT if number else LEFT for number in numbers]

    def _repr_html_(self) -> str:
        return self.to_html()


def is_number(text: str) -> bool:
    """Whether a text of a table is a number with its marks, or says that there is none.

    Example:
        >>> [is_number(t) for t in ("−1.50", "≤ 89.00, reached", "not run", "a 3")]
        [True, True, True, False]
    """
    return text in ("not run", "–", "?") or bool(re.match(r"[≤+−-]? ?\d|\? \(", text))


def details(summary: str, inside: str) -> str:
    """HTML behind a line that opens it, by a click or with the return key."""
    return (
        f'<details class="provenance"><summary>{escape(summary)}</summary>'
        f"{inside}</details>"
    )


def line_html(line: Sequence[str], under: str, sides: Sequence[str]) -> str:
    """One line of a table, with what stands under it."""
    if len(line) == 1:
        span = f'colspan="{len(sides)}" scope="rowgroup" style="text-align:left"'
        return f"<tr><th {span}>{escape(line[0])}</th></tr>"
    first, *rest = line
    # A long name may break behind its protocol.
    name = escape(first).replace("/", "/<wbr>")
    both = ' rowspan="2"' if under else ""
    head = f'<th scope="row"{both}>{name}</th>'
    cells = "".join(
        f'<td style="{side}">{escape(text)}</td>'
        for text, side in zip(rest, sides[1:], strict=True)
    )
    row = f"<tr>{head}{cells}</tr>"
    style = "text-align:left;font-size:.8em;border:0"
    if under:
        row += f'<tr><td colspan="{len(rest)}" style="{style}">{under}</td></tr>'
    return row


@dataclass(frozen=True)
class Folded:
    """Tables, each behind a line that opens it.

    Example:
        >>> Folded({"one record": Shown((), (("epochs", "150"),))})
        one record
    """

    parts: Mapping[str, Shown]

    def __repr__(self) -> str:
        return "\n".join(self.parts)

    def _repr_html_(self) -> str:
        return "".join(details(s, part.to_html()) for s, part in self.parts.items())


@dataclass(frozen=True)
class Files:
    """Text files inside the page, to take along in one archive.

    By name, what each is and its text.

    Example:
        >>> Files("tables.zip", {"table-A.csv": ("MNIST", "row,ours")})
        tables.zip, with
        table-A.csv: MNIST
    """

    archive: str
    files: Mapping[str, tuple[str, str]]

    def __repr__(self) -> str:
        told = [f"{name}: {about}" for name, (about, _) in self.files.items()]
        return "\n".join([f"{self.archive}, with", *told])

    def _repr_html_(self) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
            for name, (_, text) in self.files.items():
                # A name alone has no date: the same files are the same bytes.
                z.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        link = (
            f'<a download="{escape(self.archive)}" href="data:application/zip;base64,'
            f'{b64encode(packed.getvalue()).decode()}">{escape(self.archive)}</a>'
        )
        inside = "".join(
            f"<li>{escape(name)}: {escape(about)}</li>"
            for name, (about, _) in self.files.items()
        )
        return f"<p>{link}, with</p><ul>{inside}</ul>"
