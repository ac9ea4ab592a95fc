"""Records and weights: verified, rounded as said, readable by whatever reads JSON."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from toy_runs import TOY, assert_same_bits, toy_model, weights

from drawlib.data.protocols import DATASETS
from drawlib.models import CONFIGS
from drawlib.results import zoo
from drawlib.results.zoo import (
    ZooError,
    load_pretrained,
    load_weights,
    published,
    records,
    save_weights,
    write_record,
)
from drawlib.vae import VAE

NAME = "mnist-dynamic/vae-tiny-0"


def strict_json(path):
    """Parse as JavaScript would: NaN and Infinity are errors."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def root(tmp_path):
    """A zoo with one shipped model and one without weights."""
    model = toy_model()
    path = tmp_path / f"{NAME}.safetensors"
    path.parent.mkdir()
    sha256 = save_weights(path, model.state_dict())
    values = {
        "row": "vae-tiny",
        "kind": "vae",
        "protocol": "mnist-dynamic",
        "config": TOY.to_dict(),
    }
    shipped = {"file": path.name, "sha256": sha256}
    write_record(NAME, {**values, "weights": shipped}, root=tmp_path)
    write_record("mnist-dynamic/vae-tiny-1", {**values, "weights": None}, root=tmp_path)
    return tmp_path


# Weights


def test_weights_survive_a_round_trip(tmp_path):
    state = {**weights(toy_model()), "count": torch.tensor(3), "on": torch.ones(2) > 0}
    sha256 = save_weights(tmp_path / "w.safetensors", state, half=False)
    assert_same_bits(load_weights(tmp_path / "w.safetensors", sha256), state)
    content = (tmp_path / "w.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256


def test_large_matrices_are_rounded_to_float16_and_small_ones_are_not(tmp_path):
    state = {"W": torch.randn(100, 50), "b": torch.randn(50), "n": torch.tensor(7)}
    save_weights(tmp_path / "w", state)
    found = load_weights(tmp_path / "w")
    assert torch.equal(found["W"], state["W"].half().float())
    assert not torch.equal(found["W"], state["W"])
    assert found["W"].dtype == torch.float32
    # half of the 11 bits of a float16's significand
    assert ((found["W"] - state["W"]).abs() <= 2**-11 * state["W"].abs() + 1e-7).all()
    assert torch.equal(found["b"], state["b"]) and found["n"] == 7
    save_weights(tmp_path / "again", found)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "w").read_bytes()


def test_altered_weights_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    sha256 = save_weights(path, weights(toy_model()))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"has sha256 .*, not {sha256[:12]}…") as caught:
        load_weights(path, sha256)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_and_missing_weights_are_refused(tmp_path, cut):
    path = tmp_path / "w.safetensors"
    sha256 = save_weights(path, weights(toy_model()))
    path.write_bytes(path.read_bytes()[:cut])
    empty = "w.safetensors holds no weights: it is empty"
    with pytest.raises(ZooError, match="sha256" if cut else empty):
        load_weights(path, sha256)
    with pytest.raises(ZooError, match="no whole safetensors file" if cut else empty):
        load_weights(path)
    path.unlink()
    with pytest.raises(ZooError, match="the weights w.safetensors are missing"):
        load_weights(path)


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (POINTER, r"a Git LFS pointer \(git lfs pull gets the file\)"),
        (b"\n<!DOCTYPE html>\n<html>", "a page of HTML or XML"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "a page of HTML or XML"),
        (b'{"message": "Not Found"}', "a piece of JSON"),
        (b"PK\x03\x04" + bytes(50), "a zip archive, such as what torch.save writes"),
        (b"\x80\x02}q\x00.", "a pickle, which is never opened"),
    ],
)
def test_what_lies_in_the_place_of_weights_is_recognised(tmp_path, content, what):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    for sha256 in ("0" * 64, None):
        with pytest.raises(
            ZooError, match=f"w.safetensors holds no weights: it is {what}"
        ):
            load_weights(path, sha256)


@pytest.mark.parametrize("length", [b"<a", b'{"', b"\x80\x02", b"\x1f\x01"])
def test_whole_and_cut_weights_are_never_taken_for_something_else(tmp_path, length):
    """The first bytes of such a file are the length of its header: any at all."""
    size = int.from_bytes(length, "little")
    header = b'{"W":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(size)
    path = tmp_path / "w"
    path.write_bytes(size.to_bytes(8, "little") + header + bytes(4))
    assert load_weights(path) == {"W": torch.zeros(1)}
    for cut in (-1, 20, 8, 7, 3):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ZooError, match="is no whole safetensors file"):
            load_weights(path)


def test_a_pointer_in_the_place_of_a_record_is_named(root):
    (root / f"{NAME}.json").write_bytes(POINTER)
    with pytest.raises(ZooError, match="no whole JSON file: it is a Git LFS pointer"):
        records(root=root)


@pytest.mark.parametrize("half", [True, False])
def test_tensors_that_share_memory_are_saved_each_by_itself(tmp_path, half):
    W = torch.randn(100, 50)
    state = {"a": W, "b": W, "turned": W.T, "row": W[3], "all but one": W.flatten()[1:]}
    sha256 = save_weights(tmp_path / "w", state, half=half)
    found = load_weights(tmp_path / "w", sha256)
    for name, value in state.items():
        rounded = half and value.numel() > 4096
        assert torch.equal(found[name], value.half().float() if rounded else value)


@pytest.mark.parametrize("value", [65_520.0, -1e5, 1e30])
def test_a_weight_that_float16_cannot_hold_is_refused_by_name(tmp_path, value):
    state = {"b": torch.full((3,), value), "W": torch.zeros(100, 50)}
    state["W"][7, 7] = value
    told = f"W holds {abs(value):g}; float16 holds at most 65504"
    with pytest.raises(ValueError, match=re.escape(told)):
        save_weights(tmp_path / "w", state)
    assert not (tmp_path / "w").exists()
    save_weights(tmp_path / "w", state, half=False)
    assert load_weights(tmp_path / "w")["W"][7, 7] == state["W"][7, 7]
    state["W"][7, 7] = 65_504
    save_weights(tmp_path / "w", state)
    assert load_weights(tmp_path / "w")["W"].max() == 65_504


def test_weights_of_another_model_get_one_line(root):
    other = replace(TOY, z=3)
    state = VAE(other).state_dict()
    for change, told in (({}, "has shape"), ({"more": torch.ones(1)}, "one side only")):
        path = root / f"{NAME}.safetensors"
        sha256 = save_weights(path, {**state, **change})
        values = json.loads((root / f"{NAME}.json").read_text(encoding="utf-8"))
        values["weights"]["sha256"] = sha256
        (root / f"{NAME}.json").write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(ZooError, match=f"weights of another model: .*{told}") as e:
            load_pretrained(NAME, root=root)
        assert "\n" not in str(e.value)


# Records


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("key", ["neg_elbo", "kl", "kl_groups", "neg_iw", "percent"])
def test_a_bound_that_is_no_number_is_not_recorded(tmp_path, key, value):
    part = {"neg_elbo_se": math.nan, "se": (math.nan,), "images": 1}
    part[key] = (1.0, value) if key in ("kl_groups", "percent") else value
    for values in ({"bounds": {"valid": part}}, {"importance_weighted": part}):
        with pytest.raises(
            ValueError, match=f"{key} is {value}; a record takes finite"
        ):
            write_record(NAME, values, root=tmp_path)
    assert not list(tmp_path.iterdir())
    del part[key]  # a standard error may be unknown: that of one image is
    write_record(NAME, {"bounds": {"valid": part}}, root=tmp_path)


def test_nan_in_a_record_of_somebody_else_is_read_as_none(root):
    path = root / f"{NAME}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["bounds"] = {"test": {"neg_elbo": math.inf}}
    path.write_text(json.dumps(values), encoding="utf-8")
    (found,) = [r for r in records(root=root) if r.name == NAME]
    assert found["bounds"]["test"]["neg_elbo"] is None


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ("bounds.test.neg_elbo", "85.1", "'85.1'; allowed: a finite number"),
        ("bounds.test.kl", True, "True; allowed: a finite number"),
        ("bounds.test.neg_iw", math.inf, "inf; allowed: a finite number"),
        ("bounds.test.neg_elbo_se", -0.1, "-0.1; allowed: a finite number of 0 or"),
        ("bounds.test.images", 9.5, "9.5; allowed: a whole number of 0 or more"),
        ("bounds.test.split", 3, "3; allowed: text"),
        ("bounds.test.kl_groups", [1.0, "2"], "'2'; allowed: a finite number"),
        ("bounds.test", 85.1, "85.1; allowed: named fields"),
        ("bounds.test", [], "[]; allowed: named fields"),
        ("bounds", "none", "'none'; allowed: named fields"),
        ("importance_weighted.neg_iw_se", -1, "-1; allowed: a finite number of 0 or"),
        ("epochs", "9", "'9'; allowed: a whole number"),
        ("seconds", -3.5, "-3.5; allowed: a finite number of 0 or more"),
    ],
)
def test_a_number_that_nobody_measured_is_refused(root, where, value, told):
    path = root / f"{NAME}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    *groups, name = where.split(".")
    inner = values
    for group in groups:
        inner[group] = inner = inner.get(group) or {}
    inner[name] = value
    # As a person writes it: JSON has no Infinity, but 1e999.
    path.write_text(json.dumps(values).replace("Infinity", "1e999"), encoding="utf-8")
    with pytest.raises(ZooError, match=re.escape(f"{path}: {where} is {told}")):
        records(root=root)


def test_a_shipped_model_is_the_one_that_was_saved(root):
    model = load_pretrained(NAME, root=root)
    assert_same_bits(weights(model), weights(toy_model()))
    assert not model.training and model.config == TOY


def test_an_unknown_name_lists_those_that_ship_weights(root):
    with pytest.raises(ZooError) as caught:
        load_pretrained("mnist-dynamic/vae", root=root)
    assert str(caught.value) == f"no record 'mnist-dynamic/vae'; with weights: {NAME}"
    with pytest.raises(ZooError, match="ships no weights"):
        load_pretrained("mnist-dynamic/vae-tiny-1", root=root)


def test_what_is_no_record_of_this_schema_is_refused_in_one_line(root):
    path = root / "mnist-dynamic" / "vae-tiny-1.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("drawlib-record-1", "drawlib-record-2"))
    with pytest.raises(ZooError, match="schema 'drawlib-record-2'; allowed: 'drawlib-"):
        load_pretrained("mnist-dynamic/vae-tiny-1", root=root)
    path.write_text(whole[:-9])
    for ask in (lambda: load_pretrained(NAME[:-1] + "1", root=root),
                lambda: records(root=root)):  # fmt: skip
        with pytest.raises(ZooError, match="vae-tiny-1.json is no whole JSON") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: [v], "allowed: named fields"),
        (lambda v: {**v, "weights": "a"}, "weights are 'a', no file and sha256"),
        (
            lambda v: {**v, "weights": {**v["weights"], "file": None}},
            "no file and sha256",
        ),
        (
            lambda v: {**v, "weights": {**v["weights"], "sha256": 3}},
            "no file and sha256",
        ),
        (lambda v: {**v, "config": None}, "VAEConfig is None; allowed: a dictionary"),
        (lambda v: {**v, "config": {"z": 3}}, "VAEConfig lacks image_shape, encoder"),
        (lambda v: {**v, "kind": "xx"}, "model is 'xx'; allowed: vae"),
        (lambda v: {k: v[k] for k in v if k != "kind"}, "vae-tiny-0.json lacks kind"),
    ],
)
def test_a_record_that_lacks_or_mistakes_a_field_is_named(root, change, told):
    path = root / f"{NAME}.json"
    values = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ZooError, match=told):
        load_pretrained(NAME, root=root)


def test_a_record_without_a_protocol_is_named(root):
    path = root / f"{NAME}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["protocol"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ZooError, match="vae-tiny-0.json lacks protocol"):
        records(root=root)


def test_a_classifier_is_not_listed_among_the_latent_variable_models():
    with pytest.raises(ZooError, match="no record 'nowhere'") as caught:
        load_pretrained("nowhere")
    assert "mnist-dynamic/vae-source-0" in str(caught.value)
    assert "classifier" not in str(caught.value)


def test_altered_shipped_weights_are_refused(root):
    path = root / f"{NAME}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ZooError, match="has sha256"):
        load_pretrained(NAME, root=root)


def test_records_of_ones_own_images_are_found_by_their_protocol(root):
    """It holds a path, which no folder of a zoo is named after."""
    own = {"row": "mine", "kind": "vae", "protocol": "folder:a/b?size=28x28"}
    write_record("folder-b/mine-0", {**own, "config": {}, "weights": None}, root=root)
    (found,) = records(own["protocol"], "mine", root=root)
    assert found.name == "folder-b/mine-0"


def test_records_are_found_by_protocol_and_row(root):
    (root / "mnist-dynamic" / "not-a-record.json").write_text("{}")
    assert [r.name for r in records(root=root)] == [NAME, NAME[:-1] + "1"]
    assert len(records("mnist-dynamic", "vae-tiny", root=root)) == 2
    assert records("mnist-fixed", root=root) == []
    assert records(row="draw", root=root) == []
    record = records(root=root)[0]
    assert (record.protocol, record.model, record["kind"]) == (
        "mnist-dynamic",
        "vae-tiny",
        "vae",
    )


def test_a_record_is_strict_json_in_utf_8(tmp_path):
    values = {
        "note": "−ELBO",
        "se": math.nan,
        "kl": (1.0, math.inf),
        "deep": [{"a": 2}],
    }
    path = write_record("p/a-0", values, root=tmp_path)
    assert strict_json(path) == {
        "schema": "drawlib-record-1",
        "note": "−ELBO",
        "se": None,
        "kl": [1.0, None],
        "deep": [{"a": 2}],
    }


def test_the_environment_names_versions_and_commit():
    found = zoo.describe_environment(torch.device("cpu"))
    assert set(found) == {"commit", "commit_dirty", "device", "versions"}
    assert found["versions"]["torch"] == torch.__version__
    assert "CPU" in found["device"]
    assert found["commit"] is None or len(found["commit"]) >= 40
    assert (found["commit"] is None) == (found["commit_dirty"] is None)


def test_a_changed_tree_is_said_to_be_dirty(monkeypatch):
    answers = {"rev-parse": "0" * 40, "status": " M train.py", "ls-files": "zoo.py"}
    monkeypatch.setattr(zoo, "git", lambda command, *_: answers[command])
    cpu = torch.device("cpu")
    assert zoo.describe_environment(cpu)["commit_dirty"] is True
    answers["status"] = ""
    assert zoo.describe_environment(cpu)["commit_dirty"] is False


def commit_all(folder, *files):
    """A repository with these files in its first commit."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    nobody = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    git = ["git", "-C", str(folder), *nobody, "-c", "commit.gpgsign=false"]
    for command in (["init"], ["add", *map(str, files)], ["commit", "-m", "first"]):
        done = subprocess.run([*git, *command], capture_output=True)
        if done.returncode:
            pytest.skip("git is not installed")


def test_a_changed_file_of_any_room_makes_the_tree_dirty(tmp_path, monkeypatch):
    package = tmp_path / "drawlib"
    here, model = package / "results" / "zoo.py", package / "draw.py"
    commit_all(tmp_path, here, model, package / "zoo" / "plan.json")
    monkeypatch.setattr(zoo, "__file__", str(here))
    cpu = torch.device("cpu")
    (package / "zoo" / "plan.json").write_text("{}")
    assert zoo.describe_environment(cpu)["commit_dirty"] is False
    model.write_text("# changed")
    assert zoo.describe_environment(cpu)["commit_dirty"] is True


def test_the_commit_of_another_project_s_repository_is_not_ours(tmp_path, monkeypatch):
    """An environment inside of a repository, which holds a copy of the library."""
    site = tmp_path / ".venv" / "drawlib"
    site.mkdir(parents=True)
    (site / "zoo.py").touch()
    commit_all(tmp_path, tmp_path / "theirs")
    monkeypatch.setattr(zoo, "__file__", str(site / "zoo.py"))
    assert zoo.git("rev-parse", "HEAD") is not None
    found = zoo.describe_environment(torch.device("cpu"))
    assert (found["commit"], found["commit_dirty"]) == (None, None)


def test_a_clone_that_is_not_installed_has_an_environment_too(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(zoo, "version", missing)
    found = zoo.describe_environment(torch.device("cpu"))
    assert found["versions"]["drawlib"] is None and found["versions"]["torch"]


# What ships

SHIPPED = records()


@pytest.mark.parametrize("record", SHIPPED, ids=[r.name for r in SHIPPED])
def test_every_shipped_record_holds_what_the_tables_need(record):
    path = zoo.ZOO / f"{record.name}.json"
    assert strict_json(path) == record.values
    assert record.name == f"{record.protocol}/{record.model}-{record['seed']}"
    assert record.protocol in DATASETS
    for name in ("config", "train_config", "epochs", "seconds", "data_sha256"):
        assert record[name], name
    for name in ("commit", "device", "versions", "curve", "parameters"):
        assert record[name], name
    if record["kind"] in CONFIGS:
        for split in ("train", "valid", "test"):
            bound = record["bounds"][split]
            assert bound["split"] == split and bound["protocol"] == record.protocol
            total = bound["reconstruction"] + sum(bound["kl_groups"])
            assert bound["neg_elbo"] == pytest.approx(total, abs=1e-3)
        assert record["importance_weighted"]["samples"] >= 1
    assert record["published"] is None or record["published"] in published()


@pytest.mark.parametrize("record", SHIPPED, ids=[r.name for r in SHIPPED])
def test_every_shipped_weight_file_is_the_recorded_one(record):
    if not record["weights"]:
        pytest.skip("this seed ships no weights")
    if record["kind"] not in CONFIGS:
        pytest.skip("no latent variable model")
    model = load_pretrained(record.name)
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]


def test_the_zoo_fits_in_60_megabytes():
    size = sum(path.stat().st_size for path in zoo.ZOO.rglob("*") if path.is_file())
    assert size < 60e6


@pytest.mark.parametrize("key", published())
def test_every_published_number_says_what_it_is(key):
    entry = published()[key]
    needed = {"value", "unit", "bound", "protocol", "split", "source", "from_memory"}
    assert needed <= set(entry), needed - set(entry)
    assert isinstance(entry["value"], float) and entry["value"] > 0
    assert entry["unit"] in ("nats", "bits per dimension", "percent error")
    assert entry["bound"] in ("-ELBO", "importance-weighted", "NLL", "error")
    assert entry["split"] in ("train", "valid", "test", "unverified")
    assert entry["from_memory"] in (True, False)
    assert len(entry["source"]) > 20 and entry["protocol"]
    parts = [entry] + [entry[s] for s in ("train", "valid") if s in entry]
    for part in parts:
        if "kl" in part:
            total = part.get("value", part.get("neg_elbo"))
            assert part["kl"] + part["reconstruction"] == pytest.approx(total, abs=0.1)


def test_published_is_strict_json():
    assert strict_json(zoo.ZOO / "published.json") == published()


def test_a_record_is_a_frozen_pair_of_name_and_values(root):
    record = records(root=root)[0]
    assert set(asdict(record)) == {"name", "values"}


def test_v1_alone_brings_the_vae_to_the_published_number():
    """What the page on papers and code says of the source's softplus."""
    right = {
        r["seed"]: r["bounds"]["test"] for r in records("mnist-dynamic", "vae-source")
    }
    wrong = {
        r["seed"]: r["bounds"]["test"]
        for r in records("mnist-dynamic", "vae-source-V1")
    }
    row = published()["vae-source"]
    assert len(wrong) >= 2 and wrong.keys() <= right.keys()
    for seed, bound in wrong.items():
        assert bound["neg_elbo"] - right[seed]["neg_elbo"] > 30
        assert abs(bound["neg_elbo"] - row["value"]) < 1
        assert abs(bound["kl"] - row["kl"]) < 1
