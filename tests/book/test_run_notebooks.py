"""The tool that stores outputs: figures become lighter, and look the same."""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from drawlib.batches import kernels
from drawlib.batches.kernels import LocalKernelManager

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import run_notebooks  # noqa: E402
from run_notebooks import lighter, tidy  # noqa: E402


def png(pixels: np.ndarray) -> bytes:
    """Pixels (height, width, channels) as a PNG."""
    packed = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(packed, "PNG")
    return packed.getvalue()


def pixels_of(figure: bytes) -> np.ndarray:
    """A PNG's pixels (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(figure)).convert("RGB")).astype(int)


def plot(colours: int) -> np.ndarray:
    """White paper with so many colours on it, (300, 400, 4), opaque."""
    g = np.random.default_rng(0)
    pixels = np.full((300, 400, 4), 255)
    pixels[100:110].reshape(-1, 4)[:colours, :3] = g.integers(0, 256, (colours, 3))
    return pixels


def test_a_plot_of_few_colours_keeps_every_pixel_and_becomes_lighter():
    figure = png(plot(200))
    found = lighter(figure)
    assert len(found) < len(figure)
    assert (pixels_of(found) == pixels_of(figure)).all()
    assert lighter(found) == found


def test_a_plot_of_many_colours_moves_by_less_than_one_can_see():
    figure = png(plot(1000))
    found = lighter(figure)
    assert len(found) < len(figure) and lighter(found) == found
    assert 0 < np.abs(pixels_of(found) - pixels_of(figure)).max(2).mean() <= 0.2


def test_a_plot_of_many_crossing_lines_moves_by_no_more_than_one_can_see():
    """Nine colours that fade into white and each other: no pixel moves by over 16."""
    g = np.random.default_rng(0)
    pixels = np.full((300, 400, 4), 255)
    inks = g.integers(0, 256, (9, 3))
    fading = g.uniform(0, 1, (50, 400, 1))
    pixels[100:150, :, :3] = 255 + fading * (inks[g.integers(0, 9, (50, 400))] - 255)
    figure = png(pixels)
    found = lighter(figure)
    moved = np.abs(pixels_of(found) - pixels_of(figure)).max(2)
    assert len(found) < len(figure) and 0.2 < moved.mean() <= 0.5 and moved.max() <= 16


@pytest.mark.parametrize("kind", ["photograph", "transparent"])
def test_photographs_and_transparent_figures_stay_as_they_are(kind):
    if kind == "photograph":
        pixels = np.random.default_rng(0).integers(0, 256, (75, 100, 3))
    else:
        pixels = plot(200)
        pixels[:50, :, 3] = 0
    figure = png(pixels)
    assert lighter(figure) == figure


def test_tidy_makes_stored_figures_lighter():
    figure = png(plot(200))
    data = {"image/png": base64.b64encode(figure).decode() + "\n"}
    output = nbformat.v4.new_output("display_data", data)
    cell = nbformat.v4.new_code_cell("plt.show()", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    tidy(notebook)
    stored = base64.b64decode(notebook.cells[0].outputs[0].data["image/png"])
    assert stored == lighter(figure) != figure


def test_tidy_joins_printed_text_that_came_in_pieces():
    new = nbformat.v4.new_output
    pieces = [new("stream", name="stdout", text=t) for t in ("a\n", "b", "c\n")]
    figure = new("display_data", {"text/plain": "<Figure>"})
    err = new("stream", name="stderr", text="e")
    outputs = [*pieces, figure, new("stream", name="stdout", text="d\n"), err]
    cell = nbformat.v4.new_code_cell("print()", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    tidy(notebook)
    found = notebook.cells[0].outputs
    assert [o.get("text") for o in found] == ["a\nbc\n", None, "d\n", "e"]


def test_a_relative_data_folder_is_found_from_the_notebooks_folder(
    tmp_path, monkeypatch, capsys
):
    seen = []
    notebook = nbformat.v4.new_notebook()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWLIB_DATA", "some/data")
    for name in ("OMP_NUM_THREADS", "MPLBACKEND", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "1")  # main changes them; put back afterwards
    monkeypatch.setattr(sys, "argv", ["run_notebooks", "some.ipynb"])
    monkeypatch.setattr(
        run_notebooks,
        "execute",
        lambda path: seen.append((path, os.environ["DRAWLIB_DATA"])) or (notebook, 1.0),
    )
    assert run_notebooks.main() == 0
    assert nbformat.read("some.ipynb", as_version=4) == notebook
    assert seen == [(tmp_path / "some.ipynb", str(tmp_path / "some" / "data"))]


def written(folder, name, code):
    """A notebook of one cell."""
    path = folder / f"{name}.ipynb"
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_notebooks_run_beside_each_other_and_their_kernels_warn_of_nothing(
    tmp_path, capfd
):
    """Each waits for what the other one writes; a third one fails, and stops neither.

    No kernel says that it runs over TCP, without encryption.
    """
    wait = (
        "import pathlib, time\n"
        "pathlib.Path('{0}').touch()\n"
        "while not pathlib.Path('{1}').exists():\n    time.sleep(0.05)\n"
        "print('{0}')"
    )
    paths = [
        written(tmp_path, "bad", "1 / 0"),
        written(tmp_path, "a", wait.format("one", "two")),
        written(tmp_path, "b", wait.format("two", "one")),
    ]
    found = {p.stem: n for p, n in run_notebooks.executed(paths, at_once=2)}
    texts = {name: n.cells[0].outputs[0].text for name, n in found.items()}
    assert texts == {"a": "one\n", "b": "two\n"}
    told, warned = capfd.readouterr()
    assert "of 3: a.ipynb, " in told and "of 3: b.ipynb, " in told
    (line,) = warned.splitlines()
    assert line.endswith("of 3: bad.ipynb failed: ZeroDivisionError: division by zero")


@pytest.mark.skipif(os.name != "posix", reason="sockets are files on POSIX systems")
def test_a_kernel_is_no_port_of_the_machine_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        kernel_name="python3",
        kernel_manager_class=LocalKernelManager,
    )
    with client.setup_kernel():
        info = client.km.get_connection_info()
        assert info["transport"] == "ipc" and info["ip"].startswith(str(tmp_path))
        assert len(list(tmp_path.iterdir())) > 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["nt", "long"])
def test_where_sockets_cannot_be_files_a_kernel_runs_over_tcp(monkeypatch, reason):
    if reason == "nt":
        monkeypatch.setattr(kernels.os, "name", "nt")
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/" + 100 * "a")
    assert LocalKernelManager().transport == "tcp"


def test_tidy_folds_in_jupyter_and_colab_what_the_book_folds():
    answer = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["hide-input"]})
    text = nbformat.v4.new_markdown_cell(":::{solution} ex\n:::")
    open_ = nbformat.v4.new_code_cell("y = 2")
    notebook = nbformat.v4.new_notebook(cells=[answer, text, open_])
    tidy(notebook)
    nbformat.validate(notebook)
    assert answer.metadata["jupyter"]["source_hidden"]
    assert answer.metadata["cellView"] == "form"
    # A solution's text folds by itself: twice would be once too often.
    assert text.metadata == open_.metadata == {}
