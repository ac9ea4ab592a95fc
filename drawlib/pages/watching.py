"""What moves in a notebook while somebody watches, and else stands still.

It runs in the kernel, in Python: nothing of it is left in a page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from tqdm import tqdm

from drawlib.plots import curve

__all__ = ["explore", "somebody_watches", "watch"]


def somebody_watches() -> bool:
    """Whether a person sits at this notebook, so that something may move.

    A frontend says with each cell whether its user could type an answer; nbclient,
    papermill, nbval and the book's build say no.

    Example:
        >>> somebody_watches()
        False
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def watch(
    steps: Iterable[int],
    rows: list[dict[str, float]],
    columns: str | Mapping[str, str],
    *,
    seconds: float = 1.0,
    **options: Any,
) -> Iterator[int]:
    """Go through ``steps`` with a progress bar and a curve of ``rows`` that grows.

    The loop's body appends to ``rows``; ``columns`` and ``options`` are those of
    ``curve``. While somebody watches, the curve is redrawn every so many ``seconds``.
    At the end the bar is gone and one figure is left, for ``plt.show()``.

    Example:
        >>> rows = []
        >>> for step in watch(range(3), rows, "loss", x="step"):
        ...     rows.append({"step": step, "loss": 9.0 - step})
        >>> plt.gca().lines[0].get_ydata()
        array([9., 8., 7.])
    """
    live, handle, drawn = somebody_watches(), None, time.monotonic()
    for step in tqdm(steps, leave=False):
        yield step
        if live and rows and time.monotonic() - drawn > seconds:
            from IPython.display import display

            figure: Any = curve(rows, columns, **options).figure
            if handle is None:
                handle = display(figure, display_id=True)
            else:
                handle.update(figure)
            plt.close(figure)
            drawn = time.monotonic()
    if mpl.get_backend().endswith("inline"):
        from IPython.display import clear_output

        clear_output(wait=True)
    curve(rows, columns, **options)


def explore(draw: Callable[..., Any], **controls: Any) -> None:
    """Sliders for the arguments of ``draw``, where there is somebody to move them.

    ``controls`` are those of ``ipywidgets.interact``. A page without a kernel would
    show dead sliders: there nothing appears, so put a still figure before it.

    Example:
        >>> explore(lambda a: print(a), a=(0, 3))
    """
    if somebody_watches():
        from ipywidgets import interact

        interact(draw, **controls)
