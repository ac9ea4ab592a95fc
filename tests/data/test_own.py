"""Your own images: folders, arrays, torchvision's sets, and the habits of files."""

import copy
import gzip
import inspect
import io
import json
import math
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from drawlib.__main__ import main
from drawlib.data import own, pictures
from drawlib.data.download import DataError
from drawlib.data.own import ImageOptions, named
from drawlib.data.sets import Data, load_data
from drawlib.evaluation import evaluate
from drawlib.results.runs import load_run

RNG = np.random.default_rng


def picture(path: Path, size=(20, 36), colour=False, seed=0, **save) -> Path:
    """A seeded picture of size (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if colour else size
    values = RNG(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(values).save(path, **save)
    return path


@pytest.fixture
def folder(tmp_path):
    """Ten grey pictures in each of three classes."""
    for k, name in enumerate(("ant", "bee", "cat")):
        for i in range(10):
            picture(tmp_path / "pics" / name / f"{i}.png", seed=100 * k + i)
    return tmp_path / "pics"


# What comes out


def test_subfolders_are_classes_and_each_split_has_its_share(folder):
    data = Data.from_folder(folder, binarise="none")
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [24, 3, 3]
    for split in ("train", "valid", "test"):
        labels = data.split(split).labels
        assert labels.bincount().tolist() == [len(labels) // 3] * 3
    assert data.image_shape == (1, 20, 36)
    files = sorted(folder.glob("*/*.png"))
    known = {np.asarray(Image.open(f)).tobytes(): f.parent.name for f in files}
    for x, y in zip(data.train.images, data.train.labels, strict=True):
        assert known[x.numpy().tobytes()] == ("ant", "bee", "cat")[y]


def test_the_same_seed_gives_the_same_split_and_another_seed_another(folder):
    one, two = Data.from_folder(folder), Data.from_folder(folder)
    other = Data.from_folder(folder, seed=1)
    assert torch.equal(one.train.images, two.train.images)
    assert one.name == two.name != other.name
    assert not torch.equal(one.train.images, other.train.images)


def test_no_image_is_in_two_splits(folder):
    data = Data.from_folder(folder, binarise="none")
    seen = [
        x.numpy().tobytes()
        for s in ("train", "valid", "test")
        for x in data.split(s).images
    ]
    assert len(seen) == len(set(seen)) == 30


def test_folders_train_valid_and_test_are_the_splits(tmp_path):
    for split, n in (("train", 5), ("valid", 2), ("test", 3)):
        for i in range(n):
            picture(tmp_path / split / "a" / f"{i}.png", seed=len(split) + i)
    data = Data.from_folder(tmp_path)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [5, 2, 3]
    assert "split as given" in data.name


def test_without_valid_a_tenth_of_train_is_taken(tmp_path):
    for split, n in (("train", 20), ("test", 3)):
        for i in range(n):
            picture(tmp_path / split / f"{i}.png", seed=i)
    data = Data.from_folder(tmp_path)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [18, 2, 3]
    assert "a tenth of train for validation, seed 0" in data.protocol.sentence


@pytest.mark.parametrize(
    ("binarise", "visit", "likelihood", "told"),
    [
        ("dynamic", "sample", "bernoulli", "drawn anew at each visit in training"),
        ("fixed", "bits", "bernoulli", "bits drawn once"),
        ("threshold", "bits", "bernoulli", "a threshold at half"),
        ("none", "scale", "discretised-logistic", "8 bits a value"),
    ],
)
def test_the_protocol_says_how_images_became_binary(
    folder, binarise, visit, likelihood, told
):
    data = Data.from_folder(folder, binarise=binarise)
    assert (data.train.visit, data.likelihood) == (visit, likelihood)
    assert told in data.protocol.sentence
    assert "no number is comparable with a published one" in data.protocol.sentence
    x = next(data.batches("test", 3))
    if likelihood == "bernoulli":
        assert set(x.unique().tolist()) <= {0.0, 1.0}


def test_bits_come_up_with_the_frequency_of_their_grey_value(tmp_path):
    images = np.full((400, 8, 8), 64, np.uint8)
    data = Data.from_arrays(images, binarise="fixed")
    assert data.train.images.float().mean().item() == pytest.approx(64 / 255, abs=0.01)
    assert data.train.grey.unique().tolist() == [64]


def test_a_threshold_is_at_half():
    images = np.array([0, 127, 128, 255] * 8, np.uint8).reshape(8, 2, 2)
    data = Data.from_arrays(images, binarise="threshold")
    assert data.train.images[0].flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "shape", [(9, 4, 5, 3), (9, 3, 4, 5)], ids=["channels last", "channels first"]
)
def test_channels_may_stand_before_or_behind(shape):
    data = Data.from_arrays(RNG(0).integers(0, 256, shape, dtype=np.uint8))
    assert data.image_shape == (3, 4, 5)
    assert data.likelihood == "discretised-logistic"


def test_a_size_is_reached_by_the_mean_of_areas(tmp_path):
    for i in range(3):
        values = np.kron(np.array([[0, 100], [200, 40]]), np.ones((4, 4)))
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{i}.png")
    data = Data.from_folder(tmp_path, size="2x2", binarise="none")
    assert data.train.images[0].flatten().tolist() == [0, 100, 200, 40]
    blurred = Data.from_folder(tmp_path, size="1x1", binarise="none")
    assert blurred.train.images[0].item() == 85


@pytest.mark.parametrize(
    ("fit", "row", "column"),
    [
        ("crop", [0, 0, 0, 0], [0, 0, 0, 0]),
        ("pad", [9, 0, 0, 9], [255, 9, 9, 255]),
        ("stretch", [9, 0, 0, 9], [9, 9, 9, 9]),
    ],
)
def test_another_shape_is_cropped_padded_or_stretched(tmp_path, fit, row, column):
    """Four rows and eight columns, black in the middle and 9 at both ends."""
    for i in range(3):
        values = np.full((4, 8), 9, np.uint8)
        values[:, 2:6] = 0
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    data = Data.from_folder(tmp_path, size="4x4", fit=fit, binarise="none")
    image = data.train.images[0, 0]
    assert image[1].tolist() == row and image[:, 0].tolist() == column


# What people leave in files


def one(tmp_path: Path, **options) -> Data:
    return Data.from_folder(tmp_path, binarise="none", **options)


def test_a_picture_lies_as_its_exif_tag_says(tmp_path):
    values = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    for i in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned a quarter clockwise to stand upright
        Image.fromarray(values).save(tmp_path / f"{i}.png", exif=exif)
    data = one(tmp_path)
    assert data.train.images[0, 0].tolist() == [[40, 10], [50, 20], [60, 30]]
    assert "3 turned as their EXIF tag says" in data.protocol.sentence


def test_alpha_lies_on_white_and_is_told(tmp_path):
    for i in range(3):
        values = np.zeros((2, 2, 4), np.uint8)
        values[0, 0, 3] = 255
        Image.fromarray(values, "RGBA").save(tmp_path / f"{i}.png")
    data = one(tmp_path)
    assert data.train.images[0, 0].tolist() == [[0, 255], [255, 255]]
    assert "3 with alpha, laid on white" in data.protocol.sentence


def test_sixteen_bits_are_cut_to_eight_and_told(tmp_path):
    values = np.array([[0, 257], [32896, 65535]], np.uint16)
    for i in range(3):
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    data = one(tmp_path)
    assert data.train.images[0, 0].tolist() == [[0, 1], [128, 255]]
    assert "3 of 16 bits, cut to 8" in data.protocol.sentence


def test_palettes_and_cmyk_become_rgb_and_are_told(tmp_path):
    values = RNG(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(values).quantize(4).save(tmp_path / "a.png")
    Image.fromarray(values).convert("CMYK").save(tmp_path / "b.jpg")
    Image.fromarray(values).save(tmp_path / "c.png")
    told = one(tmp_path).protocol.sentence
    assert "1 with a palette, made RGB" in told and "1 in CMYK, made RGB" in told


# Primaries (XYZ at D50) and the exponent of a profile that a camera writes.
SPACES = {
    "Display P3": (
        ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
        2.2,
    ),
    "Adobe RGB": (
        ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
        2.199,
    ),
}


def icc(space: str) -> bytes:
    """An ICC profile, version 2: a header, a table of tags, and what they point at."""
    primaries, gamma = SPACES[space]

    def xyz(values) -> bytes:
        fixed = (struct.pack(">i", round(65536 * v)) for v in values)
        return b"XYZ \0\0\0\0" + b"".join(fixed)

    curve = struct.pack(">4sIIHH", b"curv", 0, 1, round(256 * gamma), 0)
    named = struct.pack(">4sII92s", b"desc", 0, 5, b"wide")
    parts = {b"desc": named, b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    parts[b"wtpt"] = xyz((0.9642, 1, 0.8249))
    for name, primary in zip("rgb", primaries, strict=True):
        parts[f"{name}XYZ".encode()] = xyz(primary)
        parts[f"{name}TRC".encode()] = curve
    start = 132 + 12 * len(parts)
    table, body = struct.pack(">I", len(parts)), b""
    for name, part in parts.items():
        table += struct.pack(">4sII", name, start + len(body), len(part))
        body += part
    head = struct.pack(
        ">I4sI4s4s4s12x4s28x3i",
        *(start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp"),
        *(round(65536 * v) for v in (0.9642, 1, 0.8249)),
    )
    return head.ljust(128, b"\0") + table + body


def in_space(values: np.ndarray, space: str) -> Image.Image:
    """The same colours as a camera writes them that has this colour space."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(icc(space)))
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    picture = Image.fromarray(values)
    made = ImageCms.profileToProfile(picture, srgb, own, renderingIntent=intent)
    assert made is not None
    return made


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_of_a_profile_become_those_of_srgb_and_are_told(tmp_path, space, alpha):
    """Passed over, they were paler by a fifth, and some wrong by a hundred levels."""
    levels = np.linspace(20, 235, 6).astype("u1")
    values = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(18, 12, 3)
    written = in_space(values, space)
    assert np.abs(np.asarray(written).astype(int) - values).max() > 40
    if alpha:  # one clear pixel, which is white afterwards
        seen = np.full(values.shape[:2], 255, np.uint8)
        seen[0, 0], values[0, 0] = 0, 255
        written.putalpha(Image.fromarray(seen))
    for i in range(3):
        written.save(tmp_path / f"{i}.png", icc_profile=icc(space))
    data = one(tmp_path)
    found = data.train.images[0].permute(1, 2, 0).int() - torch.from_numpy(values).int()
    assert found.abs().max() <= 10 and found.abs().float().mean() < 0.5
    assert "3 with a colour profile, made sRGB" in data.protocol.sentence


def test_grey_stays_grey_under_a_profile_and_srgb_s_own_changes_nothing(tmp_path):
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = np.repeat(shades[..., None], 3, -1)
    for i in range(3):
        Image.fromarray(grey).save(tmp_path / f"{i}.png", icc_profile=icc("Adobe RGB"))
    data = one(tmp_path)
    assert data.train.images.shape[1] == 1
    moved = (data.train.images[0].int() - torch.from_numpy(shades).int()).abs()
    assert 4 < moved.max() < 12  # sRGB's curve is no power of 2.2
    colours = RNG(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "own").mkdir()
    for i in range(3):
        Image.fromarray(colours).save(tmp_path / "own" / f"{i}.png", icc_profile=own)
    data = one(tmp_path / "own")
    assert torch.equal(data.train.images[0].permute(1, 2, 0), torch.from_numpy(colours))
    assert "profile" not in data.protocol.sentence


@pytest.mark.parametrize("profile", [b"none", icc("Adobe RGB")])
def test_a_profile_that_is_none_or_of_another_kind_is_passed_over_and_told(
    tmp_path, profile
):
    values = RNG(0).integers(0, 256, (4, 4), dtype=np.uint8)
    for i in range(3):
        Image.fromarray(values).save(tmp_path / f"{i}.png", icc_profile=profile)
    data = one(tmp_path)
    assert torch.equal(data.train.images[0, 0], torch.from_numpy(values))
    assert "3 with a colour profile that cannot be used" in data.protocol.sentence


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (0, 255)]
    for i in range(3):
        frames[0].save(tmp_path / f"{i}.gif", save_all=True, append_images=frames[1:])
    data = one(tmp_path)
    assert data.train.images.unique().tolist() == [0]
    assert "3 animated, first frame taken" in data.protocol.sentence


def test_grey_pictures_in_three_channels_are_grey_and_a_coloured_one_makes_colour(
    tmp_path,
):
    for i in range(3):
        values = np.full((4, 4, 3), 50 * i, np.uint8)
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    assert one(tmp_path).image_shape == (1, 4, 4)
    picture(tmp_path / "3.png", (4, 4), colour=True)
    assert one(tmp_path).image_shape == (3, 4, 4)
    assert one(tmp_path, colour="grey").image_shape == (1, 4, 4)


def test_hidden_files_and_other_files_are_passed_over(folder):
    (folder / ".thumbs").mkdir()
    picture(folder / ".thumbs" / "x.png", (3, 3))
    picture(folder / "ant" / "._0.png", (3, 3))
    (folder / "readme.txt").write_text("no picture")
    assert len(Data.from_folder(folder).train) == 24


def test_other_files_are_counted_with_their_endings(folder):
    (folder / "notes.pdf").write_bytes(b"%PDF")
    (folder / "ant" / "0.heic").write_bytes(b"")
    told = Data.from_folder(folder).protocol.sentence
    assert "2 other files passed over (.heic, .pdf)" in told


def test_whole_numbers_that_use_eight_bits_are_kept(tmp_path):
    for i in range(3):
        values = np.full((4, 4), 200, np.int32)
        Image.fromarray(values).save(tmp_path / f"{i}.tiff")
    assert one(tmp_path).train.images.unique().tolist() == [200]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_linked_folder_is_read_and_a_link_back_does_no_harm(tmp_path):
    for i in range(4):
        picture(tmp_path / "elsewhere" / f"{i}.png", seed=i)
        picture(tmp_path / "pics" / "test" / f"{i}.png", seed=9 + i)
    (tmp_path / "pics" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "pics")
    data = one(tmp_path / "pics")
    assert (len(data.train) + len(data.valid), len(data.test)) == (4, 4)


def test_an_image_keeps_its_split_when_others_come_or_go(folder):
    before = Data.from_folder(folder, binarise="none")
    (folder / "bee" / "3.png").unlink()
    picture(folder / "ant" / "new.png", seed=999)
    after = Data.from_folder(folder, binarise="none")

    def pixels(images):
        return {x.numpy().tobytes() for x in images}

    moved = pixels(after.test.images) & pixels(before.train.images)
    # Only the ones at the two borders of a class may move.
    assert len(moved) <= 2


def test_equal_images_are_not_on_both_sides():
    images = RNG(0).integers(0, 256, (20, 5, 5), dtype=np.uint8)
    data = Data.from_arrays(np.concatenate([images, images]), binarise="none")
    train = {x.numpy().tobytes() for x in data.train.images}
    # At most the one that lies on the border.
    assert sum(x.numpy().tobytes() in train for x in data.test.images) <= 1


# What is refused, in one line that names the file


def refused(make, *words) -> str:
    with pytest.raises((DataError, ValueError)) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    refused(lambda: one(tmp_path), str(tmp_path), "no picture (1 other files)", ".png")
    refused(lambda: one(tmp_path / "none"), "there is no folder")


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_images_than_splits(tmp_path, n):
    for i in range(n):
        picture(tmp_path / f"{i}.png")
    refused(lambda: one(tmp_path), f"holds {n} image", "3 or more")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no picture: it is empty"),
        (POINTER, "it is a Git LFS pointer"),
        (b"<!doctype html>", "it is a page of HTML"),
        (b"not a picture", "no picture that is known here by its content"),
        (None, "is no whole picture"),
    ],
)
def test_a_broken_file_is_named(folder, content, told):
    path = folder / "bee" / "4.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    refused(lambda: Data.from_folder(folder), str(path), told)


def test_a_file_in_place_of_a_folder_is_told_as_one(folder):
    file = folder / "bee" / "4.png"
    refused(lambda: Data.from_folder(file), f"{file} is a file; allowed: a folder")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (POINTER, "it is a Git LFS pointer"),
        (b"<html>", "it is a page of HTML"),
        (b"", "it is empty"),
        (None, "cannot be read as npz: is a directory"),
    ],
)
def test_what_lies_in_place_of_arrays_is_named(tmp_path, content, told):
    path = tmp_path / "a.npz"
    path.mkdir() if content is None else path.write_bytes(content)
    said = refused(lambda: load_data(f"npz:{path}"), str(path), told)
    assert "pickle" not in said
    refused(lambda: load_data(f"npy:{path}x"), "cannot be read as npy: no such file")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 2**70}, f"seed is {2**70}; allowed: 0 to 2**63 - 1"),
        ({"seed": 1.5}, "ImageOptions.seed is 1.5; allowed: a whole number"),
        ({"seed": True}, "ImageOptions.seed is True; allowed: a whole number"),
        ({"seed": "3"}, "ImageOptions.seed is '3'; allowed: a whole number"),
        ({"size": (8, 8)}, "ImageOptions.size is (8, 8); allowed: height x width"),
        ({"sise": "8x8"}, "ImageOptions has no field sise; it has: size, colour"),
    ],
)
def test_options_are_plain_values_or_refused_by_name(options, told):
    refused(lambda: Data.from_arrays(np.zeros((9, 8, 8), "u1"), **options), told)


def test_a_seed_of_numpy_is_a_seed():
    images = RNG(0).integers(0, 256, (30, 5, 5), dtype=np.uint8)
    theirs = Data.from_arrays(images, seed=np.int64(3))
    assert theirs.name == Data.from_arrays(images, seed=3).name


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.rand(9, 8, 8).bfloat16(), "images are torch.bfloat16; allowed: whole"),
        (torch.rand(9, 8, 8, requires_grad=True), "images are torch.float32"),
        (torch.zeros(9, 8, 8, dtype=torch.uint8, device="meta"), "device meta"),
        (np.ma.masked_array(np.zeros((9, 8, 8), "u1"), mask=True), "masked values"),
    ],
)
def test_tensors_that_are_no_images_are_refused_in_one_line(images, told):
    refused(lambda: Data.from_arrays(images), told)


def test_arrays_that_are_not_read_are_told(tmp_path):
    images = RNG(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, lables=np.zeros(9, int))
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert "the array 'lables' passed over" in data.protocol.sentence


def test_dim_images_are_told():
    dim = RNG(0).integers(0, 4, (30, 8, 8), dtype=np.uint8)
    told = Data.from_arrays(dim).protocol.sentence
    assert "the brightest value is 3 of 255" in told
    assert "brightest" not in Data.from_arrays(dim // 2).protocol.sentence  # bits
    assert "brightest" not in Data.from_arrays(60 * dim).protocol.sentence


def test_a_name_of_torchvision_without_a_set_lists_the_sets():
    refused(lambda: load_data("torchvision:"), "torchvision:NAME, of FashionMNIST")


def test_sizes_that_differ_ask_for_one(folder):
    picture(folder / "cat" / "wide.png", (20, 40))
    refused(lambda: Data.from_folder(folder), "wide.png is 40x20", "--image.size")
    assert Data.from_folder(folder, size="20x36").image_shape == (1, 20, 36)


def test_a_class_with_one_image_is_named(folder):
    picture(folder / "dog" / "a.png")
    refused(lambda: Data.from_folder(folder), "class 'dog'", "has 1 image", "3 or more")


def test_pictures_beside_folders_of_classes(folder):
    picture(folder / "stray.png")
    refused(
        lambda: Data.from_folder(folder), "stray.png lies beside folders of classes"
    )


def test_pictures_beside_train_and_test(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / split / "0.png")
    picture(tmp_path / "rest" / "x.png")
    refused(lambda: one(tmp_path), "x.png lies beside train and test")


def test_floating_point_pictures(tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / f"{i}.tiff")
    refused(lambda: one(tmp_path), "0.tiff", "floating-point")


@pytest.mark.parametrize("named", ["Train Test", "train val", "training testing"])
def test_folders_that_look_like_splits_are_no_classes(tmp_path, named):
    for split in named.split():
        for i in range(4):
            picture(tmp_path / split / f"{i}.png", seed=i)
    refused(lambda: one(tmp_path), named.split()[0], "train and test", "so written")


def test_pictures_deeper_than_a_class(folder):
    picture(folder / "ant" / "red" / "x.png")
    refused(lambda: Data.from_folder(folder), "x.png lies deeper than the folder of a")


def test_memory_that_does_not_do_is_told_with_the_need(folder, monkeypatch):
    monkeypatch.setattr(pictures, "free_memory", lambda: 50_000)
    refused(lambda: Data.from_folder(folder), "30 pictures of 36x20", "GB of memory")


def test_a_size_that_memory_cannot_hold_is_told_for_arrays_too(tmp_path):
    """40 images of 30000x30000 ended with the system's killer, without a word."""
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 5), "u1")
    big = {"size": "300000x300000"}
    need = ("40 images of 300000x300000 need", "GB of memory", "--image.size")
    refused(lambda: Data.from_arrays(images, **big), *need)
    np.save(tmp_path / "a.npy", images)
    name = f"npy:{tmp_path / 'a.npy'}?size=300000x300000"
    refused(lambda: load_data(name), *need)


def test_a_file_that_claims_more_than_memory_holds_is_named(tmp_path):
    """numpy's MemoryError named no file, and the advice was a smaller model."""
    head = (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000, 4000, 4000)}"
    )
    head += b" " * (117 - len(head)) + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    refused(lambda: load_data(f"npy:{path}"), "a.npy says that it holds more than")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            [np.zeros((4, 4)), np.zeros((4, 5))],
            ("a list of unequal parts", "one array"),
        ),
        (torch.zeros(9, 4, 4, dtype=torch.uint8).to_sparse(), ("sparse_coo", "dense")),
        (None, ("object", "bool or uint8")),
        (np.ma.array(np.zeros((9, 4, 4), "u1"), mask=True), ("masked values",)),
        (np.zeros((9, 4, 4), ">u2"), (">u2", "bool or uint8")),
        (np.zeros((9, 4, 4), np.float16), ("float16", "multiply by 255")),
    ],
)
def test_what_numpy_or_torch_would_complain_of_is_told_in_our_words(images, words):
    refused(lambda: Data.from_arrays({"images": images}), *words)


@pytest.mark.parametrize(
    "how",
    [
        np.asfortranarray,
        lambda a: np.ma.array(a),
        lambda a: a[:, ::-1][:, ::-1],
        lambda a: type("Jax", (), {"__array__": lambda self, *_, **__: a})(),
    ],
)
def test_images_are_the_same_in_whatever_order_and_holder_they_come(how):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6), "u1")
    found = Data.from_arrays({"images": how(images)})
    assert found.sha256 == Data.from_arrays(images).sha256


def test_data_travel_to_other_processes():
    """A pool that spawns, Dask, a copy: a mapping that cannot be changed could not."""
    data = Data.from_arrays(np.zeros((30, 5, 6), "u1"), np.arange(30) % 3)
    for there in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert there.sha256 == data.sha256 and there.protocol == data.protocol
        assert torch.equal(there.train.images, data.train.images)


@pytest.mark.parametrize("name", [None, 3, Path("npz:a.npz"), b"mnist-fixed"])
def test_a_name_that_is_no_text_is_refused_in_one_line(name):
    unchecked = inspect.unwrap(load_data)  # the tests' own check of types comes first
    with pytest.raises(ValueError, match="data set is .*; allowed: a name, such as"):
        unchecked(name)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.full((9, 4, 4), np.nan), ("float64 with NaN", "uint8")),
        (np.zeros((9, 4, 4), np.float32), ("float32", "multiply by 255")),
        (np.zeros((9, 4, 4), np.int64), ("int64", "bool or uint8")),
        (np.zeros((9, 4), np.uint8), ("shape (9, 4)",)),
        (np.zeros((9, 2, 4, 4), np.uint8), ("1 or 3 channels",)),
        (np.zeros((0, 4, 4), np.uint8), ("shape (0, 4, 4)",)),
        (np.zeros((2, 4, 4), np.uint8), ("holds 2 images",)),
    ],
)
def test_arrays_that_are_no_images(images, words):
    refused(lambda: Data.from_arrays(images), *words)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(8, int), ("(8,)", "(9,)")),
        (np.zeros(9), ("float64",)),
        (np.zeros((9, 2), int), ("(9, 2)",)),
    ],
)
def test_labels_that_are_none(labels, words):
    images = np.zeros((9, 4, 4), np.uint8)
    refused(lambda: Data.from_arrays(images, labels), "labels", *words)


def test_splits_that_do_not_go_together():
    a = np.zeros((9, 4, 4), np.uint8)
    refused(lambda: Data.from_arrays({"train_images": a}), "train", "allowed")
    refused(lambda: Data.from_arrays({"pictures": a}), "holds pictures", "images")
    both = {"train_images": a, "test_images": np.zeros((9, 5, 5), np.uint8)}
    refused(lambda: Data.from_arrays(both), "one shape")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "28"}, ("size is '28'", "28x20")),
        ({"size": "0x20"}, ("size is '0x20'",)),
        ({"colour": "blue"}, ("colour is 'blue'",)),
        ({"binarise": "maybe"}, ("binarise is 'maybe'", "threshold")),
        ({"seed": -1}, ("seed is -1",)),
    ],
)
def test_options_that_are_none(options, words):
    refused(lambda: ImageOptions(**options), *words)


def test_arrays_that_nobody_would_use_are_refused():
    a, y = np.zeros((9, 4, 4), np.uint8), np.zeros(9, int)
    both = {"images": a, "train_images": a, "test_images": a}
    refused(lambda: Data.from_arrays(both), "train_images", "allowed")
    split = {"train_images": a, "test_images": a}
    refused(lambda: Data.from_arrays(split, labels=y), "labels", "allowed")


def test_bools_in_colour_are_black_and_white():
    data = Data.from_arrays(RNG(0).random((9, 3, 4, 4)) < 0.5)
    assert data.train.images.unique().tolist() == [0, 255]
    bits = RNG(0).random((9, 4, 4)) < 0.5
    refused(lambda: Data.from_arrays(bits, binarise="none"), "'none' for bits")


def test_colour_is_not_made_binary():
    images = RNG(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    refused(lambda: Data.from_arrays(images, binarise="fixed"), "colour", "none")


# Files of arrays


def test_npz_and_npy_are_read_and_never_unpickled(tmp_path):
    images = RNG(0).integers(0, 256, (30, 6, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(30) % 3 + 7)
    np.save(tmp_path / "b.npy", images > 127)
    data = load_data(f"npz:{tmp_path / 'a.npz'}?binarise=none")
    assert data.image_shape == (1, 6, 5) and "3 classes" in data.protocol.sentence
    assert sorted(data.train.labels.unique().tolist()) == [0, 1, 2]
    bits = load_data(f"npy:{tmp_path / 'b.npy'}")
    assert bits.train.visit == "bits" and "bits as they are" in bits.protocol.sentence
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(lambda: load_data(f"npy:{tmp_path / 'c.npy'}"), "c.npy is no whole npy")
    refused(lambda: load_data(f"npy:{tmp_path / 'none.npy'}"), "none.npy")
    np.savez(tmp_path / "d.npz", images=np.array([{}], dtype=object))
    refused(lambda: load_data(f"npz:{tmp_path / 'd.npz'}"), "d.npz is no whole npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "e.npz").write_bytes(whole[: len(whole) // 2])
    refused(lambda: load_data(f"npz:{tmp_path / 'e.npz'}"), "e.npz is no whole npz")
    # For numpy all of these were pickles, with the advice to open them all the same.
    for content, what in {
        gzip.compress(whole): "it is compressed with gzip",
        b"label,pixel\n5,0\n": "it begins like neither an npy nor an npz file",
        (tmp_path / "d.npz").read_bytes(): "objects of Python's, which are never",
    }.items():
        (tmp_path / "e.npz").write_bytes(content)
        refused(lambda: load_data(f"npz:{tmp_path / 'e.npz'}"), "whole npz", what)
    np.savez(tmp_path / "f.npz", x=images)
    refused(lambda: load_data(f"npz:{tmp_path / 'f.npz'}"), "holds x", "images")


# torchvision's sets, as their files lie on a disk


def idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">HBB", 0, 8, values.ndim)
    head += struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def test_emnist_stands_upright_and_its_labels_begin_at_0(tmp_path):
    upright = np.zeros((12, 28, 28), np.uint8)
    upright[:, 2:26, 10] = 200  # a vertical stroke
    for split in ("train", "test"):
        raw = tmp_path / "EMNIST" / "raw"
        idx(raw / f"emnist-letters-{split}-images-idx3-ubyte", upright.swapaxes(1, 2))
        idx(raw / f"emnist-letters-{split}-labels-idx1-ubyte", np.arange(12) % 3 + 1)
    data = load_data("torchvision:EMNIST?binarise=none", root=tmp_path)
    assert torch.equal(data.test.images[0, 0], torch.from_numpy(upright[0]))
    assert data.test.labels.min() == 0


def test_a_set_that_lies_nowhere_says_where_it_was_sought(tmp_path, monkeypatch):
    from torchvision import datasets

    def nowhere(place, download, train):
        raise RuntimeError("network is unreachable" if download else "not found")

    monkeypatch.setattr(datasets, "KMNIST", nowhere)
    refused(
        lambda: load_data("torchvision:KMNIST", root=tmp_path),
        str(tmp_path),
        "network is unreachable",
    )
    refused(lambda: load_data("torchvision:Food101"), "Food101", "FashionMNIST")
    refused(
        lambda: load_data("torchvision:USPS", root=tmp_path, download=False),
        str(tmp_path),
        "download=True",
    )


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_sets_in_idx_files_are_read_from_their_folder(tmp_path, name):
    digits = RNG(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for split in ("train", "t10k"):
        raw = tmp_path / name / "raw"
        idx(raw / f"{split}-images-idx3-ubyte", digits)
        idx(raw / f"{split}-labels-idx1-ubyte", np.arange(20) % 10)
    data = load_data(f"torchvision:{name}?binarise=none", root=tmp_path)
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(digits))
    assert data.test.labels.tolist() == [*range(10)] * 2


def broken(folder: Path, how: str) -> str:
    """Files of KMNIST, one of them in a state that is told; what the message says."""
    raw = folder / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("t10k", 20)):
        head = struct.pack(">4I", 0x803, n, 28, 28)
        pixels = rng.integers(0, 256, (n, 28, 28), "u1").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        head = struct.pack(">2I", 0x801, n)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(range(n)))
    images, labels = (raw / f"train-{w}-ubyte" for w in ("images-idx3", "labels-idx1"))
    if how == "missing":
        (raw / "t10k-labels-idx1-ubyte").unlink()
        return f"what lies in {folder} is not whole (Dataset not found)"
    if how == "labels":
        labels.write_bytes(struct.pack(">2I", 0x801, 29) + bytes(29))
        return f"what lies in {folder} is not whole (30 images and 29 labels)"
    whole = images.read_bytes()
    ends = {"cut": whole[:-9], "html": b"<html>404</html>", "empty": b"", "none": b""}
    ends["none"] = struct.pack(">4I", 0x803, 0, 28, 28)
    images.write_bytes(ends[how])
    return f"what lies in {folder} is not whole ("


@pytest.mark.parametrize("how", ["missing", "labels", "cut", "html", "empty", "none"])
def test_a_set_of_torchvision_that_is_not_whole_is_told_as_such(how, tmp_path):
    """It was said to lie nowhere, or torchvision's AssertionError without a word."""
    told = broken(tmp_path / "sets", how)
    where = {"root": tmp_path / "sets", "download": False}
    refused(lambda: load_data("torchvision:KMNIST", **where), told, "download=True")


def test_a_hundred_svhn_labels_of_ten_are_zeros(tmp_path):
    scipy = pytest.importorskip("scipy.io")
    for split in ("train", "test"):
        images = RNG(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        labels = (np.arange(20) % 10 + 1)[:, None].astype(np.uint8)
        scipy.savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels})
    from torchvision import datasets

    right = datasets.svhn.check_integrity
    datasets.svhn.check_integrity = lambda *given: True
    try:
        data = load_data("torchvision:SVHN", root=tmp_path)
    finally:
        datasets.svhn.check_integrity = right
    assert data.image_shape == (3, 32, 32)
    assert torch.equal(
        data.test.images[9],
        torch.from_numpy(np.ascontiguousarray(images[..., 9].transpose(2, 0, 1))),
    )
    assert data.test.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_svhns_cropped_format_is_trained_on_and_evaluated(
    tmp_path, monkeypatch, capsys
):
    scipy = pytest.importorskip("scipy.io")
    for split in ("train", "test"):
        images = RNG(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        labels = (np.arange(20) % 10 + 1)[:, None].astype(np.uint8)
        scipy.savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels})
    from torchvision import datasets

    monkeypatch.setattr(datasets.svhn, "check_integrity", lambda *given: True)
    monkeypatch.setenv("DRAWLIB_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = ["--model.T", "2", "--model.hidden", "8", "--model.z", "2"]
    train = ["train", "draw:paper-svhn", *small, "--data", "torchvision:SVHN"]
    train += ["--image.size", "54x54", "--run-dir", "run", "--train.epochs", "1"]
    assert main(train) == 0
    run, model = load_run(tmp_path / "run")
    assert (run.data, model.image_shape) == ("torchvision:SVHN?size=54x54", (3, 54, 54))
    assert (model.config.read, model.config.write) == (12, 12)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    told = capsys.readouterr().out
    assert "torchvision:SVHN (54x54 colour, 8 bits a value" in told
    bits, right = bits_of(told, 3 * 54 * 54)
    assert bits == pytest.approx(right, abs=1e-3)


def test_arrays_are_resized_as_pictures_are_and_never_left_as_they_were():
    images = np.zeros((9, 4, 4), "u1")
    images[:, :2, :2] = 200
    assert Data.from_arrays(images, size="2x2", binarise="none").train.images[
        0, 0
    ].tolist() == [[200, 0], [0, 0]]
    colour = RNG(0).integers(0, 256, (9, 4, 4, 3), "u1")
    assert Data.from_arrays(colour, colour="grey").image_shape == (1, 4, 4)
    refused(lambda: Data.from_arrays(images, colour="colour"), "for grey arrays")
    refused(lambda: Data.from_arrays(images > 9, size="2x2"), "bits of 4x4")


# The command line


def test_a_name_keeps_its_options_and_its_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = named("folder:pics?size=8x8", ImageOptions(binarise="fixed"))
    assert name == f"folder:{tmp_path / 'pics'}?size=8x8&binarise=fixed"
    assert own.parsed(name)[2] == ImageOptions(size="8x8", binarise="fixed")
    asked = tmp_path / "what?now"
    assert own.parsed(f"folder:{asked}?size=8x8")[1] == str(asked)
    assert own.parsed(f"folder:{asked}")[1] == str(asked)
    refused(lambda: own.parsed("folder:a?width=3"), "'width'", "size")
    refused(lambda: own.parsed("folder:"), "allowed: folder:PATH")


def test_train_evaluate_sample_and_record_know_your_own_images(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ["--data", "folder:pics", "--run-dir", "run", "--train.epochs", "1"]
    assert main(["train", "draw:tiny", *options, "--train.batch-size", "8"]) == 0
    out = capsys.readouterr().out
    assert "pics: 30 grey images of 20x36, 3 classes (ant, bee, cat)" in out
    run, model = load_run(tmp_path / "run")
    assert model.image_shape == (1, 20, 36)
    assert run.data == f"folder:{folder}"
    # From another folder too.
    monkeypatch.chdir(folder)
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "folder:pics (20x36 grey" in out and "3 images" in out
    assert (
        main(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "s.png")]) == 0
    )
    root = tmp_path / "records"
    record = ["record", str(tmp_path / "run"), "--row", "mine", "--root", str(root)]
    assert main([*record, "--samples", "2", "--images", "3"]) == 0
    (path,) = root.glob("*/mine-0.json")
    written = json.loads(path.read_text())
    assert written["protocol"].startswith("folder:pics (20x36 grey")
    # Other pictures behind a finished run are not taken for those that it has seen.
    (folder / "ant" / "0.png").unlink()
    for command in (["evaluate", str(tmp_path / "run")], record):
        capsys.readouterr()
        assert main(command) == 1
        assert "holds other images than" in capsys.readouterr().err
    picture(folder / "ant" / "0.png", seed=0)
    assert main([*record, "--published", "draw-attention"]) == 1
    assert "images of your own; allowed: none" in capsys.readouterr().err


def test_a_folder_that_has_moved_strands_no_run(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = ["--image.size", "10x12", "--train.batch-size", "8", "--run-dir", "run"]
    train = ["train", "vae:tiny", *own, "--train.epochs", "2", "--data"]
    assert main([*train, "folder:pics"]) == 0
    folder.rename(tmp_path / "elsewhere")
    record = ["record", "run", "--row", "a", "--root", "zoo", "--samples", "2"]
    for command in (["evaluate", "run"], record):
        capsys.readouterr()
        assert main(command) == 1
        told = capsys.readouterr().err
        assert "there is no folder" in told and "moved: --data folder:PATH" in told
    now = ["--data", "folder:elsewhere"]
    assert main(["evaluate", "run", *now]) == 0
    told = capsys.readouterr().out
    assert "folder:elsewhere (10x12 grey" in told and "trained on" not in told
    assert main([*record, *now]) == 0
    # A training that was cut goes on there too.
    assert main([*train, "folder:elsewhere"]) == 0
    # Other images in the new place are refused, or said to be others.
    picture(tmp_path / "elsewhere" / "ant" / "0.png", seed=999)
    assert main([*record, *now]) == 1
    assert "holds other images than" in capsys.readouterr().err
    assert main(["evaluate", "run", *now]) == 0
    last = tmp_path / "elsewhere"
    assert f"; trained on folder:{last}?size=10x12" in capsys.readouterr().out
    assert main([*train, "folder:elsewhere"]) == 1
    assert "belongs to another config" in capsys.readouterr().err


def test_colour_takes_the_likelihood_of_colour_and_wider_windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        picture(tmp_path / "photos" / f"{i}.png", (48, 64), colour=True, seed=i)
    options = ["--data", "folder:photos", "--run-dir", "run", "--train.epochs", "1"]
    options += ["--model.T", "2", "--model.hidden", "8", "--model.z", "2"]
    assert main(["train", "draw:paper", *options]) == 0
    run, model = load_run(tmp_path / "run")
    assert model.config.likelihood == "discretised-logistic"
    assert model.image_shape == (3, 48, 64)
    assert (model.config.read, model.config.write) == (14, 14)
    found = evaluate(model, load_data(run.data), "test", samples=1)
    assert found.images == 1


def bits_of(told: str, dimensions: int) -> tuple[float, float]:
    """Bits per dimension as they are told, and as the nats before them have it."""
    pattern = r"−ELBO ([\d.]+)(?: ± (?:[\d.]+|nan))? nats \(([\d.]+) bits per dim"
    nats, bits = re.search(pattern, told).groups()
    return float(bits), float(nats) / (dimensions * math.log(2))


@pytest.mark.parametrize("colour", [True, False])
def test_eight_bits_a_value_are_told_in_bits_per_dimension_beside_nats(
    colour, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for i in range(20):
        picture(tmp_path / "p" / f"{i}.png", (8, 8), colour=colour, seed=i)
    dimensions = 8 * 8 * (3 if colour else 1)
    own = ["--data", "folder:p", "--image.binarise", "none"]
    train = ["train", "vae:tiny", *own, "--run-dir", "run", "--train.epochs", "1"]
    record = ["record", "run", "--row", "mine", "--root", "zoo", "--samples", "2"]
    for command in (train, ["evaluate", "run", "--samples", "2"], record):
        capsys.readouterr()
        assert main(command) == 0
        told, right = bits_of(capsys.readouterr().out, dimensions)
        assert told == pytest.approx(right, abs=1e-3)
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    bits = math.log(2) * dimensions
    assert row["valid_bits"] == pytest.approx(row["valid"] / bits)
    (path,) = (tmp_path / "zoo").glob("*/mine-0.json")
    written = json.loads(path.read_text())
    for part, names in (
        (written["bounds"]["test"], ["neg_elbo"]),
        (written["importance_weighted"], ["neg_elbo", "neg_iw"]),
    ):
        for name in names:
            assert part[f"{name}_bits"] == pytest.approx(part[name] / bits)


def test_bits_have_no_bits_per_dimension(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ["train", "vae:tiny", "--data", "folder:pics", "--run-dir", "run"]
    assert main([*train, "--train.epochs", "1"]) == 0
    assert main(["evaluate", "run"]) == 0
    assert "bits per dimension" not in capsys.readouterr().out


def test_an_option_that_is_given_wins_over_the_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        picture(tmp_path / "p" / f"{i}.png", (12, 12), seed=i)
    options = ["--data", "folder:p", "--run-dir", "run", "--train.epochs", "1"]
    assert main(["train", "vae:tiny", *options, "--model.image-shape", "1", "9", "9"])
    assert "allowed: (batch, 1, 9, 9)" in capsys.readouterr().err


def test_image_options_belong_to_your_own_images(capsys):
    assert main(["train", "vae:tiny", "--image.size", "8x8"]) == 1
    assert "--image was given with the data mnist-dynamic" in capsys.readouterr().err
