"""The plain annealed importance sampling of the benchmark is that of the library."""

import doctest
import sys
from pathlib import Path

import pytest
import torch

from drawlib import DRAW, DRAWConfig
from drawlib.annealing import AISConfig, ais
from drawlib.fast import loop as fast
from drawlib.machine.settings import default_dtype

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import annealed, works  # noqa: E402
from benchmarks.annealed import draws, plain_ais  # noqa: E402
from benchmarks.plain import TextbookDRAW, textbook  # noqa: E402

BUDGET = AISConfig(chains=4, temperatures=6, leapfrog=2)
SIZES = torch.full((5,), 0.9, dtype=torch.float64)


@pytest.fixture
def fast_steps(monkeypatch):
    """Nothing is compiled by PyTorch."""
    monkeypatch.setattr(fast, "compiled", lambda step: step)
    torch.manual_seed(0)


def tiny() -> DRAW:
    return DRAW(DRAWConfig.preset("tiny", attention="gaussian"))


def test_chain_after_chain_on_the_textbook_equals_ais_side_by_side(fast_steps):
    with default_dtype(torch.float64):  # the textbook's copies too
        model, x = works.spread(tiny()), works.bits(3).double()
        plain = textbook(model)
        fast.accelerate(model)
        found = ais(model, x, BUDGET, steps=SIZES, seed=5)
        drawn = draws(model, 12, len(SIZES), seed=5)
        by_loop = [
            plain_ais(
                lambda noise, k=k: plain.log_weight(x[k // 4][None], noise),
                drawn.of(slice(k, k + 1)),
                BUDGET.betas(),
                SIZES,
                BUDGET.leapfrog,
            )
            for k in range(12)
        ]
    assert 0.1 < found.accepted < 0.9  # some steps are taken and some are not
    loop = torch.cat(by_loop).view(3, 4)
    torch.testing.assert_close(found.log_weights, loop, rtol=0, atol=1e-9)


@pytest.fixture
def work(fast_steps):
    return works.annealing(tiny(), 4.0, 2, AISConfig(chains=8, temperatures=3))


def test_the_loop_walks_a_chain_at_a_time_and_the_others_all_at_once(work, monkeypatch):
    met: list[int] = []

    def watch(kind, name):
        real = getattr(kind, name)

        def watched(self, x, noise):
            met.append(len(x))
            return real(self, x, noise)

        monkeypatch.setattr(kind, name, watched)

    watch(TextbookDRAW, "log_weight")
    watch(DRAW, "bound")
    seen = {}
    for name, call in work.rivals.items():
        met.clear()
        call()
        seen[name] = met.copy()
    assert seen == {  # as many gradients a chain: one at the start and two a step
        "textbook float32": [1] * 8 * 5,
        "textbook side by side": [16] * 5,
        "fast float32": [16] * 5,
    }


def test_a_time_of_the_loop_is_that_of_one_images_chains(work):
    shares = {name: works.share_of_images(work, name) for name in work.rivals}
    assert list(shares.values()) == [8, 16, 16]
    assert [len(call()) for call in work.rivals.values()] == [8, 16, 16]


def test_ais_that_computes_other_numbers_is_not_timed(fast_steps, monkeypatch):
    other = works.ais
    monkeypatch.setattr(
        works, "ais", lambda *a, steps, **k: other(*a, steps=2 * steps, **k)
    )
    with pytest.raises(AssertionError, match="fast float32 is .* off textbook"):
        works.annealing(tiny(), 4.0, 2, AISConfig(chains=8, temperatures=5))


def test_the_examples_of_its_docstrings_run():
    found = doctest.testmod(annealed)
    assert found.attempted > 4 and found.failed == 0
