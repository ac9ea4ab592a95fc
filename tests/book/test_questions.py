"""The questions at the chapters' ends: one right answer each, computed where it is one.

The files in `book/questions` are the source. What is made from them is read back here
by parsers that know nothing of the writer.
"""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml

import drawlib

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import questions  # noqa: E402

BANK = questions.chapters()
ALL = [(of, asked) for of in BANK for asked in of.questions]
NUMBERS = [pair for pair in ALL if isinstance(pair[1], questions.Number)]
CHOICES = [asked for _, asked in ALL if isinstance(asked, questions.Choice)]
TITLES = [f"{of.number}-{asked.id}" for of, asked in ALL]
CHOICE = {
    "id": "a",
    "text": "One or two?",
    "right": ["One.", "It is."],
    "wrong": [["Two.", "No."], ["Three.", "No."]],
}


def texts(asked: questions.Choice | questions.Number) -> list[str]:
    """Everything that a reader sees of a question."""
    if isinstance(asked, questions.Number):
        return [asked.text, asked.why]
    return [asked.text, *(part for o in asked.options for part in (o.text, o.why))]


# --- the files -------------------------------------------------------------------


def test_every_chapter_has_five_to_eight_questions_and_no_id_twice():
    numbers = {path.name[:2] for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {of.number for of in BANK} == numbers
    assert [of.number for of in BANK if not 5 <= len(of.questions) <= 8] == []
    assert len(TITLES) == len(set(TITLES))


@pytest.mark.parametrize("of", BANK, ids=lambda of: of.number)
def test_every_chapter_asks_for_a_number(of):
    assert any(isinstance(asked, questions.Number) for asked in of.questions)


@pytest.mark.parametrize(
    ("of", "asked"), NUMBERS, ids=[f"{of.number}-{asked.id}" for of, asked in NUMBERS]
)
def test_every_number_is_what_the_library_computes(of, asked):
    from drawlib.mistakes.planting import planted

    known = {name: getattr(drawlib, name) for name in drawlib.__all__}
    known |= {"math": math, "torch": torch, "planted": planted}
    *before, last = ast.parse(asked.python.strip()).body
    exec(compile(ast.Module(before, []), asked.id, "exec"), known)
    value = eval(compile(ast.Expression(last.value), asked.id, "eval"), known)
    assert abs(value - asked.answer) <= asked.tolerance
    # A rounded answer lies well within what is accepted.
    assert abs(value - asked.answer) <= asked.tolerance / 2 or not asked.tolerance
    assert all(len(line) <= 88 for line in asked.python.splitlines())


@pytest.mark.parametrize("asked", CHOICES, ids=lambda asked: asked.id)
def test_every_choice_has_one_right_option_and_a_reason_for_each(asked):
    assert sum(option.right for option in asked.options) == 1
    assert 3 <= len(asked.options) <= 5
    assert all(len(option.why.strip()) > 15 for option in asked.options)


def test_neither_place_nor_length_gives_the_right_option_away():
    places = [
        next(k for k, option in enumerate(asked.options) if option.right)
        for asked in CHOICES
    ]
    longest = [
        max(asked.options, key=lambda option: len(option.text)).right
        for asked in CHOICES
    ]
    assert all(0.1 < places.count(k) / len(places) < 0.45 for k in range(4))
    assert sum(longest) < 0.6 * len(CHOICES)


@pytest.mark.parametrize("of", BANK, ids=lambda of: of.number)
def test_what_a_reason_repeats_of_the_chapter_stands_in_it(of):
    cells = json.loads(of.notebook.read_text(encoding="utf-8"))["cells"]
    parts = [cell["source"] for cell in cells if cell.get("id") != questions.TAG]
    for output in (out for cell in cells for out in cell.get("outputs", [])):
        parts += [output.get("text", []), output.get("data", {}).get("text/plain", [])]
    chapter = "\n".join("".join(part) for part in parts)
    for asked in of.questions:
        for quote in asked.quotes:
            assert quote in chapter, f"{asked.id}: {quote}"


def test_formulas_are_such_that_a_notebook_and_a_platform_know_them():
    """No macro of the book's own, no reference that only the book resolves."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    own = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    macro = re.compile(r"\\(" + "|".join(map(re.escape, own)) + r")(?![A-Za-z])")
    for _, asked in ALL:
        for text in texts(asked):
            assert not macro.search(text), text
            assert not re.search(r"\{[a-z:]+\}`|\]\(", text), text
            assert text.count("$") % 2 == 0 and "$$" not in text, text


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"id": "a", "text": "?"}, "question a has the fields"),
        ({**CHOICE, "answer": 1}, "question a has the fields"),
        ({**CHOICE, "wrong": CHOICE["wrong"][:1]}, "three or more different options"),
        ({**CHOICE, "right": ["Two.", "Yes."]}, "three or more different options"),
        ({**CHOICE, "right": ["$x$", "Yes."]}, "an option is text without"),
    ],
)
def test_a_question_that_is_not_one_is_refused_in_a_line(entry, told):
    with pytest.raises(ValueError, match=told):
        questions.question(entry)


# --- the notebooks ---------------------------------------------------------------


@pytest.mark.parametrize("of", BANK, ids=lambda of: of.number)
def test_the_notebook_ends_with_the_questions_of_its_file(of):
    cell = json.loads(of.notebook.read_text(encoding="utf-8"))["cells"][-1]
    assert cell["metadata"]["tags"] == [questions.TAG]
    source = "".join(cell["source"])
    assert source == questions.cell_source(of), "make questions"
    assert "<script" not in source and source.count("<details") == source.count(
        "</details>"
    )


def test_writing_the_questions_leaves_everything_else_as_it_was(tmp_path):
    made = shutil.copy(BANK[0].notebook, tmp_path)
    path = shutil.copy(questions.FOLDER / "01.toml", tmp_path)
    of = questions.chapter(Path(path), tmp_path)
    before = json.loads(Path(made).read_text(encoding="utf-8"))
    assert not questions.write_cell(of)
    del before["cells"][-1]
    Path(made).write_text(json.dumps(before), encoding="utf-8")
    assert questions.write_cell(of)
    assert Path(made).read_bytes() == BANK[0].notebook.read_bytes()


# --- the files to import ---------------------------------------------------------


def read_gift(text: str) -> dict[str, tuple[str, list[tuple[str, ...]]]]:
    """Title to text and answers, from the rules of the format alone.

    A character behind a backslash is itself; questions end at an empty line; a name
    stands between pairs of colons, answers stand between braces, each behind = or ~,
    what is behind # is the reason; a number and its tolerance are parted by a colon.
    """
    found = {}
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.startswith("//")]
        block = "\n".join(lines).strip()
        if not block or block.startswith("$CATEGORY:"):
            continue
        # What is escaped is hidden in characters that no text has.
        hidden: list[str] = []

        def hide(match: re.Match[str], hidden=hidden) -> str:
            hidden.append(match.group(1))
            return chr(0xE000 + len(hidden) - 1)

        def show(part: str, hidden=hidden) -> str:
            shown = (hidden[ord(c) - 0xE000] if c >= "\ue000" else c for c in part)
            return "".join(shown).strip().removeprefix("[html]")

        plain = re.sub(r"\\(.)", hide, block)
        match = re.fullmatch(r"::([^:]+)::([^{}]*)\{([^{}]*)\}", plain, flags=re.S)
        assert match, block
        title, asked, answers = match.groups()
        assert not re.search("[~=#]", asked), block
        answers, _, general = answers.partition("####")
        if answers.startswith("#"):
            (number,) = re.findall(r"=%100%([^:#]+):([^:#]+)#", answers[1:])
            kept = [("#", *number, show(general))]
        else:
            kept = [
                (sign, show(option), show(reason))
                for sign, option, reason in re.findall(
                    r"([=~])([^=~#:]+)#([^=~#:]+)", answers
                )
            ]
            assert len(kept) == len(re.findall("[=~]", answers)), block
        found[show(title)] = (show(asked), kept)
    return found


def unmarked(text: str) -> str:
    """A text without its markup, to compare what two formats hold."""
    plain = re.sub(r"<[^>]+>|\\[()]|[$*`]", " ", text)
    for entity, character in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("amp", "&")):
        plain = plain.replace(f"&{entity};", character)
    return "".join(plain.split())


def test_gift_holds_every_question_with_every_character():
    read = read_gift(questions.gift(BANK))
    assert list(read) == TITLES
    for of, asked in ALL:
        text, answers = read[f"{of.number}-{asked.id}"]
        if isinstance(asked, questions.Number):
            assert unmarked(text).startswith(unmarked(asked.text))
            ((_, answer, tolerance, why),) = answers
            assert float(answer) == asked.answer
            assert float(tolerance) == asked.tolerance
            assert unmarked(why) == unmarked(asked.why)
            continue
        assert unmarked(text) == unmarked(asked.text)
        for option, (sign, chosen, why) in zip(asked.options, answers, strict=True):
            assert sign == ("=" if option.right else "~")
            assert unmarked(chosen) == unmarked(option.text)
            assert unmarked(why) == unmarked(option.why)


def test_gift_escapes_its_own_characters_and_the_backslash():
    r"""An unescaped \nu would be imported as a new line and a u."""
    text = r"$\nu = \{a: b\}$ ~ #1"
    assert questions.gift_text(text) == (
        r"[html]<p>\\(\\nu \= \\\{a\: b\\\}\\) \~ \#1</p>"
    )
    # A category is not read through the escapes: there they would stay in sight.
    assert "/12 GLAS: attention" in questions.gift(BANK)


def test_moodle_xml_holds_every_question_with_one_right_answer():
    quiz = ElementTree.fromstring(questions.moodle(BANK))
    names = [q.findtext("name/text") for q in quiz if q.get("type") != "category"]
    assert names == TITLES
    assert len(quiz.findall("question[@type='category']")) == len(BANK)
    for entry in quiz.findall("question"):
        marks = [int(answer.get("fraction", "")) for answer in entry.findall("answer")]
        assert entry.get("type") == "category" or sorted(marks)[-1] == 100 == sum(marks)
    numbers = quiz.findall("question[@type='numerical']")
    for entry, (_, asked) in zip(numbers, NUMBERS, strict=True):
        assert float(entry.findtext("answer/text") or "nan") == asked.answer
        assert float(entry.findtext("answer/tolerance") or "nan") == asked.tolerance
