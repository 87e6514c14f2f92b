"""The features of the Weisfeiler-Lehman test, numbered, and how many nodes of a graph have each.

Shervashidze et al., Weisfeiler-Lehman Graph Kernels, JMLR 12 (2011), Definition 6 and Algorithm 1.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Hashable, Mapping
from threading import RLock
from typing import Any

from optuna_nas_morph.ir.labelled import LabelledGraph

Counts = tuple[Mapping[int, int], ...]  # per level: feature -> how many nodes have it
_Signature = tuple[int, tuple[int, ...], tuple[int, ...]]  # own label, in-neighbours' labels, out-neighbours' labels


class Ids:
    """Keys numbered in the order in which they were first seen."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self._ids: dict[Hashable, int] = {}

    def __getitem__(self, key: Hashable) -> int:
        known = self._ids.get(key)
        if known is None:
            known = self._ids[key] = len(self.keys)
            self.keys.append(key)
        return known


class Vocabulary:
    """The features of every level, and the counts of the graphs seen last.

    Threads may share one. The id of a feature never changes.

    Args:
        sees_inputs:
            Whether a node sees its in-neighbours.
    """

    def __init__(self, sees_inputs: bool) -> None:
        self._sees_inputs = sees_inputs
        self._levels: list[Ids] = [Ids()]  # level 0 numbers labels, the others number signatures
        self._counts: dict[LabelledGraph, Counts] = {}
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
            return copy.deepcopy(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = RLock()

    def n_features(self, level: int) -> int:
        return len(self._levels[level].keys) if level < len(self._levels) else 0

    def counts(self, graph: LabelledGraph, n_iter: int, cache_size: int) -> Counts:
        known = self._counts.get(graph)
        if known is None or len(known) <= n_iter:
            with self._lock:
                known = tuple(dict(Counter(labels)) for labels in self._relabel(graph, n_iter))
                while len(self._counts) >= cache_size:
                    del self._counts[next(iter(self._counts))]
                self._counts[graph] = known
        return known[: n_iter + 1]

    def _neighbours(self, graph: LabelledGraph) -> tuple[list[list[int]], list[list[int]]]:
        inputs: list[list[int]] = [[] for _ in graph.labels]
        outputs: list[list[int]] = [[] for _ in graph.labels]
        for source, target in graph.edges:
            outputs[source].append(target)
            if self._sees_inputs:
                inputs[target].append(source)
        return inputs, outputs

    def _relabel(self, graph: LabelledGraph, n_iter: int) -> list[list[int]]:
        """Return the feature of every node, level by level (Algorithm 1 of the paper)."""
        inputs, outputs = self._neighbours(graph)
        nodes = range(len(graph.labels))
        while len(self._levels) <= n_iter:
            self._levels.append(Ids())
        levels = [[self._levels[0][label] for label in graph.labels]]
        for ids in self._levels[1 : n_iter + 1]:
            own = levels[-1]
            signatures = [
                (own[node], tuple(sorted(own[i] for i in inputs[node])), tuple(sorted(own[i] for i in outputs[node])))
                for node in nodes
            ]
            levels.append([ids[signature] for signature in signatures])
        return levels

    def _lookup(self, level: int, feature: int) -> str | _Signature:
        """Return the label (level 0) or the signature that a feature stands for."""
        if not 0 <= level < len(self._levels):
            raise ValueError(f"level must be between 0 and {len(self._levels) - 1} but got {level}.")
        if not 0 <= feature < self.n_features(level):
            raise ValueError(f"feature must be one of {self.n_features(level)} on level {level} but got {feature}.")
        found: str | _Signature = self._levels[level].keys[feature]
        return found

    def describe(self, level: int, feature: int) -> str:
        with self._lock:
            found = self._lookup(level, feature)
            if isinstance(found, str):
                return found
            own, inputs, outputs = found
            text = self._root(level - 1, own)
            for arrow, neighbours in (("<-", inputs), ("->", outputs)):
                if neighbours:
                    text += f" {arrow} [{', '.join(sorted(self.describe(level - 1, i) for i in neighbours))}]"
            return text

    def _root(self, level: int, feature: int) -> str:
        found = self._lookup(level, feature)
        return found if isinstance(found, str) else self._root(level - 1, found[0])

    def motif(self, level: int, feature: int) -> LabelledGraph:
        with self._lock:
            self._lookup(level, feature)
            for graph, counts in self._counts.items():
                if level < len(counts) and feature in counts[level]:
                    return self._around(graph, self._relabel(graph, level)[level].index(feature), level)
        raise ValueError(f"feature {feature} of level {level} is in no remembered graph.")

    def _around(self, graph: LabelledGraph, root: int, n_steps: int) -> LabelledGraph:
        inputs, outputs = self._neighbours(graph)
        distance = {root: 0}
        for node in (queue := [root]):
            if distance[node] < n_steps:
                for neighbour in inputs[node] + outputs[node]:
                    if neighbour not in distance:
                        distance[neighbour] = distance[node] + 1
                        queue.append(neighbour)
        place = {node: i for i, node in enumerate(queue)}
        inner = {node for node in queue if distance[node] < n_steps}
        edges = tuple(
            (place[source], place[target])
            for source, target in graph.edges
            if source in inner or (self._sees_inputs and target in inner)
        )
        return LabelledGraph(tuple(graph.labels[node] for node in queue), edges)
