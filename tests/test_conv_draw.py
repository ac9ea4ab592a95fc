"""Convolutional DRAW against its equations, written out in loops over pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from exact_models import hermite_grid
from small_recurrent import conv_draw, some_bits
from torch.nn import functional as F

from drawlib.conv_draw import ConvDRAW, ConvDRAWConfig
from drawlib.fast.loop import fits
from drawlib.gaussian import Gaussian

SHAPE, STRIDE = (1, 4, 6), 2  # maps of 2 × 3 places
Array = np.ndarray


MODELS = {
    "three": lambda: conv_draw(image_shape=SHAPE, stride=STRIDE, hidden=3),
    "five": lambda: conv_draw(image_shape=SHAPE, stride=STRIDE, hidden=3, kernel=5),
}


@pytest.fixture(params=MODELS)
def model(request) -> ConvDRAW:
    torch.manual_seed(1)
    return MODELS[request.param]()


# The equations in NumPy, an image at a time; nothing here comes from the library.


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def convolve(kernel: Array, bias: Array, maps: Array) -> Array:
    """out[o, y, x] = b[o] + Σ kernel[o, i, r, s] maps[i, y + r − k/2, x + s − k/2]."""
    outputs, _, k, _ = kernel.shape
    _, height, width = maps.shape
    out = np.zeros((outputs, height, width))
    for y, x, r, s in itertools.product(range(height), range(width), *[range(k)] * 2):
        v, u = y + r - k // 2, x + s - k // 2
        if 0 <= v < height and 0 <= u < width:
            out[:, y, x] += kernel[:, :, r, s] @ maps[:, v, u]
    return out + bias[:, None, None]


def blocks(image: Array, side: int) -> Array:
    """The pixels of each block of side × side as channels of one place."""
    channels, height, width = image.shape
    out = np.zeros((channels * side**2, height // side, width // side))
    for c, y, x in itertools.product(*map(range, image.shape)):
        channel = (c * side + y % side) * side + x % side
        out[channel, y // side, x // side] = image[c, y, x]
    return out


def pixels(maps: Array, channels: int, side: int) -> Array:
    """The image whose blocks these are."""
    _, height, width = maps.shape
    out = np.zeros((channels, height * side, width * side))
    for c, y, x in itertools.product(*map(range, out.shape)):
        channel = (c * side + y % side) * side + x % side
        out[c, y, x] = maps[channel, y // side, x // side]
    return out


def memory(w: dict, name: str, inputs: Array, h: Array, c: Array) -> tuple:
    seen = np.concatenate([inputs, h])
    gates = convolve(w[f"{name}.weight"], w[f"{name}.bias"], seen)
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gaussian(w: dict, name: str, h: Array) -> tuple[Array, Array]:
    """μ and log σ, maps of z channels."""
    mu, log_sigma = np.split(convolve(w[f"{name}.weight"], w[f"{name}.bias"], h), 2)
    return mu, log_sigma


def log_normal(z: Array, mu: Array, log_sigma: Array) -> float:
    e = (z - mu) / np.exp(log_sigma)
    return float((-0.5 * e**2 - log_sigma - 0.5 * math.log(2 * math.pi)).sum())


def reference(model: ConvDRAW, x: Array, noise: Array) -> tuple[float, list, float]:
    """log p(x given z), the KL of each step, log w: of one image."""
    w = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    h_enc, c_enc, h_dec, c_dec, canvas = (
        w[f"start_{name}"] for name in ("h_enc", "c_enc", "h_dec", "c_dec", "canvas")
    )
    kl, log_ratio = [], 0.0
    for eps in noise:
        shown = sigmoid(canvas)
        error = x - shown
        seen = np.concatenate([blocks(x, STRIDE), blocks(error, STRIDE), h_dec])
        h_enc, c_enc = memory(w, "encoder", seen, h_enc, c_enc)
        mu, log_s = gaussian(w, "q_head", h_enc)
        prior_mu, prior_log_s = gaussian(w, "prior_head", h_dec)
        z = mu + np.exp(log_s) * eps.reshape(mu.shape)
        squares = np.exp(2 * log_s) + (mu - prior_mu) ** 2
        terms = prior_log_s - log_s + squares / (2 * np.exp(2 * prior_log_s)) - 0.5
        kl.append(float(terms.sum()))
        log_ratio += log_normal(z, prior_mu, prior_log_s) - log_normal(z, mu, log_s)
        seen = np.concatenate([z, blocks(shown, STRIDE)])
        h_dec, c_dec = memory(w, "decoder", seen, h_dec, c_dec)
        written = convolve(w["writer.weight"], w["writer.bias"], h_dec)
        canvas = canvas + pixels(written, len(x), STRIDE)
    log_likelihood = float((x * canvas - np.log1p(np.exp(canvas))).sum())
    return log_likelihood, kl, log_likelihood + log_ratio


def test_the_bound_equals_the_equations_in_loops(model):
    x, noise = some_bits(2, SHAPE), model.noise(2)
    bound = model(x, noise=noise)
    for k in range(2):
        log_p, kl, log_w = reference(model, x[k].numpy(), noise[k].numpy())
        assert bound.log_likelihood[k].item() == pytest.approx(log_p, abs=1e-10)
        assert bound.kl[k].tolist() == pytest.approx(kl, abs=1e-10)
        assert bound.log_weight[k].item() == pytest.approx(log_w, abs=1e-10)


# The equations one by one


def test_a_convolution_of_blocks_is_one_of_pixels_with_a_stride():
    """3 × 3 places of 2 × 2 pixels: a kernel of 6 × 6 that moves by 2."""
    model, kernel = MODELS["three"](), torch.randn(5, 4, 3, 3).double()
    x = torch.randn(2, *SHAPE).double()
    wide = kernel.view(5, 2, 2, 3, 3).permute(0, 3, 1, 4, 2).reshape(5, 1, 6, 6)
    wanted = F.conv2d(x, wide, stride=STRIDE, padding=STRIDE)
    found = F.conv2d(model.whole(x), kernel, padding="same")
    torch.testing.assert_close(found, wanted)


def test_the_encoder_reads_the_image_its_error_and_the_decoder(model):
    x, state = some_bits(2, SHAPE), model.start(2)
    h_enc, _ = model.encode(state, x, model.fixed(x))
    for other in (
        state._replace(canvas=state.canvas + 1),
        state._replace(h_dec=state.h_dec + 1),
    ):
        assert not torch.allclose(model.encode(other, x, model.fixed(x))[0], h_enc)
    assert not torch.allclose(model.encode(state, 1 - x, model.fixed(1 - x))[0], h_enc)


def test_the_prior_is_a_convolution_of_what_was_decoded_one_step_before(model):
    """p(z_t given h_dec_{t−1}): a generation draws from this Gaussian."""
    noise = model.noise(2)
    _, z = model.latents(noise)
    state = model.start(2)
    for t in range(model.config.T):
        head = model.prior_head
        maps = F.conv2d(state.h_dec, head.weight, head.bias, padding="same")
        p = Gaussian(*maps.flatten(1).chunk(2, 1))
        torch.testing.assert_close(z[:, t], p.sample(noise[:, t]))
        state = model.decode(state, z[:, t])


def test_the_prior_starts_at_the_standard_normal():
    model = ConvDRAW(ConvDRAWConfig.preset("tiny"))
    p = model.prior(torch.randn(2, *model.hidden_shape))
    assert not p.mu.any() and not p.log_sigma.any()


def test_the_loss_trains_the_prior(model):
    (-model.bound(some_bits(2, SHAPE), model.noise(2)).elbo.mean()).backward()
    for weight in model.prior_head.parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 0


def test_the_decoder_reads_z_and_the_canvas_but_never_the_image(model):
    state, z = model.start(2), torch.randn(2, 12).double()
    after = model.decode(state, z)
    for other, latents in (
        (state._replace(canvas=state.canvas + 1), z),
        (state, z + 1),
        (state._replace(h_dec=state.h_dec + 1), z),
    ):
        assert not torch.allclose(model.decode(other, latents).h_dec, after.h_dec)
    for name in ("h_enc", "c_enc"):
        other = state._replace(**{name: getattr(state, name) + 1})
        assert torch.equal(model.decode(other, z).canvas, after.canvas)


def test_a_latent_is_drawn_near_its_own_place_alone():
    """In one step a latent moves the places within two of its own: 3 × 3 twice."""
    model = conv_draw(image_shape=(1, 14, 14), stride=2)
    state, z = model.start(1), torch.zeros(1, 2, 7, 7).double()
    before = model.decode(state, z.flatten(1)).canvas
    z[0, 0, 3, 1] = 1
    moved = (model.decode(state, z.flatten(1)).canvas - before)[0, 0] != 0
    rows, columns = moved.nonzero().unbind(1)
    assert (rows.min(), rows.max()) == (2, 11)  # places 1 to 5, of two pixels each
    assert (columns.min(), columns.max()) == (0, 7)  # places −1 to 3


# The bound


def one_place(**changes) -> ConvDRAW:
    """Two pixels by two, one place, two steps of one latent: p(x) by quadrature."""
    torch.manual_seed(3)
    sizes = {"image_shape": (1, 2, 2), "T": 2, "hidden": 3, "z": 1}
    return conv_draw(**{**sizes, "stride": 2, **changes})


def every_image() -> torch.Tensor:
    """All sixteen images of 2 × 2 bits."""
    rows = list(itertools.product((0.0, 1.0), repeat=4))
    return torch.tensor(rows, dtype=torch.float64).view(16, 1, 2, 2)


@torch.no_grad()
def log_p(model: ConvDRAW) -> torch.Tensor:
    """log p(x) of the sixteen images, by Gauss–Hermite quadrature over the prior."""
    points, weights = hermite_grid(2, 60)
    canvas, _ = model.latents(points[:, :, None])
    images = (x.expand_as(canvas) for x in every_image())
    each = torch.stack([model.likelihood(canvas, x) for x in images])
    return (weights.log() + each).logsumexp(1)


def test_the_sixteen_images_of_four_bits_have_probability_one():
    assert log_p(one_place()).exp().sum().item() == pytest.approx(1, abs=1e-12)


@torch.no_grad()
def test_the_bound_lies_below_log_p_and_the_weights_average_to_p():
    model, points = one_place(), hermite_grid(2, 60)
    noise, weights = points[0][:, :, None], points[1]
    for x, exact in zip(every_image(), log_p(model), strict=True):
        bound = model.bound(x.expand(len(noise), 1, 2, 2), noise)
        assert (weights * bound.elbo).sum() < exact
        mean = (weights.log() + bound.log_weight).logsumexp(0)
        assert mean.item() == pytest.approx(exact.item(), abs=1e-3)


@torch.no_grad()
def test_each_kl_is_the_mean_of_log_q_minus_log_p(model):
    """KL_1 given nothing, and all steps in the mean, within four standard errors."""
    x = some_bits(1, SHAPE).expand(20000, *SHAPE)
    noise = model.noise(len(x), torch.Generator().manual_seed(0))
    for _, kl, log_ratio in model.steps(x, noise):
        gap = kl + log_ratio
        assert gap.mean().abs() < 4 * gap.std() / len(x) ** 0.5
        assert gap.std() > 0.1  # a sample, not the analytic number again


def test_the_last_step_of_a_generation_is_the_generation(model):
    noise = model.noise(3)
    steps = model.generate_steps(3, noise=noise)
    assert torch.equal(steps[-1], model.generate(3, noise=noise))
    assert not torch.allclose(steps[0], steps[-1])


def test_noise_of_finds_the_noise_of_latents(model):
    canvas, z = model.latents(model.noise(3))
    x = model.likelihood.sample(canvas, torch.Generator().manual_seed(0)).detach()
    noise = model.noise_of(x, z)
    got = torch.stack([s.canvas for s, _, _ in model.steps(x, noise)])
    torch.testing.assert_close(got[-1], canvas)


def test_colour_has_a_bound_too():
    model = conv_draw(
        image_shape=(3, 4, 4), stride=2, likelihood="discretised-logistic"
    )
    x = torch.randint(256, (2, 3, 4, 4)).double() / 255
    bound = model(x)
    assert torch.isfinite(bound.elbo).all() and (bound.log_likelihood < 0).all()


# What does not fit


def test_the_fast_step_says_that_it_does_not_fit(model):
    assert not fits(model)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_shape": (1, 30, 28)}, r"image_shape is \(1, 30, 28\); allowed: sides"),
        ({"stride": 3}, "allowed: sides that stride 3 divides"),
        ({"stride": 0}, "stride is 0; it must be at least 1"),
        ({"kernel": 4}, "kernel is 4; allowed: an odd number"),
        ({"attention": "gaussian"}, "attention is 'gaussian'; allowed: none"),
        ({"canvas": "zeros"}, "canvas is 'zeros'; allowed: learned"),
    ],
)
def test_what_no_map_can_be_is_refused_in_one_line(changes, told):
    with pytest.raises(ValueError, match=told) as error:
        ConvDRAWConfig(**changes)
    assert "\n" not in str(error.value)
