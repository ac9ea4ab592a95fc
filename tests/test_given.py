"""What is given to models and to those who measure them: types, names, seeds."""

import copy
import itertools

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from drawlib import Data, TrainConfig, evaluate, fit
from drawlib.classifier import Classifier, ClassifierConfig, loss
from drawlib.data.download import DataError
from drawlib.models import CONFIGS, build
from drawlib.pages import explorer


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
