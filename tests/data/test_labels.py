"""Labels for the fixed binarisation of MNIST: whose bits these are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from drawlib.bound import Bound, LatentModel
from drawlib.data import labels
from drawlib.data.download import DataError, Raw, obtain
from drawlib.data.labels import Match, assigned, labels_of_fixed, match
from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split, load_data
from drawlib.evaluation import evaluate

RNG = np.random.default_rng


def greys(n: int, seed: int = 0) -> np.ndarray:
    """n digits of a kind, 784 pixels: black around, white inside, grey at edges."""
    levels = RNG(seed).choice([0, 0, 60, 128, 200, 255], (n, 14, 14)).astype("u1")
    return levels.repeat(2, 1).repeat(2, 2).reshape(n, 784)


def drawn(grey: np.ndarray, seed: int = 1) -> np.ndarray:
    return (RNG(seed).random(grey.shape) < grey / 255).astype("u1")


def test_bits_find_the_image_that_they_were_drawn_from():
    grey, order = greys(900), RNG(2).permutation(900)
    found = match(drawn(grey)[order], grey, np.arange(900) % 10)
    assert np.array_equal(found.position, order)
    assert (found.rivals, found.other_class) == (0, 0)


def test_every_image_is_given_once_although_two_fit_the_same_one_best():
    grey = np.full((3, 784), 255, "u1")
    grey[0, :99], grey[1, :99], grey[2, :99] = 100, 120, 0
    bits = np.ones((3, 784), "u1")
    bits[0, :60], bits[1, :50], bits[2, :99] = 0, 0, 0  # 39 and 49 of 99 are ink
    found = match(bits, grey, np.array([4, 5, 6]))
    assert found.position.tolist() == [0, 1, 2]
    # Either could be the other, which has another label; the third could not.
    assert (found.rivals, found.other_class) == (2, 2)


def test_the_assignment_is_the_best_there_is():
    for seed in range(20):
        score = RNG(seed).normal(size=(5, 5)) * 10
        candidate = np.tile(np.arange(5), (5, 1))
        taken = assigned(score, candidate)
        assert sorted(taken) == list(range(5))
        best = max(
            score[np.arange(5), list(order)].sum() for order in permutations(range(5))
        )
        assert score[np.arange(5), taken].sum() >= best - 0.005


def test_bits_of_other_images_are_refused():
    with pytest.raises(DataError, match="forbid"):
        match(drawn(greys(40)), greys(40, seed=9), np.zeros(40, int))


@pytest.fixture
def raws(tmp_path, monkeypatch):
    """Small files in the two formats: bits that were drawn, and what they are of."""
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path))
    train, test, y = greys(60), greys(20, seed=5), RNG(3).integers(0, 4, 80)
    order = RNG(4).permutation(60)
    bits, by_class = drawn(train)[order], np.argsort(y[60:], kind="stable")
    files = {"train": bits[:50], "valid": bits[50:], "test": drawn(test)[by_class]}
    fixed = Raw({k: np.packbits(v, axis=1) for k, v in files.items()}, {}, "f", "")
    arrays = {
        "train_images": train.reshape(-1, 28, 28),
        "train_labels": y[:60].astype("u1"),
        "test_images": test.reshape(-1, 28, 28),
        "test_labels": y[60:].astype("u1"),
    }
    return fixed, Raw(arrays, {}, "m", ""), y[:60][order]


def test_each_file_has_its_labels_and_matching_is_done_once(raws, monkeypatch):
    fixed, mnist, right = raws
    found, how = labels_of_fixed(fixed, mnist)
    assert found["train"].tolist() == right[:50].tolist()
    assert found["valid"].tolist() == right[50:].tolist()
    assert found["test"].tolist() == sorted(mnist.arrays["test_labels"])
    assert "0 of 60 images could be another one nearly as well" in str(how)
    monkeypatch.setattr(labels, "match", None)
    again, _ = labels_of_fixed(fixed, mnist)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    with pytest.raises(TypeError):  # other data are matched anew
        labels_of_fixed(Raw(fixed.arrays, {}, "other", ""), mnist)


def test_the_genuine_test_file_is_mnists_sorted_by_class(monkeypatch):
    monkeypatch.delenv("DRAWLIB_CACHE", raising=False)
    try:
        fixed, mnist = (obtain(k, download=False) for k in ("mnist-fixed", "mnist"))
    except DataError:
        pytest.skip("MNIST is neither in DRAWLIB_DATA nor in the cache")
    monkeypatch.setattr(labels, "match", lambda *_: Match(np.arange(60_000), 0, 0))
    monkeypatch.setattr(labels, "read", lambda *_: None)
    monkeypatch.setattr(labels, "keep", lambda *_: None)
    found, _ = labels_of_fixed(fixed, mnist)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(found["test"]).tolist() == counts
    assert found["test"].tolist() == sorted(found["test"])


def test_a_test_file_in_another_order_is_refused(raws):
    fixed, mnist, _ = raws
    mixed = {**fixed.arrays, "test": fixed.arrays["test"][::-1]}
    with pytest.raises(DataError, match="is not MNIST's, sorted by class"):
        labels_of_fixed(Raw(mixed, {}, "f", ""), mnist)


def test_a_broken_file_in_the_cache_is_told_and_replaced(raws, tmp_path):
    fixed, mnist, right = raws
    (tmp_path / "mnist-fixed-labels.npz").write_bytes(b"PK broken")
    with pytest.warns(UserWarning, match="the file is not used"):
        found, _ = labels_of_fixed(fixed, mnist)
    assert found["train"].tolist() == right[:50].tolist()


def test_labels_are_looked_for_where_there_are_none_to_read():
    with pytest.raises(ValueError, match="mnist-dynamic; allowed: for mnist-fixed"):
        load_data("mnist-dynamic", labels=True)


class Flat(LatentModel):
    """A bound that is the image's own ink."""

    def __init__(self) -> None:
        super().__init__()
        self.image_shape = (1, 2, 2)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def noise_shapes(self, n):
        return ((n, 1),)

    def bound(self, x, noise):
        ink = x.flatten(1).sum(1)
        return Bound(-ink, torch.zeros(len(x), 1), -ink)


@pytest.mark.parametrize(
    ("known", "draw", "words"),
    [(True, "by class", "by class"), (False, "plain", "without regard to class")],
)
def test_how_a_subset_was_drawn_is_named(known, draw, words):
    images = torch.arange(40).view(40, 1, 1, 1).expand(40, 1, 2, 2) % 2
    split = Split(images.byte(), torch.arange(40) % 4 if known else None)
    data = Data("bits", Protocol("bits", "Bits.", (1, 2, 2)), split, split, split)
    part = evaluate(Flat(), data, samples=1, images=8)
    assert part.to_dict()["draw"] == draw and f"8 images, drawn {words}" in str(part)
    whole = evaluate(Flat(), data, samples=1)
    assert "draw" not in whole.to_dict() and "drawn" not in str(whole)
