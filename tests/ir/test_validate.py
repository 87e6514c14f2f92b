"""What is no architecture, and the node that the error names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from optuna_nas_morph.errors import ArchitectureError, NasMorphError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    OPS,
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
    Opaque,
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

X = Node("x", Input((2, 4, 4)))
RELU = Activation("relu")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), "nodes must hold at least one node"),
        ((X, Node("x", RELU, ("x",))), "node 'x': the name is used twice"),
        ((X, Node("a", RELU, ("x",)), Node("a", RELU, ("a",))), "node 'a': the name is used twice"),
        ((X, Node("a", RELU, ("y",))), "node 'a': its input 'y' is not a node before it"),
        ((X, Node("a", RELU, ("b",)), Node("b", RELU, ("x",))), "node 'a': its input 'b' is not a node before it"),
        ((X, Node("a", RELU, ("a",))), "node 'a': its input 'a' is not a node before it"),
        ((X, Node("a", RELU)), "node 'a': activation takes 1 to 1 inputs but got 0"),
        ((X, Node("a", RELU, ("x", "x"))), "node 'a': activation takes 1 to 1 inputs but got 2"),
        ((X, Node("a", Add(), ("x",))), "node 'a': add takes 2 to more inputs but got 1"),
        ((X, Node("a", Concat(), ("x",))), "node 'a': concat takes 2 to more inputs but got 1"),
        ((X, Node("a", Multiply(), ())), "node 'a': multiply takes 2 to more inputs but got 0"),
        ((X, Node("y", Input((2,)), ("x",))), "node 'y': input takes 0 to 0 inputs but got 1"),
        ((X, Node("a", RELU, ("x",)), Node("b", RELU, ("x",))), r"nodes \['a'\] do not reach the output 'b'"),
        ((X, Node("y", Input((2,)))), r"nodes \['x'\] do not reach the output 'y'"),
        (
            (X, Node("a", RELU, ("x",)), Node("b", RELU, ("a",)), Node("c", RELU, ("x",)), Node("d", RELU, ("x",))),
            r"nodes \['b', 'c'\] do not reach the output 'd'",
        ),
        ((X, Node("a", RELU, ["x"])), r"node 'a': inputs must be a tuple of names but got \['x'\]"),  # type: ignore[arg-type]
        ((X, Node("a", RELU, "x")), "node 'a': inputs must be a tuple of names but got 'x'"),  # type: ignore[arg-type]
        ((X, Node("a", RELU, (0,))), "node 'a': inputs must be a tuple of names"),  # type: ignore[arg-type]
        ((X, Node("a", "relu", ("x",))), "node 'a': op must be an operation but got 'relu'"),  # type: ignore[arg-type]
        ((X, Node("a", Activation, ("x",))), "node 'a': op must be an operation"),  # type: ignore[arg-type]
    ],
)
def test_structure(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture(nodes)


@pytest.mark.parametrize(
    "name", ["", "1a", "_a", "a.b", "a-b", "a b", "a\n", "\u00e4", "a\u0661", None, 3, ("a",), b"a"]
)
def test_bad_name(name: Any) -> None:
    with pytest.raises(ArchitectureError, match=f"starting with a letter, but got {re.escape(repr(name))}"):
        Architecture((Node(name, Input((2,))),))


@pytest.mark.parametrize("name", ["a", "A", "a_1", "Z9__", "conv2d_11"])
def test_good_name(name: str) -> None:
    assert Architecture((Node(name, Input((2,))),)).output == name


def test_error_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        Architecture(())
    assert issubclass(ArchitectureError, NasMorphError)


# Shapes that do not fit, for every operation.

IMAGE, SERIES, VOLUME, VECTOR = Input((4, 5, 6)), Input((4, 5)), Input((4, 3, 3, 3)), Input((4,))
TOKENS, IDS, LAST = Input((5, 4), channel_axis=1), Input((5,), dtype="int64"), Input((5, 6, 4), channel_axis=2)
MIDDLE = Input((5, 4, 6), channel_axis=1)
FOUR = Input((4, 2, 2, 2, 2))

MISFITS: list[tuple[Op, tuple[Op, ...], str]] = [
    (RELU, (IDS,), "needs float input"),
    (Dropout(), (IDS,), "needs float input"),
    (AdaptivePool((2, 2)), (SERIES,), "2 spatial sizes"),
    (AdaptivePool((2,)), (VECTOR,), "1 spatial sizes"),
    (AdaptivePool((2,)), (TOKENS,), "1 spatial sizes"),
    (AdaptivePool((2, 2)), (LAST,), "2 spatial sizes"),
    (AdaptivePool((2,)), (Input((4, 5), dtype="int64"),), "1 spatial sizes"),
    (Add(), (IMAGE, SERIES), "one shape"),
    (Add(), (IMAGE, Input((4, 5, 5))), "one shape"),
    (Add(), (IMAGE, Input((1, 5, 6))), "one shape"),
    (Add(), (Input((4, 5)), Input((4, 5), channel_axis=1)), "one shape and channel axis"),
    (Add(), (VECTOR, VECTOR, Input((5,))), "one shape"),
    (Add(), (IDS, IDS), "needs float input"),
    (Add(), (Input((5,)), IDS), "one shape"),
    (BatchNorm(), (IDS,), "needs float input"),
    (BatchNorm(), (TOKENS,), "channels on axis 0"),
    (BatchNorm(), (FOUR,), "at most 3 spatial axes"),
    (ColumnEmbedding(0, 5, 3), (VECTOR,), "needs int64 input"),
    (ColumnEmbedding(0, 5, 3), (Input((2, 5), dtype="int64"),), "needs int64 input"),
    (ColumnEmbedding(5, 5, 3), (IDS,), "column=5 must be below the 5 columns"),
    (Concat(), (IMAGE, Input((4, 5, 5))), "agree on every axis"),
    (Concat(), (IMAGE, SERIES), "agree on every axis"),
    (Concat(), (VECTOR, SERIES), "agree on every axis"),
    (Concat(), (Input((4, 5)), Input((4, 5), channel_axis=1)), "agree on every axis"),
    (Concat(), (Input((5,)), IDS), "agree on every axis"),
    (Concat(), (IDS, IDS), "needs float input"),
    (Conv(3, (3, 3)), (SERIES,), "2 spatial sizes"),
    (Conv(3, (3,)), (VECTOR,), "1 spatial sizes"),
    (Conv(3, (3,)), (TOKENS,), "channels on axis 1"),
    (Conv(3, (3,)), (Input((4, 5), dtype="int64"),), "needs float input"),
    (Conv(3, (3, 7)), (IMAGE,), "does not fit"),
    (Conv(3, (3, 4), dilation=(1, 2)), (IMAGE,), "does not fit"),
    (Conv(3, (9,), (2,), (1,)), (SERIES,), "does not fit"),
    (Conv(3, (3, 3), groups=3), (IMAGE,), "multiple of groups=3"),
    (Conv(4, (3, 3), groups=4), (IMAGE,), "use depthwise_conv"),
    (Conv(8, (3, 3), groups=8), (IMAGE,), "multiple of groups=8"),
    (DepthwiseConv((3, 3)), (VOLUME,), "2 spatial sizes"),
    (DepthwiseConv((3, 7)), (IMAGE,), "does not fit"),
    (DepthwiseConv((3,)), (Input((4, 5), dtype="int64"),), "needs float input"),
    (Flatten(), (IDS,), "needs float input"),
    (Flatten(), (MIDDLE,), "first or last axis"),
    (GlobalPool(), (VECTOR,), "with positions"),
    (GlobalPool(), (Input((4, 5), dtype="int64"),), "needs float input"),
    (LayerNorm(), (IDS,), "needs float input"),
    (LayerNorm(), (MIDDLE,), "first or last axis"),
    (LayerScale(), (IDS,), "needs float input"),
    (Linear(3), (IDS,), "needs float input"),
    (Linear(3), (IMAGE,), "last axis"),
    (Linear(3), (SERIES,), "last axis"),
    (Multiply(), (IMAGE, VECTOR), "equal channels"),
    (Multiply(), (IMAGE, Input((1, 5, 6))), "equal channels"),
    (Multiply(), (IMAGE, Input((4, 5, 2))), "equal or unit sizes"),
    (Multiply(), (Input((4, 1)), Input((4, 5)), Input((4, 3))), "equal or unit sizes"),
    (Multiply(), (Input((4, 4)), Input((4, 4), channel_axis=1)), "equal channels"),
    (Multiply(), (IDS, IDS), "needs float input"),
    (Multiply(), (Input((5,)), IDS), "equal channels"),
    (
        Opaque("LSTM", ((5, 4),), (3,), "0" * 32),
        (SERIES,),
        r"needs inputs of shapes \(\(5, 4\),\) but got \(\(4, 5\),\)",
    ),
    (Opaque("LSTM", ((5, 4),), (3,), "0" * 32), (TOKENS, TOKENS), "needs inputs of shapes"),
    (ParametricActivation("relu"), (IDS,), "needs float input"),
    (PatchEmbedding(3, (2, 2)), (SERIES,), "2 spatial sizes"),
    (PatchEmbedding(3, (2,)), (TOKENS,), "1 spatial sizes"),
    (PatchEmbedding(3, (2, 2)), (IMAGE,), "must divide"),
    (PatchEmbedding(3, (10, 6)), (IMAGE,), "must divide"),
    (PatchEmbedding(3, (5,)), (Input((4, 5), dtype="int64"),), "1 spatial sizes"),
    (Pool("max", (2, 2)), (SERIES,), "2 spatial sizes"),
    (Pool("max", (2, 7)), (IMAGE,), "does not fit"),
    (Pool("avg", (2,)), (TOKENS,), "channels on axis 1"),
    (Pool("avg", (2,)), (Input((4, 5), dtype="int64"),), "needs float input"),
    (PositionEmbedding(), (IMAGE,), "needs tokens"),
    (PositionEmbedding(), (SERIES,), "needs tokens"),
    (PositionEmbedding(), (VECTOR,), "needs tokens"),
    (PositionEmbedding(), (Input((5, 4), 1, "int64"),), "needs tokens"),
    (RMSNorm(), (IDS,), "needs float input"),
    (RMSNorm(), (IMAGE,), "last axis"),
    (RMSNorm(), (MIDDLE,), "last axis"),
    (Scale(0.5), (IDS,), "needs float input"),
    (SelfAttention(1, 2, 3), (IMAGE,), "needs tokens"),
    (SelfAttention(1, 2, 3), (SERIES,), "needs tokens"),
    (SelfAttention(1, 2, 3), (LAST,), "needs tokens"),
    (SelfAttention(1, 2, 3), (Input((5, 4), 1, "int64"),), "needs tokens"),
    (ToTokens(), (VECTOR,), "needs float input of shape"),
    (ToTokens(), (TOKENS,), "needs float input of shape"),
    (ToTokens(), (Input((4, 5), dtype="int64"),), "needs float input of shape"),
    (TokenEmbedding(5, 3), (VECTOR,), "needs int64 input"),
    (TokenEmbedding(5, 3), (Input((2, 5), dtype="int64"),), "needs int64 input"),
]


@pytest.mark.parametrize(("op", "inputs", "message"), MISFITS)
def test_shape_that_does_not_fit(op: Op, inputs: tuple[Op, ...], message: str) -> None:
    nodes = tuple(Node(f"in_{i}", x) for i, x in enumerate(inputs))
    with pytest.raises(ArchitectureError, match=f"^node 'culprit': {op.op_name}: .*{message}"):
        Architecture((*nodes, Node("culprit", op, tuple(node.name for node in nodes))))


def test_misfits_cover_every_operation() -> None:
    assert {op.op_name for op, _, _ in MISFITS} == set(OPS) - {"input"}


@pytest.mark.parametrize(
    ("op", "inputs", "shape"),
    [
        (Conv(3, (5, 6)), (IMAGE,), (3, 1, 1)),
        (Conv(3, (9,), padding=(2,)), (SERIES,), (3, 1)),
        (Conv(6, (1, 1), groups=2), (IMAGE,), (6, 5, 6)),
        (Pool("max", (5, 6)), (IMAGE,), (4, 1, 1)),
        (AdaptivePool((9, 9)), (IMAGE,), (4, 9, 9)),
        (PatchEmbedding(3, (5, 6)), (IMAGE,), (1, 3)),
        (Multiply(), (Input((4, 1, 6)), Input((4, 5, 1))), (4, 5, 6)),
        (GlobalPool(), (MIDDLE,), (4,)),
        (RELU, (MIDDLE,), (5, 4, 6)),
        (Concat(), (MIDDLE, MIDDLE), (5, 8, 6)),
        (Add(), (MIDDLE, MIDDLE), (5, 4, 6)),
    ],
)
def test_shape_that_just_fits(op: Op, inputs: tuple[Op, ...], shape: tuple[int, ...]) -> None:
    nodes = tuple(Node(f"in_{i}", x) for i, x in enumerate(inputs))
    architecture = Architecture((*nodes, Node("last", op, tuple(node.name for node in nodes))))
    assert architecture.specs["last"].shape == shape
