"""Building a seed node by node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from optuna_nas_morph.ir import Architecture, Node, TensorSpec
from optuna_nas_morph.ir.ops import Activation, BatchNorm, Conv, GlobalPool, Input, Linear, Op, Pool

_STEMS = {
    "batch_norm": "norm",
    "layer_norm": "norm",
    "rms_norm": "norm",
    "global_pool": "pool",
    "adaptive_pool": "pool",
}


class Builder:
    """Collects the nodes of an architecture in topological order.

    Nodes are named ``<stem>_<k>``, where ``k`` counts the nodes of that stem from 1: ``conv_1``, ``norm_1``,
    ``relu_1``, ``conv_2``. The input is ``input``, the last layer ``head``.

    Args:
        input_shape:
            Shape of one sample.
        dtype:
            Its type, as `Input` has it.
    """

    def __init__(self, input_shape: tuple[int, ...], dtype: str = "float32") -> None:
        self._nodes: list[Node] = []
        self._specs: dict[str, TensorSpec] = {}
        self._counts: Counter[str] = Counter()
        self._append("input", Input(input_shape, dtype=dtype), ())

    @property
    def last(self) -> str:
        """Name of the node added last."""
        return self._nodes[-1].name

    @property
    def spec(self) -> TensorSpec:
        """What the node added last puts out."""
        return self._specs[self.last]

    def add_input(self, name: str, op: Input) -> str:
        """Add one more input, which the network takes behind those before it."""
        return self._append(name, op, ())

    def add(self, op: Op, *inputs: str, stem: str | None = None) -> str:
        """Add a node.

        Args:
            op:
                What it does.
            inputs:
                Names of the nodes that feed it; the node added last if left out.
            stem:
                First part of its name; by default the kind of operation.

        Returns:
            Its name.
        """
        if stem is None:
            stem = op.function if isinstance(op, Activation) else _STEMS.get(op.op_name, op.op_name)
        self._counts[stem] += 1
        return self._append(f"{stem}_{self._counts[stem]}", op, inputs or (self.last,))

    def add_conv(self, width: int, kernel_size: int, *, stride: int = 1) -> str:
        """Add a convolution without bias (the norm behind it has one) that keeps the size up to the stride."""
        return self.add(Conv.same(len(self.spec.spatial), width, kernel_size, stride=stride, bias=False))

    def add_norm_relu(self) -> str:
        """Add batch norm and ReLU."""
        self.add(BatchNorm())
        return self.add(Activation("relu"))

    def add_stem(self, width: int, kernel_size: int, large: int) -> str:
        """Add convolution, norm and ReLU, and take a map whose smaller side exceeds ``large`` down to it.

        That takes a kernel of 7 with stride 2 and overlapping max pooling (He et al., 2016, table 1), by more than 2
        where need be.
        """
        if min(self.spec.spatial) <= large:
            self.add_conv(width, kernel_size)
            return self.add_norm_relu()
        self.add_conv(width, 7, stride=2)
        self.add_norm_relu()
        stride, rank = 1, len(self.spec.spatial)
        while -(-min(self.spec.spatial) // stride) > large:
            stride *= 2
        if stride > 1:
            self.add(Pool("max", (stride + 1,) * rank, (stride,) * rank, (stride // 2,) * rank))
        return self.last

    def add_pooled_blocks(self, n_blocks: int, width: int, kernel_size: int, smallest: int) -> str:
        """Add blocks of convolution, norm and ReLU with max pooling before each, which doubles the width.

        There is no pooling where the smaller side would fall below ``smallest``, and no second one behind a stem that
        ends in a pooling.

        Args:
            n_blocks:
                How many.
            width:
                Channels of the block before.
            kernel_size:
                Size of the convolutions.
            smallest:
                Positions that the smaller side keeps.

        Returns:
            Name of the last node.
        """
        for _ in range(n_blocks):
            pooled = isinstance(self._nodes[-1].op, Pool)
            if not pooled and self.can_halve(smallest):
                self.add(Pool("max", (2,) * len(self.spec.spatial)))
                pooled = True
            width *= 2 if pooled else 1
            self.add_conv(width, kernel_size)
            self.add_norm_relu()
        return self.last

    def can_halve(self, smallest: int) -> bool:
        """Whether the smaller side of the map is still at least ``smallest`` after halving."""
        return min(self.spec.spatial) // 2 >= smallest

    def finish(self, n_classes: int) -> Architecture:
        """Add global average pooling, if there are positions left, and the last linear layer."""
        if self.spec.spatial:
            self.add(GlobalPool())
        self._append("head", Linear(n_classes), (self.last,))
        return Architecture(tuple(self._nodes))

    def _append(self, name: str, op: Op, inputs: Sequence[str]) -> str:
        self._specs[name] = op.infer([self._specs[i] for i in inputs])
        self._nodes.append(Node(name, op, tuple(inputs)))
        return name
