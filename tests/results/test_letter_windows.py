"""Where the window on L stands while a kind of letter is written: Eq. (W1)."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.testing import assert_close

from drawlib import GLAS, GLASConfig, load_data
from drawlib.data.words import codes_of, images_of
from drawlib.results import letter_windows as lw
from drawlib.results.letter_windows import away, kinds_of, written

WORDS = {"image_shape": (27, 1, 13), "likelihood": "categorical"}


def images(*words: str) -> torch.Tensor:
    return torch.from_numpy(images_of(codes_of(words))).float()


def places(mask: torch.Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in mask]


def test_kinds_are_vowels_consonants_the_last_two_letters_and_both_of_a_double():
    kinds = kinds_of(images("HALLEE", "SMITH", "AA", "CHRISTENBERRY"))
    assert places(kinds["vowels"]) == [[1, 4, 5], [2], [0, 1], [3, 6, 9]]
    assert places(kinds["consonants"])[1] == [0, 1, 3, 4]
    assert places(kinds["endings"]) == [[4, 5], [3, 4], [0, 1], [11, 12]]
    # The ends behind a word are equal neighbours, and no letters.
    assert places(kinds["double letters"]) == [[2, 3, 4, 5], [], [0, 1], [10, 11]]


def test_what_is_written_is_the_rise_of_the_right_sign_and_never_a_fall():
    torch.manual_seed(0)
    model = GLAS(GLASConfig.preset("tiny", **WORDS))
    x = images("LEE", "SMITH")
    seen = model.trace(x, generator=torch.Generator().manual_seed(1))
    start = model.mean(model.start(2).canvas).detach()
    canvases = torch.cat([start[None], seen.canvases])
    right = (canvases * x).sum(2)[:, :, 0]  # the probability of the right sign
    assert_close(written(seen), right.diff(dim=0).clamp(min=0))
    assert (right.diff(dim=0) < 0).any()


def test_eq_w1_is_zero_in_the_mean_over_all_ways_to_deal_the_windows_out():
    g = torch.Generator().manual_seed(2)
    amount = torch.rand(3, 4, generator=g).double()
    middle = torch.randn(3, 4, 2, generator=g).double()
    found = [
        away(amount, middle[:, list(order)])[0]
        for order in itertools.permutations(range(4))
    ]
    assert_close(torch.stack(found).mean(0), torch.zeros(2).double())
    assert away(amount, middle)[0].abs().max() > 0.05


def test_eq_w1_takes_out_that_a_kind_is_written_early():
    """All windows of a step alike: however a kind is spread over steps, D is 0."""
    amount = torch.tensor([[5.0, 3.0, 4.0], [0.1, 0.2, 0.0]]).double()
    middle = torch.tensor([[7.0, 1.0], [2.0, 3.0]]).double()[:, None].expand(2, 3, 2)
    assert_close(away(amount, middle)[0], torch.zeros(2).double())


def test_eq_w1_finds_a_window_that_moves_for_vowels():
    g = torch.Generator().manual_seed(3)
    amount = torch.rand(8, 500, generator=g).double()
    middle = torch.randn(8, 500, 2, generator=g).double()
    middle[..., 0] += 3 * amount
    found, error = away(amount, middle)
    # E a (w − w̄) / E a = 3 var(a) / E a = 3 / 12 / 0.5
    assert abs(found[0] - 0.5) < 4 * error[0] and abs(found[1]) < 4 * error[1]
    assert found[0] > 10 * error[0]


def test_the_error_of_eq_w1_is_how_far_draws_of_words_scatter():
    g, found, errors = torch.Generator().manual_seed(4), [], []
    for _ in range(300):
        amount = 3 * torch.rand(1, 80, generator=g).double() ** 3 * torch.ones(2, 1)
        middle = 0.2 * torch.randn(2, 80, 2, generator=g).double()
        middle[..., 0] += 4 * amount
        d, error = away(amount, middle)
        found.append(d)
        errors.append(error)
    scatter = torch.stack(found).std(0)
    assert_close(torch.stack(errors).mean(0), scatter, rtol=0.15, atol=0)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Words of a double letter and a vowel as a data set."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    path.write_text("\n".join(a + a + b for a in letters for b in "AEIOU"))
    return load_data(f"words:{path}")


def test_a_file_of_windows_holds_what_was_measured(words, tmp_path):
    torch.manual_seed(1)
    model = GLAS(GLASConfig.preset("tiny", **WORDS))
    again = torch.get_rng_state()
    found = lw.read_windows(lw.measure_windows(model, words, tmp_path))
    assert torch.equal(torch.get_rng_state(), again)
    windows, direct = found["trained"], lw.letter_windows(model, words)
    for kind, d in direct.away.items():
        assert windows.away[kind] == pytest.approx(d)
        assert windows.shuffled[kind] == pytest.approx(direct.shuffled[kind])
        assert found["untrained"].away[kind] != pytest.approx(d)
    assert windows.words == len(words.test) and len(windows.path) == 4
    for share in windows.share.values():
        assert sum(share) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "images have shape"),
        ({**WORDS, "latent_attention": "none"}, "latent_attention is 'none'"),
    ],
)
def test_what_has_no_window_over_words_is_refused(words, changes, told):
    with pytest.raises(ValueError, match=told):
        lw.letter_windows(GLAS(GLASConfig.preset("tiny", **changes)), words)
