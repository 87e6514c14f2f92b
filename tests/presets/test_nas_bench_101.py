"""The cells of NAS-Bench-101, against the rules and the numbers of its authors."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_nas_morph import presets
from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.presets.nas_bench_101 import MAX_EDGES, N_NODES, OPERATIONS, to_adjacency
from optuna_nas_morph.spaces.cells import graph_of_node_operations

SPACE = presets.nas_bench_101()
PAIRS = list(combinations(range(N_NODES), 2))


def on_a_path(choices: dict[str, Any]) -> nx.DiGraph | None:
    """What lies on a path from the input to the output; None if there is none."""
    graph = nx.DiGraph((s, t) for s, t in PAIRS if choices[f"{s}-{t}"])
    graph.add_nodes_from(range(N_NODES))
    if not nx.has_path(graph, 0, N_NODES - 1):
        return None
    alive = {node for path in nx.all_simple_paths(graph, 0, N_NODES - 1) for node in path}
    return graph.subgraph(alive).copy()


@st.composite
def cells(draw) -> dict[str, Any]:
    density = draw(st.sampled_from([[0, 0, 1], [0, 1], [0, 1, 1]]))
    edges = {f"{s}-{t}": draw(st.sampled_from(density)) for s, t in PAIRS}
    return {**edges, **{f"op-{i}": draw(st.sampled_from(OPERATIONS)) for i in range(1, N_NODES - 1)}}


def test_choices_are_the_benchmarks() -> None:
    assert (N_NODES, MAX_EDGES) == (7, 9)
    assert OPERATIONS == ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
    assert len(SPACE.choices) == 21 + 5
    assert SPACE.size == 2**21 * 3**5
    assert set(SPACE.choices) == {f"{s}-{t}" for s, t in PAIRS} | {f"op-{i}" for i in range(1, 6)}


def test_the_digest_is_frozen() -> None:
    """Studies are resumed with it."""
    assert SPACE.digest == "b6ac0d93d2146387cca100965dc31aaa"
    assert presets.nas_bench_101() == SPACE


@given(cells())
def test_what_is_allowed(choices: dict[str, Any]) -> None:
    expected = on_a_path(choices)
    if expected is None:
        with pytest.raises(ArchitectureError, match="there is no path"):
            SPACE.cell(choices)
        return
    n_edges = expected.number_of_edges()
    if n_edges > 9:
        with pytest.raises(ArchitectureError) as e:
            SPACE.cell(choices)
        assert str(e.value) == f"a cell must have at most 9 edges but has {n_edges}."
        return
    graph = SPACE.cell(choices).graph
    names = sorted(expected)
    assert graph.labels == ("input", *(choices[f"op-{i}"] for i in names[1:-1]), "output")
    assert {(names[s], names[t]) for s, t in graph.edges} == set(expected.edges)
    assert len(graph.edges) == n_edges


def test_nine_edges_on_paths_are_the_most() -> None:
    ops = {f"op-{i}": OPERATIONS[0] for i in range(1, 6)}
    edges = ["0-1", "1-2", "2-6", "0-2", "0-6", "1-6", "2-3", "3-6", "0-3"]
    nine = {f"{s}-{t}": int(f"{s}-{t}" in edges) for s, t in PAIRS} | ops
    assert len(SPACE.cell(nine).graph.edges) == 9
    # Node 5 is not needed: its edges do not count.
    assert SPACE.cell({**nine, "0-5": 1, "1-5": 1}).graph == SPACE.cell(nine).graph
    with pytest.raises(ArchitectureError, match=r"^a cell must have at most 9 edges but has 10\.$"):
        SPACE.cell({**nine, "1-3": 1})


def test_random_cells_keep_to_the_rules() -> None:
    rng = np.random.default_rng(0)
    n_children = 0
    for _ in range(150):
        cell = SPACE.random(rng)
        for member in (cell, SPACE.random_child(cell, rng)):
            if member is not None:
                expected = on_a_path(SPACE.choices_of(member))
                assert expected is not None
                assert expected.number_of_edges() <= 9
                n_children += member is not cell
    assert n_children > 50


@given(cells())
def test_the_adjacency_matrix_is_that_of_the_tables(choices: dict[str, Any]) -> None:
    matrix = np.array(to_adjacency(choices))
    assert matrix.shape == (7, 7)
    assert (matrix == np.triu(matrix, 1)).all()
    assert all(matrix[s, t] == choices[f"{s}-{t}"] for s, t in PAIRS)


def n_cells(n_nodes: int) -> int:
    """Cells of this many nodes and at most nine edges that are on paths, up to isomorphism."""
    shapes: dict[str, list[list[int]]] = {}
    found = set()
    pairs = list(combinations(range(n_nodes), 2))
    for n_edges in range(1, MAX_EDGES + 1):
        for edges in combinations(pairs, n_edges):
            if len({s for s, _ in edges}) == len({t for _, t in edges}) == n_nodes - 1:
                matrix = [[int((s, t) in edges) for t in range(n_nodes)] for s in range(n_nodes)]
                graph = graph_of_node_operations(matrix, ["any"] * n_nodes)
                assert len(graph.labels) == n_nodes
                shapes.setdefault(graph.fingerprint, matrix)
    for matrix in shapes.values():
        for inner in product(OPERATIONS, repeat=n_nodes - 2):
            found.add(graph_of_node_operations(matrix, ["input", *inner, "output"]).fingerprint)
    return len(found)


@pytest.mark.parametrize(("n_nodes", "expected"), [(2, 1), (3, 6), (4, 84), (5, 2441)])
def test_as_many_cells_as_the_benchmark_has(n_nodes: int, expected: int) -> None:
    assert n_cells(n_nodes) == expected


@pytest.mark.slow
def test_as_many_cells_as_the_benchmark_has_in_all() -> None:
    assert sum(map(n_cells, range(2, N_NODES + 1))) == 423_624
