"""Checkpoints: whole or old, never half; verified; nothing in them is executed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch

from drawlib.machine import files
from drawlib.machine.files import write_atomically
from drawlib.training.checkpoint import CheckpointError, load, previous, refused, save


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def saved(path, *steps):
    for step in steps:
        save(path, {"step": step, "w": torch.full((50,), float(step))})
    return path


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def test_what_is_saved_is_loaded(path):
    state = {"w": torch.randn(3), "rows": [{"a": 1.5}], "best": float("inf"), "s": "x"}
    save(path, state)
    found = load(path)
    assert torch.equal(found.pop("w"), state.pop("w")) and found == state
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_there_may_never_have_been_one(path):
    assert load(path) is None


def test_the_previous_one_is_kept(path):
    saved(path, 1, 2, 3)
    assert load(path)["step"] == 3
    assert load(previous(path))["step"] == 2
    assert len(os.listdir(path.parent)) == 2


@pytest.mark.parametrize("cut", [0, 10, 32, 33, 500, -1])
def test_a_truncated_newest_one_falls_back_with_a_warning(path, cut):
    saved(path, 1, 2)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(
        UserWarning, match="(truncated or altered|is empty).*resuming from"
    ):
        assert load(path)["step"] == 1


@pytest.mark.parametrize("position", [0, 31, 32, 400, -1])
def test_one_flipped_byte_falls_back_with_a_warning(path, position):
    saved(path, 1, 2)
    flip(path, position)
    with pytest.warns(UserWarning, match="checkpoint.pt is truncated or altered"):
        assert load(path)["step"] == 1


def test_both_damaged_is_one_clear_line(path):
    saved(path, 1, 2)
    flip(path, 40)
    flip(previous(path), 40)
    with pytest.raises(CheckpointError, match="no whole checkpoint in") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "checkpoint-previous.pt is truncated" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>", "a page of HTML"),
        (b"", "empty"),
        (b"PK\x03\x04 and more", "a zip archive, such as what torch.save writes"),
    ],
)
def test_what_lies_in_place_of_a_checkpoint_is_named_with_what_to_do(
    path, content, what
):
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert f": checkpoint.pt is {what}" in str(caught.value)
    assert "allowed: another run directory" in str(caught.value)


def test_a_checkpoint_executes_nothing(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    payload = io.BytesIO()
    torch.save({"step": Evil()}, payload)
    # With a right digest, so that only `weights_only` stands in the way.
    digest = hashlib.sha256(payload.getvalue()).digest()
    path.write_bytes(digest + payload.getvalue())
    with pytest.raises(CheckpointError, match="holds more than data"):
        load(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Evil()))  # the planted object does work
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_last_good_one_and_no_partial(path, monkeypatch, call):
    saved(path, 1, 2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CheckpointError, match="the disk is full") as caught:
            saved(path, 3)
    assert "\n" not in str(caught.value) and str(path.parent) in str(caught.value)
    assert load(path)["step"] == 2
    assert not list(path.parent.glob(".*.partial"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a"
    write_atomically(target, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_the_directory_is_flushed_too(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("only POSIX opens directories")
    flushed, fsync = [], os.fsync

    def watch(descriptor):
        flushed.append(os.path.isdir(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here to name a descriptor")
    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(tmp_path / "a", b"1")
    assert flushed == [False, True]


def test_a_reader_on_windows_delays_the_rename_only(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")
    tries, replace = [], os.replace

    def busy(old, new):
        tries.append(old)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "in use")
        replace(old, new)

    monkeypatch.setattr(files.os, "replace", busy)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    with pytest.raises(PermissionError):  # elsewhere it is an error at once
        files.replace(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(files, "os", FakeWindows(busy))
    files.replace(tmp_path / "a", tmp_path / "b")
    assert len(tries) == 3 and (tmp_path / "b").read_bytes() == b"1"


class FakeWindows:
    name = "nt"

    def __init__(self, replace):
        self.replace = replace


def test_left_overs_of_killed_writers_are_swept(tmp_path):
    (tmp_path / ".checkpoint-new.pt.123.partial").write_bytes(b"half")
    (tmp_path / "log.jsonl").write_bytes(b"")
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["log.jsonl"]


KILLED_AT = ("half written", "written", "flushed", *(f"rename {i}" for i in range(6)))

# A process that forks a child for each place in `save` and kills it there.
FORKS = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    import torch
    from drawlib.machine import files
    from drawlib.training import checkpoint
    torch.set_num_threads(1)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def child(path, where):
        if where == "half written":
            class Half:
                def __init__(self, file): self.file = file
                def __enter__(self): return self
                def __exit__(self, *_): pass
                def write(self, content):
                    self.file.write(content[: len(content) // 2])
                    self.file.flush()
                    die()
            files.open = lambda *a: Half(open(*a))
        elif where == "written":
            files.os.fsync = die
        elif where == "flushed":
            files.replace = die
        else:
            # before and after each of the three renames
            number, after = divmod(int(where.split()[1]), 2)
            real, calls = os.replace, []
            def renames(old, new):
                if len(calls) == number and not after: die()
                real(old, new)
                calls.append(new)
                if len(calls) == number + 1: die()
            files.os.replace = renames
        checkpoint.save(path, {"step": 3, "w": torch.full((5000,), 3.0)})

    for where in sys.argv[2:]:
        folder = Path(sys.argv[1]) / where.replace(" ", "-")
        folder.mkdir()
        path = folder / "checkpoint.pt"
        for step in (1, 2):
            checkpoint.save(path, {"step": step, "w": torch.full((5000,), float(step))})
        pid = os.fork()
        if pid == 0:
            child(path, where)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, where
        print(checkpoint.load(path)["step"])
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_anywhere_in_a_save_leaves_the_old_or_the_new_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path), *KILLED_AT],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    # Once the new file has its first name, it is the one that counts.
    steps = [int(line) for line in done.stdout.split()]
    assert steps == [2, 2, 2, 2, 3, 3, 3, 3, 3]
    for folder in tmp_path.iterdir():
        path = folder / "checkpoint.pt"
        files.sweep(folder)
        # And the next save works on what the kill left.
        saved(path, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load(path)
        assert found["step"] == 4 and found["w"].eq(4).all()
        assert not list(folder.glob(".*.partial"))


def test_a_full_disk_claims_no_checkpoint_that_is_not_there(tmp_path):
    full = OSError(errno.ENOSPC, "")
    log = tmp_path / "log.jsonl"
    assert "disk is full; no checkpoint is there" in str(refused(log, full))
    save(tmp_path / "checkpoint.pt", {"step": 1})
    assert "checkpoint is intact" in str(refused(log, full))
