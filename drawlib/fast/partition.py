"""What a compiled step keeps for its backward pass: what is dear to make again.

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
LITTLE = 1 << 13  # numbers: to hand over so few costs more than to make them again
DEAR = ("exp", "div", "reciprocal", "sigmoid", "tanh", "log", "sqrt", "rsqrt", "pow")


class KeepActivations(CustomPartitionerFn):
    """PyTorch's plain rule for cutting a graph into forward and backward.

    Views are not kept but made again. That costs nothing; and where a tensor and a
    view of it were kept, the backward pass of PyTorch 2.15 would write a result over
    the one while it still had to read the other. Made again is, too, what is many
    numbers out of a few: the rows of a filter, out of their centres and widths; and
    what is little, without a division or an exponential.

    Example:
        >>> KeepActivations().uuid()
        'drawlib-keep-activations-4'
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
        return "drawlib-keep-activations-4"


def is_view(node: Node) -> bool:
    """Whether a node's result shares its memory with what the node is given."""
    if node.target is getitem:
        return is_view(node.args[0])  # type: ignore[arg-type]
    if not isinstance(node.target, OpOverload):
        return False
    return any(result.alias_info for result in node.target._schema.returns)


def is_spread(node: Node, again: set[Node]) -> bool:
    """Whether a node makes many numbers of few, one by one; ``again``: others' such."""
    if not isinstance(node.target, OpOverload):
        return False
    tags, given = node.target.tags, node.all_input_nodes
    if not given:  # as many as are asked for, of none
        return torch.Tag.nondeterministic_seeded not in tags
    if torch.Tag.pointwise not in tags:
        return False
    name = node.target._schema.name.split("::")[1]
    if size(node) <= LITTLE and name not in DEAR:
        return True

    def few(given: Node) -> bool:
        return MANY * size(given) <= size(node) or (
            given in again and not is_view(given)
        )

    return all(few(source(each, again)) for each in given)


def source(node: Node, again: set[Node]) -> Node:
    """What a view is a view of."""
    while node in again and is_view(node):
        node = node.all_input_nodes[0]
    return node


def size(node: Node) -> int:
    """How many numbers a node makes."""
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else math.inf  # type: ignore[return-value]
