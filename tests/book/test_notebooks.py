"""The notebooks as files, in smoke mode, and with parameters that they must refuse.

What the built pages look like is checked in `test_book.py`; here everything concerns
the .ipynb files themselves. A notebook's exercises are checked in one run: each stub
must fail its check cell, each solution must pass it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURES = ("image/png", "image/jpeg", "image/svg+xml")
CHECKED = "check_parameters(globals()"
EXERCISE = ("exercise-stub", "exercise-solution", "exercise-check")
MISSING = object()
# A machine's paths, and hosts that packages come from. Split, so that this file does
# not hold what it forbids.
MACHINE = re.compile(
    r"(?<![\w.:/])/(home|root|work|tmp|Users|opt|var|mnt)/\w|[A-Z]:\\+\w|"
    + "|".join(("py" + r"pi\.(org|python)", "python" + "hosted", r"127\.0\.0\.1"))
)
WARNING = re.compile(r"\b\w*Warning\b|\bwarn\(|\[W\d\d|WARNING")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
needs_notebooks = pytest.mark.skipif(not NOTEBOOKS, reason="there are no notebooks yet")


@cache
def cells(path: Path) -> list[dict[str, Any]]:
    """All cells of a notebook, as stored."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(path: Path) -> list[dict[str, Any]]:
    """The code cells that hold anything."""
    return [c for c in cells(path) if c["cell_type"] == "code" and source(c).strip()]


def source(cell: dict[str, Any]) -> str:
    """The text of a cell; stored as a list of lines or as one string."""
    return "".join(cell["source"])


def tags(cell: dict[str, Any]) -> list[str]:
    """The tags of a cell."""
    return cell["metadata"].get("tags", [])


def tagged(path: Path, tag: str) -> list[dict[str, Any]]:
    """The code cells with a tag, in order."""
    return [cell for cell in code(path) if tag in tags(cell)]


def output_text(output: dict[str, Any]) -> str:
    """What a reader sees of an output, without the bytes of its pictures."""
    data = output.get("data", {})
    parts = [value for kind, value in data.items() if not kind.startswith("image/")]
    parts += [output.get("text", ""), output.get("traceback", "")]
    return "\n".join(p if isinstance(p, str) else "".join(map(str, p)) for p in parts)


# --- the files as they are stored ------------------------------------------------


@each_notebook
def test_name_and_title_are_those_of_a_chapter(path: Path) -> None:
    assert re.fullmatch(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*", path.stem)
    first = cells(path)[0]
    assert first["cell_type"] == "markdown" and source(first).startswith("# ")
    markdown = [source(c) for c in cells(path) if c["cell_type"] == "markdown"]
    prose = re.sub(r"(?ms)^```.*?^```", "", "\n".join(markdown))
    assert len(re.findall(r"(?m)^# ", prose)) == 1, "one H1 title"


@each_notebook
def test_first_code_cell_is_the_shared_one(path: Path) -> None:
    shared = (ROOT / "tools" / "first_cell.py").read_text(encoding="utf-8")
    assert source(code(path)[0]) == shared.rstrip("\n")
    assert "hide-input" in tags(code(path)[0])


@each_notebook
def test_parameters_stand_one_a_line_and_are_checked(path: Path) -> None:
    assert len(tagged(path, "parameters")) == 1
    position = code(path).index(tagged(path, "parameters")[0])
    assert position == 1, "the parameters come right after the shared first cell"
    values = {}
    for statement in ast.parse(source(code(path)[position])).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert values["mode"] == "read"
    assert values["seed"] == 0 and type(values["seed"]) is int
    assert values["device"] in ("cpu", "auto")
    assert CHECKED in source(code(path)[position + 1])


@each_notebook
def test_every_cell_was_run_in_order_and_without_error(path: Path) -> None:
    counts = [cell["execution_count"] for cell in code(path)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code(path):
        for output in cell["outputs"]:
            expected = "raises-exception" in tags(cell)
            assert output["output_type"] != "error" or expected, source(cell)


@each_notebook
def test_every_figure_has_alt_text(path: Path) -> None:
    for cell in code(path):
        if any(k in out.get("data", {}) for out in cell["outputs"] for k in FIGURES):
            settings = cell["metadata"].get("mystnb", {})
            alt = [settings.get(kind, {}).get("alt") for kind in ("image", "figure")]
            text = " ".join(filter(None, alt))
            assert len(text) > 20, f"no alt text: {source(cell)[:200]}"
            assert "\n" not in text
    for cell in cells(path):
        if cell["cell_type"] == "markdown":
            assert not re.search(r"!\[\s*\]\(", source(cell)), "a picture without alt"


@each_notebook
def test_file_is_below_one_megabyte(path: Path) -> None:
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_nothing_of_the_machine_and_no_warning_is_stored(path: Path) -> None:
    for cell in cells(path):
        found = MACHINE.search(source(cell))
        assert not found, found
        assert "execution" not in cell["metadata"], "stored times: make notebooks"
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output_text(output)[:300]
            text = output_text(output)
            for pattern in (MACHINE, WARNING):
                found = pattern.search(text)
                assert not found, f"{found}: {text[:200]}"
            live = [k for k in output.get("data", {}) if "widget" in k]
            assert not live, "a widget's view is dead on a page: store the figure"


@each_notebook
def test_code_lines_are_below_80_characters(path: Path) -> None:
    for cell in code(path)[1:]:  # the shared first cell is folded away
        for line in source(cell).splitlines():
            assert len(line) < 80, line


@each_notebook
def test_notebook_imports_nothing_that_drawlib_does_not_bring(path: Path) -> None:
    import sys
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = project["project"]["dependencies"]
    allowed = {re.split(r"[><=\[ ]", name)[0].lower() for name in names}
    allowed |= {"drawlib", "ipython", *sys.stdlib_module_names}
    for cell in code(path):
        plain = re.sub(r"(?m)^\s*[%!].*$", "pass", source(cell))
        for node in ast.walk(ast.parse(plain)):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            for name in found:
                assert name.split(".")[0].lower() in allowed, name


@each_notebook
def test_equation_labels_are_used_once_and_belong_to_the_chapter(path: Path) -> None:
    everywhere: list[str] = []
    own: list[str] = []
    for other in NOTEBOOKS:
        text = "\n".join(source(c) for c in cells(other) if c["cell_type"] != "code")
        labels = re.findall(r"(?m)^\$\$ *\((\S+)\)|^:label: (\S+)", text)
        everywhere += [a or b for a, b in labels]
        own = [a or b for a, b in labels] if other == path else own
    for label in own:
        assert everywhere.count(label) == 1, label


@each_notebook
def test_exercises_have_stub_solution_and_check_in_that_order(path: Path) -> None:
    order = [t for cell in code(path) for t in tags(cell) if t in EXERCISE]
    assert order == list(EXERCISE) * (len(order) // 3)
    text = "\n".join(source(c) for c in cells(path) if c["cell_type"] != "code")
    exercises = re.findall(r"(?:`{3,}|:{3,})\{exercise\}", text)
    solutions = re.findall(r"(?:`{3,}|:{3,})\{solution\}", text)
    assert 3 <= len(exercises) <= 8
    assert len(solutions) == len(exercises)
    for cell in tagged(path, "exercise-solution"):
        assert "hide-input" in tags(cell)


@each_notebook
def test_folded_code_is_folded_in_jupyter_and_colab_too(path: Path) -> None:
    """The tag ``hide-input`` folds it on the book's page alone."""
    assert tagged(path, "hide-input")
    for cell in tagged(path, "hide-input"):
        assert cell["metadata"]["jupyter"]["source_hidden"] is True
        assert cell["metadata"]["cellView"] == "form"


@each_notebook
def test_the_line_that_jupyterlab_shows_of_a_folded_solution_gives_nothing_away(
    path: Path,
) -> None:
    for cell in tagged(path, "exercise-solution"):
        first = source(cell).splitlines()[0]
        assert first == "# Solution: to run it replaces your answer."


@each_notebook
def test_no_hint_and_no_solution_is_seen_unopened_where_directives_are_unknown(
    path: Path,
) -> None:
    """As Jupyter, Colab and Kaggle set a cell: Markdown with HTML, no directives."""
    for cell in cells(path):
        kind = re.search(r"(?m)^:{3,}\{(exercise|solution)\}", source(cell))
        if cell["cell_type"] != "markdown" or not kind:
            continue
        page = BeautifulSoup(MarkdownIt().render(source(cell)), "html.parser")
        folded = page.find_all("details", class_="answer", open=False)
        names = [box.summary.extract().get_text() for box in folded]
        hints = ["First hint", "Second hint"]
        assert names == (hints if kind[1] == "exercise" else ["Solution"])
        # A line without a blank one before it would not be set as Markdown.
        assert all(box.find(("p", "ul", "ol", "table")) for box in folded)
        for box in folded:
            box.extract()
        seen = page.get_text()
        assert "hint" not in seen.lower(), seen
        if kind[1] == "solution":
            assert re.fullmatch(r"(:{3,})\{solution\} [\w-]+\s+\1\s*", seen), seen


@each_notebook
def test_no_directive_is_a_block_of_code_where_directives_are_unknown(
    path: Path,
) -> None:
    """Jupyter and Colab show `{exercise}` behind backticks as code, formulas raw."""
    for cell in cells(path):
        if cell["cell_type"] == "markdown":
            assert not re.search(r"(?m)^\s*(`{3,}|~{3,})\{", source(cell))


OLD = re.compile(
    r"\b(ought|dearer|whither|whence|nought|lest|hither|thither|amongst|whilst)\b"
    r"|\bto be sure\b|\bone (a|an) (row|image|channel|step|digit)\b"
    # A rate is "per step": "twice a day" is idiomatic, "once a step" makes one stumble.
    r"|\b(once|million|min|width|(number|latent|bit|image|chain|fragment|nat)s) an? "
    r"(step|epoch|image|digit|letter|channel|dimension|layer|seed|row)\b",
    re.IGNORECASE,
)


def test_no_page_and_no_question_has_a_word_that_was_replaced_by_a_plain_one() -> None:
    texts = {path: path.read_text("utf-8") for path in (ROOT / "book").glob("*.md")}
    for path in (ROOT / "book" / "questions").glob("*.toml"):
        texts[path] = path.read_text("utf-8")
    for path in NOTEBOOKS:
        parts = [source(cell) for cell in cells(path)]
        parts += [json.dumps(cell["metadata"]) for cell in cells(path)]
        parts += [output_text(o) for c in code(path) for o in c["outputs"]]
        texts[path] = "\n".join(parts)
    for path in (ROOT / "drawlib").rglob("*.py"):  # what it prints, and its docstrings
        texts[path] = path.read_text("utf-8")
    found = {p.name: m[0] for p, t in texts.items() if (m := OLD.search(t))}
    assert found == {}


def test_the_extra_lab_brings_what_how_to_read_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["lab"]
    assert [re.split("[>=]", name)[0] for name in extra] == [
        "jupyterlab",
        "jupyterlab-myst",
    ]
    page = (ROOT / "book/how-to-read.md").read_text(encoding="utf-8")
    assert '.venv/bin/pip install -e ".[lab]"' in page
    assert "JupyterLab with `jupyterlab-myst`" in page


@each_notebook
def test_every_assert_of_a_check_says_what_is_wrong(path: Path) -> None:
    for cell in tagged(path, "exercise-check"):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Assert):
                assert node.msg is not None, ast.unparse(node)


@each_notebook
def test_no_check_holds_the_answer_of_a_judgement(path: Path) -> None:
    """It is computed, or compared by its digest: the check stands open on the page."""
    for stub, solution, check in zip(*(tagged(path, t) for t in EXERCISE), strict=True):
        asked, right = (dict(assigned(source(c))) for c in (stub, solution))
        for node in ast.walk(ast.parse(source(check))):
            sides = [node]
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                named = {n.id for side in sides for n in names_in(side)}
            for name in asked.keys() & right.keys():
                kept = isinstance(right[name], set | dict) or (
                    isinstance(node, ast.Compare) and name in named
                )
                held = any(literal(side) == right[name] for side in sides)
                assert not (kept and held), f"{name}: {ast.unparse(node)}"


def assigned(text: str) -> Iterator[tuple[str, Any]]:
    """The names that a cell gives a literal value to, with this value."""
    for node in ast.parse(text).body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            names, values = [target], [node.value]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                names, values = target.elts, node.value.elts
            for name, value in zip(names, map(literal, values), strict=True):
                if isinstance(name, ast.Name) and value not in (MISSING, {}):
                    yield name.id, value


def names_in(node: ast.AST) -> list[ast.Name]:
    """The names that occur in an expression."""
    return [n for n in ast.walk(node) if isinstance(n, ast.Name)]


def literal(node: ast.AST) -> Any:
    """The value of a literal, `dict(a=1)` among them; MISSING for all else."""
    try:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
            return {k.arg: ast.literal_eval(k.value) for k in node.keywords}
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return MISSING


@each_notebook
def test_each_chapter_has_a_hard_exercise(path: Path) -> None:
    """One that trains, decides between readings or finds an unnamed mistake."""
    hard = re.compile(r"\{exercise\} .* \(hard\)")
    assert any(hard.search(source(cell)) for cell in cells(path))


def solves(cell: dict[str, Any]) -> bool:
    """Whether a cell is the text of a solution."""
    return cell["cell_type"] == "markdown" and "{solution}" in source(cell)


@each_notebook
def test_equations_in_comments_have_the_number_that_the_page_shows(path: Path) -> None:
    """(7.1) is the first of chapter 7; the DRAW paper's own are [DRAW 3]."""
    for cell in code(path):
        for comment in re.findall(r"(?m)#.*$", source(cell)):
            assert not re.search(r"eq-\w+-|Eq\. \((?!\d+\.)|# \(\d+\)", comment), (
                comment
            )
            for chapter, number in re.findall(r"Eq\. \((\d+)\.(\d+)\)", comment):
                assert 1 <= int(number) <= equations(int(chapter)), comment


def equations(chapter: int) -> int:
    """How many numbered equations a chapter has."""
    (path,) = (p for p in NOTEBOOKS if p.name.startswith(f"{chapter:02d}-"))
    text = "\n".join(source(c) for c in cells(path) if c["cell_type"] != "code")
    return len(re.findall(r"(?m)^\$\$ \(eq-", text))


# --- smoke mode and the exercises, in one run ------------------------------------


class Smoke:
    """One run of a notebook in smoke mode: how each exercise ended.

    `exercises` holds (number, error of the check with the stub, with the solution),
    None where the check passed; `failed` is the first error of any other cell.
    `refused` is the error that a misspelt parameter gets, before the right ones.
    """

    def __init__(self, path: Path) -> None:
        import nbformat
        from nbclient import NotebookClient
        from papermill.iorw import load_notebook_node
        from papermill.parameterize import parameterize_notebook

        from drawlib.batches.forked import ForkedKernelManager

        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            kernel_manager_class=ForkedKernelManager,
            allow_errors=True,
            resources={"metadata": {"path": str(path.parent)}},
        )
        # As papermill itself reads it: with a list of tags in each cell.
        loaded = load_notebook_node(str(path))
        misspelt = parameterize_notebook(loaded, {"sede": 1}).cells
        injected = next(c for c in misspelt if "injected-parameters" in tags(c))
        self.failed: str | None = None
        self.refused: str | None = None
        self.exercises: list[tuple[int, str | None, str | None]] = []

        cells = list(notebook.cells)  # nbclient puts what it ran in their place

        def run(index: int, cell: Any = None) -> str | None:
            cell = cell or cells[index]
            client.execute_cell(cell, index)
            errors = [o for o in cell.outputs if o.output_type == "error"]
            return f"{errors[0].ename}: {errors[0].evalue}" if errors else None

        with client.setup_kernel(env=kernel_environment()):
            solution = -1
            for index, cell in enumerate(cells):
                if cell.cell_type != "code" or not cell.source.strip():
                    continue
                kind = cell.metadata.get("tags", [])
                if "parameters" in kind:
                    cell.source, times = re.subn(
                        r'(?m)^mode = "read"', 'mode = "smoke"', cell.source
                    )
                    assert times == 1
                if CHECKED in cell.source:
                    self.failed = self.failed or run(index, injected)
                    self.refused = run(index)
                    forget = "del sede; In[:] = [''] * len(In)"
                    run(index, nbformat.v4.new_code_cell(forget))
                if "exercise-solution" in kind:
                    solution = index
                    continue
                if "exercise-check" in kind:
                    with_stub = run(index)
                    broken = run(solution)
                    number = len(self.exercises) + 1
                    self.exercises.append((number, with_stub, broken or run(index)))
                    continue
                error = run(index)
                if error and "raises-exception" not in kind:
                    self.failed = f"{error} in {cell.source[:300]}"
                    break


def kernel_environment() -> dict[str, str]:
    """The kernel shows figures itself, and must not inherit the tests' backend."""
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    environment.pop("MPLBACKEND", None)
    environment.setdefault("OMP_NUM_THREADS", "1")
    return environment


@pytest.mark.slow
@each_notebook
def test_smoke_mode_runs_and_exercises_tell_stub_from_solution(
    path: Path, mnist_dynamic: Any
) -> None:
    """One test, so that a notebook is run once; its exercises and its parameters."""
    run = Smoke(path)
    assert run.failed is None, run.failed
    told = run.refused or ""
    assert told.startswith("ValueError: 'sede' is no parameter") and "\n" not in told
    assert "allowed: mode, seed, device" in told
    assert len(run.exercises) == len(tagged(path, "exercise-check"))
    for number, with_stub, with_solution in run.exercises:
        assert with_stub is not None, f"exercise {number}: an empty answer passes"
        assert "SyntaxError" not in with_stub and "NameError" not in with_stub
        assert with_solution is None, f"exercise {number}: {with_solution}"


# --- parameters that must be refused ---------------------------------------------

BAD = {
    "mode=ful": ({"mode": "ful"}, "read, smoke, full"),
    "seed=1.5": ({"seed": 1.5}, "int"),
    "sede=1": ({"sede": 1}, "seed"),
}


# Under papermill itself for the first notebook; the others get the cell that papermill
# injects in their run above.
@pytest.mark.slow
@needs_notebooks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", BAD)
def test_papermill_with_a_bad_parameter_ends_in_one_clear_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drawlib.batches.forked import ForkedKernelManager

    path = NOTEBOOKS[0]
    papermill = pytest.importorskip("papermill")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    given, allowed = BAD[name]
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(path),
            str(tmp_path / "out.ipynb"),
            parameters=given,
            kernel_name="python3",
            kernel_manager_class=ForkedKernelManager,
            progress_bar=False,
        )
    error = caught.value
    assert error.ename in ("ValueError", "TypeError")
    assert error.evalue.count("\n") == 0
    (key, value), *_ = given.items()
    assert (key if key == "sede" else str(value)) in error.evalue
    assert "allowed: " in error.evalue and allowed in error.evalue
    checked = [c for c in code(path) if CHECKED in source(c)]
    assert source(checked[0]) in (error.source, f"{error.source}\n")
