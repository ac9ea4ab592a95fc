"""The step and the loop that the recurrent models share, and the LSTM inside."""

import copy
import math

import numpy as np
import pytest
import torch
from reference_recurrent import lstm as reference_lstm
from small_recurrent import SHAPE, conv_draw, draw, glas, silence, some_bits
from torch import nn

from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate
from drawlib.lstm import LSTM
from drawlib.recurrent import Recurrent

MODELS = {
    "draw": lambda: draw(),
    "draw-gaussian": lambda: draw(attention="gaussian"),
    "draw-cauchy": lambda: draw(attention="cauchy"),
    "draw-prior": lambda: draw(attention="gaussian", prior="learned"),
    "draw-colour": lambda: draw(
        image_shape=(3, 5, 4), attention="gaussian", likelihood="discretised-logistic"
    ),
    "draw-zeros": lambda: draw(initial_state="zeros", canvas="zeros"),
    "glas-none": lambda: glas(latent_attention="none"),
    "glas-cauchy": lambda: glas(),
    "glas-content": lambda: glas(latent_attention="content"),
    "glas-generative": lambda: glas(memory="generative"),
    "glas-gaussian-image": lambda: glas(attention="gaussian"),
    "conv-draw": lambda: conv_draw(image_shape=(1, 4, 6), stride=2),
}


@pytest.fixture(params=MODELS)
def model(request) -> Recurrent:
    torch.manual_seed(1)
    return MODELS[request.param]()


def images_for(model: Recurrent, n: int = 3) -> torch.Tensor:
    return some_bits(n, model.image_shape)


# The LSTM


def test_lstm_is_torchs_cell_with_one_bias_vector():
    ours, theirs = LSTM(3, 5).double(), nn.LSTMCell(3, 5).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.weight[:, :3])
        theirs.weight_hh.copy_(ours.weight[:, 3:])
        theirs.bias_ih.copy_(ours.bias)
        theirs.bias_hh.zero_()
    x, h, c = torch.randn(4, 3), torch.randn(4, 5), torch.randn(4, 5)
    x, h, c = x.double(), h.double(), c.double()
    for got, wanted in zip(ours(x, h, c), theirs(x, (h, c)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)


def test_lstm_equals_the_numpy_reference():
    cell = LSTM(3, 5).double()
    w = {"cell.weight": cell.weight.detach().numpy()}
    w["cell.bias"] = cell.bias.detach().numpy()
    x, h, c = (torch.randn(1, k, dtype=torch.float64) for k in (3, 5, 5))
    wanted = reference_lstm(w, "cell", x[0].numpy(), h[0].numpy(), c[0].numpy())
    for got, want in zip(cell(x, h, c), wanted, strict=True):
        np.testing.assert_allclose(got[0].detach().numpy(), want, atol=1e-14)


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_lstm_forget_bias_stands_at_the_forget_gate(forget_bias):
    cell = LSTM(3, 4, forget_bias)
    nn.init.zeros_(cell.weight)
    c = torch.ones(1, 4)
    _, after = cell(torch.zeros(1, 3), torch.zeros(1, 4), c)
    torch.testing.assert_close(after, torch.sigmoid(torch.tensor(forget_bias)) * c)


def test_lstm_keeps_its_state_in_float32_under_autocast():
    cell = LSTM(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        h, c = cell(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(1, 4))
    assert h.dtype == c.dtype == torch.float32


# The loop


def test_noise_is_one_tensor_with_the_batch_first(model):
    noise = model.noise(5)
    latents = math.prod(model.noise_shapes(1)[0][2:])
    assert noise.shape == (5, model.config.T, latents)
    places = math.prod(getattr(model.config, "places", (1,)))
    assert latents == places * model.config.z
    bound = model(images_for(model, 5), noise=noise)
    assert bound.kl.shape == (5, model.config.T)
    assert bound.log_likelihood.shape == bound.log_weight.shape == (5,)


def test_batched_equals_a_loop_over_single_images(model):
    x, noise = images_for(model, 4), model.noise(4)
    whole = model.bound(x, noise)
    for k in range(4):
        one = model.bound(x[k : k + 1], noise[k : k + 1])
        torch.testing.assert_close(one.elbo, whole.elbo[k : k + 1])
        torch.testing.assert_close(one.kl, whole.kl[k : k + 1])
        torch.testing.assert_close(one.log_weight, whole.log_weight[k : k + 1])


def test_changing_one_image_leaves_the_others_unchanged(model):
    x, noise = images_for(model), model.noise(3)
    before = model.bound(x, noise).elbo
    other = x.clone()
    other[1] = 1 - other[1]
    after = model.bound(other, noise).elbo
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert before[1] != after[1]


def test_the_canvas_adds_up(model):
    """5.3-26: c_T ≡ c_0 + Σ_t write(h_dec_t)."""
    x, noise = images_for(model), model.noise(3)
    states = [state for state, _, _ in model.steps(x, noise)]
    written = sum(model.write(s.h_dec) for s in states)
    torch.testing.assert_close(states[-1].canvas, model.start(3).canvas + written)


def test_the_likelihood_reads_the_canvas_itself(model):
    """5.3-31: no layer between the canvas of the error image and the output."""
    x, noise = images_for(model), model.noise(3)
    *_, (last, _, _) = model.steps(x, noise)
    got = model.bound(x, noise).log_likelihood
    torch.testing.assert_close(got, model.likelihood(last.canvas, x))
    if model.config.likelihood == "bernoulli":
        c = last.canvas
        by_hand = (x * c - torch.log1p(c.exp())).sum((1, 2, 3))
        torch.testing.assert_close(got, by_hand)


def test_eq_3_the_error_image_is_one_of_probabilities(model):
    """5.3-26: x̂_1 = x − sigmoid(c_0); then with the canvas of the step before."""
    x, noise = images_for(model), model.noise(3)
    trace = model.trace(x, noise=noise)
    c_0 = model.start_canvas
    torch.testing.assert_close(trace.errors[0], x - torch.sigmoid(c_0))
    states = [state for state, _, _ in model.steps(x, noise)]
    for t in range(1, model.config.T):
        wanted = x - torch.sigmoid(states[t - 1].canvas)
        torch.testing.assert_close(trace.errors[t], wanted)


@pytest.mark.parametrize("name", ["draw", "draw-zeros", "glas-cauchy", "conv-draw"])
def test_eq_17_the_hoisted_product_is_that_of_x_and_error_image(name):
    """W [x; x − σ(c); h_dec; h_enc] + b ≡ the gates from (W₁ + W₂) x computed once."""
    model = MODELS[name]()
    x = images_for(model)
    state = model.start(3)
    state = state._replace(canvas=torch.randn_like(x))
    state = state._replace(h_dec=torch.randn_like(state.h_dec))
    error = x - torch.sigmoid(state.canvas)
    whole = torch.cat([model.whole(x), model.whole(error), state.h_dec], 1)
    wanted = model.encoder(whole, state.h_enc, state.c_enc)
    got = model.encode(state, x, model.fixed(x))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_every_parameter_receives_a_gradient(model):
    """5.3-32."""
    (-model.bound(images_for(model), model.noise(3)).elbo.mean()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_learned_initial_states_receive_a_gradient_and_zeros_have_none():
    """5.3-33."""
    names = {f"start_{s}" for s in ("h_enc", "c_enc", "h_dec", "c_dec", "canvas")}
    learned, zeros = MODELS["draw"](), MODELS["draw-zeros"]()
    assert names <= set(dict(learned.named_parameters()))
    assert not names & set(dict(zeros.named_parameters()))
    assert not names & set(zeros.state_dict())
    for value in zeros.start(2):
        assert torch.count_nonzero(value) == 0


def test_weights_round_trip(model):
    x, noise = images_for(model), model.noise(3)
    torch.manual_seed(7)
    other = type(model)(model.config).double()
    assert not torch.equal(other.bound(x, noise).elbo, model.bound(x, noise).elbo)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.bound(x, noise).elbo, model.bound(x, noise).elbo)


# Generation, reconstruction, trace


def test_generation_is_the_means_after_each_step(model):
    noise = model.noise(4)
    steps = model.generate_steps(4, noise=noise)
    assert steps.shape == (model.config.T, 4, *model.image_shape)
    assert torch.equal(steps[-1], model.generate(4, noise=noise))
    assert 0 <= steps.min() and steps.max() <= 1
    state = model.start(4)
    for t, image in enumerate(steps):
        z = model.prior(state.h_dec).sample(noise[:, t])
        state = model.decode(state, z)
        torch.testing.assert_close(image, torch.sigmoid(state.canvas).detach())


def test_generation_feeds_another_z_at_each_step(model, monkeypatch):
    """5.3-29: the public sampler that feeds one z at all steps is not ours."""
    seen = []
    decode = type(model).decode
    monkeypatch.setattr(
        type(model), "decode", lambda self, s, z: seen.append(z) or decode(self, s, z)
    )
    model.generate(2000, generator=torch.Generator().manual_seed(3))
    z = torch.stack([each[:, 0] for each in seen])
    correlation = torch.corrcoef(z) - torch.eye(len(z)).double()
    # 4 standard errors of a correlation of independent draws; a prior that is learned
    # may tie z_t to the past, but only weakly in these models.
    learned = hasattr(model, "prior_head")
    allowed = 0.5 if learned else 4 / 2000**0.5
    assert correlation.abs().max() < allowed


def test_the_posteriors_draws_are_independent_from_step_to_step(model, monkeypatch):
    """5.3-29: with μ = 0, σ = 1, one noise reused at all steps would correlate."""
    silence(model.q_head)
    seen = []
    decode = type(model).decode
    monkeypatch.setattr(
        type(model), "decode", lambda self, s, z: seen.append(z) or decode(self, s, z)
    )
    x, noise = images_for(model, 2000), model.noise(2000)
    with torch.no_grad():
        model.bound(x, noise)
    z = torch.stack([each[:, 0] for each in seen])
    assert torch.equal(z, noise[:, :, 0].T)
    correlation = torch.corrcoef(z) - torch.eye(len(z)).double()
    assert correlation.abs().max() < 4 / 2000**0.5


def test_trace_agrees_with_bound_and_reconstruction(model):
    x, noise = images_for(model), model.noise(3)
    trace = model.trace(x, noise=noise)
    torch.testing.assert_close(trace.kl, model.bound(x, noise).kl.detach())
    assert torch.equal(trace.canvases[-1], model.reconstruct(x, noise=noise))
    T, channels = model.config.T, model.image_shape[0]
    if model.config.attention == "none":
        assert trace.read is trace.write is trace.patches is None
        return
    assert trace.patches.shape == (T, 3, 2 * channels, 2, 2)
    assert trace.read.mu_x.shape == (T, 3, 2) and trace.write.mu_y.shape == (T, 3, 3)
    assert trace.read.sigma.shape == trace.write.gamma.shape == (T, 3)
    # the first look is the same for all images: h_dec_0 knows nothing of them
    assert torch.equal(trace.read.mu_x[0, 0], trace.read.mu_x[0, 1])
    window = model.read_window(model.start(3).h_dec)
    torch.testing.assert_close(trace.patches[0][:, :channels], window.read(x).detach())
    raw = model.read_head(model.start(3).h_dec)
    torch.testing.assert_close(trace.read.sigma[0] ** 2, raw[:, 2].exp().detach())
    # a step writes in the window of its own h_dec
    for t, (state, _, _) in enumerate(model.steps(x, noise)):
        window, raw = model.write_window(state.h_dec), model.write_head(state.h_dec)
        wanted = (window.mu_x, window.mu_y, (0.5 * raw[:, 2]).exp(), window.gamma)
        for found, value in zip(trace.write, wanted, strict=True):
            torch.testing.assert_close(found[t], value.detach())


def test_start_at_sets_the_first_canvas_to_the_mean_image():
    mean = torch.rand(SHAPE).double() * 0.8 + 0.1
    model = MODELS["draw-gaussian"]()
    model.start_at(mean)
    torch.testing.assert_close(torch.sigmoid(model.start(1).canvas[0]), mean)
    model.start_at(torch.zeros(SHAPE).double())
    assert torch.isfinite(model.start_canvas).all()


def test_start_at_spreads_the_mean_over_the_steps_where_c_0_is_zero():
    mean = torch.rand(SHAPE).double() * 0.8 + 0.1
    model = MODELS["glas-cauchy"]()
    nn.init.zeros_(model.writer.weight)
    model.start_at(mean)
    torch.testing.assert_close(model.generate(2)[1], mean)


def test_start_at_leaves_a_model_alone_that_has_nothing_to_set():
    model = draw(attention="gaussian", canvas="zeros")
    before = copy.deepcopy(model.state_dict())
    model.start_at(torch.full(SHAPE, 0.3).double())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


# Precision and speed


@pytest.mark.parametrize("attention", ["none", "gaussian"])
def test_autocast_keeps_sums_in_float32_and_the_bound_close(attention):
    torch.manual_seed(2)
    model = DRAW(DRAWConfig(T=8, hidden=32, z=6, attention=attention))
    x, noise = (torch.rand(4, 1, 28, 28) < 0.3).float(), model.noise(4)
    plain = model.bound(x, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.bound(x, noise)
        states = [state for state, _, _ in model.steps(x, noise)]
    for value in (*states[-1], rounded.log_likelihood, rounded.kl, rounded.log_weight):
        assert value.dtype == torch.float32
    torch.testing.assert_close(rounded.elbo, plain.elbo, rtol=5e-3, atol=0)
    rounded.elbo.mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("latent", ["cauchy", "sigmoid", "content"])
def test_windows_and_what_is_computed_once_are_not_rounded_under_autocast(latent):
    """Numbers that place a window stay float32; so do those that all steps share."""
    looks, dense = draw(attention="gaussian").float(), draw(prior="learned").float()
    memory, x, h = glas(latent_attention=latent).float(), some_bits(), torch.randn(3, 6)

    def numbers():
        windows = looks.read_window(h), looks.write_window(h)
        places = [value for w in windows for value in (w.mu_x, w.F_y, w.gamma)]
        return *places, memory.attend(h), dense.fixed(x.float()).bias

    with torch.autocast("cpu", torch.bfloat16):
        found = numbers()
        assert looks.read_head(h).dtype == torch.bfloat16  # left to itself
        prior = dense.prior(h)
    for a, b in zip(found, numbers(), strict=True):
        assert torch.equal(a, b)
    assert prior.mu.dtype == prior.log_sigma.dtype == torch.float32


def test_a_copy_of_a_compiled_model_is_its_own_model():
    model = draw()
    accelerate(model)
    twin = copy.deepcopy(model)
    assert twin.fast_path is not None
    assert "fast" not in str(list(model.state_dict()))
    assert getattr(twin.fast_path.step, "__self__", None) is not model
