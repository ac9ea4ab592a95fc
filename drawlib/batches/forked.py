"""Kernels that are forked from one process, in which torch is imported already."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from drawlib.batches.kernels import LocalKernelManager, OverFiles

__all__ = ["FORKS", "ForkedKernelManager", "ForkedOverFiles"]

FORKS = sys.platform == "linux"  # a Mac's own libraries do not outlive a fork
# The first optimiser of a process imports the compiler, which takes as long as torch.
PRELOADED = ("torch._dynamo", "drawlib", "matplotlib.pyplot", "ipykernel.kernelapp")
INLINE = "module://matplotlib_inline.backend_inline"  # as a kernel would choose


def serve(descriptor: int) -> None:
    """Import what takes long, then fork a kernel for each line, until none can come."""
    sys.path[:] = [path for path in sys.path if path]  # a kernel adds its own folder
    os.environ["MPLBACKEND"] = INLINE
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, let_go)
    with socket.socket(fileno=descriptor) as way, way.makefile("rw") as lines:
        while line := lines.readline():
            if (pid := os.fork()) == 0:
                break
            print(pid, file=lines, flush=True)
    if line:
        be_a_kernel(**json.loads(line))


def let_go(*_: Any) -> None:
    """Kernels that have ended: their seconds of the processor count as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def be_a_kernel(argv: list[str], cwd: str | None, env: dict[str, str]) -> None:
    """Turn this fork into what a new process would be."""
    import numpy as np
    import torch
    from ipykernel.kernelapp import IPKernelApp

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or ".")
    np.random.seed(), torch.seed()  # else all forks would draw the same numbers
    ends_with = f"--IPKernelApp.parent_handle={os.getppid()}"
    IPKernelApp.launch_instance([*argv, ends_with])


class Forked:
    """A process that is another's child, as jupyter_client asks for one."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while the process lives."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: if it does not come in ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(0.05)
        return 0


class Server:
    """The process that forks; it ends with the one that started it."""

    def __init__(self) -> None:
        own, its = socket.socketpair()
        code = f"from drawlib.batches.forked import serve; serve({its.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
        its.close()
        self._way, self._answers = own, own.makefile()
        self._one_at_a_time = threading.Lock()
        atexit.register(self.close)

    def fork(self, **asked: Any) -> Forked:
        """A new kernel's process."""
        answer = ""
        with self._one_at_a_time, contextlib.suppress(OSError):
            self._way.sendall(json.dumps(asked).encode() + b"\n")
            answer = self._answers.readline()
        if not answer:
            raise RuntimeError("the process that forks kernels has ended")
        return Forked(int(answer))

    def close(self) -> None:
        """End the server, and with it what it has forked."""
        self._answers.close()
        self._way.close()
        self._process.wait()


server = functools.cache(Server)
_starting = threading.Lock()


class ForkedOverFiles(OverFiles):
    """A kernel on this machine that has its imports from a process forked for it.

    ``import torch`` alone takes two seconds of a core, in each kernel anew. Here it
    takes them once; what a fork does is seen by no other. Where a fork cannot be had a
    kernel starts as ever.

    Example:
        >>> issubclass(ForkedOverFiles, OverFiles)
        True
    """

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        if not FORKS:
            return await super()._async_launch_kernel(kernel_cmd, **kw)
        with _starting:
            forking = server()
        local: Any = self.provisioner
        argv = kernel_cmd[kernel_cmd.index("-f") :]
        local.process = forking.fork(argv=argv, cwd=kw.get("cwd"), env=kw["env"])
        local.pid = local.pgid = local.process.pid
        self._reconcile_connection_info(local.connection_info)


class ForkedKernelManager(ForkedOverFiles, LocalKernelManager):
    """The same for nbclient, with an end that hangs nothing.

    Example:
        >>> ForkedKernelManager().client_factory.__name__
        'LocalKernelClient'
    """
