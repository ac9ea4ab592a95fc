"""The rooms of drawlib, in the order in which they build on each other.

    python tools/architecture.py      the order as a diagram

A room is a folder, or some files on the ground floor. It imports from itself and from
the rooms above it in this list, never from one below. `tests/test_architecture.py`
keeps that, the API page follows this order, and `CONTRIBUTING.md` shows the diagram.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "drawlib"


class Room(NamedTuple):
    """A name, its modules (in the order to read them), and what it is for."""

    name: str
    modules: str
    purpose: str


ROOMS = (
    Room("textbook", "textbook", "DRAW in one file: read this first"),
    Room(
        "equations",
        "config exchanged gaussian bound stops likelihood layers lstm filters",
        "what an equation needs",
    ),
    Room(
        "models",
        "trace recurrent draw glas conv_draw vae ladder diffusion classifier letters "
        "objectives models",
        "one file, one model; looking into them, choosing one",
    ),
    Room(
        "machine/",
        "device distributed settings progress stopping files cache",
        "devices, processes, signals, files",
    ),
    Room(
        "data/",
        "sets protocols own pictures words draws clutter two labels download formats",
        "what is learned from",
    ),
    Room(
        "evaluation",
        "evaluation every_stop annealing",
        "bounds of a model on a data set",
    ),
    Room(
        "mistakes/",
        "planting catalogue catalogue_filters plants",
        "public mistakes, plantable",
    ),
    Room(
        "fast/",
        "loop native kernels step parts compiler partition",
        "the same numbers in less time",
    ),
    Room(
        "training/",
        "train schedule optimisers statistics validation runstate checkpoint",
        "from a model and data to weights",
    ),
    Room("notebooks", "plots notebook", "what notebooks draw and check"),
    Room(
        "results/",
        "runs zoo classification words letter_windows turns plan tables tables_show "
        "glance accounts intervals looseness forecast bench",
        "runs, records, tables",
    ),
    Room(
        "pages/",
        "explorer animation side_by_side words pad embedded standalone watching web "
        "draw_a_digit",
        "what runs in a page, with its JavaScript",
    ),
    Room(
        "batches/",
        "reproduce jobs batch kernels forked check",
        "many runs: papermill and Dask",
    ),
    Room("drawlib", "__init__", "the public names"),
    Room("command line", "__main__", "python -m drawlib"),
)
# The models know nothing of mistakes and speed: who may take hold of them.
APART = ("mistakes/", "fast/")
MAY_TAKE_HOLD = (
    "training/",
    "results/",
    "pages/",
    "batches/",
    "drawlib",
    "command line",
)


def modules() -> dict[str, Room]:
    """Every module by its dotted name below drawlib, with its room."""
    return {
        (room.name.replace("/", ".") if room.name.endswith("/") else "") + name: room
        for room in ROOMS
        for name in room.modules.split()
    }


def path_of(module: str) -> Path:
    """The file of a module."""
    return (PACKAGE / module.replace(".", "/")).with_suffix(".py")


def imports_of(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of drawlib that a file imports, anywhere in it, read as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "drawlib":
                inside = name.split(".")[1:]
                while inside and ".".join(inside) not in known:
                    inside.pop()  # what is imported from a module is not one
                yield ".".join(inside) or "__init__"


def arrows() -> dict[str, set[str]]:
    """What each module imports of drawlib."""
    known = modules()
    return {name: set(imports_of(path_of(name), set(known))) - {name} for name in known}


def diagram() -> str:
    """The rooms from the first to the last, a line each."""
    width = max(len(room.name) for room in ROOMS)
    lines = [f"{room.name:{width}s}  {room.purpose}" for room in ROOMS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
