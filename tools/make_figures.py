"""Write each figure of the book as SVG and as PDF, for slides and papers.

    python tools/make_figures.py [notebooks/09-….ipynb …]

Without names: those of all chapters. The notebooks are executed in `read` mode, as for
the book, but their figures come as drawings in place of pictures. They are written to
`build/figures`, a folder a chapter (`09-draw-with-attention/03.svg` is the third figure
of chapter 9), each with its alternative text and its licence inside, and listed with
chapter and cell in `index.html` and `index.csv`. The notebooks stay as they are.
"""

import base64
import csv
import io
import re
import sys
import time
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import nbformat
from pypdf import PdfReader, PdfWriter
from run_notebooks import AT_ONCE, executed, prepare_kernels, run

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "figures"
LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
AUTHOR = "The drawlib authors"
# The kernel's own display of figures writes what these formats say. Letters become
# outlines in the SVG, which so looks the same everywhere, and stay text in the PDF.
BEFORE = """from IPython import get_ipython
from matplotlib import rcParams
from matplotlib_inline.config import InlineBackend
InlineBackend.instance(parent=get_ipython()).figure_formats = {"svg", "pdf"}
rcParams.update({"svg.hashsalt": "figures", "pdf.fonttype": 42})"""


@dataclass(frozen=True)
class Figure:
    """One figure and where it comes from."""

    file: str  # without its ending, below the folder of figures
    chapter: str
    notebook: str
    cell: str
    alt: str
    licence: str = LICENCE


def with_vectors(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """Run one notebook, its figures as SVG and PDF; the seconds it took."""
    start = time.time()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    run(notebook, path)
    del notebook.cells[0]
    return notebook, time.time() - start


def alternative(cell: nbformat.NotebookNode) -> str:
    """A cell's alternative text for its figures."""
    settings = cell.metadata.get("mystnb", {})
    kinds = (settings.get(kind, {}).get("alt") for kind in ("image", "figure"))
    return next(filter(None, kinds), "")


def svg_with(figure: Figure, text: str) -> str:
    """An SVG that says what it shows and who may use it, and nothing of the day."""
    text = re.sub(r"\s*<dc:date>.*?</dc:date>", "", text)
    told = f"<title>{escape(figure.alt)}</title>\n <desc>{AUTHOR}. {LICENCE}</desc>"
    return re.sub(r"(<svg [^>]*>)", lambda m: f"{m.group(1)}\n {told}", text, count=1)


def pdf_with(figure: Figure, content: bytes) -> bytes:
    """The same for a PDF."""
    writer = PdfWriter()
    writer.append(PdfReader(io.BytesIO(content)))
    writer.metadata = {
        "/Title": f"{figure.chapter}: {figure.file}",
        "/Author": AUTHOR,
        "/Subject": figure.alt,
        "/Keywords": LICENCE,
    }
    packed = io.BytesIO()
    writer.write(packed)
    return packed.getvalue()


def write_figures(
    notebook: nbformat.NotebookNode, name: str, folder: Path
) -> list[Figure]:
    """Write the figures of a notebook that was run, numbered in reading order."""
    chapter = notebook.cells[0].source.splitlines()[0].removeprefix("# ").strip()
    figures: list[Figure] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data and "image/svg+xml" not in data:
                raise RuntimeError(f"{name}: cell {cell.id} shows a picture of dots")
            if "image/svg+xml" not in data:
                continue
            file = f"{name}/{len(figures) + 1:02}"
            figure = Figure(file, chapter, name, cell.id, alternative(cell))
            (folder / name).mkdir(parents=True, exist_ok=True)
            svg = svg_with(figure, data["image/svg+xml"])
            (folder / f"{file}.svg").write_text(svg, encoding="utf-8", newline="\n")
            pdf = pdf_with(figure, base64.b64decode(data["application/pdf"]))
            (folder / f"{file}.pdf").write_bytes(pdf)
            figures.append(figure)
    return figures


def write_index(figures: list[Figure], folder: Path) -> None:
    """List the figures: a page to look through, a table for programs."""
    with (folder / "index.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, fieldnames=list(Figure.__dataclass_fields__))
        table.writeheader()
        table.writerows(map(asdict, figures))
    blocks, chapter = [], ""
    for figure in figures:
        if figure.chapter != chapter:
            chapter = figure.chapter
            blocks.append(f"<h2>{escape(chapter)}</h2>")
        links = ", ".join(
            f'<a href="{figure.file}.{kind}">{kind.upper()}</a>'
            for kind in ("svg", "pdf")
        )
        blocks.append(
            f'<figure><img src="{figure.file}.svg" alt="{escape(figure.alt)}" '
            f'loading="lazy"><figcaption>{escape(figure.alt)} <br>{figure.file}: '
            f"{links}, cell {escape(figure.cell)}</figcaption></figure>"
        )
    style = (
        "body{max-width:50rem;margin:2rem auto;padding:0 1rem;font-family:sans-serif}"
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Figures</title><style>{style} img{{max-width:100%}}</style>"
        f"<h1>Figures</h1><p>{AUTHOR}. {LICENCE}</p>\n"
        + "\n".join(blocks)
        + "</html>\n"
    )
    (folder / "index.html").write_text(page, encoding="utf-8", newline="\n")


def make(paths: list[Path], folder: Path = BUILD, at_once: int = AT_ONCE) -> int:
    """Write the figures of these notebooks; how many notebooks ran to their end."""
    found: dict[str, list[Figure]] = {}
    for path, notebook in executed(paths, at_once, with_vectors):
        found[path.stem] = write_figures(notebook, path.stem, folder)
    write_index([figure for name in sorted(found) for figure in found[name]], folder)
    count = sum(map(len, found.values()))
    print(f"figures: {count}, each as SVG and PDF, in {folder}")
    return len(found)


def main() -> int:
    """Write the figures of the notebooks named, or of all; returns the exit code."""
    paths = [Path(name).resolve() for name in sys.argv[1:]]
    paths = paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    prepare_kernels()
    print(f"figures: executing {len(paths)} notebooks, {AT_ONCE} at a time", flush=True)
    return 0 if make(paths) == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main())
