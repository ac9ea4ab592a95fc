"""``fastparts.cpp``, compiled for this processor at first use, and how it is called."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import Tensor

__all__ = ["LANES", "Parts", "parts"]

LANES = 16  # images side by side: float32 numbers in the longest vector of a processor
SOURCE = Path(__file__).with_name("parts.cpp")
KINDS = {
    (torch.float32, torch.float32): ["-DREAL=float", "-DSINGLE"],
    (torch.float32, torch.bfloat16): ["-DREAL=float", "-DSINGLE", "-DBF16"],
    (torch.float64, torch.float64): ["-DREAL=double"],
}
PLAIN = ["-O3", "-std=c++17", "-shared", "-fPIC", "-Wno-psabi"]
TRIED = (["-march=native", "-fopenmp"], ["-march=native"], [])  # the first that works


class Parts:
    """The functions of ``fastparts.cpp``, which take tensors, whole numbers and None."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.library, name)
        function.restype = None

        def call(*given: Tensor | int | None) -> None:
            function(*[
                ctypes.c_int64(value.data_ptr() if isinstance(value, Tensor) else value or 0)
                for value in given
            ])

        setattr(self, name, call)
        return call


@lru_cache(1)
def _say_once(message: str) -> None:
    warnings.warn(f"{message}: the step runs eagerly", stacklevel=4)


def compiler() -> list[str]:
    """The C++ compiler's command: ``CXX``, or the first of those known on the path."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    found = (shutil.which(name) for name in ("g++", "clang++", "c++"))
    return [path for path in found if path][:1]


@lru_cache
def parts(real: torch.dtype, low: torch.dtype) -> Parts | None:
    """The parts for sums in ``real`` and products in ``low``; None where there are none.

    Why there are none is said once.

    Example:
        >>> parts(torch.float16, torch.float16) is None
        True
    """
    if (kind := KINDS.get((real, low))) is None:
        return None
    if not (command := compiler()):
        return _say_once("no C++ compiler (g++, clang++) was found")
    reason = ""
    for flags in TRIED:
        try:
            library = ctypes.CDLL(str(built([*command, *PLAIN, *flags, *kind])))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", "") or str(error)).strip()
            continue
        keep_memory()
        return Parts(library)
    return _say_once(f"{shlex.join(command)} failed ({reason.splitlines()[0]})")


def built(command: list[str]) -> Path:
    """The library that a compiler's command makes, kept by all that it depends on.

    The compiler's macros name its version and what the processor can do.
    """
    asked = [*command, "-dM", "-E", "-x", "c++", os.devnull]
    about = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    depends = about + shlex.join(command) + SOURCE.read_text(encoding="utf-8")
    name = hashlib.sha256(depends.encode()).hexdigest()[:16] + ".so"
    folder = Path(pooch.os_cache("drawlib")) / "built"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp())
    if not (folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            command = [*command, str(SOURCE), "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            made.replace(folder / name)
    return folder / name


def keep_memory() -> None:
    """Ask the C library to keep freed blocks, where it has a word for that.

    A step allocates and frees the same blocks again and again. glibc hands large ones
    back to the kernel at once, and gets them again page by page.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
