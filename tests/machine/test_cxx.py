"""What CXX may hold: arguments, quotes, a launcher, a path with spaces."""

from __future__ import annotations

import shutil

import pytest

from drawlib.fast import compiler


@pytest.fixture
def folder(tmp_path):
    """A folder with a space in its name: a C++ compiler and a launcher lie in it."""
    if (found := shutil.which(compiler.compiler_command())) is None:
        pytest.skip("no C++ compiler is here")
    (folder := tmp_path / "my tools").mkdir()
    for name, command in (("g++", f"exec '{found}'"), ("launch", "exec")):
        (program := folder / name).write_text(f'#!/bin/sh\n{command} "$@"\n')
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("{}/g++", "'{}/g++'"),
        (" {}/g++\n", "'{}/g++'"),
        ("'{}/launch' '{}/g++' -O1", "'{}/launch' '{}/g++' -O1"),
        ('"{}/g++" "-DX=a b"', '"{}/g++" "-DX=a b"'),
    ],
)
def test_a_cxx_of_several_words_is_the_compiler(folder, monkeypatch, given, taken):
    monkeypatch.setenv("CXX", given.replace("{}", str(folder)))
    assert compiler.compiler_command() == taken.replace("{}", str(folder))
    assert compiler.compiler_trouble() == ""
