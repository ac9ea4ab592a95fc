"""Words as images: one row of places, and a channel for each letter and for the end.

A word is an image of 27 channels, 1 × 13: at each place one channel is 1, of A to Z or,
after the last letter, of the end. ``surnames`` are the last names of the US census of
1990; ``words:PATH`` is any text file, one word per line, or a folder with
``train.txt``, ``test.txt`` and, where there is one, ``valid.txt``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from drawlib.data.download import DataError, content_sha256
from drawlib.data.draws import SEED, permutation
from drawlib.data.own import Own
from drawlib.data.protocols import Protocol
from drawlib.machine.files import mistaken

__all__ = [
    "ALPHABET",
    "LONGEST",
    "absolute",
    "codes_of",
    "images_of",
    "is_words",
    "own_words",
    "words_of",
]

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
END = len(ALPHABET)
LONGEST, SHORTEST = 13, 2
SHAPE = (END + 1, 1, LONGEST)
SPLITS = ("train", "valid", "test")

Codes = np.ndarray  # (words, 13), 8-bit numbers


def is_words(name: str) -> bool:
    """Whether a data set's name stands for a text file of words.

    Example:
        >>> is_words("words:towns.txt"), is_words("surnames")
        (True, False)
    """
    return name.startswith("words:")


def absolute(name: str) -> str:
    """The name with an absolute path, so that a run finds its words from everywhere.

    Example:
        >>> absolute("words:towns.txt").endswith("towns.txt")
        True
    """
    path = Path(os.path.expanduser(name.partition(":")[2]))
    return f"words:{path.absolute()}"


def codes_of(words: Sequence[str], where: str = "word") -> Codes:
    """Words as numbers, a row each: 0 to 25 for A to Z, 26 from the end on.

    Small letters count as capitals. ``where`` is what the lines of an error belong to.

    Raises:
        DataError: for a word of fewer than 2 letters or more than 13, or one with
            another letter than A to Z, with its line.

    Example:
        >>> codes_of(["Ab"])[0, :4]
        array([ 0,  1, 26, 26], dtype=uint8)
        >>> codes_of(["LEE", "O'HARA"])
        Traceback (most recent call last):
        drawlib.data.download.DataError: word 2 is "O'HARA"; allowed: the letters A to Z
    """
    codes = np.full((len(words), LONGEST), END, np.uint8)
    for line, word in enumerate(words, 1):
        capitals = word.upper()
        if not word.isascii() or set(capitals) - set(ALPHABET):
            allowed = "the letters A to Z"
        elif not SHORTEST <= len(capitals) <= LONGEST:
            allowed = f"{SHORTEST} to {LONGEST} letters"
        else:
            codes[line - 1, : len(word)] = [ALPHABET.index(c) for c in capitals]
            continue
        raise DataError(f"{where} {line} is {word[:40]!r}; allowed: {allowed}")
    return codes


def images_of(codes: Codes) -> UInt8[np.ndarray, "n channels 1 places"]:
    """Numbers as images: 1 in the channel of the letter, 0 in the other 26.

    Example:
        >>> images_of(codes_of(["AB"])).shape
        (1, 27, 1, 13)
    """
    channels = np.arange(END + 1, dtype=np.uint8)[:, None]
    return (codes[:, None] == channels).astype(np.uint8)[:, :, None]


def words_of(images: Tensor) -> list[str]:
    """Images, or pictures of certainties, as their most probable words.

    At each place the likeliest of the 27 channels; a word ends where the end comes.

    Example:
        >>> import torch
        >>> words_of(torch.from_numpy(images_of(codes_of(["LEE"]))))
        ['LEE']
    """
    rows = images[:, :, 0].argmax(1).tolist()
    signs = ALPHABET + " "
    return ["".join(signs[k] for k in row).partition(" ")[0] for row in rows]


def divide(codes: Codes) -> dict[str, Codes]:
    """Words for training, validation and test, 80, 10 and 10 per cent: always the same.

    Example:
        >>> [len(part) for part in divide(codes_of(["AA", "AB"] * 10)).values()]
        [16, 2, 2]
    """
    order = permutation(len(codes), SEED, "words split")
    tenth = len(codes) // 10
    cuts = np.split(order, [len(codes) - 2 * tenth, len(codes) - tenth])
    named = zip(SPLITS, cuts, strict=True)
    return {name: codes[np.sort(index)] for name, index in named}


def own_words(name: str) -> Own:
    """The data set of ``words:PATH``.

    A file's words are counted once each before they are divided, so none is in two
    splits; a folder's splits are taken as they are, and what is in two is told.

    Raises:
        DataError: for a file that cannot be read or holds no words, too few for three
            splits, and as ``codes_of``.
        ValueError: for a name without a path.
    """
    if name == "words:":
        raise ValueError(f"{name!r} names nothing; allowed: words:PATH")
    path = Path(os.path.expanduser(name.partition(":")[2]))
    if path.is_dir():
        parts = {s: read(path / f"{s}.txt") for s in ("train", "test")}
        if (path / "valid.txt").exists():
            parts["valid"] = read(path / "valid.txt")
        else:
            tenth = len(parts["train"]) // 10
            order = permutation(len(parts["train"]), SEED, "words split")
            words = parts["train"]
            parts["train"] = [words[i] for i in np.sort(order[tenth:])]
            parts["valid"] = [words[i] for i in np.sort(order[:tenth])]
        known = {w.upper() for w in parts["train"]}
        twice = {s: sum(w.upper() in known for w in parts[s]) for s in SPLITS[1:]}
        remark = (
            f"{twice['valid']:,} validation and {twice['test']:,} test words are "
            "training words too"
        )
        codes = {s: codes_of(parts[s], f"{path / s}.txt: word") for s in SPLITS}
    else:
        found = codes_of(read(path), f"{path}: word")
        once = np.sort(np.unique(found, axis=0, return_index=True)[1])
        codes, again = divide(found[once]), len(found) - len(once)
        remark = f"{again:,} words that came again were left out"
    if small := [s for s in SPLITS if not len(codes[s])]:
        total = sum(map(len, codes.values()))
        raise DataError(
            f"{path} holds {total} different words, none for {small[0]}; allowed: 10 "
            "or more"
        )
    return made(path, codes, remark)


def read(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise DataError(f"{path} cannot be read as text: {reason}") from None
    if content and (what := mistaken(content)):
        raise DataError(f"{path} holds no words: it is {what}")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:2]:
        raise DataError(f"{path} is text in UTF-16; allowed: UTF-8 (save it as that)")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is no text in UTF-8 (byte {content[error.start]:#x} in line "
            f"{line}); allowed: UTF-8 (save it as that)"
        ) from None
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise DataError(f"{path} holds no words; allowed: one word per line")
    return words


def made(path: Path, codes: Mapping[str, Codes], remark: str) -> Own:
    """The data set of numbers by split.

    Its name goes into records: it has the file's own name and the content, no folder.
    """
    images = {split: images_of(part) for split, part in codes.items()}
    sizes = (len(codes["train"]), len(codes["valid"]), len(codes["test"]))
    counts = "/".join(f"{n:,}" for n in sizes)
    content, title = content_sha256(dict(codes)), path.absolute().name
    how = "as given" if path.is_dir() else "80/10/10"
    name = f"words:{title} (split {how}, {sum(sizes):,} words, {content[:8]})"
    protocol = Protocol(
        name,
        f"Words of {title}, {counts} for training, validation and test; {remark}. "
        "For this file alone: no published number is comparable.",
        image_shape=SHAPE,
        likelihood="categorical",
        sizes=sizes,
        source=str(path),
        licence="that of your words",
    )
    visits = dict.fromkeys(SPLITS, "bits")
    return Own(name, protocol, images, None, visits, {}, content, str(path))
