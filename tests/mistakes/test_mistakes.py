"""The tests can fail: each public mistake is planted, and the tests that name it fail.

For each mistake and each test that its entry names, the test is run with the mistake,
until one of its parameters fails; the same call must then pass without.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from exact_models import bits, seeded
from small_recurrent import draw, glas, some_bits
from torch import nn
from toy_runs import toy_data

from drawlib.diffusion import Diffusion, DiffusionConfig
from drawlib.draw import DRAW, DRAWConfig
from drawlib.filters import filterbank, grid
from drawlib.gaussian import Gaussian
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.likelihood import Bernoulli
from drawlib.mistakes import planting as mistakes
from drawlib.mistakes.planting import MISTAKES, planted
from drawlib.training.schedule import TrainConfig
from drawlib.training.train import fit
from drawlib.vae import VAE, VAEConfig

# The mistakes that the course promises to catch, by source.
PROMISED = {
    "simonamtoft": "V1 L1 L2 L3 L4 D1 D2 F1 F2 F4 F5 F6 F8",
    "jhui.github.io": "hui-a hui-b hui-c hui-d hui-e",
    "Khanian": "khanian-a khanian-c khanian-d",
    "dojoteef/glas": "glas-bracket glas-offset",
    "jbornschein": "half-pixel",
    "arXiv:1502.04623": "eq-11",
    "geosada/ConvDRAW": "geosada-kl geosada-encoder",
    "AntixK/PyTorch-VAE": "mean loss-weights",
    "yburda/iwae": "train-for-test",
    "Efficient-VDVAE": "half-test",
    "of our own making": (
        "kl-sign standard-kl logits probabilities kl-weight lucky-subset stop-kl "
        "stop-canvas snr-weights noise-loss step-variance"
    ),
}
# Shapes that do not fit are an error of PyTorch; all else must be a failed claim.
WRONG_SHAPES = {"L4", "F8", "khanian-a"}
NAMED = [(key, test) for key, m in MISTAKES.items() for test in m.caught_by]


# Running other tests


def parameters(module: Any, test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each run of a test: its marks, and the models of `MODELS`."""
    axes = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0]
            if isinstance(names, str):
                names = [name.strip() for name in names.split(",")]
            rows = [row if len(names) > 1 else (row,) for row in mark.args[1]]
            axes.append([dict(zip(names, row, strict=True)) for row in rows])
    if "model" in inspect.signature(test).parameters:
        axes.append([{"model": name} for name in module.MODELS])
    for choice in itertools.product(*axes):
        yield {name: value for part in choice for name, value in part.items()}


def call(module: Any, test: Any, given: dict[str, Any], folder: Any) -> None:
    """One run of a test, with the fixtures that it asks for."""
    given = dict(given)
    torch.manual_seed(0)
    if "model" in given:
        torch.manual_seed(1)
        given["model"] = module.MODELS[given["model"]]()
    wanted = inspect.signature(test).parameters
    if "tmp_path" in wanted:
        given["tmp_path"] = folder
    with pytest.MonkeyPatch.context() as patch:
        if "monkeypatch" in wanted:
            given["monkeypatch"] = patch
        test(**given)


def first_failure(key: str, name: str, folder: Any) -> dict[str, Any] | None:
    """The arguments with which a test first fails while a mistake is being made."""
    module, test = find(name)
    errors = (AssertionError, RuntimeError) if key in WRONG_SHAPES else AssertionError
    with planted(key):
        for number, given in enumerate(parameters(module, test)):
            try:
                call(module, test, given, folder / str(number))
            except errors:
                return given
    return None


def find(name: str) -> tuple[Any, Any]:
    """The module and the function of ``file::name``."""
    file, function = name.split("::")
    module = importlib.import_module(file.removesuffix(".py"))
    return module, getattr(module, function)


@pytest.mark.parametrize(
    ("key", "name"), NAMED, ids=[f"{k}-by-{n.split('::')[1]}" for k, n in NAMED]
)
def test_planted_mistake_is_caught(key, name, tmp_path):
    given = first_failure(key, name, tmp_path)
    assert given is not None, f"{name} passes with {key}: a test is missing"
    call(*find(name), given, tmp_path / "without")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("D2", "test_gaussian.py::test_merge_limits"),
        ("F1", "test_filters.py::test_a_single_filter_ignores_the_stride"),
        ("hui-d", "test_recurrent.py::test_the_canvas_adds_up"),
        ("F2", "test_filters.py::test_eq_25_filterbank_rows_sum_to_one"),
    ],
)
def test_a_test_that_a_mistake_does_not_concern_passes_with_it(key, name, tmp_path):
    """And so would be reported, were it named."""
    assert first_failure(key, name, tmp_path) is None


# The catalogue


def test_every_promised_mistake_is_in_the_catalogue_with_its_source():
    promised = [key for keys in PROMISED.values() for key in keys.split()]
    assert sorted(MISTAKES) == sorted(promised)
    for source, keys in PROMISED.items():
        for key in keys.split():
            assert source in MISTAKES[key].where, key


@pytest.mark.parametrize("key", MISTAKES)
def test_every_entry_is_complete(key):
    mistake = MISTAKES[key]
    assert mistake.key == key
    assert mistake.equation_right != mistake.equation_wrong
    texts = (mistake.title, mistake.where, mistake.effect, mistake.equation_right)
    assert all(text and "\n" not in text for text in texts)
    assert mistake.effect.endswith(".")
    assert len(set(mistake.caught_by)) >= 2
    assert 1 <= len(mistake.plants) <= 2


# Planting


def everything() -> dict[str, Any]:
    """What each name in drawlib stands for, in modules and in their classes."""
    found = {}
    for module, content in list(sys.modules.items()):
        if module.split(".")[0] != "drawlib":
            continue
        for name, value in list(vars(content).items()):
            found[module, name] = value
            if inspect.isclass(value) and value.__module__ == module:
                for inner, what in list(vars(value).items()):
                    found[module, name, inner] = what
    return found


def changed(before: dict[str, Any]) -> set[Any]:
    after = everything()
    assert set(after) == set(before)
    return {name for name in before if before[name] is not after[name]}


@pytest.mark.parametrize("key", MISTAKES)
def test_planting_changes_only_its_places_and_restores_them(key):
    before = everything()
    with planted(key) as (mistake,):
        assert mistake is MISTAKES[key]
        places = {
            (module, *path.split("."))
            for module, path in (place.split(":") for place, _ in mistake.plants)
        }
        assert changed(before) == places
    assert not changed(before)


def test_an_exception_restores_everything():
    before = everything()
    with pytest.raises(ZeroDivisionError), planted(*MISTAKES):
        assert changed(before)
        raise ZeroDivisionError
    assert not changed(before)
    assert not mistakes.EXCHANGED


def test_blocks_nest_and_one_mistake_of_two_names_is_made_once():
    zero = torch.zeros(1, 5)
    right = grid(zero, (28, 28), 5)[0]
    with planted("half-pixel"):
        half = grid(zero, (28, 28), 5)[0]
        with planted("hui-b"), planted("half-pixel"):
            both = grid(torch.full((1, 5), 0.5), (28, 28), 5)[0]
            assert torch.equal(grid(zero, (28, 28), 5)[0], half)
        assert torch.equal(grid(zero, (28, 28), 5)[0], half)
        assert not torch.equal(grid(torch.full((1, 5), 0.5), (28, 28), 5)[0], both)
    assert torch.equal(grid(zero, (28, 28), 5)[0], right)
    with planted("F5"):
        once = grid(zero, (28, 28), 5)[0]
        with planted("hui-c", "glas-offset"):
            assert torch.equal(grid(zero, (28, 28), 5)[0], once)
        assert torch.equal(grid(zero, (28, 28), 5)[0], once)
    with planted("F5", "F5"):
        assert torch.equal(grid(zero, (28, 28), 5)[0], once)


def test_blocks_that_end_in_the_order_they_began_are_refused():
    first, second = planted("F1"), planted("F2")
    first.__enter__()
    second.__enter__()
    with pytest.raises(RuntimeError, match="filters.*in the reverse of their order"):
        first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    # What the refused block left behind is put right here, for the tests that follow.
    (place, _), *_ = MISTAKES["F1"].plants
    owner, name = mistakes._find(place)
    setattr(owner, name, inspect.getattr_static(owner, name).__wrapped__)


def test_mistakes_of_one_place_are_made_together_in_either_order():
    raw = seeded(3, 5).requires_grad_()
    values, gradients = [], []
    for keys in (("F1", "F2"), ("F2", "F1")):
        with planted(*keys):
            F_x = filterbank(raw, (9, 9), 3).F_x
        values.append(F_x)
        gradients.append(torch.autograd.grad((F_x * seeded(3, 3, 9)).sum(), raw)[0])
    assert torch.equal(*values) and torch.equal(*gradients)
    assert torch.equal(values[0][0], values[0][2])
    assert (gradients[0] != 0).nonzero().tolist() == [[0, 2]]


def test_as_a_decorator_it_makes_the_mistake_for_one_function():
    @planted("half-pixel")
    def first_centre() -> float:
        return grid(torch.zeros(1, 5), (28, 28), 5)[0][0, 0].item()

    assert first_centre() == first_centre() == 0.5
    assert grid(torch.zeros(1, 5), (28, 28), 5)[0][0, 0].item() == 0


@pytest.mark.parametrize("keys", [("F3",), ("V1", "f1")])
def test_an_unknown_mistake_is_refused_in_one_line_and_nothing_is_planted(keys):
    before = everything()
    with pytest.raises(ValueError) as refused, planted(*keys):
        pass
    message = str(refused.value)
    assert message.startswith(f"mistake is {keys[-1]!r}; allowed: V1, L1, ")
    assert message.endswith(f", {list(MISTAKES)[-1]}") and "\n" not in message
    assert not changed(before)


@pytest.mark.parametrize("key", MISTAKES)
def test_every_model_still_computes_with_the_mistake(key):
    """What the tests catch is the mistake, and not a program that fell over."""
    with planted(key):
        square = {"image_shape": (1, 5, 5), "attention": "gaussian"}
        if key == "khanian-a":  # N = A, where its shapes fit
            square["write"] = 5
        for model in (
            draw(**square),
            glas(image_shape=(1, 5, 5)),
            VAE(VAEConfig.preset("tiny")),
            LadderVAE(LadderConfig.preset("tiny", z=(3, 3))),
            Diffusion(DiffusionConfig.preset("tiny")),
        ):
            x = bits(3, model.image_shape).to(next(model.parameters()))
            bound = model(x)
            bound.elbo.sum().backward()
            assert torch.isfinite(bound.elbo).all()
            assert torch.isfinite(model.generate(2)).all()
            assert all(
                torch.isfinite(p.grad).all()
                for p in model.parameters()
                if p.grad is not None
            )


# The numbers that are told


def centres(*keys: str, size: int = 28, patch: int = 5, **options: Any) -> list[float]:
    """Where the filters stand with these mistakes, all raw numbers 0."""
    with planted(*keys):
        return grid(seeded(1, 5) * 0, (size, size), patch, **options)[0][0].tolist()


def test_first_windows_stand_where_they_are_said_to():
    assert centres() == [0, 6.75, 13.5, 20.25, 27]
    assert centres("hui-c") == [-5.75, 1, 7.75, 14.5, 21.25]
    source = centres("F5", patch=12)
    assert (source[0], source[-1]) == pytest.approx((1 - 27 / 11, 28 - 27 / 11))
    assert source[0] == pytest.approx(-1.45, abs=0.005)
    assert source[-1] == pytest.approx(25.55, abs=0.005)
    shifted = centres("half-pixel")
    assert (shifted[0], shifted[-1]) == (0.5, 27.5)
    assert centres("hui-b") == centres()


def test_both_defects_of_glas_together_are_its_own_grid():
    both = ("glas-bracket", "glas-offset")
    assert centres(*both, size=9) == [-21.25, -12.5, -3.75, 5, 13.75]
    assert centres("glas-bracket", size=9) == [-13.5, -4.75, 4, 12.75, 21.5]
    raw = seeded(6, 5)
    legacy = grid(raw, (9, 9), 5, legacy=True)
    with planted(*both):
        for mine, theirs in zip(grid(raw, (9, 9), 5), legacy, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_f5_cancels_where_the_stride_is_one_pixel():
    assert centres("F5", size=9, patch=9) == centres(size=9, patch=9)


def test_f4_rows_sum_to_about_a_twelfth_and_patches_fade():
    raw = seeded(1, 5) * 0
    with planted("F4"):
        alone = filterbank(raw, (28, 28), 12).F_x.sum(-1)
    with planted("F4", "F5"):
        source = filterbank(raw, (28, 28), 12)
    assert alone.mean().item() == pytest.approx(1 / 12)
    sums = source.F_x.sum(-1)
    assert round(sums.min().item(), 3) == 0.014
    assert round(sums.max().item(), 3) == 0.090
    white = source.read(torch.ones(1, 1, 28, 28, dtype=raw.dtype))
    assert white.mean().item() == pytest.approx(1 / 144)


def test_f2_leaves_gradients_for_width_and_intensity_alone():
    raw = seeded(1, 5).requires_grad_()
    with planted("F2"):
        read = filterbank(raw, (9, 9), 3).read(seeded(1, 1, 9, 9))
    (read * seeded(1, 1, 3, 3, seed=1)).sum().backward()
    assert (raw.grad[0] != 0).tolist() == [False, False, True, False, True]


def test_hui_a_is_a_gaussian_of_variance_two_sigma_to_the_fourth():
    raw = seeded(4, 5)
    with planted("hui-a"):
        wrong = filterbank(raw, (12, 12), 3)
        cauchy = filterbank(raw, (12, 12), 3, "cauchy")
    same = raw.clone()
    same[:, 2] = math.log(2) + 2 * raw[:, 2]
    torch.testing.assert_close(wrong.F_x, filterbank(same, (12, 12), 3).F_x)
    assert torch.equal(cauchy.F_x, filterbank(raw, (12, 12), 3, "cauchy").F_x)
    # One pixel from the centre at σ² = 4: e^{−1/64} where e^{−1/8} is right.
    four = torch.tensor([[0, 0, math.log(4), 0, 0]], dtype=raw.dtype)
    with planted("hui-a"):
        row = filterbank(four, (9, 9), 1).F_x[0, 0]
    assert (row[5] / row[4]).item() == pytest.approx(math.exp(-1 / 64))


@pytest.mark.parametrize(
    ("key", "T", "z", "nats"),
    [
        ("eq-11", 64, 100, 3168),
        ("khanian-d", 64, 100, 3168),
        ("hui-d", 64, 100, 1152),
        ("eq-11", 5, 1, 0),
        ("hui-d", 10, 10, 0),
        ("hui-d", 4, 2, -4),
    ],
)
def test_wrong_constants_misstate_the_bound_by_as_much_as_is_said(key, T, z, nats):
    model = DRAW(DRAWConfig(image_shape=(1, 2, 2), hidden=3, T=T, z=z)).double()
    x, noise = bits(2, (1, 2, 2)), model.noise(2)
    right = model.bound(x, noise)
    (gradient,) = torch.autograd.grad(right.elbo.sum(), model.q_head.linear.weight)
    with planted(key):
        wrong = model.bound(x, noise)
    shift = torch.full((2,), float(nats), dtype=torch.float64)
    torch.testing.assert_close(right.elbo - wrong.elbo, shift)
    (same,) = torch.autograd.grad(wrong.elbo.sum(), model.q_head.linear.weight)
    torch.testing.assert_close(same, gradient)


def test_v1_and_l2_keep_sigma_at_one_or_more_and_a_merge_at_a_half():
    q = Gaussian(torch.tensor([math.e**2 - 1]).sqrt(), torch.zeros(1))
    assert q.kl().item() == pytest.approx(3.19, abs=0.005)  # R = 1 nat at σ = 1
    with planted("V1"):
        vae = VAE(VAEConfig.preset("tiny")).double()
        vae.head.linear.bias.data.fill_(-20.0)
        assert (vae.encode(bits(4, (1, 28, 28))).sigma >= 1).all()
    with planted("L2"):
        ladder = LadderVAE(LadderConfig.preset("tiny")).double().eval()
        for head in ladder.up_heads:
            head.linear.bias.data.fill_(-20.0)
        bottom, top = ladder.infer(bits(4, (1, 28, 28)), ladder.noise(4))
        assert (top.q.sigma >= 1).all() and (bottom.p.sigma >= 1).all()
        assert (bottom.q.sigma**2 >= 0.5).all() and (bottom.q.sigma < 1).any()


def test_l1_leaves_only_the_top_head_to_the_reconstruction():
    with planted("L1"):
        model = LadderVAE(LadderConfig.preset("tiny", hidden=(8,) * 3, z=(4, 3, 2)))
        model(bits(6, (1, 28, 28)).float()).log_likelihood.sum().backward()
    assert [h.linear.weight.grad is None for h in model.up_heads] == [True, True, False]


def test_l1_and_l3_are_made_together_in_either_order():
    x, seen = bits(5, (1, 28, 28)), []
    for keys in (("L1", "L2", "L3"), ("L3", "L1", "L2")):
        torch.manual_seed(3)
        with planted(*keys):
            model = LadderVAE(LadderConfig.preset("tiny")).double()
            noise = model.noise(5)
            bottom, top = model.infer(x, noise)
            seen.append(model.bound(x, noise).elbo)
            assert torch.equal(bottom.z, bottom.p.sample(noise[0]))  # L1
            own = model.merge_networks[0](top.z)
            assert (bottom.q.sigma < own.sigma).all()  # L3
    assert torch.equal(*seen)


def test_l3_and_d1_bring_their_own_weights():
    right = LadderVAE()
    with planted("L3"):
        wrong = LadderVAE()
    count = {m: sum(p.numel() for p in m.parameters()) for m in (right, wrong)}
    # Two networks: affine, scale and shift, and two heads each.
    assert count[wrong] - count[right] == (32 * 512 + 2 * 512 + 2 * (512 * 64 + 64)) + (
        32 * 256 + 2 * 256 + 2 * (256 * 32 + 32)
    )
    with planted("D1"):
        model = DRAW(DRAWConfig.preset("source"))
    # The published number, less one of two bias vectors in each LSTM.
    assert sum(p.numel() for p in model.parameters()) == 3_262_304 - 2 * 4 * 256


@pytest.mark.parametrize(("key", "build"), [("D1", draw), ("L3", LadderVAE)])
def test_a_model_built_without_the_extra_weights_is_refused_in_one_line(key, build):
    model = build()
    x = bits(2, model.image_shape).to(next(model.parameters()))
    name = type(model).__name__
    message = rf"this {name} was built without {key}; allowed: .* planted\('{key}'\)$"
    with planted(key), pytest.raises(ValueError, match=message):
        model(x)
    model(x)


def test_a_model_built_with_extra_weights_is_right_again_outside():
    with planted("D1"):
        model = draw()
        x, noise = some_bits(), model.noise(3)
        wrong = model.bound(x, noise).elbo
    plain = draw()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(model.bound(x, noise).elbo, plain.bound(x, noise).elbo)
    assert not torch.allclose(model.bound(x, noise).elbo, wrong)


def test_d2_and_hui_e_use_the_first_noise_alone():
    model = draw()
    x, noise = some_bits(), model.noise(3)
    other = noise.clone()
    other[:, 1:] = -other[:, 1:]
    with planted("D2", "hui-e"):
        assert torch.equal(
            model.generate(3, noise=noise), model.generate(3, noise=other)
        )
        assert torch.equal(model.bound(x, noise).elbo, model.bound(x, other).elbo)
    assert not torch.equal(model.bound(x, noise).elbo, model.bound(x, other).elbo)


def test_khanian_c_writes_the_first_patch_in_one_place_for_all_images():
    model = draw(attention="gaussian")
    with planted("khanian-c"):
        states = [state for state, _, _ in model.steps(some_bits(), model.noise(3))]
    window = model.write_window(model.start(3).h_dec)
    assert torch.equal(window.mu_x[0], window.mu_x[2])
    w = model.writer(states[0].h_dec).view(3, 1, 3, 3)
    written = states[0].canvas - model.start(3).canvas
    torch.testing.assert_close(written, window.write(w))


def test_probabilities_for_logits_leave_a_pixel_between_a_half_and_073():
    c = torch.tensor([-1e3, 1e3]).double().view(2, 1, 1, 1)
    with planted("probabilities"):
        best = [
            Bernoulli()(c, torch.full_like(c, bit)).max().exp().item()
            for bit in (0.0, 1.0)
        ]
    assert best == pytest.approx([0.5, 1 / (1 + math.exp(-1))])
    assert [round(-math.log(p), 2) for p in best] == [0.69, 0.31]


def test_kl_sign_exceeds_any_bound():
    with planted("kl-sign"):
        model = VAE(VAEConfig.preset("tiny"))
        model.head.linear.bias.data.fill_(5.0)
        assert (model(bits(3, (1, 28, 28)).float()).elbo > 0).all()


# Training with a mistake


@pytest.mark.parametrize(
    ("keys", "build", "weights"),
    [
        (
            ("L1", "L2", "L3"),
            lambda: LadderVAE(LadderConfig.preset("tiny", image_shape=(1, 6, 6))),
            "merge_networks",
        ),
        (
            ("D1", "F4", "F5", "F6"),
            lambda: DRAW(
                DRAWConfig.preset(
                    "tiny", image_shape=(1, 6, 6), T=2, attention="gaussian"
                )
            ),
            "observation",
        ),
    ],
)
def test_a_model_is_trained_with_its_mistakes(keys, build, weights, tmp_path):
    """Its own weights learn, and it can be copied for a moving average."""
    settings = TrainConfig(epochs=1, batch_size=32, ema=0.9, device="cpu")
    with planted(*keys):
        model = build()
        before = copy.deepcopy(getattr(model, weights).state_dict())
        history = fit(model, toy_data(), settings, tmp_path, progress=False)
    assert math.isfinite(history.column("valid")[-1])
    after = getattr(model, weights)
    assert isinstance(after, nn.Module)
    assert any(not torch.equal(v, before[k]) for k, v in after.state_dict().items())


def test_what_is_planted_is_told_by_its_first_name():
    assert mistakes.active() == ()
    with planted("hui-c", "V1"), planted("F5"):
        assert mistakes.active() == ("V1", "F5")
    assert mistakes.active() == ()
