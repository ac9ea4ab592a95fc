"""How a signal ends work: a training after its step and with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "ended_by_sigterm", "stop_signals"]


class Terminated(SystemExit):
    """SIGTERM came; the message says what is left, such as a checkpoint."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextmanager
def ended_by_sigterm(message: str) -> Iterator[None]:
    """Let SIGTERM end what is done here the way Ctrl-C does: files are tidied up.

    Raises:
        Terminated: with the message, where the signal came.

    Example:
        >>> with ended_by_sigterm("stopped"):
        ...     signal.raise_signal(signal.SIGTERM)
        Traceback (most recent call last):
        drawlib.machine.stopping.Terminated: stopped
    """

    def stop(number: int, frame: Any) -> None:
        raise Terminated(message)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def stop_signals(patient: bool = False) -> Iterator[dict[str, int]]:
    """Turn SIGINT and SIGTERM into a request that the loop honours after its step.

    A second signal acts as it did before: whoever is in a hurry is not held up, and
    the checkpoint on the disk is whole at any moment. ``patient`` takes a second one
    for the same request: a scheduler and ``torchrun`` both pass a signal on.

    Example:
        >>> with stop_signals() as asked:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     asked["signal"] == signal.SIGTERM
        True
    """
    stop: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    # None stands for a handler that was not installed from Python.
    before = {
        number: signal.getsignal(number) or signal.SIG_DFL
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    def ask(number: int, frame: Any) -> None:
        stop["signal"] = number
        if not patient:
            signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, ask)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
