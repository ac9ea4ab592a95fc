"""One digit after the other: what is measured on pairs, and what the records say."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split
from drawlib.draw import DRAW, DRAWConfig
from drawlib.results.turns import (
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
