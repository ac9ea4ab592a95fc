"""The page for teachers and the forms for reports: what they name is there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import bookpages  # noqa: E402
import make_figures  # noqa: E402
import make_slides  # noqa: E402
import questions  # noqa: E402

PAGE = (ROOT / "book" / "for-teachers.md").read_text(encoding="utf-8")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_table_of_lectures_is_that_of_the_slides():
    given, lines = make_slides.lectures(), bookpages.lecture_table().splitlines()[2:]
    assert len(lines) == len(given) == 8
    for lecture, line in zip(given, lines, strict=True):
        assert line.startswith(f"| {lecture.number} | {lecture.title} | 90 |")
        links = re.findall(r"\(\.\./([^)]+)\)", line)
        assert len(links) == len(lecture.chapters)
        assert all((ROOT / link).exists() for link in links)


def test_the_question_bank_is_written_and_counted_where_the_page_is_built():
    text = bookpages.question_files()
    files = re.findall(r"<\.\./([^>]+)>", text)
    assert [Path(name).name for name in files] == ["questions.gift", "questions.xml"]
    gift = (ROOT / files[0]).read_text(encoding="utf-8")
    count = len(re.findall(r"(?m)^::[^:]+::", gift))
    assert text.startswith(f"{count} questions, {gift.count('$CATEGORY')} chapters")


def test_what_pygiftparser_misreads_is_among_the_questions():
    (script,) = re.findall(r"`(findings/pygiftparser[^`]+)`", PAGE)
    assert (ROOT / script).exists()
    gift = questions.gift(questions.chapters())
    assert re.search(r"\\}[^{}]*\n[=~]", gift), "no option behind an escaped brace"
    assert re.search(r"=%100%-\d", gift), "no negative answer"
    # What it would change without a word has no place here.
    numbers = re.findall(r"=%100%([^:#]+):([^:#]+)#", gift)
    assert [n for pair in numbers for n in pair if "e" in n] == []


def test_commands_folders_and_files_that_the_page_names_are_there():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([a-z-]+)`", PAGE)):
        assert re.search(rf"^{target}:", rules, flags=re.M), target
    for folder in (make_slides.SLIDES, make_figures.BUILD, make_slides.SELECTION):
        assert f"`{folder.relative_to(ROOT).as_posix()}`" in PAGE


def prose(pattern: str = "*") -> str:
    """The Markdown of all chapters, or of those whose names fit."""
    return "\n".join(
        "".join(cell["source"])
        for path in sorted((ROOT / "notebooks").glob(f"{pattern}.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )


def test_the_guide_lists_the_hard_exercise_of_each_chapter_that_has_one():
    guide = (ROOT / "book" / "instructors-guide.md").read_text(encoding="utf-8")
    table = guide.split("## Hard exercises")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| (\d+) \| \*([^*]+)\* \|", table)
    for chapter, title in rows:
        hard = re.findall(r"\{exercise\} (.*) \(hard\)", prose(f"{int(chapter):02d}-*"))
        assert any(title.lower() in name.lower() for name in hard), title
    assert len(rows) == len(re.findall(r"\{exercise\} .* \(hard\)", prose()))


def test_exercises_and_sections_that_the_syllabus_names_are_there():
    text = prose()
    known = re.findall(r"\{exercise\} (.+)|(?m:^)##+ (.+)", text)
    names = " | ".join(a or b for a, b in known).lower()
    table = PAGE.split("## A syllabus")[1].split("\n## ")[0]
    named = re.findall(r"(?<!\*)\*([^*|]+)\*(?!\*)", table)
    assert len(named) > 15
    for name in named:
        assert name.lower() in names, name


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_each_form_asks_for_place_and_reason(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "title", "body"} <= set(form)
    kinds = {"input", "textarea", "dropdown", "checkboxes", "markdown"}
    assert {part["type"] for part in form["body"]} <= kinds
    ids = [part["id"] for part in form["body"]]
    assert ids[0] == "place" and len(ids) == len(set(ids))
    for part in form["body"]:
        assert part["attributes"]["label"]
        required = part.get("validations", {}).get("required", False)
        assert isinstance(required, bool)
    assert form["body"][0]["validations"]["required"]


def test_there_is_a_form_for_numbers_and_one_for_sentences():
    assert [path.stem for path in FORMS] == ["wrong-number", "wrong-sentence"]
