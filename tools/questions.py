"""Questions at the end of each chapter, from one file per chapter: `make questions`.

    python tools/questions.py

`book/questions/NN.toml` holds what a reader of chapter NN answers before going on. From
it come the last cell of the chapter's notebook, as plain Markdown that needs no script
and no kernel, and two files that a learning platform imports: `build/questions.gift`
and `build/questions.xml` (Moodle). A question is a choice

    [[question]]
    id = "gap"
    text = '''What is …?'''
    right = ['''The one right option.''', '''Why it is right.''']
    wrong = [['''Another option.''', '''Why it is wrong.'''], …]

or a number, which `python` computes anew in the tests:

    [[question]]
    id = "constant"
    text = '''How many nats …?'''
    answer = 3168
    tolerance = 0.5
    unit = "nats"
    why = '''How one finds it.'''
    python = '''64 * (100 - 1) / 2'''

Texts and reasons are Markdown with formulas between dollars; an option, which opens at
a click, is plain text. The options' order is drawn by `id`. `quotes` lists what the
chapter prints and a question repeats: a test finds it there.
"""

import hashlib
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from run_notebooks import store

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "book" / "questions"
BUILD = ROOT / "build"
TAG = "questions"  # of the notebook's cell
CATEGORY = "Recurrence and attention"
INTRODUCTION = """## Questions

Answer each before you go on. Open the option that you think is right: it says whether
it is, and why. Where a number is asked for, work it out first, then open the answer."""
CHOICE = {"id", "text", "right", "wrong"}  # and quotes, where there are any
NUMBER = {"id", "text", "answer", "tolerance", "unit", "why", "python"}


@dataclass(frozen=True)
class Option:
    """What may be chosen, and why it is right or wrong."""

    text: str
    why: str
    right: bool


@dataclass(frozen=True)
class Choice:
    """A question with several options, one of them right."""

    id: str
    text: str
    options: tuple[Option, ...]
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Number:
    """A question whose answer is a number, right within a tolerance."""

    id: str
    text: str
    answer: float
    tolerance: float
    unit: str
    why: str
    python: str
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """The questions of one chapter, and its notebook."""

    number: str
    title: str
    notebook: Path
    questions: tuple[Choice | Number, ...]


# From the file


def question(entry: dict[str, Any]) -> Choice | Number:
    """One question, its fields checked."""
    name, fields = entry.get("id", "without an id"), set(entry) - {"quotes"}
    quotes = tuple(entry.get("quotes", ()))
    if fields == NUMBER:
        return Number(**{**entry, "quotes": quotes})
    if fields != CHOICE:
        raise ValueError(
            f"question {name} has the fields {sorted(fields)}; "
            f"allowed: {sorted(CHOICE)} or {sorted(NUMBER)}"
        )
    pairs = [entry["right"], *entry["wrong"]]
    options = [Option(text, why, k == 0) for k, (text, why) in enumerate(pairs)]
    if len({option.text for option in options}) < max(3, len(options)):
        raise ValueError(f"question {name} needs three or more different options")
    for option in options:
        if re.search(r"[$<>&`*]", option.text):
            raise ValueError(f"an option is text without $<>&`*: {option.text!r}")
    # No place is likelier than another to hold the right option.
    options.sort(key=lambda o: hashlib.sha256((name + o.text).encode()).digest())
    return Choice(name, entry["text"], tuple(options), quotes)


def chapter(path: Path, notebooks: Path = ROOT / "notebooks") -> Chapter:
    """The chapter whose questions a file holds."""
    (notebook,) = notebooks.glob(f"{path.stem}-*.ipynb")
    first = nbformat.read(notebook, as_version=4).cells[0].source
    title = first.splitlines()[0].removeprefix("# ").strip()
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    return Chapter(path.stem, title, notebook, tuple(map(question, entries)))


def chapters() -> list[Chapter]:
    """Every chapter that has questions, in order."""
    return [chapter(path) for path in sorted(FOLDER.glob("*.toml"))]


# For readers: a cell of the notebook


def folded(summary: str, inside: str, attributes: str = "") -> str:
    """What opens at a click or with the return key, in the page and in a notebook."""
    head = f'<details class="answer"{attributes}><summary>{summary}</summary>'
    return f"{head}\n\n{inside}\n\n</details>"


def markdown(asked: Choice | Number, place: int) -> str:
    """One question as Markdown."""
    parts = [f"**{place}.** {asked.text.strip()}"]
    if isinstance(asked, Number):
        unit = f" {asked.unit}" if asked.unit else ""
        within = f" (right within {asked.tolerance:g})" if asked.tolerance else ""
        right = f"**{asked.answer:g}{unit}**{within}."
        values = f' data-answer="{asked.answer:g}" data-within="{asked.tolerance:g}"'
        answer = f"{right} {asked.why.strip()}"
        parts.append(folded("The answer", answer, values))
    else:
        for letter, option in zip("ABCDEFGH", asked.options, strict=False):
            verdict = "**Right.**" if option.right else "**No.**"
            inside = f"{verdict} {option.why.strip()}"
            parts.append(folded(f"{letter}. {' '.join(option.text.split())}", inside))
    return "\n\n".join(parts)


def cell_source(of: Chapter) -> str:
    """The whole cell."""
    blocks = [markdown(asked, k) for k, asked in enumerate(of.questions, start=1)]
    return "\n\n".join([INTRODUCTION, *blocks])


def write_cell(of: Chapter) -> bool:
    """Put the questions at the notebook's end; whether the file changed."""
    notebook = nbformat.read(of.notebook, as_version=4)
    cells = [c for c in notebook.cells if TAG not in c.metadata.get("tags", [])]
    new = nbformat.v4.new_markdown_cell(
        cell_source(of), id=TAG, metadata={"tags": [TAG]}
    )
    if [*cells, new] == notebook.cells:
        return False
    notebook.cells = [*cells, new]
    store(of.notebook, notebook)
    return True


# For teachers: files to import


def html(text: str) -> str:
    r"""A text's HTML, formulas as \(…\), which learning platforms set."""
    parser = MarkdownIt().use(dollarmath_plugin, renderer=lambda tex, options: tex)
    parser.add_render_rule("math_inline", inline_formula)
    return " ".join(parser.render(text.strip()).split())


def inline_formula(renderer: Any, tokens: Any, at: int, *rest: Any) -> str:
    r"""A formula between \( and \), with the characters that HTML keeps for itself."""
    tex = tokens[at].content
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        tex = tex.replace(character, escaped)
    return rf"\({tex}\)"


def escaped(text: str) -> str:
    r"""GIFT's own characters behind a backslash, the backslash itself too.

    Without the latter the \nu of a formula would be read as a new line and a u.
    """
    return re.sub(r"([\\~=#{}:])", r"\\\1", text)


def gift_text(text: str) -> str:
    """A text for GIFT, which says that it is HTML."""
    return "[html]" + escaped(html(text))


def gift_question(asked: Choice | Number, of: Chapter) -> str:
    """One question in GIFT."""
    name = f"::{of.number}-{asked.id}::"
    if isinstance(asked, Number):
        lines = [
            f"{name}{gift_text(asked.text.strip() + in_units(asked))} {{#",
            f"=%100%{asked.answer:g}:{asked.tolerance:g}#",
            f"####{gift_text(asked.why)}",
        ]
    else:
        lines = [f"{name}{gift_text(asked.text)} {{"]
        for option in asked.options:
            sign, text = "=" if option.right else "~", gift_text(option.text)
            lines.append(f"{sign}{text}#{gift_text(option.why)}")
    return "\n".join([*lines, "}"])


def in_units(asked: Number) -> str:
    """In what unit a number is wanted, as a platform that knows no units must say."""
    return f" (A number, in {asked.unit}.)" if asked.unit else " (A number.)"


def gift(bank: list[Chapter]) -> str:
    """All questions in GIFT, a category for each chapter."""
    blocks = ["// Questions of the course. Licence: CC BY 4.0."]
    for of in bank:
        # Escapes in a category are not taken back on import, so it has none.
        name = f"{of.number} {of.title}".replace("/", "-")
        blocks.append(f"$CATEGORY: $course$/{CATEGORY}/{name}")
        blocks += [gift_question(asked, of) for asked in of.questions]
    return "\n\n".join(blocks) + "\n"


def texted(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    """Moodle's element that holds a text in an element of its own."""
    inside = ElementTree.SubElement(parent, tag, attributes)
    ElementTree.SubElement(inside, "text").text = text


def moodle_answer(
    parent: ElementTree.Element, percent: int, text: str
) -> ElementTree.Element:
    """An answer with its mark."""
    mark = {"fraction": str(percent), "format": "html"}
    answer = ElementTree.SubElement(parent, "answer", mark)
    ElementTree.SubElement(answer, "text").text = text
    return answer


def moodle_question(
    quiz: ElementTree.Element, asked: Choice | Number, of: Chapter
) -> None:
    """One question in Moodle's XML."""
    kind = "numerical" if isinstance(asked, Number) else "multichoice"
    element = ElementTree.SubElement(quiz, "question", type=kind)
    texted(element, "name", f"{of.number}-{asked.id}")
    if isinstance(asked, Number):
        text = html(asked.text.strip() + in_units(asked))
        texted(element, "questiontext", text, format="html")
        texted(element, "generalfeedback", html(asked.why), format="html")
        answer = moodle_answer(element, 100, f"{asked.answer:g}")
        ElementTree.SubElement(answer, "tolerance").text = f"{asked.tolerance:g}"
        return
    texted(element, "questiontext", html(asked.text), format="html")
    for tag, value in (("single", "true"), ("shuffleanswers", "true")):
        ElementTree.SubElement(element, tag).text = value
    for option in asked.options:
        answer = moodle_answer(element, 100 * option.right, html(option.text))
        texted(answer, "feedback", html(option.why), format="html")


def moodle(bank: list[Chapter]) -> str:
    """All questions in Moodle's XML."""
    quiz = ElementTree.Element("quiz")
    for of in bank:
        head = ElementTree.SubElement(quiz, "question", type="category")
        name = f"{of.number} {of.title}".replace("/", "-")
        texted(head, "category", f"$course$/{CATEGORY}/{name}")
        for asked in of.questions:
            moodle_question(quiz, asked, of)
    ElementTree.indent(quiz)
    return ElementTree.tostring(quiz, encoding="unicode", xml_declaration=True) + "\n"


def write_bank(bank: list[Chapter], folder: Path = BUILD) -> list[Path]:
    """Write the files that a learning platform imports."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"questions.gift": gift(bank), "questions.xml": moodle(bank)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def main() -> int:
    """Carry the questions into notebooks and files."""
    bank = chapters()
    count = sum(len(of.questions) for of in bank)
    for of in bank:
        if write_cell(of):
            print(f"questions: {of.notebook.name} changed")
    for path in write_bank(bank):
        print(f"questions: {path.relative_to(ROOT)}, {count} of {len(bank)} chapters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
