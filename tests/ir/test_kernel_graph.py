"""What a graph kernel sees, by hand."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, LabelledGraph, Node
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Linear,
    Pool,
    SelfAttention,
    ToTokens,
)
from tests.strategies import example_architectures, random_architecture, relabelled, sequence


def test_chain_folds() -> None:
    architecture = sequence(
        Input((3, 8, 8)),
        Conv.same(2, 32, 3),
        BatchNorm(),
        Activation("relu"),
        Pool("max", (2, 2)),
        Dropout(),
        Flatten(),
        Linear(10),
    )
    assert architecture.kernel_graph() == LabelledGraph(
        ("input", "conv3x3.w5+bn+relu", "maxpool2x2/2+dropout+flatten", "linear.w3"), ((0, 1), (1, 2), (2, 3))
    )


def test_norm_folds_into_the_input() -> None:
    architecture = sequence(Input((3, 2)), LayerNorm(), ToTokens(), SelfAttention(2, 4, 9))
    assert architecture.kernel_graph() == LabelledGraph(("input+ln+to_tokens", "attention2.w3"), ((0, 1),))


def test_does_not_fold_where_the_producer_has_several_consumers() -> None:
    architecture = Architecture(
        (
            Node("x", Input((4, 8))),
            Node("a", Conv(4, (1,)), ("x",)),
            Node("relu", Activation("relu"), ("a",)),
            Node("bn", BatchNorm(), ("relu",)),
            Node("sum", Add(), ("bn", "a")),
            Node("last", Activation("gelu"), ("sum",)),
        )
    )
    assert architecture.kernel_graph() == LabelledGraph(
        ("input", "conv1.w2", "relu+bn", "add+gelu"), ((0, 1), (1, 2), (2, 3), (1, 3))
    )


def test_two_norms_of_one_tensor_stay_apart() -> None:
    architecture = Architecture(
        (
            Node("x", Input((4, 8))),
            Node("a", BatchNorm(), ("x",)),
            Node("b", LayerNorm(), ("x",)),
            Node("cat", Concat(), ("a", "b")),
        )
    )
    assert architecture.kernel_graph() == LabelledGraph(
        ("input", "bn", "ln", "concat"), ((0, 1), (0, 2), (1, 3), (2, 3))
    )


def test_parallel_edges() -> None:
    architecture = Architecture(
        (Node("x", Input((4, 8))), Node("relu", Activation("relu"), ("x",)), Node("sum", Add(), ("relu",) * 3))
    )
    assert architecture.kernel_graph() == LabelledGraph(("input+relu", "add"), ((0, 1),) * 3)


def test_folded_branch_gives_parallel_edges_of_its_own() -> None:
    """A skip around a folded activation would be a loop; the activation does not fold there."""
    architecture = Architecture(
        (Node("x", Input((4, 8))), Node("relu", Activation("relu"), ("x",)), Node("sum", Add(), ("relu", "x")))
    )
    graph = architecture.kernel_graph()
    assert graph == LabelledGraph(("input", "relu", "add"), ((0, 1), (1, 2), (0, 2)))
    assert all(source < target for source, target in graph.edges)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (Conv(16, (3, 3)), Conv(31, (3, 3)), True),  # widths in powers of two
        (Conv(16, (3, 3)), Conv(32, (3, 3)), False),
        (Conv(16, (3, 3)), Conv(16, (3, 3), padding=(1, 1)), True),
        (Conv(16, (3, 3)), Conv(16, (3, 3), bias=False), True),
        (Conv(16, (3, 3)), Conv(16, (1, 3)), False),
        (Conv(16, (3, 3)), Conv(16, (3, 3), (2, 2)), False),
        (Conv(16, (3, 3)), Conv(16, (3, 3), dilation=(2, 2)), False),
        (Conv(16, (3, 3)), Conv(16, (3, 3), groups=2), False),
        (DepthwiseConv((3, 3)), DepthwiseConv((5, 5)), False),
        (Pool("max", (2, 2)), Pool("avg", (2, 2)), False),
        (GlobalPool("max"), GlobalPool("avg"), False),
    ],
)
def test_labels(first: Conv, second: Conv, equal: bool) -> None:
    graphs = [sequence(Input((4, 9, 9)), op).kernel_graph() for op in (first, second)]
    assert (graphs[0] == graphs[1]) == equal


def test_does_not_depend_on_names_or_order() -> None:
    rng = np.random.default_rng(0)
    for seed in range(100):
        architecture = random_architecture(np.random.default_rng(seed))
        renamed = Architecture(
            tuple(
                Node(f"other{i}", n.op, tuple(f"other{architecture.index[name]}" for name in n.inputs))
                for i, n in enumerate(architecture.nodes)
            )
        )
        assert renamed.kernel_graph() == architecture.kernel_graph()

        def as_networkx(graph: LabelledGraph) -> nx.MultiDiGraph:
            result = nx.MultiDiGraph(graph.edges)
            for i, label in enumerate(graph.labels):
                result.add_node(i, label=label)
            return result

        assert nx.is_isomorphic(
            as_networkx(relabelled(architecture, rng).kernel_graph()),
            as_networkx(architecture.kernel_graph()),
            node_match=lambda a, b: bool(a["label"] == b["label"]),
        )


def test_is_acyclic_and_keeps_every_operation() -> None:
    for seed in range(100):
        architecture = random_architecture(np.random.default_rng(seed))
        graph = architecture.kernel_graph()
        assert all(source < target for source, target in graph.edges)
        assert sum(label.count("+") + 1 for label in graph.labels) == len(architecture.nodes)
        n_folded = len(architecture.nodes) - len(graph.labels)
        assert len(graph.edges) == sum(len(node.inputs) for node in architecture.nodes) - n_folded


def test_labels_hold_no_separator() -> None:
    for architecture in example_architectures().values():
        for node in architecture.nodes:
            label = node.op.label(architecture.input_specs(node.name))
            assert label and "+" not in label and " " not in label


@pytest.mark.parametrize("edge", [(0, 2), (2, 0), (-1, 0), (0, -1)])
def test_labelled_graph_checks_its_edges(edge: tuple[int, int]) -> None:
    with pytest.raises(ArchitectureError, match="join nodes 0 to 1"):
        LabelledGraph(("a", "b"), (edge,))
