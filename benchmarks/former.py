"""A build of another day beside today's: the same work, done by a commit's own code.

Its files lie in a temporary folder, and each piece of work runs in a process that
imports them from there, with the packages that are installed. Its own benchmark builds
the work, and holds it to its own textbook first. Only bfloat16, its fastest setting, is
compiled. Of the VAE and the Ladder VAE that build compiled nothing: they have no row.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.turns import Apart
from drawlib.results.zoo import git

__all__ = ["COMMIT", "FORMER", "WORKS", "former_call", "former_files"]

ROOT = Path(__file__).resolve().parent.parent
COMMIT = "7a58c15"  # the step as PyTorch's compiler made it
FORMER = f"{COMMIT} bf16"
WORKS = ("draw-attention", "draw-t64", "glas", "generate", "weigh")
PROGRAM = """
import torch
from benchmarks import works
from drawlib import fast, faststep
torch.set_num_threads({threads})
torch.manual_seed(0)
if {quick}:
    for module in (fast, faststep):
        module.has_compiler = lambda: False
works.all_rivals = lambda call: {{
    "textbook float32": call(True, "float32"), "fast bf16": call(False, "bf16")
}}
call = works.all_works({quick})[{name!r}]().rivals["fast bf16"]
"""


@contextmanager
def former_files(commit: str = COMMIT) -> Iterator[Path | None]:
    """A folder with that commit's code, or None where the history is not there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, packed = Path(scratch, "code"), Path(scratch, "code.tar")
        archive = ("archive", f"--output={packed}", commit, "benchmarks", "drawlib")
        if git("-C", str(ROOT), *archive) is None:
            yield None
            return
        with tarfile.open(packed) as files:
            files.extractall(folder, filter="data")
        yield folder


def former_call(folder: Path, name: str, threads: int, quick: bool = False) -> Apart:
    """One of ``WORKS``, ready to be called.

    Raises:
        RuntimeError: where that code does not run here.
    """
    program = PROGRAM.format(name=name, threads=threads, quick=quick)
    found = Apart(program, threads, folder)
    found()  # compiled, and equal to its textbook
    return found
