"""Files that are either old or new, never half: written aside, flushed, renamed."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

__all__ = [
    "check_target",
    "mistaken",
    "path_of",
    "replace",
    "sweep",
    "write_atomically",
]


def path_of(where: str, given: str | os.PathLike[str]) -> Path:
    """The path that somebody gave, with its ``~``: a shell expands it at words' starts.

    Raises:
        ValueError: for an empty one, as an unset variable leaves it, which would be the
            current folder; for the home of nobody.
        TypeError: for what is no path.

    Example:
        >>> path_of("run_dir", "")
        Traceback (most recent call last):
        ValueError: run_dir is ''; allowed: the name of a file or folder
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{where} is {given!r:.60}; allowed: a path, as text or a Path")
    if not os.fspath(given):
        raise ValueError(f"{where} is ''; allowed: the name of a file or folder")
    try:
        return Path(given).expanduser()
    except RuntimeError:  # nobody has that name here
        raise ValueError(
            f"{where} is {str(given)!r}; allowed: after ~ the name of a user, or none"
        ) from None


def check_target(out: Path, *endings: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        ValueError: for a name that has none of the ``endings``, where there are some.
        OSError: for a folder that is not there or takes no files, a folder or a device
            in the file's place, or a name that is too long.

    Example:
        >>> check_target(Path("draw.txt"), ".gif", ".png")
        Traceback (most recent call last):
        ValueError: out is 'draw.txt'; allowed: a name that ends in .gif, .png
    """
    if endings and out.suffix.lower() not in endings:
        allowed = ", ".join(endings)
        raise ValueError(f"out is {str(out)!r}; allowed: a name that ends in {allowed}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; allowed: the name of a file")
    if out.exists() and not out.is_file():  # a new file would take its place
        raise OSError(f"{out} is a device or a pipe; allowed: the name of a file")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: the folder {out.parent} takes no files")


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
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace(partial, path)
        flush_names(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            # Who writes bytes knows no name, and a user more than one file.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


# How a file begins that stands in the place of another one. Where weights begin with
# the same bytes, which are the length of their header, a zero follows.
SIGNS = {
    rb"version https://git-lfs": "a Git LFS pointer (git lfs pull gets the file)",
    rb"<[!?a-zA-Z][^\0]": "a page of HTML or XML, such as a server's answer",
    rb'\{\s*"[^\0]': "a piece of JSON, such as a server's answer",
    rb"PK\x03\x04": "a zip archive, such as what torch.save writes",
    rb"\x1f\x8b": "compressed with gzip",
    rb"\x80[\x02-\x05][^\0]": "a pickle, which is never opened",
}


def mistaken(content: bytes) -> str | None:
    """What a file is that cannot be what was expected; None where nobody can tell.

    Example:
        >>> mistaken(b""), mistaken(b" <!DOCTYPE html>")[:14]
        ('empty', 'a page of HTML')
    """
    if not content:
        return "empty"
    start = content[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((what for sign, what in SIGNS.items() if re.match(sign, start)), None)


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
