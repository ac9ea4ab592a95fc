"""Exact models of words: sums over all words, a brute-force Kneser–Ney, the ends."""

import itertools
import math

import pytest
import torch

from drawlib import letters
from drawlib.data.sets import load_data
from drawlib.data.words import codes_of, images_of
from drawlib.letters import KneserNey, LetterLSTM, places
from drawlib.results.words import exact_rows, measure_exact
from drawlib.training.schedule import TrainConfig

WORDS = ["ANNA", "HANNAH", "ANN", "NAN", "HANA", "NANA", "ANNA"]
SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ$"


def images(*words):
    return torch.from_numpy(images_of(codes_of(words))).double()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_sums_to_one_after_every_history_seen_or_not(order):
    model = KneserNey(WORDS, order)
    for history in ("^", "^A", "^AN", "^HANN", "^XQ", "^NAX", "^ANNA"):
        total = sum(model.p(history, sign) for sign in SIGNS)
        assert total == pytest.approx(1, abs=1e-12), history


def test_kneser_ney_is_its_definition_for_two_letters():
    """By sets and lists alone: counts of pairs, and of what a letter comes after."""
    model = KneserNey(WORDS, 2)
    pairs = [p for w in WORDS for p in itertools.pairwise("^" + w + "$")]
    kinds = set(pairs)

    def discount(counts):
        once, twice = list(counts).count(1), list(counts).count(2)
        return min(max(once / (once + 2 * twice), 0.1), 0.9) if once else 0.5

    after = {s: len({a for a, b in kinds if b == s}) for s in SIGNS}
    D_1 = discount([n for n in after.values() if n])
    D_2 = discount([pairs.count(p) for p in kinds])
    for h, s in itertools.product("^ANH", SIGNS):
        seen = sum(n > 0 for n in after.values())
        low = max(after[s] - D_1, 0) / len(kinds) + D_1 * seen / len(kinds) / 27
        total = sum(a == h for a, _ in pairs)
        follow = sum(a == h for a, _ in kinds)
        p = max(pairs.count((h, s)) - D_2, 0) / total + D_2 * follow / total * low
        assert model.p(h, s) == pytest.approx(p, abs=1e-12), (h, s)


def test_kneser_ney_prefers_words_like_its_own_and_no_order_below_one():
    model = KneserNey(WORDS, 3)
    assert model.nats("HANNA") < model.nats("ANNHA") < model.nats("QXZWV")
    with pytest.raises(ValueError, match="order is 0; allowed: 1 or more"):
        KneserNey(WORDS, 0)


@pytest.mark.parametrize("make", [lambda: KneserNey(["AB", "BA"], 2), LetterLSTM])
def test_the_probabilities_of_all_short_words_sum_to_one(make, monkeypatch):
    """With three signs and words of at most three letters, every word is counted."""
    monkeypatch.setattr(letters, "SIGNS", 3)
    monkeypatch.setattr(letters, "LONGEST", 3)
    torch.manual_seed(0)
    model, total = make(), 0.0
    for n in range(4):
        for word in itertools.product(range(2), repeat=n):
            if isinstance(model, KneserNey):
                nats = model.nats("".join("AB"[k] for k in word))
            else:
                row = torch.tensor([*word, *[2] * (3 - n)])
                x = torch.nn.functional.one_hot(row, 3).mT[None, :, None].float()
                nats = model(x).item()
            total += math.exp(-nats)
    assert total == pytest.approx(1, abs=1e-5)


def test_what_stands_behind_the_end_costs_the_lstm_nothing():
    torch.manual_seed(0)
    model, word = LetterLSTM(8).double(), images("LEE")
    other = word.clone()
    other[0, :, 0, 5] = 0
    other[0, 3, 0, 5] = 1
    assert model(word).item() == model(other).item()
    assert model(images("LEA")).item() != model(word).item()


def test_places_are_frequencies_place_by_place():
    train = images("AB", "AC", "BC")
    p = [(1 + 2) / 30, (1 + 2) / 30] + [(1 + 3) / 30] * 11  # A, C, and eleven ends
    want = -sum(map(math.log, p))
    assert places(train, images("AC")).item() == pytest.approx(want, abs=1e-5)


def test_the_lstm_reads_the_test_words_where_and_as_it_was_trained(tmp_path):
    """In another type here; where there is a GPU, on it."""
    text = "\n".join(a + b for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "AEIOU")
    (tmp_path / "words.txt").write_text(text)
    data = load_data(f"words:{tmp_path / 'words.txt'}")
    config = TrainConfig(epochs=1, batch_size=50)
    torch.set_default_dtype(torch.float64)
    try:
        path = measure_exact(data, tmp_path, config, orders=(), hidden=4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert math.isfinite(exact_rows(path)[-1].nats)
