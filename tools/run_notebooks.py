"""Execute notebooks in place and store outputs that do not depend on the machine.

    python tools/run_notebooks.py [notebooks/01-….ipynb …]

Without names: all of them, in order. A notebook whose execution fails is left as it
was. Timings, kernel names and the order of keys are stripped, so that running twice
changes nothing but what really changed.
"""

import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from drawlib.batches.batch import data_folders

ROOT = Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = ("tags", "mystnb", "editable", "slideshow")


def lighter(figure: bytes) -> bytes:
    """A PNG with a palette of 256 colours, if its pixels stay as they look.

    Plots and grey images have few colours beside their smoothed edges; half of a
    page's weight is saved. A figure whose pixels would move by more than 0.2 of 255 in
    the mean (photographs), that is transparent or has a palette comes back as it was.
    """
    stored = Image.open(io.BytesIO(figure))
    see_through = stored.mode == "RGBA" and np.asarray(stored)[..., 3].min() < 255
    if stored.mode == "P" or see_through:
        return figure
    image = stored.convert("RGB")
    fewer = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    before, after = (np.asarray(i, float) for i in (image, fewer.convert("RGB")))
    if np.abs(after - before).max(2).mean() > 0.2:
        return figure
    packed = io.BytesIO()
    fewer.save(packed, "PNG", optimize=True)
    return min(figure, packed.getvalue(), key=len)


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


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from one run or machine to the next; make figures lighter."""
    kept = {k: v for k, v in notebook.metadata.items() if k == "drawlib"}
    notebook.metadata = nbformat.from_dict(
        {**kept, "kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT}
        )
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = nbformat.from_dict({})
                if "image/png" in output.data:
                    figure = base64.b64decode(output.data["image/png"])
                    packed = base64.b64encode(lighter(figure))
                    output.data["image/png"] = packed.decode()


def execute(path: Path) -> str:
    """Run one notebook and store its outputs; returns one line on how it went."""
    start = time.time()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        last = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"{path.name} failed: {last}") from None
    tidy(notebook)
    nbformat.validate(notebook)
    temporary = path.with_suffix(".ipynb.tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    seconds, size = time.time() - start, path.stat().st_size / 1e3
    return f"{path.name}: {seconds:.0f} s, {size:.0f} kB"


def main() -> int:
    """Run the notebooks named, or all; returns the exit code."""
    names = sys.argv[1:]
    paths = [Path(name).resolve() for name in names]
    paths = paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    os.environ.update(data_folders())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the tests compare them
    os.environ.pop("MPLBACKEND", None)  # the kernel's own shows the figures
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    failed = 0
    for number, path in enumerate(paths, start=1):
        print(f"notebooks: {number} of {len(paths)}: {path.name} …", flush=True)
        try:
            print(f"notebooks: {execute(path)}", flush=True)
        except (RuntimeError, OSError) as error:
            failed += 1
            print(f"notebooks: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
