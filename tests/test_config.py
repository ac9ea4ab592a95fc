"""Configurations: immutable, equal to their JSON, and strict about what they take."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from drawlib.config import Config, at_least, one_of
from drawlib.ladder import LadderConfig
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
