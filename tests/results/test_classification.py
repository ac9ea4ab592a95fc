"""A classifier's error, from a training to a record and back."""

import math
from dataclasses import replace

import pytest
import torch

from drawlib.classifier import Classifier, ClassifierConfig
from drawlib.data.protocols import DATASETS
from drawlib.data.sets import Data, Split
from drawlib.results import classification, zoo
from drawlib.results.classification import (
    Errors,
    load_classifier,
    measure_errors,
    publish_classifier,
    train_classifier,
)
from drawlib.results.zoo import ZooError, load_pretrained, records
from drawlib.training.schedule import TrainConfig

TINY = ClassifierConfig(
    # Wide enough that weights are rounded when they ship.
    image_shape=(1, 12, 12),
    glimpses=2,
    hidden=32,
    read=3,
    start_sigma=1.0,
)
TRAIN = TrainConfig(epochs=2, batch_size=16, device="cpu", valid_images=20)


def toy() -> Data:
    """Bright halves: class 0 to the left, class 1 to the right."""

    def split(n: int, seed: int) -> Split:
        labels = torch.arange(n) % 2
        images = torch.zeros(n, 1, 12, 12, dtype=torch.uint8)
        images[labels == 0, ..., :6] = 200
        images[labels == 1, ..., 6:] = 200
        noise = torch.randint(
            0, 50, images.shape, generator=torch.Generator().manual_seed(seed)
        )
        return Split(images + noise.to(torch.uint8), labels, visit="scale")

    protocol = replace(DATASETS["cluttered-mnist"], image_shape=(1, 12, 12))
    parts = split(64, 0), split(20, 1), split(30, 2)
    return Data("cluttered-mnist", protocol, *parts, sha256={"content": "toy"})


@pytest.fixture
def done(tmp_path, monkeypatch):
    """A finished run; the data set is the toy one."""
    monkeypatch.setattr(
        classification,
        "load_data",
        lambda name, fragments: replace(toy(), fragments=fragments),
    )
    run_dir = tmp_path / "run"
    train_classifier(TINY, TRAIN, run_dir, fragments=3, progress=False)
    return run_dir


class Fixed(Classifier):
    """Says class 0 after the first glimpse, and class 1 after the second."""

    def answers(self, x):
        says = torch.zeros(2, len(x), 10)
        says[0, :, 0], says[1, :, 1] = 5.0, 5.0
        return says


def test_errors_are_counted_after_each_glimpse():
    data = toy()
    part = replace(data.test, labels=torch.tensor([0] * 24 + [1] * 6))
    found = measure_errors(Fixed(TINY), replace(data, test=part), "test")
    assert found.images == 30 and found.percent == pytest.approx((20.0, 80.0))
    assert found.se == pytest.approx((100 * (0.2 * 0.8 / 30) ** 0.5,) * 2)
    assert found.error == pytest.approx(80.0)
    right = math.log(1 + 9 * math.exp(-5))  # and a wrong answer costs five nats more
    assert found.nats == pytest.approx((right + 5 * 0.2, right + 5 * 0.8))


def test_a_measurement_leaves_the_model_as_it_was_and_repeats():
    torch.manual_seed(0)
    model, data = Classifier(TINY).train(), toy()
    first = measure_errors(model, data, "valid", images=10)
    assert model.training and first == measure_errors(model, data, "valid", images=10)
    assert isinstance(first, Errors) and first.images == 10


def test_a_measurement_that_fails_leaves_the_model_as_it_was():
    model = Classifier(replace(TINY, image_shape=(1, 10, 10))).train()
    with pytest.raises(ValueError, match="images have shape"):
        measure_errors(model, toy(), "valid")
    assert model.training


def test_a_split_without_labels_is_refused():
    data = toy()
    data = replace(data, test=replace(data.test, labels=None))
    with pytest.raises(ValueError, match="the test split of cluttered-mnist has no"):
        measure_errors(Classifier(TINY), data, "test")


def test_a_record_holds_the_error_that_the_tables_read(done, tmp_path):
    path = publish_classifier(
        done, "reader", ship=True, published="cluttered-8", root=tmp_path / "zoo"
    )
    assert path == tmp_path / "zoo" / "cluttered-mnist" / "reader-0.json"
    record = records(root=tmp_path / "zoo")[0]
    assert (record["kind"], record["fragments"]) == ("classifier", 3)
    assert set(record["bounds"]) == {"valid", "test"}
    test = record["bounds"]["test"]
    assert (test["protocol"], test["split"], test["images"]) == (
        "cluttered-mnist",
        "test",
        30,
    )
    assert test["error"] == test["percent"][-1] and test["error_se"] == test["se"][-1]
    assert record["epochs"] == 2 and record["importance_weighted"] is None
    for name in (
        "config",
        "train_config",
        "data_sha256",
        "device",
        "versions",
        "curve",
    ):
        assert record[name], name


def test_shipped_weights_give_the_recorded_error(done, tmp_path):
    publish_classifier(done, "reader", ship=True, root=tmp_path / "zoo")
    model = load_classifier("cluttered-mnist/reader-0", root=tmp_path / "zoo")
    assert not model.training and model.config == TINY
    record = records(root=tmp_path / "zoo")[0]
    for split in ("valid", "test"):
        found = measure_errors(model, toy(), split).to_dict()
        for name in ("percent", "se", "nats"):
            assert found[name] == pytest.approx(record["bounds"][split][name])


def test_what_is_no_classifier_is_refused_in_one_line(done, tmp_path):
    root = tmp_path / "zoo"
    publish_classifier(done, "reader", root=root)
    with pytest.raises(ZooError, match="no classifier 'cluttered-mnist/x-0'"):
        load_classifier("cluttered-mnist/x-0", root=root)
    with pytest.raises(ZooError, match="ships no weights"):
        load_classifier("cluttered-mnist/reader-0", root=root)
    with pytest.raises(ZooError):
        load_pretrained("cluttered-mnist/reader-0", root=root)
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        publish_classifier(tmp_path / "nothing", "reader", root=root)
    with pytest.raises(ValueError, match="published is 'x'; allowed:"):
        publish_classifier(done, "reader", published="x", root=root)


def test_an_altered_weight_file_is_refused(done, tmp_path):
    root = tmp_path / "zoo"
    publish_classifier(done, "reader", ship=True, root=root)
    file = root / "cluttered-mnist" / "reader-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ZooError, match="has sha256"):
        load_classifier("cluttered-mnist/reader-0", root=root)


def test_the_package_zoo_is_not_where_these_tests_write(done, tmp_path):
    before = sorted(zoo.ZOO.rglob("*"))
    publish_classifier(done, "reader", ship=True, root=tmp_path / "zoo")
    assert sorted(zoo.ZOO.rglob("*")) == before
