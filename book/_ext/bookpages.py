"""Sphinx extension: parts of the pages that are computed from what exists.

`<!-- chapters -->` in a page becomes the list of chapters in `_toc.yml`,
`<!-- downloads -->` their notebooks as files, `<!-- lectures -->` the lectures' table,
`<!-- question-files -->` the question bank as files, and `<!-- api -->` the
documentation of every public module of drawlib, so none can name something that is not
there. The launch button of a chapter gets Kaggle beside Colab.
Docstrings are written for people who read code; here the characters that
reStructuredText would take for markup are escaped.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from architecture import ROOMS, modules, path_of  # noqa: E402

PRIVATE = {"__init__", "__main__"}
SECTIONS = {
    f"{name}:"
    for name in (
        "Args Arguments Attributes Example Examples Keyword Note Notes Parameters "
        "Raises References Returns See Todo Warning Warnings Warns Yields"
    ).split()
}
QUESTION = re.compile(r"^\*\*The question\.\*\*\s+(.+?)(?:\n\n|\Z)", re.M | re.S)
KAGGLE = "https://kaggle.com/kernels/welcome?src="
INLINE_CODE = re.compile(r"(``.+?``|`[^`]+`_?)")


def chapters() -> list[tuple[str, str, str]]:
    """(file, title, its question) of every notebook that `_toc.yml` names."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [
        entry["file"]
        for part in toc.get("parts", [])
        for entry in part["chapters"]
        if entry["file"].startswith("notebooks/")
    ]
    found = []
    for name in files:
        path = (ROOT / name).with_suffix(".ipynb")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
        )
        title = re.search(r"^# +(.+)$", text, flags=re.MULTILINE)
        asked = QUESTION.search(text)
        question = " ".join(asked.group(1).split()) if asked else ""
        found.append((name, title.group(1).strip() if title else name, question))
    return found


def chapter_list() -> str:
    """The chapters as a Markdown list."""
    lines = [
        f"- [{title}](../{name}.ipynb)" + (f": {question}" if question else "")
        for name, title, question in chapters()
    ]
    return "\n".join(lines) or "No chapter is finished yet."


def download_list() -> str:
    """The notebooks as files, as a Markdown list."""
    lines = []
    for name, title, _ in chapters():
        size = (ROOT / name).with_suffix(".ipynb").stat().st_size / 1000
        file = f"{{download}}`{title} <../{name}.ipynb>`"
        lines.append(f"- {file}, {size:.0f} kB")
    return "\n".join(lines) or "No chapter is finished yet."


def lecture_table() -> str:
    """The lectures of `book/slides.toml` with their chapters and minutes."""
    from make_slides import lectures

    named = {Path(name).stem[:2]: (name, title) for name, title, _ in chapters()}
    lines = ["| number | lecture | minutes | from |", "|---|---|---|---|"]
    for lecture in lectures():
        links = ", ".join(
            f"[{int(c)}. {named[c][1]}](../{named[c][0]}.ipynb)"
            for c in lecture.chapters
        )
        head = f"| {lecture.number} | {lecture.title} | {lecture.minutes} |"
        lines.append(f"{head} {links} |")
    return "\n".join(lines)


def question_files() -> str:
    """The question bank, written anew, as a Markdown list of files."""
    import questions

    bank = questions.chapters()
    count = sum(len(of.questions) for of in bank)
    formats = {"gift": "GIFT, which many platforms read", "xml": "Moodle XML"}
    lines = [f"{count} questions, {len(bank)} chapters, a category for each:", ""]
    for path in questions.write_bank(bank):
        file = f"{{download}}`{path.name} <../build/{path.name}>`"
        lines.append(f"- {file}: {formats[path.suffix[1:]]}")
    return "\n".join(lines)


def api_text() -> str:
    """One section of Markdown for each room and module, in the house's order."""
    blocks = []
    for room in ROOMS:
        if not set(PRIVATE) >= set(room.modules.split()):
            blocks.append(f"## {room.name}: {room.purpose}\n")
        blocks += [
            f"### `drawlib.{name}`\n\n```{{eval-rst}}\n"
            f".. automodule:: drawlib.{name}\n"
            "   :members:\n   :show-inheritance:\n```\n"
            for name, its in modules().items()
            if its is room and name not in PRIVATE
        ]
    return "\n".join(blocks)


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill in the computed parts of a page."""
    if "<!-- chapters -->" in source[0]:
        source[0] = source[0].replace("<!-- chapters -->", chapter_list())
    if "<!-- downloads -->" in source[0]:
        source[0] = source[0].replace("<!-- downloads -->", download_list())
    if "<!-- lectures -->" in source[0]:
        source[0] = source[0].replace("<!-- lectures -->", lecture_table())
    if "<!-- question-files -->" in source[0]:
        source[0] = source[0].replace("<!-- question-files -->", question_files())
    if "<!-- api -->" in source[0]:
        source[0] = source[0].replace("<!-- api -->", api_text())
        for name in modules():
            app.env.note_dependency(str(path_of(name)))


def add_kaggle(
    app: Sphinx | None, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Kaggle's button beside Colab's, which has the repository's address."""
    for group in context.get("header_buttons", []):
        for button in list(group.get("buttons", [])):
            colab, _, file = (button.get("url") or "").partition("/github/")
            if "colab" in colab:
                kaggle = {
                    "text": "Kaggle",
                    "tooltip": button["tooltip"].replace("Colab", "Kaggle"),
                    "icon": "fa-brands fa-kaggle",
                    "url": f"{KAGGLE}https://github.com/{file}",
                }
                group["buttons"].append({**button, **kaggle})


def escape(line: str) -> str:
    """A line of prose with nothing in it that reStructuredText takes for markup."""
    pieces = INLINE_CODE.split(line)
    for number in range(0, len(pieces), 2):
        # A pair of bars, a lone star, a name that ends in an underscore.
        piece = re.sub(r"(?<!\\)\|", r"\\|", pieces[number])
        piece = re.sub(r"(?<![\\*])\*(?!\*)", r"\\*", piece)
        pieces[number] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", piece)
    return "".join(pieces)


def set_apart(lines: list[str]) -> list[str]:
    """Keep the line breaks of formulas that are indented below a sentence.

    Such a block is not a definition, for which reStructuredText would take it. What
    stands below a section's name (`Example:`, `Args:`) is left to napoleon.
    """
    result: list[str] = []
    section = block = False
    for line in lines:
        indented = line.startswith((" ", "\t"))
        previous = result[-1].strip() if result else ""
        if line.strip() and not indented:
            section = line.strip() in SECTIONS
            if block:
                result.append("")
            block = False
        elif not line.strip():
            block = False
        elif not section and not block:
            block = bool(previous) and not previous.endswith("::")
            if block:
                result.append("")
        result.append(f"| {line.strip()}" if block and indented else line)
    return result


def on_docstring(
    app: Sphinx | None, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Escape the prose of a docstring; leave examples and literal blocks alone."""
    literal: int | None = None  # indentation of the paragraph that opened the block
    example = False
    for number, line in enumerate(lines):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if not stripped:
            example = False
            continue
        if literal is not None and indent > literal:
            continue
        literal = None
        if stripped.startswith(">>>"):
            example = True
        if example:
            continue
        if stripped.endswith("::"):
            literal = indent
        lines[number] = escape(line)
    lines[:] = set_apart(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", on_source_read)
    # After the theme's own buttons.
    app.connect("html-page-context", add_kaggle, priority=502)
    app.connect("autodoc-process-docstring", on_docstring, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
