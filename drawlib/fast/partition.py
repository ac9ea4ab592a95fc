"""What a compiled step keeps for its backward pass: what is expensive to make again.

Left to itself the compiler computes every σ and tanh again, since on a GPU that is
cheaper than to read it back; on a CPU it is not. Imported only when something is
compiled, and only where PyTorch has such an option.
"""

from __future__ import annotations

import math
from operator import getitem
from typing import Any

import torch
from torch._functorch.partitioners import default_partition
from torch._inductor.custom_graph_pass import CustomPartitionerFn
from torch._ops import OpOverload
from torch.fx import Node
from torch.utils.checkpoint import CheckpointPolicy

__all__ = ["KeepActivations"]

MANY = 8  # times as many numbers as were needed to make them


class KeepActivations(CustomPartitionerFn):
    """PyTorch's plain rule for cutting a graph into forward and backward.

    Views are not kept but made again. That costs nothing; and where a tensor and a
    view of it were kept, the backward pass of PyTorch 2.15 would write a result over
    the one while it still had to read the other. Made again is, too, what is many
    numbers out of a few: the rows of a filter, out of their centres and widths.

    Example:
        >>> KeepActivations().uuid()
        'drawlib-keep-activations-3'
    """

    def __call__(self, gm: Any, joint_inputs: Any, **given: Any) -> Any:
        given.pop("compiler", None)
        again: set[Node] = set()
        for node in gm.graph.nodes:
            if is_view(node) or is_spread(node, again):
                again.add(node)
                node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
        return default_partition(gm, joint_inputs, **given)

    def uuid(self) -> str:
        """What stands for this rule in the cache of compiled code."""
        return "drawlib-keep-activations-3"


def is_view(node: Node) -> bool:
    """Whether a node's result shares its memory with what the node is given."""
    if node.target is getitem:
        return is_view(node.args[0])  # type: ignore[arg-type]
    if not isinstance(node.target, OpOverload):
        return False
    return any(result.alias_info for result in node.target._schema.returns)


def is_spread(node: Node, again: set[Node]) -> bool:
    """Whether a node spreads few numbers, or what is made again, over many places."""
    if not isinstance(node.target, OpOverload):
        return False
    if torch.Tag.pointwise not in node.target.tags:
        return False
    given = (source(each) for each in node.all_input_nodes)
    return all(each in again or MANY * size(each) <= size(node) for each in given)


def source(node: Node) -> Node:
    """What a view is a view of."""
    while is_view(node):
        node = node.all_input_nodes[0]
    return node


def size(node: Node) -> float:
    """How many numbers a node makes; of what is no tensor, that is not known."""
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else math.inf
