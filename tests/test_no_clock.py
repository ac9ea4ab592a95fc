"""No test asserts a time: a busy machine fails none. Speed is for the benchmarks."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent
CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")


def clocks(source: str) -> list[str]:
    """Where a module reads a clock: ``time.time``, ``from time import monotonic``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "time":
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr == "getrusage":
            found.append(f"{node.lineno}: getrusage")
        plain = [name.removesuffix("_ns") for name in names]
        found += [f"{node.lineno}: {name}" for name in plain if name in CLOCKS]
    return found


@pytest.mark.parametrize("line", ["time.time()", "from time import perf_counter_ns"])
def test_a_clock_is_found(line):
    assert clocks(f"import time\n{line}\ntime.sleep(1)") == [
        "2: " + ("time" if "(" in line else "perf_counter")
    ]


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem
)
def test_no_test_reads_a_clock(path):
    assert clocks(path.read_text(encoding="utf-8")) == []


def test_hypothesis_has_no_deadline():
    assert hypothesis.settings().deadline is None
    checks = hypothesis.settings().suppress_health_check
    assert hypothesis.HealthCheck.too_slow in checks


def test_what_ends_a_hanging_test_leaves_a_busy_machine_time():
    text = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["tool"]["pytest"]["ini_options"]["timeout"] >= 1200
