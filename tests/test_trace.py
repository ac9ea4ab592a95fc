"""What each step wrote, and on whose part of the image."""

from __future__ import annotations

import pytest
import torch

from drawlib.draw import DRAW, DRAWConfig
from drawlib.stops import elbo_at_stops
from drawlib.trace import (
    Trace,
    one_after_the_other,
    one_at_a_time,
    written_ink,
)


def drawing(canvases: torch.Tensor, start: float = 0.0) -> Trace:
    """A trace of the means after each step, (T, 1, 1, height, width)."""
    x = torch.zeros(canvases.shape[1:])
    before = torch.cat([torch.full_like(canvases[:1], start), canvases[:-1]])
    kl = torch.zeros(1, len(canvases))
    return Trace(x, None, None, None, None, x - before, canvases, kl)


# Four pixels: of the first part, of both, of the second, of none.
PARTS = torch.tensor([[[[255, 200, 127, 0]], [[0, 128, 255, 127]]]]).byte()


def test_ink_is_what_a_step_added_and_belongs_to_the_one_part_that_is_there():
    means = torch.tensor([[0.5, 0.9, 0.0, 0.7], [0.2, 1.0, 0.75, 0.9]])
    ink = written_ink(drawing(means.view(2, 1, 1, 1, 4)), PARTS)
    # Ink taken away, on both parts, or beside them, is nobody's.
    assert torch.allclose(ink, torch.tensor([[[0.5, 0.0]], [[0.0, 0.75]]]))
    assert one_at_a_time(ink).item() == pytest.approx(1.0)


def test_the_first_step_adds_to_the_canvas_that_it_finds():
    means = torch.full((1, 1, 1, 1, 4), 0.6)
    ink = written_ink(drawing(means, start=0.4), PARTS)
    assert torch.allclose(ink, torch.tensor([[[0.2, 0.2]]]))
    assert one_at_a_time(ink).item() == pytest.approx(0.5)


def test_steps_count_by_their_ink():
    ink = torch.tensor([[[3.0, 1.0]], [[0.0, 4.0]], [[0.0, 0.0]]])
    assert one_at_a_time(ink).item() == pytest.approx(7 / 8)
    assert one_at_a_time(torch.zeros(2, 1, 2)).isnan().all()


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ([3, 1, 0, 0], [0, 0, 2, 2], 1.0),  # one is finished, then the other is begun
        ([0, 0, 5, 1], [4, 0, 0, 0], 1.0),  # whichever comes first
        ([2, 0, 2, 0], [0, 2, 0, 2], 6 / 8),  # by turns: one change leaves a quarter
        ([1, 1, 1, 1], [1, 1, 1, 1], 4 / 8),  # both at once
        ([4, 4, 4, 4], [1, 1, 1, 1], 16 / 20),  # no change helps
        ([9, 0, 0, 9], [0, 1, 0, 0], 18 / 19),  # nor does one here
    ],
)
def test_one_after_the_other_is_the_ink_that_fits_one_change(first, second, share):
    ink = torch.tensor([first, second]).T[:, None].float()
    (found,) = one_after_the_other(ink)
    assert found.item() == pytest.approx(share)
    # By hand: every moment, every pair of parts before and after it.
    best = max(
        ink[:moment, 0, k].sum() + ink[moment:, 0, other].sum()
        for moment in range(5)
        for k in range(2)
        for other in range(2)
    )
    assert found.item() == pytest.approx((best / ink.sum()).item())


def test_one_after_the_other_lies_between_all_steps_alike_and_one_at_a_time():
    ink = torch.rand(9, 200, 2, generator=torch.Generator().manual_seed(0)) ** 3
    once = one_after_the_other(ink)
    assert (one_at_a_time(ink.sum(0, keepdim=True)) <= once + 1e-6).all()
    assert (once <= one_at_a_time(ink) + 1e-6).all()
    assert one_after_the_other(torch.zeros(2, 1, 2)).isnan().all()


def test_a_trace_tells_what_it_would_be_worth_to_stop_at_each_step():
    model = DRAW(DRAWConfig.preset("tiny", stop="uniform", image_shape=(1, 6, 4)))
    x = torch.randint(0, 2, (3, 1, 6, 4)).float()
    noise = model.noise(3, torch.Generator().manual_seed(1))
    seen = model.trace(x, noise=noise)
    with torch.no_grad():
        log_likelihood, kl = model.at_every_step(x, noise)
        bound = model.bound(x, noise).elbo
    assert torch.equal(seen.log_likelihood, log_likelihood)
    assert torch.allclose(elbo_at_stops(log_likelihood, kl).mean(1), bound, atol=1e-5)


def test_the_ink_of_a_model_adds_up_to_what_its_canvas_gained():
    torch.manual_seed(0)
    model = DRAW(DRAWConfig.preset("tiny", attention="gaussian", image_shape=(1, 6, 4)))
    x = torch.randint(0, 2, (3, 1, 6, 4)).float()
    seen = model.trace(x, generator=torch.Generator().manual_seed(1))
    halves = torch.zeros(3, 2, 6, 4, dtype=torch.uint8)
    halves[:, 0, :3], halves[:, 1, 3:] = 255, 255
    start = model.mean(model.start(3).canvas)[None]
    gained = torch.cat([start, seen.canvases]).diff(dim=0).clamp(min=0)
    ink = written_ink(seen, halves)
    assert torch.allclose(ink.sum(2), gained.sum((2, 3, 4)), atol=1e-5)
    share = one_at_a_time(ink)
    assert ((0.5 <= share) & (share <= 1)).all()
