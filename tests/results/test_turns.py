"""One digit after the other: what is measured on pairs, and what the records say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split
from drawlib.draw import DRAW, DRAWConfig
from drawlib.results.turns import (
    RANGES,
    distances,
    measure_turns,
    read_turns,
    turns,
    turns_of,
)

SHAPE = (1, 6, 4)
PAIRS = {"attention": "gaussian", "image_shape": SHAPE}


def pairs(parts: bool) -> Data:
    """Six images of bits whose upper half is one part and whose lower half another."""
    drawn = torch.Generator().manual_seed(3)
    images = torch.randint(0, 2, (6, *SHAPE), generator=drawn, dtype=torch.uint8)
    halves = torch.zeros(6, 2, *SHAPE[1:], dtype=torch.uint8)
    halves[:, 0, :3], halves[:, 1, 3:] = 255, 255
    split = Split(images, parts=halves if parts else None)
    return Data("pairs", Protocol("pairs", "", image_shape=SHAPE), split, split, split)


def test_the_shares_of_known_ink():
    in_order = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    by_turns = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    blank = torch.zeros(4, 2)
    found = turns_of(torch.stack([in_order, by_turns, blank], 1))
    assert found.images == 2  # a blank image has no share
    assert found.alike[0] == pytest.approx(0.5)
    assert found.at_a_time[0] == pytest.approx(1)
    assert found.after[0] == pytest.approx((1 + 0.75) / 2)
    assert found.after[1] == pytest.approx(0.25 / 2**0.5 / 2**0.5)
    assert found.gain == pytest.approx([0.5, 0.0])


def test_an_order_is_what_a_shuffled_one_does_not_have():
    T, n = 12, 600
    ink = torch.rand(T, n, 2, generator=torch.Generator().manual_seed(0))
    chance = turns_of(ink)
    assert abs(chance.order[0]) < 4 * chance.order[1]
    assert chance.after[0] > chance.alike[0] + 10 * chance.alike[1]  # a max of sums
    # The same ink, each digit's strongest steps together: the rest is as it was.
    preference = (ink[..., 0] - ink[..., 1]).argsort(0)
    sorted_ink = ink.gather(0, preference[..., None].expand_as(ink))
    ordered = turns_of(sorted_ink)
    assert ordered.order[0] > 20 * ordered.order[1]
    assert ordered.at_a_time == pytest.approx(chance.at_a_time)
    assert ordered.shuffled[0] == pytest.approx(chance.shuffled[0], abs=0.01)


def test_a_file_of_turns_holds_what_was_measured(tmp_path):
    torch.manual_seed(1)
    model = DRAW(DRAWConfig.preset("tiny", **PAIRS))
    data, again = pairs(parts=True), torch.get_rng_state()
    measure_turns(model, data, tmp_path / "mnist-two" / "turns" / "mine-0.json")
    assert torch.equal(torch.get_rng_state(), again)
    assert read_turns(tmp_path) == {"mine-0": turns(model, data)}
    # The halves of all six lie three rows apart.
    whole, near = turns(model, data, images=4)
    assert (whole.images, whole.distance) == (4, [0, 60])
    assert near == dataclasses.replace(whole, distance=[0, 8])


def test_pairs_are_told_apart_by_the_distance_of_their_centres_of_ink():
    parts = torch.zeros(3, 2, 60, 60, dtype=torch.uint8)
    parts[:, 0, 10, 10] = 200
    parts[0, 1, 10, 12], parts[1, 1, 40, 50], parts[2, 1, 10, 23:26] = 9, 9, 9
    assert distances(parts).tolist() == pytest.approx([2, 50, 14])


def test_images_without_parts_are_refused():
    with pytest.raises(ValueError, match="images of pairs have no parts"):
        turns(DRAW(DRAWConfig.preset("tiny", **PAIRS)), pairs(parts=False))


def test_digits_that_lie_far_apart_are_drawn_one_after_the_other():
    """Chapter 11 and the page say so; of those that lie close, one window sees both."""
    found = read_turns()["draw-attention-t16-long-0"]
    whole, *by_distance = found
    assert [part.distance for part in by_distance] == [list(r) for r in RANGES[1:]]
    after = [part.after[0] for part in by_distance]
    assert after == sorted(after) and after[-1] > 0.75 > 0.7 > after[0]
    # Four fifths of what the turns gain there is gained by a single change.
    far = by_distance[-1]
    assert far.after[0] - far.alike[0] > 0.8 * far.gain[0]
    assert all(part.order[0] > 5 * part.order[1] for part in (whole, far))
    # Of all pairs: an eighth, four fifths of it, and more than half of that.
    gained = whole.after[0] - whole.alike[0]
    assert whole.gain[0] == pytest.approx(1 / 8, abs=0.005)
    assert gained == pytest.approx(0.8 * whole.gain[0], abs=0.005)
    assert 0.5 * gained < whole.order[0] < 0.6 * gained


def test_twenty_more_epochs_brought_the_order():
    """And the turns gained three quarters before, the order less than half."""
    short, long = (read_turns()[f"draw-attention-t16{row}-0"] for row in ("", "-long"))
    for before, now in zip(short[2:], long[2:], strict=True):
        apart = now.order[0] - before.order[0]
        assert apart > 4 * math.hypot(now.order[1], before.order[1])
    assert short[0].gain[0] == pytest.approx(0.75 * long[0].gain[0], abs=0.005)
    assert short[0].order[0] < 0.5 * long[0].order[0]
