"""The benchmarks' plain models compute what the library's do, so times compare."""

import doctest
import sys
from pathlib import Path

import pytest
import torch

from drawlib import DRAW, GLAS, DRAWConfig, GLASConfig, filterbank

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import plain  # noqa: E402
from benchmarks.plain import (  # noqa: E402
    filterbank_by_loops,
    read_by_loops,
    textbook,
)

MODELS = {
    "draw": lambda: DRAW(DRAWConfig.preset("tiny")),
    "draw-attention": lambda: DRAW(DRAWConfig.preset("tiny", attention="gaussian")),
    "glas-cauchy": lambda: GLAS(GLASConfig.preset("tiny")),
    "glas-gaussian": lambda: GLAS(
        GLASConfig.preset("tiny", latent_attention="gaussian")
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_textbook_and_library_give_the_same_bound(name):
    model = MODELS[name]()
    x, noise = torch.rand(3, 1, 28, 28).round(), model.noise(3)
    book = textbook(model).negative_elbo(x, noise)
    torch.testing.assert_close(book, -model.bound(x, noise).elbo, rtol=1e-5, atol=1e-3)


def test_filters_by_loops_equal_the_batched_ones():
    # Centres on the image: the plain quotient of the textbook is 0/0 far outside.
    raw = torch.tensor([[0.1, -0.2, 0.3, -0.5, 0.2], [-0.3, 0.1, -0.2, -1.0, -0.4]])
    filters = filterbank(raw, (28, 20), 5)
    images = torch.rand(2, 1, 28, 20)
    patches = filters.read(images)
    for k in range(2):
        F_x, F_y = filterbank_by_loops(raw[k], (28, 20), 5)
        torch.testing.assert_close(F_x, filters.F_x[k], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(F_y, filters.F_y[k], rtol=1e-4, atol=1e-6)
        patch = read_by_loops(images[k, 0], raw[k], 5)
        torch.testing.assert_close(patch, patches[k, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_textbook_and_library_give_the_same_log_weight(name):
    model = MODELS[name]()
    x, noise = torch.rand(3, 1, 28, 28).round(), model.noise(3)
    book = textbook(model).log_weight(x, noise)
    wanted = model.bound(x, noise).log_weight
    torch.testing.assert_close(book, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_textbook_and_library_generate_the_same_images(name):
    model = MODELS[name]()
    noise = model.noise(3)
    with torch.no_grad():
        book = textbook(model).generate(noise)
    torch.testing.assert_close(book, model.generate(3, noise=noise))


@pytest.mark.parametrize("name", MODELS)
def test_textbook_and_library_learn_the_same_numbers(name):
    """But for PyTorch's second bias vector in each LSTM; learned first states too."""
    model = MODELS[name]()
    book, ours = (
        sum(p.numel() for p in each.parameters() if p.requires_grad)
        for each in (textbook(model), model)
    )
    assert book == ours + 2 * 4 * model.config.hidden


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DRAW, "attention", "cauchy"),
        (DRAW, "likelihood", "discretised-logistic"),
        (DRAW, "prior", "learned"),
        (GLAS, "attention", "cauchy"),
        (GLAS, "latent_attention", "sigmoid"),
        (GLAS, "grid", "legacy"),
        (GLAS, "rows", "floor"),
        (GLAS, "space", "masked"),
        (GLAS, "memory", "generative"),
    ],
)
def test_a_model_that_no_textbook_computes_is_refused_in_one_line(kind, name, value):
    """Its numbers would be those of another model."""
    config = {DRAW: DRAWConfig, GLAS: GLASConfig}[kind].preset("tiny", **{name: value})
    with pytest.raises(ValueError, match=f"Config.{name} is '{value}'; allowed: "):
        textbook(kind(config))


def test_more_than_one_channel_is_refused_in_one_line():
    model = DRAW(DRAWConfig.preset("tiny", image_shape=(3, 5, 4)))
    with pytest.raises(ValueError, match="the model has 3 channels; allowed: 1"):
        textbook(model)


def test_the_examples_of_its_docstrings_run():
    found = doctest.testmod(plain)
    assert found.attempted > 8
    assert found.failed == 0
