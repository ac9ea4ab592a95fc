"""The kernels of ``kernels.cpp``: compiled at first use, kept on disk, and loaded.

They are plain C++ without headers of PyTorch or Python, so any GCC or Clang compiles
them, in seconds. What is compiled is kept under a name made of the source, the
compiler, and what the processor has.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from drawlib.fast.compiler import compile_with, compiler_command
from drawlib.machine.cache import cache_dir

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
    macros = compile_with(command, [*options(), "-dM", "-E", "-x", "c++", "-"], "")
    if macros.trouble:
        return macros.trouble
    parts = [source(), *options(), macros.output]
    name = (
        "drawlib-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] + ".so"
    )
    try:
        folder = cache_dir() / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).exists():
            return ctypes.CDLL(str(folder / name))
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError:  # a folder that takes no files, or runs none: for this process only
        scratch, folder = tempfile.TemporaryDirectory(prefix="drawlib-"), None
    with scratch as aside:
        made = Path(aside, name)
        asked = [*options(), "-shared", "-fPIC", "-x", "c++", "-", "-o", str(made)]
        if trouble := compile_with(command, asked, source()).trouble:
            return trouble
        try:
            if folder is not None:
                made = made.replace(folder / name)
            return ctypes.CDLL(str(made))
        except OSError as error:
            return f"what the C++ compiler made cannot be loaded ({error})"


class Kernels:
    """The kernels of one pair of precisions, each a function of ``Loop`` and step t."""

    def __init__(self, found: ctypes.CDLL, ending: str) -> None:
        for name in (*FORWARD, *(f"{name}_back" for name in BACKWARD)):
            kernel = getattr(found, f"{name}_{ending}")
            kernel.argtypes, kernel.restype = [ctypes.c_void_p, ctypes.c_int64], None
            setattr(self, name, kernel)


def kernels(state: torch.dtype, low: torch.dtype) -> Any:
    """The kernels for a state and products of these precisions."""
    found = library(compiler_command(), os.environ.get("PATH", ""))
    assert not isinstance(found, str), found
    return loaded(found, PRECISIONS[state, low])


@lru_cache(8)
def loaded(found: ctypes.CDLL, ending: str) -> Kernels:
    """The functions themselves, looked up once."""
    return Kernels(found, ending)
