"""The checked parameters that every chapter starts with."""

from __future__ import annotations

from pathlib import Path

import pytest

from drawlib.notebook import RIGHT, Below, Shown, check_parameters, in_mode, injected
from drawlib.results.runs import run_directory

GOOD = {"mode": "read", "seed": 0, "device": "cpu"}


@pytest.mark.parametrize("mode", ["read", "smoke", "full"])
def test_good_parameters_pass(mode):
    check_parameters({**GOOD, "mode": mode, "x": object()})
    check_parameters({**GOOD, "lr": 0.1, "flag": True}, lr=float, flag=bool)
    check_parameters({**GOOD, "lr": 1}, lr=float)  # papermill -p lr 1


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"mode": "Read"}, ValueError, "mode is 'Read'; allowed: read, smoke, full"),
        ({"mode": 3}, TypeError, r"mode is 3 \(int\); allowed: str"),
        ({"seed": -1}, ValueError, r"seed is -1; allowed: 0 to 2\*\*32 - 1"),
        ({"seed": 2**40}, ValueError, r"seed is 1099511627776; .* 0 to 2\*\*32 - 1"),
        ({"epochs": -3}, ValueError, "epochs is -3; allowed: 0 or more"),
        ({"seed": "0"}, TypeError, r"seed is '0' \(str\); allowed: int"),
        ({"seed": True}, TypeError, r"seed is True \(bool\); allowed: int"),
        ({"seed": 1.0}, TypeError, "allowed: int"),
        ({"device": "gpu"}, ValueError, "device is 'gpu'; allowed: auto, cpu"),
        ({"lr": True}, TypeError, r"lr is True \(bool\); allowed: float"),
        ({"lr": "0.1"}, TypeError, r"lr is '0.1' \(str\); allowed: float"),
        ({"lr": None}, TypeError, "allowed: float"),
    ],
)
def test_bad_parameters_get_one_line(changes, kind, told):
    with pytest.raises(kind, match=told) as caught:
        given = {**GOOD, "lr": 0.1, "epochs": 0, **changes}
        check_parameters(given, lr=float, epochs=int)
    assert "\n" not in str(caught.value)


def test_a_missing_parameter_gets_one_line():
    with pytest.raises(TypeError, match="seed is None"):
        check_parameters({"mode": "read", "device": "cpu"})


def test_a_misspelt_injected_name_is_refused():
    cells = ["import x", "mode = 'read'", "# Parameters\nmode = 'smoke'\nsede = 1\n"]
    with pytest.raises(
        ValueError, match="'sede' is no parameter .* allowed: mode, seed"
    ):
        check_parameters({**GOOD, "In": cells})
    check_parameters({**GOOD, "lr": 0.1, "In": ["# Parameters\nlr = 0.1"]}, lr=float)


def test_only_papermills_cells_are_read():
    assert injected(["a = 1", "# Parameters\nb = 2\nc: int = 3\nd, e = 1, 2"]) == ["b"]
    assert injected([]) == []


def test_values_by_mode():
    assert [in_mode(m, read=1, smoke=2, full=3) for m in ("read", "smoke", "full")] == [
        1,
        2,
        3,
    ]


def test_the_run_directory_is_the_clones_or_the_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_directory("04-vae", "full", 2) == Path.cwd() / "runs/04-vae/full-2"
    (tmp_path / "drawlib").mkdir()
    (tmp_path / "drawlib" / "__init__.py").write_text("")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert run_directory("04-vae", "full", 2) == Path.cwd().parent / (
        "runs/04-vae/full-2"
    )


def test_a_table_is_escaped_and_its_numbers_stand_at_the_right():
    table = Shown(
        ("row", "nats", "why"),
        (["A < group"], ["a < b", "−1.50", "<3 of 4"], ["c", "not run", "because"]),
        caption="x & y",
    )
    html = table.to_html()
    assert "a &lt; b" in html and "x &amp; y" in html
    assert "A &lt; group" in html and "&lt;3 of 4" in html
    assert html.count('scope="rowgroup"') == 1 and 'colspan="3"' in html
    assert html.count(f'<td style="{RIGHT}">') == 2  # words that only begin so do not
    assert table.to_markdown().splitlines()[1] == "| --- | ---: | --- |"
    assert repr(table).splitlines()[1] == "A < group"


def test_what_stands_below_a_line_is_folded_behind_its_summary():
    below = Below({"why": "<it>"}, {"seed": "0"}, "where from")
    table = Shown(("row", "nats"), (("a", "1.0"),), below=(below,))
    html = table.to_html()
    assert "<b>why</b> &lt;it&gt;" in html and "<summary>where from</summary>" in html
    assert 'rowspan="2"' in html and "why: <it>; seed: 0" in repr(table)
    assert "<thead" not in Shown((), (("epochs", "150"),)).to_html()
