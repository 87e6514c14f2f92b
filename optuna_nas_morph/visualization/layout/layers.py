"""Layers of a directed acyclic graph, and an order within each that crosses few edges."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_N_SWEEPS = 12


@dataclass(frozen=True)
class Layers:
    """A graph in layers. Where an edge passes a layer there is a dummy, numbered from ``n_nodes`` up.

    Attributes:
        n_nodes:
            Nodes that are no dummies.
        rows:
            Per layer, its nodes and dummies from left to right.
        layer_of:
            Per node and dummy, its layer.
        chains:
            Per edge, the nodes and dummies that it leads through.
        segments:
            Pairs that stand next to each other in a chain, each once: from one layer to the next.
        n_crossings:
            Pairs of segments that cross.
    """

    n_nodes: int
    rows: tuple[tuple[int, ...], ...]
    layer_of: tuple[int, ...]
    chains: tuple[tuple[int, ...], ...]
    segments: tuple[tuple[int, int], ...]
    n_crossings: int


def layers_of(n_nodes: int, edges: Sequence[tuple[int, int]]) -> Layers:
    """Layers by longest path, orders by medians and transpositions.

    See Gansner et al. (A Technique for Drawing Directed Graphs, IEEE Trans. Software Eng. 19, 1993, section 3).

    Raises:
        ValueError: If an edge names a node that does not exist, or the edges form a cycle.
    """
    longest = _longest_paths(n_nodes, edges)
    dummies: dict[tuple[int, int], int] = {}
    chains = []
    for source, target in edges:
        # Edges from one node share their dummies: a tensor is one line that branches.
        passed = [(source, layer) for layer in range(longest[source] + 1, longest[target])]
        chain = [dummies.setdefault(place, n_nodes + len(dummies)) for place in passed]
        chains.append((source, *chain, target))
    layer_of = (*longest, *(layer for _, layer in dummies))
    segments = tuple(sorted({pair for chain in chains for pair in pairwise(chain)}))
    rows = _ordered(layer_of, segments)
    return Layers(
        n_nodes, tuple(map(tuple, rows)), layer_of, tuple(chains), segments, _n_crossings(rows, segments, layer_of)
    )


def _longest_paths(n_nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Per node, how many edges the longest path to it has."""
    targets: list[list[int]] = [[] for _ in range(n_nodes)]
    n_open = [0] * n_nodes
    for source, target in edges:
        if not (0 <= source < n_nodes and 0 <= target < n_nodes):
            raise ValueError(f"edges must join nodes 0 to {n_nodes - 1} but got ({source}, {target}).")
        targets[source].append(target)
        n_open[target] += 1
    longest, ready = [0] * n_nodes, [i for i in range(n_nodes) if not n_open[i]]
    for node in ready:  # grows
        for target in targets[node]:
            longest[target] = max(longest[target], longest[node] + 1)
            n_open[target] -= 1
            if not n_open[target]:
                ready.append(target)
    if len(ready) < n_nodes:
        raise ValueError(f"edges must not form a cycle but got {list(edges)}.")
    return longest


def _ordered(layer_of: Sequence[int], segments: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Per layer, its nodes from left to right."""
    above: list[list[int]] = [[] for _ in layer_of]
    below: list[list[int]] = [[] for _ in layer_of]
    for u, v in segments:
        above[v].append(u)
        below[u].append(v)
    rows: list[list[int]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for i in _depth_first(above, below):
        rows[layer_of[i]].append(i)

    best, fewest = [list(row) for row in rows], _n_crossings(rows, segments, layer_of)
    for sweep in range(_N_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for k in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = _places(rows[k - 1 if down else k + 1])
            rows[k] = _by_median(rows[k], above if down else below, fixed)
        _transpose(rows, above, below)
        n = _n_crossings(rows, segments, layer_of)
        if n < fewest:
            best, fewest = [list(row) for row in rows], n
    return best


def _depth_first(above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> list[int]:
    """Every node, those that hang together near each other."""
    seen: dict[int, None] = {}
    stack = [i for i in range(len(above) - 1, -1, -1) if not above[i]]
    while stack:
        i = stack.pop()
        if i not in seen:
            seen[i] = None
            stack.extend(reversed(below[i]))
    return list(seen)


def _by_median(row: Sequence[int], neighbours: Sequence[Sequence[int]], fixed: Mapping[int, int]) -> list[int]:
    """A layer in the order of the medians of its neighbours' places; nodes without neighbours keep their place."""
    medians: dict[int, float] = {}
    for i in row:
        places = sorted(fixed[j] for j in neighbours[i])
        if places:
            medians[i] = (places[(len(places) - 1) // 2] + places[len(places) // 2]) / 2
    moved = iter(sorted(medians, key=medians.__getitem__))  # stable: the old order breaks ties
    return [next(moved) if i in medians else i for i in row]


def _transpose(rows: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> None:
    """Swap neighbours in place while that removes crossings."""
    improved = True
    while improved:
        improved = False
        for k, row in enumerate(rows):
            sides = [(above, _places(rows[k - 1]))] if k else []
            sides += [(below, _places(rows[k + 1]))] if k + 1 < len(rows) else []
            for p in range(len(row) - 1):
                a, b = row[p], row[p + 1]
                gain = sum(
                    (places[i] > places[j]) - (places[i] < places[j])
                    for near, places in sides
                    for i in near[a]
                    for j in near[b]
                )
                if gain > 0:
                    row[p], row[p + 1] = b, a
                    improved = True


def _n_crossings(rows: Sequence[Sequence[int]], segments: Sequence[tuple[int, int]], layer_of: Sequence[int]) -> int:
    """Pairs of segments that cross: inversions, counted by insertion."""
    places = [_places(row) for row in rows]
    ends: list[list[tuple[int, int]]] = [[] for _ in rows]
    for u, v in segments:
        ends[layer_of[u]].append((places[layer_of[u]][u], places[layer_of[v]][v]))
    n = 0
    for pairs in ends:
        seen: list[int] = []
        for _, end in sorted(pairs):
            n += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return n


def _places(row: Sequence[int]) -> dict[int, int]:
    return {node: place for place, node in enumerate(row)}
