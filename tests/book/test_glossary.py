"""The glossary: one entry a term, in order; each link from a chapter finds its own."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"(?m)^(\S.*)\n  \S", TEXT.split(":::{glossary}\n")[1])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def plain(term: str) -> str:
    """Small letters, without marks: *$n$-grams* and n-gram are alike."""
    return re.sub(r"[^\w ]", "", term.lower().replace("–", ""))


def test_each_term_stands_once_and_in_alphabetical_order():
    names = [plain(term) for term in TERMS]
    assert len(names) > 100
    assert names == sorted(names)
    assert len(set(names)) == len(names)


def linked(path: Path) -> list[str]:
    """The words of a chapter that lead to the glossary."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")
    return re.findall(r"\[([^\]]+)\]\(\.\./book/glossary\.md\)", text)


def test_each_link_to_the_glossary_names_a_term_that_it_has_and_once_a_chapter():
    names = [plain(term) for term in TERMS]
    for path in NOTEBOOKS:
        found = [plain(" ".join(words.split())).rstrip("s") for words in linked(path)]
        for words in found:
            assert any(n.startswith(words) for n in names), f"{path.name}: {words}"
        assert len(set(found)) == len(found), path.name


def test_the_last_chapters_lead_to_the_glossary_too():
    for path in NOTEBOOKS[15:]:
        assert len(linked(path)) >= 5, path.name
