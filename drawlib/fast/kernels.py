"""The kernels of ``kernels.cpp``: compiled at first use, kept on disk, and loaded.

They are plain C++ without headers of PyTorch or Python, so any GCC or Clang compiles
them, in seconds. What is compiled is kept under a name made of the source, the
compiler, and what the processor has, with its sha256 beside it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from drawlib.fast.compiler import PATIENCE, compile_with, compiler_command, reason_of
from drawlib.machine.cache import cache_dir
from drawlib.machine.files import write_atomically

__all__ = ["LANES", "PRECISIONS", "Loop", "kernel_trouble", "kernels"]

SOURCE = Path(__file__).with_name("kernels.cpp")
LANES = 16  # numbers in a vector
SIZES = (
    *("threads", "images", "slots", "canvases", "canvas_first", "deltas", "first"),
    *("channels", "height", "width", "hidden", "z", "attention", "read", "write"),
    *("learned", "letters", "latent", "M", "N", "legacy", "own_rows"),
)
TENSORS = (
    *("x", "eps", "L", "b_e", "b_q", "b_l", "b_d", "b_h"),
    *("u_e", "u_q", "u_l", "u_d", "u_h", "exact", "y", "y_q", "y_h"),
    *("g_e", "g_d", "c_e", "c_d", "q", "raw", "said", "canvas", "kl", "log_ratio"),
    *("d_kl", "d_log_ratio", "d_eps", "d_L", "d_canvas", "d_ahead", "d_c_e", "d_c_d"),
    *("d_u_e", "d_u_q", "d_u_l", "d_u_d", "d_u_h"),
    *("delta_e", "delta_q", "delta_l", "delta_d", "delta_h"),
)
FORWARD = ("look", "encode", "attend", "sample", "dream", "decode", "draw")
BACKWARD = ("look", "encode", "attend", "sample", "decode", "draw")
# Of the state and of the products: how the kernels' names end.
PRECISIONS = {
    (torch.float32, torch.float32): "f",
    (torch.float32, torch.bfloat16): "b",
    (torch.float64, torch.float64): "d",
}


# Loads a library and looks its kernels up.
TRIAL = """import ctypes, sys
try:
    found = ctypes.CDLL(sys.argv[1])
    [getattr(found, name) for name in sys.argv[2:]]
except (OSError, AttributeError) as error:
    sys.exit(str(error))
"""


class Loop(ctypes.Structure):
    """What a kernel is told: sizes, and where the tensors lie."""

    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [
        (name, ctypes.c_void_p) for name in TENSORS
    ]


def source() -> str:
    """The whole program: ``LANES`` and ``Loop`` once more, and the kernels."""
    sizes, tensors = ", ".join(SIZES), ", *".join(TENSORS)
    lanes = f"constexpr int64_t LANES = {LANES};"
    struct = f"struct Loop {{ int64_t {sizes}; void *{tensors}; }};"
    kernels = SOURCE.read_text(encoding="utf-8")
    return f"#include <cstdint>\n{lanes}\n{struct}\n{kernels}"


def options() -> list[str]:
    """What the compiler is told; the vectors are those of this very processor."""
    arm = platform.machine().lower() in ("arm64", "aarch64")
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    target = "-mcpu=native" if arm else "-march=native"
    exact_enough = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
    return ["-std=c++17", "-O3", target, *exact_enough, *openmp]


def kernel_trouble() -> str:
    """Why there are no kernels here, in a few words; empty where there are.

    Example:
        >>> isinstance(kernel_trouble(), str)
        True
    """
    if sys.platform == "win32":
        return "the kernels are written for GCC and Clang"
    found = library(compiler_command(), os.environ.get("PATH", ""))
    return found if isinstance(found, str) else ""


@lru_cache(8)
def library(command: str, path: str) -> ctypes.CDLL | str:
    """The compiled kernels, or what went wrong."""
    if not command:
        return "no C++ compiler (g++, clang++) was found"
    try:
        macros = compile_with(command, [*options(), "-dM", "-E", "-x", "c++", "-"], "")
        if macros.trouble:
            return macros.trouble
        parts = [source(), *options(), macros.output]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        kept = cache_dir() / "kernels" / f"drawlib-{digest[:32]}.so"
        return of_earlier(kept) or made_now(command, kept)
    except OSError as error:  # no folder for temporary files, or a full one
        return f"nothing can be compiled here ({reason_of(error)})"


def of_earlier(kept: Path) -> ctypes.CDLL | None:
    """The library that an earlier process kept, where every byte is as it was.

    What a power cut or a full disk left of one would end the process that loads it.
    """
    try:
        found = hashlib.sha256(kept.read_bytes()).hexdigest()
        if kept.with_suffix(".sha256").read_bytes() == found.encode():
            return ctypes.CDLL(str(kept))
    except OSError:
        pass
    return None


def made_now(command: str, kept: Path) -> ctypes.CDLL | str:
    """The library, compiled; kept for other processes where the cache takes files."""
    with tempfile.TemporaryDirectory(prefix="drawlib-") as aside:
        made = Path(aside, kept.name)
        asked = [*options(), "-shared", "-fPIC", "-x", "c++", "-", "-o", str(made)]
        if trouble := compile_with(command, asked, source()).trouble:
            return trouble
        try:
            content = made.read_bytes()
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, content)
            if not load_trouble(kept):
                sum_of = hashlib.sha256(content).hexdigest().encode()
                write_atomically(kept.with_suffix(".sha256"), sum_of)
                return ctypes.CDLL(str(kept))
        except OSError:  # a folder that takes no files, or runs none
            pass
        if trouble := load_trouble(made):
            return f"what {command!r} made cannot be loaded ({trouble})"
        return ctypes.CDLL(str(made))


def load_trouble(made: Path) -> str:
    """Why a library or one of its kernels cannot be loaded; empty where it can.

    Another process tries it: half a library takes down who loads it.
    """
    asked = [sys.executable, "-I", "-S", "-c", TRIAL, str(made), *names()]
    try:
        done = subprocess.run(asked, capture_output=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason_of(error)
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return (
        said[-1][:200] if said else f"it ended a process, exit status {done.returncode}"
    )


def names(endings: Iterable[str] = tuple(PRECISIONS.values())) -> list[str]:
    """What the kernels are called in the library."""
    each = (*FORWARD, *(f"{name}_back" for name in BACKWARD))
    return [f"{name}_{ending}" for ending in endings for name in each]


class Kernels:
    """The kernels of one pair of precisions, each a function of ``Loop`` and step t."""

    def __init__(self, found: ctypes.CDLL, ending: str) -> None:
        for name in names([ending]):
            kernel = getattr(found, name)
            kernel.argtypes, kernel.restype = [ctypes.c_void_p, ctypes.c_int64], None
            setattr(self, name.removesuffix(f"_{ending}"), kernel)


def kernels(state: torch.dtype, low: torch.dtype) -> Any:
    """The kernels for a state and products of these precisions."""
    found = library(compiler_command(), os.environ.get("PATH", ""))
    assert not isinstance(found, str), found
    return loaded(found, PRECISIONS[state, low])


@lru_cache(8)
def loaded(found: ctypes.CDLL, ending: str) -> Kernels:
    """The functions themselves, looked up once."""
    return Kernels(found, ending)
