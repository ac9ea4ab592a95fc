"""A tiny plan, its tables and its notebook, for tests that execute batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from drawlib.results import zoo
from drawlib.results.plan import plan_of, record_path, train_row

TESTS = Path(__file__).resolve().parents[1]
SLOW, QUICK, BAD = (f"mnist-dynamic/{row}" for row in ("slow", "quick", "bad"))

# The first cell fails before anything is imported, the next one trains.
CELLS = """
mode = "read"
seed = 0
device = "cpu"
rows = ""
---
if "bad" in rows:
    raise RuntimeError("planted")
---
import sys
from pathlib import Path

sys.path.insert(0, {here!r})
import torch
from toy_runs import use_toy_data

from drawlib.results import zoo
from drawlib.results.plan import train_rows

torch.set_num_threads(1)
use_toy_data(setattr, side=6)
zoo.ZOO = Path({zoo!r})
own = train_rows("06-toy", mode, seed, device, rows, progress=False)
print(sorted(path.name for path in own.glob("*/*.json")))
"""


def make_toy(folder: Path, patch: Any, *, epochs: int = 60) -> Path:
    """A folder of notebooks with one toy chapter, and a zoo with its plan and tables.

    ``patch(target, attribute, value)`` lets this process see that zoo too.
    """
    there = folder / "toy-zoo"
    there.mkdir(parents=True)
    recipe = {"batch_size": 16, "lr": 1e-2, "checkpoint_seconds": 0.0}
    entry = {
        "chapter": "06",
        "kind": "vae",
        "preset": "tiny",
        "model": {"image_shape": [1, 6, 6]},
        "recipe": "toy",
        "iw": [5, 20],
        "seconds_an_epoch": 0.5,
    }
    runs = {
        SLOW: {**entry, "train": {"epochs": epochs}},
        QUICK: {**entry, "train": {"epochs": 2}, "published": "vae-source"},
        BAD: {**entry, "train": {"epochs": 2}},
    }
    lines = [{"name": SLOW, "label": "slow"}, {"name": BAD, "label": "bad"}]
    lines += [{"name": QUICK, "label": "quick", "published": "vae-source", "goal": 89}]
    toy = {"title": "Toys", "measure": "neg_elbo", "splits": ["test"], "rows": lines}
    write(there / "plan.json", {"recipes": {"toy": recipe}, "runs": runs})
    write(there / "tables.json", {"T": toy})
    write(there / "published.json", zoo.published())
    patch(zoo, "ZOO", there)
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    write_notebook(notebooks / "06-toy.ipynb", there)
    return notebooks


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_notebook(path: Path, there: Path, cells: str = CELLS) -> None:
    """The toy chapter."""
    text = cells.strip("\n").format(here=str(TESTS), zoo=str(there))
    parts = [nbformat.v4.new_code_cell(part) for part in text.split("\n---\n")]
    parts[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=parts)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    nbformat.write(notebook, path)


def undisturbed(folder: Path, *names: str, seed: int = 0) -> list[Path]:
    """The records of rows that are trained here and now, and by nobody stopped."""
    paths = []
    for name in names:
        train_row(plan_of(name), folder, seed, "cpu", progress=False)
        paths.append(record_path(plan_of(name), folder, seed))
    return paths
