"""The end of a kernel that hangs hangs nothing else, and fails no test."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.channels import HBChannel
from zmq import Context

from drawlib.batches import kernels
from drawlib.batches.kernels import LocalKernelManager, ended_in_time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import run_notebooks  # noqa: E402

TOLD = "a kernel did not end in time"
# nbval first waits for the heartbeat's thread, with the kernel still alive.
PLANTED = """
import threading
from jupyter_client.channels import HBChannel
from drawlib.batches import kernels

HBChannel.stop = lambda channel: threading.Event().wait()
kernels.PATIENCE = 1.0
"""


def written(folder: Path) -> Path:
    """A notebook whose one cell leaves its process and its transport in files."""
    source = (
        "import os, pathlib\n"
        "from ipykernel.connect import get_connection_info\n"
        "found = get_connection_info(unpack=True)\n"
        "pathlib.Path('transport').write_text(found['transport'])\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))"
    )
    path = folder / "toy.ipynb"
    cells = [nbformat.v4.new_code_cell(source, outputs=[])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def lives(folder: Path) -> bool:
    """Whether the process that ran the notebook is still there."""
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def hang(*_: Any, **__: Any) -> None:
    threading.Event().wait()


async def hang_too(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.skipif(os.name != "posix", reason="asks for a process as POSIX does")
def test_nbvals_kernel_whose_end_hangs_is_killed_and_no_test_fails(tmp_path):
    """As the stage runs it, with the file of this repository that bounds the end."""
    pytest.importorskip("nbval")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "planted.py").write_text(PLANTED)
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            *["-p", "planted", "--nbval", "--nbval-current-env", "-n", "1"],
            *["-W", "error", str(written(tmp_path))],
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1000,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert TOLD in done.stderr
    assert not lives(tmp_path)
    assert (tmp_path / "transport").read_text() == LocalKernelManager().transport


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "place", "planted"),
    [
        (HBChannel, "stop", hang),
        (Context, "term", hang),
        (KernelManager, "_async_interrupt_kernel", hang_too),
    ],
    ids=["heartbeat", "context", "process"],
)
def test_a_notebook_whose_kernel_hangs_at_its_end_is_executed_all_the_same(
    tmp_path, monkeypatch, kind, place, planted
):
    monkeypatch.setattr(kernels, "PATIENCE", 1.0)
    monkeypatch.setattr(kind, place, planted)
    notebook, _ = run_notebooks.execute(written(tmp_path))
    assert notebook.cells[0].execution_count == 1
    assert not lives(tmp_path)


@pytest.mark.timeout(300)
def test_papermill_ends_with_a_kernel_that_hangs_at_its_end(tmp_path, monkeypatch):
    papermill = pytest.importorskip("papermill")
    monkeypatch.setattr(kernels, "PATIENCE", 1.0)
    monkeypatch.setattr(KernelManager, "_async_interrupt_kernel", hang_too)
    papermill.execute_notebook(
        str(written(tmp_path)),
        str(tmp_path / "out.ipynb"),
        kernel_name="python3",
        kernel_manager_class=LocalKernelManager,
        cwd=str(tmp_path),
        progress_bar=False,
    )
    assert not lives(tmp_path)


def test_what_an_end_raises_in_time_is_raised():
    with pytest.raises(ZeroDivisionError):
        ended_in_time(lambda: 1 / 0)
