"""The set-up chooses a Python that is tested, wherever it stands on the PATH."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import bootstrap  # noqa: E402


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({sys.executable: (3, 12), "python3.13": (3, 13)}, sys.executable),
        ({sys.executable: (3, 14), "python3.12": (3, 12)}, "python3.12"),
        ({sys.executable: (3, 8), "python3": (3, 11)}, "python3"),
        ({sys.executable: (3, 15), "python3": (3, 14)}, sys.executable),
        ({"python3.14": (3, 14)}, "python3.14"),
    ],
)
def test_a_tested_version_comes_before_a_newer_one(monkeypatch, versions, chosen):
    monkeypatch.setattr(bootstrap, "version_of", versions.get)
    assert bootstrap.find_python() == (chosen, versions[chosen])


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ((3, 13), ""),
        ((3, 14), "setup: Python 3.14: not tested; Python 3.11 to 3.13 are\n"),
        ((3, 15), "setup: Python 3.15: not tested, and the pinned packages may have no "
         "wheels for it; Python 3.11 to 3.13 are\n"),
    ],
)  # fmt: skip
def test_a_newer_version_is_tried_with_a_warning(monkeypatch, capsys, version, told):
    monkeypatch.setattr(bootstrap, "version_of", {"python3": version}.get)
    assert bootstrap.find_python() == ("python3", version)
    assert capsys.readouterr().out == told


def test_versions_that_are_too_old_are_listed(monkeypatch):
    monkeypatch.setattr(bootstrap, "version_of", {"python3": (3, 10)}.get)
    with pytest.raises(SystemExit, match="is needed; found: python3 is 3.10"):
        bootstrap.find_python()


@pytest.mark.network
@pytest.mark.timeout(3600)  # an index without metadata files sends torch whole
@pytest.mark.parametrize("version", bootstrap.PINNED)
def test_every_pin_has_a_wheel(version, tmp_path):
    """Asked of the package index before a release: ``pytest -m network``."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "-q"]
    command += ["--ignore-installed", "--only-binary", ":all:"]
    command += ["--python-version", ".".join(map(str, version))]
    command += ["--target", str(tmp_path), "-r", str(ROOT / "requirements.txt")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_the_project_names_the_versions_that_are_tested():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    named = re.findall(r":: Python :: (3)\.(\d+)", str(project["classifiers"]))
    assert [(int(a), int(b)) for a, b in named] == list(bootstrap.TESTED)
    assert project["requires-python"] == ">=3.11"
