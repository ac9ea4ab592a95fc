"""Execute notebooks in place and store outputs that do not depend on the machine.

    python tools/run_notebooks.py [notebooks/01-….ipynb …]

Without names: all of them. Each takes one core, so several run at a time. A notebook
whose execution fails is left as it was. Timings, kernel names and the order of keys are
stripped, so that running twice changes nothing but what really changed.
"""

import asyncio
import base64
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from drawlib.batches.batch import data_folders
from drawlib.batches.forked import ForkedKernelManager

ROOT = Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = ("tags", "mystnb", "editable", "slideshow")
AT_ONCE = min(4, os.cpu_count() or 1)  # a kernel takes a core and a gigabyte


def lighter(figure: bytes) -> bytes:
    """A PNG with a palette of at most 256 colours, if its pixels stay as they look.

    Plots and grey images have few colours beside their smoothed edges; half of a
    page's weight is saved. A figure whose pixels would move by more than 0.2 of 255 in
    the mean, or 0.5 where none moves by more than 16 (many lines that cross; never a
    photograph), that is transparent or has a palette comes back as it was.
    """
    stored = Image.open(io.BytesIO(figure))
    see_through = stored.mode == "RGBA" and np.asarray(stored)[..., 3].min() < 255
    if stored.mode == "P" or see_through:
        return figure
    image = stored.convert("RGB")
    cut, cover = Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE
    # No pixel may move, or few colours do where the eye sees none move.
    for colours, method, moved, most in (
        (256, cut, 0.0, 0),
        (32, cut, 0.2, 255),
        (64, cut, 0.2, 255),
        (256, cut, 0.2, 255),
        (256, cover, 0.5, 16),
    ):
        fewer = image.quantize(colours, method, dither=Image.Dither.NONE)
        before, after = (np.asarray(i, float) for i in (image, fewer.convert("RGB")))
        error = np.abs(after - before).max(2)
        if error.mean() <= moved and error.max() <= most:
            packed = io.BytesIO()
            fewer.save(packed, "PNG", optimize=True)
            return min(figure, packed.getvalue(), key=len)
    return figure


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs whose printed text, cut by a slow machine, is in one piece again."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = kept[-1] if kept else nbformat.from_dict({"output_type": ""})
        if output.output_type == last.output_type == "stream" and (
            output.name == last.name
        ):
            last.text += output.text
        else:
            kept.append(output)
    return kept


def fold(cell: nbformat.NotebookNode) -> None:
    """The code that the book folds, Jupyter and Colab fold too, by their own metadata.

    Solutions, plumbing and plots carry the tag ``hide-input``; text folds by itself.
    """
    if "hide-input" in cell.metadata.get("tags", []):
        cell.metadata["jupyter"] = {"source_hidden": True}
        cell.metadata["cellView"] = "form"


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from one run or machine to the next; make figures lighter.

    What the book folds is folded in Jupyter and Colab, too.
    """
    kept = {k: v for k, v in notebook.metadata.items() if k == "drawlib"}
    notebook.metadata = nbformat.from_dict(
        {**kept, "kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT}
        )
        fold(cell)
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = nbformat.from_dict({})
                if "image/png" in output.data:
                    figure = base64.b64decode(output.data["image/png"])
                    packed = base64.b64encode(lighter(figure))
                    output.data["image/png"] = packed.decode()


def prepare_kernels() -> None:
    """What kernels inherit: where data are, one thread, figures shown by themselves."""
    os.environ.update(data_folders())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the tests compare them
    os.environ.pop("MPLBACKEND", None)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"


def run(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Run a notebook in the folder of its file; it then has the outputs of this run."""
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        kernel_manager_class=ForkedKernelManager,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        asyncio.run(client.async_execute())  # any thread may: it closes its own loop
    except CellExecutionError as error:
        told = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        raise RuntimeError(f"{path.name} failed: {told}") from None


def execute(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """Run one notebook; it comes back with clean outputs, and the seconds it took."""
    start = time.time()
    notebook = nbformat.read(path, as_version=4)
    run(notebook, path)
    tidy(notebook)
    nbformat.validate(notebook)
    return notebook, time.time() - start


def executed(
    paths: Sequence[Path],
    at_once: int = AT_ONCE,
    one: Callable[[Path], tuple[nbformat.NotebookNode, float]] | None = None,
) -> Iterator[tuple[Path, nbformat.NotebookNode]]:
    """Run notebooks, several at a time: each once it is done, unless it failed."""
    pool = ThreadPoolExecutor(at_once)
    runs = {pool.submit(one or execute, path): path for path in paths}
    try:
        for number, run in enumerate(as_completed(runs), start=1):
            count, path = f"{number} of {len(paths)}", runs[run]
            try:
                notebook, seconds = run.result()
            except (RuntimeError, OSError) as error:
                print(f"notebooks: {count}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"notebooks: {count}: {path.name}, {seconds:.0f} s", flush=True)
            yield path, notebook
    finally:
        pool.shutdown(cancel_futures=True)


def store(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write a notebook in place of the old one, whole or not at all."""
    temporary = path.with_suffix(".ipynb.tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)


def main() -> int:
    """Run the notebooks named, or all; returns the exit code."""
    names = sys.argv[1:]
    paths = [Path(name).resolve() for name in names]
    paths = paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    prepare_kernels()
    print(f"notebooks: executing {len(paths)}, {AT_ONCE} at a time", flush=True)
    done = 0
    for path, notebook in executed(paths):
        store(path, notebook)
        done += 1
    return 0 if done == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main())
