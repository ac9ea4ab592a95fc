"""The page that shows the library in ten names: its examples run as printed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "book" / "ten-names.md"


def test_every_example_prints_what_the_page_says(mnist_dynamic):
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 20 and not failed


def test_there_are_ten_names_and_each_has_an_example():
    parts = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))[1:]
    assert [int(part.split(".")[0]) for part in parts] == list(range(1, 11))
    assert all(">>> " in part for part in parts)
