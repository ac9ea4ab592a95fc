"""Small recurrent networks in float64, away from their first weights."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drawlib.conv_draw import ConvDRAW, ConvDRAWConfig
from drawlib.draw import DRAW, DRAWConfig
from drawlib.glas import GLAS, GLASConfig
from drawlib.recurrent import Recurrent

SHAPE = (1, 5, 4)
SMALL = {"image_shape": SHAPE, "T": 3, "hidden": 6, "z": 2, "read": 2, "write": 3}
# Everything that p(x, z) does not contain.
INFERENCE = ("encoder.", "q_head.", "read_head.", "start_h_enc", "start_c_enc")


def draw(**changes: Any) -> DRAW:
    """A DRAW of 5 × 4 pixels and three steps."""
    return shaken(DRAW(DRAWConfig(**{**SMALL, **changes})))


def glas(**changes: Any) -> GLAS:
    """A GLAS of the same sizes with a 2 × 2 window on a 4 × 4 latent space."""
    return shaken(GLAS(GLASConfig(**{**SMALL, "M": 4, "N": 2, **changes})))


def conv_draw(**changes: Any) -> ConvDRAW:
    """A ConvDRAW of the same sizes, with a place for each pixel."""
    sizes = {name: SMALL[name] for name in ("image_shape", "T", "hidden", "z")}
    return shaken(ConvDRAW(ConvDRAWConfig(**{**sizes, "stride": 1, **changes})))


def shaken(model: Any) -> Any:
    """The model in float64 with noise on every parameter, so that none is zero."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


def silence(*layers: nn.Module) -> None:
    """Set all weights and biases of these layers to 0."""
    for layer in layers:
        for p in layer.parameters():
            nn.init.zeros_(p)


def some_bits(n: int = 3, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """Random binary images, another draw at each call."""
    return (torch.rand(n, *shape) < 0.4).double()


def arrays(model: Recurrent) -> dict[str, np.ndarray]:
    """All weights by name, as the NumPy reference takes them."""
    return {k: v.detach().numpy() for k, v in model.state_dict().items()}


def start_of(model: Recurrent) -> dict[str, np.ndarray]:
    """The first state, as the NumPy reference takes it."""
    state = model.start(1)
    return {k: v[0].detach().numpy() for k, v in state._asdict().items()}
