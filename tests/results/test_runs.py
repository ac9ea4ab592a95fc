"""From a configuration to a record: train, go on, publish."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from toy_runs import (
    TOY,
    assert_same_bits,
    toy_config,
    toy_data,
    use_toy_data,
    weights,
)

from drawlib.evaluation import evaluate
from drawlib.mistakes.planting import planted
from drawlib.results import plan, runs, zoo
from drawlib.results.runs import Run, load_run, publish, read_run, train_run
from drawlib.results.zoo import (
    ZooError,
    load_pretrained,
    load_weights,
    nine_digits,
    records,
)
from drawlib.training.runstate import TrainingStopped
from drawlib.training.schedule import TrainConfig


@pytest.fixture
def toy(monkeypatch):
    use_toy_data(monkeypatch.setattr)


@pytest.fixture
def done(tmp_path, toy):
    """A finished run."""
    run = Run(TOY, "mnist-dynamic", tmp_path / "run", toy_config())
    train_run(run, progress=False)
    return run


def test_a_run_survives_json(done):
    assert read_run(done.run_dir) == done
    found, model = load_run(done.run_dir)
    assert found == done and model.config == TOY and not model.training


def test_training_again_changes_nothing(done):
    before = load_weights(done.run_dir / "model.safetensors")
    model, data, history = train_run(done, progress=False)
    assert_same_bits(weights(model), before)
    assert len(history.rows) == 3 and data.name == "mnist-dynamic"


def test_the_seed_draws_the_initial_weights(tmp_path, toy):
    models = []
    for k, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + k)  # whatever was drawn before
        config = toy_config(seed=seed, epochs=1, lr=0.0)
        run = Run(TOY, "mnist-dynamic", tmp_path / str(k), config)
        models.append(weights(train_run(run, progress=False)[0]))
    assert_same_bits(models[0], models[1])
    assert not torch.equal(models[0]["output.weight"], models[2]["output.weight"])


def test_a_run_leaves_the_callers_random_numbers_as_it_found_them(tmp_path, toy):
    """torch.manual_seed(0), a training, a draw: the draw is that of the seed."""
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    run = Run(TOY, "mnist-dynamic", tmp_path / "run", toy_config(epochs=1))
    train_run(run, progress=False)
    assert torch.equal(torch.rand(3), wanted)


def test_weights_are_loaded_under_any_default_device(done):
    """Under meta, which stands for a GPU, they were told to be there and were not."""
    with torch.device("meta"):
        _, model = load_run(done.run_dir)
        shipped = load_pretrained("mnist-dynamic/vae-source-0")
        again, _, _ = train_run(
            Run(TOY, "mnist-dynamic", done.run_dir, toy_config()), progress=False
        )
    for each in (model, shipped, again):
        assert {p.device.type for p in each.parameters()} == {"cpu"}
        assert all(p.isfinite().all() for p in each.parameters())


def test_publish_writes_what_evaluate_finds(done, tmp_path):
    path = publish(
        done.run_dir,
        "vae-tiny",
        iw_samples=7,
        iw_images=10,
        published="vae-source",
        note="a toy",
        root=tmp_path / "zoo",
        progress=False,
    )
    assert path == tmp_path / "zoo" / "mnist-dynamic" / "vae-tiny-0.json"
    record = records(root=tmp_path / "zoo")[0]
    _, model = load_run(done.run_dir)
    for split in ("train", "valid", "test"):
        found = evaluate(model, toy_data(), split, samples=1)
        assert record["bounds"][split] == nine_digits(found.to_dict())
    weighted = record["importance_weighted"]
    assert (weighted["samples"], weighted["images"]) == (7, 10)
    assert weighted["whole_neg_elbo"] == record["bounds"]["test"]["neg_elbo"]
    luck = weighted["neg_elbo"] - weighted["whole_neg_elbo"]
    assert weighted["whole_neg_iw"] == pytest.approx(weighted["neg_iw"] - luck)
    assert weighted["whole_neg_iw_split_se"] > 0
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert (record["epochs"], record["steps"], record["seed"]) == (3, 12, 0)
    assert (record["skipped_steps"], record["weights"]) == (0, None)
    assert record["data_sha256"] == dict(toy_data().sha256)
    assert record["published"] == "vae-source" and record["note"] == "a toy"
    assert TrainConfig.from_dict(record["train_config"]) == done.train
    assert record["curve"][-1]["lr"] > 0  # the last rate is small, not zero
    json.dumps(record.values, allow_nan=False)


def test_a_bound_that_takes_long_is_measured_on_some_images_of_each_split(
    done, tmp_path
):
    root = tmp_path / "zoo"
    publish(done.run_dir, "few", iw_samples=3, iw_images=5, images=12, root=root)
    record, (_, model) = records(root=root)[0], load_run(done.run_dir)
    for split in ("train", "valid", "test"):
        found = evaluate(model, toy_data(), split, samples=1, images=12)
        assert record["bounds"][split] == nine_digits(found.to_dict())
        assert record["bounds"][split]["images"] == 12
    assert "whole_neg_iw" not in record["importance_weighted"]
    assert record["training_images"] == len(toy_data().train)


def test_shipped_numbers_are_those_of_the_rounded_weights(tmp_path, toy, monkeypatch):
    wide = type(TOY).from_dict({**TOY.to_dict(), "encoder": (200,), "decoder": (200,)})
    run = Run(wide, "mnist-dynamic", tmp_path / "run", toy_config(epochs=1))
    exact, data, _ = train_run(run, progress=False)
    zoo_root = tmp_path / "zoo"
    publish(run.run_dir, "wide", iw_samples=2, ship=True, root=zoo_root, progress=False)
    record = records(root=zoo_root)[0]
    shipped = load_pretrained(record.name, root=zoo_root)
    assert not torch.equal(shipped.output.weight, exact.output.weight)
    found = evaluate(shipped, data, "valid", samples=1)
    assert record["bounds"]["valid"] == nine_digits(found.to_dict())
    change = found.neg_elbo - evaluate(exact, data, "valid", samples=1).neg_elbo
    assert record["weights"]["rounding_nats"] == pytest.approx(change)
    assert record["importance_weighted"]["images"] == 20  # no more than there are
    file = zoo_root / "mnist-dynamic" / record["weights"]["file"]
    assert record["weights"]["bytes"] == file.stat().st_size


# Errors


def test_a_directory_without_a_finished_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no whole JSON file"),
        ("{}", "lacks data, kind, model, train, weights"),
        ("3", "holds 3, not what describes a run"),
    ],
)
def test_a_damaged_run_json_gets_one_line(tmp_path, content, told):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=told) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("data", None, "data is None; allowed: text"),
        ("data", {"x": 1}, r"data is \{'x': 1\}; allowed: text"),
        ("kind", [], r"kind is \[\]; allowed: text"),
        ("kind", "zz", "model is 'zz'; allowed: vae"),
        ("model", [], r"model is \[\]; allowed: a dict"),
        ("train", "zz", "train is 'zz'; allowed: a dict"),
        ("train", {"x": 1}, "TrainConfig has no field x"),
        ("weights_sha256", None, "weights_sha256 is None; allowed: text"),
        ("mistakes", 3, "mistakes is 3; allowed: a list"),
        ("start", 3, "start is 3; allowed: text"),
        ("began", [], r"began is \[\]; allowed: a dict or null"),
        ("data_content", 3, "data_content is 3; allowed: text or null"),
        ("fragments", "8", "fragments is '8'; allowed: a whole number"),
        ("augment", True, "holds augment; allowed: schema, kind, model, data, train"),
    ],
)
def test_a_field_of_run_json_that_is_another_thing_is_named(done, name, value, told):
    path = done.run_dir / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, name: value}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"run.json.*{told}"):
        load_run(done.run_dir)


def test_run_json_has_a_schema_and_a_newer_one_is_refused_in_one_line(done):
    path = done.run_dir / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["schema"] == "drawlib-run-1"
    for schema in ("drawlib-run-2", 1, None):
        # A newer file may name its parts in another way.
        path.write_text(json.dumps({"schema": schema, "parts": []}), encoding="utf-8")
        told = f"has the schema {schema!r}; allowed: 'drawlib-run-1', or none in an old"
        with pytest.raises(ValueError, match=told) as caught:
            load_run(done.run_dir)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", [[], ["mistakes", "start"]])
def test_run_json_of_an_older_version_is_read(done, lacking):
    """It had no schema; before that, neither mistakes nor a start nor a content."""
    path = done.run_dir / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("schema", *lacking, *(["data_content", "began"] if lacking else [])):
        del values[name]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert load_run(done.run_dir)[0] == done


def test_a_lost_field_of_the_model_is_no_default(done):
    path = done.run_dir / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["model"]["z"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"run.json: \w+ lacks z"):
        load_run(done.run_dir)


def test_weights_that_are_drawn_by_class_are_asked_for(done, tmp_path, monkeypatch):
    asked = []
    load = runs.load_data
    monkeypatch.setattr(
        runs, "load_data", lambda name, labels: asked.append(labels) or load(name)
    )
    for labels in (False, True):
        publish(done.run_dir, "toy", iw_samples=2, iw_images=4, root=tmp_path,
                labels=labels, progress=False)  # fmt: skip
    assert asked == [False, True]


def test_altered_weights_of_a_run_are_refused(done):
    path = done.run_dir / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ZooError, match="has sha256"):
        load_run(done.run_dir)
    path.unlink()
    with pytest.raises(ZooError, match="are missing"):
        publish(done.run_dir, "vae-tiny")


def test_an_unknown_published_number_is_refused_before_the_work(done):
    with pytest.raises(ValueError, match="'vae-sorce'; allowed: vae-source, "):
        publish(done.run_dir, "vae-tiny", published="vae-sorce")


@pytest.mark.parametrize("ship", [False, True])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_bound_that_is_not_finite_is_not_published(
    done, tmp_path, monkeypatch, split, ship
):
    real = runs.evaluate

    def diverged(model, data, name, **options):
        found = real(model, data, name, **options)
        return replace(found, kl=math.inf) if name == split else found

    monkeypatch.setattr(runs, "evaluate", diverged)
    with pytest.raises(ValueError, match=f"toy-0: the {split} kl is inf; a record"):
        publish(done.run_dir, "toy", iw_samples=2, ship=ship, root=tmp_path / "zoo",
                progress=False)  # fmt: skip
    assert not (tmp_path / "zoo").exists()


def test_a_bad_image_of_any_split_is_found_before_the_work(done, monkeypatch):
    data = toy_data()
    images = data.test.images.clone()
    images[-1] = 3
    bad = replace(data, test=replace(data.test, images=images))
    monkeypatch.setattr(runs, "load_data", lambda *_, **__: bad)
    monkeypatch.setattr(runs, "evaluate", lambda *_, **options: 1 / 0)
    with pytest.raises(
        ValueError, match="the test split .* holds 3 where visit='bits'"
    ):
        publish(done.run_dir, "toy", progress=False)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"row": ""}, "row is ''; allowed: letters, digits"),
        ({"row": "a/b"}, "row is 'a/b'; allowed"),
        ({"row": "..\\b"}, "allowed: letters"),
        ({"iw_samples": 0}, r"samples \(K\) is 0; allowed: 1 or more"),
        ({"iw_images": -1}, "images is -1; allowed: 1 or more"),
        ({"iw_images": 21}, "images is 21; allowed: 1 to 20"),
    ],
)
def test_what_cannot_be_published_is_refused_before_the_work(
    done, tmp_path, monkeypatch, changes, told
):
    monkeypatch.setattr(runs, "evaluate", lambda *_, **options: 1 / 0)
    how = {"row": "vae-tiny", "root": tmp_path / "zoo", **changes}
    with pytest.raises(ValueError, match=told):
        publish(done.run_dir, **how)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    ("log", "told"), [(None, "holds no log"), ('{"epoch": 1', "is no whole log")]
)
def test_a_run_without_a_whole_log_is_refused_before_the_work(
    done, monkeypatch, log, told
):
    monkeypatch.setattr(runs, "evaluate", lambda *_, **options: 1 / 0)
    path = done.run_dir / "log.jsonl"
    path.unlink()
    if log is not None:
        path.write_text(log)
    with pytest.raises(ValueError, match=told) as caught:
        publish(done.run_dir, "vae-tiny")
    assert "\n" not in str(caught.value)


def test_the_package_zoo_is_never_written_by_these_tests(done, tmp_path):
    before = sorted(zoo.ZOO.rglob("*"))
    publish(done.run_dir, "x", iw_samples=1, root=tmp_path / "z", progress=False)
    assert sorted(zoo.ZOO.rglob("*")) == before


def test_a_run_with_planted_mistakes_has_them_all_along(tmp_path, toy):
    right = Run(TOY, "mnist-dynamic", tmp_path / "right", toy_config())
    wrong = replace(right, run_dir=tmp_path / "wrong", mistakes=("V1",))
    for run in (right, wrong):
        train_run(run, progress=False)
    assert read_run(wrong.run_dir) == wrong
    found = {}
    for run in (right, wrong):
        path = publish(run.run_dir, run.run_dir.name, iw_samples=2, iw_images=4,
                       root=tmp_path / "zoo", progress=False)  # fmt: skip
        found[run.run_dir.name] = json.loads(path.read_text())
    assert found["right"]["mistakes"] == [] and found["wrong"]["mistakes"] == ["V1"]
    _, model = load_run(wrong.run_dir)
    with planted("V1"):
        planted_bound = evaluate(model, toy_data(), "test", samples=1).to_dict()
    assert found["wrong"]["bounds"]["test"] == nine_digits(planted_bound)
    assert evaluate(model, toy_data(), "test", samples=1).to_dict() != planted_bound


def test_weights_with_a_mistake_are_not_shipped(tmp_path, toy):
    run = Run(
        TOY, "mnist-dynamic", tmp_path / "run", toy_config(epochs=1), mistakes=("V1",)
    )
    train_run(run, progress=False)
    with pytest.raises(ValueError, match="mistakes"):
        publish(run.run_dir, "vae", ship=True, root=tmp_path, progress=False)


def test_an_unknown_mistake_is_refused(tmp_path):
    with pytest.raises(ValueError, match="F3"):
        Run(TOY, "mnist-dynamic", tmp_path, mistakes=("F3",))


def lasting(run: Run, folder, **changes) -> Run:
    """A run that begins where ``run`` ended."""
    config = toy_config(epochs=1, **changes)
    return Run(TOY, "mnist-dynamic", folder, config, start=str(run.run_dir))


def test_a_row_whose_start_does_not_ship_has_it_trained_before(
    tmp_path, toy, monkeypatch
):
    first = plan.Planned(
        "mnist-dynamic/toy", "04", TOY, toy_config(epochs=1), (), None, False, (2, 5),
        None, 1.0,
    )  # fmt: skip
    monkeypatch.setattr(plan, "plan_of", {first.name: first}.__getitem__)
    second = replace(first, name="mnist-dynamic/toy-on", start=first.name)
    record = plan.train_row(second, tmp_path, 0, "cpu", progress=False)
    assert json.loads(record.read_text())["began"]["name"] == "toy"
    assert plan.record_path(first, tmp_path, 0).exists()


def test_a_run_begins_with_the_weights_of_another_one(done, tmp_path):
    """With a rate of 0 it ends with them: its output bias is not set anew either."""
    run = lasting(done, tmp_path / "on", lr=0.0)
    model, _, _ = train_run(run, progress=False)
    earlier = load_run(done.run_dir)[1].state_dict()
    assert_same_bits(weights(model), zoo.in_float32(zoo.rounded(earlier)))
    assert read_run(run.run_dir) == run


def test_a_run_and_its_record_are_the_same_start(done, tmp_path, monkeypatch):
    """And the record says with whose weights it began, and after how many epochs."""
    root = tmp_path / "zoo"
    publish(done.run_dir, "toy", iw_samples=2, iw_images=4, ship=True, root=root)
    shutil.copy(zoo.ZOO / "published.json", root)
    monkeypatch.setattr(zoo, "ZOO", root)
    name, config = "mnist-dynamic/toy-0", toy_config(epochs=1)
    ended, said = [], []
    for start in (name, str(done.run_dir)):
        where = tmp_path / Path(start).name
        run = Run(TOY, "mnist-dynamic", where / "on", config, start=start)
        ended.append(weights(train_run(run, progress=False)[0]))
        path = publish(run.run_dir, "on", iw_samples=2, iw_images=4, root=where)
        said.append(json.loads(path.read_text())["began"])
    assert_same_bits(*ended)
    # So what began with one may go on with the other.
    train_run(replace(run, start=name), progress=False)
    assert [began.pop("name") for began in said] == [name, "run"]
    sha256 = records(root=root)[0]["weights"]["sha256"]
    assert said == [{"epochs": 3, "weights_sha256": sha256}] * 2


def test_epochs_before_add_up(done, tmp_path):
    second = lasting(done, tmp_path / "second")
    train_run(second, progress=False)
    third = lasting(second, tmp_path / "third")
    train_run(third, progress=False)
    assert json.loads((third.run_dir / "run.json").read_text())["began"]["epochs"] == 4


def test_a_cut_run_goes_on_from_its_own_start_alone(done, tmp_path):
    run = lasting(done, tmp_path / "on")
    train_run(run, progress=False)
    with pytest.raises(TrainingStopped, match=r"train\.start was '\w{64}' and is None"):
        train_run(replace(run, start=""), progress=False)


def test_a_start_of_another_model_is_refused(done, tmp_path):
    other = replace(TOY, z=TOY.z + 1)
    run = Run(
        other, "mnist-dynamic", tmp_path / "on", toy_config(), start=str(done.run_dir)
    )
    with pytest.raises(ZooError, match="holds weights of another model"):
        train_run(run, progress=False)
    with pytest.raises(ZooError, match="no record 'nosuch'"):
        train_run(replace(run, start="nosuch"), progress=False)


def test_a_record_and_its_weights_are_written_by_one_process_at_a_time(
    done, tmp_path, monkeypatch
):
    """Another run of the same name would come between the two, and fit neither."""
    kept = []

    def held(write):
        def writes(*given, **how):
            (lock,) = tmp_path.glob("zoo/*/.toy-0.lock")
            with pytest.raises(Timeout):
                FileLock(lock).acquire(timeout=0)
            kept.append(write.__name__)
            return write(*given, **how)

        return writes

    monkeypatch.setattr(runs, "ship_weights", held(runs.ship_weights))
    monkeypatch.setattr(zoo, "write_record", held(zoo.write_record))
    root = tmp_path / "zoo"
    publish(done.run_dir, "toy", iw_samples=2, ship=True, root=root, progress=False)
    assert kept == ["ship_weights", "write_record"]
    load_pretrained("mnist-dynamic/toy-0", root=root)
