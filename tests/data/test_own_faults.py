"""Faults of pictures and arrays that people bring: each kind by its name."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, features

from drawlib.data import pictures
from drawlib.data.download import DataError
from drawlib.data.sets import Data, load_data

GREY = np.random.default_rng(0).integers(0, 256, (20, 20, 36), "u1")


def save(folder, values=GREY[:5], ending="png", **how):
    """Arrays as pictures 0, 1, 2 …; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, value in enumerate(values):
        Image.fromarray(value).save(folder / f"{k}.{ending}", **how)
    return folder


def refused(make, *words) -> None:
    with pytest.raises((DataError, ValueError)) as caught:
        make()
    told = str(caught.value)
    assert "\n" not in told
    for word in words:
        assert word in told, told


# As it lies in the file, for each value of the EXIF tag.
LAID = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
@pytest.mark.parametrize("tag", LAID)
def test_a_picture_that_lies_on_its_side_keeps_its_lines(tmp_path, tag, ending):
    """Pillow reads a TIFF that it maps into memory as if it stood: lines in pieces."""
    if ending == "webp" and not features.check("webp"):
        pytest.skip("this Pillow knows no WebP")
    exif = Image.Exif()
    exif[0x0112] = tag
    how = {"exif": exif} | ({"lossless": True} if ending == "webp" else {})
    laid = np.ascontiguousarray(LAID[tag](GREY[0]))
    data = Data.from_folder(save(tmp_path / "p", [laid] * 3, ending, **how))
    assert np.array_equal(data.grey("train")[0, 0].numpy(), GREY[0])
    assert ("3 turned as their EXIF tag says" in str(data.protocol)) == (tag != 1)


def test_a_dark_picture_of_16_bits_is_as_dark_as_among_its_like(tmp_path):
    """0 to 200 of 65,535 were kept as 0 to 200 of 255, beside others cut by 257."""
    bright, dark = np.full((4, 4), 60_000, "u2"), np.full((4, 4), 200, "u2")
    data = Data.from_folder(save(tmp_path / "p", [bright, bright, dark, bright]))
    every = torch.cat([data.grey(split) for split in ("train", "valid", "test")])
    assert sorted(every.amax((1, 2, 3)).tolist()) == [0, 233, 233, 233]
    assert "4 of 16 bits, cut to 8" in str(data.protocol)
    assert "that use 8" not in str(data.protocol)


def test_bits_in_pictures_are_not_averaged_and_rounded(tmp_path):
    """Masks of 0 and 1 at half the size were told as bits as they are."""
    folder = save(tmp_path / "p", GREY[:5] // 128)
    assert Data.from_folder(folder).train.images.max() == 1
    refused(lambda: Data.from_folder(folder, size="10x18"), "0 and 1 alone", "255")


@pytest.mark.parametrize("how", [bool, np.uint8])
def test_bits_in_one_split_beside_grey_in_another_are_refused(tmp_path, how):
    """1 of 255 is no ink: a test split of bits became black, without a word."""
    arrays = {"train_images": GREY, "test_images": (GREY > 127).astype(how)}
    words = ("bits in test", "values up to 255 in train")
    refused(lambda: Data.from_arrays(arrays), *words)
    save(tmp_path / "p/train", GREY)
    save(tmp_path / "p/test", (GREY > 127).astype("u1"))
    refused(lambda: Data.from_folder(tmp_path / "p"), *words)
    black = Data.from_arrays({**arrays, "test_images": 0 * GREY})  # is grey, too
    assert black.test.images.max() == 0


def test_images_of_the_test_split_that_are_in_train_too_are_told(tmp_path):
    both = np.concatenate([GREY[:2], 255 - GREY])
    arrays = {"train_images": GREY, "valid_images": GREY[:3], "test_images": both}
    told = str(Data.from_arrays(arrays).protocol)
    assert (
        "; 3 of 3 in valid are in train too; 2 of 22 in test are in train too" in told
    )
    assert "in train too" not in str(Data.from_arrays(GREY).protocol)
    save(tmp_path / "p/train", GREY)
    save(tmp_path / "p/test", GREY[4:7])
    told = str(Data.from_folder(tmp_path / "p").protocol)
    assert "of 3 in test are in train too" in told


def test_classes_that_a_split_lacks_are_told(tmp_path):
    for split, kinds in {"train": "ab", "valid": "ab", "test": "ac"}.items():
        for k, kind in enumerate(kinds):
            save(tmp_path / split / kind, GREY[5 * k : 5 * k + 5] + ord(split[1]))
    told = str(Data.from_folder(tmp_path).protocol)
    for lack in ("train lacks 1 of 3", "valid lacks 1 of 3", "test lacks 1 of 3"):
        assert f"{lack} classes" in told


def test_a_folder_that_cannot_be_read_is_no_class_that_nobody_misses(
    tmp_path, monkeypatch
):
    for kind in "ab":
        save(tmp_path / "p" / kind)
    whole = pictures.os.walk

    def walk(top, onerror=None, **how):
        for above, folders, names in whole(top, onerror=onerror, **how):
            if above.endswith("b"):  # root reads everything, so the system is asked not
                if onerror:
                    onerror(PermissionError(13, "Permission denied", above))
                continue
            yield above, folders, names

    monkeypatch.setattr(pictures.os, "walk", walk)
    refused(lambda: Data.from_folder(tmp_path / "p"), "b cannot be read: permission")


@pytest.mark.parametrize("split", ["val_images", "x_train", "validation_images"])
def test_a_split_by_another_name_is_not_passed_over(split):
    """A tenth of train took its place."""
    arrays = {"train_images": GREY, "test_images": GREY, split: GREY}
    refused(lambda: Data.from_arrays(arrays), split, "valid_images", "so written")
    told = Data.from_arrays({"images": GREY, "mean": GREY[0]}).protocol.sentence
    assert "the array 'mean' passed over" in told


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
        ("jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)),
        ("gif", b"words, and not a picture"),
    ],
)
def test_programs_and_other_content_are_no_pictures_whatever_their_name(
    tmp_path, ending, content
):
    """Pillow gives PostScript to a program; of others it told an object's address."""
    path = save(tmp_path / "p") / f"9.{ending}"
    path.write_bytes(content)
    words = (str(path), "known here by its content", "PNG", "JPEG")
    refused(lambda: Data.from_folder(tmp_path / "p"), *words)


def test_a_link_to_nowhere_is_told_as_one(tmp_path):
    (save(tmp_path / "p") / "9.png").symlink_to("nowhere.png")
    refused(lambda: Data.from_folder(tmp_path / "p"), "9.png is no file: a link to now")


def test_a_size_beyond_every_number_is_refused_with_the_need(tmp_path):
    size = f"{10**20}x3"
    refused(lambda: Data.from_folder(save(tmp_path / "p"), size=size), "GB of memory")


def test_names_with_line_breaks_make_one_line(tmp_path):
    save(tmp_path / "my\nset" / "a\nb")
    told = Data.from_folder(tmp_path / "my\nset").protocol
    assert told.sentence.startswith("my set: 5 grey images of 20x36, 1 class (a b);")
    assert "\n" not in told.name


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((9, 28, 28, 4), "u1"), "shape (9, 28, 28, 4)"),
        (np.zeros((9, 4, 28, 28), "u1"), "shape (9, 4, 28, 28)"),
    ],
)
def test_what_was_given_is_told_as_it_was_given(images, told):
    refused(lambda: Data.from_arrays(images), told)


def test_labels_are_not_told_to_multiply_images():
    with pytest.raises(
        DataError, match=r"labels are torch.float32; allowed: whole"
    ) as e:
        Data.from_arrays(GREY, torch.zeros(20))
    assert "255" not in str(e.value)


def test_an_archive_whose_images_are_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images", b"words")
        array = io.BytesIO()
        np.save(array, GREY)
        archive.writestr("labels.npy", array.getvalue())
    refused(lambda: load_data(f"npz:{tmp_path / 'a.npz'}"), "images is no array")


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_what_is_done_to_the_arrays_afterwards_changes_no_image(make):
    """A buffer that was filled anew for the next set had emptied the first one."""
    rng = np.random.default_rng(0)
    given = {
        f"{split}_images": make(rng.integers(0, 256, (9, 4, 4), dtype="u1"))
        for split in ("train", "valid", "test")
    }
    data = Data.from_arrays(given, binarise="none")
    before = [data.split(s).images.clone() for s in ("train", "valid", "test")]
    for values in given.values():
        values[:] = 0
    after = [data.split(s).images for s in ("train", "valid", "test")]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_read_only_arrays_are_taken_without_a_warning():
    images = np.zeros((9, 4, 4), "u1")
    images.setflags(write=False)
    data = Data.from_arrays({"train_images": images, "test_images": images})
    assert len(data.train) == 8


def test_labels_that_are_given_twice_are_refused():
    """Those in the mapping were dropped without a word."""
    twice = {"images": np.zeros((9, 4, 4), "u1"), "labels": np.zeros(9, int)}
    with pytest.raises(DataError, match="labels are given twice, in images and"):
        Data.from_arrays(twice, np.ones(9, int))


@pytest.mark.parametrize("kind", ["npy", "words"])
def test_labels_of_what_is_not_mnist_fixed_are_refused(kind, tmp_path):
    """`data npy:PATH --labels` ended in half a sentence."""
    with pytest.raises(ValueError, match=f"labels is True for {kind}:.*; allowed: for"):
        load_data(f"{kind}:{tmp_path}", labels=True)
