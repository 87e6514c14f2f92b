"""Where a skip connection can go, and the branch that takes one tensor to the sizes of another."""

from __future__ import annotations

from collections.abc import Iterator

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, TensorSpec
from optuna_nas_morph.ir.ops import AdaptivePool, Add, Concat, Conv, DepthwiseConv, Input, Linear, Op, Pool
from optuna_nas_morph.morphisms.base import Site
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends


def skip_candidates(architecture: Architecture) -> Iterator[Site]:
    """Pairs ``(start, end)`` in topological order of the start, then of the end."""
    ends = block_ends(architecture)
    above = architecture.ancestors
    for node in architecture.nodes:
        if isinstance(node.op, Input) or node.name in ends:
            bit = 1 << architecture.index[node.name]
            for end in ends:
                if above[end] & bit:
                    yield (node.name, end)


def skip_refusal(architecture: Architecture, site: Site) -> str | None:
    """Why no skip connection goes from one node to another, or :obj:`None`."""
    if len(site) != 2:
        return "a site is a start and an end"
    start, end = site
    if start not in architecture.index:
        return f"there is no node {start!r}"
    if not isinstance(architecture[start].op, Input):
        reason = block_end_refusal(architecture, start)
        if reason is not None:
            return f"start {start!r}: {reason}"
    reason = block_end_refusal(architecture, end)
    if reason is not None:
        return f"end {end!r}: {reason}"
    if not architecture.ancestors[end] >> architecture.index[start] & 1:
        return f"{start!r} does not feed {end!r}"
    if architecture.specs[start].dtype != "float32":
        return f"start {start!r} holds token ids"
    if _has_skip(architecture, start, end):
        return "there is such a skip already"
    branch = branch_ops(architecture, start, end)
    return branch if isinstance(branch, str) else None


def branch_ops(architecture: Architecture, start: str, end: str) -> list[Op] | str:
    """Poolings that take the start's sizes to the end's, or why there are none.

    They repeat the geometry of the first path between the two: a pooling as it is, a convolution that changes the size
    as an average pooling with the same window.
    """
    spec, target = architecture.specs[start], architecture.specs[end]
    if len(spec.shape) != len(target.shape) or spec.channel_axis != target.channel_axis:
        return f"{start!r} and {end!r} have different layouts"
    ops: list[Op] = []
    for name in _path(architecture, start, end):
        node = architecture[name]
        source = architecture.specs[node.inputs[0]]
        if architecture.specs[name].spatial == source.spatial:
            continue
        if isinstance(node.op, Pool | AdaptivePool):
            ops.append(node.op)
        elif isinstance(node.op, Conv | DepthwiseConv) and set(node.op.window.dilation) == {1}:
            window = node.op.window
            if any(2 * p > k for p, k in zip(window.padding, window.kernel_size, strict=True)):
                return f"{name!r} pads more than a pooling can"
            ops.append(Pool("avg", window.kernel_size, window.stride, window.padding))
        else:
            return f"{name!r} changes the size between them in a way that no pooling repeats"
    try:
        for op in ops:
            spec = op.infer([spec])
    except ArchitectureError as e:
        return str(e)
    return ops if spec.spatial == target.spatial else "no branch leads to the sizes of the end"


def projection(spec: TensorSpec, width: int) -> Conv | Linear:
    """A 1x1 convolution, or a linear layer on vectors and tokens."""
    rank = len(spec.spatial)
    return Linear(width) if spec.channels_last else Conv(width, (1,) * rank)


def _path(architecture: Architecture, start: str, end: str) -> list[str]:
    """The path from start (left out) to end that takes the first possible input at every node."""
    above = architecture.ancestors
    bit = 1 << architecture.index[start]
    path: list[str] = []
    name = end
    while name != start:
        path.append(name)
        name = next(i for i in architecture[name].inputs if i == start or above[i] & bit)
    return path[::-1]


def _has_skip(architecture: Architecture, start: str, end: str) -> bool:
    """Whether a sum or concatenation takes the start through no more than a projection.

    It is the end itself, one that the end feeds, or a concatenation that the end is a projection of.
    """
    places = [end, *architecture.consumers[end]]
    if isinstance(architecture[end].op, Conv | Linear) and _is_bridge(architecture[end].op):
        # A skip by concatenation ends in a projection.
        places += [i for i in architecture[end].inputs if isinstance(architecture[i].op, Concat)]
    for name in places:
        node = architecture[name]
        if isinstance(node.op, Add | Concat):
            for source in node.inputs:
                while source not in (start, end) and _is_bridge(architecture[source].op):
                    source = architecture[source].inputs[0]
                if source == start:
                    return True
    return False


def _is_bridge(op: Op) -> bool:
    return isinstance(op, Pool | AdaptivePool | Linear) or (isinstance(op, Conv) and set(op.kernel_size) == {1})
