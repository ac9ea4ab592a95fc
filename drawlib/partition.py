"""What a compiled step keeps for its backward pass: all that the forward pass made.

Left to itself the compiler computes every σ and tanh again, since on a GPU that is
cheaper than to read it back; on a CPU it is not. Imported only when something is
compiled, and only where PyTorch has such an option.
"""

from __future__ import annotations

from typing import Any

from torch._functorch.partitioners import default_partition
from torch._inductor.custom_graph_pass import CustomPartitionerFn

__all__ = ["KeepActivations"]


class KeepActivations(CustomPartitionerFn):
    """PyTorch's plain rule for cutting a graph into forward and backward.

    Example:
        >>> KeepActivations().uuid()
        'drawlib-keep-activations-1'
    """

    def __call__(self, gm: Any, joint_inputs: Any, **given: Any) -> Any:
        given.pop("compiler", None)
        return default_partition(gm, joint_inputs, **given)

    def uuid(self) -> str:
        """What stands for this rule in the cache of compiled code."""
        return "drawlib-keep-activations-1"
