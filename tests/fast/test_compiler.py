"""A C++ compiler that is there and does not work: one warning, and the plain step."""

from __future__ import annotations

import copy
import pickle
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from drawlib import Data, TrainConfig, fit
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast import compiler, kernels
from drawlib.fast import step as faststep
from drawlib.fast.loop import accelerate

pytestmark = pytest.mark.skipif(
    not faststep.has_compiler(), reason="torch.compile needs a compiler"
)

BROKEN = {
    "error: no room": "echo first >&2; echo 'x.cpp: error: no room' >&2; exit 1",
    "says nothing, and writes no file": "exit 1",
    "it says nothing": "exit 0",  # and nothing is there
    "did not answer within 1 seconds": "sleep 20",
    "Killed by itself": "echo 'Killed by itself'; kill -9 $$",
    "error: in C": "echo In Datei x: >&2; echo error: in $LC_ALL >&2; exit 1",
}
# Compilers that answer, and make another library than the one that was asked for.
OTHER = {
    "look_f": "int x;",
    "error: no library": "",
    "it ended a process": "__attribute__((constructor)) void f() { __builtin_trap(); }",
}


@pytest.fixture(autouse=True)
def fresh():
    """What was found of other compilers is forgotten, before and after."""
    found = compiler.trouble_of, kernels.library, faststep.say_once, faststep.make_steps
    for cached in found:
        cached.cache_clear()
    yield
    for cached in found:
        cached.cache_clear()


def program(folder: Path, script: str, name: str = "g++") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("told", BROKEN)
@pytest.mark.parametrize("how", ["on the path", "CXX"])
def test_a_compiler_that_fails_is_told_with_its_reason(
    told, how, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiler, "PATIENCE", 1.0)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    broken = program(tmp_path, BROKEN[told])
    if how == "CXX":
        monkeypatch.setenv("CXX", str(broken))
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.warns(UserWarning) as seen:
        assert faststep.compiled(len) is len
        assert faststep.compiled(len) is len
    (one,) = [str(w.message) for w in seen]
    assert told in one and "runs eagerly" in one and "\n" not in one
    assert told in kernels.kernel_trouble() and "\n" not in kernels.kernel_trouble()


@pytest.mark.parametrize("told", OTHER)
def test_a_library_that_is_not_the_kernels_is_told_and_not_kept(
    told, tmp_path, monkeypatch
):
    """It was kept, and ended every process after: in a traceback, or by a signal."""
    real = shutil.which(compiler.compiler_command())
    made = f"echo '{OTHER[told]}' | '{real}' -shared -fPIC -x c++ - -o \"$o\""
    made = made if OTHER[told] else 'echo error: no library > "$o"'
    script = f"""case "$*" in *-dM*) exec '{real}' "$@";; esac
for o; do :; done
{made}"""
    monkeypatch.setenv("CXX", str(program(tmp_path, script)))
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    trouble = kernels.kernel_trouble()
    assert "cannot be loaded" in trouble and "\n" not in trouble
    assert told in trouble or not OTHER[told]
    assert not list((tmp_path / "cache").rglob("*.sha256"))


def test_without_a_folder_for_temporary_files_nothing_is_compiled(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    told = "nothing can be compiled here (no such file or directory)"
    assert kernels.kernel_trouble() == compiler.compiler_trouble() == told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_disk_that_is_full_is_told_and_not_what_was_printed_before(
    tmp_path, monkeypatch
):
    """Its last words had no room, and a line of its output stood for the reason."""
    files, real = [], tempfile.TemporaryFile

    def temporary() -> Any:
        files.append("program, output or said")
        return real() if len(files) % 3 else open("/dev/full", "w+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    script = "echo '#define one'; echo 'error: no space' >&2; exit 1"
    monkeypatch.setenv("CXX", str(program(tmp_path, script)))
    told = "nothing can be compiled here (no space left on device)"
    assert kernels.kernel_trouble() == told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/no/such/compiler", "no such file"),
        ("/tmp", "permission denied"),
        ("g++ 'unbalanced", "no closing quotation"),
        ("g++ -no-such-option", "no-such-option"),
    ],
)
def test_a_cxx_that_is_no_compiler_is_told(command, told, monkeypatch):
    monkeypatch.setenv("CXX", command)
    assert told in compiler.compiler_trouble()
    assert not faststep.has_compiler()


def test_cxx_with_spaces_and_arguments_is_the_compiler_that_is_called(
    tmp_path, monkeypatch
):
    command = compiler.compiler_command()
    folder = tmp_path / "with space"
    folder.mkdir()
    program(folder, f'exec {command} "$@"', "my g++")
    monkeypatch.setenv("CXX", f"'{folder}/my g++' -O1")
    assert compiler.compiler_trouble() == ""
    assert faststep.compiler_options()["cpp.cxx"] == (None, f"'{folder}/my g++' -O1")


def test_a_training_with_a_broken_compiler_is_the_plain_one(tmp_path, monkeypatch):
    """The issue's example: a traceback after 108 lines; now a warning and the log."""
    monkeypatch.setenv("CXX", str(program(tmp_path, "exit 1")))
    images = torch.zeros(12, 12, 12, dtype=torch.uint8)
    data = Data.from_arrays(images.index_fill(0, torch.arange(6), 1))
    rows = []
    for compiles in (False, True):
        torch.manual_seed(0)
        shape = {"image_shape": (1, 12, 12), "attention": "none"}
        model = DRAW(DRAWConfig.preset("tiny", **shape))
        config = TrainConfig(epochs=1, batch_size=4, compile=compiles)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run = tmp_path / str(compiles)
            rows.append(fit(model, data, config, run, progress=False).rows[-1])
        told = [str(w.message) for w in seen if "eagerly" in str(w.message)]
        assert len(told) == compiles
    assert rows[0]["valid"] == pytest.approx(rows[1]["valid"], rel=1e-5)


def test_what_pytorch_cannot_compile_runs_as_it_is(monkeypatch):
    """A cache that takes no files, a full disk: PyTorch says so in the step itself."""

    def fails(function, **_):
        def run(*given):
            raise torch._dynamo.exc.BackendCompilerFailed(
                "inductor", PermissionError("read-only\nand more"), None
            )

        return run

    monkeypatch.setattr(torch, "compile", fails)
    run = faststep.compiled(len)
    with pytest.warns(UserWarning, match="compiles nothing .*read-only.* eagerly"):
        assert run([1, 2]) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run([1, 2, 3]) == 3


def test_a_model_with_a_compiled_step_travels_to_other_processes(monkeypatch):
    """Pools of processes and torch.save take a model; its closure could not be sent."""
    model = DRAW(DRAWConfig.preset("tiny"))
    accelerate(model)
    assert model.fast_path is not None
    there = pickle.loads(pickle.dumps(model))
    assert isinstance(there.fast_path.step, faststep.Compiled) and there.quick
    assert there.fast_path.step.function is DRAW.step
    assert copy.deepcopy(model).fast_path.step is model.fast_path.step


def test_a_pytorch_without_the_option_for_own_gradients_still_runs(monkeypatch):
    monkeypatch.setattr("drawlib.fast.step.KEPT", "no_such_option")
    with faststep.keep_gradients():
        pass
