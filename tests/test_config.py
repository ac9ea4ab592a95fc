"""Configurations: immutable, equal to their JSON, and strict about what they take."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from drawlib.config import Config, at_least, one_of
from drawlib.data.own import ImageOptions
from drawlib.draw import DRAWConfig
from drawlib.glas import GLASConfig
from drawlib.ladder import LadderConfig
from drawlib.training.schedule import TrainConfig
from drawlib.vae import VAEConfig


@dataclass(frozen=True)
class Toy(Config):
    sizes: tuple[int, ...] = (3, 2)
    rate: float = 0.5
    kind: str = "plain"

    PRESETS: ClassVar[dict] = {"big": {"sizes": (30, 20)}}

    def check(self) -> None:
        at_least(self, 1, "sizes")
        at_least(self, 0, "rate")
        one_of(self, "kind", ("plain", "fancy"))


def test_config_is_immutable_and_hashable():
    toy = Toy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy.rate = 1.0
    assert hash(toy) == hash(Toy())
    assert toy != Toy(rate=0.25)


def test_config_equals_its_json():
    toy = Toy(sizes=(5, 4, 3), rate=0.1)
    text = json.dumps(toy.to_dict())
    assert json.loads(text)["sizes"] == [5, 4, 3]
    assert Toy.from_dict(json.loads(text)) == toy


@pytest.mark.parametrize("kind", [VAEConfig, LadderConfig])
def test_every_preset_survives_json(kind):
    assert kind.preset("source") == kind()
    for name in kind.PRESETS:
        config = kind.preset(name)
        again = kind.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config and hash(again) == hash(config)


def test_lists_become_tuples():
    assert Toy(sizes=[7, 8]).sizes == (7, 8)


def test_preset_takes_changes_on_top():
    assert Toy.preset("big", rate=2.0) == Toy(sizes=(30, 20), rate=2.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Toy.preset("huge"), r"Toy has no preset 'huge'; there are: big"),
        (lambda: Toy.from_dict({"size": 3}), r"Toy has no field size; it has: sizes, "),
        (lambda: Toy.preset("big", rat=1), r"Toy has no field rat; it has: "),
        (lambda: Toy(sizes=(3, 0)), r"Toy.sizes is \(3, 0\); it must be at least 1"),
        (lambda: Toy(rate=-1.0), r"Toy.rate is -1.0; it must be at least 0"),
        (lambda: Toy(rate=float("nan")), r"Toy.rate is nan; it must be at least 0"),
        (lambda: Toy(kind="odd"), r"Toy.kind is 'odd'; allowed: plain, fancy"),
    ],
)
def test_a_wrong_value_gets_one_line_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_config_without_presets_says_so():
    with pytest.raises(ValueError, match="Config has no preset 'a'; there are: none"):
        Config.preset("a")


@pytest.mark.parametrize("kind", [VAEConfig, LadderConfig])
@pytest.mark.parametrize("name", ["variance", "likelihood"])
def test_model_configs_refuse_unknown_names(kind, name):
    with pytest.raises(ValueError, match=f"{kind.__name__}.{name} is 'x'; allowed: "):
        kind(**{name: "x"})


# Numbers that are no plain numbers


def changed(kind, **fields):
    """A config of these values, past the tests' own check of a constructor's."""
    return kind.from_dict(fields)


def test_a_constructor_takes_and_refuses_what_from_dict_does():
    toy = Toy(sizes=np.array([7, 8]), rate=np.float32(2), kind=np.str_("fancy"))
    assert repr(toy) == "Toy(sizes=(7, 8), rate=2.0, kind='fancy')"
    with pytest.raises(ValueError, match="Toy.sizes is 1.5; allowed: a whole number"):
        Toy(sizes=(1, 1.5))


@pytest.mark.parametrize(
    ("field", "value", "plain"),
    [
        ("lr", np.logspace(-4, -2, 3)[1], 1e-3),
        ("lr", np.float32(0.5), 0.5),
        ("lr", np.array(0.5), 0.5),
        ("lr", torch.tensor(0.5), 0.5),
        ("lr", torch.nn.Parameter(torch.tensor(0.5)), 0.5),
        ("lr", 1, 1.0),
        ("lr", np.int64(1), 1.0),
        ("epochs", np.int64(3), 3),
        ("epochs", np.arange(5)[3], 3),
        ("epochs", torch.tensor(3), 3),
        ("seed", np.uint8(7), 7),
        ("compile", np.bool_(True), True),
        ("clip", np.str_("none"), "none"),
    ],
)
def test_numbers_of_other_libraries_become_plain_ones(field, value, plain):
    found = getattr(changed(TrainConfig, **{field: value}), field)
    assert found == pytest.approx(plain) and type(found) is type(plain)


@pytest.mark.parametrize(
    "value",
    [[4, 5], np.array([4, 5]), torch.tensor([4, 5]), (np.int64(4), 5), range(4, 6)],
)
def test_tuples_hold_plain_numbers_whatever_they_were_given_as(value):
    found = changed(VAEConfig, encoder=value).encoder
    assert found == (4, 5) and [type(n) for n in found] == [int, int]


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        (TrainConfig, "epochs", 1.5, "a whole number"),
        (TrainConfig, "epochs", 3.0, "a whole number"),
        (TrainConfig, "epochs", np.float64(3), "a whole number"),
        (TrainConfig, "epochs", True, "a whole number"),
        (TrainConfig, "epochs", np.bool_(True), "a whole number"),
        (TrainConfig, "epochs", "3", "a whole number"),
        (TrainConfig, "epochs", None, "a whole number"),
        (TrainConfig, "epochs", np.array([3]), "a whole number"),
        (TrainConfig, "seed", 0.0, "a whole number"),
        (TrainConfig, "lr", "0.1", "a number"),
        (TrainConfig, "lr", True, "a number"),
        (TrainConfig, "lr", 1j, "a number"),
        (TrainConfig, "lr", np.ones((30, 2)), "a number"),
        (TrainConfig, "compile", 1, "True or False"),
        (TrainConfig, "compile", "no", "True or False"),
        (TrainConfig, "clip", None, "global, tensor, none"),
        (TrainConfig, "clip", 0, "global, tensor, none"),
        (VAEConfig, "variance", False, "exp, softplus"),
        (GLASConfig, "rows", 1.0, "exact, floor"),
        (ImageOptions, "size", (4, 4), "height x width, such as 28x20"),
        (ImageOptions, "fit", b"pad", "crop, pad, stretch"),
        (TrainConfig, "device", torch.device("cpu"), "text"),
        (VAEConfig, "z", np.float32(2), "a whole number"),
        (VAEConfig, "encoder", 64, "a tuple of numbers"),
        (VAEConfig, "encoder", "64", "a tuple of numbers"),
        (VAEConfig, "encoder", (64, 3.5), "a whole number"),
        (VAEConfig, "image_shape", (28, 28), "a tuple of 3 numbers"),
        (LadderConfig, "z", (4, True), "a whole number"),
    ],
)
def test_what_is_no_number_of_a_field_s_type_is_refused_by_name(
    kind, field, value, allowed
):
    where = f"{kind.__name__}.{field} is "
    with pytest.raises(ValueError) as caught:
        changed(kind, **{field: value})
    told = str(caught.value)
    assert told.startswith(where) and told.endswith(f"; allowed: {allowed}")
    assert "\n" not in told and len(told) < 140


@pytest.mark.parametrize("kind", [TrainConfig, DRAWConfig, LadderConfig])
def test_nan_is_refused_in_every_field_for_numbers(kind):
    floats = [f.name for f in dataclasses.fields(kind) if f.type == "float"]
    assert floats
    for name in floats:
        with pytest.raises(ValueError, match=f"{kind.__name__}.{name} is nan"):
            changed(kind, **{name: float("nan")})
