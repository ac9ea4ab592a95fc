"""The course in one table, in the library and in the README."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from drawlib.results.glance import Glance, Line, glance, is_short
from drawlib.results.tables_show import Row
from drawlib.results.zoo import Record, records

ROOT = Path(__file__).resolve().parents[2]
ROW = Row("A", "VAE", "mnist-dynamic/vae", "mnist-dynamic", "test", "−ELBO")
LONG = replace(
    ROW,
    ours=88.5,
    images_se=0.2,
    published=90.0,
    gap=-1.5,
    goal=89.0,
    reached=True,
    epochs=1500,
    state="finished",
)


def test_a_line_has_its_verdict_and_a_short_training_has_a_dagger_instead():
    cells = ["VAE", "88.50", "0.20", "90.00", "−1.50", "≤ 89.00, reached", "1,500"]
    assert Line(LONG, short=False).cells() == cells
    cut = replace(LONG, state="15 of 1500 epochs")
    cells = ["VAE †", "88.50", "0.20", "90.00", "−1.50", "≤ 89.00", "15 of 1500"]
    assert Line(cut, short=True).cells() == cells
    quoted = replace(LONG, from_memory=True, published_split="unverified")
    assert Line(quoted, short=False).cells()[3] == "90.00 ‡ §"
    assert Line(ROW, short=False).cells() == ["VAE", "not run", *[""] * 5]


def test_each_table_has_one_heading_in_markdown_and_in_html():
    other = replace(LONG, table="B", protocol="mnist-fixed", label="a < b")
    shown = Glance(tuple(Line(row, False) for row in (ROW, LONG, other)))
    markdown = shown.to_markdown().splitlines()
    lines = [line for line in markdown if "|" in line]
    assert len(lines) == 2 + 2 + 3
    assert len({line.count("|") for line in lines}) == 1
    assert (
        sum(line.startswith("| **A: mnist-dynamic, −ELBO**") for line in markdown) == 1
    )
    html = shown.to_html()
    assert html.count('scope="rowgroup"') == 2 and "a &lt; b" in html
    assert html.count("<td") == 3 * 6


def test_as_text_it_is_the_table_and_not_its_fields():
    text = repr(Glance((Line(LONG, False),)))
    assert "≤ 89.00, reached" in text and "images_se" not in text


def test_a_weighted_line_names_k_images_and_both_errors():
    row = replace(LONG, bound="importance-weighted", K=5000, images=1000)
    cells = Line(replace(row, split_se=0.07), False).cells()
    assert cells[0] == "VAE (K 5,000 on 1,000 images)" and cells[2] == "0.20 (0.07)"
    assert Line(replace(row, images_se=None), False).cells()[2] == "? (?)"


def test_a_bound_of_a_part_of_the_test_images_says_of_how_many():
    row = replace(LONG, images=1000)
    assert Line(row, False, part=True).cells()[0] == "VAE (on 1,000 images)"
    ends = {line.row.name: line.cells()[0] for line in glance().lines}
    assert ends["omniglot-ours/diffusion"].endswith("(on 1,000 images)")
    assert ends["omniglot-ours/conv-draw"] == "ConvDRAW, T 8"


def test_a_line_with_fewer_epochs_than_its_neighbour_is_marked():
    fewer = Line(replace(LONG, peer_epochs=3000), False)
    assert fewer.cells()[-1] == "1,500 ¶"
    assert "¶ fewer epochs" in Glance((fewer,)).marks()


def test_only_the_signs_that_lines_have_are_explained():
    plain = Glance((Line(LONG, short=False),))
    assert plain.marks().endswith("in brackets.")
    assert Glance((Line(LONG, short=True),)).marks().endswith("no verdict.")


def test_the_best_feed_forward_row_of_omniglot_stands_beside_the_recurrent_ones():
    names = {line.row.name for line in glance().lines if line.row.table == "C"}
    assert {"omniglot-ours/ladder-paper", "omniglot-ours/draw-attention-t16"} <= names


@pytest.mark.parametrize(
    ("epochs", "note", "short"),
    [
        (150, "", False),
        (149, "", True),
        (150, "An ablation of 150 epochs.", True),
        (150, "Provisional: a short training.", True),
    ],
)
def test_a_training_is_short_by_its_plan_or_by_its_note(epochs, note, short):
    values = {"protocol": "mnist-dynamic", "row": "vae-source", "note": note}
    record = Record("mnist-dynamic/vae-source-0", {**values, "epochs": epochs})
    assert is_short(record) is short


def test_glance_holds_every_test_row_that_others_or_the_goals_speak_of():
    lines = glance().lines
    tables = {"A", "B", "B-weighted", "C", "D", "F", "G"}
    assert {line.row.table for line in lines} == tables
    assert all(line.row.split == "test" and line.row.name for line in lines)
    assert all(line.row.goal or line.row.published or line.row.beside for line in lines)
    ours = {line.row.name: line for line in lines if line.row.table == "A"}
    found = records("mnist-dynamic", "vae-source")
    mean = sum(r["bounds"]["test"]["neg_elbo"] for r in found) / len(found)
    assert abs(ours["mnist-dynamic/vae-source"].row.ours - mean) < 1e-9


def test_readme_shows_the_results_of_the_records():
    path = ROOT / "tools" / "update_readme.py"
    spec = importlib.util.spec_from_file_location("update_readme", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool.updated(text) == text, "run tools/update_readme.py"
    changed = text.replace("| VAE | ", "| VAE | 1", 1)
    assert changed != text and tool.updated(changed) == text
    with pytest.raises(ValueError, match="0 times '<!-- results"):
        tool.updated(text.replace(tool.MARKS[0], ""))
