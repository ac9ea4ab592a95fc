"""Stopping at any step: eqs. (S1) and (S2) of ``drawlib.stops`` against enumeration."""

import itertools
import json
import math

import pytest
import torch
from exact_models import hermite_grid, seeded
from small_recurrent import conv_draw, draw, glas, some_bits
from torch.distributions import Bernoulli
from toy_runs import toy_config, toy_data, use_toy_data

from drawlib.draw import DRAW, DRAWConfig
from drawlib.evaluation import evaluate
from drawlib.every_stop import every_stop
from drawlib.results.runs import Run, publish, train_run
from drawlib.stops import best_stops, elbo_at_stops, stop_bound, stop_prior

PI = (0.2, 0.0, 0.5, 0.3)
AT = [0, 2, 3]
T = len(PI)


class Coins:
    """z_t ∈ {0, 1}, p(z_t = 1) and q(z_t = 1 given z_{t−1}) from tables; one x.

    Four steps have 16 sequences, so every expectation is a sum.
    """

    def __init__(self, seed: int = 0) -> None:
        self.p = torch.sigmoid(seeded(T, seed=seed))
        self.q = torch.sigmoid(2 * seeded(T, 2, seed=seed + 1))
        # log D(x given c_t), where c_t is any function of z_1 … z_t
        self.log_d = [-3 + seeded(*[2] * (t + 1), seed=seed + 9 + t) for t in range(T)]
        self.sequences = list(itertools.product((0, 1), repeat=T))

    def terms(self):
        """log D, KL and log ratio of every sequence and step, and its q(z)."""
        log_d, kl, ratio, weight = [], [], [], []
        for z in self.sequences:
            before = (0, *z[:-1])
            p = Bernoulli(self.p)
            q = Bernoulli(self.q[torch.arange(T), torch.tensor(before)])
            at_z = torch.tensor(z).double()
            weight.append(q.log_prob(at_z).sum().exp())
            ratio.append(p.log_prob(at_z) - q.log_prob(at_z))
            kl.append(torch.distributions.kl_divergence(q, p))
            log_d.append(torch.stack([self.log_d[t][z[: t + 1]] for t in range(T)]))
        return *(torch.stack(each) for each in (log_d, kl, ratio)), torch.stack(weight)

    def p_of_x(self):
        """Σ_t π_t Σ_{z_1 … z_t} p(z) D(x given c_t), stop by stop."""
        total = torch.zeros(()).double()
        for t in range(T):
            for z in itertools.product((0, 1), repeat=t + 1):
                p = Bernoulli(self.p[: t + 1]).log_prob(torch.tensor(z).double())
                total += PI[t] * (p.sum() + self.log_d[t][z]).exp()
        return total


def test_s2_the_mean_weight_is_p_of_x_by_enumeration():
    coins = Coins()
    log_d, kl, ratio, q = coins.terms()
    bound = stop_bound(PI, log_d[:, AT], kl, ratio)
    mean = (q * bound.log_weight.exp()).sum()
    torch.testing.assert_close(mean, coins.p_of_x(), rtol=1e-12, atol=0)


def test_s1_the_bound_is_the_sum_over_stops_and_lies_below_log_p():
    coins = Coins()
    log_d, kl, ratio, q = coins.terms()
    mean = (q * stop_bound(PI, log_d[:, AT], kl, ratio).elbo).sum()
    by_hand = 0.0
    for t, pi in enumerate(PI):
        # E over z_1 … z_t alone of log D + Σ log p/q: no analytic KL, no later step.
        by_hand += pi * (q * (log_d[:, t] + ratio[:, : t + 1].sum(1))).sum()
    torch.testing.assert_close(mean, by_hand, rtol=1e-12, atol=0)
    weighted = (q * stop_bound(PI, log_d[:, AT], kl, ratio).log_weight).sum()
    assert mean < weighted < coins.p_of_x().log()


@pytest.mark.parametrize("seed", range(3))
def test_s1_the_best_q_of_the_stop_has_the_highest_bound_and_none_exceeds_log_p(seed):
    coins = Coins(seed)
    log_d, kl, ratio, weight = coins.terms()
    each = (weight[:, None] * elbo_at_stops(log_d, kl)).sum(0, keepdim=True)[:, AT]
    prior = torch.tensor([PI[t] for t in AT], dtype=torch.float64)

    def bound(q):
        found = stop_bound(PI, log_d[:, AT], kl, ratio, q.expand(len(weight), -1))
        return (weight * found.elbo).sum()

    best = best_stops(PI, each)
    highest = bound(best)
    # In closed form: log Σ_t π_t exp(ELBO_t)
    closed = (prior.log() + each).logsumexp(1)[0]
    torch.testing.assert_close(highest, closed, rtol=1e-12, atol=0)
    assert highest <= coins.p_of_x().log()
    others = torch.softmax(seeded(20, 3, seed=seed), 1)
    assert all(bound(q[None]) < highest for q in others)
    assert bound(prior[None]) < highest


def test_the_best_q_of_the_same_draw_is_no_bound():
    """Two stops whose posteriors are exact: what q gains from the draw is luck."""
    log_d, kl = torch.tensor([[-1.0, -1.0]]).double(), torch.zeros(1, 2).double()
    luck = 2 * seeded(4000, 2) * torch.tensor([1.0, 0.0])
    noisy = log_d + luck  # as a sampled log D has it, with an analytic KL of fixed size
    best = best_stops((0.5, 0.5), noisy)
    found = stop_bound((0.5, 0.5), noisy, kl.expand(4000, 2), -luck, best)
    true = -1.0  # log ½(e⁻¹ + e⁻¹)
    assert found.elbo.mean() > true + 0.3
    mean = (0.5 * (noisy - luck).exp().sum(1)).mean().log()  # (S2): the luck cancels
    torch.testing.assert_close(mean.item(), true)


# The models


MODELS = {
    "draw": lambda **c: draw(attention="gaussian", **c),
    "draw-prior": lambda **c: draw(prior="learned", **c),
    "glas": glas,
    "glas-generative": lambda **c: glas(memory="generative", **c),
    "conv-draw": conv_draw,
}
every_model = pytest.mark.parametrize("name", MODELS)


def test_the_score_of_the_mean_canvas_is_a_bound_of_no_model():
    """Even one that shows its mean canvas makes all steps, and has all their KL."""
    z = torch.tensor(list(itertools.product((0.0, 1.0), repeat=T))).double()
    log_p = Bernoulli(torch.sigmoid(seeded(T))).log_prob(z)
    canvases = (3 * z * seeded(T, seed=1)).cumsum(1) - 4
    log_d = torch.nn.functional.logsigmoid(canvases @ torch.tensor(PI).double())
    joint = log_p.sum(1) + log_d
    q = (joint - joint.logsumexp(0)).exp()  # that model's exact posterior
    reached = [q.reshape(2**t, -1).sum(1) for t in range(T + 1)]  # q(z_1 … z_t)
    log_q = torch.stack(
        [m.repeat_interleave(len(q) // len(m)).log() for m in reached], 1
    ).diff(dim=1)
    ratio = log_p - log_q
    scored = stop_bound(PI, log_d[:, None].expand(-1, len(AT)), -ratio, ratio).elbo
    assert (q * scored).sum() > joint.logsumexp(0) + 0.01
    torch.testing.assert_close((q * (log_d + ratio.sum(1))).sum(), joint.logsumexp(0))


def pair(name, one, other, seed=0):
    """Two models with the same weights and other configurations."""
    torch.manual_seed(seed)
    a, b = MODELS[name](**one), MODELS[name](**other)
    b.load_state_dict(a.state_dict())
    return a, b


@every_model
def test_pi_at_T_alone_gives_draw_back_to_the_last_digit(name):
    last, listed = pair(name, {}, {"stop": (0.0, 0.0, 1.0)})
    x, noise = some_bits(), last.noise(3)
    a, b = last.bound(x, noise), listed.bound(x, noise)
    results = list(last.steps(x, noise))
    log_likelihood = last.likelihood(results[-1][0].canvas, x)
    log_ratio = torch.stack([ratio for _, _, ratio in results], 1)
    for found in (a, b):
        assert torch.equal(found.log_likelihood, log_likelihood)
        assert torch.equal(found.kl, torch.stack([kl for _, kl, _ in results], 1))
        assert torch.equal(found.log_weight, log_likelihood + log_ratio.sum(1))
    assert torch.equal(last.generate(3, noise=noise), listed.generate(3, noise=noise))


@every_model
def test_each_stop_pays_for_its_own_steps_alone(name):
    """All of π at t is the model of t steps; a uniform π is the mean of the three."""
    x, alone = some_bits(), []
    for t in (1, 2, 3):
        pi = tuple(float(s == t) for s in (1, 2, 3))
        stopping, short = pair(name, {"stop": pi}, {"T": t})
        noise = seeded(*stopping.noise_shapes(3)[0])
        found, wanted = stopping.bound(x, noise), short.bound(x, noise[:, :t])
        torch.testing.assert_close(found.elbo, wanted.elbo)
        torch.testing.assert_close(found.log_weight, wanted.log_weight)
        assert torch.equal(found.kl[:, t:], torch.zeros(3, 3 - t).double())
        alone.append(wanted)
    anytime, _ = pair(name, {"stop": "uniform"}, {})
    found = anytime.bound(x, noise)
    torch.testing.assert_close(found.elbo, sum(each.elbo for each in alone) / 3)
    weights = torch.stack([each.log_weight for each in alone])
    torch.testing.assert_close(found.log_weight, weights.logsumexp(0) - math.log(3))


@pytest.mark.parametrize("name", list(MODELS)[:-1])  # those of two latents in all
def test_s2_the_weights_mean_is_p_of_x_by_quadrature(name):
    """And p sums to one over all images of two pixels."""
    pi, shape = (0.3, 0.7), (1, 1, 2)
    torch.manual_seed(3)
    small = {"image_shape": shape, "T": 2, "z": 1, "read": 1, "write": 1}
    model = MODELS[name](**small, stop=pi)
    points, weight = hermite_grid(2, 40)
    images = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).double()
    images = images.view(4, *shape)
    with torch.no_grad():
        canvases = [s.canvas for s in model.dream(points[:, :, None])]
        found = []
        for x in images:
            p = sum(
                pi[t] * weight @ Bernoulli(logits=c).log_prob(x).flatten(1).sum(1).exp()
                for t, c in enumerate(canvases)
            )
            many = x.expand(len(points), *shape)
            w = model.bound(many, points[:, :, None]).log_weight.exp()
            torch.testing.assert_close(weight @ w, p, rtol=2e-3, atol=0)
            found.append(p)
    torch.testing.assert_close(sum(found).item(), 1.0)


@every_model
def test_gradcheck_of_the_bound_with_stops(name):
    torch.manual_seed(0)
    model = MODELS[name](hidden=3, image_shape=(1, 3, 4), write=2, stop=(0.2, 0.3, 0.5))
    x, noise = some_bits(1, (1, 3, 4)), model.noise(1).requires_grad_()
    weight = model.writer.bias

    def terms(noise, bias):
        state = {"writer.bias": bias}
        found = torch.func.functional_call(Bounder(model), add(state), (x, noise))
        return found.elbo, found.log_weight

    assert torch.autograd.gradcheck(terms, (noise, weight), atol=1e-7)


def add(state):
    return {f"model.{k}": v for k, v in state.items()}


class Bounder(torch.nn.Module):
    """A model whose forward is its bound."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, noise):
        return self.model.bound(x, noise)


def test_the_importance_weighted_bound_rises_with_k_for_a_model_that_may_stop():
    torch.manual_seed(0)
    model, x = draw(stop="uniform"), some_bits(1).expand(2000, -1, -1, -1)
    with torch.no_grad():
        log_w = model.bound(x, model.noise(2000)).log_weight
    bounds = [
        (log_w.view(-1, k).logsumexp(1) - math.log(k)).mean() for k in (1, 10, 2000)
    ]
    assert bounds[0] < bounds[1] < bounds[2]


def test_at_every_step_is_the_bound_of_each_stop():
    model, x = draw(), some_bits()
    noise = model.noise(3)
    log_likelihood, kl = model.at_every_step(x, noise)
    each = elbo_at_stops(log_likelihood, kl)
    torch.testing.assert_close(each[:, -1], model.bound(x, noise).elbo)
    assert each.shape == (3, 3)


def test_every_stop_is_measured_as_evaluate_measures_the_last():
    config = DRAWConfig.preset("tiny", image_shape=(1, 6, 6))
    data, model = toy_data(), DRAW(config)
    found, last = every_stop(model, data), evaluate(model, data, "test", samples=1)
    assert found.neg_elbo[-1] == pytest.approx(last.neg_elbo, abs=1e-3)
    assert found.neg_elbo_se[-1] == pytest.approx(last.neg_elbo_se, abs=1e-3)
    assert found.reconstruction[-1] == pytest.approx(last.reconstruction, abs=1e-3)
    some = every_stop(model, data, images=5)
    assert some.images == 5 and len(some.to_dict()["neg_elbo"]) == 4


def test_a_record_holds_every_stop_and_its_bound_is_their_mean(tmp_path, monkeypatch):
    """Under a uniform π, with q = π: one draw per image, the same in both."""
    use_toy_data(monkeypatch.setattr)
    config = DRAWConfig.preset("tiny", image_shape=(1, 6, 6), stop="uniform")
    run = Run(config, "mnist-dynamic", tmp_path / "run", toy_config(epochs=1))
    train_run(run, progress=False)
    path = publish(
        run.run_dir, "toy", iw_samples=2, iw_images=5, root=tmp_path, progress=False
    )
    record = json.loads(path.read_text())
    stops, whole = record["every_stop"], record["bounds"]["test"]
    assert stops["images"] == whole["images"] and len(stops["neg_elbo"]) == 4
    assert sum(stops["neg_elbo"]) / 4 == pytest.approx(whole["neg_elbo"], abs=1e-3)


# Letters


def words(n=3, shape=(4, 1, 5)):
    """Random one-hot images in float64."""
    k = torch.randint(shape[0], (n, *shape[1:]))
    one_hot = torch.nn.functional.one_hot(k, shape[0])
    return one_hot.movedim(-1, 1).double()


LETTERS = {"image_shape": (4, 1, 5), "likelihood": "categorical"}


@every_model
def test_a_model_of_letters_keeps_its_equations(name):
    """x̂ = x − softmax(c); each place's certainties sum to one at every step."""
    torch.manual_seed(0)
    model, x = MODELS[name](**LETTERS, stop="uniform"), words()
    trace = model.trace(x)
    before = torch.stack([model.mean(model.start(3).canvas), *trace.canvases[:-1]])
    torch.testing.assert_close(trace.errors, x - before)
    torch.testing.assert_close(trace.canvases.sum(2), torch.ones(3, 3, 1, 5).double())
    probabilities = trace.canvases
    log_likelihood, _ = model.at_every_step(x, noise := model.noise(3))
    again = torch.stack([model.mean(s.canvas) for s, _, _ in model.steps(x, noise)])
    by_hand = (x * again.log()).flatten(2).sum(2).T
    torch.testing.assert_close(log_likelihood, by_hand)
    assert probabilities.min() > 0
    model.start_at(torch.full((4, 1, 5), 0.25).double())
    assert model.bound(x, noise).elbo.shape == (3,)


def test_a_window_along_a_word_has_the_same_filter_in_every_row():
    """At height 1 the window is one row of filters, whatever its vertical numbers."""
    model = MODELS["draw"](**LETTERS)
    h = torch.randn(2, 6).double()
    F_y = model.read_window(h).F_y
    assert torch.equal(F_y, torch.ones_like(F_y))
    patch = model.read_window(h).read(words(2))
    assert torch.equal(patch[:, :, 0], patch[:, :, 1])


def test_letters_start_at_their_frequencies():
    mean = torch.softmax(seeded(4, 1, 5), 0)
    model = draw(**LETTERS)
    model.start_at(mean)
    torch.testing.assert_close(model.mean(model.start_canvas[None])[0], mean)


# Generation


def test_generation_ends_where_it_is_told_or_at_a_draw_from_pi():
    model = draw(stop=(0.5, 0.0, 0.5))
    noise = model.noise(300)
    steps = model.generate_steps(300, noise=noise)
    stops = torch.tensor([1, 2, 3]).repeat(100)
    told = model.generate(300, noise=noise, stops=stops)
    assert torch.equal(told, steps[stops - 1, torch.arange(300)])
    source = torch.Generator().manual_seed(0)
    drawn = model.generate(300, noise=noise, generator=source)
    first = (drawn == steps[0]).flatten(1).all(1)
    third = (drawn == steps[2]).flatten(1).all(1)
    assert torch.equal(first, ~third) and 100 < first.sum() < 200
    again = model.generate(300, noise=noise, generator=source.manual_seed(0))
    assert torch.equal(drawn, again)


def test_a_stop_outside_the_steps_is_refused_in_one_line():
    model = draw()
    with pytest.raises(ValueError, match=r"stops is \[4\]; allowed: 1 numbers from 1"):
        model.generate(1, stops=torch.tensor([4]))


@pytest.mark.parametrize(
    "stop", ["first", (0.5, 0.5), (0.5, 0.6, 0.0), (-0.5, 1.0, 0.5), (), "0.5"]
)
def test_a_stop_that_is_no_distribution_over_t_steps_is_refused_in_one_line(stop):
    with pytest.raises(ValueError, match="allowed: last, uniform, or 3 prob") as error:
        DRAWConfig(T=3, stop=stop)
    assert "\n" not in str(error.value)


def test_a_configuration_with_a_list_of_stops_is_equal_to_its_json():
    config = DRAWConfig(T=2, stop=[0.25, 0.75])
    assert config.stop == (0.25, 0.75) == stop_prior(config.stop, 2)
    assert DRAWConfig.from_dict(config.to_dict()) == config
    assert DRAWConfig.from_dict({}).stop == "last"
