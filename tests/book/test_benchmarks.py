"""The benchmark times what it says, and its records are what the book reads."""

import json
import os
import sys
import time
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
from drawlib.results.bench import BENCH, SCHEMA, bench_records, bench_table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as main  # noqa: E402
from benchmarks import start, turns  # noqa: E402
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
from benchmarks.works import bits, spread  # noqa: E402

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
    rows = bench_table(record)
    assert rows[0]["goal"] == "5 times" and rows[-1]["measured"] == "not measured"
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
    order = []
    monkeypatch.setattr(turns, "worker", lambda n, *_: Worker(n))
    monkeypatch.setattr(turns, "step", lambda w: order.append(w.n) or (3.0 / w.n, 3.0))
    (row,) = turns.more_threads(2, turns=2)
    assert order == [1, 2] * 3  # the first of each is not measured
    assert row["measured"] == 2.0 and row["goal"] == 1.7 and "why" not in row


class Worker:
    """A process that ends when it is told to."""

    def __init__(self, n):
        self.n = n

    def communicate(self, last):
        assert last == "\n"


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


def test_records_are_whole_and_none_is_from_a_quick_run():
    for path in BENCH.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["schema"] == SCHEMA and not record["quick"]
        known = ROWS | {name for name, *_ in GOALS}  # memory: where the system tells it
        known |= {"threads", "page"}  # of more than one; of one
        later = {"vae", "ladder", "anneal"}  # rows that the records do not have yet
        assert ROWS - later <= {work["name"] for work in record["works"]} <= known
        assert set(record["machine"]["flops"]) == {"float32", "medium", "bf16"}
        missed = [w for w in record["works"] if w["measured"] is not None
                  and (w["measured"] < w["goal"]) == (w["unit"] == "x")]  # fmt: skip
        for work in missed:
            assert work.get("why"), f"{work['name']} misses its goal: say why"
