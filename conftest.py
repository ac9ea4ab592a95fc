"""What holds for every test, docstring examples and notebooks among them.

Tests and examples start from one seed. The kernels of the notebooks end in time, or are
killed: nbval waits for the end of a kernel without a limit. Once all cells have been
compared, nothing depends on that end any more. Its kernels start over files, not ports,
and each worker imports torch once for all of them.
"""

import pytest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each starts from the same global seed, in whatever order they run."""
    import torch

    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """Give nbval's kernels sockets of their own, and an end that cannot hang."""
    if not config.getoption("nbval", False):
        return
    import nbval.kernel
    from jupyter_core.utils import ensure_event_loop
    from nbval.kernel import RunningKernel

    from drawlib.batches.forked import ForkedOverFiles
    from drawlib.batches.kernels import ended_in_time, kill

    nbval.kernel.KernelManager = ForkedOverFiles
    as_nbval_does = RunningKernel.stop
    capture = config.pluginmanager.getplugin("capturemanager")

    def stop(kernel: RunningKernel) -> None:
        manager = kernel.km

        def end() -> None:
            try:
                as_nbval_does(kernel)
            finally:
                ensure_event_loop().close()  # each thread has its own

        if not ended_in_time(end):
            with capture.global_and_fixture_disabled():
                kill(manager)

    RunningKernel.stop = stop
