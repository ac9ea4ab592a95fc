"""How a training goes: its configuration, learning rate, KL weight, order and seeds."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from drawlib.config import Config, at_least, one_of

__all__ = ["TrainConfig", "derived_seed", "epoch_order"]


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a model is trained; saved beside its weights.

    Attributes:
        optimiser: ``adam``, or ``muon`` for the matrices that the model names and Adam
            for the rest (``drawlib.training.optimisers``); both follow the schedule.
        schedule: ``cosine`` to zero, ``constant``, ``linear`` to half the rate,
            ``decay`` (constant for three quarters of the steps, then linearly to
            zero), or ``staircase`` (×0.1 every ``decay_epochs``, never below 1e-5:
            GLAS's).
        warmup_steps: steps over which the learning rate rises linearly from zero.
        clip: ``global`` norm, each ``tensor`` by itself (GLAS's), or ``none``.
        kl_warmup: epochs over which the KL's weight rises linearly to 1. It scales
            the loss only: every reported bound has weight 1.
        ema: decay of the exponential average of the weights; 0 for none. The averaged
            weights are the ones that are evaluated and shipped.
        keep: ``best`` validation −ELBO (never the test split), or ``last``.
        start_at_mean: start the output bias at the logit of the mean training image.
        precision: ``float32``; ``medium``, where the backend may use faster products;
            ``bf16``, mixed precision, in the steps alone: no autocast validates.
        compile: take the fast path of DRAW and GLAS, compile the step of ConvDRAW and
            the bound of VAE and Ladder VAE. Other models have none.
        recompute: of DRAW and GLAS on their fast path, which ``compile`` asks for: keep
            only the state before every S-th step, and compute the steps between again
            in the backward pass; 0 keeps all. The same gradients, about a third more
            work, and the less memory the more images a batch has.
        valid_images: validation images an evaluation looks at; 0 for all.

    Example:
        >>> TrainConfig(epochs=3).steps(50_000)
        1170
    """

    epochs: int = 100
    batch_size: int = 128
    optimiser: str = "adam"
    lr: float = 1e-3
    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    schedule: str = "cosine"
    decay_epochs: int = 75
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: str = "global"
    clip_norm: float = 5.0
    kl_warmup: int = 0
    ema: float = 0.0
    keep: str = "best"
    start_at_mean: bool = True
    precision: str = "float32"
    compile: bool = False
    recompute: int = 0
    evaluate_every: int = 1
    valid_images: int = 0
    checkpoint_seconds: float = 120.0
    seed: int = 0
    device: str = "auto"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"epochs": 1, "valid_images": 200},
        "glas": {
            "epochs": 250,
            "schedule": "staircase",
            "clip": "tensor",
            "start_at_mean": False,
        },
    }

    def check(self) -> None:
        at_least(self, 1, "epochs", "batch_size", "decay_epochs", "evaluate_every")
        at_least(self, 0, "warmup_steps", "kl_warmup", "ema", "valid_images", "seed")
        at_least(self, 0, "lr", "muon_lr", "clip_norm", "checkpoint_seconds")
        at_least(self, 0, "recompute")
        at_least(self, 0, "beta1", "beta2", "eps", "muon_momentum")
        one_of(self, "optimiser", ("adam", "muon"))
        one_of(self, "schedule", ("cosine", "constant", "linear", "decay", "staircase"))
        one_of(self, "clip", ("global", "tensor", "none"))
        one_of(self, "keep", ("best", "last"))
        one_of(self, "precision", ("float32", "medium", "bf16"))
        for name in ("beta1", "beta2", "muon_momentum", "ema"):
            if not (value := getattr(self, name)) < 1:
                raise ValueError(f"TrainConfig.{name} is {value}; it must be below 1")
        for name in ("lr", "muon_lr"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"TrainConfig.{name} is inf; it must be finite")
        if self.recompute and not self.compile:
            raise ValueError(
                f"TrainConfig.recompute is {self.recompute} and compile is False; "
                "allowed: 0, or compile=True"
            )
        if not self.seed < 2**32:
            raise ValueError(f"TrainConfig.seed is {self.seed}; it must be below 2**32")

    def steps_per_epoch(self, images: int) -> int:
        """Full batches in an epoch; what is left over comes up in another epoch."""
        return max(1, images // self.batch_size)

    def steps(self, images: int) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.steps_per_epoch(images)

    def learning_rate(self, step: int, images: int, full: float | None = None) -> float:
        """The learning rate of a step (counted from 0), where ``full`` is the whole."""
        done = step / self.steps(images)
        rate = self.lr if full is None else full
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        elif self.schedule == "linear":
            rate *= 1 - 0.5 * done
        elif self.schedule == "decay":
            rate *= min(1.0, 4 * (1 - done))
        elif self.schedule == "staircase":
            drops = step // (self.decay_epochs * self.steps_per_epoch(images))
            rate = max(rate * 0.1**drops, min(rate, 1e-5))
        return rate * min(1.0, (step + 1) / (self.warmup_steps + 1))

    def kl_weight(self, step: int, images: int) -> float:
        """β of a step: above 0 from the first one, 1 after ``kl_warmup`` epochs."""
        if not self.kl_warmup:
            return 1.0
        return min(1.0, (step + 1) / (self.kl_warmup * self.steps_per_epoch(images)))


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """A 32-bit seed for one step or epoch, the same in every process.

    Every random number of a training is a pure function of (seed, step), so a run
    that is resumed draws exactly what it would have drawn: no generator's state can
    be lost, or be left out of a checkpoint.
    """
    text = f"{seed}:{purpose}:{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


def epoch_order(config: TrainConfig, epoch: int, n: int) -> Tensor:
    """The order of the training images in one epoch."""
    seed = derived_seed(config.seed, "order", epoch)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
