"""What the tables of chapter 14 say beyond their numbers, in HTML that is one's own."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from dataclasses import replace

from drawlib import records
from drawlib.results.accounts import (
    accounted,
    candid,
    cards,
    made_of,
    provenance,
    published_groups,
    table_files,
)
from drawlib.results.plan import plan
from drawlib.results.tables import table
from drawlib.results.zoo import published

FOUND = records("mnist-dynamic", "vae-gated")
PLAN = plan()


def test_a_short_training_gets_a_dagger_and_no_verdict():
    row = replace(table("A").rows[2], reached=True)
    assert candid(row, False, PLAN).reached is True
    short = candid(row, True, PLAN)
    assert short.label.endswith(" †") and short.reached is None and short.share is None


def test_a_row_that_was_not_run_says_what_it_would_cost():
    row = table("A", ()).rows[2]
    assert row.ours is None
    assert "epochs are planned" in candid(row, False, PLAN).why


def test_another_protocol_has_no_gap_and_the_row_says_so():
    row = replace(table("A").rows[2], gap=None, published_protocol="elsewhere")
    why = candid(row, False, PLAN).why
    assert "No gap: published for elsewhere" in why


def test_each_row_has_its_numbers_and_below_them_what_is_folded():
    shown = accounted("A", records())
    assert len(shown.below) == len(shown.lines) == len(table("A").rows)
    html = shown.to_html()
    assert html.count("<details") == sum(bool(below.folded) for below in shown.below)
    assert html.count('rowspan="2"') == len(shown.lines)


def test_every_published_number_stands_in_one_group():
    listed = "; ".join(line[2] for line in published_groups().lines)
    keys = [text.split()[0] for text in listed.split("; ")]
    assert sorted(keys) == sorted(published())


def test_published_numbers_of_one_group_have_one_unit_and_it_is_named():
    for _, bound, numbers in published_groups().lines:
        keys = [text.split()[0] for text in numbers.split("; ")]
        (unit,) = {published()[key]["unit"] for key in keys}
        assert ("bits per dimension" in bound) is (unit == "bits per dimension")


def test_a_card_and_its_provenance_come_from_the_record():
    (name, card), *others = cards(FOUND).parts.items()
    texts = dict(card.lines)
    assert not others and name == FOUND[0].name
    assert (
        FOUND[0]["weights"]["sha256"] in texts["file"] and "CC BY" in texts["licence"]
    )
    (heading,) = provenance(FOUND).parts
    assert heading == "mnist-dynamic: 1 records"


def test_what_records_share_is_told_once_above_them_and_what_differs_in_its_line():
    found = records("mnist-dynamic")
    ((_, told),) = provenance(found).parts.items()
    for record, under in zip(found, told.below, strict=True):
        line, its = under.seen, made_of(record)
        for key in ("device", "data"):
            above = f"{key} {its[key]}" in told.caption
            assert (line.get(key) == its[key]) is not above, (record.name, key)
    other = replace(found[0], values={**found[0].values, "device": "a GPU"})
    ((_, told),) = provenance([*found, other]).parts.items()
    assert told.below[-1].seen["device"] == "a GPU" and "a GPU" not in told.caption


def test_the_files_to_take_along_are_the_tables_unrounded():
    files = table_files(FOUND)
    assert files.files["table-A.csv"][1] == table("A", FOUND).to_csv()
    html = files._repr_html_()
    (packed,) = re.findall(r'download="tables.zip" href="data:[^,]*,([^"]*)"', html)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as inside:
        texts = {name: inside.read(name).decode() for name in inside.namelist()}
    assert texts == {name: text for name, (_, text) in files.files.items()}
    assert html == files._repr_html_()
