"""The folder in which the package keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The folder of the cache: DRAWLIB_CACHE, or the platform's own cache folder.

    Example:
        >>> isinstance(cache_dir(), Path)
        True
    """
    if given := os.environ.get("DRAWLIB_CACHE"):
        return Path(os.path.expanduser(given))
    import pooch

    return Path(pooch.os_cache("drawlib"))
