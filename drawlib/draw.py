"""DRAW: a deep recurrent attentive writer (Gregor et al. 2015, arXiv:1502.04623).

Its step, its loop and its bound are those of `drawlib.recurrent`; here are its sizes
and its prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from drawlib.config import one_of
from drawlib.gaussian import Gaussian
from drawlib.lstm import Hidden
from drawlib.recurrent import Recurrent, RecurrentConfig

__all__ = ["DRAW", "DRAWConfig"]


@dataclass(frozen=True)
class DRAWConfig(RecurrentConfig):
    """Sizes of a DRAW network; the other fields are those of ``RecurrentConfig``.

    ``prior``: ``standard`` is the paper's N(0, I) for each z_t; ``learned`` is
    N(μ_p, σ_p²), an affine function of h_dec_{t−1} (as in conceptual compression,
    Gregor et al. 2016), which starts at N(0, I).

    Presets ``paper-no-attention``, ``paper-attention`` (also ``paper``), ``paper-svhn``
    and ``paper-cifar10`` have the sizes of the paper's Table 3 (from memory).
    ``source`` is the public repository that the course reproduces (simonamtoft's
    "base" DRAW), without the dense layer that it puts between canvas and output.

    Example:
        >>> DRAWConfig.preset("paper").attention
        'gaussian'
        >>> DRAWConfig(prior="flat")
        Traceback (most recent call last):
        ValueError: DRAWConfig.prior is 'flat'; allowed: standard, learned
    """

    prior: str = "standard"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper-no-attention": {},
        "paper-attention": {"attention": "gaussian"},
        "paper": {"attention": "gaussian"},
        "paper-svhn": {
            "image_shape": (3, 54, 54),
            "T": 32,
            "hidden": 800,
            "attention": "gaussian",
            "read": 12,
            "write": 12,
            "likelihood": "discretised-logistic",
        },
        "paper-cifar10": {
            "image_shape": (3, 32, 32),
            "hidden": 400,
            "z": 200,
            "attention": "gaussian",
            "read": 5,
            "write": 5,
            "likelihood": "discretised-logistic",
        },
        "source": {
            "T": 10,
            "z": 32,
            "initial_state": "zeros",
            "canvas": "zeros",
            "forget_bias": 0.0,
        },
        "tiny": {"T": 4, "hidden": 32, "z": 6},
    }

    def check(self) -> None:
        super().check()
        one_of(self, "prior", ("standard", "learned"))


class DRAW(Recurrent):
    r"""An image drawn in T steps; each step looks at what is still wrong.

    For t = 1 … T (eqs. (3) to (8)):
      x̂_t = x − σ(c_{t−1}),  r_t = read(x, x̂_t, h_dec_{t−1}),
      h_enc_t = LSTM(h_enc_{t−1}, [r_t, h_dec_{t−1}]),  z_t ~ Q(Z_t given h_enc_t),
      h_dec_t = LSTM(h_dec_{t−1}, z_t),  c_t = c_{t−1} + write(h_dec_t).
    The bound in nats is log D(x given c_T) − Σ_t KL(Q(Z_t given h_enc_t) ‖ P(Z_t)).
    Generation runs the second half of the step alone, z_t from the prior.

    Example:
        >>> import torch
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 4]))
        >>> model.generate_steps(3).shape
        torch.Size([4, 3, 1, 28, 28])
    """

    config: DRAWConfig

    def __init__(self, config: DRAWConfig | None = None) -> None:
        config = DRAWConfig.given(config)
        super().__init__(config)
        if config.prior == "learned":
            self.prior_head = nn.Linear(config.hidden, 2 * config.z)
            nn.init.zeros_(self.prior_head.weight)
            nn.init.zeros_(self.prior_head.bias)

    def prior(self, h_dec: Hidden) -> Gaussian:
        """P(Z_t given h_dec_{t−1}): N(0, I), or an affine function of h_dec_{t−1}."""
        if self.config.prior == "standard":
            return super().prior(h_dec)
        mu, log_sigma = self.prior_head(h_dec).to(h_dec.dtype).chunk(2, 1)
        return Gaussian(mu, log_sigma)
