"""A forked kernel says and shows what one in a new process does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from drawlib.batches.forked import FORKS, ForkedKernelManager, Server
from drawlib.batches.kernels import LocalKernelManager

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from run_notebooks import joined  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not FORKS, reason="kernels are forked on Linux"),
    pytest.mark.timeout(600),
]
ALIKE = (
    "import pathlib, signal, subprocess, sys, warnings\n"
    "print(sys.path[1:], pathlib.Path.cwd(), __name__, sorted(dir()))\n"
    "print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGINT))\n"
    "print(subprocess.run(['false']).returncode, sys.stdin.read())",
    "import torch\ntorch.manual_seed(0)\ntorch.rand(2), torch.get_num_threads()",
    "import os\nimport matplotlib.pyplot as plt\n"
    "fig, ax = plt.subplots(figsize=(2, 1))\nax.plot([0, 1], [1, 3])\n"
    "print(plt.get_backend(), os.environ['MPLBACKEND'])",
    "warnings.warn('told')\nprint('to stderr', file=sys.stderr)",
)


@pytest.fixture(autouse=True)
def _as_a_stage_starts_them(monkeypatch):
    """What a kernel inherits decides which of its figures are shown."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def told(folder: Path, manager: type, *code: str) -> list[nbformat.NotebookNode]:
    """The outputs of cells, run by a kernel of this kind in a folder."""
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=manager,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return [output for cell in notebook.cells for output in joined(cell.outputs)]


def text_of(folder: Path, *code: str) -> str:
    return told(folder, ForkedKernelManager, *code)[0].text


def test_a_forked_kernel_tells_and_shows_what_a_new_process_does(tmp_path):
    def without_numbers(outputs):
        """A warning names a file after its process."""
        for output in outputs:
            if output.get("name") == "stderr":
                output.text = output.text.partition(": ")[2]
        return outputs

    found, expected = (
        without_numbers(told(tmp_path, manager, *ALIKE))
        for manager in (ForkedKernelManager, LocalKernelManager)
    )
    assert found == expected
    assert any("image/png" in output.get("data", {}) for output in found)


def test_a_forked_kernel_has_torch_but_none_of_its_names(tmp_path):
    code = "import sys\nprint('torch' in sys.modules, 'torch' in dir())"
    assert text_of(tmp_path, code) == "True False\n"


def test_forks_of_one_process_share_neither_state_nor_chance(tmp_path):
    code = (
        "import os, random, sys\nimport numpy as np\nimport torch\n"
        "print(os.getpgid(0) == os.getpid(), hasattr(torch, 'left'), 'LEFT' in "
        "os.environ)\n"
        "torch.left, os.environ['LEFT'] = 1, ''\n"
        "print(np.random.rand(), random.random(), torch.rand(1).item())"
    )
    one, two = (text_of(tmp_path, code).splitlines() for _ in range(2))
    assert one[0] == two[0] == "True False False"
    assert set(one[1].split()).isdisjoint(two[1].split())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_forked_kernel_ends_with_the_process_that_asked_for_it(tmp_path):
    """Even where that one is killed and can say nothing to anybody."""
    code = (
        "import os, signal\n"
        "from drawlib.batches.forked import ForkedOverFiles\n"
        "kernel = ForkedOverFiles()\nkernel.start_kernel()\n"
        "client = kernel.client()\nclient.start_channels()\n"
        "client.wait_for_ready(300)\n"
        "print(kernel.provisioner.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    pid = int(done.stdout)
    for _ in range(600):
        if not alive(pid):
            break
        time.sleep(0.1)
    assert not alive(pid)


def test_a_server_that_has_ended_is_told_in_one_line():
    server = Server()
    server._process.kill()
    with pytest.raises(RuntimeError, match="^the process that forks kernels has ended"):
        server.fork(argv=[], cwd=None, env={})
    server.close()
