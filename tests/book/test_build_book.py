"""The book's build: what is executed is what the pages show."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import build_book  # noqa: E402


def test_the_build_finds_every_executed_notebook_and_stops_at_one_that_fails(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(build_book, "CACHE", tmp_path / "cache")
    paths = []
    for name, code in {"good": "print(6 * 7)", "bad": "1 / 0"}.items():
        cell = nbformat.v4.new_code_cell(code)
        cell.metadata = nbformat.from_dict({"tags": ["hide-input"], "x": 1})
        stale = nbformat.v4.new_output("stream", text="41\n")
        cell.outputs, cell.execution_count = [stale], 1
        paths.append(tmp_path / f"{name}.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), paths[-1])
    assert build_book.fill_cache(paths[:1])
    cache = get_cache(tmp_path / "cache")
    _, found = cache.merge_match_into_notebook(nbformat.read(paths[0], as_version=4))
    assert found.cells[0].outputs[0].text == "42\n"
    assert not build_book.fill_cache(paths[1:])
