"""Architectures that every morphism is checked on: together every way in which widths, sizes and layouts are tied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Linear,
    Multiply,
    Op,
    PatchEmbedding,
    Pool,
    PositionEmbedding,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from tests.strategies import random_architecture

RELU = Activation("relu")


def graph(*rows: tuple[str, Op] | tuple[str, Op, str | Sequence[str]]) -> Architecture:
    """An architecture from rows ``(name, op, inputs)``; without inputs a node follows the row before it."""
    nodes: list[Node] = []
    for row in rows:
        name, op = row[:2]
        if len(row) == 3:
            inputs = (row[2],) if isinstance(row[2], str) else tuple(row[2])
        else:
            inputs = () if isinstance(op, Input) else (nodes[-1].name,)
        nodes.append(Node(name, op, inputs))
    return Architecture(tuple(nodes))


def _block(rank: int, sizes: tuple[int, ...]) -> Architecture:
    """conv - bn - relu - conv stride 2 - bn - relu - pool - linear, in any number of dimensions."""
    return graph(
        ("x", Input((2, *sizes))),
        ("conv_a", Conv.same(rank, 6, 3, bias=False)),
        ("bn_a", BatchNorm()),
        ("relu_a", RELU),
        ("conv_b", Conv.same(rank, 5, 3, stride=2)),
        ("bn_b", BatchNorm()),
        ("relu_b", RELU),
        ("pool", GlobalPool()),
        ("fc", Linear(4)),
    )


def _concat_meets_sum() -> Architecture:
    """add(concat(a, b), c): the channels of c are split into two groups."""
    return graph(
        ("x", Input((3, 6, 6))),
        ("a", Conv.same(2, 3, 3), "x"),
        ("b", Conv.same(2, 4, 3), "x"),
        ("b_relu", RELU, "b"),
        ("cat", Concat(), ("a", "b_relu")),
        ("c", Conv.same(2, 7, 1), "x"),
        ("bn", BatchNorm(), "c"),
        ("add", Add(), ("cat", "bn")),
        ("d", Conv.same(2, 5, 3), "add"),
        ("cat_2", Concat(), ("d", "cat", "b")),
        ("e", Conv.same(2, 6, 3), "cat_2"),
        ("e_relu", RELU, "e"),
        ("pool", GlobalPool("max"), "e_relu"),
        ("fc", Linear(4), "pool"),
    )


def _branches() -> Architecture:
    """Strided, pooled and dilated branches that meet."""
    return graph(
        ("x", Input((2, 8, 8))),
        ("stem", Conv.same(2, 4, 3), "x"),
        ("stem_relu", RELU, "stem"),
        ("pooled", Pool("max", (3, 3), (2, 2), (1, 1)), "stem_relu"),
        ("strided", Conv.same(2, 6, (3, 1), stride=2), "stem_relu"),
        ("strided_relu", RELU, "strided"),
        ("dilated", Conv.same(2, 4, 3, dilation=2), "pooled"),
        ("even", Conv(3, (2, 2), (2, 2), (0, 0)), "stem_relu"),
        ("cat", Concat(), ("pooled", "strided_relu", "dilated", "even")),
        ("average", Pool("avg", (2, 2)), "cat"),
        ("last", Conv.same(2, 6, 3), "average"),
        ("flat", Flatten(), "last"),
        ("bn", BatchNorm(), "flat"),
        ("fc", Linear(5), "bn"),
    )


def _residual() -> Architecture:
    """Residual blocks, the second with a projection, and an output that is consumed many times."""
    return graph(
        ("x", Input((3, 6, 6))),
        ("stem", Conv.same(2, 6, 3), "x"),
        ("stem_bn", BatchNorm(), "stem"),
        ("stem_relu", RELU, "stem_bn"),
        ("a1", Conv.same(2, 5, 3), "stem_relu"),
        ("a1_bn", BatchNorm(), "a1"),
        ("a1_relu", RELU, "a1_bn"),
        ("a2", Conv.same(2, 6, 3), "a1_relu"),
        ("a2_bn", BatchNorm(), "a2"),
        ("a_add", Add(), ("stem_relu", "a2_bn")),
        ("a_relu", RELU, "a_add"),
        ("b1", Conv.same(2, 8, 3, stride=2), "a_relu"),
        ("b1_relu", RELU, "b1"),
        ("b2", Conv.same(2, 8, 3), "b1_relu"),
        ("b_proj", Conv(8, (1, 1), (2, 2)), "a_relu"),
        ("b_add", Add(), ("b2", "b_proj", "b2")),
        ("pool", GlobalPool(), "b_add"),
        ("fc", Linear(4), "pool"),
    )


def _depthwise() -> Architecture:
    """Depthwise convolutions, one with a multiplier, flattened with channels first."""
    return graph(
        ("x", Input((3, 5, 4))),
        ("conv", Conv.same(2, 4, 1), "x"),
        ("dw", DepthwiseConv((3, 3), padding=(1, 1), multiplier=2), "conv"),
        ("bn", BatchNorm(), "dw"),
        ("act", Activation("hardswish"), "bn"),
        ("point", Conv.same(2, 5, 1), "act"),
        ("dw_2", DepthwiseConv((3, 2), (2, 1), (1, 0), bias=False), "point"),
        ("flat", Flatten(), "dw_2"),
        ("fc_a", Linear(7), "flat"),
        ("gelu", Activation("gelu"), "fc_a"),
        ("fc", Linear(3), "gelu"),
    )


def _gate() -> Architecture:
    """Squeeze and excite, and a product with an own branch."""
    return graph(
        ("x", Input((3, 5, 5))),
        ("conv", Conv.same(2, 6, 3), "x"),
        ("bn", BatchNorm(), "conv"),
        ("silu", Activation("silu"), "bn"),
        ("squeeze", AdaptivePool((1, 1)), "silu"),
        ("reduce", Conv(4, (1, 1)), "squeeze"),
        ("reduce_relu", RELU, "reduce"),
        ("expand", Conv(6, (1, 1)), "reduce_relu"),
        ("gate", Activation("sigmoid"), "expand"),
        ("gated", Multiply(), ("silu", "gate")),
        ("side", Conv.same(2, 6, 1), "silu"),
        ("product", Multiply(), ("gated", "side", "side")),
        ("flat", Flatten(), "product"),
        ("fc", Linear(4), "flat"),
    )


def _mlp() -> Architecture:
    """Vectors: batch norm, a layer norm, a residual sum and a concatenation."""
    return graph(
        ("x", Input((5,))),
        ("a", Linear(7), "x"),
        ("bn", BatchNorm(), "a"),
        ("a_relu", RELU, "bn"),
        ("b", Linear(7, bias=False), "a_relu"),
        ("add", Add(), ("b", "a_relu")),
        ("tanh", Activation("tanh"), "add"),
        ("c", Linear(6), "tanh"),
        ("ln", LayerNorm(), "c"),
        ("cat", Concat(), ("ln", "a_relu", "x")),
        ("fc", Linear(4), "cat"),
    )


def _tokens() -> Architecture:
    """Attention and feed-forward on embedded ids, flattened with channels last."""
    return graph(
        ("ids", Input((4,), dtype="int64")),
        ("embed", TokenEmbedding(9, 6)),
        ("position", PositionEmbedding()),
        ("attention", SelfAttention(2, 3, 6)),
        ("add", Add(), ("attention", "position")),
        ("up", Linear(8)),
        ("gelu", Activation("gelu")),
        ("down", Linear(6)),
        ("add_2", Add(), ("down", "add")),
        ("flat", Flatten()),
        ("fc", Linear(3)),
    )


def _transformer() -> Architecture:
    """A pre-norm transformer on patches."""
    return graph(
        ("x", Input((2, 6, 4))),
        ("patches", PatchEmbedding(8, (2, 2))),
        ("ln", LayerNorm()),
        ("attention", SelfAttention(2, 4, 8)),
        ("add", Add(), ("patches", "attention")),
        ("ln_2", LayerNorm(1e-3)),
        ("up", Linear(10)),
        ("silu", Activation("silu")),
        ("down", Linear(8)),
        ("add_2", Add(), ("add", "down")),
        ("pool", GlobalPool()),
        ("fc", Linear(3)),
    )


def _layouts() -> Architecture:
    """Maps turned into tokens, two inputs, a grouped convolution."""
    return graph(
        ("x", Input((4, 4, 3))),
        ("y", Input((3,))),
        ("grouped", Conv.same(2, 6, 3, groups=2), "x"),
        ("relu", RELU, "grouped"),
        ("conv", Conv.same(2, 5, 3), "relu"),
        ("tokens", ToTokens(), "conv"),
        ("attention", SelfAttention(1, 4, 5), "tokens"),
        ("sum", Add(), ("attention", "tokens")),
        ("flat", Flatten(), "sum"),
        ("hidden", Linear(6), "flat"),
        ("other", Linear(6), "y"),
        ("other_relu", RELU, "other"),
        ("both", Concat(), ("hidden", "other_relu")),
        ("fc", Linear(4), "both"),
    )


def _unscaled_norms() -> Architecture:
    """Channels first through a layer norm; norms after a sum, and a convolution that feeds a norm and a sum."""
    return graph(
        ("x", Input((3, 6))),
        ("a", Conv.same(1, 5, 3), "x"),
        ("ln", LayerNorm(), "a"),
        ("b", Conv.same(1, 6, 3), "ln"),
        ("bn", BatchNorm(), "b"),
        ("add", Add(), ("b", "bn")),
        ("bn_2", BatchNorm(), "add"),
        ("leaky", Activation("leaky_relu", 0.2), "bn_2"),
        ("flat", Flatten(), "leaky"),
        ("fc", Linear(3), "flat"),
    )


def _odd() -> Architecture:
    """One channel, and four spatial axes, over which there is no convolution."""
    return graph(
        ("x", Input((1, 2, 2, 2, 2))),
        ("relu", RELU),
        ("flat", Flatten()),
        ("fc", Linear(6)),
        ("relu_2", RELU),
        ("fc_2", Linear(2)),
    )


HAND_MADE: dict[str, Architecture] = {
    "conv1d": _block(1, (9,)),
    "conv2d": _block(2, (6, 5)),
    "conv3d": _block(3, (4, 3, 4)),
    "concat_meets_sum": _concat_meets_sum(),
    "branches": _branches(),
    "residual": _residual(),
    "depthwise": _depthwise(),
    "gate": _gate(),
    "mlp": _mlp(),
    "tokens": _tokens(),
    "transformer": _transformer(),
    "layouts": _layouts(),
    "unscaled_norms": _unscaled_norms(),
    "odd": _odd(),
}

RANDOM: dict[str, Architecture] = {f"random_{i}": random_architecture(np.random.default_rng(i)) for i in range(6)}
