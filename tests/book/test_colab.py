"""A notebook alone in an empty folder, in a fresh environment like Colab's.

The first cell must install drawlib, under its tag, from a git repository served on
this machine, and what drawlib needs from the package index; nothing that was there
before may change. Two notebooks are run so in `make test`, in one environment with the
installed torch.
`make test-colab` runs all of them, with torch installed anew: the version that the
book is built with, and the lowest one that pyproject.toml allows.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools")]

import colab  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The one that every reader opens first, and one that trains a model; where there is
# no chapter of that name any longer, the first two.
NAMED = [p for p in NOTEBOOKS if p.stem in ("01-data-and-likelihoods", "04-vae")]
TWO = NAMED if len(NAMED) == 2 else NOTEBOOKS[:2]

# Tests of the library's own files, and no others: they need no book and no notebook.
UNIT = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "tests").rglob("test_*.py")
    if (ROOT / "drawlib" / path.name.removeprefix("test_")).exists()
)
GIGABYTES = 15  # torch with an accelerator's libraries, unpacked, and the download

ASK = """
import drawlib, importlib.metadata, json, torch
print(json.dumps([drawlib.__file__, torch.__file__, torch.__version__]))
"""


# --- what the tests share ----------------------------------------------------------


@cache
def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def lower_bounds() -> dict[str, str]:
    """`torch` → `torch==2.4.0`: each dependency at the lowest version allowed."""
    found = {}
    for line in project()["dependencies"]:
        match = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line)
        assert match, f"{line!r} is no plain lower bound"
        found[match[1]] = f"{match[1]}=={match[2]}"
    return found


def pins() -> dict[str, str]:
    """The exact versions of requirements.txt."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return {m[1]: m[0] for m in re.finditer(r"(?m)^([\w.-]+)==[^;\s]+", text)}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the project is served as a git repository, or a skip."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            repository = colab.release(Path(folder))
        except colab.CannotRun as why:
            pytest.skip(str(why))
        with colab.served(repository) as address:
            yield address


@pytest.fixture(scope="module")
def installed_torch() -> Iterator[Path]:
    """Colab's packages as this Python has them, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield colab.share(
                [*colab.HAS, *colab.TOOLS], Path(folder).resolve() / "has"
            )
        except colab.CannotRun as why:
            pytest.skip(str(why))


@contextmanager
def index_or_skip(environment: colab.Environment) -> Iterator[None]:
    """Where something fails that needs the package index: a skip if there is none."""
    try:
        yield
    except Exception:
        try:
            environment.need_index()
        except colab.CannotRun as why:
            pytest.skip(str(why))
        raise


def installed(packages: list[str]) -> Iterator[Path]:
    """The folder of these packages, installed from the index into a new environment."""
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free / 1e9
        if free < GIGABYTES:
            pytest.skip(f"torch anew takes {GIGABYTES} GB of disk, {free:.0f} are free")
        try:
            environment = colab.Environment(Path(folder).resolve() / "base")
        except colab.CannotRun as why:
            pytest.skip(str(why))
        with index_or_skip(environment):
            environment.install(*packages)
        yield environment.packages


@pytest.fixture(scope="module")
def pinned_torch() -> Iterator[Path]:
    """Colab's packages, installed anew: the versions that build the book."""
    exact = pins()
    yield from installed([exact[name] for name in (*colab.HAS, "ipykernel")])


@pytest.fixture(scope="module")
def lowest_torch() -> Iterator[Path]:
    """Colab's packages, installed anew: the lowest versions that are allowed."""
    if sys.version_info >= (3, 13):
        pytest.skip("the lowest torch has no wheel for Python 3.13 or newer")
    exact = lower_bounds()
    yield from installed([*(exact[name] for name in colab.HAS), "ipykernel"])


def check_alone(runs: list[tuple[Path, str]], shared: Path, address: str) -> None:
    """Run notebooks in a mode each: the first run installs, the others find it there.

    The cell that installs is the same in all of them (`test_book.py`).
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        above = [p for p in folder.parents if (p / "drawlib/__init__.py").exists()]
        assert not above, "the temporary folder lies in a clone, which would be used"
        environment = colab.Environment(folder / "environment", shared)
        before = environment.versions()
        assert "drawlib" not in before and "torch" in before
        for path, mode in runs:
            with index_or_skip(environment):
                printed = colab.run_alone(
                    path,
                    mode,
                    environment,
                    folder / f"{path.stem}-{mode}",
                    ask=ASK,
                    DRAWLIB_REPOSITORY=address,
                )
            drawlib, torch, version = json.loads(printed)
            own = environment.packages.resolve()
            assert own in Path(drawlib).resolve().parents, drawlib
            assert shared in Path(torch).parents, torch
            assert version.split("+")[0] == before["torch"].split("+")[0]
        after = environment.versions()
        assert after["drawlib"] == project()["version"]
        assert {name: after.get(name) for name in before} == before
        assert set(lower_bounds()) <= set(after)


# --- the machinery, on a notebook of three cells -------------------------------------


def test_first_cell_asks_for_the_tag_of_this_version() -> None:
    assert colab.tag() == f"v{project()['version']}"


@pytest.mark.parametrize("name", colab.HAS)
def test_bounds_lie_below_what_the_book_is_built_with(name: str) -> None:
    """So pip finds Colab's own packages good enough and leaves them alone."""
    from packaging.version import Version

    lowest = Version(lower_bounds()[name].split("==")[1])
    assert lowest < Version(pins()[name].split("==")[1])


def test_shared_packages_are_those_needed_and_never_drawlib() -> None:
    found = colab.needed([*colab.HAS, *colab.TOOLS])
    names = {distribution.metadata["Name"].lower() for distribution in found}
    assert {"torch", "filelock", "pillow", "traitlets"} <= names
    assert not {"drawlib", "pooch", "tyro", "jaxtyping", "nbclient", "pytest"} & names


def test_release_holds_what_git_knows_and_the_tag(tmp_path: Path) -> None:
    import subprocess

    try:
        bare = colab.release(tmp_path)
    except colab.CannotRun as why:
        pytest.skip(str(why))
    listed = subprocess.run(
        ["git", "-C", str(bare), "ls-tree", "-r", "--name-only", colab.tag()],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert {"pyproject.toml", "README.md", "drawlib/__init__.py"} <= set(listed)
    assert not [name for name in listed if name.startswith((".venv/", "_build/"))]


def test_mode_is_set_in_the_parameters_cell_or_refused(tmp_path: Path) -> None:
    import nbformat

    tagged = {"tags": ["parameters"]}
    for source in ('mode = "read"\nseed = 0', "seed = 0"):
        cell = nbformat.v4.new_code_cell(source, metadata=tagged)
        path = tmp_path / "small.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
        if "mode" in source:
            (cell,) = colab.read_notebook(path, "smoke").cells
            assert cell.source == 'mode = "smoke"\nseed = 0'
        else:
            with pytest.raises(ValueError, match="small.ipynb sets no mode"):
                colab.read_notebook(path, "smoke")


# --- the notebooks -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_notebook_alone_installs_drawlib_and_runs_and_others_find_it_there(
    installed_torch: Path, address: str
) -> None:
    first, second = TWO
    runs = [(first, "smoke"), (second, "smoke"), (first, "read")]
    check_alone(runs, installed_torch, address)


@pytest.mark.colab
@pytest.mark.timeout(3600)  # the first one also installs torch
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_alone_runs_with_a_new_torch(
    path: Path, pinned_torch: Path, address: str
) -> None:
    check_alone([(path, "smoke"), (path, "read")], pinned_torch, address)


@pytest.mark.colab
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_alone_runs_with_the_lowest_torch(
    path: Path, lowest_torch: Path, address: str
) -> None:
    check_alone([(path, "smoke"), (path, "read")], lowest_torch, address)


@pytest.mark.colab
@pytest.mark.timeout(3600)
def test_unit_tests_pass_with_every_dependency_at_its_lower_bound(
    lowest_torch: Path, tmp_path: Path
) -> None:
    environment = colab.Environment(tmp_path / "environment", lowest_torch)
    exact = pins()
    tests = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "beartype")
    with index_or_skip(environment):
        environment.install(*lower_bounds().values(), *(exact[name] for name in tests))
    chosen = " and not ".join(["not slow", *"faults colab network browser".split()])
    # Old versions of other packages warn of newer ones: that is not for us to mend.
    quick = ["-q", "-p", "no:cacheprovider", "-W", "default", "-m", chosen]
    clone = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.run("-m", "pytest", *quick, *UNIT, cwd=ROOT, **clone)
