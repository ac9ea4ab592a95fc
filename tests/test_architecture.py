"""The house stands as `tools/architecture.py` says: imports run one way, no circle."""

import re
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import drawlib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import architecture  # noqa: E402
from architecture import APART, MAY_TAKE_HOLD, PACKAGE, ROOMS  # noqa: E402

ROOM_OF = architecture.modules()
ARROWS = architecture.arrows()
PLACE = {room.name: place for place, room in enumerate(ROOMS)}


def against_the_order(arrows: dict[str, set[str]]) -> list[str]:
    """Each import of a room that comes later."""
    return [
        f"{ROOM_OF[name].name}: {name} imports {other} of {ROOM_OF[other].name}"
        for name, others in arrows.items()
        for other in others
        if PLACE[ROOM_OF[other].name] > PLACE[ROOM_OF[name].name]
    ]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, if any do."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_file_has_one_room_and_every_room_its_files():
    there = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert there | {"__init__"} == set(ROOM_OF)


def test_imports_run_one_way_between_rooms():
    assert against_the_order(ARROWS) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(ARROWS) == []


def test_models_and_equations_know_nothing_of_mistakes_and_speed():
    wrong = [
        f"{name} imports {other}"
        for name, others in ARROWS.items()
        for other in others
        if ROOM_OF[other].name in APART
        and ROOM_OF[name].name not in (*MAY_TAKE_HOLD, ROOM_OF[other].name)
    ]
    assert wrong == []


def test_no_public_name_is_a_module_s_name_too():
    """`import drawlib.filterbank as fb` would give a function."""
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert not set(drawlib.__all__) & (files | folders)


def test_a_room_s_own_file_holds_a_sentence_and_no_code():
    """So that importing one module of a room imports no other."""
    for path in PACKAGE.glob("*/__init__.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""') and text.count("\n") == 1, path


def test_contributing_shows_the_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert architecture.diagram() in text


def test_contributing_leads_to_files_that_have_what_is_looked_for():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| (`drawlib/.*`) \| (`.*`) \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for files, names in rows:
        paths, words = (re.findall("`(.*?)`", part) for part in (files, names))
        for path, word in zip(paths, words, strict=True):
            found = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"\b{word}\b", found), f"{path} has no {word}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from drawlib.training.train import fit", "training.train"),
        ("from drawlib.training import train", "training.train"),
        ("import drawlib.training.train", "training.train"),
        ("def late():\n    from drawlib.results.zoo import ZOO", "results.zoo"),
        ("from drawlib import fit", "__init__"),
    ],
)
def test_each_way_to_import_is_seen(tmp_path, line, found):
    path = tmp_path / "planted.py"
    path.write_text(line)
    assert list(architecture.imports_of(path, set(ROOM_OF))) == [found]


def test_planted_arrows_are_found():
    against = {**ARROWS, "recurrent": ARROWS["recurrent"] | {"fast.loop"}}
    assert against_the_order(against)
    assert against_the_order(ARROWS) == []
    assert circle({**ARROWS, "gaussian": {"vae"}})


def test_files_that_code_names_are_there():
    """A comment that leads to a file that has moved leads nowhere."""
    for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"drawlib/[\w/]+\.(?:py|js)\b", text):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_what_is_no_module_is_in_the_package_too():
    """Kernels, pages and records are read from the installed package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["drawlib"]
    found = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    made = {".py", ".pyc", ".lock"}
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in made:
            assert path in found, path.relative_to(ROOT)
