"""The wrong functions that `drawlib.mistakes.planting` puts in the place of right ones.

The first argument of each is the right function; the others are that function's own.
A mistake that adds to what is right calls it, so that several mistakes can be made in
one place. What is wrong, whose mistake it is and what comes of it stands in the
catalogue. A constant for each mistake, at the end, says what takes the place of what.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from drawlib import ladder
from drawlib.gaussian import Gaussian, GaussianHead
from drawlib.layers import linear

Function = Callable[..., Any]
# "module:name" or "module:Class.name", and the wrong function for it.
Plant = tuple[str, Function]


@dataclass(frozen=True)
class Mistake:
    """One mistake: what it is, whose it is, what it does, and which tests see it.

    Attributes:
        key: its short name, as ``planted`` takes it.
        title: a few words.
        where: the public source, with its ancestor where one is known, or ``of our
            own making``.
        equation_right: the equation as it should be.
        equation_wrong: what stands there instead.
        effect: what comes of it.
        plants: each place in drawlib with the wrong function for it; one place, or two
            where a formula has two parts or the mistake has weights of its own.
        caught_by: tests that fail with the mistake and pass without, as
            ``file::name`` in the folder ``tests``.
    """

    key: str
    title: str
    where: str
    equation_right: str
    equation_wrong: str
    effect: str
    plants: tuple[Plant, ...]
    caught_by: tuple[str, ...]


def seen_by(file: str, *names: str) -> tuple[str, ...]:
    """Tests of one file, in full.

    Example:
        >>> seen_by("vae", "zero_network_costs_784_log_2")
        ('test_vae.py::test_zero_network_costs_784_log_2',)
    """
    return tuple(f"test_{file}.py::test_{name}" for name in names)


def extra(model: nn.Module, name: str, key: str) -> Any:
    """The layer that a mistake gives to a model when it is built.

    Raises:
        ValueError: for a model that was built without the mistake.
    """
    if not hasattr(model, name):
        raise ValueError(
            f"this {type(model).__name__} was built without {key}; allowed: one that "
            f"was built inside planted({key!r})"
        )
    return getattr(model, name)


# Gaussians, likelihoods, the bound


def softplus_log_variance(right, self, h):
    """log σ² = softplus(W h + b) ≥ 0."""
    mu, raw = self.linear(h).chunk(2, dim=-1)
    return Gaussian(mu, 0.5 * F.softplus(raw))


def half_a_step(right, self, other=None):
    """½ is subtracted once, not once per dimension."""
    return right(self, other) + (self.mu.shape[-1] - 1) / 2


def negative(right, self, other=None):
    """−KL for KL."""
    return -right(self, other)


def mean_over_pixels(right, self, c, x):
    """The mean log-likelihood of a pixel, not the sum over pixels."""
    return right(self, c, x) / c[0].numel()


def sigmoid_twice(right, self, c, x):
    """sigmoid(c) goes where the logits c belong."""
    return right(self, torch.sigmoid(c), x)


def weighted_report(right, *inputs):
    """The loss, with its weight on the KL, is shown as −ELBO."""
    loss, _ = right(*inputs)
    return loss, loss.detach()


def lucky_subset(right, all_elbo, elbo, iw, labels, noise):
    """The subset's own bound and error go for those of the whole split."""
    found = right(all_elbo, elbo, iw, labels, noise)
    error = iw.std().item() / math.sqrt(len(iw))
    found |= {"whole_neg_iw": iw.mean().item(), "whole_neg_iw_se": error}
    return found | {"whole_neg_iw_split_se": error}


def losses_for_weights(right, model, x, samples, generator, chunk=2000):
    """The mean of the K losses under their own softmax: the worst counts most."""
    found = [right(model, x, 1, generator, chunk) for _ in range(samples)]
    mean = {k: torch.stack([f[k] for f in found]).mean(0) for k in found[0]}
    loss = -torch.stack([f["log_iw"] for f in found])
    share = loss.softmax(0)
    return mean | {"log_iw": -(share * loss).sum(0), "ess": 1 / (share**2).sum(0)}


def training_images(right, self, name):
    """Whatever split is asked for, it is the training images."""
    return right(self, "train")


def first_half(right, self, name):
    """Of the test images, the first half."""
    part = right(self, name)
    if name != "test":
        return part
    return part.subset(torch.arange(len(part) // 2))


# The Ladder VAE


def prior_sample_down(right, self, x, noise):
    """Below the top, z is drawn from p(z_i given z_{i+1}) and not from q."""
    features, each = self.bottom_up(x), ladder.as_tuple(noise)
    rungs: list[Any] = []
    above = None
    for i in reversed(range(self.layers)):
        rung = self.rung(i, features[i], above, each[i])
        if above is not None:
            rung = rung._replace(z=rung.p.sample(each[i]))
        rungs.append(rung)
        above = rung.z
    return rungs[::-1]


def with_merge_networks(right, self, config=None):
    """Beside each prior network, a second one of the same sizes."""
    right(self, config)
    c = self.config
    sizes = zip(c.z[1:], c.hidden[:-1], c.z[:-1], strict=True)
    self.merge_networks = nn.ModuleList(
        nn.Sequential(
            ladder.block(above, width, c.activation, c.norm, c.depth),
            GaussianHead(width, z, c.variance, c.floor),
        )
        for above, width, z in sizes
    )


def merge_with_own_network(right, self, i, d, above, noise):
    """q merges with the second network; the KL is still to the prior's."""
    rung = right(self, i, d, above, noise)
    if above is None:
        return rung
    own = extra(self, "merge_networks", "L3")[i](above)
    q = ladder.merge(self.up_heads[i](d), own)
    return ladder.Rung(q.sample(noise), q, rung.p)


def noise_of_the_bottom(right, self, noise):
    """Generation begins with a z of the bottom layer's size."""
    return ladder.as_tuple(noise)[0]


# The recurrent step


def with_observation_layer(right, self, *args, **kwargs):
    """One more dense layer, from the canvas to as many logits."""
    right(self, *args, **kwargs)
    pixels = math.prod(self.image_shape)
    self.observation = linear(pixels, pixels)


def observation_layer(right, self, canvas):
    """The logits are a dense layer of the canvas."""
    layer = extra(self, "observation", "D1")
    return layer(right(self, canvas).flatten(1)).unflatten(1, self.image_shape)


def one_draw(right, self, noise):
    """The noise of the first step is used at all of them, in generation."""
    return right(self, noise[:, :1].expand_as(noise))


def one_noise(right, self, x, noise):
    """The noise of the first step is used at all of them, in inference."""
    return right(self, x, noise[:, :1].expand_as(noise))


def half_of_T(right, self, x, noise):
    """T/2 for D/2 is subtracted at each of the T steps."""
    found = right(self, x, noise)
    excess = (noise.shape[2] - self.config.T) / 2
    return replace(found, kl=found.kl + excess)


def last_step_T_times(right, self, x, noise):
    """KL_T stands in the place of every KL_t."""
    found = right(self, x, noise)
    return replace(found, kl=found.kl[:, -1:].expand_as(found.kl))


def decoder_unseen(right, self, state, x, fixed):
    """The encoder is given zeros for h_dec_{t−1}."""
    return right(self, state._replace(h_dec=torch.zeros_like(state.h_dec)), x, fixed)


def kl_to_the_standard(right, self, state, x, eps, fixed):
    """KL(q ‖ N(0, I)), whatever the prior is that generation draws from."""
    after, _, log_ratio = right(self, state, x, eps, fixed)
    return after, self.posterior(after.h_enc).to(after.canvas.dtype).kl(), log_ratio


def shared_head(right, self, h_dec):
    """The head that places the reading window places the writing window too."""
    return self.window(self.read_head, h_dec, self.config.write)


def window_before(right, self, state, z):
    """h_dec_{t−1} places the window in which h_dec_t writes."""
    after = right(self, state, z)
    if self.config.attention == "none":
        return after
    N = self.config.write
    w = self.writer(after.h_dec).unflatten(1, (self.image_shape[0], N, N))
    written = self.write_window(state.h_dec).write(w)
    return after._replace(canvas=state.canvas + written)


def error_of_logits(right, self, x, canvas):
    """x − c for x − sigmoid(c)."""
    return x - canvas


# Stopping at any step


def every_step_paid(right, q, at, T):
    """Q_s = 1: a drawing that ends early pays for the steps that it never made."""
    return torch.ones_like(right(q, at, T))


def every_step_weighed(right, log_ratio, at):
    """The same in the weight: all T ratios at every stop."""
    return log_ratio.sum(1, keepdim=True).expand(-1, len(at))


def mean_canvas(right, self, canvases, x):
    """log D(x given Σ_t π_t c_t) at every stop."""
    pi = [p for p in self.config.stops if p]
    if len(canvases) != len(pi):
        return right(self, canvases, x)
    mean = sum(p * c for p, c in zip(pi, canvases, strict=True))
    return right(self, [mean], x).expand(-1, len(pi))


# Diffusion


def weights_forgotten(right, log_snr):
    """1 for SNR(t−1) − SNR(t): the error counts alike at every level."""
    return (right(log_snr) != 0).to(log_snr.dtype)


def error_of_the_noise(right, self, x, noise):
    """The mean over the steps of ‖ε − ε̂‖² stands where the sum of the KL belongs."""
    found, fall = right(self, x, noise), -self.log_snrs(x).diff()
    # KL_t = ½ (SNR(t−1)/SNR(t) − 1) ‖ε − ε̂‖²; the columns go from T down to 1
    errors = 2 * found.kl[:, 1:] / torch.expm1(fall.flip(0))
    kl = torch.cat([found.kl[:, :1], errors / self.config.T], 1)
    return replace(found, kl=kl)


def variance_for_deviation(right, self, p, noise):
    """A drawing adds σ² ε for σ ε."""
    for down, eps in enumerate(noise.unbind(1)):
        t = self.level(noise.shape[1] - 1 - down, noise)
        z = p.mu + p.sigma**2 * eps if down else p.sample(eps)
        canvas = self.canvas(z, t)
        yield z, canvas
        if down + 1 < noise.shape[1]:
            p = self.step_down(z, t, self.guess(canvas))


# The filters


def first_of_the_batch(right, raw):
    """The five numbers of image 0 serve for all images."""
    return right(raw[:1].expand_as(raw))


def cut_gradients(right, raw):
    """Centre and stride leave the graph, as through ``.item()``."""
    g_x, g_y, third, log_delta, log_gamma = right(raw)
    return g_x.detach(), g_y.detach(), third, log_delta.detach(), log_gamma


def centre_from_one(right, g, length):
    """The paper's centre, which counts pixels from 1, among pixels from 0."""
    return right(g, length) + 1


def offsets_from_one(right, patch, like):
    """The paper's i − N/2 − ½, whose i counts from 1, with an i from 0."""
    return right(patch, like) - 1


def centre_half_off(right, g, length):
    """A/2 (g̃ + 1)."""
    return length / 2 * (g + 1)


def bracket_missing(right, log_delta, size, patch):
    """max − 1/(N−1) for (max − 1)/(N−1)."""
    return (max(size) - 1 / max(patch - 1, 1)) * torch.exp(log_delta)


def stride_inverted(right, log_delta, size, patch):
    """Divided by δ̃, not multiplied."""
    return right(-log_delta, size, patch)


def bracket_squared(right, mu, precision, length, kernel):
    """The 2σ² goes into the square; a Cauchy kernel stays as it is."""
    exponents = right(mu, precision, length, kernel)
    if kernel == "cauchy":
        return exponents
    # −d²/(2σ²) becomes −(d/(2σ²))²
    return exponents * (precision / 2)


def whole_matrix(right, e, peak, normalise, floor):
    """One sum for all rows; nothing keeps it from being 0."""
    f = peak * torch.exp(e)
    return f / f.sum((-2, -1), keepdim=True)


def rows_of_width(right, F_y, images, F_x, gamma):
    """The image's height B and width A change places."""
    turned = (*images.shape[:2], F_x.shape[2], F_y.shape[2])
    return right(F_y, images.reshape(turned), F_x, gamma)


def transposed_write(right, F_y, patches, F_x, gamma):
    """F_Yᵀ w F_Xᵀ: right where F_X is symmetric, an error where N ≠ A."""
    return right(F_y, patches, F_x.mT, gamma)


# What takes the place of what


def at(place: str, wrong: Function) -> Plant:
    """A wrong function and its place, in a module of drawlib."""
    return f"drawlib.{place}", wrong


V1 = (at("gaussian:GaussianHead.forward", softplus_log_variance),)
L1 = (at("ladder:LadderVAE.infer", prior_sample_down),)
L3 = (
    at("ladder:LadderVAE.__init__", with_merge_networks),
    at("ladder:LadderVAE.rung", merge_with_own_network),
)
L4 = (at("ladder:LadderVAE.draw_top", noise_of_the_bottom),)
D1 = (
    at("recurrent:Recurrent.__init__", with_observation_layer),
    at("recurrent:Recurrent.output", observation_layer),
)
D2 = (at("recurrent:Recurrent.dream", one_draw),)
LAST_KL = (at("recurrent:Recurrent.bound", last_step_T_times),)
UNSEEN = (at("recurrent:Recurrent.encode", decoder_unseen),)
STANDARD_KL = (at("recurrent:Recurrent.step", kl_to_the_standard),)
F1 = (at("filters:_split", first_of_the_batch),)
F2 = (at("filters:_split", cut_gradients),)
F4 = (at("filters:_normalise", whole_matrix),)
COUNTED_FROM_ONE = (
    at("filters:_offsets", offsets_from_one),
    at("filters:_centre", centre_from_one),
)
F6 = (at("recurrent:Recurrent.write_window", shared_head),)
F8 = (at("filters:_read", rows_of_width),)
EXPONENT = (at("filters:_exponents", bracket_squared),)
INVERTED = (at("filters:_stride", stride_inverted),)
HALF_OF_T = (at("recurrent:Recurrent.bound", half_of_T),)
ONE_NOISE = (at("recurrent:Recurrent.steps", one_noise),)
TRANSPOSED = (at("filters:_write", transposed_write),)
WINDOW_BEFORE = (at("recurrent:Recurrent.decode", window_before),)
BRACKET = (at("filters:_stride", bracket_missing),)
HALF_PIXEL = (at("filters:_centre", centre_half_off),)
HALF_A_STEP = (at("gaussian:Gaussian.kl", half_a_step),)
SIGN = (at("gaussian:Gaussian.kl", negative),)
MEAN = (at("likelihood:Bernoulli.forward", mean_over_pixels),)
LOGITS = (at("recurrent:Recurrent.error_image", error_of_logits),)
SIGMOID_TWICE = (at("likelihood:Bernoulli.forward", sigmoid_twice),)
KL_WEIGHT = (at("training.train:negative_elbo", weighted_report),)
LUCKY_SUBSET = (at("evaluation:whole_split", lucky_subset),)
LOSS_WEIGHTS = (at("evaluation:estimate", losses_for_weights),)
TRAIN_FOR_TEST = (at("data.sets:Data.split", training_images),)
HALF_TEST = (at("data.sets:Data.split", first_half),)
STOP_KL = (
    at("stops:reached", every_step_paid),
    at("stops:log_ratios", every_step_weighed),
)
STOP_CANVAS = (at("recurrent:Recurrent.log_likelihoods", mean_canvas),)
SNR_WEIGHTS = (at("diffusion:snr_steps", weights_forgotten),)
NOISE_LOSS = (at("diffusion:Diffusion.bound", error_of_the_noise),)
STEP_VARIANCE = (at("diffusion:Diffusion.descend", variance_for_deviation),)
