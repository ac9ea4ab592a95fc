"""Protocols, splits, batches and subsets; the numbers of grey MNIST (5.6: 51 to 54)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from drawlib.data import download
from drawlib.data.clutter import clutter
from drawlib.data.download import DataError, content_sha256
from drawlib.data.protocols import DATASETS, Protocol
from drawlib.data.sets import Data, Split, load_data, stratified_subset
from drawlib.data.two import together, two_digits
from drawlib.training.train import mean_image

# The 10,000 test images of mnist-two, bits as bytes, one after another.
MNIST_TWO_TEST = "5970cf98b6d8f8853fd9116a93a7dac3918dafc25bff45e1d8d1e590c30c5504"
NAMES = list(DATASETS)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _grey(n: int, seed: int = 0) -> torch.Tensor:
    shape = (n, 1, 4, 4)
    return torch.randint(256, shape, generator=_generator(seed), dtype=torch.uint8)


def _toy(n: int = 10) -> Data:
    """A dynamic data set of random 4x4 images with labels 0 and 1 by turns."""
    protocol = Protocol("toy", "Noise.", (1, 4, 4), binarisation="dynamic")
    labels = torch.arange(n) % 2
    grey = _grey(n)
    once = Split((grey > 127).byte(), labels, grey=grey)
    return Data("toy", protocol, Split(grey, labels, visit="sample"), once, once)


_KEPT: dict[str, Data] = {}


def _real(name: str) -> Data:
    """A real data set from a folder or the cache, once a process, or a skip."""
    if name not in _KEPT:
        try:
            _KEPT[name] = load_data(name, download=False)
        except DataError:
            pytest.skip(f"{name} is neither in DRAWLIB_DATA nor in the cache")
    return _KEPT[name]


# Names ------------------------------------------------------------------------------


def test_unknown_name_is_answered_with_the_list_of_names():
    with pytest.raises(ValueError, match="'mnist' is unknown") as error:
        load_data("mnist")
    assert all(name in str(error.value) for name in NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_says_its_protocol_source_and_licence(name):
    p = DATASETS[name]
    assert p.name == name and str(p) == p.sentence and p.sentence.endswith(".")
    assert p.source and p.licence and sum(p.sizes) > 0


def test_importing_the_loader_imports_no_heavy_library():
    code = (
        "import sys, drawlib.data.sets; "
        "print([m for m in ('torchvision', 'scipy', 'pooch', 'requests', 'PIL') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Visits -----------------------------------------------------------------------------


def test_51_dynamic_bits_differ_between_visits_and_have_mean_x():
    data = _toy(1)
    x = data.train.images[:, :, :1]
    many = x.expand(20_000, -1, -1, -1)
    bits = data.binarise(many, _generator())
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    p = x[0].float() / 255
    error = (p * (1 - p) / 20_000).sqrt()
    assert ((bits.mean(0) - p).abs() <= 4.5 * error).all()
    again = data.binarise(many, _generator(1))
    assert not torch.equal(bits, again)


def test_51_black_stays_black_and_white_stays_white():
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    x = _toy().binarise(ends.expand(10_000, -1, -1, -1), _generator())
    assert x[..., 0].sum() == 0 and x[..., 1].sum() == 10_000


def test_51_validation_and_test_bits_are_the_same_at_every_visit():
    data = _toy()
    one = torch.cat(list(data.batches("test", 3, _generator(1), shuffle=False)))
    two = torch.cat(list(data.batches("test", 4, _generator(2), shuffle=False)))
    assert torch.equal(one, two) and torch.equal(one, data.test.images.float())
    assert torch.equal(data.binarise(data.test.images, split="test"), one)


def test_54_same_seed_same_batches():
    data = _toy()
    one = list(data.batches("train", 4, _generator(3)))
    two = list(data.batches("train", 4, _generator(3)))
    other = list(data.batches("train", 4, _generator(4)))
    assert all(map(torch.equal, one, two))
    assert not all(map(torch.equal, one, other))
    assert [len(x) for x in one] == [4, 4, 2]
    assert one[0].dtype == torch.float32


def test_each_image_is_visited_once_in_a_pass_and_keeps_its_label():
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1)
    split = Split(images, torch.arange(10), visit="scale")
    data = Data("toy", Protocol("toy", "Ten.", (1, 1, 1)), split, split, split)
    batches = list(data.batches("train", 3, _generator(), with_labels=True))
    x = torch.cat([b[0] for b in batches]).flatten()
    y = torch.cat([b[1] for b in batches])
    assert torch.equal((x * 255).round().long(), y)
    assert y.tolist() != list(range(10)) and sorted(y.tolist()) == list(range(10))


def test_colour_becomes_intensities_over_255():
    images = torch.randint(256, (4, 3, 2, 2), dtype=torch.uint8)
    split = Split(images, visit="scale")
    data = Data("toy", Protocol("toy", "Colour.", (3, 2, 2)), split, split, split)
    assert torch.equal(data.binarise(images), images.float() / 255)


def test_batches_accept_a_subset():
    data = _toy()
    part = data.test.subset(torch.tensor([7, 2]))
    (x,) = data.batches(part, 5, shuffle=False)
    assert torch.equal(x, data.test.images[[7, 2]].float())
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(part.grey, data.test.grey[[7, 2]])


def test_grey_images_stay_within_reach_of_drawn_bits():
    data = _toy()
    assert torch.equal(data.grey("train"), data.train.images)
    assert torch.equal(data.grey("test"), data.test.grey)
    bits = Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    fixed = Data("toy", Protocol("toy", "Bits."), bits, bits, bits)
    with pytest.raises(ValueError, match="holds bits only"):
        fixed.grey("test")


def test_bad_input_is_answered_in_one_line():
    data = _toy()
    empty = data.train.subset(torch.empty(0, dtype=torch.long))
    unlabelled = Split(data.train.images)
    for call, match in (
        (lambda: data.batches("testing", 4), "split 'testing' is unknown, allowed"),
        (lambda: data.batches("train", 0), "batch size 0 given, allowed: 1 or more"),
        (lambda: data.batches(empty, 4), "is empty"),
        (lambda: data.batches(unlabelled, 4, with_labels=True), "has no labels"),
        (lambda: stratified_subset(data.test, 0, 0), "allowed: 1 to 10"),
        (lambda: stratified_subset(data.test, 11, 0), "allowed: 1 to 10"),
        (
            lambda: load_data("cluttered-mnist", fragments=-1),
            "fragments is -1; allowed: 0 or more",
        ),
    ):
        with pytest.raises(ValueError, match=match) as error:
            call()
        assert "\n" not in str(error.value)


def test_to_device_keeps_everything_else():
    data = _toy().to("cpu")
    assert data.train.images.device.type == "cpu" and data.train.visit == "sample"
    assert data.to("auto").image_shape == (1, 4, 4)


# Subsets ----------------------------------------------------------------------------


def test_stratified_subset_gives_each_class_its_share():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    split = Split(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), labels)
    index = stratified_subset(split, 10, seed=0)
    assert torch.bincount(labels[index]).tolist() == [5, 3, 2]
    assert torch.equal(index, index.sort().values)
    assert len(index.unique()) == 10
    assert torch.equal(index, stratified_subset(split, 10, seed=0))
    assert not torch.equal(index, stratified_subset(split, 10, seed=1))
    for n in (1, 7, 33, 99, 100):
        counts = torch.bincount(labels[stratified_subset(split, n, 2)], minlength=3)
        assert counts.sum() == n
        assert ((counts - n * torch.tensor([0.5, 0.3, 0.2])).abs() < 1).all()


def test_subset_without_labels_is_drawn_from_everywhere():
    split = Split(torch.zeros(10_000, 1, 1, 1, dtype=torch.uint8))
    index = stratified_subset(split, 1000, seed=0)
    assert len(index.unique()) == 1000
    tenths = torch.bincount(index // 1000, minlength=10)
    assert tenths.min() > 60 and tenths.max() < 140  # 4 standard deviations


def test_subset_is_the_same_on_every_machine():
    split = Split(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8))
    assert stratified_subset(split, 5, seed=0).tolist() == SUBSET


# Clutter ----------------------------------------------------------------------------


def test_clutter_holds_the_whole_digit_and_the_fragments_of_others():
    digits = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    digits[0], digits[1], digits[2] = 10, 20, 30
    made = clutter(digits, _generator(), size=60, fragments=5)
    assert made.shape == (3, 1, 60, 60) and made.dtype == torch.uint8
    # The brightest digit hides what is under it: all of it is seen.
    assert (made[2] == 30).sum() == 28 * 28
    # The darkest is covered in part, and no fragment of an image is its own.
    assert (made[0] == 10).sum() <= 28 * 28
    assert 0 < (made[0] > 10).sum() <= 5 * 64
    assert (made[2] == 30).sum() + (made[2] < 30).sum() == 60 * 60


def test_clutter_is_a_seeded_function():
    digits = _grey(4).repeat(1, 1, 7, 7)
    assert torch.equal(clutter(digits, _generator(5)), clutter(digits, _generator(5)))
    assert not torch.equal(
        clutter(digits, _generator(5)), clutter(digits, _generator(6))
    )


def test_clutter_puts_the_digit_anywhere():
    digits = torch.full((2000, 1, 28, 28), 255, dtype=torch.uint8)
    seen = (clutter(digits, _generator(), size=40, fragments=0) > 0).float().mean(0)[0]
    assert seen.min() > 0  # every corner is reached: 1 in 169 images each
    assert seen[12:28, 12:28].min() == 1  # the middle is always under the digit


@pytest.mark.parametrize(
    "wrong",
    [{"fragments": -1}, {"patch": 0}, {"patch": 29}, {"size": 27}],
    ids=lambda w: "".join(w),
)
def test_clutter_refuses_sizes_that_do_not_fit(wrong):
    digits = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match="given, allowed"):
        clutter(digits, **wrong)
    with pytest.raises(ValueError, match="give a pool"):
        clutter(digits[:1])
    assert clutter(digits[:1], pool=digits).shape == (1, 1, 100, 100)


def test_cluttered_training_images_are_made_anew_and_the_others_once():
    data = _real("cluttered-mnist")
    assert data.fragments == 8 and "8 8x8 fragments" in str(data.protocol)
    assert data.image_shape == (1, 100, 100) and data.likelihood == "classification"
    one, y = next(data.batches("train", 16, _generator(1), with_labels=True))
    assert one.shape == (16, 1, 100, 100) and 0 <= one.min() and one.max() <= 1
    images = data.train.images[:16]
    a, b = (data.binarise(images, _generator(s)) for s in (1, 2))
    assert not torch.equal(a, b)
    assert data.test.images.shape == (10_000, 1, 100, 100)
    # Each holds its own digit's ink and some more.
    digits = _real("mnist-dynamic").grey("test").flatten(1).sum(1)
    ink = data.test.images.flatten(1).sum(1)
    assert ((ink - digits) > 0).float().mean() > 0.99
    assert torch.equal(data.test.labels, _real("mnist-dynamic").test.labels)


# Two digits -------------------------------------------------------------------------


def test_two_digits_are_whole_and_each_at_a_place_of_its_own():
    digits = torch.tensor([40, 90, 250], dtype=torch.uint8).view(3, 1, 1, 1)
    digits = digits.expand(3, 1, 28, 28)
    layers = two_digits(digits, _generator(), pool=digits[:2])
    assert layers.shape == (3, 2, 60, 60) and layers.dtype == torch.uint8
    assert ((layers > 0).flatten(2).sum(2) == 28 * 28).all()
    assert layers[:, 0].flatten(1).amax(1).tolist() == [40, 90, 250]
    assert set(layers[:, 1].flatten(1).amax(1).tolist()) <= {40, 90}
    rows = [(layer > 0).any(1).nonzero()[0].item() for layer in layers.flatten(0, 1)]
    assert len(set(rows)) > 2  # six places, of which two may have the same row
    with pytest.raises(ValueError, match="size=27 given, allowed: 28"):
        two_digits(digits, size=27)


def test_two_digits_reach_every_corner_and_are_a_seeded_function():
    digits = torch.full((3000, 1, 28, 28), 255, dtype=torch.uint8)
    seen = (two_digits(digits, _generator(1)) > 0).float().mean(0)
    assert seen[:, [0, 0, -1, -1], [0, -1, 0, -1]].min() > 0  # 1 in 1,089 images each
    a, b, c = (two_digits(digits[:4], _generator(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_grey_levels_of_overlapping_digits_are_added_and_cut_off_at_white():
    levels = torch.tensor([0, 1, 100, 155, 156, 255])
    first, second = torch.meshgrid(levels, levels, indexing="ij")
    made = together(torch.stack([first, second])[None].byte())[0, 0]
    assert torch.equal(made.long(), (first + second).clamp(max=255))


def test_mnist_two_training_images_are_made_anew_and_the_others_once():
    data = _real("mnist-two")
    assert (data.image_shape, data.likelihood) == ((1, 60, 60), "bernoulli")
    data.check("train", "valid", "test", likelihood="bernoulli")
    x = next(data.batches("train", 16, _generator(1)))
    assert x.shape == (16, 1, 60, 60) and set(x.unique().tolist()) == {0.0, 1.0}
    a, b, c = (data.binarise(data.train.images[:9], _generator(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    # The first digit of each image, and the grey levels of both.
    other = _real("mnist-dynamic")
    assert torch.equal(data.train.images, other.train.images)
    for name in ("valid", "test"):
        split = data.split(name)
        ink = other.grey(name).flatten(1).sum(1)
        assert torch.equal(split.parts[:, 0].flatten(1).sum(1), ink)
        assert torch.equal(split.grey, together(split.parts))
        # No ink where both are black, none missing where they are white.
        assert split.images[split.grey == 0].sum() == 0
        assert split.images[split.grey == 255].min() == 1
        share = split.images.double().mean() / (split.grey.double().mean() / 255)
        assert share.item() == pytest.approx(1, abs=0.005)
    images = data.test.images.numpy().tobytes()
    assert hashlib.sha256(images).hexdigest() == MNIST_TWO_TEST
    part = data.test.subset(torch.tensor([3, 5]))
    assert torch.equal(part.parts, data.test.parts[[3, 5]])


def test_the_mean_image_of_mnist_two_is_that_of_what_is_made():
    data = _real("mnist-two")
    mean, made = mean_image(data), data.test.grey.float().mean(0) / 255
    assert mean.shape == (1, 60, 60)
    # 5,000 images of bits: the standard error of a pixel is at most 0.006.
    assert (mean - made).abs().max() < 0.035
    assert mean.mean().item() == pytest.approx(made.mean().item(), rel=0.02)


# Real data --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_52_split_sizes_shapes_and_ranges(name):
    data = _real(name)
    p = data.protocol
    assert tuple(map(len, (data.train, data.valid, data.test))) == p.sizes
    assert data.name == p.name == name and len(data.sha256["content"]) == 64
    for split in (data.train, data.valid, data.test):
        assert split.images.dtype == torch.uint8
        assert split.labels is None or split.labels.dtype == torch.int64
        if split.visit not in ("clutter", "two"):  # made of 28x28 digits at each visit
            assert tuple(split.images.shape[1:]) == p.image_shape
        assert split.images.max() == (1 if split.visit == "bits" else 255)


@pytest.mark.parametrize("name", ["mnist-fixed", "mnist-dynamic", "omniglot-ours"])
def test_51_two_loads_are_equal_bit_for_bit(name):
    one, two = _real(name), load_data(name, download=False)
    for split in ("train", "valid", "test"):
        assert torch.equal(one.split(split).images, two.split(split).images)
    assert one.sha256["content"] == two.sha256["content"]


@pytest.mark.parametrize("name", ["mnist-fixed", "mnist-dynamic"])
def test_52_splits_are_disjoint(name):
    data = _real(name)
    grey = name == "mnist-dynamic"
    sets = []
    for split in ("train", "valid", "test"):
        images = data.grey(split) if grey else data.split(split).images
        packed = images.flatten(1).numpy()
        packed = packed if grey else np.packbits(packed, axis=1)
        sets.append({row.tobytes() for row in packed})
    train, valid, test = sets
    # Two different drawings could by chance have the same bits; none of MNIST's does.
    assert not (train & valid or train & test or valid & test)


def test_51_drawn_bits_are_the_same_on_every_machine():
    data = _real("mnist-dynamic")
    for split in ("valid", "test"):
        bits = np.packbits(data.split(split).images.flatten(1).numpy(), axis=1)
        assert hashlib.sha256(bits.tobytes()).hexdigest() == BITS[split]
    x = data.grey("test").double() / 255
    bits = data.test.images.double()
    # The sum of all deviations is a sum of independent draws of mean 0.
    z = (bits - x).sum() / (x * (1 - x)).sum().sqrt()
    assert z.abs() < 4
    # Where grey is 0 or 255 there is nothing to draw.
    sure = (x == 0) | (x == 1)
    assert torch.equal(bits[sure], x[sure])


def test_52_split_of_mnist_is_the_documented_permutation():
    data = _real("mnist-dynamic")
    both = torch.cat([data.grey("train"), data.grey("valid")])
    digest = content_sha256({"images": data.grey("valid").numpy()})
    assert digest == VALID
    assert len(both) == 60_000
    share = torch.bincount(data.valid.labels) / 10_000
    assert (share - torch.bincount(data.train.labels) / 50_000).abs().max() < 0.012


@pytest.mark.parametrize(("split", "floor"), [("test", 45.5), ("train", 45.8)])
def test_53_grey_mnist_holds_45_nats_of_pure_pixel_noise(split, floor):
    data = _real("mnist-dynamic")
    grey = data.grey("test")
    if split == "train":  # the official 60,000
        grey = torch.cat([data.grey("train"), data.grey("valid")])
    counts = torch.bincount(grey.flatten().long(), minlength=256).double()
    p = torch.arange(256, dtype=torch.float64) / 255
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    assert (counts @ entropy).item() / len(grey) == pytest.approx(floor, abs=0.05)


def test_53_independent_pixels_cost_205_7_nats():
    p = _real("mnist-dynamic").grey("test").double().mean(0) / 255
    # The mean image's own entropy is its cross-entropy averaged over the images.
    nats = (torch.special.entr(p) + torch.special.entr(1 - p)).sum().item()
    assert nats == pytest.approx(205.7, abs=0.1)


def test_fixed_test_file_is_sorted_so_the_first_images_are_no_sample():
    data = _real("mnist-fixed")
    assert data.test.labels is None
    images = data.test.images.float().flatten(1)
    first, drawn = images[:900], images[stratified_subset(data.test, 900, seed=0)]
    mean = images.mean(0)
    # The first 900 are zeros: their mean image is far off, a draw's is not.
    assert (first.mean(0) - mean).norm() > 10 * (drawn.mean(0) - mean).norm()


def test_omniglot_ours_is_divided_by_drawer_and_every_character_is_everywhere():
    data = _real("omniglot-ours")
    for split, drawers in (("train", 13), ("valid", 2), ("test", 5)):
        labels = data.split(split).labels
        counts = torch.bincount(labels, minlength=50)
        assert (counts % drawers == 0).all() and counts.sum() == 1623 * drawers
    # Ink is bright and rare.
    assert 0.05 < data.grey("test").float().mean() / 255 < 0.1


def test_omniglot_area_resizing_of_the_originals_is_ours_exactly():
    import os
    from pathlib import Path

    from drawlib.data import formats

    folder = Path(os.environ.get("DRAWLIB_DATA", "?"))
    packed, small = (
        folder / f"omniglot{name}.npz" for name in ("105_packed", "28_area")
    )
    if not (packed.is_file() and small.is_file()):
        pytest.skip("the Omniglot originals are not in DRAWLIB_DATA")
    made = formats.omniglot_105({packed.name: packed})
    kept = formats.npz({small.name: small})
    assert content_sha256(made) == content_sha256(kept)
    order = list(zip(kept["alphabet"], kept["char_id"], kept["drawer"], strict=True))
    assert order == sorted(order)  # the order in which the official zips are read


def _zeros(kind: str) -> download.Raw:
    """Black images in the shapes of a real data set; labels count through classes."""
    arrays = {}
    for key, shape in download._RECIPES[kind].shapes.items():
        a = np.zeros(shape, "u1")
        arrays[key] = np.arange(shape[0], dtype="i8") % 10 if a.ndim == 1 else a
    return download.Raw(arrays, {"file": "0" * 64}, "0" * 64, "folder", ("file",))


@pytest.mark.parametrize(
    ("name", "visits"), [("omniglot", "bits"), ("cifar10", "scale")]
)
def test_52_sets_that_are_seldom_at_hand_are_divided_as_documented(
    name, visits, monkeypatch
):
    raw = _zeros(name)
    monkeypatch.setattr(download, "obtain", lambda kind, **_: raw)
    data = load_data(name)
    splits = (data.train, data.valid, data.test)
    assert tuple(map(len, splits)) == DATASETS[name].sizes
    assert all(tuple(s.images.shape[1:]) == data.image_shape for s in splits)
    assert data.test.visit == visits and data.unverified == ("file",)
    # Every class in its place: labels were cut with the very same positions.
    official = torch.arange(len(data.train) + len(data.valid)) % 10
    both = torch.cat([data.train.labels, data.valid.labels])
    assert torch.equal(torch.bincount(both), torch.bincount(official))
    assert not torch.equal(data.train.labels, official[: len(data.train)])


def test_60k_trains_on_all_images_and_has_the_other_splits_of_mnist_dynamic(
    monkeypatch,
):
    raw = _zeros("mnist")
    number = np.arange(60_000)
    raw.arrays["train_images"][:, 0, 0] = number % 256
    raw.arrays["train_images"][:, 0, 1] = number // 256
    monkeypatch.setattr(download, "obtain", lambda kind, **_: raw)
    usual, whole = load_data("mnist-dynamic"), load_data("mnist-dynamic-60k")
    first = whole.train.images[:, 0, 0].long()
    assert torch.equal(first[:, 0] + 256 * first[:, 1], torch.arange(60_000))
    for split in ("valid", "test"):
        for part in ("images", "grey", "labels"):
            one, other = (getattr(getattr(d, split), part) for d in (usual, whole))
            assert torch.equal(one, other)
    assert whole.train.visit == "sample"
    assert tuple(map(len, (whole.train, whole.valid, whole.test))) == (
        whole.protocol.sizes
    )
    assert "may choose nothing" in str(whole.protocol)


@pytest.mark.parametrize("name", ["mnist-dynamic", "omniglot", "omniglot-ours"])
def test_51_validation_and_test_bits_are_two_draws(name, monkeypatch):
    raw = _zeros("mnist" if name == "mnist-dynamic" else name)
    for key, a in raw.arrays.items():
        if a.ndim == 3:
            a += 128
        elif key == "drawer":
            raw.arrays[key] = np.arange(len(a)) % 20 + 1
    monkeypatch.setattr(download, "obtain", lambda kind, **_: raw)
    data = load_data(name)
    valid, test = (split.images[:1000].float() for split in (data.valid, data.test))
    # From one draw all would agree, from two of them half: 9 standard deviations.
    assert (valid == test).float().mean() == pytest.approx(0.5, abs=0.005)


def test_cifar10_10k_keeps_the_last_thousand_for_validation():
    data = _real("cifar10-10k")
    assert data.likelihood == "discretised-logistic"
    assert data.test.labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    x = next(data.batches("train", 4, _generator()))
    assert x.shape == (4, 3, 32, 32) and 0 <= x.min() and x.max() <= 1
    assert torch.equal((x * 255).round() / 255, x)


# Known answers: they change only if the draws change, and then every number does.
SUBSET = [110, 248, 299, 434, 498]
BITS = {
    "valid": "a77ed7d8a8fd60f544f947d93bbdd5b35a024d420049932f627bd654b90c9186",
    "test": "848c41a5e8f7c9b938fe9a3a102c632061541e9876a3b48543c58f716d8cbaaf",
}
VALID = "838de58ce44270b3a485fe4f97ac002306c69994e1389fe3ac292fd37d8bcfb4"


# Splits that are not what they say


def _bad(images: Tensor, visit: str = "bits", labels: Tensor | None = None) -> Data:
    """A data set with one good split and two bad ones; the first image is blank."""
    good = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
    # Not through the constructor, whose arguments the tests check at run time.
    bad = replace(good, visit=visit)
    object.__setattr__(bad, "images", images)
    object.__setattr__(bad, "labels", labels)
    protocol = Protocol("toy", "Squares.", (1, 2, 2))
    return Data("toy", protocol, good, bad, bad)


def _squares(value: float, dtype: torch.dtype = torch.uint8) -> Tensor:
    """A thousand blank images, of which the last but one holds the value."""
    images = torch.zeros(1000, 1, 2, 2, dtype=dtype)
    images[-2, 0, 1, 1] = value
    return images


@pytest.mark.parametrize(
    ("images", "visit", "told"),
    [
        (_squares(3), "bits", "holds 3 where visit='bits' allows 0 and 1; grey levels"),
        (_squares(255), "bits", "holds 255 where visit='bits' .* visit='sample' or"),
        (_squares(1), "sample", "holds 0 and 1 alone, which visit='sample' would div"),
        (_squares(1), "scale", "bits are declared by visit='bits'"),
        (_squares(0.5, torch.float32), "bits", "holds torch.float32; allowed: uint8"),
        (_squares(float("nan"), torch.float32), "bits", "holds torch.float32; allowed"),
        (_squares(0.5, torch.float64), "scale", "visit='sample' or 'scale': they are"),
        (_squares(7, torch.int64), "scale", "holds torch.int64; allowed: uint8"),
        (_squares(1, torch.bool), "bits", "holds torch.bool; allowed: uint8"),
        (np.zeros((4, 1, 2, 2), "u1"), "bits", "holds uint8; allowed: uint8 tensors"),
        (_squares(1)[:, 0], "bits", r"shape \(1000, 2, 2\); allowed: \(images, chan"),
        (_squares(1)[:0], "bits", "the test split is empty; allowed: one image"),
    ],
)
def test_a_split_is_checked_whole_and_says_how_it_is_declared(images, visit, told):
    data = _bad(images, visit)
    data.check("train")
    with pytest.raises(ValueError, match=told) as caught:
        data.check("train", "test")
    assert "\n" not in str(caught.value) and "test split" in str(caught.value)


@pytest.mark.parametrize(
    "labels", [torch.zeros(999, dtype=torch.long), torch.zeros(1000), [0] * 1000]
)
def test_labels_that_are_not_one_number_an_image_are_refused(labels):
    with pytest.raises(ValueError, match="allowed: 1000 whole numbers"):
        _bad(_squares(1), labels=labels).check("test")


@pytest.mark.parametrize(
    ("visit", "likelihood", "allowed"),
    [
        ("scale", "bernoulli", "'bits', 'sample'"),
        ("clutter", "bernoulli", "'bits', 'sample'"),
        ("bits", "discretised-logistic", "'scale'"),
        ("sample", "discretised-logistic", "'scale'"),
    ],
)
def test_a_visit_that_the_likelihood_cannot_have_is_refused(visit, likelihood, allowed):
    data = _bad(_squares(1 if visit == "bits" else 200), visit)
    data.check("test")
    with pytest.raises(ValueError, match=f"the likelihood '{likelihood}': {allowed}"):
        data.check("test", likelihood=likelihood)


def test_every_data_set_passes_its_own_check(mnist_fixed, mnist_dynamic):
    for data in (mnist_fixed, mnist_dynamic):
        data.check("train", "valid", "test", likelihood=data.likelihood)
