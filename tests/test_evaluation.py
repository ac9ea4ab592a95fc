"""Bounds against models whose log p(x) is known, and their standard errors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_models import PPCA, OneLatentBernoulli
from torch import nn
from toy_runs import TOY, toy_data, toy_model

from drawlib import evaluation
from drawlib.annealing import AISConfig, ais
from drawlib.bound import Bound, LatentModel
from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split
from drawlib.evaluation import (
    check_seed,
    estimate,
    evaluate,
    mean_and_error,
    subset_errors,
)
from drawlib.vae import VAE, VAEConfig


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bit_data(n: int, shape: tuple[int, int, int]) -> Data:
    """n random binary images in every split, which says so itself."""
    images = torch.randint(0, 2, (n, *shape), generator=generator(5)).to(torch.uint8)
    split = Split(images)
    return Data("bits", Protocol("bits", "Bits.", shape), split, split, split)


class Known(LatentModel):
    """Terms that are functions of the image alone, or of the noise where asked."""

    def __init__(self, shape=(1, 2, 2), spread: float = 0.0) -> None:
        super().__init__()
        self.image_shape, self.spread = shape, spread
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.batches: list[int] = []

    def noise_shapes(self, n):
        return ((n, 1),)

    def bound(self, x, noise):
        self.batches.append(len(x))
        s = x.flatten(1).sum(1)
        kl = torch.stack([0.5 * s, torch.ones_like(s)], 1)
        return Bound(-(s**2), kl, -3 * s + self.spread * noise[:, 0])


# Exact models


def test_a_model_with_a_likelihood_of_its_own_is_measured_on_any_finite_values():
    """As chapters 3 and 17 do; a likelihood of the course has its images in [0, 1]."""
    torch.manual_seed(0)
    model = PPCA()
    x = 5 * torch.randn(3, *model.image_shape, generator=generator())
    assert x.min() < 0 and x.max() > 1
    found = estimate(model, x, 50, generator())
    assert found["log_iw"].isfinite().all()
    assert ais(model, x, AISConfig(2, 5)).log_p.isfinite().all()
    x[1, 0, 0, 0] = math.nan
    for measure in (lambda: estimate(model, x, 5, generator()), lambda: ais(model, x)):
        with pytest.raises(ValueError, match="allowed: finite values$"):
            measure()
    vae = VAE(VAEConfig.preset("tiny"))
    with pytest.raises(ValueError, match=r"finite values in \[0, 1\]"):
        estimate(vae, torch.full((2, 1, 28, 28), 2.0), 5, generator())
    with pytest.raises(ValueError, match="other values than Bernoulli has"):
        estimate(vae, torch.full((2, 1, 28, 28), 0.5), 5, generator())


def test_iw_bound_is_log_p_for_any_k_where_q_is_the_posterior():
    model, data = PPCA(), bit_data(30, (1, 2, 3))
    x = data.test.images.double()
    for k in (1, 7):
        found = estimate(model, x, k, generator())
        torch.testing.assert_close(
            found["log_iw"], model.log_prob(x).detach(), rtol=1e-10, atol=1e-10
        )
        torch.testing.assert_close(found["ess"], torch.full_like(found["ess"], k))
    result = evaluate(model, data, "test", samples=5)
    assert result.neg_iw == pytest.approx(-model.log_prob(x).mean().item(), abs=1e-10)


def test_elbo_falls_short_of_log_p_by_the_kl_to_the_posterior():
    model = PPCA(wrong=True)
    x = bit_data(4, (1, 2, 3)).test.images.double()
    k = 20_000
    found = estimate(model, x, k, generator(), chunk=20_000)
    exact = (-model.log_prob(x) + model.gap(x)).detach()
    one = model.bound(x.repeat_interleave(2000, 0), model.noise(8000, generator(1)))
    se = one.elbo.view(4, 2000).std(1).detach() / math.sqrt(k)
    neg_elbo = found["reconstruction"] + found["kl"].sum(1)
    assert (((neg_elbo - exact) / se).abs() < 4.5).all()
    assert (model.gap(x) > 30 * se).all()  # so that a missing gap would be seen


def test_iw_bound_reaches_log_p_of_the_linear_gaussian_model():
    model = PPCA(wrong=True)
    x = bit_data(4, (1, 2, 3)).test.images.double()
    found = estimate(model, x, 20_000, generator(), chunk=20_000)
    gap = model.log_prob(x).detach() - found["log_iw"]
    assert (gap.abs() < 0.05).all()
    assert (model.gap(x) > 0.2).all()


def test_iw_bound_reaches_the_quadrature_of_a_bernoulli_model():
    model = OneLatentBernoulli()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4).view(-1, 1, 2, 2)
    exact = model.log_prob_by_quadrature(x).detach()
    assert exact.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    found = estimate(model, x, 10_000, generator(), chunk=16_000)
    assert (found["log_iw"] - exact).abs().max() < 0.05
    # and the ELBO lies below it, on every image
    assert (-found["reconstruction"] - found["kl"].sum(1) < exact).all()


def test_iw_bound_at_k_1_has_the_mean_of_the_elbo_and_grows_with_k():
    model = OneLatentBernoulli()
    image = torch.tensor([1.0, 0.0, 1.0, 1.0]).double().view(1, 1, 2, 2)
    exact = model.log_prob_by_quadrature(image).item()
    many, mean, se = image.expand(4000, 1, 2, 2), {}, {}
    for k in (1, 2, 4, 16):
        values = estimate(model, many, k, generator(k), chunk=16_000)["log_iw"]
        mean[k], se[k] = mean_and_error(values)
    found = estimate(model, many, 1, generator(99), chunk=16_000)
    elbo, elbo_se = mean_and_error(-found["reconstruction"] - found["kl"].sum(1))
    assert abs(mean[1] - elbo) < 4.5 * math.hypot(se[1], elbo_se)
    for few, more in ((1, 2), (2, 4), (4, 16)):
        assert mean[more] - mean[few] > 2 * math.hypot(se[few], se[more])
    assert mean[16] < exact + 4.5 * se[16]


# What is in memory


@pytest.mark.parametrize(("n", "k", "chunk"), [(7, 100, 50), (5, 1, 3), (3, 17, 6)])
def test_memory_is_bounded_by_the_chunk_not_by_k(n, k, chunk):
    model = Known()
    evaluate(model, bit_data(n, (1, 2, 2)), "test", samples=k, chunk=chunk)
    assert max(model.batches) <= chunk
    assert sum(model.batches) == n * k  # and every pair is seen once


def test_a_batch_of_images_larger_than_the_chunk_takes_one_sample_at_a_time():
    model = Known()
    estimate(model, torch.zeros(10, 1, 2, 2), 4, generator(), chunk=3)
    assert model.batches == [10] * 4


# Means and errors


def test_means_and_standard_errors_against_a_hand_computation():
    data = bit_data(7, (1, 2, 2))
    result = evaluate(Known(), data, "valid", samples=3, chunk=6)
    s = data.valid.images.numpy().reshape(7, -1).sum(1).astype(float)

    def pair(values):
        return values.mean(), values.std(ddof=1) / np.sqrt(7)

    for name, values in {
        "neg_elbo": s**2 + 0.5 * s + 1,
        "reconstruction": s**2,
        "kl": 0.5 * s + 1,
        "neg_iw": 3 * s,  # the same weight at every sample
    }.items():
        found = getattr(result, name), getattr(result, f"{name}_se")
        assert found == pytest.approx(pair(values), rel=1e-12), name
    assert result.kl_groups == pytest.approx((0.5 * s.mean(), 1.0))
    assert result.ess == pytest.approx(3.0)
    assert (result.split, result.images, result.samples) == ("valid", 7, 3)


def test_the_mean_weights_images_not_batches():
    # 7 images in blocks of 3, 3 and 1: a mean of batch means would differ.
    data = bit_data(7, (1, 2, 2))
    blocks = evaluate(Known(), data, "test", samples=1, chunk=3)
    whole = evaluate(Known(), data, "test", samples=1, chunk=100)
    s = data.test.images.flatten(1).sum(1).double()
    blockwise = torch.stack([b.square().mean() for b in s.split(3)]).mean()
    assert blocks.reconstruction == pytest.approx(whole.reconstruction, rel=1e-12)
    assert abs(blocks.reconstruction - blockwise.item()) > 1e-3


def test_one_image_has_no_standard_error():
    mean, error = mean_and_error(torch.tensor([2.0]))
    assert mean == 2.0 and math.isnan(error)


def test_ess_lies_between_1_and_k():
    data = bit_data(20, (1, 2, 2))
    for spread, low, high in ((0.0, 8 - 1e-9, 8 + 1e-9), (1.0, 2, 7), (300.0, 1, 1.2)):
        result = evaluate(Known(spread=spread), data, "test", samples=8)
        assert 1 - 1e-9 <= low <= result.ess <= high


def test_ess_against_its_definition():
    model, x = Known(spread=1.0), torch.ones(1, 1, 2, 2).double()
    found = estimate(model, x, 6, generator(3))["ess"]
    w = (-12 + model.noise(6, generator(3))[:, 0]).exp()
    torch.testing.assert_close(found, (w.sum() ** 2 / (w**2).sum()).view(1))


def test_weights_far_beyond_floats_do_not_overflow():
    model, x = Known(spread=1e4), torch.ones(2, 1, 2, 2).double()
    found = estimate(model, x, 50, generator(), chunk=20)
    assert all(torch.isfinite(value).all() for value in found.values())


# Subsets


class TwoBounds(Known):
    """−ELBO as `Known`; −log w lies below it by a gap that varies little."""

    def bound(self, x, noise):
        known = super().bound(x, noise)
        gap = 2 + 0.1 * x.flatten(1)[:, 0]
        return Bound(known.log_likelihood, known.kl, known.elbo + gap)


def classes(n: int, seed: int = 0) -> Data:
    """Images of three classes, of which the higher has more pixels set."""
    labels = torch.arange(n) % 3
    share = (0.2 + 0.3 * labels.double()).view(-1, 1, 1, 1).expand(n, 1, 2, 2)
    images = torch.bernoulli(share, generator=generator(seed)).to(torch.uint8)
    split = Split(images, labels)
    return Data("bits", Protocol("bits", "Bits.", (1, 2, 2)), split, split, split)


def test_the_bound_of_a_split_comes_from_the_difference_not_from_a_lucky_subset():
    model, data = TwoBounds(), classes(600)
    exact = evaluate(model, data, samples=2)
    luck, missed = [], []
    for seed in range(8):
        found = evaluate(model, data, samples=2, images=30, seed=seed)
        assert found.whole_neg_elbo == pytest.approx(exact.neg_elbo, rel=1e-12)
        luck.append(abs(found.neg_iw - exact.neg_iw))
        missed.append(abs(found.whole_neg_iw - exact.neg_iw))
        assert missed[-1] < 5 * found.whole_neg_iw_split_se
        assert found.whole_neg_iw_split_se < found.neg_iw_se / 10
    assert max(missed) < 0.05 < 0.3 < max(luck)


def test_two_weights_are_averaged_as_weights():
    """log p̂_2 = log ½ (w_1 + w_2), for weights that the noise names."""
    model, x = Known(spread=1.5), torch.ones(3, 1, 2, 2)
    e = model.noise(6, generator(3)).view(3, 2).double()
    found = evaluation.estimate(model, x, 2, generator(3))
    right = torch.logsumexp(-12 + 1.5 * e, 1) - math.log(2)
    torch.testing.assert_close(found["log_iw"], right)


def test_more_samples_never_worsen_the_weighted_bound_of_known_weights():
    """Burda et al., theorem 1, for log weights with a standard deviation of 1.5."""
    model, data = Known(spread=1.5), bit_data(400, (1, 2, 2))
    one, many = (evaluate(model, data, samples=K).neg_iw for K in (1, 40))
    # A log-normal weight loses half of the variance of its logarithm.
    assert one - many == pytest.approx(1.5**2 / 2, abs=0.3)


def test_each_split_is_evaluated_on_its_own_images():
    """Each image of a split has as many pixels set as the split says: 1, 2 or 3."""
    splits = [
        Split((torch.arange(4) < n).to(torch.uint8).view(1, 1, 2, 2).repeat(8, 1, 1, 1))
        for n in (1, 2, 3)
    ]
    data = Data("bits", Protocol("bits", "Bits.", (1, 2, 2)), *splits)
    for n, name in zip((1, 2, 3), ("train", "valid", "test"), strict=True):
        found = evaluate(Known(), data, name, samples=1)
        assert found.reconstruction == pytest.approx(n**2)
        assert found.images == 8


def test_every_image_of_the_test_set_counts_once():
    """A test set whose halves differ, of another size than the training set."""
    train = Split(torch.zeros(20, 1, 2, 2, dtype=torch.uint8))
    test = Split(
        (torch.arange(12) // 6).to(torch.uint8).view(12, 1, 1, 1).repeat(1, 1, 2, 2)
    )
    data = Data("bits", Protocol("bits", "Bits.", (1, 2, 2)), train, train, test)
    found = evaluate(Known(), data, samples=1)
    assert found.images == 12
    assert found.reconstruction == pytest.approx(8)


def test_a_subset_weighted_has_the_split_inside_its_error():
    """z-scores over many subsets have a standard deviation of one."""
    g = generator(1)
    labels = torch.arange(1000) % 5
    elbo = 20.0 * labels + 8 * torch.randn(1000, generator=g).double()
    iw = elbo - 3 - 0.1 * labels - torch.rand(1000, generator=g).double()
    scores = []
    for _ in range(400):
        chosen = torch.cat(
            [h[torch.randperm(200, generator=g)[:40]] for h in by_class(labels)]
        )
        got = evaluation.whole_split(
            elbo, elbo[chosen], iw[chosen], labels[chosen], 0.0
        )
        off = got["whole_neg_iw"] - iw.mean().item()
        scores.append(off / got["whole_neg_iw_split_se"])
    assert 0.9 < torch.tensor(scores).std() < 1.1


def by_class(labels):
    return [(labels == h).nonzero().flatten() for h in labels.unique()]


def test_the_error_of_z_in_the_bound_of_all_images_is_part_of_both_errors():
    elbo = torch.linspace(80, 100, 50).double()
    quiet = evaluation.whole_split(elbo, elbo[:20], elbo[:20] - 3, None, 0.0)
    noisy = evaluation.whole_split(elbo, elbo[:20], elbo[:20] - 3, None, 8.0)
    assert quiet["whole_neg_iw_split_se"] == pytest.approx(0, abs=1e-6)
    assert noisy["whole_neg_iw_split_se"] == pytest.approx(0.4)
    assert noisy["whole_neg_iw_se"] == pytest.approx(mean_and_error(elbo)[1])


def test_a_stratified_subset_has_the_errors_of_stratified_sampling():
    """Against many splits drawn from many images, and many subsets of one split."""
    g = generator(2)

    def draw(n):
        kind = torch.randint(4, (n,), generator=g)
        return kind, 10.0 * kind + 3 * torch.randn(n, generator=g).double()

    def subset(kind, n):
        parts = [h[torch.randperm(len(h), generator=g)] for h in by_class(kind)]
        return torch.cat([h[: round(n * len(h) / len(kind))] for h in parts])

    kind, values = draw(400)
    chosen = [subset(kind, 100) for _ in range(600)]
    spread = torch.stack([values[c].mean() for c in chosen]).std().item()
    stated = [subset_errors(values[c], kind[c], 400) for c in chosen]
    assert np.mean([e[1] for e in stated]) == pytest.approx(spread, rel=0.12)
    plain = np.mean([mean_and_error(values[c])[1] for c in chosen])
    assert plain > 3 * spread

    means, stated = [], []
    for _ in range(400):
        kind, values = draw(400)
        c = subset(kind, 100)
        means.append(values[c].mean())
        stated.append(subset_errors(values[c], kind[c], 400)[0])
    assert np.mean(stated) == pytest.approx(torch.stack(means).std().item(), rel=0.12)


def test_a_subset_states_stratified_errors_and_a_whole_split_plain_ones():
    model, data = Known(), classes(60)
    part = evaluate(model, data, samples=1, images=30)
    whole = evaluate(model, data, samples=1)
    s = data.test.images.flatten(1).sum(1).double()
    assert whole.reconstruction_se == pytest.approx(mean_and_error(s**2)[1], rel=1e-12)
    same = evaluate(model, replace(data, test=Split(data.test.images)), samples=1)
    assert same.neg_elbo_se == whole.neg_elbo_se
    # Half of each class: within the classes alone there is less to vary.
    assert part.neg_elbo_se < 0.95 * math.sqrt(2) * whole.neg_elbo_se


def test_classes_with_one_image_go_with_their_neighbours():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    lonely = subset_errors(values, torch.tensor([0, 0, 1, 2]), 100)
    assert lonely == subset_errors(values, None, 100)
    assert all(map(math.isnan, subset_errors(values[:1], None, 100)))


@pytest.mark.parametrize(
    "how", [{"samples": 1, "images": 5}, {"samples": 3}, {"samples": 3, "images": 20}]
)
def test_only_a_weighted_subset_asks_for_the_whole_split(how):
    model, data = Known(), toy_data()
    model.image_shape = (1, 6, 6)
    found = evaluate(model, data, "test", **how)
    assert found.whole_neg_iw is None and "split" not in str(found)
    assert not any(key.startswith("whole") for key in found.to_dict())
    assert sum(model.batches) == found.images * found.samples
    saved = evaluate(model, data, "test", samples=3, images=5, whole=False)
    assert saved.whole_neg_iw is None
    asked = evaluate(model, data, "test", samples=3, images=5)
    assert "for this split" in str(asked) and asked.neg_iw == saved.neg_iw


# Reproducible, and without traces


def test_the_same_seed_gives_the_same_number_twice():
    model, data = toy_model(), toy_data()
    results = [evaluate(model, data, "train", samples=3, images=11) for _ in range(2)]
    assert results[0] == results[1]
    other = evaluate(model, data, "train", samples=3, images=11, seed=1)
    assert other.neg_elbo != results[0].neg_elbo


def test_evaluation_leaves_the_mode_of_the_model_alone():
    data = toy_data()
    for training in (True, False):
        model = toy_model().train(training)
        evaluate(model, data, "test", samples=1)
        assert model.training is training
    wrong = toy_data(side=5)
    model = toy_model().train()
    with pytest.raises(ValueError):
        evaluate(model, wrong, "test", samples=1)
    assert model.training


def test_a_subset_is_stratified_by_class():
    data, seen = toy_data(other=40), []

    class Watch(Data):
        def binarise(self, images, generator=None, *, split="train"):
            seen.append(images)
            return super().binarise(images, generator, split=split)

    parts = {f: getattr(data, f) for f in ("name", "protocol", "train", "valid")}
    watch = Watch(**parts, test=data.test)
    assert evaluate(toy_model(), watch, "test", samples=1, images=10).images == 10
    dark_first = sum(int(image.flatten()[0]) for image in torch.cat(seen))
    assert dark_first == 5  # half of them of each class


# Errors


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"samples": 0}, r"samples \(K\) is 0; allowed: 1 or more"),
        ({"samples": -3}, r"samples \(K\) is -3; allowed: 1 or more"),
        ({"samples": 1, "split": "tset"}, "'tset' is unknown, allowed: train, valid"),
        ({"samples": 1, "images": 21}, "subset of 21 asked for, allowed: 1 to 20"),
        ({"samples": 1, "images": 0}, "subset of 0 asked for, allowed: 1 to 20"),
        ({"samples": 1, "images": 5, "seed": -1}, "seed is -1; allowed: 0 to"),
        ({"samples": 1, "seed": 2**70}, "seed is 1180591620717411303424; allowed"),
        ({"samples": 1, "seed": 2**32}, "seed is 4294967296; allowed: 0 to"),
    ],
)
def test_bad_requests_get_one_line(how, told):
    with pytest.raises(ValueError, match=told) as caught:
        evaluate(toy_model(), toy_data(), how.pop("split", "test"), **how)
    assert "\n" not in str(caught.value)


def test_a_seed_beyond_32_bits_would_draw_what_a_smaller_one_draws():
    """On the CPU; so ``check_seed`` refuses it."""
    draws = [
        toy_model().noise(4, torch.Generator().manual_seed(seed))
        for seed in (0, 2**32 - 1, 2**32)
    ]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert check_seed(2**32 - 1) == 2**32 - 1
    with pytest.raises(ValueError, match="seed is 4294967296; allowed"):
        check_seed(2**32)


def test_an_empty_split_and_images_of_another_shape_get_one_line():
    data = toy_data()
    empty = replace(data, test=data.test.subset(torch.arange(0)))
    with pytest.raises(ValueError, match="the test split is empty"):
        evaluate(toy_model(), empty, "test", samples=1)
    with pytest.raises(ValueError, match=r"allowed: \(batch, 1, 6, 6\)"):
        evaluate(toy_model(), toy_data(side=5), "test", samples=1)


def test_a_likelihood_that_is_not_the_protocols_is_refused():
    data = toy_data()
    grey = replace(data.protocol, likelihood="discretised-logistic")
    told = "likelihood is 'bernoulli'; allowed on mnist-dynamic: 'discretised-logistic'"
    with pytest.raises(ValueError, match=told) as caught:
        evaluate(toy_model(), replace(data, protocol=grey), "test", samples=1)
    assert "\n" not in str(caught.value)
    colour = VAE(VAEConfig.from_dict({**TOY.to_dict(), "likelihood": grey.likelihood}))
    with pytest.raises(ValueError, match="allowed on mnist-dynamic: 'bernoulli'"):
        evaluate(colour, data, "test", samples=1)


def test_an_evaluation_says_what_it_is():
    result = evaluate(toy_model(), toy_data(), "test", samples=2)
    text = str(result)
    assert "mnist-dynamic test, 20 images, K 2" in text and "−ELBO" in text
    assert result.to_dict()["kl_groups"] == list(result.kl_groups)


def test_a_single_image_is_told_without_a_standard_error():
    told = str(evaluate(toy_model(), toy_data(), samples=2, images=1))
    assert (
        ", 1 image, drawn by class, K 2: " in told
        and "nan" not in told
        and "±" not in told
    )
    assert "20 images" in (several := str(evaluate(toy_model(), toy_data(), samples=2)))
    assert several.count(" ± ") == 2
