"""Files that are either old or new, never half: written aside, flushed, renamed."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["replace", "sweep", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either the old one or the new one, never a half.

    The bytes go to a temporary file beside it, are flushed to the disk, and the
    file is renamed. On failure (a full disk, say) the temporary file is removed
    and the old one stays.

    Raises:
        OSError: whatever the disk says.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> write_atomically(path, b"1")
        >>> path.read_bytes()
        b'1'
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace(partial, path)
        flush_names(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace(old: Path, new: Path) -> None:
    """Rename ``old`` to ``new``, over what stood there."""
    for patience in (0.1, 0.3, 1.0, 0.0):
        try:
            os.replace(old, new)
            break
        except PermissionError:
            # Windows renames nothing over a file that somebody reads just now.
            if os.name != "nt" or not patience:
                raise
            time.sleep(patience)


def flush_names(directory: Path) -> None:
    """A name outlives a power cut once its directory is on the disk too (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove the temporary files that killed processes left in a directory.

    Only for a directory in which nobody else is writing.
    """
    for left_over in directory.glob(".*.partial"):
        left_over.unlink(missing_ok=True)
