"""The C++ compiler that ``torch.compile`` would call: which it is, and if it works.

A compiler may be on the path and of no use: it may lack its headers, OpenMP or a
licence, or never answer. PyTorch finds out in the middle of a step, in a hundred lines.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Told",
    "compile_with",
    "compiler_command",
    "compiler_trouble",
    "reason_of",
]

PATIENCE = 120.0  # seconds, for a machine that is busy
SOURCE = "#include <Python.h>\n#include <cmath>\ndouble two() { return sqrt(4.0); }\n"


def compiler_command() -> str:
    """The command that compiles C++: ``CXX`` where it is set, or one on the path.

    ``CXX`` may have arguments, quotes and a launcher in front; a program whose own path
    has spaces is taken as one word. Empty where there is none.

    Example:
        >>> isinstance(compiler_command(), str)
        True
    """
    if given := os.environ.get("CXX", "").strip():
        posix = sys.platform != "win32"
        return shlex.quote(given) if posix and shutil.which(given) else given
    names = ("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++")
    return next((name for name in names if shutil.which(name)), "")


def compiler_trouble() -> str:
    """Why nothing can be compiled here, in a few words; empty where it can.

    Example:
        >>> isinstance(compiler_trouble(), str)
        True
    """
    if not (command := compiler_command()):
        return "no C++ compiler (g++, clang++) was found"
    if sys.platform == "win32":  # cl has other options, and needs its own prompt
        return ""
    try:
        return trouble_of(command, os.environ.get("PATH", ""))
    except OSError as error:  # no folder for temporary files, or a full one
        return f"nothing can be compiled here ({reason_of(error)})"


def reason_of(error: Exception) -> str:
    """An error in the system's words, where it has some.

    Example:
        >>> reason_of(OSError(28, "No space left on device"))
        'no space left on device'
    """
    return (getattr(error, "strerror", None) or str(error)).lower()


class Told(NamedTuple):
    """What a compiler printed, and what went wrong; empty where nothing did."""

    output: str
    trouble: str


def compile_with(command: str, arguments: list[str], text: str) -> Told:
    """Run a compiler on a program, which it reads where ``arguments`` say ``-``.

    After ``-o`` their last word is the file that it has to make.

    Raises:
        OSError: where no temporary file can be made or filled.

    Example:
        >>> compile_with("no-such-compiler", [], "").trouble
        "the C++ compiler 'no-such-compiler' cannot be run (no such file or directory)"
    """
    told = f"the C++ compiler {command!r}"
    try:
        words = shlex.split(command)
    except ValueError as error:
        return Told("", f"{told} is no command ({str(error).lower()})")
    # What it says goes to files: a child that hangs would keep a pipe open.
    with (
        tempfile.TemporaryFile() as program,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as said,
    ):
        program.write(text.encode())
        program.seek(0)
        try:
            done = subprocess.run(
                [*words, *arguments],
                stdin=program,
                stdout=output,
                stderr=said,
                timeout=PATIENCE,
                env={**os.environ, "LC_ALL": "C"},  # its reason is looked for below
            )
        except subprocess.TimeoutExpired:
            waited = f"{told} did not answer within {PATIENCE:.0f} seconds"
            return Told("", waited)
        except OSError as error:
            return Told("", f"{told} cannot be run ({reason_of(error)})")
        output.seek(0)
        printed = output.read(1_000_000).decode(errors="replace")
        target = arguments[-1] if "-o" in arguments else os.devnull
        if not done.returncode and Path(target).exists():
            return Told(printed, "")
        # Where the disk is full, there is no room for what it says either.
        said.seek(0, os.SEEK_END)
        said.write(b"\n" * 8192)
        said.seek(0)
        lines = said.read(100_000).decode(errors="replace").splitlines()
        lines += printed.splitlines()
    # The line of the fault itself, where the compiler marks it.
    marked = [line for line in lines if "error" in line.lower()]
    said_of_it = next(iter([*marked, *filter(str.strip, lines)]), "")
    reason = said_of_it.strip() or "it says nothing, and writes no file"
    return Told("", f"{told} does not work ({reason:.200})")


@lru_cache(8)
def trouble_of(command: str, path: str) -> str:
    """What is wrong with a compiler: it is asked for a library like PyTorch's, once."""
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    with tempfile.TemporaryDirectory(prefix="drawlib-") as folder:
        include = f"-I{sysconfig.get_path('include')}"
        asked = ["-shared", "-fPIC", *openmp, include, "-x", "c++", "-"]
        asked += ["-o", str(Path(folder, "two.so"))]
        return compile_with(command, asked, SOURCE).trouble
