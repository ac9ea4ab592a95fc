"""A whole training step as one call; on a GPU, as one captured graph.

A step of DRAW is a few thousand small kernels. A GPU runs each in microseconds, and
spends longer waiting for Python to ask for the next one. A CUDA graph records the whole
step once, loss, gradients and optimiser, and plays it back without Python.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from drawlib.bound import Images, Noise

__all__ = ["TrainingStep"]

WARM_UP = 3  # steps before the capture: they compile, and they fill the allocator


@lru_cache(1)
def _say_once() -> None:
    message = "no CUDA device: the training step runs without a graph"
    warnings.warn(message, stacklevel=3)


class TrainingStep:
    """−ELBO, its gradients and the optimiser's step, for batches of one size.

    On a CUDA device the first call captures a graph, after ``WARM_UP`` steps whose
    effect on weights and optimiser is undone; later calls copy their batch into its
    inputs and replay it. The optimiser must then be ``capturable=True``. Elsewhere each
    call runs the step as it is, and the first one says so.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     step = TrainingStep(model, optimiser)
        >>> x, noise = torch.zeros(2, 1, 28, 28), model.noise(2)
        >>> losses = [step(x, noise).item() for _ in range(3)]
        >>> losses[2] < losses[0]
        True
    """

    def __init__(
        self, model: Any, optimiser: torch.optim.Optimizer, bf16: bool = False
    ) -> None:
        self.model, self.optimiser, self.bf16 = model, optimiser, bf16
        self.device = next(model.parameters()).device
        self.graph: Any = None
        if self.device.type != "cuda":
            _say_once()

    def __call__(self, x: Images, noise: Noise) -> Tensor:
        """One step; the loss in nats, a mean over the batch.

        Raises:
            ValueError: for a batch of another size than the captured one.
        """
        if self.device.type != "cuda":
            return self.run(x, noise)
        if self.graph is None:
            self.capture(x, noise)
        if x.shape != self.x.shape:
            raise ValueError(
                f"a batch of {len(x)}; allowed: {len(self.x)}, as it was captured"
            )
        self.x.copy_(x)
        self.noise.copy_(noise)
        self.graph.replay()
        return self.loss.clone()

    def run(self, x: Images, noise: Noise) -> Tensor:
        """The step itself: what is captured."""
        self.optimiser.zero_grad(set_to_none=True)
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.bf16):
            loss = -self.model.bound(x, noise).elbo.mean()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def capture(self, x: Images, noise: Noise) -> None:
        """Warm up on a stream of its own, put everything back, and record one step."""
        self.x, self.noise = x.clone(), noise.clone()
        weights = [p.detach().clone() for p in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.run(self.x, self.noise)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.run(self.x, self.noise)
        with torch.no_grad():
            for p, before in zip(self.model.parameters(), weights, strict=True):
                p.copy_(before)
            for state in self.optimiser.state.values():
                for value in state.values():
                    if isinstance(value, Tensor):
                        value.zero_()
