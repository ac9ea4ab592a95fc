"""The benchmark times what it says, and its records are what the book reads."""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from drawlib import (
    DRAW,
    VAE,
    DRAWConfig,
    GLASConfig,
    LadderConfig,
    LadderVAE,
    VAEConfig,
)
from drawlib.results.bench import (
    BENCH,
    SCHEMA,
    bench_records,
    bench_table,
    former_build,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as main  # noqa: E402
from benchmarks import former, limit, peer, start, turns, works  # noqa: E402
from benchmarks.clock import Times, in_turn, ratio, timed  # noqa: E402
from benchmarks.layered import PlainLadder, PlainVAE  # noqa: E402
from benchmarks.limit import forward_products, training_flops  # noqa: E402
from benchmarks.memory import GOALS, peak  # noqa: E402
from benchmarks.plain import TextbookDRAW  # noqa: E402
from benchmarks.profile import (  # noqa: E402
    by_library,
    parts_of_a_step,
    shares,
    show_parts,
)
from benchmarks.works import Work, bits, has_amx, spread  # noqa: E402

ROWS = {"draw-attention", "draw-t10", "draw-t64", "glas", "vae", "ladder",
        "filterbank", "generate", "weigh", "anneal", "first-step-cold",
        "first-step-warm", "gpu-step"}  # fmt: skip


def test_every_function_runs_once_a_turn_after_one_call_to_warm_up():
    order: list[str] = []
    times = in_turn({k: lambda k=k: order.append(k) for k in "abc"}, turns=4)
    assert order[:3] == list("abc")
    assert sorted(order[3:]) == sorted("abc" * 4)
    assert all(len(t.wall) == len(t.cpu) == 4 for t in times.values())


def test_a_ratio_is_taken_within_each_turn_and_a_busy_turn_does_not_count():
    slow, fast = Times(), Times()
    for busy in (1, 1, 9, 2, 1):
        slow.add(3.0 * busy, 0.0)
        fast.add(1.0 * busy, 0.0)
    assert ratio(slow, fast) == 3.0


def test_short_work_is_repeated_until_there_is_something_to_measure(monkeypatch):
    clock = [0.0]

    def work():
        clock[0] += 0.25

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    wall, _ = timed(work, least=0.9)
    assert (wall, clock[0]) == (0.25, 1.0)  # four calls


def test_a_training_step_of_draw_with_attention_is_47_gflop():
    config = DRAWConfig.preset("paper-attention")
    assert training_flops(config, 128) == pytest.approx(46.97e9, rel=5e-3)
    assert forward_products(config, 128)[0] == (128, 520, 1024)
    assert forward_products(GLASConfig.preset("readme"), 8)[1] == (8, 25, 50)


def test_quick_benchmark_writes_records_that_make_a_table(
    tmp_path, monkeypatch, capsys
):
    """Every row and every rival, with tiny models and without the compiler.

    They are timed in a process of its own: `python -m benchmarks --child`.
    """
    given = ["benchmarks", "--quick", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    assert main.main() == 0
    (record,) = bench_records(tmp_path)
    assert record["schema"] == SCHEMA and record["threads"] == 1 and record["quick"]
    assert {w["name"] for w in record["works"]} == {
        name for name in ROWS if not name.startswith("first")
    }
    for work in record["works"]:
        if work["unit"] == "x":
            assert work["measured"] > 0 and work["equal"] > 0
    assert former_build(record) == "7a58c15: not with --quick"
    assert former_build({}) == "none was timed beside it"
    rows = bench_table(record)
    goal = "6 times" if has_amx() else "5 times"
    assert rows[0]["goal"] == goal and rows[-1]["measured"] == "not measured"
    assert "matrix products, GFLOP/s" in capsys.readouterr().out


def test_the_parts_of_a_step_are_told_apart(capsys):
    tiny = DRAWConfig.preset("tiny", attention="gaussian")
    parts = parts_of_a_step(turns=1, config=tiny, batch=8)
    assert {f"products, {kind}" for kind in ("forward", "backward")} < set(parts)
    assert parts["products, weight gradients"] > 0
    show_parts(parts)
    assert "together" in capsys.readouterr().out


REPORT = """
# Samples: 24K of event 'cpu-clock'
# Overhead;Shared Object       ;Symbol
50.00%   ;[JIT] tid 12         ;[.] 0x00007f7969cc08c3
 4.00%   ;cwlyny5.main.so      ;[.] kernel
 8.00%   ;drawlib-0a1b.so      ;[.] look_b
 3.00%   ;libtorch_cpu.so      ;[.] Sleef_finz_expf16_u10avx512f
 9.00%   ;libtorch_cpu.so      ;[.] dnnl::impl::primitive_create
 1.00%   ;libc10.so            ;[.] c10::TensorImpl::autograd_meta
 9.00%   ;libc.so.6            ;[.] _int_malloc
 1.00%   ;libc.so.6            ;[.] unlink_chunk.constprop.0
 10.00%  ;libpython3.11.so.1.0 ;[.] _PyEval_EvalFrameDefault
 5.00%   ;[kernel.kallsyms]    ;[k] finish_task_switch.isra.0
"""


def test_code_is_told_apart_by_the_library_that_it_is_in():
    found = shares(REPORT)
    assert found == {
        "products": 0.5,
        "compiled loops": 0.15,
        "PyTorch's calls": 0.1,
        "memory": 0.1,
        "Python": 0.1,
        "other": 0.05,
    }
    assert shares("no report") == {}


def test_where_no_perf_is_found_nothing_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert by_library(lambda: None) is None


@pytest.mark.parametrize("kind", ["vae", "ladder"])
def test_plain_pytorch_computes_the_loss_and_gradients_of_the_librarys_vaes(kind):
    torch.manual_seed(0)
    build, plainly = {
        "vae": (lambda: VAE(VAEConfig.preset("tiny")), PlainVAE),
        "ladder": (lambda: LadderVAE(LadderConfig.preset("tiny")), PlainLadder),
    }[kind]
    model = spread(build().double())
    x, noise = bits(6).double(), model.training_noise(6, torch.Generator())
    plain = plainly(model)
    noise = tuple(e.double() for e in noise) if kind == "ladder" else noise.double()
    found = plain.negative_elbo(x, noise)
    torch.testing.assert_close(found, -model.bound(x, noise).elbo, rtol=1e-10, atol=0)
    first, last = (next(iter(each.parameters())) for each in (model, plain))
    (-model.bound(x, noise).elbo.sum()).backward()
    found.sum().backward()
    torch.testing.assert_close(last.grad, first.grad, rtol=1e-10, atol=1e-12)


def test_a_slow_first_step_says_where_its_time_went():
    slow, quick = (start.row("cold", 25.0, wall, 15.0, 26.5) for wall in (40.0, 20.0))
    assert "15.0 s of processor time" in slow["why"] and "26.5 s" in slow["why"]
    assert "why" not in quick


def test_two_numbers_of_threads_take_their_steps_in_turn(monkeypatch):
    order: list[int] = []

    class Worker:
        def __init__(self, program, threads):
            assert f"set_num_threads({threads})" in program
            self.n = threads

        def __call__(self):
            order.append(self.n)

        def timed(self, least):
            self()
            return 3.0 / self.n, 3.0

        def close(self):
            order.append(0)

    monkeypatch.setattr(turns, "Apart", Worker)
    (row,) = turns.more_threads(2, turns=2)
    # The first of each is not measured; at the end both are closed.
    assert order == [1, 2, 1, 2, 2, 1, 0, 0]
    assert row["measured"] == 2.0 and row["goal"] == 1.7 and "why" not in row


def test_what_runs_in_another_process_is_timed_by_its_own_clocks(tmp_path):
    """It imports from the folder that it is given, and stays between two calls."""
    (tmp_path / "benchmarks").mkdir()
    clock = "import drawn\ndef timed(call, least):\n    return drawn.n, call()"
    (tmp_path / "benchmarks/clock.py").write_text(clock, encoding="utf-8")
    (tmp_path / "drawn.py").write_text("n = 7", encoding="utf-8")
    apart = turns.Apart("calls = []\ndef call():\n    calls.append(1)\n"
                        "    return len(calls)", 1, tmp_path)  # fmt: skip
    assert timed(apart, least=0.1) == (7.0, 1.0) and timed(apart) == (7.0, 2.0)
    assert apart.close() == 0


def test_a_process_that_ends_instead_of_answering_gets_one_line():
    with pytest.raises(RuntimeError, match="a process ended with status 3"):
        turns.Apart("raise SystemExit(3)", 1)()


def test_the_former_build_computes_with_its_own_code():
    """A tiny model of the commit, held to its own textbook, where history is here."""
    with former.former_files() as folder:
        if folder is None:
            pytest.skip(f"no commit {former.COMMIT} in this clone")
        assert (folder / "drawlib/faststep.py").exists()  # today there is none
        call = former.former_call(folder, "draw-attention", threads=1, quick=True)
        wall, cpu = call.timed()
        assert wall > 0 and cpu > 0 and call.close() == 0


@pytest.fixture
def one_row(monkeypatch):
    """A benchmark of a single row whose code of the commit is what a test says."""

    def measured(call):
        sleep = {"textbook float32": lambda: None, "fast float32": lambda: None}
        work = Work("glas", "a", 0.0, sleep)
        monkeypatch.setattr(works, "all_works", lambda quick: {"glas": lambda: work})
        monkeypatch.setattr(limit, "rates", lambda *_: {"bf16": 1e9})
        monkeypatch.setattr(former, "former_files", lambda: nullcontext(Path()))
        monkeypatch.setattr(former, "former_call", call)
        return main.measure(torch.get_num_threads(), False, ["glas"], 2)

    return measured


def test_the_former_build_has_a_ratio_and_is_ended(one_row):
    ended = []

    class Slow:
        def __call__(self):
            pass

        def timed(self, least):
            return 1e6, 1e6

        def close(self):
            ended.append(True)

    record = one_row(lambda folder, name, threads: Slow())
    assert record["works"][0]["former"] > 1e6 and ended == [True]
    assert former_build(record) == former.COMMIT


def test_a_former_build_that_does_not_run_stops_no_benchmark(one_row):
    def broken(folder, name, threads):
        raise RuntimeError("a process ended with status 1")

    record = one_row(broken)
    assert record["works"][0]["former"] is None
    told = "7a58c15: glas does not run here: a process ended with status 1"
    assert former_build(record) == told


def test_without_the_commit_there_is_no_code_of_it():
    with former.former_files("0" * 40) as folder:
        assert folder is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone can")
def test_cores_are_held_for_what_is_started_in_between_and_given_back():
    before = os.sched_getaffinity(0)
    with peer.cores(1), ThreadPoolExecutor(1) as pool:
        (core,) = os.sched_getaffinity(0)
        started = pool.submit(os.sched_getaffinity, 0)
        assert started.result() == {core}
    assert os.sched_getaffinity(0) == before


def test_a_larger_batch_has_a_higher_peak_of_memory():
    """Of the plain loop, in processes of their own: what a row divides by."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system tells no peak that can be set back")
    small = {"T": 4, "hidden": 64, "z": 4}
    few, many = (peak("textbook", "float32", 0, batch=n, **small) for n in (64, 512))
    assert 2 * few < many


def test_a_share_just_above_its_goal_is_not_told_as_the_goal():
    work = {"title": "memory", "goal": 0.6, "unit": "of the plain loop's"}
    (row,) = bench_table({"works": [work | {"measured": 0.608}]})
    assert (row["measured"], row["met"]) == ("0.61 of the plain loop's", "no")


def test_the_peer_in_jax_computes_the_same_loss_and_gradients():
    jax = pytest.importorskip("jax")
    from benchmarks.peer import loss

    torch.manual_seed(0)
    model = spread(DRAW(DRAWConfig.preset("tiny", attention="gaussian")))
    plain, x, noise = TextbookDRAW(model), bits(5), model.noise(5)
    plain.negative_elbo(x, noise).mean().backward()
    weights = {name: p.detach().numpy() for name, p in plain.named_parameters()}
    sizes = (28, 28, model.config.read, model.config.write)
    value, gradients = jax.value_and_grad(loss)(
        weights, x[:, 0].numpy(), noise.transpose(0, 1).numpy(), sizes
    )
    assert float(value) == pytest.approx(plain.negative_elbo(x, noise).mean().item())
    for name, p in plain.named_parameters():
        if p.grad is not None:
            np.testing.assert_allclose(gradients[name], p.grad, rtol=2e-4, atol=2e-5)


def test_a_record_is_written_in_utf_8_on_any_system(tmp_path, monkeypatch):
    write_text = Path.write_text

    def as_on_windows(path, text, encoding="cp437", **options):
        return write_text(path, text, encoding, **options)

    record = {"schema": SCHEMA, "threads": 1, "works": [], "title": "9×9 −ELBO"}
    monkeypatch.setattr(main, "measure", lambda *_: record)
    monkeypatch.setattr(Path, "write_text", as_on_windows)
    given = ["benchmarks", "--child", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    assert main.main() == 0
    assert bench_records(tmp_path) == [record]


@pytest.mark.parametrize("given", [["--threads", "1", "0"], ["--turns", "0"]])
def test_no_thread_or_no_turn_gets_one_line(capsys, monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
    with pytest.raises(SystemExit):
        main.main()
    assert "allowed: 1 up" in capsys.readouterr().err


def test_an_unknown_row_gets_one_line_before_anything_is_timed(capsys, monkeypatch):
    monkeypatch.setattr(main, "measure", None)
    monkeypatch.setattr(main.subprocess, "call", None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "glas", "nosuch"])
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert "--only has nosuch; allowed: draw-attention, " in said


def row(**values):
    shared = {"name": "a", "title": "a", "unit": "x", "goal": 5.0, "share": 0.5}
    profile = {"products": 0.6, "compiled": 0.3, "rest": 0.1}
    return shared | {"goals": {}, "profile": profile, "peer": None} | values


def test_each_missed_goal_is_told_with_what_the_products_alone_would_give():
    goals = {"peer": 4.0, "former": 1.3, "share": 0.75}
    slow = row(measured=3.0, peer=1.5, former=1.2, goals=goals)
    missed = main.missed_goals(slow)
    assert missed == ["measured", "peer", "former", "share"]
    why = main.reason(slow, missed)
    assert "would give 6.0 times, 3.0 times JAX, 2.4 times the build of 7a58c15" in why
    quick = row(measured=6.0, peer=None, former=1.3, share=0.8, goals=goals)
    assert main.missed_goals(quick) == []
    (cells,) = bench_table({"works": [slow], "former": {"commit": "7a58c15"}})
    assert cells["beside"] == (
        "1.50 times JAX (goal 4), 1.20 times 7a58c15 (goal 1.3), share 50% (goal 75%)"
    )
    (cells,) = bench_table({"works": [row(measured=6.0, peer=2.0)]})
    assert cells["beside"] == "2.00 times JAX"


def machine_record(commit, *works, **other):
    versions = {"python": "3.11.7", "torch": "2.15.0", "drawlib": "0.1.0"}
    machine = {"processor": "AMD EPYC", "cores": 2, "flops": {}}
    environment = {"commit": commit, "versions": versions}
    shared = {"threads": 1, "quick": False, "turns": 3, "date": "2026-11-30"}
    shared |= {"machine": machine, "environment": environment}
    return shared | {"former": {"commit": commit}, "works": list(works)} | other


def test_rows_that_replace_others_say_what_they_were_measured_with():
    rows = [row(name="a", measured=1.0), row(name="b", measured=2.0)]
    later = machine_record("new" * 5, row(name="b", measured=3.0), turns=5)
    found = main.joined(machine_record("old" * 5, *rows), later)
    assert found["works"][0] == rows[0] and found["environment"]["commit"] == "old" * 5
    assert [w["measured"] for w in found["works"]] == [1.0, 3.0]
    # Rows that no former build stood beside leave what the record says of it.
    old, none = {"commit": "7a58c15"}, {"commit": "7a58c15", "why": "no history"}
    for beside, kept in ((None, old), (1.1, none)):
        new = later | {"former": none, "works": [row(name="b", former=beside)]}
        mixed = main.joined(machine_record("old", *rows) | {"former": old}, new)
        assert mixed["former"] == kept
    assert found["works"][1]["run"]["turns"] == 5
    assert [r.get("run") for r in bench_table(found)] == [
        None,
        "measured 2026-11-30 at newnewn",
    ]


def test_rows_of_another_machine_or_number_of_threads_are_refused():
    old, new = machine_record("old"), machine_record("new", threads=2)
    with pytest.raises(ValueError, match="for a record of"):
        main.joined(old, new)
    with pytest.raises(ValueError, match="Xeon"):
        main.joined(old, new | {"threads": 1, "machine": old["machine"]
                                | {"processor": "Xeon"}})  # fmt: skip


def test_records_are_whole_and_none_is_from_a_quick_run():
    for path in BENCH.rglob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["schema"] == SCHEMA and not record["quick"]
        known = ROWS | {name for name, *_ in GOALS}  # memory: where the system tells it
        known |= {"threads", "page"}  # of more than one; of one
        later = {"vae", "ladder", "anneal"}  # rows that the records do not have yet
        assert ROWS - later <= {work["name"] for work in record["works"]} <= known
        assert set(record["machine"]["flops"]) == {"float32", "medium", "bf16"}
        missed = [w for w in record["works"] if w["measured"] is not None
                  and (w["measured"] < w["goal"]) == (w["unit"] == "x")]  # fmt: skip
        missed += [w for w in record["works"] if w.get("goals")
                   and main.missed_goals(w)]  # fmt: skip
        for work in missed:
            assert work.get("why"), f"{work['name']} misses its goal: say why"
