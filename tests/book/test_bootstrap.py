"""The set-up chooses a Python that is tested, wherever it stands on the PATH."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import bootstrap  # noqa: E402


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({sys.executable: (3, 12), "python3.13": (3, 13)}, sys.executable),
        ({sys.executable: (3, 14), "python3.12": (3, 12)}, "python3.12"),
        ({sys.executable: (3, 8), "python3": (3, 11)}, "python3"),
        ({sys.executable: (3, 15), "python3": (3, 14)}, sys.executable),
    ],
)
def test_a_tested_version_comes_before_a_newer_one(monkeypatch, versions, chosen):
    monkeypatch.setattr(bootstrap, "version_of", versions.get)
    assert bootstrap.find_python() == (chosen, versions[chosen])


def test_versions_that_are_too_old_are_listed(monkeypatch):
    monkeypatch.setattr(bootstrap, "version_of", {"python3": (3, 10)}.get)
    with pytest.raises(SystemExit, match="is needed; found: python3 is 3.10"):
        bootstrap.find_python()
