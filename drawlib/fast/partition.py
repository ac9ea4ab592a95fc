"""What a compiled step keeps for its backward pass: all that the forward pass made.

Left to itself the compiler computes every σ and tanh again, since on a GPU that is
cheaper than to read it back; on a CPU it is not. Imported only when something is
compiled, and only where PyTorch has such an option.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

from torch._functorch.partitioners import default_partition
from torch._inductor.custom_graph_pass import CustomPartitionerFn
from torch._ops import OpOverload
from torch.utils.checkpoint import CheckpointPolicy

__all__ = ["KeepActivations"]


class KeepActivations(CustomPartitionerFn):
    """PyTorch's plain rule for cutting a graph into forward and backward.

    Views are not kept but made again. That costs nothing; and where a tensor and a
    view of it were kept, the backward pass of PyTorch 2.15 would write a result over
    the one while it still had to read the other.

    Example:
        >>> KeepActivations().uuid()
        'drawlib-keep-activations-2'
    """

    def __call__(self, gm: Any, joint_inputs: Any, **given: Any) -> Any:
        given.pop("compiler", None)
        for node in gm.graph.nodes:
            if is_view(node):
                node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
        return default_partition(gm, joint_inputs, **given)

    def uuid(self) -> str:
        """What stands for this rule in the cache of compiled code."""
        return "drawlib-keep-activations-2"


def is_view(node: Any) -> bool:
    """Whether a node's result shares its memory with what the node is given."""
    if node.target is getitem:
        return is_view(node.args[0])
    if not isinstance(node.target, OpOverload):
        return False
    return any(result.alias_info for result in node.target._schema.returns)
