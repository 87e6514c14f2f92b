"""Places between blocks of layers, and the layers that fit there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

from optuna_nas_morph.ir import Architecture, Node, TensorSpec
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    Dropout,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Op,
    ParametricActivation,
    RMSNorm,
)

_FINISHERS = (BatchNorm, LayerNorm, LayerScale, RMSNorm, Activation)


def block_ends(architecture: Architecture) -> list[str]:
    """Nodes behind which a layer can go, in topological order."""
    return [node.name for node in architecture.nodes if block_end_refusal(architecture, node.name) is None]


def block_end_refusal(architecture: Architecture, name: str) -> str | None:
    """Why no layer goes behind a node, or :obj:`None`.

    A norm, a factor per channel or an activation belongs to the layer before it, so nothing is put between; nor at the
    end of a branch that meets a sum (behind the sum there is the same place), nor behind inputs and the output.
    """
    if name not in architecture.index:
        return f"there is no node {name!r}"
    node, spec = architecture[name], architecture.specs[name]
    if name == architecture.output:
        return "nothing is inserted behind the network's output"
    if isinstance(node.op, Input | Dropout):
        return f"nothing is inserted behind {node.op.op_name}"
    if spec.dtype != "float32":
        return "the tensor holds token ids"
    if spec.channel_axis not in (0, len(spec.shape) - 1):
        return "channels are neither on the first nor on the last axis"
    if not spec.channels_last and len(spec.spatial) > 3:
        return "there is no convolution over more than three axes"
    followers = [architecture[c].op for c in architecture.consumers[name]]
    if all(isinstance(op, _FINISHERS) for op in followers):
        return "only a norm or an activation follows, which belongs to this layer"
    if all(isinstance(op, Add) for op in followers):
        return "only a sum follows, which ends the branch"
    return None


def followers_of(architecture: Architecture, name: str) -> list[Node]:
    """The norms, activations and dropouts behind a layer that belong to it: each is all that the one before feeds."""
    block: list[Node] = []
    while True:
        followers = architecture.consumers[name]
        node = architecture[followers[0]] if len(followers) == 1 else None
        belongs = node is not None and isinstance(node.op, (*_FINISHERS, ParametricActivation, Dropout))
        if node is None or not belongs or node.name == architecture.output:
            return block
        block.append(node)
        name = node.name


def mixing_layer(spec: TensorSpec, width: int, kernel_size: int) -> Conv | Linear:
    """A convolution (channels first) or linear layer (channels last) that keeps all sizes but the channels.

    Where a spatial size is 1, so is the kernel: more would only ever multiply padding.
    """
    if spec.channels_last:
        return Linear(width)
    return Conv.same(len(spec.spatial), width, tuple(kernel_size if n > 1 else 1 for n in spec.spatial))


def is_norm(op: Op) -> TypeGuard[LayerNorm | RMSNorm]:
    """Whether an operation normalises every position over its channels."""
    return isinstance(op, LayerNorm | RMSNorm)


def kernel_of(op: Conv | Linear) -> tuple[int, ...]:
    """Kernel size; empty for a linear layer."""
    return op.kernel_size if isinstance(op, Conv) else ()


def norm_layer(spec: TensorSpec) -> Op:
    """The norm that fits a tensor: batch norm with channels first, layer norm for tokens."""
    return BatchNorm() if spec.channel_axis == 0 else LayerNorm()


def chain(start: str, ops: Iterable[tuple[str, Op]]) -> list[Node]:
    """Named operations one after another, the first fed by ``start``."""
    nodes: list[Node] = []
    for name, op in ops:
        nodes.append(Node(name, op, (nodes[-1].name if nodes else start,)))
    return nodes


def layer_stem(op: Conv | Linear) -> str:
    """How nodes of new layers are named."""
    return "conv" if isinstance(op, Conv) else "linear"
