"""Real processes that are killed, stopped, starved of disk, and started again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fault_runs import Final, assert_same, final, steps_done, wait_for_checkpoints
from toy_runs import Planted, assert_same_bits, toy_config, toy_data, toy_model, weights

from drawlib.training.checkpoint import CheckpointError
from drawlib.training.runstate import TrainingStopped
from drawlib.training.train import fit

TESTS = str(Path(__file__).resolve().parents[1])

# A process that imports everything once and forks a training for each line it reads:
# `python -m drawlib` on the toy data, and for the rest the product's own code.
NURSERY = textwrap.dedent(
    f"""
    import json, os, sys
    sys.path.insert(0, {TESTS!r})
    import torch, torch._dynamo
    torch.set_num_threads(1)
    from toy_runs import use_toy_data
    use_toy_data(setattr, side=6)
    from drawlib.__main__ import main

    for line in sys.stdin:
        arguments, told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            code = 99
            try:
                code = main(arguments)
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, flush=True)
    """
)


class Nursery:
    """Trainings in processes of their own, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.told = folder / "stderr"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, run_dir: Path, seconds: float = 0.0) -> int:
        """Start or resume the training; its process id."""
        options = {
            "--run-dir": run_dir,
            "--model.image-shape": "1 6 6",
            "--train.epochs": 40,
            "--train.batch-size": 16,
            "--train.ema": 0.9,
            "--train.kl-warmup": 2,
            "--train.checkpoint-seconds": seconds,
            "--train.device": "cpu",
        }
        words = [str(w) for k, v in options.items() for w in (k, *str(v).split())]
        assert self.process.stdin and self.process.stdout
        request = [["train", "vae:tiny", *words], str(self.told)]
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Wait for the training; its exit code and what it told on standard error."""
        assert self.process.stdout
        return int(self.process.stdout.readline()), self.told.read_text()

    def complete(self, run_dir: Path, seconds: float = 0.0) -> Final:
        """Train to the end; what is left there."""
        self.start(run_dir, seconds)
        code, told = self.end()
        assert code == 0, told
        return final(run_dir)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    with nursery.process:
        nursery.process.stdin.close()


@pytest.fixture(scope="module")
def untouched(nursery, tmp_path_factory):
    """What a run ends with that nobody disturbs, and that saves only now and then."""
    return nursery.complete(tmp_path_factory.mktemp("untouched") / "run", 100.0)


def kill_and_resume(nursery: Nursery, run_dir: Path, kills: int, seed: int) -> int:
    """Kill -9 a training at random moments, again and again; how often that hit."""
    chance, reached = random.Random(seed), [0]
    while len(reached) <= kills:
        pid = nursery.start(run_dir)
        wait_for_checkpoints(run_dir, chance.randint(1, 12))
        time.sleep(chance.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        code, told = nursery.end()
        if code == 0:  # it was faster than this test
            break
        assert code == -signal.SIGKILL, told
        reached.append(steps_done(run_dir))
    assert reached == sorted(set(reached)), "a kill lost what had been saved"
    return len(reached) - 1


def kill_often(nursery: Nursery, folder: Path, kills: int, expected: Final) -> None:
    """Kill so often, five times a run at most; each run ends as if nobody had."""
    run = 0
    while kills > 0:
        run_dir = folder / f"run-{run}"
        kills -= kill_and_resume(nursery, run_dir, min(kills, 5), seed=run)
        assert_same(nursery.complete(run_dir), expected)
        # What the killed ones left behind is gone.
        assert not list(run_dir.glob(".*.partial"))
        run += 1


def test_killed_at_random_moments_it_ends_with_the_same_weights(
    nursery, untouched, tmp_path
):
    kill_often(nursery, tmp_path, 5, untouched)


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_killed_fifty_times_it_ends_with_the_same_weights(nursery, untouched, tmp_path):
    kill_often(nursery, tmp_path, 50, untouched)


def test_a_second_process_is_refused_and_signals_save_and_end(
    nursery, untouched, tmp_path
):
    run_dir = tmp_path / "run"
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        pid = nursery.start(run_dir)
        wait_for_checkpoints(run_dir, 3)
        if number == signal.SIGINT:
            with pytest.raises(TrainingStopped) as caught:
                fit(toy_model(), toy_data(), toy_config(), run_dir, progress=False)
            assert str(caught.value) == f"another process trains in {run_dir}"
        os.kill(pid, number)
        code, told = nursery.end()
        assert code == expected, told
        line = told.splitlines()[-1]
        step = steps_done(run_dir)
        assert line == f"drawlib: stopped at step {step}; {run_dir} holds a checkpoint"
        assert "Traceback" not in told and 0 < step < 160
    # A lock file that a process left behind keeps nobody out.
    assert (run_dir / ".lock").exists()
    assert_same(nursery.complete(run_dir), untouched)


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
        with open(small_disk / "filler", "wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"0" * 4096)

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
