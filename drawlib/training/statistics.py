"""What a step changes in a model beside its weights, and how that is undone."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Statistics"]


class Statistics:
    """The running statistics of a model, which a bad batch must not reach.

    They have seen a batch before anybody knows that it is bad. So they are remembered
    before each step: all buffers until one step was good, and from then on those that
    it has changed. Most models have none.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm1d(1)
        >>> statistics = Statistics(norm)
        >>> for batch in (torch.ones(2, 1), torch.full((2, 1), torch.nan)):
        ...     statistics.remember()
        ...     _ = norm(batch)
        ...     if batch.isfinite().all():
        ...         statistics.keep()
        ...     else:
        ...         statistics.put_back()
        >>> norm.running_mean
        tensor([0.1000])
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before: dict[str, Tensor] = {}
        self.moving: list[str] | None = None

    def remember(self) -> None:
        """Before a step."""
        if self.moving != []:
            now = dict(self.model.named_buffers())
            names = now if self.moving is None else self.moving
            self.before = {name: now[name].clone() for name in names}

    def keep(self) -> None:
        """After a good step."""
        if self.moving is None:
            now = dict(self.model.named_buffers())
            kept = self.before.items()
            self.moving = [name for name, b in kept if not b.equal(now[name])]
            self.before = {}

    def put_back(self) -> None:
        """After a bad step: as it was before."""
        now = dict(self.model.named_buffers())
        for name, value in self.before.items():
            now[name].copy_(value)
