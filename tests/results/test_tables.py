"""Tables are computed from records, with intervals, gaps and what is missing."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import random
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from drawlib.results import zoo
from drawlib.results.intervals import (
    Difference,
    holm,
    t_quantile,
    t_test,
    verdicts,
)
from drawlib.results.plan import plan, plan_of
from drawlib.results.tables import (
    definitions,
    paired,
    table,
    table_names,
    unpaired,
    weighted,
    write_tables,
)
from drawlib.results.tables_show import COLUMNS, Row, show_goal
from drawlib.results.zoo import Record, published, records

VAE, V1 = "mnist-dynamic/vae-source", "mnist-dynamic/vae-source-V1"


def record(name: str, seed: int, neg_elbo: float, **changes: Any) -> Record:
    """A record of one row with the numbers that tables read."""
    protocol, _, row = name.partition("/")
    part = {"neg_elbo": neg_elbo, "neg_elbo_se": 0.25, "images": 10_000, "samples": 1}
    part |= {"kl": 25.0, "reconstruction": neg_elbo - 25}
    values = {
        "row": row,
        "kind": "vae",
        "protocol": protocol,
        "config": {"image_shape": [1, 28, 28]},
        "train_config": {"epochs": 150, "lr": 1e-3, "seed": seed, "device": "cpu"},
        "seed": seed,
        "parameters": 7,
        "epochs": 150,
        "seconds": 60.0,
        "device": "CPU",
        "commit": "0123456789abcdef",
        "weights": None,
        "bounds": {split: dict(part) for split in ("train", "valid", "test")},
        "importance_weighted": {
            **{"split": "test", "samples": 1000, "images": 1000},
            # On an easy subset: one nat below the split.
            **{"neg_elbo": neg_elbo - 1, "neg_iw": neg_elbo - 6, "neg_iw_se": 0.7},
        },
        "note": "",
    }
    return Record(f"{name}-{seed}", deepcopy(values) | changes)


def test_t_quantile_equals_the_printed_tables_of_student():
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}
    for degrees, value in printed.items():
        assert t_quantile(degrees) == pytest.approx(value, abs=6e-4)
    assert t_quantile(2, 0.99) == pytest.approx(9.925, abs=2e-3)


def test_p_values_equal_the_printed_tables_of_student():
    for degrees, t, p in ((1, 12.706, 0.05), (7, 3.499, 0.01), (4, 4.604, 0.01)):
        assert t_test(t, degrees) == pytest.approx(p, rel=2e-3)
        assert t_test(-t, degrees) == t_test(t, degrees)
    assert Difference.of([1.0, 2.0, 3.0]).p == pytest.approx(0.0742, abs=1e-4)


def test_welch_has_the_degrees_of_welch_and_satterthwaite():
    # By hand: variances 1 and 8 over 3 and 4 seeds.
    found = Difference.welch([1.0, 2.0, 3.0], [0.0, 4.0, 6.0, 6.0])
    parts = 1 / 3, 8 / 4
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    reach = t_quantile(degrees) * math.sqrt(sum(parts))
    assert (found.mean, found.high) == (-2.0, pytest.approx(-2 + reach))
    assert str(found).endswith("3 and 4 seeds")
    assert Difference.welch([1.0], [1.0, 2.0]).p is None


def test_settled_means_settled_among_all_questions_of_the_family():
    ps = [0.0001, 0.003, 0.0041, 0.02, 0.022, 0.6]
    adjusted = holm(ps)
    assert adjusted == pytest.approx([0.0006, 0.015, 0.0164, 0.06, 0.06, 0.6])
    family = {str(p): Difference(1.0, 0.1, 1.9, 3, p) for p in ps}
    told = list(verdicts(family | {"one": Difference.of([2.0]), "none": None}).values())
    assert told == [
        *["settled"] * 3,
        *["suggestive"] * 2,
        "open",
        "one seed",
        "not measured",
    ]
    # Under the null, one family of twelve in twenty has a wrong "settled", not more.
    g = random.Random(0)
    wrong = sum(
        "settled"
        in verdicts(
            {
                str(k): Difference.of([g.gauss(0, 1) for _ in range(4)])
                for k in range(12)
            }
        ).values()
        for _ in range(400)
    )
    assert wrong <= 35


def test_difference_is_mean_and_t_interval_over_seeds():
    found = Difference.of([1.0, 2.0, 3.0])
    reach = 4.3027 / math.sqrt(3)
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.low == pytest.approx(2 - reach, abs=1e-3)
    assert found.high == pytest.approx(2 + reach, abs=1e-3)
    assert str(Difference.of([-1.5])) == "−1.50, one seed"
    half = found.over(-4.0)
    assert half.mean == -0.5 and half.low <= half.mean <= half.high
    assert found.over(2.0).percent() == "100 % [−24, 224]"


def test_seeds_give_the_mean_and_their_own_spread():
    row = table("A", [record(VAE, s, 90.0 + s) for s in (0, 1, 2)]).rows[2]
    assert (row.label, row.split, row.seeds) == ("VAE", "test", (0, 1, 2))
    assert (row.ours, row.spread, row.spread_of) == (91.0, 1.0, "seeds")
    assert row.published == 123.81 and row.gap == pytest.approx(91 - 123.81)
    assert (row.goal, row.reached, row.state) == (89, False, "finished")
    assert (row.weighted, row.weighted_K, row.weighted_images) == (86.0, 1000, 1000)
    assert (row.images_se, row.training_images) == (0.25, 10_000)
    assert (row.bound, row.K, row.images) == ("−ELBO", 1, 10_000)
    # A bound that takes long is measured on some of the images that it was trained on.
    some = table("A", [record(VAE, 0, 90.0, training_images=50_000)]).rows[2]
    assert (some.images, some.training_images) == (10_000, 50_000)
    train = table("A", [record(VAE, 0, 90.0)]).rows[0]
    assert (train.split, train.published, train.published_kl) == (
        "train",
        121.88,
        25.96,
    )
    assert train.goal is None and train.weighted is None


def test_one_seed_has_the_standard_error_over_images_and_says_so():
    row = table("A", [record(VAE, 1, 88.0)]).rows[2]
    assert (row.spread, row.spread_of, row.reached) == (0.25, "images", True)
    assert "88.00 ± 0.25" in table("A", [record(VAE, 1, 88.0)]).to_markdown()
    assert "1 (± over images)" in table("A", [record(VAE, 1, 88.0)]).to_markdown()


def test_rows_without_a_record_are_there_and_short_ones_are_unfinished():
    rows = {row.name: row for row in table("A", []).rows if row.split == "test"}
    assert rows[VAE].state == "not run" and rows[VAE].ours is None
    assert rows[VAE].published == 123.81
    short = record(VAE, 0, 95.0, epochs=36)
    row = table("A", [short]).rows[2]
    assert row.state == "36 of 150 epochs"
    assert "36 epochs (36 of 150 epochs)" in table("A", [short]).to_markdown()


def test_a_row_is_as_long_as_its_shortest_seed_and_averages_equal_bounds_alone():
    found = [record(VAE, 0, 90.0), record(VAE, 1, 90.0, epochs=36)]
    row = table("A", found).rows[2]
    assert (row.seeds, row.epochs, row.state) == ((0, 1), 36, "36 of 150 epochs")
    assert row.weighted == 85.0
    found[1].values["importance_weighted"]["samples"] = 50
    assert table("A", found).rows[2].weighted is None


def test_a_weighted_bound_is_the_mean_of_the_seeds_that_have_one_and_so_is_its_error():
    found = [record(VAE, seed, 90.0 + seed) for seed in range(3)]
    found[0].values["importance_weighted"] = None
    row = table("A", found).rows[2]
    assert row.weighted == pytest.approx(86.5)
    assert (row.weighted_se, row.weighted_split_se) == (None, None)
    assert "86.50 ± ? (K 1,000 on 1,000 images)" in table("A", found).to_markdown()
    for seed, error in ((1, 0.2), (2, 0.3)):
        part = found[seed].values["importance_weighted"]
        part |= {"whole_neg_iw": 86.0 + seed, "whole_neg_iw_se": error}
        part |= {"whole_neg_iw_split_se": 0.06}
    row = table("A", found).rows[2]
    assert row.weighted == pytest.approx(87.5)
    assert row.weighted_se == pytest.approx(0.25)
    assert row.weighted_split_se == pytest.approx(0.06)


def test_a_weighted_row_is_that_of_the_split_and_not_of_a_lucky_subset():
    name = "mnist-dynamic/ladder-paper"
    old = record(name, 0, 87.0)
    row = table("B-weighted", [old]).rows[0]
    # −ELBO(all) − [−ELBO(subset) + L_K(subset)] = 87 − (86 − 81)
    assert (row.ours, row.gap) == (82.0, pytest.approx(82 - row.published))
    assert (row.images_se, row.split_se, row.spread) == (None, None, None)
    part = old.values["importance_weighted"]
    assert weighted(old)["neg_iw"] == part["neg_iw"] == 81.0
    new = record(name, 0, 87.0)
    new.values["importance_weighted"] |= {
        "whole_neg_iw": 82.5,
        "whole_neg_iw_se": 0.24,
        "whole_neg_iw_split_se": 0.07,
    }
    row = table("B-weighted", [new]).rows[0]
    assert (row.ours, row.images_se, row.split_se) == (82.5, 0.24, 0.07)
    heads, (cells, *_) = table("B-weighted", [new]).cells()
    shown = dict(zip(heads, cells, strict=True))
    assert shown["± this split"] == "0.07" and shown["± images in general"] == "0.24"
    every = record(name, 0, 87.0)
    every.values["importance_weighted"]["images"] = 10_000
    assert table("B-weighted", [every]).rows[0].ours == 81.0


def test_every_shipped_weighted_record_has_the_difference_of_its_own_numbers():
    for one in records():
        found = one["importance_weighted"] and weighted(one)
        if found and found["images"] < one["bounds"]["test"]["images"]:
            luck = found["neg_elbo"] - one["bounds"]["test"]["neg_elbo"]
            whole = found["neg_iw"] - luck
            assert found["whole_neg_iw"] == pytest.approx(whole, rel=1e-8), one.name


def test_trainings_of_another_recipe_are_never_averaged():
    other = {"epochs": 6, "lr": 2e-3, "seed": 0, "device": "cpu"}
    odd = record(VAE, 0, 50.0, train_config=other, epochs=6)
    row = table("A", [odd, record(VAE, 1, 90.0), record(VAE, 2, 92.0)]).rows[2]
    assert (row.seeds, row.ours) == ((1, 2), 91.0)
    assert row.note == "Trained otherwise and left out: seed 0 (6 epochs)."
    assert paired([odd, record(V1, 0, 120.0)], V1, VAE) is None


def test_a_record_that_is_older_than_a_field_had_its_default():
    """With a ladder's depth written in one of them, both are of one recipe."""
    row = "mnist-dynamic/ladder-source"
    old, new = (record(row, s, 89.0 + s, kind="ladder") for s in (0, 1))
    new["config"]["depth"] = 1
    (found,) = (
        r for r in table("A", [old, new]).rows if r.name == row and r.split == "test"
    )
    assert (found.seeds, found.note) == ((0, 1), "")
    new["config"]["depth"] = 2
    (found,) = (
        r for r in table("A", [old, new]).rows if r.name == row and r.split == "test"
    )
    assert len(found.seeds) == 1 and "left out" in found.note


def test_unpaired_takes_all_seeds_of_one_recipe_and_no_other():
    found = [record(VAE, s, 90.0 + s) for s in (0, 1, 2)]
    found += [record(V1, s, 107.0 + 2 * s) for s in (5, 6)]
    other = {"epochs": 6, "lr": 2e-3, "seed": 3, "device": "cpu"}
    difference = unpaired([*found, record(VAE, 3, 10.0, train_config=other)], V1, VAE)
    assert difference == Difference.welch([117.0, 119.0], [90.0, 91.0, 92.0])
    assert paired(found, V1, VAE) is None
    assert (
        unpaired([record(V1, 0, 1.0, train_config=other), *found[:3]], V1, VAE) is None
    )


def test_paired_differences_and_the_share_of_the_gap():
    found = [record(VAE, s, 90.0 + s) for s in (0, 1, 2, 5)]
    found += [record(V1, s, 107.0 + 2 * s) for s in (0, 1, 2)]
    difference = paired(found, V1, VAE)
    assert difference is not None and (difference.mean, difference.seeds) == (18.0, 3)
    row = next(r for r in table("A-mistakes", found).rows if r.name == V1)
    assert row.difference == difference and row.compared_with == VAE
    gap = 123.81 - (90 + 91 + 92 + 95) / 4
    assert row.share is not None and row.share.mean == pytest.approx(18 / gap)
    text = table("A-mistakes", found).to_markdown()
    assert "+18.00 [+15.52, +20.48], 3 seeds; from vae-source" in text


def test_what_is_compared_may_be_a_part_of_the_recipe():
    short = "mnist-dynamic/ladder-source-short"
    name, how = "mnist-dynamic/ladder-source-no-warmup", {"epochs": 150, "lr": 1e-3}
    config = {**how, "seed": 0, "device": "cpu"}
    found = [record(short, 0, 90.0, train_config={**config, "kl_warmup": 10})]
    found += [record(name, 0, 91.0, train_config={**config, "kl_warmup": 0})]
    assert paired(found, name, short) is None
    row = table("A-recipe", found).rows[1]
    assert row.difference is not None and row.difference.mean == 1.0
    found[1].values["train_config"]["lr"] = 2e-3
    assert table("A-recipe", found).rows[1].difference is None


@pytest.mark.parametrize(
    ("ours", "images_se", "verdict"),
    [
        (4.0, 0.05, "reached"),
        (4.0, 0.2, "open"),
        (4.5, 0.2, "open"),
        (4.7, 0.2, "missed"),
        (4.5, 0.1, "missed"),
        (4.5, None, "missed"),
    ],
)
def test_a_goal_within_two_standard_errors_is_open(ours, images_se, verdict):
    row = Row("D", "a", "n", "p", "test", "error", goal=4.2, images_se=images_se)
    row = replace(row, ours=ours, reached=ours <= 4.2)
    assert row.verdict() == verdict
    assert show_goal(row) == f"≤ 4.20, {verdict}"
    # A row with a dagger has no verdict at all.
    assert show_goal(replace(row, reached=None)) == "≤ 4.20"


def test_every_table_has_the_same_rule_of_verdicts():
    """From the records, by another way: their own numbers and errors."""
    judged = [r for n in table_names() for r in table(n).rows if r.reached is not None]
    assert len(judged) > 10
    for row in judged:
        away = (row.ours - row.goal) / (row.images_se or 1e-9)
        expected = "missed" if away > 2 else "reached" if away < -2 else "open"
        assert show_goal(row).endswith(f", {expected}"), row.label


def test_another_protocol_or_bound_gives_no_gap():
    classifier = record("cluttered-mnist/classifier", 0, 0.0)
    classifier.values["bounds"]["test"] = {"error": 4.0, "error_se": 0.2, "images": 9}
    classifier.values["importance_weighted"] = None
    row = next(r for r in table("D", [classifier]).rows if "8 gl" in r.label)
    assert (row.ours, row.published, row.gap, row.reached) == (4.0, 3.36, None, False)
    assert "from memory" in table("D", [classifier]).to_markdown()


def test_a_row_with_fewer_epochs_than_its_neighbour_is_marked():
    long, short = (
        f"mnist-fixed/draw-attention-t64-{kind}" for kind in ("muon", "anytime")
    )
    found = [record(long, 0, 84.0, epochs=36), record(short, 0, 95.0, epochs=20)]
    (row,) = (row for row in table("G", found).rows if row.name == short)
    assert row.peer_epochs == 36
    assert "20 epochs ¶ (36 beside it)" in table("G", found).to_markdown()
    found[1] = record(short, 0, 95.0, epochs=36)
    (row,) = (row for row in table("G", found).rows if row.name == short)
    assert row.peer_epochs is None


def test_a_row_that_went_on_from_another_training_counts_both():
    began = {"name": "vae-source-0", "epochs": 2400, "weights_sha256": "0"}
    row = table("A", [record(VAE, 0, 91.0, began=began)]).rows[2]
    assert (row.epochs_before, row.epochs, row.all_epochs()) == (
        2400,
        150,
        "2,400 + 150",
    )
    assert COLUMNS["budget"](row).startswith("2,400 + 150 epochs")
    alone = table("A", [record(VAE, 0, 91.0)]).rows[2]
    assert alone.all_epochs() == "150"


def test_colour_is_told_in_bits_per_dimension_and_in_nats():
    name = "cifar10-10k/draw-cifar-t16"
    nats = 4.0 * math.log(2) * 3072
    cifar = record(name, 0, nats, config={"image_shape": [3, 32, 32]})
    row = next(r for r in table("E", [cifar]).rows if r.name == name)
    assert row.ours == pytest.approx(4.0) and "bits" in row.bound
    assert row.nats == pytest.approx(nats)
    line = table("E", [cifar]).to_markdown().splitlines()[-1]
    assert "| 4.00" in line and f"| {nats:.2f} |" in line
    assert "in nats" not in table("B", []).to_markdown()


def test_html_is_escaped_and_has_headings_for_screen_readers():
    found = [record(VAE, 0, 90.0, note="<b>a & b</b>")]
    text = table("A", found).to_html()
    assert "&lt;b&gt;a &amp; b" in text and "<b>" not in text
    assert '<th scope="col"' in text and '<th scope="row">VAE</th>' in text
    assert text.startswith('<table class="table"><caption>Table A. ')
    assert table("A", found)._repr_html_() == text


def test_csv_holds_every_field_unrounded():
    found = [record(VAE, 0, 90.123456789)]
    lines = list(csv.DictReader(io.StringIO(table("A", found).to_csv())))
    assert lines[2]["ours"] == "90.123456789" and lines[2]["seeds"] == "0"
    assert lines[5]["ours"] == "" and lines[5]["state"] == "not run"


def test_all_tables_are_written_from_what_ships(tmp_path):
    paths = write_tables(tmp_path)
    assert len(paths) == 3 * len(table_names())
    assert all(path.read_text(encoding="utf-8").strip() for path in paths)


def test_a_disk_that_is_full_leaves_the_table_of_before(tmp_path, monkeypatch):
    (first := tmp_path / "table-A.csv").write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left.*table-A.csv"):
        write_tables(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert first.read_text() == "before"


def test_an_unknown_table_gets_one_line():
    with pytest.raises(ValueError, match="'Z'; allowed: A, A-mistakes, A-recipe"):
        table("Z")


# The data behind the tables


def test_each_row_is_planned_and_each_published_key_exists():
    for entry in definitions().values():
        for row in entry["rows"]:
            assert row["name"] is None or row["name"] in plan()
            assert row.get("compare") is None or row["compare"] in plan()
            assert row.get("published") is None or row["published"] in published()
            assert row["name"] or row.get("published")


def test_the_plan_is_strict_json_with_a_model_for_each_run():
    content = json.loads((zoo.ZOO / "plan.json").read_text(encoding="utf-8"))
    assert set(content) == {"recipes", "runs"}
    assert {entry["recipe"] for entry in content["runs"].values()} == set(
        content["recipes"]
    )
    for name, planned in plan().items():
        assert planned.name == name and planned.seconds_an_epoch > 0
        assert not (planned.ship and planned.mistakes)
        assert planned.published is None or planned.published in published()
        if planned.protocol != "cluttered-mnist":
            small = planned.small()
            assert type(small.model) is type(planned.model)
            assert (small.train.epochs, small.mistakes) == (1, planned.mistakes)


def test_one_run_is_named_by_protocol_and_row():
    assert plan_of(VAE).row == "vae-source" and plan_of(VAE).protocol == "mnist-dynamic"
    with pytest.raises(ValueError, match="is not planned; allowed: mnist-dynamic/vae"):
        plan_of("vae-source")


def test_a_published_row_shows_its_own_split_and_bound_not_ours():
    heads, lines = table("B-published", []).cells()
    glas = dict(zip(heads, next(li for li in lines if li[0] == "GLAS"), strict=True))
    assert glas["split"] == "unverified" and glas["bound"] == "−ELBO, K 1"
    nade = dict(zip(heads, next(li for li in lines if li[0] == "NADE"), strict=True))
    assert nade["split"] == "test" and nade["bound"] == "NLL"


def test_records_without_finite_bounds_leave_a_table_whole():
    """As ``records`` reads them: None in the place of what is no number."""
    found = []
    for name in table_names():
        for line in definitions()[name]["rows"]:
            if line["name"]:
                none = record(line["name"], 0, 90.0)
                none.values["importance_weighted"] |= {
                    "neg_iw": None,
                    "neg_iw_se": None,
                }
                for part in none.values["bounds"].values():
                    part |= dict.fromkeys(("neg_elbo", "kl", "reconstruction"))
                found.append(none)
    for name in table_names():
        shown = table(name, found)
        assert all(row.ours is None for row in shown.rows)
        assert shown.to_html() and shown.to_markdown() and shown.to_csv()
