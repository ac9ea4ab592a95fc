"""The benchmark's row of the live page: what is timed, and when there is nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from drawlib import DRAW, DRAWConfig
from drawlib.results.bench import bench_table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import page  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser


@pytest.fixture
def tiny() -> DRAW:
    torch.manual_seed(0)
    return DRAW(DRAWConfig.preset("tiny", attention="gaussian")).eval()


@in_a_browser
@pytest.mark.parametrize("slow", [1, 2], ids=["goal met", "goal missed"])
def test_the_page_with_vectors_and_without_take_their_runs_in_turn(
    slow, browser, tiny, monkeypatch
):
    order = []

    def timed(opened, runs):
        order.append((opened.page.evaluate("typeof WebAssembly"), runs))
        return slow * (0.02 if order[-1][0] == "object" else 0.05), 0.01

    monkeypatch.setattr(page.Opened, "timed", timed)
    row = page.measured(browser, tiny, turns=3, runs=2)
    assert order == [("object", 2), ("undefined", 2)] * 3
    assert row["measured"] == pytest.approx(20 * slow)
    assert row["rivals"]["plain loops"]["seconds"] == pytest.approx(0.05 * slow)
    told = "10.0 ms of them are processor time; plain loops take 10.0 ms of it"
    assert row.get("why") == (told if slow == 2 else None)
    (cells,) = bench_table({"works": [row]})
    assert (cells["goal"], cells["met"]) == ("25 ms", "yes" if slow == 1 else "no")


@in_a_browser
def test_two_ways_that_compute_different_numbers_are_not_timed(
    browser, tiny, monkeypatch
):
    other = "const tanh = Math.tanh; Math.tanh = x => 1.01 * tanh(x)"
    monkeypatch.setitem(page.WAYS, "plain loops", other)
    with pytest.raises(AssertionError, match="the two ways are .* nats apart"):
        page.measured(browser, tiny, turns=1, runs=1)


def test_where_there_is_no_browser_the_row_says_so(monkeypatch):
    for where, why in (
        ("find_spec", "no Playwright"),
        ("find_chromium", "no Chromium"),
    ):
        monkeypatch.setattr(page, "find_chromium", lambda: "chromium")
        monkeypatch.setattr(page, where, lambda *_: None)
        (row,) = page.page_steps(1)
        assert row["measured"] is None and row["why"].startswith(why)
        (cells,) = bench_table({"works": [row]})
        assert cells["measured"] == "not measured" and why in cells["why"]


@in_a_browser
def test_the_books_first_model_is_measured_in_a_browser_of_its_own(browser):
    """In a process of its own, since one has one Playwright."""
    program = "import json, benchmarks.page as p; print(json.dumps(p.page_steps(1)))"
    command = [sys.executable, "-c", program]
    told = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    (row,) = json.loads(told)
    assert row["measured"] > 0 and row["browser"] == browser.version
    assert all(way["cpu_seconds"] > 0 for way in row["rivals"].values())
