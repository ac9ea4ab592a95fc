"""The book's figures as drawings, each with what it shows and its licence."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from pypdf import PdfReader

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import make_figures  # noqa: E402

ALT = 'A line that rises from 0 to 1, "steeply" & <straight>.'
CELLS = {
    "import": "import matplotlib.pyplot as plt",
    "plain": "plt.plot([0, 1], [0, 1])\nplt.show()",
    "two": "plt.plot([1, 0])\nplt.show()\nplt.imshow([[0, 1], [1, 0]])\nplt.show()",
}


def small(path: Path, cells: dict[str, str]) -> Path:
    """A notebook of these cells, each with an alternative text."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A chapter\n\nText.")]
    )
    for name, source in cells.items():
        cell = nbformat.v4.new_code_cell(source, id=name)
        cell.metadata["mystnb"] = {"image": {"alt": ALT}}
        notebook.cells.append(cell)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of one small notebook."""
    folder = tmp_path_factory.mktemp("figures")
    path = small(folder / "09-small.ipynb", CELLS)
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # the kernel's own shows the figures
        assert make_figures.make([path], folder / "out", at_once=1) == 1
    assert path.read_bytes() == before
    return folder / "out"


def test_each_figure_is_written_in_reading_order_as_svg_and_pdf(made):
    names = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*.*"))]
    figures = [f"09-small/0{k}.{kind}" for k in (1, 2, 3) for kind in ("pdf", "svg")]
    assert names == [*figures, "index.csv", "index.html"]


def test_an_svg_is_a_drawing_that_says_what_it_shows_and_under_which_licence(made):
    text = (made / "09-small/01.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root[0].tag == f"{space}title" and root[0].text == ALT
    assert "CC BY 4.0" in (root.findtext(f"{space}desc") or "")
    assert len(root.findall(f".//{space}path")) > 10
    assert "<image" not in text and "<dc:date>" not in text


def test_a_pdf_is_a_drawing_that_says_what_it_shows_and_under_which_licence(made):
    pdf = PdfReader(io.BytesIO((made / "09-small/01.pdf").read_bytes()))
    assert len(pdf.pages) == 1 and not list(pdf.pages[0].images)
    assert pdf.metadata.subject == ALT and "CC BY 4.0" in pdf.metadata["/Keywords"]
    assert "/CreationDate" not in pdf.metadata
    # Its numbers are text, and can be searched.
    assert re.search(r"0\.\d", pdf.pages[0].extract_text())


def test_the_index_names_chapter_cell_text_and_licence_of_each_figure(made):
    with (made / "index.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["cell"]) for row in rows] == [
        ("09-small/01", "plain"),
        ("09-small/02", "two"),
        ("09-small/03", "two"),
    ]
    assert all(row["alt"] == ALT and row["chapter"] == "A chapter" for row in rows)
    assert all(row["licence"].startswith("CC BY 4.0, https://") for row in rows)
    page = (made / "index.html").read_text(encoding="utf-8")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (made / path).exists()
    assert page.count("<img ") == page.count(' alt="A line') == 3


def test_a_picture_of_dots_is_refused_in_a_line(tmp_path):
    cell = nbformat.v4.new_code_cell("show()", id="dots")
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": "iVBO"})]
    title = nbformat.v4.new_markdown_cell("# A chapter")
    notebook = nbformat.v4.new_notebook(cells=[title, cell])
    with pytest.raises(RuntimeError, match="a: cell dots shows a picture of dots"):
        make_figures.write_figures(notebook, "a", tmp_path)
