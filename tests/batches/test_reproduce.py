"""Batches: planned, killed, resumed, failed, skipped; and records checked."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_batch import BAD, QUICK, SLOW, make_toy, undisturbed
from toy_runs import toy_data, use_toy_data

from drawlib.__main__ import main
from drawlib.batches.check import check_record
from drawlib.batches.jobs import BatchFailed, Job, adopt, describe, gather, jobs_for
from drawlib.batches.reproduce import reproduce
from drawlib.data.sets import stratified_subset
from drawlib.results import plan as planning
from drawlib.results import zoo
from drawlib.results.plan import find_records, load_row, plan, train_rows
from drawlib.results.tables import table
from drawlib.training import checkpoint
from drawlib.training.runstate import History

papermill = pytest.importorskip("papermill", reason="needs the extra batches")
dask = pytest.importorskip("distributed", reason="needs the extra batches")

from drawlib.batches.batch import (  # noqa: E402
    Batch,
    interrupt_kernels,
    local_cluster,
    run_batch,
    run_job,
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder of notebooks with one toy chapter."""
    use_toy_data(monkeypatch.setattr, side=6)
    return make_toy(tmp_path, monkeypatch.setattr)


# What is to be done


def test_each_row_and_seed_is_a_run_where_the_notebook_takes_rows(toy):
    jobs, missing = jobs_for([], [0, 2], notebooks=toy, device="cpu")
    assert [(job.rows, job.seed) for job in jobs] == [
        ((row,), seed) for seed in (0, 2) for row in (SLOW, BAD, QUICK)
    ]
    assert not missing and all(job.chosen for job in jobs)
    assert jobs[0].parameters == {
        **{"mode": "full", "seed": 0, "device": "cpu"},
        **{"rows": SLOW},
    }
    assert jobs[0].folder == toy / "runs" / "06-toy" / "full-0"
    assert jobs[0].name == f"06-toy {SLOW} seed 0"


def test_a_notebook_without_rows_is_one_run_a_seed(toy):
    path = toy / "06-toy.ipynb"
    path.write_text(path.read_text().replace('rows = \\"\\"', "other = 1"))
    jobs, _ = jobs_for(["T"], [0, 1], notebooks=toy)
    assert [job.name for job in jobs] == ["06-toy seed 0", "06-toy seed 1"]
    assert jobs[0].rows == (SLOW, BAD, QUICK) and "rows" not in jobs[0].parameters
    told = describe(jobs, [], 2)
    assert f"trains {SLOW}, {BAD}, {QUICK}" in told and "2 of 2 runs to do" in told


def test_a_seed_given_twice_is_one_run(toy):
    once, twice = (jobs_for([], seeds, notebooks=toy)[0] for seeds in ([0], [0, 0]))
    assert twice == once


def test_the_plan_of_the_book_names_every_chapter_that_is_missing(tmp_path):
    jobs, missing = jobs_for(["A"], [0], notebooks=tmp_path)
    assert not jobs
    assert missing[0].startswith(f"chapter 04 is not in {tmp_path}: mnist-dynamic/vae")


def test_a_dry_run_prints_the_expected_time_and_runs_nothing(toy, capsys):
    options = ["--table", "T", "--seeds", "0", "1", "--jobs", "2"]
    where = ["--notebooks", str(toy), "--dry-run"]
    assert main(["reproduce", *options, *where]) == 0
    told = capsys.readouterr().out
    # 60 epochs of half a second, and the bounds at the end.
    assert f"0.5 min 06-toy {SLOW} seed 1" in told
    assert "6 of 6 runs to do, 2 at a time: about 0.6 min" in told
    assert not (toy / "runs").exists()


def test_what_is_finished_in_the_zoo_can_be_left_out(toy, tmp_path):
    (path,) = undisturbed(tmp_path / "elsewhere", QUICK)
    there = zoo.ZOO / "mnist-dynamic"
    there.mkdir()
    (there / path.name).write_bytes(path.read_bytes())
    jobs, _ = jobs_for([], [0], notebooks=toy, unfinished=True)
    assert [job.rows for job in jobs] == [(SLOW,), (BAD,)]
    assert len(jobs_for([], [0], notebooks=toy)[0]) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--table", "Z"], "table is 'Z'; allowed: T"),
        (["--seeds", "-1"], "seeds is (-1,); allowed: one or more, from 0"),
        (["--jobs", "0"], "jobs is 0; allowed: 1 or more"),
        (["--mode", "read"], "mode is 'read'; allowed: smoke, full"),
        (
            ["--notebooks", "nowhere"],
            "notebooks is 'nowhere'; allowed: the folder of the chapters",
        ),
        (
            ["--device", "cuda:1"],
            "device is 'cuda:1'; allowed: auto, cpu, cuda, mps "
            "(CUDA_VISIBLE_DEVICES says which GPUs are used)",
        ),
    ],
)
def test_a_wrong_option_gets_one_line(toy, capsys, options, told):
    assert main(["reproduce", "--notebooks", str(toy), "--dry-run", *options]) == 1
    assert capsys.readouterr().err == f"drawlib: {told}\n"


# The contract with the chapters


def test_train_rows_trains_publishes_and_leaves_alone_what_is_done(toy, monkeypatch):
    monkeypatch.chdir(toy)
    own = train_rows("06-toy", "full", 0, "cpu", QUICK, progress=False)
    assert own == toy / "runs" / "06-toy" / "full-0" / "zoo"
    record = own / f"{QUICK}-0.json"
    before = record.stat().st_mtime_ns
    train_rows("06-toy", "full", 0, "cpu", QUICK, progress=False)
    assert record.stat().st_mtime_ns == before
    (found,) = find_records(own, "mnist-dynamic")
    assert (found["epochs"], found["published"]) == (2, "vae-source")
    assert train_rows("06-toy", "read") is None
    with pytest.raises(ValueError, match="rows is 'x'; allowed: mnist-dynamic/slow"):
        train_rows("06-toy", "full", rows="x")


def test_smoke_trains_small_models_for_one_epoch(toy, monkeypatch):
    monkeypatch.chdir(toy)
    monkeypatch.setitem(planning.SMOKE, "valid_images", 20)
    own = train_rows("06-toy", "smoke", 0, "cpu", progress=False)
    assert own is not None
    found = find_records(own)
    assert [r.model for r in found] == ["bad", "quick", "slow"]
    assert {r["epochs"] for r in found} == {1}
    with pytest.raises(zoo.ZooError, match="no record"):
        load_row("mnist-dynamic/none-0", own)


def test_finished_records_can_be_adopted(toy, monkeypatch):
    monkeypatch.chdir(toy)
    train_rows("06-toy", "full", 0, "cpu", QUICK, progress=False)
    jobs, _ = jobs_for(["T"], [0], notebooks=toy)
    (path,) = adopt(jobs)
    assert path == zoo.ZOO / f"{QUICK}-0.json" and path.exists()
    assert [r.name for r in gather(toy / "runs")] == [f"{QUICK}-0"]


def test_what_cannot_be_adopted_leaves_the_old_record(toy, monkeypatch):
    monkeypatch.chdir(toy)
    train_rows("06-toy", "full", 0, "cpu", QUICK, progress=False)
    jobs, _ = jobs_for(["T"], [0], notebooks=toy)
    (path,) = adopt(jobs)
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        adopt(jobs)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_log_that_is_gone_again_is_left_out(toy, monkeypatch):
    job = Job(toy / "06-toy.ipynb", 0, (SLOW, QUICK), False)
    for row in job.rows:
        (job.folder / row).mkdir(parents=True)
        (job.folder / row / "log.jsonl").touch()
    kept, lost = (job.folder / row / "log.jsonl" for row in job.rows)
    stat, gone = Path.stat, FileNotFoundError(str(lost))

    def vanish(path: Path, **options: Any) -> os.stat_result:
        if path == lost:
            raise gone
        return stat(path, **options)

    def unreadable(path: Path, pattern: str) -> Iterator[Path]:
        """As where a folder goes while it is looked through."""
        raise gone

    with monkeypatch.context() as patch:
        # What was found a moment ago.
        patch.setattr(Path, "glob", lambda path, pattern: iter([kept, lost]))
        patch.setattr(Path, "stat", vanish)
        assert job.logs() == [kept]
        patch.setattr(Path, "glob", unreadable)
        assert job.logs() == []
    assert set(job.logs()) == {kept, lost}


# Single runs and workers


def test_a_run_that_waited_for_a_busy_directory_and_then_ended_well_is_finished(
    toy, monkeypatch
):
    from papermill.exceptions import PapermillExecutionError

    job = Job(toy / "06-toy.ipynb", 0, (QUICK,), True)
    record = job.folder / "zoo" / f"{QUICK}-0.json"
    attempts = []

    def execute(*paths: str, **options: Any) -> None:
        attempts.append(options["parameters"])
        if len(attempts) < 3:
            told = f"another process trains in {job.folder}"
            raise PapermillExecutionError(2, 2, "", "TrainingStopped", told, [])
        record.parent.mkdir(parents=True)
        record.touch()

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    outcome = run_job(job)
    assert (outcome.good, outcome.told, len(attempts)) == (True, "", 3)
    assert job.done()


@pytest.mark.parametrize(
    ("given", "count", "device", "used"),
    [
        (None, 2, "auto", ["0", "1"]),
        ("2,3", 2, "auto", ["2", "3"]),
        ("2, 3,5", 3, "cuda", ["2", "3"]),  # two runs at a time
        ("GPU-a1,GPU-b2", 2, "cuda", ["GPU-a1", "GPU-b2"]),
        ("MIG-c3", 1, "auto", ["MIG-c3"]),
        ("4,-1,5", 1, "auto", ["4"]),  # CUDA takes what stands before the -1
        ("", 0, "auto", [None, None]),
        ("2,3", 2, "cpu", [None, None]),
    ],
)
def test_each_worker_gets_one_of_the_gpus_that_may_be_used(
    monkeypatch, given, count, device, used
):
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(dask, "SpecCluster", lambda workers, *rest, **options: workers)
    options = [worker["options"] for worker in local_cluster(2, device).values()]
    assert [o["env"].get("CUDA_VISIBLE_DEVICES") for o in options] == used
    assert [o["resources"] for o in options] == [{"GPU": 1} if u else {} for u in used]


def test_workers_find_data_that_lie_beside_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWLIB_DATA", "my data")
    monkeypatch.setenv("DRAWLIB_CACHE", "~/cache")
    monkeypatch.setattr(dask, "SpecCluster", lambda workers, *rest, **options: workers)
    (worker,) = local_cluster(1, "cpu").values()
    assert worker["options"]["env"]["DRAWLIB_DATA"] == str(tmp_path / "my data")
    assert worker["options"]["env"]["DRAWLIB_CACHE"] == str(Path.home() / "cache")
    monkeypatch.delenv("DRAWLIB_DATA")
    (worker,) = local_cluster(1, "cpu").values()
    assert "DRAWLIB_DATA" not in worker["options"]["env"]


def test_a_stopped_batch_asks_only_the_workers_that_have_its_runs(toy):
    @dataclass(frozen=True)
    class Key:
        """A future, as far as it is needed."""

        key: str

    class Stub:
        """A client of a scheduler that others use too."""

        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            return {"workers": {}}

        def subscribe_topic(self, *_: Any) -> None: ...

        def submit(self, *_: Any, key: str, **options: Any) -> Key:
            return Key(key)

        def processing(self) -> dict[str, tuple[str, ...]]:
            (own,) = (future.key for future in batch.running)
            return {"idle": (), "theirs": ("other",), "both": ("other", own)}

        def run(self, *arguments: Any, **options: Any) -> None:
            asked.append((arguments, options))

    asked: list[Any] = []
    job = Job(toy / "06-toy.ipynb", 0, (QUICK,), True)
    batch = Batch(Stub(), [job], 1, 1.0, lambda line: None)
    batch.submit()
    batch.stop()
    assert asked == [((interrupt_kernels, batch.name), {"workers": ["both"]})]


# Real schedulers, workers and kernels


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path, names: str = "one two", threads: int = 1) -> None:
        self.threads = threads
        self.file = folder / "scheduler.json"
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        local = ["--host", "127.0.0.1", "--port", "0"]
        self.start("scheduler", *local, "--scheduler-file", str(self.file))
        self.workers = {name: self.worker(name) for name in names.split()}
        while not self.file.exists():
            time.sleep(0.1)
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}"]
        with open(self.folder / f"{kind}-{len(self.started)}.log", "wb") as log:
            process = subprocess.Popen(
                [*command, *options, "--no-dashboard"],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.started.append(process)
        return process

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        options = ["--name", name, "--nthreads", str(self.threads), "--no-nanny"]
        folder = ["--local-directory", str(self.folder)]
        return self.start(
            "worker", "--scheduler-file", str(self.file), *options, *folder
        )

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """What a record holds, without the time that it took and where."""
    left = {k: v for k, v in values.items() if k not in ("seconds", "device", "commit")}
    left["curve"] = [
        {k: v for k, v in line.items() if k != "seconds"} for line in values["curve"]
    ]
    return left


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_killed_workers_run_goes_on_elsewhere_and_the_tables_are_the_same(
    toy, cluster, tmp_path
):
    jobs, _ = jobs_for(["T"], [0], notebooks=toy, device="cpu")
    slow = jobs[0]
    told: list[str] = []
    before: list[dict[str, float]] = []

    def watch(line: str) -> None:
        """Kill the worker once its run has made some epochs."""
        told.extend(line.splitlines())
        log = slow.folder / SLOW
        if not before and len(rows := History.read(log).rows) >= 5:
            begun = next(t for t in told if t.startswith(f"started   {slow.name}"))
            cluster.workers[begun.rpartition(" ")[2]].send_signal(signal.SIGKILL)
            before.extend(rows)

    outcomes = run_batch(
        jobs, at_once=2, scheduler=cluster.address, every=0.2, say=watch
    )

    # It began on one worker, and went on with the other one.
    begun = [t for t in told if t.startswith(f"started   {slow.name}")]
    assert len({t.rpartition(" ")[2] for t in begun}) == len(begun) == 2
    after = History.read(slow.folder / SLOW).rows
    # What is logged again would have other seconds: these epochs were trained once.
    assert 5 <= len(before) < 60 == len(after)
    assert list(after[: len(before) - 1]) == before[:-1]

    # A run that fails stops no other, and is named.
    ended = {outcome.name: outcome for outcome in outcomes}
    assert {name: o.good for name, o in ended.items()} == {
        job.name: job.rows != (BAD,) for job in jobs
    }
    assert ended[jobs[1].name].told == "RuntimeError: planted"
    assert any(line.startswith("2 of 3 finished, 1 failed, 0 running") for line in told)

    # The same records and tables as without the kill.
    alone = tmp_path / "alone"
    undisturbed(alone, SLOW, QUICK)
    found, expected = gather(toy / "runs"), zoo.records(root=alone / "zoo")
    assert [r.name for r in found] == [f"{QUICK}-0", f"{SLOW}-0"]
    for a, b in zip(found, expected, strict=True):
        assert numbers(a.values) == numbers(b.values)
    same = {"seconds": None, "device": "", "commit": ""}
    for a, b in zip(table("T", found).rows, table("T", expected).rows, strict=True):
        assert replace(a, **same) == replace(b, **same)

    # What is done is skipped; the command ends with the name of what failed.
    assert [job.done() for job in jobs] == [True, False, True]
    again: list[str] = []
    with pytest.raises(BatchFailed, match=f"1 of 1 runs failed: {jobs[1].name} "):
        reproduce(
            ["T"],
            [0],
            scheduler=cluster.address,
            device="cpu",
            notebooks=toy,
            say=again.append,
        )
    assert f"  done     {slow.name}" in again[0] and "1 of 3 runs to do" in again[0]
    assert not any("started" in line and SLOW in line for line in again)
    written = toy / "runs" / "tables" / "table-T.csv"
    assert f"T,slow,{SLOW},mnist-dynamic,test," in written.read_text()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_stopped_batch_leaves_the_runs_of_others_on_its_worker_alone(
    tmp_path, monkeypatch
):
    use_toy_data(monkeypatch.setattr, side=6)
    notebooks = make_toy(tmp_path, monkeypatch.setattr, epochs=300)
    own, other = (
        Job(notebooks / "06-toy.ipynb", k, (SLOW,), True, "cpu") for k in (0, 1)
    )

    def epochs(job: Job) -> int:
        return len(History.read(job.folder / SLOW).rows)

    def stop(line: str) -> None:
        """Ctrl-C once both of them train."""
        if not line.startswith("stopping") and min(epochs(own), epochs(other)) >= 5:
            raise KeyboardInterrupt

    cluster = Cluster(tmp_path, "one", threads=2)
    try:
        with dask.Client(cluster.address) as client:
            theirs = client.submit(run_job, other, "theirs", pure=False)
            with pytest.raises(KeyboardInterrupt):
                run_batch([own], scheduler=cluster.address, every=0.2, say=stop)
            assert epochs(other) < 300
            outcome = theirs.result()
    finally:
        cluster.close()
    assert outcome.good and other.done(), outcome.told
    state = checkpoint.load(own.folder / SLOW / "checkpoint.pt")
    assert state is not None and 20 <= state["step"] < 1200
    assert not (own.folder / SLOW / "run.json").exists()


def test_a_run_without_its_record_is_not_done(toy):
    from drawlib.batches.batch import mark_done

    job = Job(toy / "06-toy.ipynb", 0, (QUICK,), True)
    assert mark_done(job) == f"the notebook wrote no record {QUICK}-0"
    assert not job.done()


def test_the_package_zoo_is_never_written_by_these_tests(toy):
    assert zoo.ZOO.parent == toy.parent and set(plan()) == {SLOW, QUICK, BAD}


# Records are checked against the shipped weights


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A zoo with one record and its weights, whose bounds are right."""
    from toy_runs import TOY, toy_config

    from drawlib.results.runs import Run, publish, train_run

    folder = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_data(patch.setattr)
        run = Run(TOY, "mnist-dynamic", folder / "run", toy_config())
        train_run(run, progress=False)
        for row, images, some in (
            ("same", 20, None),
            ("other", 12, None),
            ("few", 9, 8),
        ):
            publish(
                run.run_dir,
                row,
                iw_samples=40,
                iw_images=images,
                images=some,
                ship=True,
                root=folder / "zoo",
                progress=False,
            )
    return folder / "zoo"


def altered(shipped: Path, folder: Path, row: str, change: Any) -> Path:
    """A copy of the zoo in which one record was changed."""
    there = folder / "mnist-dynamic"
    there.mkdir(parents=True)
    for path in (shipped / "mnist-dynamic").iterdir():
        (there / path.name).write_bytes(path.read_bytes())
    path = there / f"{row}-0.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return folder


@pytest.fixture
def checked(monkeypatch):
    """Check a zoo on the toy data; what was told."""
    import drawlib.batches.check as module

    monkeypatch.setattr(module, "load_data", lambda name: toy_data())

    def run(root: Path, **options: Any) -> tuple[list[str], str]:
        told: list[str] = []
        try:
            module.check(root=root, say=told.append, **options)
        except BatchFailed as error:
            return told, str(error)
        return told, ""

    return run


def test_check_finds_the_recorded_bounds_again(shipped, checked):
    told, error = checked(shipped)
    assert not error and sum(line.startswith("ok ") for line in told) == 9
    assert told[-1].startswith("9 numbers of 3 records checked")
    # On the same processor the same noise gives the same number.
    same = next(line for line in told if "same-0, −ELBO, 20 test images" in line)
    assert same.split("recorded ")[1].split(",")[0] in same.split("found ")[1]


def test_a_record_of_some_images_is_checked_on_these(shipped, checked, monkeypatch):
    """Those images are easier than the others: their bound is not the split's."""
    import drawlib.batches.check as module

    chosen = stratified_subset(toy_data().test, 8, 0)
    exact = module.measured

    def with_hard_images(model, data, index, samples):
        found = exact(model, data, index, samples)
        hard = torch.isin(index, chosen, invert=True)
        return found | {k: found[k] + 50.0 * hard for k in ("elbo", "iw")}

    monkeypatch.setattr(module, "measured", with_hard_images)
    told, _ = checked(shipped)
    few = next(line for line in told if "few-0, −ELBO" in line)
    assert few.startswith("ok  mnist-dynamic/few-0, −ELBO, 8 test images: ")
    same = next(line for line in told if "same-0, −ELBO" in line)
    assert same.startswith("OFF")


@pytest.mark.parametrize(
    ("row", "part", "key", "nats"),
    [
        ("same", "test", "neg_elbo", -5.0),
        ("same", "test", "kl", 0.1),
        ("same", "weighted", "neg_iw", -1.0),
        ("same", "weighted", "neg_iw", 1.0),
        ("other", "weighted", "neg_iw", -5.0),
        ("other", "weighted", "neg_iw", None),
    ],
)
def test_check_fails_where_a_record_is_wrong(
    shipped, checked, tmp_path, row, part, key, nats
):
    def change(values: dict[str, Any]) -> None:
        where = values["bounds"]["test"]
        if part == "weighted":
            where = values["importance_weighted"]
        where[key] = None if nats is None else where[key] + nats

    _, error = checked(altered(shipped, tmp_path / "zoo", row, change))
    assert "recorded numbers are off: " in error and f"{row}-0" in error


def test_check_says_what_it_could_not_check_and_why(shipped, checked, tmp_path):
    def change(values: dict[str, Any]) -> None:
        values["weights"] = None

    told, error = checked(altered(shipped, tmp_path / "zoo", "same", change))
    assert not error
    assert "mnist-dynamic/same-0: its weights do not ship" in told[-2]
    assert told[-1].endswith("0 off, 1 not checked")


@pytest.fixture(scope="module")
def loose_record(shipped):
    """How loose the bounds of the toy are, measured once."""
    from drawlib.results import looseness

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looseness, "load_data", lambda name: toy_data())
        model = zoo.load_pretrained("mnist-dynamic/same-0", root=shipped)
        patch.setattr(looseness, "load_pretrained", lambda name: model)
        patch.setattr(looseness, "accelerate", lambda model: None)
        *_, record = looseness.measure_looseness(
            "mnist-dynamic/same-0", 4, 2, (2, 4), 2, seed=0
        )
    return record


@pytest.fixture
def measured(shipped, loose_record, tmp_path):
    """The zoo with a measurement of looseness, changed by what it is called with."""

    def change(part: str, nats: float) -> Path:
        root = altered(shipped, tmp_path / "zoo", "same", lambda values: None)
        values = json.loads(json.dumps(loose_record))
        where = {
            "elbo": values["neg_elbo"],
            "iw": values["iw"]["5000"],
            "ais": values["ais"][0]["neg_log_p"],
        }
        where[part][:] = [value + nats for value in where[part]]
        path = root / "loose" / "mnist-dynamic" / "same-0.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
        return root

    return change


def test_check_recomputes_how_loose_a_bound_was_measured_to_be(measured, checked):
    told, error = checked(measured("iw", 0.0))
    loose = [line for line in told if "loose/mnist-dynamic/same-0" in line]
    assert not error and len(loose) == 3
    assert all(line.startswith("ok ") for line in loose)
    assert "AIS, 2 chains × 2 temperatures × 2 leapfrog steps, 4 images" in loose[2]


@pytest.mark.parametrize("part", ["elbo", "iw", "ais"])
def test_check_fails_where_a_measured_looseness_is_wrong(measured, checked, part):
    _, error = checked(measured(part, 3.0))
    assert error.startswith("1 recorded numbers are off") and "loose/" in error


def test_check_names_a_measurement_whose_model_does_not_ship(measured, checked):
    root = measured("iw", 0.0)
    (root / "loose/mnist-dynamic/same-0.json").rename(
        root / "loose/mnist-dynamic/x.json"
    )
    path = root / "loose/mnist-dynamic/x.json"
    path.write_text(path.read_text().replace("/same-0", "/gone-0"))
    told, error = checked(root)
    assert not error
    assert "loose/mnist-dynamic/gone-0: its weights or its data" in told[-2]


def test_check_refuses_altered_weights(shipped, checked, tmp_path):
    root = altered(shipped, tmp_path / "zoo", "same", lambda values: None)
    file = root / "mnist-dynamic" / "same-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    _, error = checked(root)
    assert "same-0 (same-0.safetensors has sha256" in error


def test_the_last_step_of_a_lowered_K_has_an_error_of_its_own(shipped, monkeypatch):
    import drawlib.batches.check as module

    def measured(model, data, index, samples):
        ess, iw = {1: (1.0, 105.0), 10: (2.0, 100.5), 20: (4.0, 100.0)}[samples]
        ones = torch.ones(len(index), dtype=torch.float64)
        return {"elbo": 105 * ones, "iw": iw * ones, "ess": ess * ones}

    monkeypatch.setattr(module, "measured", measured)
    (record,) = (r for r in zoo.records(root=shipped) if r.model == "same")
    model = zoo.load_pretrained(record.name, root=shipped)
    *_, weighted = module.check_record(record, model, toy_data(), seconds=0.0)
    n = record["importance_weighted"]["images"]
    here, half = (1 / 4 - 1 / 20) / n, (1 / 2 - 1 / 10) / n
    step = 0.5 + 4 * (here + half) ** 0.5  # of one doubling, 20 to 40
    low = 100 - module.arithmetic(100.0) - 4 * (2 * here) ** 0.5 - step
    assert weighted.low == pytest.approx(low, abs=1e-9)


def test_a_record_is_checked_with_its_own_K_where_no_time_is_given(shipped):
    (record,) = (r for r in zoo.records(root=shipped) if r.model == "same")
    model = zoo.load_pretrained(record.name, root=shipped)
    *_, weighted = check_record(record, model, toy_data())
    assert f"K {record['importance_weighted']['samples']}" in weighted.what
    assert "checked with" not in weighted.what


def test_a_lowered_K_is_said_and_allows_no_lower_record_than_it_must(
    shipped, checked, tmp_path
):
    told, error = checked(shipped, minutes=0.0)
    assert not error and any("(checked with K 20)" in line for line in told)

    def change(values: dict[str, Any]) -> None:
        values["importance_weighted"]["neg_iw"] -= 3.0

    root = altered(shipped, tmp_path / "zoo", "same", change)
    _, error = checked(root, minutes=0.0)
    assert "same-0 (importance-weighted" in error


def test_check_is_a_command_that_ends_with_an_error(shipped, checked, tmp_path, capsys):
    def change(values: dict[str, Any]) -> None:
        values["bounds"]["test"]["neg_elbo"] = 1.0

    root = altered(shipped, tmp_path / "zoo", "same", change)
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(zoo, "ZOO", root)
        assert main(["reproduce", "--check"]) == 1
    assert "drawlib: " in capsys.readouterr().err
