"""The models by name: each is built from its configuration and keeps the contract."""

from __future__ import annotations

import pytest
import torch

from drawlib.bound import Bound, LatentModel
from drawlib.models import CONFIGS, MODELS, build, config_of, kind_of
from drawlib.training.schedule import TrainConfig


def test_every_model_has_a_configuration():
    kinds = {"vae", "ladder", "draw", "glas", "conv-draw", "diffusion"}
    assert set(MODELS) == set(CONFIGS) == kinds


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_goes_to_its_name_and_back(kind):
    config = config_of(kind, "tiny")
    model = build(config)
    assert kind_of(config) == kind and type(model) is MODELS[kind]
    assert config_of(kind, **config.to_dict()) == config == model.config
    assert config_of(kind) == CONFIGS[kind]()


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_model_keeps_the_contract(kind):
    model = build(config_of(kind, "tiny")).eval()
    assert isinstance(model, LatentModel)
    n, shape = 3, model.image_shape
    x = torch.rand(n, *shape).round()
    noise = model.noise(n, torch.Generator().manual_seed(0))
    bound = model(x, noise=noise)
    assert isinstance(bound, Bound)
    assert bound.log_likelihood.shape == bound.log_weight.shape == (n,)
    assert bound.kl.shape[0] == n and (bound.kl.sum(1) > 0).all()
    torch.testing.assert_close(bound.elbo, bound.log_likelihood - bound.kl.sum(1))
    again = model(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bound.elbo, again.elbo, rtol=0, atol=0)
    for images in (
        model.generate(n, generator=torch.Generator().manual_seed(1)),
        model.reconstruct(x, generator=torch.Generator().manual_seed(1)),
    ):
        assert images.shape == (n, *shape) and not images.requires_grad
        assert images.min() >= 0 and images.max() <= 1
    model.start_at(torch.full(shape, 0.2))
    with pytest.raises(ValueError, match="allowed: "):
        model(x[:, :, :-1])


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_preset_builds(kind):
    for name in CONFIGS[kind].PRESETS:
        config = config_of(kind, name)
        with torch.device("meta"):  # shapes only: some are large
            model = build(config)
        assert sum(p.numel() for p in model.parameters()) > 0


def test_names_that_do_not_exist_get_one_line():
    allowed = "vae, ladder, draw, glas, conv-draw"
    with pytest.raises(ValueError, match=f"'vea'; allowed: {allowed}"):
        config_of("vea")
    with pytest.raises(ValueError, match="has no preset 'sorce'; there are: "):
        config_of("vae", "sorce")
    with pytest.raises(ValueError, match="has no field zz; it has: "):
        config_of("vae", zz=3)
    with pytest.raises(TypeError, match="TrainConfig is no model's configuration"):
        kind_of(TrainConfig())
