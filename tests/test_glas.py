"""GLAS: its latent space, all its ways to look at it, and what generation reads."""

import math

import numpy as np
import pytest
import reference_recurrent as reference
import torch
from exact_models import hermite_grid
from small_recurrent import (
    INFERENCE,
    arrays,
    draw,
    glas,
    silence,
    some_bits,
    start_of,
)

from drawlib.filters import Filters, filterbank
from drawlib.filters import grid as centres_on
from drawlib.glas import GLAS, GLASConfig, content

WINDOWS = ("gaussian", "cauchy")
ATTENTIONS = ("sigmoid", "softmax", "scaled-softmax", "content", *WINDOWS)


def parameters(model: GLAS) -> int:
    return sum(p.numel() for p in model.parameters())


# Sizes


def test_the_parameter_counts_are_those_of_the_repository():
    """1.1: 9 × 9 with 5 × 5 and z 25; 40 × 40 with 4 × 4 and z 50."""
    assert parameters(GLAS(GLASConfig.preset("readme"))) == 2_623_866
    assert parameters(GLAS(GLASConfig.preset("config"))) == 2_651_385
    readme = dict(GLAS(GLASConfig.preset("readme")).named_parameters())
    sizes = {}
    for name, p in readme.items():
        part = name.split(".")[0]
        sizes[part] = sizes.get(part, 0) + p.numel()
    assert sizes == {
        "encoder": 2_130_944,
        "decoder": 288_768,
        "latent_head": 1_285,
        "L": 81,
        "q_head": 1_300,
        "writer": 201_488,
    }


def test_windows_of_one_seed_share_their_first_weights_and_none_draws_others():
    """Chapter 12 pairs by seed: what of that pairing is the start."""

    def first(**changes: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return dict(GLAS(GLASConfig(T=4, **changes)).named_parameters())

    cauchy = first(latent_attention="cauchy")
    for how in ({}, {"grid": "legacy", "rows": "floor"}):
        gaussian = first(latent_attention="gaussian", **how)
        assert gaussian.keys() == cauchy.keys()
        assert all(torch.equal(p, cauchy[name]) for name, p in gaussian.items())
    none = first(latent_attention="none")
    for name in ("decoder.weight", "writer.weight"):
        assert none[name].shape == cauchy[name].shape
        assert not torch.equal(none[name], cauchy[name])


def test_the_latent_space_starts_between_0_and_a_thousandth():
    L = GLAS(GLASConfig(M=40)).L
    assert 0 <= L.min() and L.max() < 1e-3
    assert abs(L.mean() - 5e-4) < 5e-5


def test_all_states_start_at_zero_and_none_is_learned():
    model = glas()
    assert not [name for name, _ in model.named_parameters() if "start" in name]
    assert all(torch.count_nonzero(s) == 0 for s in model.start(2))


# One step


def test_one_full_step_equals_the_numpy_reference():
    model = glas()
    x, noise = some_bits(), model.noise(3)
    bound, w, results = (
        model.bound(x, noise),
        arrays(model),
        list(model.steps(x, noise)),
    )
    for k in range(3):
        state, log_ratios = start_of(model), 0.0
        for t in range(3):
            state, kl, log_ratio = reference.glas_step(
                w, state, x[k].numpy(), noise[k, t].numpy(), N=2
            )
            log_ratios += log_ratio
            for name, value in state.items():
                got = getattr(results[t][0], name)[k].detach().numpy()
                np.testing.assert_allclose(got, value, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(bound.kl[k, t].item(), kl, atol=1e-11)
        log_p = reference.bernoulli(state["canvas"], x[k].numpy())
        np.testing.assert_allclose(
            bound.log_weight[k].item(), log_p + log_ratios, atol=1e-11
        )


@pytest.mark.parametrize("attention", ["none", "gaussian"])
def test_without_latent_attention_glas_is_draw(attention):
    """5.5-49: same weights, same noise, same numbers."""
    ours = glas(latent_attention="none", attention=attention)
    theirs = draw(initial_state="zeros", canvas="zeros", attention=attention)
    theirs.load_state_dict(ours.state_dict())
    x, noise = some_bits(), ours.noise(3)
    a, b = ours.bound(x, noise), theirs.bound(x, noise)
    for name in ("log_likelihood", "kl", "log_weight"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert torch.equal(ours.generate(3, noise=noise), theirs.generate(3, noise=noise))


# What is seen of L


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
def test_simple_attention_has_one_gate_for_each_column(gate):
    """1.4: softmax over the columns; all M² numbers come out, row by row."""
    model = glas(latent_attention=gate)
    e = torch.randn(3, 6).double()
    got = model.attend(e).view(3, 4, 4)
    raw = e @ model.latent_head.weight.T + model.latent_head.bias
    for k in range(3):
        g = raw[k].sigmoid() if gate == "sigmoid" else raw[k].exp() / raw[k].exp().sum()
        for row in range(4):
            for column in range(4):
                wanted = g[column] * model.L[row, column]
                torch.testing.assert_close(got[k, row, column], wanted)


def test_a_softmax_with_a_size_of_its_own_is_the_softmax_times_gamma():
    """g = γ softmax(s), log γ the head's first number; γ = 1 is the softmax."""
    plain, sized = (
        glas(latent_attention="softmax"),
        glas(latent_attention="scaled-softmax"),
    )
    sized.L.data.copy_(plain.L)
    e = torch.randn(3, 6).double()
    sized.latent_head.weight.data[1:].copy_(plain.latent_head.weight)
    sized.latent_head.bias.data[1:].copy_(plain.latent_head.bias)
    raw = sized.latent_head(e)[:, :1]
    torch.testing.assert_close(sized.attend(e), raw.exp() * plain.attend(e))
    sized.latent_head.weight.data[0] = 0
    sized.latent_head.bias.data[0] = 0
    torch.testing.assert_close(sized.attend(e), plain.attend(e))


@pytest.mark.parametrize("batch", [1, 3])
def test_content_attention_returns_all_rows_weighted_by_their_match(batch):
    """1.4: for a batch of one too, where the code breaks; β may be negative."""
    head, L = torch.randn(batch, 5).double(), torch.randn(4, 4).double()
    got = content(head, L).view(batch, 4, 4)
    for k in range(batch):
        beta, key = head[k, 0], head[k, 1:] / head[k, 1:].norm()
        rows = [row / row.norm() for row in L]
        match = torch.stack([(beta * (row @ key)).exp() for row in rows])
        for i in range(4):
            torch.testing.assert_close(got[k, i], match[i] / match.sum() * rows[i])


def test_content_attention_ignores_the_scale_of_L():
    head, L = torch.randn(2, 5).double(), torch.randn(4, 4).double()
    torch.testing.assert_close(content(head, L), content(head, 7 * L))


@pytest.mark.parametrize("kernel", WINDOWS)
def test_a_wide_filter_sees_the_mean_of_L_in_all_cells(kernel):
    """5.5-43: s → ∞ gives γ · mean(L)."""
    model = glas(latent_attention=kernel)
    with torch.no_grad():
        model.latent_head.weight.zero_()
        model.latent_head.bias.copy_(torch.tensor([0.1, 0.2, 30.0, 0.3, 0.7]))
    a = model.attend(torch.randn(2, 6).double())
    wanted = (math.exp(0.7) * model.L.mean()).expand(2, 4)
    torch.testing.assert_close(a, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kernel", WINDOWS)
def test_a_narrow_filter_selects_every_second_cell(kernel):
    """5.5-43: 5 × 5 of 9 × 9 with stride 2 and s → 0 picks L[0::2, 0::2]."""
    model = glas(M=9, N=5, latent_attention=kernel)
    silence(model.latent_head)
    with torch.no_grad():
        model.latent_head.bias[2] = -30.0
    a = model.attend(torch.randn(1, 6).double()).view(5, 5)
    torch.testing.assert_close(a, model.L[0::2, 0::2], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", WINDOWS)
def test_the_posterior_has_five_degrees_of_freedom_a_step(kernel):
    """5.5-44: ∂(μ, log σ)/∂e_t has rank 5, whatever the size of z."""
    model = glas(latent_attention=kernel, z=8, hidden=12, M=9, N=5)

    def heads(e: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(model.posterior(e[None])), 1)[0]

    J = torch.autograd.functional.jacobian(heads, torch.randn(12).double())
    values = torch.linalg.svdvals(J)
    assert J.shape == (16, 12)
    assert values[4] > 1e-6 * values[0]
    assert values[5] < 1e-12 * values[0]


def test_without_latent_attention_the_posterior_is_not_so_bound():
    model = glas(latent_attention="none", z=8, hidden=12)
    e = torch.randn(12).double()
    J = torch.autograd.functional.jacobian(
        lambda e: torch.cat(list(model.posterior(e[None])), 1)[0], e
    )
    assert torch.linalg.matrix_rank(J) == 12


@pytest.mark.parametrize("kernel", WINDOWS)
def test_the_scale_of_L_and_the_intensity_can_be_exchanged(kernel):
    """5.5-45: L → cL, γ → γ/c leaves a_t; a constant L = k gives γ k."""
    model = glas(latent_attention=kernel)
    e = torch.randn(3, 6).double()
    a = model.attend(e)
    with torch.no_grad():
        model.L.mul_(3.0)
        model.latent_head.bias[4] -= math.log(3.0)
    torch.testing.assert_close(model.attend(e), a)
    with torch.no_grad():
        model.L.fill_(0.25)
    gamma = model.latent_window(e).gamma
    torch.testing.assert_close(model.attend(e), 0.25 * gamma[:, None].expand(3, 4))


def test_the_gradient_of_L_is_a_sum_over_steps_from_both_terms():
    """5.5-46."""
    model = glas()
    x, noise = some_bits(), model.noise(3)
    bound = model.bound(x, noise)
    for term in (bound.log_likelihood.sum(), bound.kl.sum()):
        (grad,) = torch.autograd.grad(term, model.L, retain_graph=True)
        assert grad.abs().max() > 0
    (whole,) = torch.autograd.grad(bound.elbo.sum(), model.L, retain_graph=True)
    # The same L at each step: give each step its own copy, and add up their gradients.
    copies = [model.L.detach().clone().requires_grad_() for _ in range(3)]
    turn = iter(copies)
    model.latent_space = lambda: next(turn)
    elbo = model.bound(x, noise).elbo.sum()
    parts = torch.autograd.grad(elbo, copies)
    assert all(part.abs().max() > 0 for part in parts)
    torch.testing.assert_close(sum(parts), whole)


def test_both_grids_have_their_centres():
    """5.5-48: raw numbers 0, M = 9, N = 5, through the model and its trace."""
    for grid, centres in (
        ("legacy", [-21.25, -12.5, -3.75, 5.0, 13.75]),
        ("corrected", [0.0, 2.0, 4.0, 6.0, 8.0]),
    ):
        model = glas(M=9, N=5, grid=grid)
        silence(model.latent_head)
        window = model.latent_window(torch.randn(2, 6).double())
        wanted = torch.tensor(centres).double().expand(2, 5)
        assert torch.equal(window.mu_x, wanted) and torch.equal(window.mu_y, wanted)
        latent = model.trace(some_bits(2)).latent
        assert torch.equal(latent.mu_x, wanted.expand(3, 2, 5))
        assert torch.equal(latent.sigma, torch.ones(3, 2).double())


def test_floor_rows_fade_far_outside_and_exact_rows_do_not():
    """1.3: on the legacy grid the Gaussian's first row is 0 with the code's floor."""
    sums = {}
    for rows in ("floor", "exact"):
        model = glas(M=9, N=5, grid="legacy", rows=rows, latent_attention="gaussian")
        silence(model.latent_head)
        sums[rows] = model.latent_window(torch.zeros(1, 6).double()).F_x.sum(2)[0]
    assert sums["floor"][0] < 1e-90 and abs(sums["floor"][2] - 0.9) < 0.1
    torch.testing.assert_close(sums["exact"], torch.ones(5).double())


@pytest.mark.parametrize("kernel", WINDOWS)
def test_mirrored_L_and_window_give_a_mirrored_reading(kernel):
    """5.5-50, on the corrected grid; the legacy grid fails it."""
    for grid, equal in (("corrected", True), ("legacy", False)):
        model = glas(M=9, N=5, latent_attention=kernel, grid=grid)
        torch.nn.init.zeros_(model.latent_head.weight)
        e = torch.randn(1, 6).double()
        a = model.attend(e).view(5, 5)
        with torch.no_grad():
            model.latent_head.bias[0].neg_()
            model.L.copy_(model.L.flip(1))
        mirrored = model.attend(e).view(5, 5).flip(1)
        assert torch.allclose(mirrored, a, rtol=1e-10, atol=1e-13) == equal


# What becomes of L


def test_a_fixed_L_is_saved_but_not_trained():
    model = glas(space="fixed")
    assert "L" not in dict(model.named_parameters()) and "L" in model.state_dict()
    assert 0 <= model.L.min() and model.L.max() < 1e-3
    learned = glas()
    assert parameters(learned) == parameters(model) + 16


def test_a_masked_L_is_revealed_from_its_middle():
    model = glas(space="masked", M=9, N=5)
    shown = []
    for fraction in (0.0, 0.2, 0.5, 1.0):
        model.reveal(fraction)
        shown.append(int(model.mask.sum()))
        assert torch.equal(model.mask, model.mask.T)
    assert shown == [1, 4, 25, 81]
    model.reveal(0.2)
    bound = model.bound(some_bits(), model.noise(3))
    bound.elbo.sum().backward()
    assert torch.equal(model.L.grad != 0, model.mask != 0)
    assert torch.equal(model.latent_space(), model.L * model.mask)
    assert "mask" in model.state_dict()


def test_a_training_reveals_a_masked_L_epoch_by_epoch_and_leaves_others_alone():
    model, learned = glas(space="masked", M=9, N=5), glas()
    for epoch in range(3):
        model.begin_epoch((epoch + 1) / 3)
        assert model.mask.sum() == (3 * (epoch + 1)) ** 2
    before = learned.L.clone()
    learned.begin_epoch(0.5)
    assert torch.equal(learned.latent_space(), before)


def test_a_wholly_revealed_L_is_a_learned_one():
    masked, learned = glas(space="masked"), glas()
    masked.reveal(1.0)
    learned.load_state_dict(masked.state_dict(), strict=False)
    x, noise = some_bits(), learned.noise(3)
    assert torch.equal(masked.bound(x, noise).elbo, learned.bound(x, noise).elbo)


# Generation


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_generation_does_not_depend_on_L(attention):
    """5.5-47, 5.3-30: as coded, L and its head belong to q alone."""
    model = glas(latent_attention=attention)
    noise = model.noise(2)
    before = model.generate(2, noise=noise)
    *_, last = model.dream(noise)
    last.canvas.square().sum().backward()
    inference = (*INFERENCE, "latent_head.", "L")
    for name, p in model.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 0)
        assert reached != name.startswith(inference), name
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith(inference):
                p.fill_(math.nan)
    assert torch.equal(model.generate(2, noise=noise), before)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_with_a_generative_memory_generation_depends_on_L(attention):
    """And on the head that z_t places the window with, but on nothing of q."""
    model = glas(latent_attention=attention, memory="generative")
    noise = model.noise(2)
    before = model.generate(2, noise=noise)
    *_, last = model.dream(noise)
    last.canvas.square().sum().backward()
    for name, p in model.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 0)
        assert reached != name.startswith(INFERENCE), name
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith(INFERENCE):
                p.fill_(math.nan)
        assert torch.equal(model.generate(2, noise=noise), before)
        # Not a multiple of L: content attention reads directions only.
        model.L.add_(torch.randn_like(model.L))
    assert not torch.allclose(model.generate(2, noise=noise), before)


def test_with_a_generative_memory_the_decoder_hears_of_z_through_L_alone():
    model = glas(memory="generative")
    with torch.no_grad():
        model.L.fill_(0.0)
    assert torch.equal(*model.generate(2, noise=model.noise(2)))
    assert model.decoder.weight.shape == (24, 4 + 6)
    assert model.latent_head.weight.shape == (5, 2)


def test_with_a_generative_memory_the_weights_average_to_p():
    """E_q[p(x, z)/q(z)] = p(x), with p(x) by quadrature over two latents."""
    torch.manual_seed(6)
    model = glas(image_shape=(1, 2, 2), T=2, hidden=3, z=1, memory="generative")
    x = some_bits(1, (1, 2, 2))
    with torch.no_grad():
        model.L.mul_(5.0)
        points, weights = hermite_grid(2, 60)
        *_, last = model.dream(points.unsqueeze(2))
        log_x = model.likelihood(last.canvas, x.expand(len(points), -1, -1, -1))
        log_p = torch.logsumexp(log_x + weights.log(), 0)
        bound = model.bound(x.expand(20000, -1, -1, -1), model.noise(20000))
    w = (bound.log_weight - log_p).exp()
    assert bound.elbo.mean() < log_p
    assert (w.mean() - 1).abs() < 4 * w.std() / 20000**0.5


@pytest.mark.parametrize("memory", ["inference", "generative"])
def test_the_trace_shows_the_window_on_L(memory):
    model = glas(memory=memory)
    x, noise = some_bits(), model.noise(3)
    trace = model.trace(x, noise=noise)
    assert trace.latent.mu_x.shape == (3, 3, 2)
    state, _, _ = next(model.steps(x, noise))
    looks_from = state.h_enc
    if memory == "generative":
        looks_from = model.posterior(state.h_enc).sample(noise[:, 0])
    window = model.latent_window(looks_from)
    torch.testing.assert_close(trace.latent.mu_x[0], window.mu_x.detach())
    assert glas(latent_attention="content").trace(x).latent is None


# Configurations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"latent_attention": "grid"},
            "latent_attention is 'grid'; allowed: none, sig",
        ),
        ({"grid": "new"}, "grid is 'new'; allowed: corrected, legacy"),
        ({"rows": "sum"}, "rows is 'sum'; allowed: exact, floor"),
        ({"space": "random"}, "space is 'random'; allowed: learned, fixed, masked"),
        ({"memory": "none"}, "memory is 'none'; allowed: inference, generative"),
        ({"M": 0}, "M is 0; it must be at least 1"),
        ({"N": 0}, "N is 0; it must be at least 1"),
        (
            {"latent_attention": "none", "memory": "generative"},
            "latent_attention is 'none' with a generative memory; allowed: sigmoid",
        ),
        (
            {"latent_attention": "none", "space": "masked"},
            "latent_attention is 'none' with a masked space; allowed: sigmoid",
        ),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError) as refused:
        GLASConfig(**changes)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_reveal_is_refused_where_there_is_nothing_to_reveal():
    with pytest.raises(ValueError, match="space is 'learned'; allowed: masked"):
        glas().reveal(0.5)
    with pytest.raises(ValueError, match="fraction is 1.5; allowed: 0 to 1"):
        glas(space="masked").reveal(1.5)


# What chapter 12's hard exercise says of its toy problem


@pytest.mark.parametrize("kernel, narrows", [("gaussian", True), ("cauchy", False)])
def test_the_row_beside_the_memory_narrows_gaussian_windows_and_widens_cauchy_ones(
    kernel, narrows
):
    zero, ones = torch.zeros(400, 5).double(), torch.ones(400).double()
    memories = torch.rand(400, 1, 9, 9, generator=torch.Generator().manual_seed(25))
    memories = memories.double()
    home = filterbank(zero, (9, 9), 5, kernel=kernel).read(memories)
    mu = [m.clone().requires_grad_() for m in centres_on(zero, (9, 9), 5, legacy=True)]
    reading = Filters.from_centres(*mu, ones, ones, (9, 9), kernel).read(memories)
    error = (reading - home).square().flatten(1).mean(1).sum()
    # mu_k = … + (k − 3) G exp(log δ̃): eq. (12.4); the descent narrows where it is > 0
    part = sum(torch.autograd.grad(error, mu)) * (torch.arange(5) - 3) * 8.75
    strongest = part.abs().mean(0).argmax().item()
    assert strongest == 2 and mu[0][0, 2] == -3.75
    assert (part[:, 3] == 0).all() and 0 <= mu[0][0, 3] <= 8
    share = ((part[:, 2] > 0) == narrows).double().mean()
    assert share > 0.9
    first_step = (part.sum(1) > 0).double().mean()
    assert first_step > 0.9 if narrows else 0.6 < 1 - first_step < 0.72
