"""Real processes that are killed, stopped, starved of disk, and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from toy_runs import Planted, assert_same_bits, toy_config, toy_data, toy_model, weights

from drawlib import checkpoint
from drawlib.checkpoint import CheckpointError
from drawlib.runstate import History, TrainingStopped
from drawlib.train import fit
from drawlib.zoo import load_weights

HERE = str(Path(__file__).parent)

# `python -m drawlib` on the toy data: everything else is the product's own.
CHILD = textwrap.dedent(
    f"""
    import sys
    sys.path.insert(0, {HERE!r})
    import torch
    torch.set_num_threads(1)
    from toy_runs import use_toy_data
    use_toy_data(setattr, side=6)
    from drawlib.__main__ import main
    print("ready", flush=True)
    sys.exit(main(sys.argv[1:]))
    """
)


def start(run_dir: Path, epochs: int = 40) -> subprocess.Popen[str]:
    """A training that saves after every step, in a process of its own."""
    options = {
        "--run-dir": run_dir,
        "--model.image-shape": "1 6 6",
        "--train.epochs": epochs,
        "--train.batch-size": 16,
        "--train.ema": 0.9,
        "--train.kl-warmup": 2,
        "--train.checkpoint-seconds": 0,
        "--train.device": "cpu",
    }
    words = [str(w) for k, v in options.items() for w in (k, *str(v).split())]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, "train", "vae:tiny", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process and what it told on standard error."""
    _, told = process.communicate(timeout=200)
    return process.returncode, told


def steps_done(run_dir: Path) -> int:
    """The step of the newest checkpoint."""
    state = checkpoint.load(run_dir / "checkpoint.pt")
    return 0 if state is None else int(state["step"])


def wait_for(condition, seconds: float = 100.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def final(run_dir: Path):
    """The weights and the log that a finished run leaves."""
    rows = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in History.read(run_dir).rows
    ]
    return load_weights(run_dir / "model.safetensors"), rows


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """What a run that nobody disturbs ends with."""
    run_dir = tmp_path_factory.mktemp("untouched") / "run"
    code, told = finish(start(run_dir))
    assert code == 0, told
    return final(run_dir)


def kill_and_resume(run_dir: Path, kills: int, seed: int) -> list[int]:
    """Kill -9 so often, at random moments; the steps at which it had arrived."""
    chance, reached, delay = random.Random(seed), [0], 0.4
    for _ in range(kills):
        process = start(run_dir)
        before = reached[-1]
        # The clock starts with the first checkpoint of this process.
        wait_for(
            lambda: steps_done(run_dir) > before or process.poll() is not None  # noqa: B023
        )
        time.sleep(chance.uniform(0, delay))
        process.kill()
        code, told = finish(process)
        assert code == -signal.SIGKILL, f"it ended before it was killed: {told}"
        reached.append(steps_done(run_dir))
        # The rest of the way is shared by the kills that are still to come.
        left = kills - len(reached) + 2
        delay = 2 * (reached[-1] - before) and min(0.4, 1.2 / left)
    return reached


def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path, untouched):
    run_dir = tmp_path / "run"
    reached = kill_and_resume(run_dir, kills=5, seed=1)
    assert reached == sorted(set(reached)) and reached[-1] < 160
    code, told = finish(start(run_dir))
    assert code == 0, told
    found, rows = final(run_dir)
    assert_same_bits(found, untouched[0])
    assert rows == untouched[1]
    assert not list(run_dir.glob(".*.partial"))  # what the killed ones left is gone


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_killed_fifty_times_it_ends_with_the_same_weights(tmp_path, untouched):
    kills, folder = 0, 0
    while kills < 50:
        run_dir = tmp_path / str(folder)
        reached = kill_and_resume(run_dir, kills=5, seed=100 + folder)
        kills, folder = kills + len(reached) - 1, folder + 1
        code, told = finish(start(run_dir))
        assert code == 0, told
        found, rows = final(run_dir)
        assert_same_bits(found, untouched[0])
        assert rows == untouched[1]


def test_a_second_process_is_refused_and_signals_save_and_end(tmp_path, untouched):
    run_dir = tmp_path / "run"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = steps_done(run_dir)
        process = start(run_dir)
        wait_for(lambda: steps_done(run_dir) > before)  # noqa: B023
        if number == signal.SIGINT:
            with pytest.raises(TrainingStopped) as caught:
                fit(toy_model(), toy_data(), toy_config(), run_dir, progress=False)
            assert str(caught.value) == f"another process trains in {run_dir}"
        process.send_signal(number)
        ended, told = finish(process)
        assert ended == code, told
        line = told.splitlines()[-1]
        step = steps_done(run_dir)
        assert line == f"drawlib: stopped at step {step}; {run_dir} holds a checkpoint"
        assert "Traceback" not in told and before < step < 160
    # A lock file that a process left behind keeps nobody out.
    assert (run_dir / ".lock").exists()
    code, told = finish(start(run_dir))
    assert code == 0, told
    assert_same_bits(final(run_dir)[0], untouched[0])


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_stops_with_one_line_and_the_last_good_checkpoint(
    small_disk, tmp_path
):
    whole = toy_model()
    fit(whole, toy_data(), toy_config(), tmp_path / "whole", progress=False)

    def fill(_):
        with open(small_disk / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(b"0" * 4096)
                    filler.flush()
            except OSError:
                pass

    model = toy_model(kind=Planted)
    model.plant = {6: fill}
    config = toy_config(checkpoint_seconds=0.0)
    run_dir = small_disk / "run"
    with pytest.raises(CheckpointError, match="the disk is full") as caught:
        fit(model, toy_data(), config, run_dir, progress=False)
    told = str(caught.value)
    assert str(run_dir) in told and "last good checkpoint is intact" in told
    assert "\n" not in told
    assert steps_done(run_dir) == 6
    assert not list(run_dir.glob(".*.partial"))
    (small_disk / "filler").unlink()
    resumed = toy_model(seed=3)
    fit(resumed, toy_data(), config, run_dir, progress=False)
    assert_same_bits(weights(resumed), weights(whole))
