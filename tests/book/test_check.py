"""`make test`: every test has its stage, and what needs the book comes after it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import check  # noqa: E402


def test_what_needs_the_built_book_comes_after_it_in_the_same_chain():
    (chain,) = [chain for chain in check.PLAN if "book" in chain]
    after = chain[chain.index("book") + 1 :]
    assert {"pdf", "links", "pages", "browser"} <= set(after)
    # The page of downloads is looked at with its link to the PDF.
    assert chain.index("pdf") < min(map(chain.index, ("links", "pages", "browser")))


@pytest.mark.parametrize(
    ("mark", "stage"), [("browser", "browser"), ("built", "pages")]
)
def test_every_file_with_tests_of_a_stage_of_its_own_is_in_that_stage(mark, stage):
    given = [ROOT / word for word in check.STAGES[stage] if word.startswith("tests")]
    with_it = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if f"pytest.mark.{mark}\n" in (text := path.read_text(encoding="utf-8"))
        or f"pytest.mark.{mark}," in text
    ]
    assert with_it
    for path in with_it:
        assert any(path.is_relative_to(each) for each in given), path


def test_stages_asked_for_keep_their_order_and_others_come_last():
    assert check.chosen(check.ALL) == check.PLAN
    assert check.chosen(["unit", "ruff"]) == [["ruff", "unit"]]
    assert check.chosen(["links", "faults", "mypy"]) == [["links"], ["mypy", "faults"]]
    assert check.chosen(["faults"]) == [["faults"]]


def test_the_processes_of_a_stage_compile_a_module_once(monkeypatch, capfd):
    says = "import sys; print('again' if sys.dont_write_bytecode else 'once')"
    monkeypatch.setitem(check.STAGES, "says", [sys.executable, "-c", says])
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert check.run("says")[0] == "passed"
    assert "once" in capfd.readouterr().out


def test_a_stage_that_fails_stops_no_other_and_fails_the_whole(monkeypatch, capfd):
    def says(word: str, code: int) -> list[str]:
        return [sys.executable, "-c", f"print({word!r}); raise SystemExit({code})"]

    monkeypatch.setattr(check, "PLAN", [["bad", "after"], ["beside"]])
    monkeypatch.setattr(check, "ALL", ["bad", "after", "beside"])
    stages = {
        "bad": says("one", 1),
        "after": says("two", 0),
        "beside": says("three", 0),
    }
    monkeypatch.setattr(check, "STAGES", stages)
    for asked, code in (([], 1), (["--only", "after", "beside"], 0)):
        monkeypatch.setattr(sys, "argv", ["check.py", *asked])
        assert check.main() == code
    told = capfd.readouterr().out
    assert told.count("two") == told.count("three") == 2 and told.count("one") == 1
    assert "FAILED" in told
