"""What is given to models and to those who measure them: types, names, seeds."""

import copy
import itertools

import jaxtyping
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from drawlib import (
    Classifier,
    ClassifierConfig,
    Data,
    TrainConfig,
    evaluate,
    fit,
    plots,
    stratified_subset,
)
from drawlib.annealing import AISConfig, ais, sandwich
from drawlib.classifier import loss
from drawlib.data.download import DataError
from drawlib.evaluation import estimate
from drawlib.likelihood import (
    Bernoulli,
    Categorical,
    DiscretisedLogistic,
    check_support,
)
from drawlib.models import CONFIGS, KINDS, build
from drawlib.pages import explorer
from drawlib.stops import stop_prior


@pytest.fixture(autouse=True)
def outside():
    """As those who use the library have it: no types are checked but by itself."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


DATA = Data.from_arrays(np.zeros((30, 28, 28), bool))


def tiny(kind: str, **changes):
    torch.manual_seed(0)
    own = {"likelihood": "bernoulli", "image_shape": (1, 28, 28), **changes}
    return build(CONFIGS[kind].preset("tiny", **own)).eval()


CLASSIFIER = Classifier(ClassifierConfig.preset("tiny"))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


WAYS = [
    (kind, way)
    for kind, way in itertools.product(CONFIGS, ("forward", "reconstruct", "trace"))
    if way != "trace" or kind in ("draw", "glas", "conv-draw")
]


@pytest.mark.parametrize(("kind", "way"), WAYS)
@pytest.mark.parametrize(
    ("weights", "images"),
    [(torch.float64, torch.float32), (torch.float32, torch.float64)],
)
def test_images_and_noise_take_the_type_of_the_weights(kind, way, weights, images):
    """float32 images of a float64 model ended in "mat1 and mat2 must have the same"."""
    model = tiny(kind).to(weights)
    x = (torch.rand(3, 1, 28, 28, generator=seeded()) > 0.5).to(images)

    def result(x, noise):
        found = getattr(model, way)(x, noise=noise)
        return {"forward": lambda: found.elbo, "trace": lambda: found.canvases}.get(
            way, lambda: found
        )()

    drawn = model.noise(3, seeded())
    several = drawn if isinstance(drawn, tuple) else (drawn,)
    other = tuple(eps.to(images) for eps in several)
    mixed = result(x, other if len(other) > 1 else other[0])
    again = tuple(eps.to(weights) for eps in other)
    own = result(x.to(weights), again if len(again) > 1 else again[0])
    assert mixed.dtype == weights
    assert torch.equal(mixed, own)


def test_a_seed_in_place_of_a_generator_is_told_as_one():
    model = tiny("vae")
    told = r"generator is 3; allowed: a torch.Generator, such as"
    with pytest.raises(TypeError, match=told):
        model.generate(2, generator=3)
    with pytest.raises(TypeError, match=told):
        model(torch.zeros(1, 1, 28, 28), generator=3)


@pytest.mark.parametrize("n", [2.5, True, "3"])
def test_a_number_of_images_is_a_whole_one(n):
    with pytest.raises(ValueError, match="number of images is .* a whole number"):
        tiny("vae").generate(n)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("mnist-fixed/x", "model is a str; allowed: a model, such as load_pretrained"),
        (type(tiny("vae")), "model is a class"),
        (nn.Linear(2, 2), "model is a Linear"),
        (nn.DataParallel(tiny("vae")), "model is a DataParallel; allowed: its .module"),
    ],
)
def test_what_is_no_model_is_told_by_its_kind(model, told, tmp_path):
    with pytest.raises(TypeError, match=told):
        evaluate(model, DATA, "test", samples=1)
    if isinstance(model, nn.Module):
        with pytest.raises(TypeError, match=told):
            fit(model, DATA, TrainConfig(epochs=1), tmp_path, progress=False)


@pytest.mark.parametrize(
    "model", ["mnist-fixed/x", nn.DataParallel(tiny("vae")), CLASSIFIER]
)
def test_what_has_no_bound_is_told_before_it_is_measured(model, tmp_path):
    """They ended in "has no attribute 'image_shape'", 'training_noise' or 'bound'."""
    x, told = torch.zeros(2, 1, 28, 28), f"model is a {type(model).__name__}"
    asked = [
        lambda: ais(model, x, AISConfig(1, 2)),
        lambda: sandwich(model, 2, AISConfig(1, 2)),
        lambda: evaluate(model, DATA, "test", samples=1),
        lambda: fit(model, DATA, TrainConfig(epochs=1), tmp_path, progress=False),
    ]
    for ask in asked[: None if isinstance(model, nn.Module) else 3]:
        with pytest.raises(TypeError, match=told):
            ask()


def bits(n: int) -> torch.Tensor:
    return (torch.rand(n, 1, 28, 28, generator=seeded()) > 0.5).float()


@pytest.mark.parametrize("kind", ["vae", "ladder", "draw"])
def test_what_measures_takes_images_noise_and_steps_of_any_type(kind):
    """``bound`` was called with them as they were: "mat1 and mat2 must have …"."""
    model, x, budget = tiny(kind).double(), bits(2), AISConfig(2, 3)
    noise, steps = model.noise(2, seeded()), [0.25, 0.5]
    given = noise if isinstance(noise, tuple) else (noise,)
    coarse = tuple(eps.float() for eps in given)
    fine = tuple(eps.double() for eps in coarse)
    results = [
        ais(model, images, budget, steps=sizes, posterior=z if len(z) > 1 else z[0])
        for images, sizes, z in (
            (x, steps, coarse),
            (x.double(), np.array(steps), fine),
            (x.double(), torch.tensor(steps), fine),
        )
    ]
    for other in results[1:]:
        assert torch.equal(results[0].log_weights, other.log_weights)
    one, two = (estimate(model, images, 3, seeded()) for images in (x, x.double()))
    assert torch.equal(one["log_iw"], two["log_iw"])


MEASURED_WRONGLY = {
    "channels last": (lambda m, x: estimate(m, x.movedim(1, 3), 2, seeded()), "shape"),
    "K of 0": (lambda m, x: estimate(m, x, 0, seeded()), "is 0; allowed: 1 or more"),
    "K of 2.0": (lambda m, x: estimate(m, x, 2.0, seeded()), "a whole number"),
    "no images": (lambda m, x: estimate(m, x[:0], 2, seeded()), "batch is empty"),
    "chunk of 0": (lambda m, x: estimate(m, x, 2, seeded(), 0), "chunk is 0; allowed"),
    "chunk of -5": (
        lambda m, x: evaluate(m, DATA, samples=2, chunk=-5),
        "chunk is -5; allowed: 1 or more",
    ),
    "grey values": (
        lambda m, x: ais(m, 0.5 * x, AISConfig(1, 2)),
        "images hold other values than Bernoulli has; allowed: 0 and 1",
    ),
    "posterior of fewer images": (
        lambda m, x: ais(m, x, AISConfig(1, 2), posterior=m.noise(1)),
        "noise has shape",
    ),
    "config": (lambda m, x: ais(m, x, {"chains": 2}), "config is a dict; allowed"),
    "steps": (lambda m, x: ais(m, x, AISConfig(1, 3), steps="ab"), "steps is 'ab'"),
}


@pytest.mark.parametrize("what", MEASURED_WRONGLY)
def test_what_cannot_be_measured_is_refused(what):
    """An image with its channels last got a number, 28 times too high."""
    call, told = MEASURED_WRONGLY[what]
    with pytest.raises((TypeError, ValueError), match=told):
        call(tiny("vae"), bits(2))


@pytest.mark.parametrize(
    ("of", "good", "bad"),
    [
        (Bernoulli(), [0.0, 1.0], [0.0, 0.5]),
        (DiscretisedLogistic(1), [k / 255 for k in range(256)], [0.001, 1.0]),
        (Categorical(), [1.0], [0.0]),
    ],
)
def test_a_likelihood_knows_what_it_can_draw(of, good, bad):
    """AIS on grey values gave a number that is no likelihood."""
    check_support(of, torch.tensor(good).view(1, 1, 1, -1))
    with pytest.raises(ValueError, match="other values than"):
        check_support(of, torch.tensor(bad).view(1, 1, 1, -1))


def test_the_last_seed_has_a_sandwich_too():
    """Its chains have the seeds that follow, and there was none."""
    assert sandwich(tiny("vae"), 2, AISConfig(2, 3), seed=2**32 - 1).finite


def test_a_file_to_keep_may_be_named_by_text(tmp_path):
    keep = str(tmp_path / "kept.json")
    one, two = (ais(tiny("vae"), bits(2), AISConfig(1, 2), keep=keep) for _ in "12")
    assert torch.equal(one.log_weights, two.log_weights)


@pytest.mark.parametrize("data", ["mnist-fixed", torch.zeros(2, 1, 28, 28)])
def test_what_is_no_data_set_is_told_by_its_kind(data, tmp_path):
    told = f"data is a {type(data).__name__}; allowed: a data set, such as load_data"
    with pytest.raises(TypeError, match=told):
        evaluate(tiny("vae"), data, "test", samples=1)


HALF = [torch.float16, torch.bfloat16]
TOLD = r'is {}; allowed: float32 or float64, .* TrainConfig\(precision="bf16"\), or'


@pytest.mark.parametrize("dtype", HALF)
def test_bounds_of_weights_in_half_precision_are_refused(dtype, tmp_path):
    """They were off by tenths of a nat, and told with two digits."""
    model = copy.deepcopy(tiny("vae")).to(dtype)
    for ask in (
        lambda: evaluate(model, DATA, "test", samples=1),
        lambda: fit(model, DATA, TrainConfig(epochs=1), tmp_path, progress=False),
    ):
        with pytest.raises(ValueError, match=TOLD.format(dtype)):
            ask()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", [*CONFIGS, "classifier"])
def test_every_model_in_half_precision_says_in_one_line_what_is_supported(kind, dtype):
    """DRAW ended in "mat1 and mat2 must have the same dtype"; others went on."""
    if kind == "classifier":
        model = Classifier(ClassifierConfig.preset("tiny")).to(dtype)
        ways = {
            "answers": model.answers,
            "trace": model.trace,
            "loss": lambda x: loss(model, x, torch.zeros(2)),
        }
    else:
        model = tiny(kind).to(dtype)
        made = {"generate", "generate_steps"}
        known = {"reconstruct", "trace", *made} & set(dir(model))
        ways = {
            way: getattr(model, way)
            if way not in made
            else lambda x, w=way: getattr(model, w)(2)
            for way in known
        }
        assert {"reconstruct", "generate"} <= ways.keys()
    for given in (torch.float32, dtype):
        x = torch.zeros(2, *model.image_shape, dtype=given)
        for way, ask in {"forward": model, **ways}.items():
            with pytest.raises(ValueError, match=TOLD.format(dtype)) as caught:
                ask(x)
            assert "\n" not in str(caught.value), way


@pytest.mark.parametrize("kind", [*CONFIGS, "classifier"])
def test_under_autocast_every_model_takes_images_as_the_message_says(kind):
    if kind == "classifier":
        model = Classifier(ClassifierConfig.preset("tiny"))
    else:
        model = tiny(kind)
    x = torch.zeros(2, *model.image_shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert (found if kind == "classifier" else found.elbo).isfinite().all()


def test_a_model_of_which_nothing_learns_is_refused(tmp_path):
    model = tiny("vae").requires_grad_(False)
    with pytest.raises(ValueError, match="no weight of this VAE learns"):
        fit(model, DATA, TrainConfig(epochs=1), tmp_path, progress=False)


def test_positions_and_frames_are_whole_numbers():
    """Image 0.5 was image 0, and a picture was enlarged 1.5 times."""
    model = tiny("draw")
    seen = model.trace(torch.zeros(2, 1, 28, 28))
    for images in ([0.5], 3.0, "0"):
        with pytest.raises(ValueError, match="images is .*; allowed: a"):
            explorer.player(seen, images=images)
    explorer.player(seen, images=np.arange(2))
    for name, value in {"frames": 1.5, "scale": 1.5, "fps": 2.5}.items():
        with pytest.raises(ValueError, match=f"{name} is .*; allowed: a whole number"):
            explorer.animation(seen, **{name: value})


def test_names_of_arrays_that_are_numbers_are_told():
    with pytest.raises(DataError, match="arrays holds 1; allowed: images"):
        Data.from_arrays({1: np.zeros((9, 4, 4), bool)})


MODELS = {**KINDS, "classifier": (Classifier, ClassifierConfig)}


@pytest.mark.parametrize("kind", MODELS)
def test_a_config_of_another_kind_is_refused(kind):
    """The class was taken for a config: its attributes are the defaults."""
    model, config = MODELS[kind]
    for given in (config, {"z": 3}, "tiny", TrainConfig()):
        told = f"config is .*; allowed: a {config.__name__}, such as"
        with pytest.raises(TypeError, match=told):
            model(given)


BAD_TRAININGS = {
    "config": ({"config": {"epochs": 1}}, "config is a dict; allowed: a TrainConfig"),
    "on_epoch": ({"on_epoch": "x"}, "on_epoch is 'x'; allowed: a function, or None"),
    "loss": ({"loss": "mse"}, "loss is 'mse'; allowed: a function, or None"),
    "a number": ({"loss": lambda *_: 1.0}, "loss gave a float; allowed: a tensor of"),
    "a loss per image": (
        {"loss": lambda m, x, y, g: -m(x, generator=g).elbo},
        r"loss gave a tensor of shape \(24,\)",
    ),
    "no weight": (
        {"loss": lambda m, x, y, g: x.mean()},
        "loss gave a tensor of shape .. that no weight is part of",
    ),
}


@pytest.mark.parametrize("what", BAD_TRAININGS)
def test_what_is_no_training_is_told_before_it_fails_inside(what, tmp_path):
    given, told = BAD_TRAININGS[what]
    asked = {"config": TrainConfig(epochs=1), **given}
    with pytest.raises(TypeError, match=told):
        fit(tiny("vae"), DATA, run_dir=tmp_path, progress=False, **asked)


NO_FIGURES = {
    "player of a model": (lambda m, x: explorer.player(m), "trace is a DRAW"),
    "pad of a name": (lambda m, x: explorer.pad("mnist"), "model is a str"),
    "pad with data": (lambda m, x: explorer.pad(m, DATA), "images is a Data"),
    "models in a list": (lambda m, x: explorer.side_by_side([m], x), "models is a li"),
    "no digits": (lambda m, x: explorer.filterbank_explorer(None), "digits is a None"),
}


@pytest.mark.parametrize("what", NO_FIGURES)
def test_figures_of_what_is_none_are_refused_by_its_kind(what):
    """They ended in 'function' object has no attribute 'shape', and the like."""
    call, told = NO_FIGURES[what]
    with pytest.raises(TypeError, match=f"{told}.*; allowed: "):
        call(tiny("draw"), torch.zeros(1, 1, 28, 28))


def test_a_subset_is_drawn_from_a_split_by_a_whole_number():
    with pytest.raises(TypeError, match=r"split is a Data; allowed: .*data.test"):
        stratified_subset(DATA, 3, 0)
    with pytest.raises(ValueError, match="images is '3'; allowed: a whole number"):
        stratified_subset(DATA.test, "3", 0)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x / 255, "images are torch.float32; allowed: torch.uint8"),
        (lambda x: x > 127, "images are torch.bool; allowed: torch.uint8"),
        (lambda x: x.numpy(), "images are ndarray; allowed: torch.uint8"),
    ],
)
def test_a_visit_begins_with_the_bytes_of_a_split(split, change, told):
    """What a visit had made was divided by 255 again: nearly nothing but blanks."""
    data = Data.from_arrays(np.full((9, 4, 4), 200, "u1"))
    with pytest.raises(TypeError, match=told):
        data.binarise(change(data.train.images), split=split)


def test_batches_take_a_whole_number_and_a_generator():
    data = Data.from_arrays(np.full((9, 4, 4), 200, "u1"))
    for size in (2.5, True, "2"):
        with pytest.raises(ValueError, match="batch size is .*; allowed: a whole"):
            data.batches("train", size)
    told = "generator is 3; allowed: a torch.Generator"
    with pytest.raises(TypeError, match=told):
        data.batches("train", 2, 3)
    with pytest.raises(TypeError, match=told):
        data.binarise(data.train.images, 3)


def test_figures_take_arrays_and_refuse_levels_that_are_not_divided_yet():
    """Grey levels up to 255 were clipped at 1: all ink."""
    image = plots.show_images(np.ones((1, 1, 4, 4), "f4")).images[0]
    assert image.get_array().max() == 1
    with pytest.raises(ValueError, match="images go up to 255; allowed: 0 to 1"):
        plots.show_images(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))
    plt.close("all")


@pytest.mark.parametrize("values", [{}, {"a": float("nan")}, {"a": float("inf")}])
def test_bars_of_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="values are .*; allowed: one or more, all fi"):
        plots.bars(values)


def test_the_stops_are_a_list_of_any_kind():
    for given in ([0.5, 0.5], np.array([0.5, 0.5]), torch.tensor([0.5, 0.5])):
        assert stop_prior(given, 2) == (0.5, 0.5)
    for given in (0.5, None, [True, False]):
        with pytest.raises(ValueError, match="stop is .*; allowed: a"):
            stop_prior(given, 2)


def test_a_figure_of_no_numbers_is_refused():
    """A browser reads no NaN: the page had stayed empty without a word."""
    model = tiny("draw")
    nn.init.constant_(next(model.parameters()), float("nan"))
    x = torch.zeros(1, 1, 28, 28)
    for ask in (
        lambda: explorer.player(model.trace(x)),
        lambda: explorer.side_by_side({"a": model}, x),
    ):
        with pytest.raises(ValueError, match="shows a number that is not finite"):
            ask()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (torch.Tensor.to_sparse, "torch.sparse_coo, torch.float32"),
        (lambda x: x.to("meta"), "on the device meta"),
        (lambda x: x.to(torch.float8_e4m3fn), "torch.strided, torch.float8_e4m3fn"),
    ],
)
def test_images_of_no_usual_tensor_get_one_line(change, told):
    """PyTorch's own answers were of its backends, of item(), of "min_values_cpu"."""
    model = build(CONFIGS["vae"].preset("tiny"))
    x = change(torch.zeros(2, 1, 28, 28))
    for measure in (model, lambda x: estimate(model, x, 2, torch.Generator())):
        with pytest.raises(TypeError, match=f"images are {told}; allowed: a dense"):
            measure(x)
