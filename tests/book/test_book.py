"""The book as files: its configuration, its notebooks, and what was built from them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup, SoupStrainer

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import bookpages  # noqa: E402
import check_links  # noqa: E402
import chromium  # noqa: E402
import offline  # noqa: E402
import set_repository  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)
FIGURES = ("image/png", "image/jpeg", "image/svg+xml")
# Paths of a machine, and the hosts that packages come from (never part of a page).
MACHINE = re.compile(
    r"(?<![\w.])/(home|root|work|tmp|Users|opt|var)/\w|[A-Z]:\\\\Users"
    r"|py"
    r"pi\.(org|python)|python"
    r"hosted|registry\.npm"
    r"js|deb\.deb"
    r"ian"
)


@cache
def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path: Path) -> list[dict]:
    return [
        cell
        for cell in load(path)["cells"]
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    ]


def outputs(path: Path) -> list[tuple[dict, dict]]:
    return [(c, out) for c in code_cells(path) for out in c["outputs"]]


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert toc["format"] == "jb-book"
    parts = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"], *parts]


# --- configuration ---------------------------------------------------------------


def test_book_configuration_refuses_errors_and_keeps_no_cache():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["only_build_toc_files"] is True
    assert config["execute"]["execute_notebooks"] == "force"
    assert config["execute"]["timeout"] >= 300
    assert config["sphinx"]["recursive_update"] is True
    assert config["sphinx"]["config"]["nb_execution_raise_on_error"] is True
    assert re.fullmatch(r"20\d\d", str(config["copyright"]))
    assert "thebe" not in config["launch_buttons"]


def test_toc_names_every_page_and_notebook_once():
    files = toc_files()
    assert len(files) == len(set(files))
    for name in files:
        assert any((ROOT / (name + end)).exists() for end in (".md", ".ipynb")), name
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    chapters = {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    assert set(files) == pages | chapters


def test_no_third_party_script_or_style_is_kept_in_the_tree():
    listed = subprocess.run(
        ["git", "ls-files", "*.js", "*.css"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        assert name.startswith(("drawlib/", "book/_static/")), name
        assert (ROOT / name).stat().st_size < 100_000, name
    assert not (ROOT / "_static").exists()  # every page would load what lies there


def test_library_has_lower_bounds_and_requirements_exact_pins():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", line), line
    pinned = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==([\w.+]+)( ?;.*)?", line)
            assert match, line
            pinned[match.group(1).lower().replace("_", "-")] = match.group(2)
    for line in project["dependencies"]:
        assert line.split(">=")[0].lower() in pinned, line


# --- the repository's address ----------------------------------------------------


def test_repository_address_is_the_same_everywhere():
    address = set_repository.current_address()
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == address
    assert citation["repository-code"] == address
    if address != set_repository.PLACEHOLDER:
        for pattern in set_repository.PATTERNS:
            for path in ROOT.glob(pattern):
                text = path.read_text(encoding="utf-8")
                assert "OWNER/REPOSITORY" not in text, path.name


def test_version_is_the_same_everywhere():
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    import drawlib

    assert getattr(drawlib, "__version__", version) == version


def test_set_repository_changes_every_copy(tmp_path):
    old = "https://github.com/OWNER/REPOSITORY"
    texts = {
        "pyproject.toml": f'[project.urls]\nRepository = "{old}"\n',
        "_config.yml": f"repository:\n  url: {old}\n",
        "README.md": f"[badge]({old}/actions) colab/github/OWNER/REPOSITORY/blob\n",
        "notebooks/01-a.ipynb": f"pip install git+{old}@v0.1.0",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    changed = set_repository.set_repository("https://github.com/a/b.git/", tmp_path)
    assert len(changed) == len(texts)
    for name in texts:
        text = (tmp_path / name).read_text()
        assert "OWNER" not in text and "a/b" in text
    assert set_repository.current_address(tmp_path) == "https://github.com/a/b"
    for wrong in ("", "a/b", "http://github.com/a/b", "https://github.com/a"):
        with pytest.raises(ValueError, match="not of the form"):
            set_repository.set_repository(wrong, tmp_path)


# --- notebooks -------------------------------------------------------------------


@each_notebook
def test_notebook_is_below_one_megabyte(path):
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_notebook_was_run_from_top_to_bottom_without_error(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for cell, out in outputs(path):
        if "raises-exception" not in cell["metadata"].get("tags", []):
            assert out["output_type"] != "error"


@each_notebook
def test_every_figure_of_a_notebook_has_alt_text(path):
    for cell, out in outputs(path):
        if any(kind in out.get("data", {}) for kind in FIGURES):
            settings = cell["metadata"].get("mystnb", {})
            alt = settings.get("image", {}).get("alt") or settings.get(
                "figure", {}
            ).get("alt")
            assert alt and len(alt) > 20, "".join(cell["source"])[:200]
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "markdown":
            assert "![](" not in "".join(cell["source"])


@each_notebook
def test_notebook_holds_nothing_of_the_machine_that_ran_it(path):
    for cell, out in outputs(path):
        data = {k: v for k, v in out.get("data", {}).items() if "image/" not in k}
        text = json.dumps([out.get("text"), data, out.get("traceback")])
        assert not MACHINE.search(text), "".join(cell["source"])[:200]
    for cell in load(path)["cells"]:
        assert not MACHINE.search("".join(cell["source"]))
        assert "execution" not in cell["metadata"], "stored times: make notebooks"


@each_notebook
def test_notebook_begins_with_the_shared_cell_and_parameters(path):
    first = "".join(code_cells(path)[0]["source"])
    assert first == "".join(code_cells(NOTEBOOKS[0])[0]["source"])
    assert set_repository.current_address() in first
    tagged = [
        cell
        for cell in code_cells(path)
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(tagged) == 1
    assert re.search(r'^mode = "read"', "".join(tagged[0]["source"]), re.MULTILINE)


# --- the extensions --------------------------------------------------------------


def test_extension_removes_what_would_be_fetched_and_thebe():
    page = offline.mend(
        '<html><head><link rel="stylesheet" href="https://a/font-awesome.css"/>'
        '<link rel="canonical" href="https://a/"/><script src="//b/require.js">'
        '</script><script src="_static/sphinx-thebe.js"></script>'
        '<script>const THEBE_JS_URL = "https://c"</script>'
        '<script src="_static/own.js"></script></head>'
        '<body><a href="https://a">kept</a></body></html>'
    )
    assert "font-awesome" not in page and "require.js" not in page
    assert "thebe" not in page.lower()
    assert "own.js" in page and "kept" in page and "canonical" in page


def test_extension_makes_scrolling_boxes_reachable_by_keyboard():
    page = offline.mend(
        '<div class="highlight"><pre>x</pre></div><table><tr><td>1</td></tr></table>'
    )
    assert page.count('tabindex="0"') == 2
    assert page.count("aria-label=") == 2


def test_extension_escapes_prose_of_docstrings_but_not_code():
    assert bookpages.escape("a * b, |x|, z_ and ``a * b_``") == (
        r"a \* b, \|x\|, z\_ and ``a * b_``"
    )
    lines = ["p(x|z) * 2", "", ">>> a = x_ * 2 | 3", "", "::", "", "   a * b"]
    bookpages.on_docstring(None, "", "", None, None, lines)
    assert lines[0] == r"p(x\|z) \* 2"
    assert lines[2:] == [">>> a = x_ * 2 | 3", "", "::", "", "   a * b"]


def test_extension_puts_kaggle_beside_colab_with_the_same_notebook():
    file = "a/b/blob/main/notebooks/04-vae.ipynb"
    colab = {
        "type": "link",
        "text": "Colab",
        "tooltip": "Launch on Colab",
        "icon": "_static/images/logo_colab.png",
        "url": f"https://colab.research.google.com/github/{file}",
    }
    other = {"type": "link", "text": "Repository", "url": "https://github.com/a/b"}
    groups = [{"buttons": [colab]}, {"buttons": [other]}, {"type": "link", "url": "x"}]
    bookpages.add_kaggle(None, "", "", {"header_buttons": groups}, None)
    assert [len(group.get("buttons", [])) for group in groups] == [2, 1, 0]
    kaggle = groups[0]["buttons"][1]
    address = f"https://github.com/{file}"
    assert kaggle["url"] == f"https://kaggle.com/kernels/welcome?src={address}"
    assert kaggle["text"] == "Kaggle" and kaggle["tooltip"] == "Launch on Kaggle"
    assert "colab" not in json.dumps(kaggle).lower()
    # Without a public address there is no launch button, so none of Kaggle's.
    bookpages.add_kaggle(None, "", "", {}, None)


def test_extension_keeps_the_lines_of_formulas_in_docstrings():
    given = ["For t:", "  a = b,", "  c = d.", "Then.", "", "Args:", "    x: one", ""]
    wanted = ["For t:", "", "| a = b,", "| c = d.", "", "Then.", *given[4:]]
    assert bookpages.set_apart(given) == wanted


def test_list_of_chapters_has_the_question_of_each():
    listed = bookpages.chapter_list().splitlines()
    assert len(listed) == len(NOTEBOOKS)
    for line in listed:
        assert re.search(r"\): \S.+[.?]$", line), line


def test_api_page_lists_every_public_module():
    listed = re.findall(r"automodule:: drawlib\.(\S+)", bookpages.api_text())
    there = {
        path.relative_to(ROOT / "drawlib").with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / "drawlib").rglob("[a-z]*.py")
    }
    assert sorted(listed) == sorted(there)


# --- links -----------------------------------------------------------------------


def test_link_checker_finds_every_planted_error(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here">fine</a><a href="b.html#there">fine</a>'
        '<a href="https://elsewhere">not opened</a><a href="#nowhere">1</a>'
        '<a href="missing.html">2</a><a href="b.html#gone">3</a>'
        '<img src="gone.png"><script src="../outside.js"></script>'
    )
    (tmp_path / "b.html").write_text('<a name="there"></a>')
    faults = check_links.check(tmp_path)
    assert len(faults) == 5
    for planted in ("#nowhere", "missing", "#gone", "gone.png", "outside"):
        assert any(planted in fault for fault in faults), planted


# --- what was built --------------------------------------------------------------


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """The text of every built page, by its name."""
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    return {
        path.relative_to(HTML).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(HTML.rglob("*.html"))
        if "_static" not in path.parts
    }


@pytest.mark.built
def test_built_book_has_every_page_of_the_toc(built):
    for name in toc_files():
        assert f"{name}.html" in built


@pytest.mark.built
def test_built_links_and_anchors_lead_somewhere(built):
    assert check_links.check(HTML) == []


@pytest.mark.built
def test_built_pages_fetch_nothing_from_elsewhere(built):
    fetched = re.compile(
        r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?"
        r"\bsrc\s*=\s*[\"']?(?:https?:)?//|"
        r"<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon))"
        r"[^>]*?\bhref\s*=\s*[\"']?(?:https?:)?//|@import\s+url\([\"']?https?:"
    )
    for name, text in built.items():
        found = fetched.search(text)
        assert not found, f"{name}: {text[found.start() :][:120]}"


@pytest.mark.built
def test_built_pages_bring_their_icon_so_no_browser_asks_a_server_for_one(built):
    assert "index.html" in built
    for name, text in built.items():
        # Only the links are parsed: a whole page takes a hundred times as long.
        links = "".join(re.findall(r"<link\b[^>]*>", text))
        (icon,) = BeautifulSoup(links, "html.parser").select('[rel~="icon"]')
        assert icon["href"].startswith("data:image/svg+xml,%3Csvg"), name


@pytest.mark.built
def test_built_pages_carry_their_own_equations(built):
    notation = built["book/notation.html"]
    assert "_static/mathjax/tex-chtml-full.js" in notation
    assert (HTML / "_static/mathjax/tex-chtml-full.js").stat().st_size > 500_000
    fonts = list((HTML / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))
    assert len(fonts) > 20


@pytest.mark.built
def test_built_pages_have_alt_text_and_nothing_of_the_machine(built):
    for name, text in built.items():
        for image in re.findall(r"<img\b[^>]*>", text):
            assert re.search(r'\balt="[^"]+"', image), f"{name}: {image[:120]}"
        assert not MACHINE.search(text), name


@pytest.mark.built
def test_built_front_page_lists_exactly_the_chapters_that_exist(built):
    for path in NOTEBOOKS:
        assert f'href="../notebooks/{path.stem}.html"' in built["book/intro.html"]


@pytest.mark.built
@each_notebook
def test_built_solutions_are_folded_and_lead_to_their_exercises(built, path):
    boxes = SoupStrainer("div", class_=re.compile(r"\b(exercise|solution)\b"))
    text = built[f"notebooks/{path.stem}.html"]
    page = BeautifulSoup(text, "html.parser", parse_only=boxes)
    exercises = {box["id"] for box in page.select("div.exercise")}
    solved = []
    for box in page.select("div.solution"):
        solved += [a["href"][1:] for a in box.select(".admonition-title a[href]")]
        (fold,) = box.find_all("details", class_="answer", open=False)
        assert not fold.select(".admonition-title") and len(fold.get_text()) > 40
    assert exercises and sorted(solved) == sorted(exercises)
    for box in page.select("div.exercise"):
        names = [s.get_text() for s in box.select("details.answer > summary")]
        assert names == ["First hint", "Second hint"]


@pytest.mark.built
def test_the_printable_edition_holds_every_page_in_order():
    from pypdf import PdfReader

    file = HTML / "recurrence-and-attention.pdf"
    page = (HTML / "book" / "downloads.html").read_text(encoding="utf-8")
    if chromium.find_chromium() is None:
        assert "None was found" in page and not file.exists()
        pytest.skip("no Chromium was found, so no PDF was made")
    book = PdfReader(file)
    printed = [name for name in toc_files() if name != "book/api"]
    assert len(book.outline) == len(printed)
    starts = [book.get_destination_page_number(entry) for entry in book.outline]
    assert starts == sorted(set(starts)) and starts[0] == 0
    assert [entry.title for entry in book.outline if "filterbank" in entry.title]
    text = book.pages[starts[printed.index("notebooks/08-the-filterbank")]]
    assert "The filterbank" in text.extract_text()
    assert f"../{file.name}" in page


@pytest.mark.built
def test_every_notebook_can_be_downloaded_as_it_is():
    page = (HTML / "book" / "downloads.html").read_text(encoding="utf-8")
    found = re.findall(r'href="\.\./(_downloads/[^"]+\.ipynb)"', page)
    assert [Path(name).name for name in found] == [path.name for path in NOTEBOOKS]
    for name, path in zip(found, NOTEBOOKS, strict=True):
        assert (HTML / name).read_bytes() == path.read_bytes()
