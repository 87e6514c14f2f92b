"""The cells of NAS-Bench-101 (Ying et al., ICML 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.spaces import CellSpace
from optuna_nas_morph.spaces.cells import INPUT, OUTPUT, graph_of_node_operations

OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
N_NODES = 7
MAX_EDGES = 9
_EDGES = [(source, target) for target in range(1, N_NODES) for source in range(target)]


def nas_bench_101() -> CellSpace:
    """The 423,624 cells of up to seven nodes and nine edges, as 26 choices.

    Choices ``"0-1"``, ``"0-2"``, ... say whether an edge joins two nodes, ``"op-1"`` to ``"op-5"`` what the inner nodes
    do. Cells with more than nine edges or without a path from the input to the output are not allowed; parts that are
    not on such a path do not count.
    """
    edges = {f"{source}-{target}": (0, 1) for source, target in _EDGES}
    nodes = {f"op-{node}": OPERATIONS for node in range(1, N_NODES - 1)}
    return CellSpace({**edges, **nodes}, to_graph)


def to_graph(choices: Mapping[str, Any]) -> LabelledGraph:
    """The graph of what a cell computes.

    Raises:
        ArchitectureError: If the benchmark does not have the cell.
    """
    adjacency = to_adjacency(choices)
    operations = [INPUT, *(choices[f"op-{node}"] for node in range(1, N_NODES - 1)), OUTPUT]
    graph = graph_of_node_operations(adjacency, operations)
    if len(graph.edges) > MAX_EDGES:
        raise ArchitectureError(f"a cell must have at most {MAX_EDGES} edges but has {len(graph.edges)}.")
    return graph


def to_adjacency(choices: Mapping[str, Any]) -> list[list[int]]:
    """The upper triangular adjacency matrix of a cell, as the benchmark's tables have it."""
    matrix = [[0] * N_NODES for _ in range(N_NODES)]
    for source, target in _EDGES:
        matrix[source][target] = int(choices[f"{source}-{target}"])
    return matrix
