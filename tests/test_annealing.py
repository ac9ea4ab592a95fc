"""Annealed importance sampling against models whose log p(x) is known."""

from __future__ import annotations

import math

import pytest
import small_recurrent
import torch
from exact_models import (
    PPCA,
    OneLatentBernoulli,
    TwoLayerLinearGaussian,
    bits,
)
from torch import Tensor

from drawlib import annealing
from drawlib.annealing import (
    AISConfig,
    Annealed,
    ais,
    anneal,
    at,
    energy,
    hmc,
    leap,
    run,
    sandwich,
    simulate,
)
from drawlib.diffusion import Diffusion, DiffusionConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.likelihood import Bernoulli, Categorical, DiscretisedLogistic
from drawlib.vae import VAE, VAEConfig

EXACT = {
    "linear": lambda: PPCA(wrong=True),
    "bits": OneLatentBernoulli,
    "ladder": lambda: TwoLayerLinearGaussian(wrong=True),
}
each_exact = pytest.mark.parametrize(
    "model", [make() for make in EXACT.values()], ids=EXACT
)
NETWORKS = {
    "vae": lambda: VAE(VAEConfig.preset("tiny")).double(),
    "ladder": lambda: LadderVAE(LadderConfig.preset("tiny")).double(),
    "draw": small_recurrent.draw,
    "attention": lambda: small_recurrent.draw(attention="gaussian"),
    "learned prior": lambda: small_recurrent.draw(prior="learned"),
    "glas": small_recurrent.glas,
    "diffusion": lambda: Diffusion(DiffusionConfig.preset("tiny")).double(),
    "generative": lambda: small_recurrent.glas(memory="generative"),
    "conv-draw": small_recurrent.conv_draw,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth(model, x: Tensor) -> Tensor:
    known = getattr(model, "log_prob", None) or model.log_prob_by_quadrature
    return known(x).detach()


def off_by(log_estimates: Tensor, log_truth: Tensor) -> tuple[float, float]:
    """The mean of the estimates over the truth, minus 1, and its standard error."""
    ratio = (log_estimates - log_truth).exp()
    return ratio.mean().item() - 1, ratio.std().item() / math.sqrt(len(ratio))


def narrow(noise: Tensor) -> Tensor:
    """log w with f_1 = N(0, 1/4): known, and a long step is often refused there."""
    return -1.5 * noise.square().sum(1)


# The estimate


@pytest.mark.parametrize("kind, start", [*((k, "q") for k in EXACT), ("bits", "prior")])
def test_the_mean_weight_is_p_of_x_within_one_percent(kind, start):
    model = EXACT[kind]()
    x, config = bits(1, model.image_shape, seed=7), AISConfig(60_000, 4, 2, start)
    # Long steps, of which many are refused: their sizes must not matter for the mean.
    steps = torch.full((3,), 1.2)
    found = ais(model, x, config, steps=steps, chunk=60_000)
    error, se = off_by(found.log_weights[0], truth(model, x))
    assert found.accepted < 0.97
    assert abs(error) < 0.01 and se < 0.004
    assert abs(found.log_p - truth(model, x)) < 0.01


@each_exact
def test_the_mean_reverse_weight_is_one_over_p_of_x(model):
    """Of many images with a sample each: E[p(x) / ŵ] = 1."""
    x, posterior = simulate(model, 40_000, seed=1)
    config, steps = AISConfig(1, 4, 2), torch.full((3,), 0.9)
    found = run(model, x, config, steps, posterior, 0, 40_000, None, False)
    error, se = off_by(-found.log_weights[:, 0], -truth(model, x))
    assert abs(error) < 4.5 * se and se < 0.01


def test_one_temperature_is_the_importance_weighted_bound():
    model, x = PPCA(wrong=True), bits(3, (1, 2, 3))
    found = ais(model, x, AISConfig(5, 1, 2), seed=4)
    seeds = torch.randint(2**62, (1,), generator=generator(4)).tolist()
    noise = model.noise(15, generator(seeds[0]))
    log_w = model.bound(x.repeat_interleave(5, 0), noise).log_weight.detach().view(3, 5)
    torch.testing.assert_close(found.log_weights, log_w)
    torch.testing.assert_close(found.log_p, log_w.logsumexp(1) - math.log(5))


def test_the_way_back_has_the_step_sizes_of_the_way_there(monkeypatch):
    met: list[tuple[float, float]] = []
    real = annealing.hmc

    def watched(log_w, point, beta, step, *rest):
        met.append((beta, step))
        return real(log_w, point, beta, step, *rest)

    monkeypatch.setattr(annealing, "hmc", watched)
    model, config, steps = PPCA(), AISConfig(1, 4), torch.tensor([0.1, 0.2, 0.3])
    x, posterior = simulate(model, 2)
    for begin in (None, posterior):
        run(model, x, config, steps, begin, 0, 10, None, False)
    assert met[:3] == met[:2:-1] and len(set(met)) == 3


def test_more_temperatures_give_a_tighter_bound():
    model, x = PPCA(wrong=True), bits(50, (1, 2, 3))
    gaps = [
        (truth(model, x) - ais(model, x, AISConfig(2, t), seed=t).log_p).mean()
        for t in (1, 10, 100)
    ]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_errors_are_the_scatter_over_chains():
    log_w = torch.log(torch.tensor([[1.0, 3.0], [2.0, 2.0]]).double())
    found = Annealed(log_w, 1.0, False)
    assert found.errors.tolist() == pytest.approx([0.5, 0.0])  # sd/√2 over the mean
    assert found.error == pytest.approx(0.25)
    assert Annealed(-log_w, 1.0, True).errors.tolist() == pytest.approx([0.5, 0.0])
    assert Annealed(log_w[:, :1], 1.0, False).errors.isnan().all()
    model, x = PPCA(wrong=True), bits(1, (1, 2, 3)).expand(400, 1, 2, 3)
    many = ais(model, x, AISConfig(8, 5), steps=torch.full((4,), 0.9), chunk=3200)
    scatter = many.log_p.std().item()
    assert many.errors.mean().item() == pytest.approx(scatter, rel=0.2)


# The steps


def exact_start(n: int, beta: float, seed: int = 0) -> Tensor:
    """Draws of f_β of ``narrow``: variance 1 / (1 + 3 β)."""
    draws = torch.randn(n, 1, generator=generator(seed), dtype=torch.float64)
    return draws / math.sqrt(1 + 3 * beta)


def test_a_metropolis_step_leaves_its_target_as_it_is():
    start = at(narrow, exact_start(200_000, 1.0))
    after, accept = hmc(narrow, start, 1.0, 0.8, 2, generator(1))
    assert 0.5 < accept.mean() < 0.95
    for power, mean in ((2, 1 / 4), (4, 3 / 16)):
        change = after.noise**power
        assert abs(change.mean() - mean) < 4.5 * change.std() / math.sqrt(200_000)
    # and what is kept beside the noise is of the noise
    again = at(narrow, after.noise)
    torch.testing.assert_close(again.log_w, after.log_w)
    torch.testing.assert_close(again.slope, after.slope)


def test_detailed_balance_from_a_to_b_as_often_as_back():
    """E[g(ε) h(ε')] = E[h(ε) g(ε')] for a step from ε ~ f to ε'."""
    a = exact_start(400_000, 1.0)
    b = hmc(narrow, at(narrow, a), 1.0, 0.8, 2, generator(1))[0].noise
    flow = (a < -0.2).double() * (b > 0.5) - (b < -0.2).double() * (a > 0.5)
    assert flow.abs().mean() > 0.01
    assert abs(flow.mean()) < 4.5 * flow.std() / math.sqrt(400_000)
    flow = a**2 * b**4 - a**4 * b**2
    assert abs(flow.mean()) < 4.5 * flow.std() / math.sqrt(400_000)


def test_leapfrog_comes_back_with_the_negated_momentum():
    start, p = at(narrow, exact_start(20, 0.0)), exact_start(20, 0.0, seed=1)
    end, q = leap(narrow, start, p, 0.7, 0.3, 5)
    assert (end.noise - start.noise).abs().min() > 1e-3
    back, minus_p = leap(narrow, end, -q, 0.7, 0.3, 5)
    torch.testing.assert_close(back.noise, start.noise)
    torch.testing.assert_close(-minus_p, p)


def test_leapfrog_keeps_the_energy_to_the_second_order_of_its_step():
    start, p = at(narrow, exact_start(20, 0.0)), exact_start(20, 0.0, seed=1)
    before = energy(start, p, 0.7)
    errors = []
    for step, count in ((0.1, 10), (0.05, 20)):
        end, q = leap(narrow, start, p, 0.7, step, count)
        errors.append((energy(end, q, 0.7) - before).abs().mean())
    assert errors[0] < 0.02 and errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_the_momentum_is_drawn_anew_so_that_a_chain_forgets_its_start():
    point = at(narrow, torch.zeros(20_000, 1).double())
    source = generator(2)
    for _ in range(30):
        point, _ = hmc(narrow, point, 1.0, 0.3, 2, source)
    assert point.noise.var().item() == pytest.approx(1 / 4, rel=0.05)


def test_a_number_that_broke_is_refused():
    def broken(noise: Tensor) -> Tensor:
        return torch.where(noise.sum(1) > 0, math.nan, 0.0) * noise.sum(1)

    start = at(broken, torch.full((500, 1), -0.1))
    after, accept = hmc(broken, start, 1.0, 1.0, 1, generator())
    assert after.noise.max() < 0 and (accept == 0).any() and (accept > 0).any()


def test_step_sizes_do_not_follow_the_chains_that_measure():
    """A chain's weight does not depend on what other chains go through beside it."""
    model, mine = OneLatentBernoulli(), torch.ones(1, 1, 2, 2).double()
    config, steps = AISConfig(1, 12), torch.full((11,), 1.2)
    easy, hard = (
        ais(model, torch.cat([mine, other]), config, steps=steps).log_weights[0]
        for other in (mine, 1 - mine)
    )
    torch.testing.assert_close(easy, hard, rtol=1e-9, atol=0)


def test_step_sizes_are_tuned_to_the_wanted_acceptance():
    found = ais(PPCA(wrong=True), bits(4, (1, 2, 3)), AISConfig(8, 200))
    assert found.accepted == pytest.approx(annealing.WANTED, abs=0.12)


# The sandwich


@each_exact
def test_both_bounds_lie_on_their_sides_of_the_truth(model):
    x, _ = simulate(model, 400, seed=3)
    both = sandwich(model, 400, AISConfig(1, 4), seed=3, chunk=400)
    for gap in (
        truth(model, x) - both.lower.log_p,
        both.upper.log_p - truth(model, x),
    ):
        # The bits' q is so good that its gap is hidden by 400 images.
        sign = -1 if isinstance(model, OneLatentBernoulli) else 1
        assert gap.mean() > sign * 2 * gap.std() / math.sqrt(400)
    tight = sandwich(model, 40, AISConfig(8, 60), seed=3)
    assert abs(tight.width) < 0.05


@pytest.mark.parametrize("kind", NETWORKS)
def test_simulated_noise_leads_the_posterior_to_the_latents_of_the_image(kind):
    torch.manual_seed(0)
    model = NETWORKS[kind]().eval()
    x, noise = simulate(model, 6, seed=2)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    start = model.noise(6, generator(2))
    with torch.no_grad():
        canvas, z = model.latents(start)
        torch.testing.assert_close(
            model.likelihood.mean(canvas), model.generate(6, noise=start)
        )
        met = model.bound(x, noise)
        torch.testing.assert_close(met.log_likelihood, model.likelihood(canvas, x))
        # The weight is a ratio of joints, so the density of the noise says the same.
        other = model.bound(x, model.noise(6, generator(3)))
    assert not torch.allclose(met.log_likelihood, other.log_likelihood)
    assert simulate(model, 6, 2, "prior")[1] is not noise
    torch.testing.assert_close(simulate(model, 6, 2, "prior")[1], start)


def test_a_model_that_cannot_be_simulated_says_so():
    class Plain(VAE):
        latents = annealing.LatentModel.latents

    with pytest.raises(NotImplementedError, match="Plain has no method latents"):
        simulate(Plain(VAEConfig.preset("tiny")), 2)


def test_a_drawing_that_may_stop_is_annealed_but_not_simulated():
    model = small_recurrent.draw(stop="uniform").eval()
    with pytest.raises(ValueError, match="stop is 'uniform'; .* allowed: 'last'"):
        simulate(model, 2)
    x = torch.zeros(1, *small_recurrent.SHAPE, dtype=torch.float64)
    assert ais(model, x, AISConfig(2, 4)).log_p.isfinite().all()


def test_symbols_are_drawn_with_their_probabilities():
    c = torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(40_000, 3, 1, 1)
    drawn = Categorical().sample(c, generator())
    assert drawn.sum(1).unique().tolist() == [1.0]
    wanted = torch.softmax(c[0].flatten(), 0)
    torch.testing.assert_close(drawn.mean(0).flatten(), wanted, atol=0.012, rtol=0)


def test_samples_of_a_likelihood_have_its_masses():
    c = torch.tensor([-1.0, 0.3]).view(1, 1, 1, 2).expand(40_000, 1, 1, 2)
    found = Bernoulli().sample(c, generator()).mean(0).flatten()
    torch.testing.assert_close(found, torch.sigmoid(c[0].flatten()), atol=0.012, rtol=0)
    logistic = DiscretisedLogistic(1, scale=0.01)
    levels = (torch.arange(256) / 255).view(256, 1, 1, 1)
    for logit in (-6.0, 0.2):
        c = torch.full((1, 1, 1, 1), logit)
        mass = logistic(c.expand(256, 1, 1, 1), levels).exp()
        drawn = logistic.sample(c.expand(40_000, 1, 1, 1), generator())
        count = (255 * drawn).round().long().flatten().bincount(minlength=256)
        torch.testing.assert_close(count / 40_000, mass, atol=0.012, rtol=0)


# Runs


class Watched(PPCA):
    """Remembers its batches, and breaks after some."""

    def __init__(self, breaks_after: float = math.inf) -> None:
        super().__init__(wrong=True)
        self.batches: list[int] = []
        self.breaks_after = breaks_after

    def bound(self, x, noise):
        self.batches.append(len(x))
        if len(self.batches) > self.breaks_after:
            raise KeyboardInterrupt
        return super().bound(x, noise)


def test_no_more_chains_than_a_chunk_are_in_memory_at_once():
    model, x = Watched(), bits(5, (1, 2, 3))
    found = ais(model, x, AISConfig(7, 4), chunk=6)
    assert max(model.batches) <= 6 and found.log_weights.shape == (5, 7)
    alone = ais(model, x, AISConfig(3, 4), chunk=1)
    assert alone.log_weights.shape == (5, 3)


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_model_alone():
    model, x = PPCA(wrong=True).train(), bits(5, (1, 2, 3))
    model.bias.requires_grad_(False)
    one, two, other = (ais(model, x, AISConfig(3, 4), seed=s) for s in (1, 1, 2))
    assert torch.equal(one.log_weights, two.log_weights)
    assert not torch.equal(one.log_weights, other.log_weights)
    assert model.training and model.W.requires_grad and not model.bias.requires_grad
    with torch.inference_mode():
        inside = ais(model, x, AISConfig(3, 4), seed=1)
    assert torch.equal(one.log_weights, inside.log_weights)


def test_a_run_that_was_cut_goes_on_where_it_was(tmp_path):
    x, config = bits(6, (1, 2, 3)), AISConfig(3, 5)
    keep, steps = tmp_path / "kept.json", torch.full((4,), 0.5)
    whole = ais(PPCA(wrong=True), x, config, steps=steps, chunk=4)
    with pytest.raises(KeyboardInterrupt):
        ais(Watched(25), x, config, steps=steps, chunk=4, keep=keep)
    again = Watched()
    found = ais(again, x, config, steps=steps, chunk=4, keep=keep)
    assert torch.equal(found.log_weights, whole.log_weights)
    assert found.accepted == whole.accepted
    assert len(again.batches) == 27  # three of five blocks, of 9 gradients each
    with pytest.raises(ValueError, match="is of another run"):
        ais(again, x, config, steps=2 * steps, chunk=4, keep=keep)
    keep.write_text("[]")
    with pytest.raises(ValueError, match="holds no annealed blocks"):
        ais(again, x, config, steps=steps, chunk=4, keep=keep)


BAD = {
    "shape": (lambda m, x: ais(m, x[:, :, :1]), r"images have shape \(2, 1, 1, 3\)"),
    "chunk": (lambda m, x: ais(m, x, chunk=0), "chunk is 0; allowed: 1 or more"),
    "seed": (lambda m, x: ais(m, x, AISConfig(1, 2), seed=-1), "seed is -1; allowed"),
    "seed of 33 bits": (
        lambda m, x: ais(m, x, AISConfig(1, 2), seed=2**32),
        "seed is 4294967296; allowed",
    ),
    "seed of simulated images": (
        lambda m, x: simulate(m, 1, seed=2**32),
        "seed is 4294967296; allowed",
    ),
    "chains": (lambda m, x: AISConfig(chains=0), "chains is 0"),
    "temperatures": (lambda m, x: AISConfig(temperatures=0), "temperatures is 0"),
    "leapfrog": (lambda m, x: AISConfig(leapfrog=0), "leapfrog is 0"),
    "start": (lambda m, x: AISConfig(start="p"), "start is 'p'; allowed: q, prior"),
    "number of steps": (
        lambda m, x: ais(m, x, AISConfig(1, 3), steps=torch.ones(3)),
        r"steps have shape \(3,\); allowed: \(2,\)",
    ),
    "step of 0": (
        lambda m, x: ais(m, x, AISConfig(1, 3), steps=torch.zeros(2)),
        "a step is 0; allowed: above 0",
    ),
    "no images": (lambda m, x: sandwich(m, 0), "images is 0; allowed: 1 or more"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_one_line(what):
    call, told = BAD[what]
    with pytest.raises(ValueError, match=told) as caught:
        call(PPCA(), bits(2, (1, 2, 3)))
    assert "\n" not in str(caught.value)


def test_progress_counts_every_temperature_of_every_block(monkeypatch):
    bars = []
    real = annealing.progress_bar

    def watched(*given, **options):
        bars.append(real(*given, **options))
        return bars[-1]

    monkeypatch.setattr(annealing, "progress_bar", watched)
    ais(PPCA(), bits(2, (1, 2, 3)), AISConfig(2, 5), chunk=2, progress=True)
    assert (bars[0].n, bars[0].total) == (10, 10)


def test_anneal_takes_the_weight_before_the_step():
    """Neal 2001, eq. 3: the increment at β_t is of the point that β_{t−1} left."""
    betas = torch.tensor([0.0, 0.5, 1.0]).double()
    noise = exact_start(50, 0.0)
    total, _ = anneal(narrow, noise, betas, torch.tensor([0.5]), 2, generator(3))
    second, _ = hmc(narrow, at(narrow, noise), 0.5, 0.5, 2, generator(3))
    by_hand = 0.5 * narrow(noise) + 0.5 * narrow(second.noise)
    torch.testing.assert_close(total, by_hand)
