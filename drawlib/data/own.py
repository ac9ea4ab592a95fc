"""Your own images: a folder of pictures, arrays in a file, or a set of torchvision's.

A data set of one's own has no name that fixes its protocol, so its name spells it out:

    folder:PATH?size=28x20&colour=grey&fit=crop&binarise=dynamic&seed=0

and likewise ``npz:PATH``, ``npy:PATH`` and ``torchvision:NAME``. What is left out is
decided from the images and told. Numbers for such a set are for that set alone: which
images, which split and how they became binary stand in its name and its sentence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch

from drawlib.config import Config, one_of, whole_number
from drawlib.data.download import DataError, content_sha256
from drawlib.data.draws import draw_bits
from drawlib.data.formats import check_numpy
from drawlib.data.protocols import Protocol

__all__ = [
    "KINDS",
    "ImageOptions",
    "Own",
    "is_own",
    "moved",
    "named",
    "own_arrays",
    "own_folder",
    "own_images",
]

KINDS = ("folder", "npz", "npy", "torchvision")
SPLITS = ("train", "valid", "test")
FITS = ("crop", "pad", "stretch")
LIKE_SPLITS = set("train training val valid validation dev test testing".split())
KNOWN = {
    f"{split}{what}"
    for split in ("", *(f"{split}_" for split in SPLITS))
    for what in ("images", "labels")
}
BINARISE = ("dynamic", "fixed", "threshold", "none")
TORCHVISION = ("FashionMNIST", "KMNIST", "EMNIST", "QMNIST", "USPS", "SVHN")


@dataclass(frozen=True)
class ImageOptions(Config):
    """How a data set of one's own is read; empty means: decided from the images.

    Raises:
        ValueError: for a size, a choice or a seed that is none.

    Example:
        >>> ImageOptions(size="28x20").shape  # (height, width)
        (28, 20)
        >>> ImageOptions(fit="squeeze")
        Traceback (most recent call last):
        ValueError: ImageOptions.fit is 'squeeze'; allowed: crop, pad, stretch
    """

    size: str = ""
    """Height x width in pixels, such as 28x20; left out, the pictures' own."""
    colour: str = "auto"
    """grey or colour; auto is grey where no picture has a colour."""
    fit: str = "crop"
    """How another shape becomes this one: crop, pad (with white) or stretch."""
    binarise: str = "auto"
    """dynamic (drawn anew at each visit), fixed (drawn once), threshold (at half), or
    none (8 bits, discretised logistic); auto is dynamic for grey, none for colour."""
    seed: int = 0
    """Of the split into 80, 10 and 10 per cent, where there are no folders for it."""

    def check(self) -> None:
        one_of(self, "colour", ("auto", "grey", "colour"))
        one_of(self, "fit", FITS)
        one_of(self, "binarise", ("auto", *BINARISE))
        whole_number("seed", self.seed, below=2**63)
        _ = self.shape

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width), or None for the pictures' own."""
        if not self.size:
            return None
        height, _, width = self.size.partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) * int(width)):
            raise ValueError(
                f"size is {self.size!r}; allowed: height x width, such as 28x20"
            )
        return int(height), int(width)


@dataclass(frozen=True, eq=False)
class Own:
    """Three splits as arrays, bits or bytes, and the protocol that they follow.

    ``grey`` holds the 8-bit images of splits whose bits were drawn once.
    """

    name: str
    protocol: Protocol
    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] | None
    visits: Mapping[str, str]
    grey: Mapping[str, np.ndarray]
    content: str
    origin: str


def is_own(name: str) -> bool:
    """Whether a name stands for a data set of one's own.

    Example:
        >>> is_own("folder:pictures"), is_own("mnist-fixed")
        (True, False)
    """
    return name.partition(":")[0] in KINDS


def parsed(name: str) -> tuple[str, str, ImageOptions]:
    """Kind, path and options of a name.

    Raises:
        ValueError: for an unknown option, or one that is no value of its kind.
    """
    kind, _, rest = name.partition(":")
    # A path may hold a question mark; options follow the last one, as word=value.
    path, mark, query = rest.rpartition("?")
    if not mark or not re.match(r"\w+=", query):
        path, query = rest, ""
    known = [field.name for field in fields(ImageOptions)]
    values: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(values) - set(known):
        raise ValueError(
            f"{name!r} has the option {min(unknown)!r}; allowed: {', '.join(known)}"
        )
    if not path:
        what = f"NAME, of {', '.join(TORCHVISION)}" if kind == "torchvision" else "PATH"
        raise ValueError(f"{name!r} names nothing; allowed: {kind}:{what}")
    if "seed" in values:
        if not values["seed"].isdecimal():
            raise ValueError(f"seed is {values['seed']!r}; allowed: 0 or more")
        values["seed"] = int(values["seed"])
    return kind, path, ImageOptions.from_dict(values)


def named(name: str, options: ImageOptions) -> str:
    """The name with ``options`` in it, where they are not the usual ones.

    The path becomes absolute, so that a run finds its data from everywhere.

    Example:
        >>> named("torchvision:KMNIST", ImageOptions(size="14x14"))
        'torchvision:KMNIST?size=14x14'
    """
    kind, path, given = parsed(name)
    usual = vars(ImageOptions())
    changed = {k: v for k, v in vars(options).items() if v != usual[k]}
    both = vars(replace(given, **changed)).items()
    if kind != "torchvision":
        path = str(Path(os.path.expanduser(path)).absolute())
    query = "&".join(f"{k}={v}" for k, v in both if v != usual[k])
    return f"{kind}:{path}" + (f"?{query}" if query else "")


def moved(before: str, now: str) -> str:
    """A name ``now`` of one's own, read with the options of the name ``before``.

    So a folder at another place is read as it was. Options that ``now`` has of its own
    are kept, and so is every name of another kind.

    Example:
        >>> moved("torchvision:USPS?size=8x8&seed=3", "torchvision:USPS")
        'torchvision:USPS?size=8x8&seed=3'
    """
    if not (is_own(before) and is_own(now)):
        return now
    options = parsed(before)[2]
    return named(now, options if parsed(now)[2] == ImageOptions() else ImageOptions())


def alike(before: str, now: str) -> bool:
    """Whether two protocols of one's own differ in the title of their place at most.

    Example:
        >>> alike("folder:old (8x8 grey, 9 images)", "folder:new (8x8 grey, 9 images)")
        True
    """
    sides = [name.rpartition(" (") for name in (before, now)]
    kinds = {name.partition(":")[0] for name in (before, now)}
    if kinds == {"words"}:  # older names are a path alone; their content is compared
        return True
    return is_own(now) and len(kinds) == 1 and sides[0][2] == sides[1][2]


def own_images(
    name: str, *, root: str | Path | None = None, download: bool = True
) -> Own:
    """The data set that a name of one's own stands for.

    Raises:
        DataError: where the images cannot be read; the message names the file.
        ValueError: for a name or options that are none.
    """
    kind, path, options = parsed(name)
    if kind == "torchvision":
        return made(resized(from_torchvision(path, root, download), options), options)
    where = Path(os.path.expanduser(path))
    if kind == "folder":
        return own_folder(where, options)
    return made(resized(from_file(kind, where), options), options)


def own_folder(folder: Path, options: ImageOptions, progress: bool = False) -> Own:
    """The data set of a folder of pictures; errors as ``own_images``."""
    return made(from_folder(folder, options, progress), options)


@dataclass(frozen=True, eq=False)
class Found:
    """Images as they were found: in named splits, or all under ``""``."""

    kind: str
    title: str
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray] | None
    classes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    origin: str = ""


def from_folder(folder: Path, options: ImageOptions, progress: bool) -> Found:
    """Pictures; subfolders are classes, ``train``, ``valid`` and ``test`` splits."""
    # Pillow is loaded by who has pictures.
    from drawlib.data.pictures import files_below, read_pictures

    files, others = files_below(folder)
    parts = [file.relative_to(folder).parts for file in files]
    tops = {p[0] for p in parts if len(p) > 1}
    split = {"train", "test"} <= tops
    if not split and (alike := sorted(t for t in tops if t.lower() in LIKE_SPLITS)):
        raise DataError(
            f"{folder} has the folders {', '.join(alike)}; allowed: train and test "
            "(and valid), so written, or folders of classes with other names"
        )
    if split and (stray := next((p for p in parts if p[0] not in SPLITS), None)):
        raise DataError(
            f"{folder / Path(*stray)} lies beside train and test; allowed: every "
            "picture in train, valid or test"
        )
    depth = 1 if split else 0
    belongs = [p[0] if split else "" for p in parts]
    kinds = [p[depth] if len(p) > depth + 1 else "" for p in parts]
    if deep := next((p for p in parts if len(p) > depth + 2), None):
        raise DataError(
            f"{folder / Path(*deep)} lies deeper than the folder of a class; allowed: "
            "pictures directly in it"
        )
    classes = sorted(set(kinds))
    if "" in classes and len(classes) > 1:
        stray_file = files[kinds.index("")]
        raise DataError(
            f"{stray_file} lies beside folders of classes; allowed: all pictures in "
            "one folder, or each in the folder of its class"
        )
    read = read_pictures(files, options.shape, options.colour, options.fit, progress)
    number = np.array([classes.index(k) for k in kinds])
    where = {name: np.array(belongs) == name for name in dict.fromkeys(belongs)}
    return Found(
        "folder",
        " ".join(folder.absolute().name.split()),
        {name: read.images[mask] for name, mask in where.items()},
        {name: number[mask] for name, mask in where.items()} if classes[0] else None,
        [" ".join(name.split()) for name in classes] if classes[0] else (),
        (*read.remarks, *passed_over(others)),
        str(folder),
    )


def passed_over(files: Sequence[Path]) -> Iterator[str]:
    """A remark on files that are no pictures, with their endings."""
    if files:
        endings = sorted({file.suffix.lower() or "none" for file in files})
        noun = "file" if len(files) == 1 else "files"
        yield f"{len(files):,} other {noun} passed over ({', '.join(endings)})"


def from_file(kind: str, path: Path) -> Found:
    """Arrays of numpy: one of images, or ``images``, ``labels``, ``train_images`` …"""
    try:
        with open(path, "rb") as file:
            check_numpy(file)
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                arrays = {"images": content}
            else:
                # Of another array the name alone is of use.
                empty = np.empty(0)
                arrays = {k: content[k] if k in KNOWN else empty for k in content.files}
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path} cannot be read as {kind}: {reason}") from None
    except MemoryError:
        size = path.stat().st_size / 1e9
        raise DataError(
            f"{path} says that it holds more than memory does ({size:.1f} GB on the "
            "disk); allowed: fewer or smaller images"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        if "allow_pickle" in reason:  # numpy's advice
            reason = "it holds objects of Python's, which are never opened"
        raise DataError(f"{path} is no whole {kind} file: {reason}") from None
    if other := [k for k, v in arrays.items() if not isinstance(v, np.ndarray)]:
        raise DataError(f"{path}, {other[0]} is no array of numpy, but other bytes")
    return from_arrays(arrays, kind, path.stem, str(path))


def from_arrays(
    arrays: Mapping[str, np.ndarray], kind: str, title: str, origin: str
) -> Found:
    """Images by split, checked."""
    names = {"": "", **{split: f"{split}_" for split in SPLITS}}
    images = {
        s: arrays[f"{p}images"] for s, p in names.items() if f"{p}images" in arrays
    }
    if not images:
        raise DataError(
            f"{origin} holds {', '.join(map(str, arrays)) or 'nothing'}; allowed: "
            "images, or train_images, valid_images and test_images, each with labels "
            "if there are"
        )
    if set(images) != {""} and not {"train", "test"} <= set(images):
        raise DataError(
            f"{origin} has the splits {', '.join(s or 'images' for s in images)}; "
            "allowed: images alone, or train and test, and valid if there is one"
        )
    labels = {s: arrays.get(f"{names[s]}labels") for s in images}
    known = {s: np.asarray(v) for s, v in labels.items() if v is not None}
    if known and set(known) != set(images):
        raise DataError(f"{origin} has labels for {', '.join(known)} alone")
    splits = [s for s in images if s] or [""]
    used = {f"{names[s]}{what}" for s in splits for what in ("images", "labels")}
    if left := sorted((set(arrays) & KNOWN) - used):
        raise DataError(
            f"{origin} has {', '.join(left)} beside {', '.join(sorted(used))}; "
            "allowed: all images and labels in splits, or none"
        )
    # A split by another name would be lost, and a tenth of train take its place.
    others = sorted(map(str, set(arrays) - KNOWN))
    parts = {k: set(re.split(r"[\W_]+", k.lower())) for k in others}
    if alike := [k for k in others if LIKE_SPLITS & parts[k]]:
        raise DataError(
            f"{origin} has {', '.join(alike)}; allowed: {', '.join(sorted(KNOWN))}, "
            "so written, and arrays that are no split"
        )
    checked = {s: as_bytes(a, f"{origin}, {names[s]}images") for s, a in images.items()}
    shapes = {a.shape[1:] for a in checked.values()}
    if len(shapes) > 1:
        raise DataError(f"{origin} has images of {sorted(shapes)}; allowed: one shape")
    for split, values in known.items():
        whole = values.ndim == 1 and np.issubdtype(values.dtype, np.integer)
        if not whole or len(values) != len(checked[split]):
            raise DataError(
                f"{origin}, {names[split]}labels are {values.dtype} {values.shape}; "
                f"allowed: whole numbers, ({len(checked[split])},)"
            )
    classes = np.unique(np.concatenate(list(known.values()))) if known else ()
    numbers = {s: np.searchsorted(classes, v) for s, v in known.items()}
    return Found(
        kind,
        title,
        checked,
        numbers or None,
        [str(c) for c in classes],
        tuple(f"the array {k!r} passed over" for k in others),
        origin,
    )


def as_array(values: Any, what: str) -> np.ndarray:
    """Whatever numpy makes an array of, and a tensor wherever it lies.

    Raises:
        DataError: for a tensor of floats, or without content, or that is not dense;
            for masked values, and for parts of unequal shapes.

    Example:
        >>> as_array(torch.ones(2, dtype=torch.bfloat16), "images")
        Traceback (most recent call last):
        drawlib.data.download.DataError: images are torch.bfloat16; allowed: whole ...
    """
    if isinstance(values, torch.Tensor):
        if values.is_floating_point() or values.is_complex():
            bits = ", or bool (multiply images by 255 and round, if they are 0 to 1)"
            bits = "" if what.endswith("labels") else bits
            raise DataError(f"{what} are {values.dtype}; allowed: whole numbers{bits}")
        if values.is_meta:
            raise DataError(f"{what} lie on the device meta, which holds no values")
        if values.layout != torch.strided or values.is_quantized:
            kind = "quantised" if values.is_quantized else str(values.layout)
            raise DataError(f"{what} are a tensor, {kind}; allowed: a dense one")
        values = values.cpu()
    if np.ma.is_masked(values):
        raise DataError(f"{what} hold masked values; allowed: whole arrays")
    try:
        return np.asarray(values)
    except ValueError:  # numpy's, for a list of arrays that differ
        raise DataError(
            f"{what} are a {type(values).__name__} of unequal parts; allowed: one "
            "array, all of one shape"
        ) from None


def as_bytes(images: np.ndarray, what: str) -> np.ndarray:
    """(n, channels, height, width), bytes: bits or 0 to 255."""
    shape = images.shape
    if np.issubdtype(images.dtype, np.floating):
        told = " with NaN" if np.isnan(images).any() else ""
        raise DataError(
            f"{what} are {images.dtype}{told}; allowed: bool, or uint8 from 0 to 255 "
            "(multiply by 255 and round, if they are 0 to 1)"
        )
    if images.dtype not in (np.bool_, np.uint8):
        raise DataError(f"{what} are {images.dtype}; allowed: bool or uint8")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3):
        images = np.moveaxis(images, 3, 1)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise DataError(
            f"{what} have shape {shape}; allowed: (n, height, width), or with "
            "1 or 3 channels before or behind"
        )
    if images.dtype == np.bool_ and images.shape[1] == 3:
        images = np.where(images, np.uint8(255), np.uint8(0))  # colour has bytes
    return np.ascontiguousarray(images).astype("u1", copy=False)


def from_torchvision(name: str, root: str | Path | None, download: bool) -> Found:
    """A set of torchvision's, upright and with labels from 0, whatever its habit."""
    if name not in TORCHVISION:
        raise ValueError(
            f"torchvision set is {name!r}; allowed: {', '.join(TORCHVISION)}"
        )
    from torchvision import datasets

    from drawlib.machine.cache import cache_dir

    build = getattr(datasets, name)
    given = root or os.environ.get("DRAWLIB_DATA")
    places = [Path(given)] if given else []
    places.append(cache_dir() / "torchvision")
    how: dict[str, Any] = {"split": "letters"} if name == "EMNIST" else {}
    if name == "SVHN" and importlib.util.find_spec("scipy") is None:
        raise DataError("torchvision reads SVHN with scipy, which is not installed")
    images, labels = {}, {}
    for split in ("train", "test"):
        which = {"split": split} if name == "SVHN" else {"train": split == "train"}
        read: Any = partial(from_place, build, name=name, **which, **how)
        found, reasons = None, []
        for place in places:
            try:
                found = read(place, download=False)
                break
            except Exception as error:  # nothing is there, or each format's own
                if lies_there(place, name):
                    told = reason_of(error).partition(". You can use download")[0]
                    reasons.append(f"what lies in {place} is not whole ({told})")
        nowhere = f"torchvision's {name} lies in none of {', '.join(map(str, places))}"
        nowhere = f"torchvision's {name}: {'; '.join(reasons)}" if reasons else nowhere
        if found is None:
            if not download:
                raise DataError(f"{nowhere}; allowed: download=True")
            try:
                found = read(places[-1], download=True)
            except Exception as error:  # the network's, the mirror's, the archive's
                raise DataError(
                    f"{nowhere}, and it could not be downloaded: {reason_of(error)}"
                ) from None
        values, numbers = found
        if name == "EMNIST":
            values = values.swapaxes(1, 2)  # its images lie on their side
        images[split] = as_bytes(values.astype("u1", copy=False), name)
        labels[split] = numbers.astype(np.int64)
    classes, flat = np.unique(
        np.concatenate([labels["train"], labels["test"]]), return_inverse=True
    )
    cut = len(labels["train"])
    return Found(
        "torchvision",
        name,
        images,
        {"train": flat[:cut], "test": flat[cut:]},
        [str(c) for c in classes],
        (),
        "torchvision",
    )


def from_place(
    build: Any, place: Path, *, name: str, download: bool, **which: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that torchvision finds in a folder, as many as each other."""
    made = build(place, download=download, **which)
    values = np.asarray(made.data)
    numbers = np.asarray(made.labels if name == "SVHN" else made.targets)
    if len(values) != len(numbers):
        raise ValueError(f"{len(values)} images and {len(numbers)} labels")
    # QMNIST's further columns say who wrote what.
    return values, numbers[:, 0] if numbers.ndim > 1 else numbers


def lies_there(place: Path, name: str) -> bool:
    """Whether a folder holds files of this set, whole or not."""
    alone = {"SVHN": "*_32x32.mat", "USPS": "usps*.bz2"}
    return any(place.glob(alone.get(name, f"{name}/raw/*")))


def reason_of(error: Exception) -> str:
    """The first line of what a reader says, or what kind of error it is."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def split_shares(n: int) -> tuple[int, int, int]:
    """80, 10 and 10 per cent of n, each one image at least."""
    tenth = max(1, round(n / 10))
    return n - 2 * tenth, tenth, tenth


def keys_of(images: np.ndarray, seed: int = 0) -> list[bytes]:
    """A short key of each image's own pixels and the seed; equal ones have one key."""
    salt = seed.to_bytes(8)
    return [
        hashlib.blake2b(image.tobytes(), digest_size=8, salt=salt).digest()
        for image in images
    ]


def by_content(images: np.ndarray, seed: int) -> np.ndarray:
    """Positions in an order that each image's own pixels and the seed decide.

    So an image keeps its split when others come or go, unless it lies at a cut, and
    equal ones lie side by side: those of one kind at most are parted by a cut.
    """
    keys = keys_of(images, seed)
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def divided(found: Found, seed: int) -> tuple[Found, str]:
    """The same in three splits, and in words how: by class where classes are known."""
    if "" not in found.images:
        if "valid" in found.images:
            return found, "split as given"
        n = len(found.images["train"])
        if n < 2:
            raise DataError(
                f"{found.origin} has {n} training image; allowed: 2 or more"
            )
        order = by_content(found.images["train"], seed)
        tenth = max(1, round(n / 10))
        cut = {"train": np.sort(order[tenth:]), "valid": np.sort(order[:tenth])}
        source, told = "train", f"a tenth of train for validation, seed {seed}"
    else:
        n = len(found.images[""])
        if n < 3:
            raise DataError(
                f"{found.origin} holds {n} image{'s' * (n > 1)}; allowed: 3 or more, "
                "one for each split"
            )
        labels = found.labels[""] if found.labels else np.zeros(n, int)
        chosen: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        order = by_content(found.images[""], seed)
        for c in np.unique(labels):
            mine = order[labels[order] == c]
            if len(mine) < 3:
                raise DataError(
                    f"class {found.classes[c]!r} of {found.origin} has {len(mine)} "
                    f"image{'s' * (len(mine) > 1)}; allowed: 3 or more of each, or "
                    "folders train, valid and test"
                )
            ends = np.cumsum(split_shares(len(mine)))[:2]
            for split, part in zip(SPLITS, np.split(mine, ends), strict=True):
                chosen[split].append(part)
        cut = {split: np.sort(np.concatenate(parts)) for split, parts in chosen.items()}
        source = ""
        told = f"split 80/10/10 {'by class, ' if found.labels else ''}seed {seed}"

    def taken(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept = {k: v for k, v in values.items() if k in SPLITS}
        return {**kept, **{split: values[source][rows] for split, rows in cut.items()}}

    labels_ = None if found.labels is None else taken(found.labels)
    return replace(found, images=taken(found.images), labels=labels_), told


def own_arrays(arrays: Mapping[str, np.ndarray], options: ImageOptions) -> Own:
    """The data set of arrays in memory; see ``from_arrays`` for their names.

    Raises:
        DataError: for arrays that are no images.
    """
    found = from_arrays(arrays, "arrays", "arrays", "arrays")
    return made(resized(found, options), options)


def resized(found: Found, options: ImageOptions) -> Found:
    """Arrays at the size and in the colour that the options ask for, as for a folder.

    Raises:
        ValueError: for bits of another size, or colour asked of grey arrays.
        DataError: for a size that memory cannot hold, with the need.
    """
    channels, *size = next(iter(found.images.values())).shape[1:]
    new, grey = options.shape or tuple(size), options.colour == "grey"
    if options.colour == "colour" and channels == 1:
        raise ValueError("colour is 'colour' for grey arrays; allowed: auto, grey")
    if new == tuple(size) and not (grey and channels == 3):
        return found
    if max(int(a.max()) for a in found.images.values()) <= 1:
        raise ValueError(
            f"size is {options.size!r} for bits of {size[0]}x{size[1]}; allowed: their "
            "own size, or 8-bit images"
        )
    from PIL import Image

    from drawlib.data.pictures import check_memory, fitted

    count = sum(len(a) for a in found.images.values())
    whole = (count, 1 if grey else channels, *new)
    check_memory(whole, f"{count:,} images of {new[1]}x{new[0]}")

    def one(image: np.ndarray) -> np.ndarray:
        rgb = image.transpose(1, 2, 0).repeat(3 // len(image), 2)
        picture = fitted(Image.fromarray(rgb), new, options.fit)
        if grey or channels == 1:
            return np.asarray(picture.convert("L"))[None]
        return np.asarray(picture).transpose(2, 0, 1)

    images = {k: np.stack([one(image) for image in a]) for k, a in found.images.items()}
    return replace(found, images=images)


def check_levels(found: Found) -> None:
    """Refuse bits in one split beside grey levels in another: 1 of 255 is no ink.

    Raises:
        DataError: with both splits.
    """
    highest = {split: int(images.max()) for split, images in found.images.items()}
    bits = [split for split, value in highest.items() if value == 1]
    if bits and max(highest.values()) > 1:
        grey = max(highest, key=highest.__getitem__)
        raise DataError(
            f"{found.origin} has bits in {bits[0]} and values up to {highest[grey]} in "
            f"{grey}; allowed: bits in every split, or 0 to 255"
        )


def shared(found: Found) -> Iterator[str]:
    """A remark on images of a split that are in train too, and on classes it lacks."""
    train = set(keys_of(found.images["train"]))
    for split in ("valid", "test"):
        if n := sum(key in train for key in keys_of(found.images[split])):
            yield f"{n:,} of {len(found.images[split]):,} in {split} are in train too"
    for split in SPLITS:
        have = found.labels[split] if found.labels else range(len(found.classes))
        if n := len(found.classes) - len(np.unique(have)):
            yield f"{split} lacks {n:,} of {len(found.classes):,} classes"


def made(found: Found, options: ImageOptions) -> Own:
    """Split, made binary as the options say, and told."""
    check_levels(found)
    found, split = divided(found, options.seed)
    images = {name: found.images[name] for name in SPLITS}
    channels, height, width = images["train"].shape[1:]
    highest = max(int(a.max()) for a in images.values())
    binarise = options.binarise
    if binarise == "auto":
        binarise = "dynamic" if channels == 1 else "none"
    if channels == 3 and binarise != "none":
        raise ValueError(f"binarise is {binarise!r} for colour images; allowed: none")
    grey: dict[str, np.ndarray] = {}
    visits = dict.fromkeys(SPLITS, "bits")
    if channels == 1 and highest == 1 and binarise == "none":
        raise ValueError("binarise is 'none' for bits; allowed: auto")
    if channels == 1 and highest <= 1 and binarise != "none":
        how = "bits as they are"
    elif binarise == "none":
        visits, how = dict.fromkeys(SPLITS, "scale"), "8 bits a value"
    elif binarise == "threshold":
        images = {k: (a > 127).astype("u1") for k, a in images.items()}
        how = "bits by a threshold at half"
    else:
        once = SPLITS if binarise == "fixed" else ("valid", "test")
        grey = {k: images[k] for k in once}
        drawn = {k: draw_bits(images[k], f"own {k} bits") for k in once}
        images = {**images, **drawn}
        how = "bits drawn once"
        if binarise == "dynamic":
            visits["train"] = "sample"
            how = "bits drawn anew at each visit in training, once for the rest"
    content = content_sha256({**found.images})
    sizes = tuple(len(images[name]) for name in SPLITS)
    kind = "grey" if channels == 1 else "colour"
    told = [*found.remarks, *shared(found)]
    if 1 < highest < 128:
        told.append(f"the brightest value is {highest} of 255")
    remarks = "".join(f"; {remark}" for remark in told)
    classes = ""
    if found.classes:
        names = f" ({', '.join(found.classes)})" if len(found.classes) <= 12 else ""
        noun = "class" if len(found.classes) == 1 else "classes"
        classes = f", {len(found.classes)} {noun}{names}"
    bernoulli = "bits" in visits.values() or "sample" in visits.values()
    briefly = how.partition(",")[0]
    name = (
        f"{found.kind}:{found.title} ({height}x{width} {kind}, {briefly}, {split}, "
        f"{sum(sizes):,} images, {content[:8]})"
    )
    protocol = Protocol(
        name,
        f"{found.title}: {sum(sizes):,} {kind} images of {height}x{width}{classes}; "
        f"{how}; {split}: {sizes[0]:,}, {sizes[1]:,} and {sizes[2]:,}{remarks}. "
        "For these images alone: no number is comparable with a published one.",
        image_shape=(channels, height, width),
        binarisation="none"
        if not bernoulli
        else "dynamic"
        if visits["train"] == "sample"
        else "fixed",
        likelihood="bernoulli" if bernoulli else "discretised-logistic",
        sizes=(sizes[0], sizes[1], sizes[2]),
        source=found.origin,
        licence="yours, or their owner's",
    )
    return Own(
        name, protocol, images, found.labels, visits, grey, content, found.origin
    )
