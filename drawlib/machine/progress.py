"""How far a long run is: a bar that is as readable in a log as on a screen."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["clock", "progress_bar"]


def progress_bar(*given: Any, disable: bool = False, **options: Any) -> tqdm:
    """tqdm's bar as text, also in a notebook; every five seconds where nobody watches.

    A notebook's own bar is a widget. Where no page draws it, as under papermill, the
    log holds its first state, 0 %, and no other. Nothing is drawn where standard error
    is closed, as a service may have it.

    Example:
        >>> list(progress_bar(range(3), disable=True))
        [0, 1, 2]
    """
    watched = sys.stderr is not None and sys.stderr.isatty()
    disable = disable or sys.stderr is None
    return tqdm(*given, mininterval=0.1 if watched else 5.0, disable=disable, **options)


def clock(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> clock(90), clock(9000)
        ('1.5 min', '2.5 h')
    """
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
