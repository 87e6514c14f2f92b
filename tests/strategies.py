"""Random valid architectures for tests: one grower, driven by a seeded generator or by Hypothesis.

For other tests:

- `random_architecture` (seeded), `architectures` (Hypothesis, shrinks): varied graphs of tiny tensors, every operation.
- `random_wiring`: small dense graphs over one shape, where equal and isomorphic graphs are frequent.
- `random_op`, `ops`: one operation with valid fields.
- `example_architectures`: hand-made, named, together every operation with its options.
- `example_inputs`, `random_network`: what a forward pass needs, with weights and running statistics drawn afresh.
- `relabelled`: the same graph with other names, in another topological order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node, TensorSpec
from optuna_nas_morph.ir.ops import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    ColumnEmbedding,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Multiply,
    Op,
    ParametricActivation,
    PatchEmbedding,
    Pool,
    PositionEmbedding,
    RMSNorm,
    Scale,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from optuna_nas_morph.nets import Network

T = TypeVar("T")

MAX_CHANNELS = 12
MAX_NUMEL = 400


class Source(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        ...


class _Seeded:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))


class _Drawn:
    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))


def _choice(source: Source, values: Sequence[T]) -> T:
    return values[source.integer(0, len(values) - 1)]


def _maybe(source: Source, one_in: int) -> bool:
    """True once in ``one_in``; Hypothesis shrinks towards False."""
    return source.integer(0, one_in - 1) == one_in - 1


# Single operations.


def _sizes(source: Source, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(source.integer(low, high) for _ in range(rank))


def _window(source: Source, rank: int) -> dict[str, tuple[int, ...]]:
    """Geometry of a convolution, often the defaults."""
    kernel = _sizes(source, rank, 1, 3)
    result = {"kernel_size": kernel}
    if _maybe(source, 3):
        result["stride"] = _sizes(source, rank, 1, 2)
    if _maybe(source, 3):
        result["dilation"] = _sizes(source, rank, 1, 2)
    if not _maybe(source, 4):
        dilation = result.get("dilation", (1,) * rank)
        result["padding"] = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    return result


def _width(source: Source) -> int:
    return source.integer(1, 6)


def _conv(source: Source, rank: int) -> Op:
    groups = _choice(source, (1, 1, 1, 2, 3))
    width = groups * source.integer(1, 6 // groups)
    return Conv(width, **_window(source, rank), groups=groups, bias=not _maybe(source, 3))


def _depthwise(source: Source, rank: int) -> Op:
    multiplier = _choice(source, (1, 1, 2, 3))
    return DepthwiseConv(**_window(source, rank), multiplier=multiplier, bias=not _maybe(source, 3))


def _pool(source: Source, rank: int) -> Op:
    kernel = _sizes(source, rank, 1, 3)
    stride = _sizes(source, rank, 1, 3) if _maybe(source, 2) else ()
    padding = tuple(source.integer(0, k // 2) for k in kernel) if _maybe(source, 2) else ()
    return Pool(_choice(source, ("max", "avg")), kernel, stride, padding)


def _activation(source: Source) -> Op:
    function = _choice(source, ("relu",) * 5 + ACTIVATIONS)
    if function == "leaky_relu" and _maybe(source, 2):
        return Activation(function, negative_slope=_choice(source, (0.2, -0.25, 0.0)))
    return Activation(function)


def _same_shape(source: Source) -> list[Callable[[], Op]]:
    return [
        *[lambda: _activation(source)] * 3,
        lambda: Dropout(_choice(source, (0.5, 0.0, 0.25))),
        lambda: LayerNorm(_choice(source, (1e-5, 1e-3))),
        lambda: LayerScale(_choice(source, (1e-6, 0.0))),
        lambda: RMSNorm(_choice(source, (1e-6, 1e-3))),
        lambda: ParametricActivation(_choice(source, ACTIVATIONS)),
        lambda: Scale(_choice(source, (2.0, -0.5))),
    ]


def _for_maps(source: Source, rank: int) -> list[Callable[[], Op]]:
    return [
        *_same_shape(source),
        lambda: BatchNorm(_choice(source, (1e-5, 1e-3))),
        *[lambda: _conv(source, rank)] * 4,
        *[lambda: _depthwise(source, rank)] * 2,
        *[lambda: _pool(source, rank)] * 3,
        lambda: AdaptivePool(_sizes(source, rank, 1, 3), _choice(source, ("avg", "max"))),
        lambda: GlobalPool(_choice(source, ("avg", "max"))),
        Flatten,
        ToTokens,
        *[lambda: PatchEmbedding(_width(source), _sizes(source, rank, 1, 2))] * 2,
    ]


def _for_tokens(source: Source) -> list[Callable[[], Op]]:
    return [
        *_same_shape(source),
        lambda: Linear(_width(source), bias=not _maybe(source, 3)),
        *[lambda: SelfAttention(source.integer(1, 2), source.integer(1, 3), _width(source))] * 2,
        PositionEmbedding,
        lambda: GlobalPool(_choice(source, ("avg", "max"))),
        Flatten,
    ]


def _for_vectors(source: Source) -> list[Callable[[], Op]]:
    return [*_same_shape(source), BatchNorm, lambda: Linear(_width(source), bias=not _maybe(source, 3)), Flatten]


def _for_channels_last(source: Source) -> list[Callable[[], Op]]:
    return [*_same_shape(source), lambda: Linear(_width(source)), GlobalPool, Flatten]


def _input(source: Source) -> Op:
    kind = _choice(
        source, ("image", "image", "image", "series", "series", "volume", "tokens", "tokens", "ids", "vector", "last")
    )
    match kind:
        case "image":
            return Input((source.integer(1, 4), *_sizes(source, 2, 2, 5)))
        case "series":
            return Input((source.integer(1, 4), source.integer(2, 7)))
        case "volume":
            return Input((source.integer(1, 3), *_sizes(source, 3, 2, 3)))
        case "vector":
            return Input((source.integer(1, 6),))
        case "tokens":
            return Input((source.integer(1, 4), source.integer(1, 5)), channel_axis=1)
        case "ids":
            return Input((source.integer(1, 4),), dtype="int64")
        case _:
            return Input((*_sizes(source, 2, 2, 3), source.integer(1, 4)), channel_axis=2)


def _unary(source: Source, spec: TensorSpec) -> Op:
    """An operation that takes such a tensor (its geometry may still not fit)."""
    rank = len(spec.shape) - 1
    if spec.dtype == "int64":
        if _maybe(source, 2):
            return ColumnEmbedding(source.integer(0, spec.n_channels - 1), source.integer(2, 5), _width(source))
        return TokenEmbedding(source.integer(2, 5), _width(source))
    if rank == 0:
        return _choice(source, _for_vectors(source))()
    if spec.channel_axis == 0:
        return _choice(source, _for_maps(source, rank))()
    return _choice(source, _for_tokens(source) if rank == 1 else _for_channels_last(source))()


# Graphs.


class _Grower:
    """Adds nodes one by one and drops those that would not be valid."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes: list[Node] = []
        self.specs: dict[str, TensorSpec] = {}
        self.unused: dict[str, None] = {}

    def put(self, op: Op, *inputs: str) -> str | None:
        """Name of the new node, or None if it is not valid or too large."""
        try:
            spec = op.infer([self.specs[name] for name in inputs])
        except ArchitectureError:
            return None
        if spec.numel > MAX_NUMEL or spec.n_channels > MAX_CHANNELS * (6 if len(spec.shape) == 1 else 1):
            return None
        name = f"{op.op_name}_{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs))
        self.specs[name] = spec
        for source in inputs:
            self.unused.pop(source, None)
        self.unused[name] = None
        return name

    def chain(self, start: str, *operations: Op) -> str | None:
        """Name of the last of a chain of nodes; None if one does not fit."""
        end: str | None = start
        for op in operations:
            end = self.put(op, end) if end is not None else None
        return end

    def same_size(self, name: str, width: int) -> str | None:
        """A layer with weights that keeps the positions."""
        spec = self.specs[name]
        if spec.dtype == "int64":
            return None
        if spec.channels_last:
            return self.put(Linear(width), name)
        return self.put(Conv.same(len(spec.shape) - 1, width, _choice(self.source, (1, 3))), name)

    def merge(self, op: Op, *inputs: str | None) -> str | None:
        """Join tensors, if all of them exist."""
        names = [name for name in inputs if name is not None]
        return self.put(op, *names) if len(names) == len(inputs) else None

    # One step of growth each.

    def unary(self, x: str) -> None:
        self.put(_unary(self.source, self.specs[x]), x)

    def residual(self, x: str) -> None:
        """x + f(x), in either order, sometimes f(x) + g(x), sometimes with three terms."""
        width = self.specs[x].n_channels
        branch = self.same_size(x, width)
        if branch is not None and _maybe(self.source, 2):
            branch = self.put(_unary(self.source, self.specs[branch]), branch) or branch
        terms = [x, branch] if _maybe(self.source, 2) else [branch, x]
        if _maybe(self.source, 4):
            terms.append(self.same_size(x, width))
        self.merge(Add(), *terms)

    def concat(self, x: str) -> None:
        """Branches side by side, sometimes the tensor itself among them."""
        parts: list[str | None] = [self.same_size(x, _width(self.source)) for _ in range(self.source.integer(1, 2))]
        parts.insert(self.source.integer(0, len(parts)), x)
        self.merge(Concat(), *parts)

    def concat_meets_sum(self, x: str) -> None:
        """add(concat(a, b), c), where c may itself be a concatenation with other seams."""
        sizes = [self.source.integer(1, 4) for _ in range(2)]
        both = self.merge(Concat(), *(self.same_size(x, size) for size in sizes))
        if _maybe(self.source, 2):
            first = self.source.integer(1, sum(sizes) - 1)
            other = self.merge(Concat(), self.same_size(x, first), self.same_size(x, sum(sizes) - first))
        else:
            other = self.same_size(x, sum(sizes))
        self.merge(Add(), both, other)

    def gate(self, x: str) -> None:
        """x * sigmoid(f(pool(x))): squeeze and excite, with broadcast."""
        spec = self.specs[x]
        rank = len(spec.shape) - 1
        if spec.dtype == "int64" or spec.channel_axis != 0 or rank == 0:
            return
        squeezed = self.put(AdaptivePool((1,) * rank), x)
        if squeezed is None:
            return
        gate = self.chain(squeezed, Conv(spec.n_channels, (1,) * rank), Activation("sigmoid"))
        self.merge(Multiply(), *((gate, x) if _maybe(self.source, 2) else (x, gate)))

    def partner(self, x: str) -> None:
        """Add, concat or multiply with any tensors that fit, also with itself."""
        op = _choice(self.source, (Add(), Concat(), Multiply()))
        fitting: list[str] = []
        for name in self.specs:
            try:
                op.infer([self.specs[x], self.specs[name]])
            except ArchitectureError:
                continue
            fitting.append(name)
        if fitting:
            others = [_choice(self.source, fitting) for _ in range(self.source.integer(1, 2))]
            self.put(op, x, *others)

    def repeats(self, x: str) -> None:
        """Sums of channels that repeat, at paces that divide each other or not."""
        spec = self.specs[x]
        rank = len(spec.shape) - 1
        if spec.dtype == "int64" or spec.channel_axis != 0 or rank == 0:
            return
        a, b = (self.source.integer(1, 4) for _ in range(2))
        total = math.lcm(a, b) * self.source.integer(1, 2)
        sides = (self.put(Conv(total // n, (1,) * rank), x) for n in (a, b))
        kernel = (1,) * rank
        grown = [
            side and self.put(DepthwiseConv(kernel, multiplier=n), side) for side, n in zip(sides, (a, b), strict=True)
        ]
        self.merge(Add(), *grown)

    def flattened_sum(self, x: str) -> None:
        """Two flattened orders, or a flattened one and a linear layer, in one sum."""
        spec = self.specs[x]
        if spec.dtype == "int64" or spec.channel_axis != 0 or len(spec.shape) == 1 or spec.numel > 48:
            return
        flat = self.put(Flatten(), x)
        if _maybe(self.source, 3):
            other = self.chain(x, ToTokens(), Flatten())
        else:
            other = self.chain(x, GlobalPool(), Linear(spec.numel))
        self.merge(Add(), flat, other)

    def grow(self, n_steps: int) -> Architecture:
        for _ in range(1 + _maybe(self.source, 4) + _maybe(self.source, 8)):
            self.put(_input(self.source))
        steps = [
            *[self.unary] * 10,
            *[self.residual] * 3,
            *[self.concat] * 2,
            *[self.concat_meets_sum, self.gate] * 2,
            *[self.partner] * 2,
            self.repeats,
            self.flattened_sum,
        ]
        for _ in range(n_steps):
            # Mostly at a loose end, sometimes anywhere, so that tensors get several consumers.
            names = list(self.specs) if _maybe(self.source, 5) else list(self.unused)
            _choice(self.source, steps)(_choice(self.source, names))
        self.close()
        return Architecture(tuple(self.nodes))

    def close(self) -> None:
        """Join all loose ends into one output."""
        if len(self.unused) == 1 and _maybe(self.source, 2):
            return
        ends = [self.to_vector(name) for name in list(self.unused)]
        if len(ends) > 1:
            if _maybe(self.source, 2):
                width = _width(self.source)
                ends = [self._sure(Linear(width), end) for end in ends]
                self._sure(Add(), *ends)
            else:
                self._sure(Concat(), *ends)
        if _maybe(self.source, 2):
            self._sure(Linear(_width(self.source)), next(iter(self.unused)))

    def to_vector(self, name: str) -> str:
        spec = self.specs[name]
        if spec.dtype == "int64":
            # Every reader of one input may have another vocabulary; `example_inputs` draws below the smallest.
            name = self._sure(TokenEmbedding(3, 2), name)
            spec = self.specs[name]
        if len(spec.shape) == 1:
            return name
        return self._sure(Flatten() if spec.numel <= 36 and _maybe(self.source, 2) else GlobalPool(), name)

    def _sure(self, op: Op, *inputs: str) -> str:
        """As `put`, without a limit on the size."""
        name = f"{op.op_name}_{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs))
        self.specs[name] = op.infer([self.specs[i] for i in inputs])
        for source in inputs:
            self.unused.pop(source, None)
        self.unused[name] = None
        return name


def random_architecture(rng: np.random.Generator, n_steps: int | None = None) -> Architecture:
    """A valid architecture with tiny tensors; about 3 to 40 nodes.

    Args:
        rng:
            Where choices come from: equal states give equal architectures.
        n_steps:
            How often the graph grows (a step adds one to about eight nodes); by default 1 to 10.
    """
    source = _Seeded(rng)
    return _Grower(source).grow(source.integer(1, 10) if n_steps is None else n_steps)


@st.composite
def architectures(draw: Any, max_steps: int = 8) -> Architecture:
    """As `random_architecture`, drawn by Hypothesis, which shrinks towards few nodes."""
    source = _Drawn(draw)
    return _Grower(source).grow(source.integer(0, max_steps))


def random_op(rng: np.random.Generator) -> Op:
    """An operation with valid fields, not necessarily one that fits a given tensor."""
    return _op(_Seeded(rng))


@st.composite
def ops(draw: Any) -> Op:
    """As `random_op`, drawn by Hypothesis."""
    return _op(_Drawn(draw))


def _op(source: Source) -> Op:
    every = [
        *_for_maps(source, source.integer(1, 3)),
        *_for_tokens(source),
        lambda: _input(source),
        lambda: TokenEmbedding(source.integer(1, 9), _width(source)),
        lambda: ColumnEmbedding(source.integer(0, 3), source.integer(1, 9), _width(source)),
        Add,
        Concat,
        Multiply,
    ]
    return _choice(source, every)()


def random_wiring(rng: np.random.Generator, n_nodes: int) -> Architecture:
    """A small graph of few operations over one shape: isomorphic graphs, and near misses, are frequent."""
    nodes = [Node("n0", Input((2, 2)))]
    for i in range(1, n_nodes):
        kind = int(rng.integers(0, 6))
        if kind <= 1:
            op: Op = (Activation("relu"), Conv(2, (1,)))[kind]
            inputs = [f"n{rng.integers(0, i)}"]
        else:
            op = (Add(), Add(), Multiply(), Concat())[kind - 2]
            inputs = [f"n{rng.integers(0, i)}" for _ in range(int(rng.integers(2, 4)))]
        nodes.append(Node(f"n{i}", op, tuple(inputs)))
        if isinstance(op, Concat):
            nodes[-1] = Node(f"c{i}", op, tuple(inputs))
            nodes.append(Node(f"n{i}", Conv(2, (1,)), (f"c{i}",)))
    used = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in used:
            used.update(node.inputs)
    return Architecture(tuple(node for node in nodes if node.name in used))


def relabelled(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """The same graph with random names, in a random topological order, summands and factors shuffled.

    The network's inputs keep their order, in which it takes them.
    """
    numbers = rng.permutation(len(architecture.nodes))
    names = {node.name: f"v{number}" for node, number in zip(architecture.nodes, numbers, strict=True)}
    waiting = list(architecture.nodes)
    done: set[str] = set()
    result: list[Node] = []
    while waiting:
        ready = [node for node in waiting if node.inputs and all(name in done for name in node.inputs)]
        ready += [node for node in waiting if not node.inputs][:1]
        node = ready[int(rng.integers(0, len(ready)))]
        waiting.remove(node)
        done.add(node.name)
        inputs = [names[name] for name in node.inputs]
        if node.op.commutative:
            rng.shuffle(inputs)
        result.append(Node(names[node.name], node.op, tuple(inputs)))
    return Architecture(tuple(result))


# Networks.


def example_inputs(architecture: Architecture, batch_size: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    """Random inputs, token ids within every vocabulary that reads them."""
    generator = torch.Generator().manual_seed(seed)
    result: list[Tensor] = []
    for name in architecture.inputs:
        shape = (batch_size, *architecture.specs[name].shape)
        if architecture.specs[name].dtype == "float32":
            result.append(torch.randn(shape, generator=generator))
            continue
        readers = [architecture[consumer].op for consumer in architecture.consumers[name]]
        sizes = [op.n_tokens for op in readers if isinstance(op, TokenEmbedding)]
        sizes += [op.n_categories for op in readers if isinstance(op, ColumnEmbedding)]
        result.append(torch.randint(0, min(sizes, default=2), shape, generator=generator))
    return tuple(result)


def random_network(architecture: Architecture, seed: int = 0) -> Network:
    """The network in eval mode with every weight, bias and running statistic drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(architecture).eval()
        with torch.no_grad():
            for module in network.modules():
                for name, p in module.named_parameters(recurse=False):
                    norm = isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.modules.batchnorm._BatchNorm)
                    fan_in = 1 if name == "bias" or norm else max(1, p[0].numel())
                    p.normal_(std=1 / math.sqrt(fan_in))
                    if norm and name == "weight":
                        p.add_(1.0)
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    assert module.running_mean is not None and module.running_var is not None
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
    return network


# Hand-made.


def sequence(*operations: Op) -> Architecture:
    """A chain of operations named ``<op>_<position>``, the first of them an input."""
    nodes: list[Node] = []
    for i, op in enumerate(operations):
        nodes.append(Node(f"{op.op_name}_{i}", op, (nodes[-1].name,) if nodes else ()))
    return Architecture(tuple(nodes))


def example_architectures() -> dict[str, Architecture]:
    """Small architectures by name, together every operation with its options."""
    image, series, volume = Input((2, 5, 4)), Input((4, 7)), Input((2, 3, 4, 3))
    tokens, vector, ids = Input((3, 4), channel_axis=1), Input((5,)), Input((4,), dtype="int64")
    last = Input((2, 3, 4), channel_axis=2)
    result = {
        "input": sequence(image),
        "input_ids": sequence(ids),
        "conv1d": sequence(series, Conv(3, (3,))),
        "conv1d_strided": sequence(series, Conv(3, (2,), (2,), (1,), (2,), bias=False)),
        "conv2d": sequence(image, Conv(3, (3, 2))),
        "conv2d_geometry": sequence(image, Conv(3, (3, 2), (2, 1), (1, 2), (1, 2))),
        "conv2d_grouped": sequence(Input((4, 5, 4)), Conv(6, (3, 3), padding=(1, 1), groups=2)),
        "conv3d": sequence(volume, Conv(3, (2, 3, 1), (1, 2, 1), (0, 1, 2))),
        "depthwise1d": sequence(series, DepthwiseConv((3,))),
        "depthwise2d": sequence(image, DepthwiseConv((3, 2), (2, 1), (1, 1), (1, 2), bias=False)),
        "depthwise2d_multiplier": sequence(image, DepthwiseConv((1, 2), multiplier=3)),
        "depthwise3d": sequence(volume, DepthwiseConv((2, 2, 2))),
        "depthwise_single_channel": sequence(Input((1, 5)), DepthwiseConv((3,), multiplier=2)),
        "linear": sequence(vector, Linear(3)),
        "linear_no_bias": sequence(vector, Linear(3, bias=False)),
        "linear_tokens": sequence(tokens, Linear(3)),
        "linear_channels_last": sequence(last, Linear(3)),
        "batch_norm_vector": sequence(vector, BatchNorm()),
        "batch_norm1d": sequence(series, BatchNorm()),
        "batch_norm2d": sequence(image, BatchNorm(1e-3)),
        "batch_norm3d": sequence(volume, BatchNorm()),
        "layer_norm_vector": sequence(vector, LayerNorm()),
        "layer_norm_tokens": sequence(tokens, LayerNorm(1e-3)),
        "layer_norm_first": sequence(image, LayerNorm()),
        "layer_norm_last": sequence(last, LayerNorm()),
        "layer_scale": sequence(image, LayerScale()),
        "layer_scale_vector": sequence(vector, LayerScale(0.5)),
        "layer_scale_tokens": sequence(tokens, LayerScale()),
        "layer_scale_last": sequence(last, LayerScale()),
        "rms_norm_vector": sequence(vector, RMSNorm()),
        "rms_norm_tokens": sequence(tokens, RMSNorm(1e-3)),
        "rms_norm_last": sequence(last, RMSNorm()),
        **{f"activation_{name}": sequence(image, Activation(name)) for name in ACTIVATIONS},
        "activation_leaky_slope": sequence(image, Activation("leaky_relu", 0.3)),
        **{f"parametric_{name}": sequence(image, ParametricActivation(name)) for name in ACTIVATIONS},
        "parametric_vector": sequence(vector, ParametricActivation("silu")),
        "parametric_tokens": sequence(tokens, ParametricActivation("relu")),
        "parametric_channels_last": sequence(last, ParametricActivation("gelu")),
        "scale": sequence(image, Scale(2.0)),
        "pool1d_max": sequence(series, Pool("max", (2,))),
        "pool1d_avg": sequence(series, Pool("avg", (3,), (2,), (1,))),
        "pool2d_max": sequence(image, Pool("max", (3, 2), (1, 2), (1, 0))),
        "pool2d_avg": sequence(image, Pool("avg", (2, 2))),
        "pool3d_max": sequence(volume, Pool("max", (2, 2, 2), (1, 1, 1))),
        "pool3d_avg": sequence(volume, Pool("avg", (2, 2, 2), (1, 1, 2), (1, 0, 1))),
        "adaptive_pool1d": sequence(series, AdaptivePool((3,))),
        "adaptive_pool2d": sequence(image, AdaptivePool((2, 3), "max")),
        "adaptive_pool3d": sequence(volume, AdaptivePool((1, 2, 5))),
        "global_pool_first": sequence(image, GlobalPool()),
        "global_pool_series": sequence(series, GlobalPool("max")),
        "global_pool_tokens": sequence(tokens, GlobalPool("max")),
        "global_pool_last": sequence(last, GlobalPool()),
        "flatten_first": sequence(image, Flatten()),
        "flatten_tokens": sequence(tokens, Flatten()),
        "flatten_vector": sequence(vector, Flatten()),
        "dropout": sequence(image, Dropout(0.25)),
        "self_attention": sequence(tokens, SelfAttention(2, 3, 5)),
        "patch_embedding1d": sequence(Input((2, 6)), PatchEmbedding(3, (2,))),
        "patch_embedding2d": sequence(Input((2, 6, 4)), PatchEmbedding(3, (3, 2))),
        "patch_embedding3d": sequence(Input((2, 2, 4, 2)), PatchEmbedding(3, (2, 2, 1))),
        "position_embedding": sequence(tokens, PositionEmbedding()),
        "to_tokens1d": sequence(series, ToTokens()),
        "to_tokens2d": sequence(image, ToTokens()),
        "to_tokens3d": sequence(volume, ToTokens()),
        "to_tokens_one_channel": sequence(Input((1, 4)), ToTokens(), LayerNorm()),
        "to_tokens_one_position": sequence(Input((4, 1)), ToTokens(), Linear(2)),
        "token_embedding": sequence(ids, TokenEmbedding(6, 3)),
        "column_embedding": sequence(ids, ColumnEmbedding(2, 6, 3)),
    }
    x = Node("x", image)
    result["add"] = Architecture((x, Node("a", Conv.same(2, 2, 3), ("x",)), Node("sum", Add(), ("a", "x", "x"))))
    result["concat"] = Architecture((x, Node("a", Conv.same(2, 3, 3), ("x",)), Node("cat", Concat(), ("a", "x", "a"))))
    result["concat_tokens"] = Architecture(
        (Node("x", tokens), Node("a", Linear(3), ("x",)), Node("cat", Concat(), ("x", "a")))
    )
    result["gate"] = Architecture(
        (
            x,
            Node("squeeze", AdaptivePool((1, 1)), ("x",)),
            Node("excite", Conv(2, (1, 1)), ("squeeze",)),
            Node("sigmoid", Activation("sigmoid"), ("excite",)),
            Node("gated", Multiply(), ("sigmoid", "x")),
        )
    )
    result["two_inputs"] = Architecture(
        (x, Node("y", vector), Node("px", GlobalPool(), ("x",)), Node("out", Concat(), ("px", "y")))
    )
    return result
