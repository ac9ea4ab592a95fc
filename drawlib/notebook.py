"""What every notebook needs: its mode, its checked parameters, and a plain table."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from drawlib.machine.device import pick_device

__all__ = ["Shown", "check_parameters", "in_mode"]

MODES = ("read", "smoke", "full")


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
    if namespace["seed"] < 0:
        raise ValueError(f"seed is {namespace['seed']}; allowed: 0 or more")
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
class Shown:
    """A table of texts that a notebook shows: headings, then lines, the first a head.

    Example:
        >>> Shown(("row", "nats"), (("a/b", "1.00"),))
        row    nats
        a/b    1.00
    """

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    caption: str = ""

    def __repr__(self) -> str:
        table = [self.heads, *self.lines]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rows = (zip(line, widths, strict=True) for line in table)
        lines = ("    ".join(text.ljust(w) for text, w in row).rstrip() for row in rows)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A caption, and headings that a screen reader knows."""
        top = "".join(f'<th scope="col">{escape(head)}</th>' for head in self.heads)
        body = "".join(
            # A long name may break behind its protocol.
            f'<tr><th scope="row">{escape(first).replace("/", "/<wbr>")}</th>'
            + "".join(f"<td>{escape(text)}</td>" for text in rest)
            + "</tr>"
            for first, *rest in self.lines
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return (
            f'<table class="table">{caption}<thead><tr>{top}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )
