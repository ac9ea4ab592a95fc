"""Trainings and evaluations under the settings of others, which stay as they were."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, nullcontext

import pytest
import torch
from toy_runs import (
    assert_same_bits,
    toy_config,
    toy_data,
    toy_model,
    weights,
)

from drawlib.annealing import AISConfig, ais, sandwich
from drawlib.classifier import Classifier, ClassifierConfig
from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split
from drawlib.draw import DRAW, DRAWConfig
from drawlib.evaluation import evaluate
from drawlib.every_stop import every_stop
from drawlib.machine.settings import PLACES, matmul_precision
from drawlib.results.classification import measure_errors
from drawlib.training.train import fit

NEW = hasattr(torch._C, "_get_fp32_precision_getter")
MIXTURES = [
    {("cuda", "matmul"): "tf32"},
    {("generic", "all"): "tf32"},
    {("generic", "all"): "bf16"},
    {("mkldnn", "matmul"): "bf16"},
    {("mkldnn", "matmul"): "tf32", ("cuda", "matmul"): "ieee"},
    {("generic", "all"): "tf32", ("mkldnn", "all"): "ieee"},
    {("cuda", "all"): "tf32", "legacy": "medium"},
    {("cuda", "matmul"): "tf32", "legacy": "high"},
]


def says():
    """All that can be read of the precisions, also by whoever changes one later."""
    get = torch._C._get_fp32_precision_getter
    put = torch._C._set_fp32_precision_setter
    found = {place: get(*place) for place in PLACES}
    before = get("generic", "all")
    try:  # who inherits, and who does not
        for other in ("ieee", "bf16"):
            put("generic", "all", other)
            found[other] = [get(*place) for place in PLACES]
    finally:
        put("generic", "all", before)
    try:
        found["legacy"] = torch.get_float32_matmul_precision()
    except RuntimeError:
        found["legacy"] = "a mixture"
    return found


@pytest.fixture
def undone():
    """Put everything back to what a new process has."""
    yield
    for place in PLACES:
        torch._C._set_fp32_precision_setter(*place, "none")
    torch.set_float32_matmul_precision("highest")
    for place in PLACES:
        torch._C._set_fp32_precision_setter(*place, "none")


@pytest.mark.skipif(not NEW, reason="PyTorch before 2.9 has one setting only")
@pytest.mark.parametrize("mixture", MIXTURES, ids=str)
@pytest.mark.parametrize("precision", ["float32", "medium", "bf16"])
def test_any_precision_of_others_is_no_obstacle_and_stays(
    tmp_path, undone, mixture, precision
):
    if "legacy" in mixture:
        torch.set_float32_matmul_precision(mixture["legacy"])
    for place, value in mixture.items():
        if place != "legacy":
            torch._C._set_fp32_precision_setter(*place, value)
    before = says()
    config = toy_config(epochs=1, precision=precision)
    fit(toy_model(), toy_data(), config, tmp_path, progress=False)
    assert evaluate(toy_model(), toy_data(), samples=2).neg_elbo > 0
    assert says() == before
    with matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
    assert says() == before


@contextmanager
def default_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def anomaly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, that this is slow
        found = torch.autograd.detect_anomaly()
    with found:
        yield


@contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def autocast():
    with torch.autocast("cpu", torch.bfloat16):
        yield


OTHERS = {
    "default dtype": default_float64,
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "deterministic": deterministic,
    "anomaly": anomaly,
    "autocast": autocast,
    "warnings": warnings_as_errors,
}


def settings():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        warnings.filters[:],
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    model = toy_model()
    folder = tmp_path_factory.mktemp("plain")
    history = fit(model, toy_data(), toy_config(ema=0.9), folder, progress=False)
    return weights(model), history.column("valid")


@pytest.mark.parametrize("other", OTHERS)
def test_a_training_is_the_same_under_any_setting_of_others(tmp_path, plain, other):
    model, data = toy_model(), toy_data()
    with OTHERS[other]():
        before = settings()
        history = fit(model, data, toy_config(ema=0.9), tmp_path, progress=False)
        assert settings() == before
    assert_same_bits(weights(model), plain[0])
    assert history.column("valid") == plain[1]
    with OTHERS[other]():
        found = evaluate(model, data, "valid", samples=1).neg_elbo
    assert found == min(plain[1])


def test_what_a_training_in_bf16_validates_is_what_evaluate_says(tmp_path):
    """Under its autocast the two had parted by 0.07 nats in a DRAW, here by 0.001."""
    model, data = toy_model(), toy_data()
    config = toy_config(precision="bf16", keep="last")
    history = fit(model, data, config, tmp_path, progress=False)
    found = evaluate(model, data, "valid", samples=1)
    assert history.column("valid")[-1] == pytest.approx(found.neg_elbo, abs=1e-5)


def test_a_training_in_bf16_learns_also_inside_an_autocast_of_others(tmp_path):
    """PyTorch keeps rounded weights until the outermost autocast ends."""
    found = []
    for name, around in (("alone", nullcontext), ("inside", autocast)):
        model, config = toy_model(), toy_config(epochs=10, precision="bf16")
        with around():
            history = fit(model, toy_data(), config, tmp_path / name, progress=False)
        found.append((weights(model), history.column("valid")))
    assert found[0][1] == found[1][1] and found[0][1][-1] < found[0][1][0] - 0.5
    assert_same_bits(found[0][0], found[1][0])


def test_a_model_and_data_made_under_float64_train_in_float64(tmp_path):
    with default_float64():
        model = toy_model()
        history = fit(model, toy_data(), toy_config(), tmp_path, progress=False)
    assert model.output.weight.dtype == torch.float64
    assert history.column("valid")[-1] < history.column("valid")[0]


def test_a_model_that_cannot_be_trained_is_refused_in_one_line(tmp_path):
    with torch.inference_mode():
        model = toy_model()
    with pytest.raises(ValueError, match="VAE was built under torch.inference_mode()"):
        fit(model, toy_data(), toy_config(), tmp_path, progress=False)
    with pytest.raises(ValueError, match="Flatten has no weights"):
        fit(torch.nn.Flatten(), toy_data(), toy_config(), tmp_path, progress=False)


@pytest.mark.parametrize("how", ["context", "default"])
def test_any_default_device_of_others_is_no_obstacle_and_stays(tmp_path, how):
    data, config = toy_data(), toy_config(epochs=1)
    model = toy_model()
    fit(model, data, config, tmp_path / "usual", progress=False)
    usual = evaluate(model, data, samples=2, images=7)
    low = ais(model, torch.zeros(2, *model.image_shape), AISConfig(2, 3)).log_p
    # "meta" stands for a GPU: whatever lands on it by default meets no image.
    x, other = torch.zeros(2, *model.image_shape), toy_model()
    try:
        with torch.device("meta") if how == "context" else nullcontext():
            if how == "default":
                torch.set_default_device("meta")
            fit(other, data, config, tmp_path / "theirs", progress=False)
            assert evaluate(other, data, samples=2, images=7) == usual
            assert torch.equal(ais(other, x, AISConfig(2, 3)).log_p, low)
            assert sandwich(other, 2, AISConfig(2, 3)).finite
            assert torch.zeros(1).is_meta
    finally:
        torch.set_default_device(None)
    assert_same_bits(weights(other), weights(model))


@pytest.mark.parametrize("around", [lambda: torch.device("meta"), autocast])
def test_a_measurement_is_the_same_under_any_default_device_and_autocast(around):
    """Inside an autocast a DRAW's −ELBO was 0.07 nats off, and told with two digits."""
    data, draw = toy_data(), DRAW(DRAWConfig.preset("tiny", image_shape=(1, 6, 6)))
    stops = every_stop(draw, data, images=7)
    classifier = Classifier(ClassifierConfig.preset("tiny", image_shape=(1, 6, 6)))
    split = Split(torch.zeros(6, 1, 6, 6, dtype=torch.uint8), torch.arange(6))
    toy = Protocol("toy", "Six blank squares.", image_shape=(1, 6, 6))
    blank = Data("toy", toy, split, split, split)
    errors = measure_errors(classifier, blank, "test")
    x, budget = torch.zeros(2, 1, 6, 6), AISConfig(2, 3)
    bound = evaluate(draw, data, samples=2, images=7)
    low, both = ais(draw, x, budget).log_p, sandwich(draw, 2, budget).widths
    with around():
        assert evaluate(draw, data, samples=2, images=7) == bound
        assert torch.equal(ais(draw, x, budget).log_p, low)
        assert torch.equal(sandwich(draw, 2, budget).widths, both)
        assert every_stop(draw, data, images=7) == stops
        assert measure_errors(classifier, blank, "test") == errors


def test_a_model_whose_weights_are_gone_is_not_measured():
    """Quantised ones ended in a StopIteration."""
    model, data = toy_model(), toy_data()
    for part in model.modules():
        part._parameters.clear()
    with pytest.raises(ValueError, match="VAE has no weights that could be trained"):
        evaluate(model, data, samples=1)
    with pytest.raises(ValueError, match="built on the device meta, so its weights"):
        evaluate(toy_model().to("meta"), data, samples=1)


def test_a_model_without_values_is_refused_in_one_line(tmp_path):
    with torch.device("meta"):
        model = toy_model()
    with pytest.raises(ValueError, match="built on the device meta, so its weights"):
        fit(model, toy_data(), toy_config(), tmp_path, progress=False)


def test_bfloat16_is_not_annealed_either():
    """Its chains ran, and their weights were rounded to four nats."""
    model = toy_model().to(torch.bfloat16)
    x = torch.zeros(2, *model.image_shape, dtype=torch.bfloat16)
    for ask in (lambda: ais(model, x), lambda: sandwich(model, 2)):
        with pytest.raises(ValueError, match="is torch.bfloat16; allowed: float32"):
            ask()
