"""Optimisers by name: Adam for all weights, or Muon for the matrices beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from drawlib.bound import LatentModel
from drawlib.training.schedule import TrainConfig

__all__ = ["Optimisers", "make_optimisers"]


class Optimisers:
    """One or two of PyTorch's optimisers that step together, at one schedule.

    Example:
        >>> w = nn.Parameter(torch.ones(2))
        >>> both = Optimisers([torch.optim.SGD([w], lr=0.5)])
        >>> w.sum().backward()
        >>> both.step(lambda rate: 0.5 * rate)  # w − 0.25
        >>> w.detach()
        tensor([0.7500, 0.7500])
    """

    def __init__(self, members: Iterable[torch.optim.Optimizer]) -> None:
        self.members = list(members)
        self.rates = [[g["lr"] for g in m.param_groups] for m in self.members]

    def step(self, schedule: Callable[[float], float]) -> None:
        """One step of each, at what ``schedule`` makes of its full learning rate."""
        for member, rates in zip(self.members, self.rates, strict=True):
            for group, rate in zip(member.param_groups, rates, strict=True):
                group["lr"] = schedule(rate)
            member.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; of a single member, just its own."""
        states = [member.state_dict() for member in self.members]
        return states[0] if len(states) == 1 else {"members": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        states = state.get("members", [state])
        for member, its in zip(self.members, states, strict=True):
            member.load_state_dict(its)


def make_optimisers(
    model: nn.Module, config: TrainConfig, device: torch.device
) -> Optimisers:
    r"""What ``config.optimiser`` names, for the weights of ``model``.

    Muon (Jordan et al. 2024) replaces the momentum M of a matrix by the nearest
    matrix with orthonormal rows or columns, by five Newton–Schulz iterations:
    W ← W − η √max(1, rows / columns) · orth(M). All singular directions then move
    alike, also those in which the gradient is small. Which weights are such matrices
    is the model's own answer, ``LatentModel.matrices``; Adam takes the others.

    The factor belongs to weights stored as (outputs, inputs), as all of drawlib's are.

    Raises:
        ValueError: for ``muon`` with a model that names no matrices, or a PyTorch
            older than 2.9, which has no Muon.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny"))
        >>> config = TrainConfig(optimiser="muon")
        >>> optimisers = make_optimisers(model, config, torch.device("cpu"))
        >>> [type(m).__name__ for m in optimisers.members]
        ['Muon', 'Adam']
    """
    matrices: list[Tensor] = []
    if config.optimiser == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"optimiser is 'muon', which PyTorch {torch.__version__} has not; "
                "allowed: adam, or PyTorch 2.9 or newer"
            )
        matrices = model.matrices() if isinstance(model, LatentModel) else []
        if not matrices:
            raise ValueError(
                f"optimiser is 'muon', and {type(model).__name__} names no matrices; "
                "allowed: adam"
            )
    apart = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in apart]
    adam = torch.optim.Adam(
        rest,
        config.lr,
        (config.beta1, config.beta2),
        config.eps,
        # One kernel for the whole update, where the backend has it.
        fused=device.type in ("cpu", "cuda"),
    )
    if not matrices:
        return Optimisers([adam])
    muon = torch.optim.Muon(
        matrices, config.muon_lr, weight_decay=0.0, momentum=config.muon_momentum
    )
    return Optimisers([muon, adam])
