"""papermill, and whole batches, are stopped by signals: trainings save, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_runs import assert_same, final, steps_done, wait_for_checkpoints
from toy_batch import SLOW, make_toy, undisturbed
from toy_runs import use_toy_data

from drawlib.training.runstate import History

pytest.importorskip("papermill", reason="needs the extra batches")
pytest.importorskip("distributed", reason="needs the extra batches")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
EPOCHS = 300  # of four steps: a signal must find it training, also on a fast machine


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder of notebooks with one toy chapter."""
    use_toy_data(monkeypatch.setattr, side=6)
    return make_toy(tmp_path, monkeypatch.setattr, epochs=EPOCHS)


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A process whose standard error goes to a file beside the notebooks."""
    with open(folder.parent / "told", "w") as told:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=told,
            stderr=told,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def kernels_of(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    import psutil

    return [
        p.pid
        for p in psutil.process_iter(["cwd", "cmdline"])
        if p.info["cwd"] == str(folder)
        and any("ipykernel" in word for word in p.info["cmdline"] or ())
    ]


def wait_until(what) -> None:
    while not what():
        time.sleep(0.05)


def test_sigint_and_sigterm_under_papermill_save_and_end(toy, tmp_path):
    run_dir = toy / "runs" / "06-toy" / "full-0" / SLOW
    options = ["-p", "mode", "full", "-p", "rows", SLOW, "--no-progress-bar"]
    command = ["-m", "papermill", "06-toy.ipynb", "out.ipynb", *options]
    reached = [0]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(command, toy)
        wait_for_checkpoints(run_dir, 5)
        process.send_signal(number)
        assert process.wait() != 0
        wait_until(lambda: not kernels_of(toy))
        reached.append(steps_done(run_dir))
        assert not (run_dir / "run.json").exists()
    assert reached == sorted(set(reached)) and reached[-1] < 4 * EPOCHS
    # papermill kills a kernel that takes seconds to end (a slow disk), so half a
    # checkpoint may lie beside the good one: the next run sweeps it away.
    (run_dir / ".checkpoint-new.pt.1.partial").write_bytes(b"half")
    process = start(command, toy)
    assert process.wait() == 0, (tmp_path / "told").read_text()
    assert not list(run_dir.glob(".*.partial"))
    undisturbed(tmp_path / "alone", SLOW)
    assert_same(final(run_dir), final(tmp_path / "alone" / SLOW))


BATCH = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
if __name__ == "__main__":
    from drawlib.results import zoo
    from drawlib.__main__ import main
    zoo.ZOO = Path({zoo!r})
    sys.exit(main(["reproduce", *sys.argv[1:]]))
"""


def test_a_stopped_batch_lets_its_runs_save_and_the_same_command_goes_on(toy, tmp_path):
    script = tmp_path / "batch.py"
    here, there = str(Path(__file__).resolve().parents[1]), str(tmp_path / "toy-zoo")
    script.write_text(BATCH.format(here=here, zoo=there))
    # One row is enough, and one that does not fail.
    tables = json.loads((tmp_path / "toy-zoo" / "tables.json").read_text())
    lines = [row for row in tables["T"]["rows"] if row["name"] == SLOW]
    tables["T"]["rows"] = lines
    (tmp_path / "toy-zoo" / "tables.json").write_text(json.dumps(tables))
    options = ["--table", "T", "--device", "cpu", "--notebooks", str(toy)]
    run_dir = toy / "runs" / "06-toy" / "full-0" / SLOW

    reached, kept = [0], []
    # Ctrl-C in a terminal reaches every process of the group; SIGTERM only the batch.
    for number, send in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)):
        process = start([str(script), *options], toy)
        wait_for_checkpoints(run_dir, 5)
        send(process.pid, number)
        code = process.wait()
        told = (tmp_path / "told").read_text()
        assert code == 128 + number, told
        assert "stopping: the running trainings write their checkpoints" in told
        assert "Traceback" not in told
        wait_until(lambda: not kernels_of(toy))
        reached.append(steps_done(run_dir))
        # The epochs of the first part were not trained again.
        rows = History.read(run_dir).rows
        assert rows[: len(kept)] == tuple(kept)
        kept = list(rows)
    assert reached == sorted(set(reached)) and reached[-1] < 4 * EPOCHS
    assert f"06-toy {SLOW} seed 0 (goes on)" in told
    assert told.splitlines()[-1] == "drawlib: stopped; the same command goes on"
    assert not (run_dir / "run.json").exists()
