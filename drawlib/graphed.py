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
from drawlib.ladder import as_tuple

__all__ = ["TrainingStep"]

WARM_UP = 3  # steps before the capture: they compile, and they fill the allocator


@lru_cache(1)
def _say_once() -> None:
    message = "no CUDA device: the training step runs without a graph"
    warnings.warn(message, stacklevel=3)


class TrainingStep:
    """−ELBO, its gradients and the optimiser's step, for batches of one size.

    On a CUDA device the first call captures a graph, after ``WARM_UP`` steps whose
    effect on parameters, buffers and optimiser is undone; later calls copy their batch
    into its inputs and replay it. Elsewhere each call runs the step as it is, and the
    first one says so.

    For a graph the optimiser must be ``capturable=True``. A learning rate that is a
    number is recorded as it was at the capture; one that varies must be a tensor, and
    be filled in place. Optimiser state that the warm-up made is set to zero, where Adam
    begins, and SGD without dampening; an optimiser that begins elsewhere, such as
    NAdam, must have made a step before.

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
            ValueError: on a GPU, for images or noise of other shapes than the captured.
        """
        if self.device.type != "cuda":
            return self.run(x, noise)
        if self.graph is None:
            self.take(x, noise)
            self.capture()
        self.fill(x, noise)
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

    def take(self, x: Images, noise: Noise) -> None:
        """Make the inputs of the graph; every later batch is copied into them."""
        self.x = x.clone()
        several = isinstance(noise, tuple)
        self.noise = tuple(n.clone() for n in noise) if several else noise.clone()

    def fill(self, x: Images, noise: Noise) -> None:
        """Copy a batch and its noise, a tensor or one a layer, into the inputs."""
        inputs, given = (self.x, *as_tuple(self.noise)), (x, *as_tuple(noise))
        # A copy would spread the noise of a single image over all of them.
        shapes = [[tuple(each.shape) for each in batch] for batch in (given, inputs)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"a batch of {shapes[0]}; allowed: {shapes[1]}, as it was captured"
            )
        for kept, new in zip(inputs, given, strict=True):
            kept.copy_(new)

    def tensors(self) -> list[Tensor]:
        """All that a step changes in the model, batch statistics too."""
        return [*self.model.parameters(), *self.model.buffers()]

    @torch.no_grad()
    def warm_up(self) -> None:
        """``WARM_UP`` steps, and everything put back: in place, where a graph looks."""
        model = [value.clone() for value in self.tensors()]
        kept = {
            (p, name): value.clone()
            for p, state in self.optimiser.state.items()
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        with torch.enable_grad():
            for _ in range(WARM_UP):
                self.run(self.x, self.noise)
        for value, before in zip(self.tensors(), model, strict=True):
            value.copy_(before)
        for p, state in self.optimiser.state.items():
            for name, value in state.items():
                if (p, name) in kept:
                    value.copy_(kept[p, name])
                elif isinstance(value, Tensor):
                    value.zero_()

    def capture(self) -> None:
        """Warm up on a stream of its own, and record one step, which does not run."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.warm_up()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self.run(self.x, self.noise)
        self.graph = graph
