"""From descriptions of cells to graphs: the graph computes what the cell computes, and holds nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.spaces.cells import graph_of_edge_operations, graph_of_node_operations

N = 3
LINEAR = {label: np.random.default_rng(i).normal(size=(N, N)) for i, label in enumerate("abc")}
X = np.random.default_rng(9).normal(size=N)

Operations = Mapping[tuple[int, int], str]


def apply(label: str, x: np.ndarray) -> np.ndarray:
    """An operation as a real function: zero at zero, as where nothing arrives."""
    if label in ("skip_connect", "same"):
        return x
    if label in ("none", "zero"):
        return np.zeros(N)
    return np.tanh(LINEAR[label] @ x) + 0.1 * (LINEAR[label] @ x)


def value_of_edge_operations(operations: Operations, n_states: int) -> np.ndarray:
    """As DARTS has it: every state is the sum of what the operations make of earlier ones."""
    states = [X]
    for target in range(1, n_states):
        parts = [apply(operations[s, target], states[s]) for s in range(target) if (s, target) in operations]
        states.append(np.sum([np.zeros(N), *parts], axis=0))
    return states[-1]


def value_of_node_operations(adjacency: Sequence[Sequence[int]], operations: Sequence[str]) -> np.ndarray:
    """As NAS-Bench-101 has it: every node applies its operation to the sum of what leads there."""
    values = [X]
    for target in range(1, len(operations)):
        total = np.sum([np.zeros(N), *(adjacency[s][target] * values[s] for s in range(target))], axis=0)
        values.append(total if target == len(operations) - 1 else apply(operations[target], total))
    return values[-1]


def value_of(graph: LabelledGraph) -> np.ndarray:
    """What a reduced graph computes, in whatever order its nodes are."""
    nodes = nx.MultiDiGraph()
    nodes.add_nodes_from(range(len(graph.labels)))
    nodes.add_edges_from(graph.edges)
    values: dict[int, np.ndarray] = {}
    for node in nx.topological_sort(nodes):
        if graph.labels[node] == "input":
            values[node] = X
            continue
        total = np.sum([np.zeros(N), *(values[source] for source, _ in nodes.in_edges(node))], axis=0)
        values[node] = total if graph.labels[node] == "output" else apply(graph.labels[node], total)
    [output] = [node for node, label in enumerate(graph.labels) if label == "output"]
    return values[output]


def check_nothing_superfluous(graph: LabelledGraph) -> None:
    """One input, one output; everything else on a path between them; no identities and no zeros."""
    nodes = nx.DiGraph(list(graph.edges))
    nodes.add_nodes_from(range(len(graph.labels)))
    assert sorted(label for label in graph.labels if label not in LINEAR) == ["input", "output"]
    source, target = graph.labels.index("input"), graph.labels.index("output")
    on_a_path = (nx.descendants(nodes, source) | {source}) & (nx.ancestors(nodes, target) | {target})
    assert on_a_path | {source, target} == set(nodes)
    assert nx.is_directed_acyclic_graph(nodes)


# Operations on edges.


@st.composite
def edge_operations(draw) -> tuple[dict[tuple[int, int], str], int]:
    n_states = draw(st.integers(2, 5))
    pairs = list(combinations(range(n_states), 2))
    labels = draw(
        st.lists(
            st.sampled_from(["skip_connect", "skip_connect", "none", "a", "b", None]),
            min_size=len(pairs),
            max_size=len(pairs),
        )
    )
    order = draw(st.permutations(range(len(pairs))))
    return {pairs[i]: labels[i] for i in order if labels[i] is not None}, n_states


@given(edge_operations())
@example(({(0, 1): "skip_connect", (0, 2): "skip_connect", (1, 2): "skip_connect"}, 3))  # x + x
@example(({(0, 1): "a", (1, 2): "skip_connect", (2, 3): "b", (1, 3): "a"}, 4))
@example(({(0, 1): "none", (1, 2): "a"}, 3))
def test_operations_on_edges_compute_the_same(cell: tuple[dict[tuple[int, int], str], int]) -> None:
    graph = graph_of_edge_operations(*cell)
    np.testing.assert_allclose(value_of(graph), value_of_edge_operations(*cell), rtol=1e-10, atol=1e-10)
    check_nothing_superfluous(graph)


@given(edge_operations())
def test_what_is_zero_and_what_does_nothing_can_be_said(cell: tuple[dict[tuple[int, int], str], int]) -> None:
    operations, n_states = cell
    renamed = {"none": "zero", "skip_connect": "same"}
    other = {edge: renamed.get(label, label) for edge, label in operations.items()}
    graph = graph_of_edge_operations(other, n_states, zeros=("nil", "zero"), identities=("same", "id"))
    assert graph == graph_of_edge_operations(operations, n_states)
    raw = graph_of_edge_operations(other, n_states, zeros=(), identities=())
    assert set(raw.labels) <= {"input", "output", "a", "b", "zero", "same"}
    np.testing.assert_allclose(value_of(raw), value_of_edge_operations(operations, n_states), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("operations", "n_states", "labels", "edges"),
    [
        ({}, 2, ("input", "output"), ()),
        ({(0, 1): "none"}, 2, ("input", "output"), ()),
        ({(0, 1): "skip_connect"}, 2, ("input", "output"), ((0, 1),)),
        ({(0, 1): "a"}, 2, ("input", "a", "output"), ((0, 1), (1, 2))),
        (
            {(0, 1): "skip_connect", (0, 2): "skip_connect", (1, 2): "skip_connect"},
            3,
            ("input", "output"),
            ((0, 1), (0, 1)),
        ),
        # State 2 is not needed; state 1 gets nothing.
        ({(0, 2): "a", (1, 3): "b", (0, 3): "a"}, 4, ("input", "a", "output"), ((0, 1), (1, 2))),
        # One operation, read twice, is one node.
        (
            {(0, 1): "a", (1, 2): "skip_connect", (1, 3): "skip_connect", (2, 3): "b"},
            4,
            ("input", "a", "b", "output"),
            ((0, 1), (1, 2), (1, 3), (2, 3)),
        ),
    ],
)
def test_cells_by_hand(
    operations: Operations, n_states: int, labels: tuple[str, ...], edges: tuple[tuple[int, int], ...]
) -> None:
    assert graph_of_edge_operations(operations, n_states) == LabelledGraph(labels, edges)


@pytest.mark.parametrize("edge", [(0, 3), (1, 0), (1, 1), (-1, 1)])
def test_edges_lead_to_later_states(edge: tuple[int, int]) -> None:
    with pytest.raises(ArchitectureError) as e:
        graph_of_edge_operations({(0, 1): "a", edge: "b"}, 3)
    assert str(e.value) == (
        f"operations must be on edges from a state to a later one of 3 but got ({edge[0]}, {edge[1]})."
    )


# Operations on nodes.


@st.composite
def node_operations(draw) -> tuple[list[list[int]], list[str]]:
    n = draw(st.integers(2, 6))
    counts = draw(st.lists(st.sampled_from([0, 0, 1, 1, 2]), min_size=n * n, max_size=n * n))
    adjacency = [[counts[i * n + j] if i < j else 0 for j in range(n)] for i in range(n)]
    inner = draw(st.lists(st.sampled_from(["a", "b", "c", "same"]), min_size=n - 2, max_size=n - 2))
    return adjacency, ["any", *inner, "name"]


def has_path(adjacency: Sequence[Sequence[int]]) -> bool:
    nodes = nx.from_numpy_array(np.array(adjacency), create_using=nx.DiGraph)
    return nx.has_path(nodes, 0, len(adjacency) - 1)


@given(node_operations())
@example(([[0, 1, 0], [0, 0, 2], [0, 0, 0]], ["any", "same", "name"]))
@example(([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], ["any", "same", "a", "name"]))
@example(([[0, 0, 1], [0, 0, 1], [0, 0, 0]], ["any", "a", "name"]))
def test_operations_on_nodes_compute_the_same(cell: tuple[list[list[int]], list[str]]) -> None:
    adjacency, operations = cell
    if not has_path(adjacency):
        with pytest.raises(ArchitectureError, match="must lead from the first node to the last but there is no path"):
            graph_of_node_operations(adjacency, operations, identities=("same",))
        return
    expected = value_of_node_operations(adjacency, operations)
    graph = graph_of_node_operations(adjacency, operations, identities=("same",))
    np.testing.assert_allclose(value_of(graph), expected, rtol=1e-10, atol=1e-10)
    check_nothing_superfluous(graph)
    assert graph_of_node_operations(np.array(adjacency), tuple(operations), identities=("same",)) == graph
    kept = graph_of_node_operations(adjacency, operations)
    np.testing.assert_allclose(value_of(kept), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("adjacency", "operations", "labels", "edges"),
    [
        ([[0, 1], [0, 0]], ["x", "y"], ("input", "output"), ((0, 1),)),
        ([[0, 2], [0, 0]], ["x", "y"], ("input", "output"), ((0, 1), (0, 1))),
        # Node 1 gets nothing, node 2 is not needed.
        (
            [[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
            ["x", "a", "b", "y"],
            ("input", "output"),
            ((0, 1),),
        ),
        # What the output is called does not matter, not even if it is called an identity.
        (
            [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
            ["same", "a", "same"],
            ("input", "a", "output"),
            ((0, 1), (1, 2)),
        ),
    ],
)
def test_nodes_by_hand(adjacency: Any, operations: Any, labels: Any, edges: Any) -> None:
    assert graph_of_node_operations(adjacency, operations, identities=("same",)) == LabelledGraph(labels, edges)


@pytest.mark.parametrize(
    ("adjacency", "n"), [([[0]], 1), ([[0, 1]], 2), ([[0, 1], [0]], 2), ([[0, 1], [0, 0]], 3), ([], 0)]
)
def test_adjacency_is_square(adjacency: Any, n: int) -> None:
    with pytest.raises(ArchitectureError) as e:
        graph_of_node_operations(adjacency, ["a"] * n)
    assert str(e.value) == f"adjacency must be of shape ({n}, {n}) for {n} operations, of which two at least."


@pytest.mark.parametrize("edge", [(1, 0), (2, 2), (0, 0), (2, 1)])
def test_nodes_lead_to_later_nodes(edge: tuple[int, int]) -> None:
    adjacency = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    adjacency[edge[0]][edge[1]] = 1
    with pytest.raises(ArchitectureError) as e:
        graph_of_node_operations(adjacency, ["x", "a", "y"])
    assert str(e.value) == f"adjacency must lead from a node to a later one but has an edge ({edge[0]}, {edge[1]})."
