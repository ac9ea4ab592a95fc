"""What all tests share: shapes checked at run time, one thread, the data sets.

`DRAWLIB_NO_TYPECHECK=1` leaves the shape checks out, to time a test or to follow an
error through unwrapped code. Nothing here points to a place on any machine: data are
found through `DRAWLIB_DATA`, the cache or the package index, and a test that needs what
is not there is skipped with the reason.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# What takes long is measured by `make bench`; a busy machine fails no test.
settings.register_profile(
    "no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no-clock")

if not os.environ.get("DRAWLIB_NO_TYPECHECK"):
    from jaxtyping import install_import_hook

    # Must run before the first import of drawlib anywhere.
    # Where a float is asked for a whole number will do, as PEP 484 has it.
    conf = "beartype.BeartypeConf(is_pep484_tower=True)"
    install_import_hook("drawlib", f"beartype.beartype(conf={conf})")

os.environ.setdefault("MPLBACKEND", "agg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what goes to the background so, and all its children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOADED: dict[str, Any] = {}


def _load_or_skip(name: str) -> Any:
    """The data set, loaded once in a process; skips where no source has it."""
    if name not in _LOADED:
        from drawlib.data.sets import load_data

        try:
            _LOADED[name] = load_data(name)
        except (OSError, RuntimeError, ValueError) as error:
            _LOADED[name] = error
    found = _LOADED[name]
    if isinstance(found, Exception):
        first = (str(found).splitlines() or [type(found).__name__])[0]
        pytest.skip(f"{name} cannot be had here: {first}")
    return found


def pytest_collectstart() -> None:
    """Before drawlib, whose hooked modules would read torch's source, not its bytecode.

    Not on top: the process that hands the tests to its workers needs no torch.
    """
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist_fixed() -> Any:
    """MNIST as binarised by Larochelle and Murray, or a skip."""
    return _load_or_skip("mnist-fixed")


@pytest.fixture(scope="session")
def mnist_dynamic() -> Any:
    """Grey MNIST with its seeded test bits, or a skip."""
    return _load_or_skip("mnist-dynamic")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of this machine, one for each worker."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
    from chromium import ARGUMENTS, PATIENCE, find_chromium

    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium was found; DRAWLIB_CHROMIUM can name one")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable,
            args=ARGUMENTS,
            headless=True,
            timeout=PATIENCE,
        )
        yield running
        running.close()
