"""From the usual descriptions of cells to the graph of what they compute.

Two cells that compute the same should give the same graph: operations that do nothing (identities) are contracted,
those that give zero are removed, and so is what the input does not reach or the output does not need. Parallel edges
stay: ``x + x`` is not ``x``. On NAS-Bench-201 the surrogate ranks better on this graph than on the raw one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph

INPUT = "input"
OUTPUT = "output"


def graph_of_edge_operations(
    operations: Mapping[tuple[int, int], str],
    n_states: int,
    *,
    zeros: Sequence[str] = ("none",),
    identities: Sequence[str] = ("skip_connect",),
) -> LabelledGraph:
    """The graph of a cell whose edges are operations and whose states are sums, as in DARTS and NAS-Bench-201.

    A node of the graph is an operation; an edge says that one's output is (a summand of) another's input.

    Args:
        operations:
            Operation on the edge from one state to a later one.
        n_states:
            How many states there are. The first is the input, the last the output.
        zeros:
            Operations that give zero.
        identities:
            Operations that do nothing.

    Raises:
        ArchitectureError: If an edge does not lead from a state to a later one.
    """
    for source, target in operations:
        if not 0 <= source < target < n_states:
            raise ArchitectureError(
                f"operations must be on edges from a state to a later one of {n_states} but got ({source}, {target})."
            )
    labels = [INPUT]
    edges: list[tuple[int, int]] = []
    summands: list[list[int]] = [[0]] + [[] for _ in range(n_states - 1)]  # per state, the nodes that it is a sum of
    for target in range(1, n_states):
        for source in range(target):
            operation = operations.get((source, target))
            if operation is None or operation in zeros or not summands[source]:
                continue
            if operation in identities:
                summands[target] += summands[source]
            else:
                edges += [(node, len(labels)) for node in summands[source]]
                summands[target].append(len(labels))
                labels.append(operation)
    edges += [(node, len(labels)) for node in summands[-1]]
    return _what_matters([*labels, OUTPUT], edges)


def graph_of_node_operations(
    adjacency: Sequence[Sequence[int]], operations: Sequence[str], *, identities: Sequence[str] = ()
) -> LabelledGraph:
    """The graph of a cell whose nodes are operations, as in NAS-Bench-101.

    Args:
        adjacency:
            ``adjacency[i][j]`` says how many edges lead from node i to node j > i.  # (n, n)
        operations:
            Operation of each node; the first is the input, the last the output.  # (n,)
        identities:
            Operations that do nothing.

    Raises:
        ArchitectureError: If a shape does not fit, an edge does not lead from a node to a later one, or no path leads
            from the input to the output.
    """
    n = len(operations)
    if n < 2 or len(adjacency) != n or any(len(row) != n for row in adjacency):
        raise ArchitectureError(f"adjacency must be of shape ({n}, {n}) for {n} operations, of which two at least.")
    edges: list[tuple[int, int]] = []
    origins: list[list[int]] = [[0]] + [[] for _ in range(n - 1)]  # per node, where its output comes from
    for target in range(n):
        for source in range(n):
            if adjacency[source][target] and not source < target:
                raise ArchitectureError(
                    f"adjacency must lead from a node to a later one but has an edge ({source}, {target})."
                )
        inputs = [o for s in range(target) for _ in range(int(adjacency[s][target])) for o in origins[s]]
        if not target:
            continue
        if operations[target] in identities and target < n - 1:
            origins[target] = inputs
        elif inputs:
            edges += [(origin, target) for origin in inputs]
            origins[target] = [target]
    if not origins[-1]:
        raise ArchitectureError("adjacency must lead from the first node to the last but there is no path.")
    return _what_matters([INPUT, *operations[1:-1], OUTPUT], edges)


def _what_matters(labels: Sequence[str], edges: Sequence[tuple[int, int]]) -> LabelledGraph:
    """The input (node 0), the output (the last node), and what lies on a path between them."""
    last = len(labels) - 1
    needed, reached = {last}, {0}
    for source, target in sorted(edges, key=lambda edge: -edge[1]):
        needed |= {source} if target in needed else set()
    for source, target in sorted(edges):
        reached |= {target} if source in reached else set()
    kept = sorted((needed & reached) | {0, last})
    place = {node: i for i, node in enumerate(kept)}
    counts = Counter(edge for edge in edges if edge[0] in place and edge[1] in place)
    return LabelledGraph(
        tuple(labels[node] for node in kept),
        tuple((place[s], place[t]) for (s, t), n in sorted(counts.items()) for _ in range(n)),
    )
