"""Public mistakes in DRAW, its relatives and their bounds, to be made on purpose.

`MISTAKES` says for each what is right, what is wrong, whose it is, what it does and
which tests see it. `planted` makes one mistake, or several together, in the running
program: right functions give way to wrong ones, and come back at the end. The
models know nothing of it; a training asks which mistakes are `active`, since a run may
go on only with those that it began with. Most are from public sources that taught us
the subject; a few are of our own making.

Not here, since no number changes: loops over pixels (F3 of simonamtoft's code, only
slow) and an ε inside an exponent (F7, below the precision of a float).
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from drawlib.exchanged import EXCHANGED
from drawlib.mistakes.catalogue import MODELS, OWN
from drawlib.mistakes.catalogue_filters import FILTERS
from drawlib.mistakes.plants import Function, Mistake, Plant

__all__ = ["MISTAKES", "Mistake", "active", "planted"]

MISTAKES: dict[str, Mistake] = {
    mistake.key: mistake for mistake in (*MODELS, *FILTERS, *OWN)
}


@contextmanager
def planted(*keys: str) -> Iterator[tuple[Mistake, ...]]:
    """Make these mistakes for as long as the block lasts; then all is right again.

    They are made for the whole process, in every model, also in those that exist
    already: functions are looked up when they are called. ``L3`` and ``D1`` have
    weights of their own, so the model must be built inside the block. To train a model
    that has a mistake, build and train it inside, and evaluate it there too: its
    weights were made for the wrong equations.
    Blocks may be nested, and a mistake that goes by several names (``F5``, ``hui-c``)
    is made once. As a decorator, ``planted`` makes them for one function.

    Raises:
        ValueError: for an unknown key.
        RuntimeError: where blocks do not end in the reverse of the order in which they
            began, as can happen with two threads. Their mistakes may still be there.

    Example:
        >>> import torch
        >>> from drawlib.filters import grid
        >>> with planted("half-pixel") as (mistake,):
        ...     print(mistake.equation_wrong)
        ...     grid(torch.zeros(1, 5), (28, 28), patch=2)[0]
        g_X = A/2 (g̃ + 1)
        tensor([[ 0.5000, 27.5000]])
        >>> grid(torch.zeros(1, 5), (28, 28), patch=2)[0]
        tensor([[ 0., 27.]])
        >>> with planted("F3"):
        ...     pass
        Traceback (most recent call last):
        ValueError: mistake is 'F3'; allowed: V1, L1, L2, ...
    """
    for key in keys:
        if key not in MISTAKES:
            raise ValueError(f"mistake is {key!r}; allowed: {', '.join(MISTAKES)}")
    with ExitStack() as undo:
        for key in keys:
            undo.enter_context(_one(MISTAKES[key]))
        yield tuple(MISTAKES[key] for key in keys)


def active() -> tuple[str, ...]:
    """The mistakes that are being made now, each by its first name in the catalogue.

    L2, for one, is the line of V1 in a ladder.

    Example:
        >>> with planted("L1", "L2"):
        ...     active()
        ('V1', 'L1')
        >>> active()
        ()
    """
    now: dict[tuple[Plant, ...], str] = {}
    for key, mistake in MISTAKES.items():
        if mistake.plants in EXCHANGED:
            now.setdefault(mistake.plants, key)
    return tuple(now.values())


@contextmanager
def _one(mistake: Mistake) -> Iterator[None]:
    """Plant one mistake, and take it out again whatever happens."""
    if mistake.plants in EXCHANGED:
        yield
        return
    with ExitStack() as undo:
        for place, wrong in mistake.plants:
            owner, name = _find(place)
            right = inspect.getattr_static(owner, name)
            made = _bind(wrong, right)
            undo.callback(_restore, owner, name, right, made)
            setattr(owner, name, made)
        EXCHANGED.append(mistake.plants)
        undo.callback(EXCHANGED.remove, mistake.plants)
        yield


def _restore(owner: Any, name: str, right: Any, made: Function) -> None:
    """Put the right function back, if what it gave way to is what stands there."""
    if inspect.getattr_static(owner, name) is not made:
        raise RuntimeError(
            f"{owner.__name__}.{name} has been changed by another block of planted(…) "
            "that has not ended; blocks must end in the reverse of their order"
        )
    setattr(owner, name, right)


def _bind(wrong: Function, right: Function) -> Function:
    """The wrong function, knowing the right one: a plain function, so also a method."""

    @wraps(right)
    def planted_function(*args: Any, **kwargs: Any) -> Any:
        return wrong(right, *args, **kwargs)

    return planted_function


def _find(place: str) -> tuple[Any, str]:
    """The module or class that holds a place, and its name there."""
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    return pkgutil.resolve_name(f"{module}:{owner}"), name
