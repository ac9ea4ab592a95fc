"""Kernels that are reached through files of their user, and that end in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import zmq.asyncio
from jupyter_client import AsyncKernelClient, AsyncKernelManager, KernelManager
from traitlets import default

__all__ = ["LocalKernelManager", "OverFiles", "ended_in_time", "kill"]

LONGEST = 80  # characters of a folder: a socket's whole name has at most 104
PATIENCE = 60.0  # seconds that the end of a kernel may take


class LocalKernelClient(AsyncKernelClient):
    """A client without the heartbeat: its manager knows whether the kernel lives.

    The heartbeat is a thread, for whose end a client would wait without a limit.
    """

    def start_channels(self, *args: Any, **kwargs: Any) -> None:
        """Start the channels, all but the heartbeat."""
        super().start_channels(*args, **{**kwargs, "hb": False})


class OverFiles(KernelManager):
    """A kernel on this machine, over sockets that are files where the system has them.

    Over TCP, which is Jupyter's default, everything that a kernel prints passes a port
    of the machine as plain text; each kernel warns of it. And of kernels that start at
    the same time one may take the port that another has chosen, which then dies.
    Windows has no other way.

    Example:
        >>> OverFiles().transport == ("tcp" if os.name == "nt" else "ipc")
        True
    """

    @default("transport")
    def _files_if_possible(self) -> str:
        short = len(tempfile.gettempdir()) <= LONGEST
        return "ipc" if os.name == "posix" and short else "tcp"

    @default("connection_file")
    def _named_before_its_sockets(self) -> str:
        """The sockets are named after it, and the kernel runs in another folder."""
        handle, name = tempfile.mkstemp(".json", prefix="kernel-")
        os.close(handle)
        return name


class LocalKernelManager(OverFiles, AsyncKernelManager):
    """A kernel over files, for nbclient and papermill, whose end hangs nothing.

    What has been executed stays, whatever becomes of the kernel. A shutdown that takes
    longer than a minute is given up, and the kernel is killed.

    Example:
        >>> LocalKernelManager().client_factory.__name__
        'LocalKernelClient'
    """

    @default("client_factory")
    def _without_heartbeat(self) -> type[LocalKernelClient]:
        return LocalKernelClient

    @default("context")
    def _never_terminated(self) -> zmq.asyncio.Context:
        """The process's context: terminating one of its own may wait for ever."""
        return zmq.asyncio.Context.instance()

    def client(self, **kwargs: Any) -> AsyncKernelClient:  # type: ignore[override]
        """A client in the manager's context, which nobody terminates."""
        return super().client(**{"context": self.context, **kwargs})

    async def shutdown_kernel(  # type: ignore[override]
        self, now: bool = False, restart: bool = False
    ) -> None:
        """End the kernel, if need be by killing it."""
        end = super().shutdown_kernel(now=now, restart=restart)
        try:
            await asyncio.wait_for(end, PATIENCE)
        except TimeoutError:
            kill(self)


def ended_in_time(end: Callable[[], object]) -> bool:
    """Whether an end came within a minute; it is called in a thread of its own.

    A thread that hangs is left behind and dies with the process.

    Raises:
        Exception: whatever ``end`` raises in time.

    Example:
        >>> ended_in_time(lambda: None)
        True
    """
    ended: Future[object] = Future()

    def call() -> None:
        try:
            ended.set_result(end())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    in_time = bool(wait([ended], PATIENCE).done)
    if in_time:
        ended.result()
    return in_time


def kill(manager: KernelManager) -> None:
    """Kill a kernel that does not end, with all that it started, and say so."""
    process = getattr(manager.provisioner, "process", None)
    told = "a kernel did not end in time"
    if process is not None and process.poll() is None:
        with contextlib.suppress(OSError):
            if os.name == "posix":  # a kernel leads a process group of its own
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        told += f": process {process.pid} was killed"
    manager.cleanup_connection_file()
    print(told, file=sys.stderr, flush=True)
