"""Several processes under ``torchrun``: the same numbers as one, and no hanging."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_jobs as jobs
import pytest
import torch
import torch.distributed as dist
from toy_runs import assert_same_bits, use_toy_data, weights

from drawlib.__main__ import main
from drawlib.machine import distributed
from drawlib.machine.distributed import ALONE, Team
from drawlib.results.runs import load_run
from drawlib.results.zoo import in_float32, rounded
from drawlib.training import checkpoint

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = """train vae --model.image-shape 1 6 6 --model.encoder 8 --model.decoder 8
    --model.z 2 --train.epochs 4 --train.batch-size 16 --train.device cpu
    --train.checkpoint-seconds 0 --run-dir""".split()

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not dist.is_gloo_available(),
    reason="processes are connected by Gloo, and tested on Linux",
)


def torchrun(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run ``distributed_jobs.py`` in two processes; the exit status and stderr."""
    process = subprocess.Popen(
        [sys.executable, *TWO, str(Path(jobs.__file__)), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        _, told = process.communicate()
    finally:
        process.terminate()  # torchrun ends its processes
        process.wait()
    return process.returncode, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    code, told = torchrun("checks", str(folder))
    assert code == 0, told
    return [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("given", ["x", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_gets_one_line(monkeypatch, given):
    monkeypatch.setenv("DRAWLIB_TIMEOUT", given)
    with pytest.raises(ValueError, match=f"DRAWLIB_TIMEOUT is '{given}'; allowed: sec"):
        distributed.patience()
    monkeypatch.setenv("DRAWLIB_TIMEOUT", "1.5")
    assert distributed.patience().total_seconds() == 1.5
    monkeypatch.delenv("DRAWLIB_TIMEOUT")
    assert distributed.patience().total_seconds() == 600


def test_a_job_of_two(found):
    assert [part["team"] for part in found] == [(0, 2), (1, 2)]


# The same gradients as one process


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_gradients_are_those_of_one_process_with_the_global_batch(
    found, tmp_path, kind
):
    alone = jobs.gradients(kind, tmp_path, rank=0)
    for part in found:
        two = part[kind]
        assert two["gradients"].shape == alone["gradients"].shape
        assert two["gradients"].dtype == torch.float64
        torch.testing.assert_close(
            two["gradients"], alone["gradients"], rtol=1e-9, atol=1e-11
        )
        for mine, expected in zip(two["rows"], alone["rows"], strict=True):
            assert mine == pytest.approx(expected, rel=1e-9)
    # What both hold is the same to the last bit, so that they never drift apart.
    assert torch.equal(found[0][kind]["gradients"], found[1][kind]["gradients"])
    assert_same_bits(found[0][kind]["weights"], found[1][kind]["weights"])


def test_a_step_that_is_not_finite_on_one_process_is_skipped_by_all(found, tmp_path):
    alone = jobs.bad_step(tmp_path, bad_rank=0, rank=0)
    for part in found:
        assert part["bad step"]["skipped"] == alone["skipped"] == 1
        for name, value in part["bad step"]["weights"].items():
            torch.testing.assert_close(
                value, alone["weights"][name], rtol=1e-4, atol=1e-4
            )


def test_batch_norm_on_cpus_is_told_in_one_line_and_kept_equal(found):
    first, second = (part["batch norm"] for part in found)
    assert_same_bits(first["weights"], second["weights"])
    assert first["weights"]["2.running_mean"].ne(0).any()
    (told,) = first["told"]
    assert "batch statistics of its own rows" in told and "\n" not in told
    assert second["told"] == []


def test_the_first_process_alone_is_heard_by_a_logger_and_all_end_with_it(found):
    told = "ValueError: the logger's disk is full"
    assert [part["logged"] for part in found] == [
        {"told": told, "epochs": [1, 2]},
        {"told": told, "epochs": []},
    ]


# The same evaluation as one process


def test_sums_over_uneven_shards_are_exact(found):
    alone = jobs.evaluations(ALONE)
    for part in found:
        assert part["evaluations"] == alone


def test_a_record_is_written_once_with_the_numbers_of_one_process(
    found, folder, tmp_path, monkeypatch
):
    where = "zoo/mnist-dynamic/toy-0.json"
    two = json.loads((folder / "record" / where).read_text(encoding="utf-8"))
    # The same weights, evaluated by one process.
    use_toy_data(monkeypatch.setattr)
    run_dir = folder / "record" / "run"
    sizes = {"iw_samples": 300, "iw_images": 13, "root": tmp_path / "zoo"}
    jobs.publish(run_dir, "toy", ship=True, progress=False, **sizes)
    one = json.loads((tmp_path / where).read_text(encoding="utf-8"))
    for name in ("bounds", "importance_weighted", "weights", "curve"):
        assert two[name] == one[name]
    assert_same_bits(found[0]["record"]["weights"], found[1]["record"]["weights"])


def test_all_processes_begin_with_the_weights_that_the_first_one_read(found, folder):
    earlier = load_run(folder / "record" / "run")[1].state_dict()
    for each in found:
        assert_same_bits(each["record"]["begun"], in_float32(rounded(earlier)))


# What is refused


def test_all_processes_refuse_at_once_and_for_the_same_reason(found, folder):
    where = folder / "refused"
    for part in found:
        assert part["refusals"] == {
            "small": "ValueError: a batch of 1 is shared by 2 processes; "
            "allowed: 2 images or more",
            "normed": "ValueError: a batch of 3 leaves batch norm 1 image for one of 2 "
            "processes, which has no variance; allowed: 4 images or more",
            "locked": f"TrainingStopped: another process trains in {where}",
        }


def test_a_device_of_ones_own_is_asked_for_by_its_kind(monkeypatch):
    team = Team(1, 2, local_rank=1)
    assert ALONE.device("cuda:3") == "cuda:3" and team.device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert team.device("auto") == team.device("cuda") == "cuda:1"
    with pytest.raises(ValueError, match="allowed with 2 processes: auto, cpu, cuda"):
        team.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="process 2 of this machine has no GPU"):
        team.device("auto")


@pytest.mark.parametrize("n", [2, 3, 7, 16])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_cover_the_batch_once_and_shares_sum_to_one(n, size):
    team = [Team(rank, size) for rank in range(size)]
    assert sum((list(range(n))[t.rows(n)] for t in team), []) == list(range(n))
    lengths = [len(range(n)[t.rows(n)]) for t in team]
    assert max(lengths) - min(lengths) <= 1
    assert sum(t.share(n) for t in team) == pytest.approx(1)


# A single process


def test_a_single_process_connects_to_nobody(tmp_path):
    jobs.gradients("vae", tmp_path, rank=0)
    assert distributed.join("cpu") == ALONE and not dist.is_initialized()
    assert distributed.rank_of_process() == 0


# Faults


def test_a_signal_to_one_stops_all_and_a_killed_one_ends_the_job_resumably(
    tmp_path, monkeypatch
):
    use_toy_data(monkeypatch.setattr)
    run_dir, whole = tmp_path / "run", tmp_path / "whole"
    command = [*TRAIN, str(run_dir)]

    def saved() -> int:
        state = checkpoint.load(run_dir / "checkpoint.pt")
        assert state is not None
        return state["step"]

    # The second process gets signals in its sixth step; both stop after the same one.
    code, told = torchrun("main", *command, PLANT="1:5:SIGTERM")
    assert code != 0
    steps = set(re.findall(r"stopped at step (\d+); ", told))
    assert steps == {str(saved())} and saved() in (6, 7), told

    # It goes on, and is killed in the third step from there.
    before = saved()
    code, told = torchrun("main", *command, PLANT="1:2:SIGKILL")
    assert code != 0 and "another process of the job ended" in told, told
    assert before < saved() < 16
    assert not (run_dir / "run.json").exists()
    assert str(signal.SIGKILL.value) in told  # torchrun names the culprit

    # One process ends what two began, and no worse than if nothing had happened.
    assert main(command) == 0 and main([*TRAIN, str(whole)]) == 0
    ended, expected = (weights(load_run(path)[1]) for path in (run_dir, whole))
    for name, value in ended.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_silent_process_holds_nobody_up_for_longer_than_the_limit(tmp_path):
    plant = {"PLANT": "1:2:silence", "DRAWLIB_TIMEOUT": "5"}
    code, told = torchrun("main", *TRAIN, str(tmp_path / "run"), **plant)
    assert code != 0 and "did not answer" in told, told
