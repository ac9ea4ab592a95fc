"""Kernels that are reached through files of their user, not through the network."""

from __future__ import annotations

import os
import tempfile

from jupyter_client import AsyncKernelManager
from traitlets import default

__all__ = ["LocalKernelManager"]

LONGEST = 80  # characters of a folder: a socket's whole name has at most 104


class LocalKernelManager(AsyncKernelManager):
    """A kernel on this machine, over sockets that are files where the system has them.

    Over TCP, which is Jupyter's default, everything that a kernel prints passes a port
    of the machine as plain text; each kernel warns of it. Windows has no other way.
    For nbclient and papermill: ``kernel_manager_class=LocalKernelManager``.

    Example:
        >>> LocalKernelManager().transport == ("tcp" if os.name == "nt" else "ipc")
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
