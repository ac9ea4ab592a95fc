"""The models by name: the one place that lists them.

A new one is a file beside the others, with a `Config` and a `LatentModel`, and a line
in the list here. `tests/test_models.py` then holds it to the contract.
"""

from __future__ import annotations

from typing import Any

from drawlib.bound import LatentModel
from drawlib.config import Config
from drawlib.conv_draw import ConvDRAW, ConvDRAWConfig
from drawlib.diffusion import Diffusion, DiffusionConfig
from drawlib.draw import DRAW, DRAWConfig
from drawlib.glas import GLAS, GLASConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.vae import VAE, VAEConfig

__all__ = ["CONFIGS", "build", "config_in", "config_of", "kind_of"]

KINDS: dict[str, tuple[type[LatentModel], type[Config]]] = {
    "vae": (VAE, VAEConfig),
    "ladder": (LadderVAE, LadderConfig),
    "draw": (DRAW, DRAWConfig),
    "glas": (GLAS, GLASConfig),
    "conv-draw": (ConvDRAW, ConvDRAWConfig),
    "diffusion": (Diffusion, DiffusionConfig),
}
MODELS = {kind: model for kind, (model, _) in KINDS.items()}
CONFIGS = {kind: config for kind, (_, config) in KINDS.items()}


def config_of(kind: str, preset: str | None = None, **changes: Any) -> Config:
    """The configuration of a model, by the model's name and that of a preset.

    Raises:
        ValueError: for a name that does not exist; the message lists those that do.

    Example:
        >>> config_of("vae", "source").z
        64
    """
    if kind not in CONFIGS:
        raise ValueError(f"model is {kind!r}; allowed: {', '.join(CONFIGS)}")
    if preset is None:
        return CONFIGS[kind].from_dict(changes)
    return CONFIGS[kind].preset(preset, **changes)


def config_in(where: str, kind: Any, values: Any) -> Config:
    """The configuration that a file holds, whole; ``where`` names the file.

    Raises:
        ValueError: for another model, and as ``Config.from_whole``.

    Example:
        >>> config_in("run.json", "vae", {})
        Traceback (most recent call last):
        ValueError: run.json: VAEConfig lacks image_shape, encoder, decoder, ...
    """
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise ValueError(f"{where}: model is {kind!r}; allowed: {', '.join(CONFIGS)}")
    try:
        return CONFIGS[kind].from_whole(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def build(config: Config) -> LatentModel:
    """The untrained model that a configuration describes.

    Example:
        >>> type(build(VAEConfig.preset("tiny"))).__name__
        'VAE'
    """
    model: Any = MODELS[kind_of(config)]
    return model(config)


def kind_of(config: Config) -> str:
    """The model's name for a configuration.

    Raises:
        TypeError: for a configuration of something else.

    Example:
        >>> kind_of(VAEConfig())
        'vae'
    """
    for kind, known in CONFIGS.items():
        if type(config) is known:
            return kind
    raise TypeError(f"{type(config).__name__} is no model's configuration")
