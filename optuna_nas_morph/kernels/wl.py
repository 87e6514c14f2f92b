"""The Weisfeiler-Lehman subtree kernel on directed multigraphs.

Shervashidze et al., Weisfeiler-Lehman Graph Kernels, JMLR 12 (2011), Definition 6 and Algorithm 1. Level 0 counts node
labels; level ``k`` counts labels that stand for all that can be seen from a node within ``k`` steps.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Any

import numpy as np
from grakel import Graph, Kernel
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import NotFittedError

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.cosine import cosine

Counts = tuple[Mapping[int, int], ...]  # per level: feature -> how many nodes have it
_Signature = tuple[int, tuple[int, ...], tuple[int, ...]]  # own label, in-neighbours' labels, out-neighbours' labels


class WeisfeilerLehman(Kernel):  # type: ignore[misc]  # GraKeL has no type stubs
    """Count the neighbourhoods that two graphs have in common.

    A :class:`grakel.Kernel` that can stand wherever GraKeL's own does; on simple graphs with ``direction="out"`` both
    are equal. Beyond GraKeL's, it sees the direction of edges and parallel edges, remembers the counts of graphs it has
    seen (fitting again or transforming graphs seen before relabels nothing), gives one matrix per level, and reads its
    features back (:meth:`describe`, :meth:`motif`).

    One vocabulary of features lives as long as the instance, whatever is fitted: the id of a feature never changes.
    Threads may share an instance, except for what ``fit`` leaves for ``transform`` and ``diagonal``.

    Args:
        n_iter:
            How many times labels are refined: levels 0 to ``n_iter``.
        normalize:
            Whether a graph has similarity 1 to itself. A graph without nodes then has similarity 0 to all others.
        direction:
            ``"both"``: a node sees its in-neighbours and its out-neighbours, told apart. ``"out"``: out-neighbours
            only, as in GraKeL.
        cache_size:
            Of how many graphs the counts are remembered. The oldest go first.

    Raises:
        ValueError: If an argument is out of range (also on ``fit``, after ``set_params``).
    """

    X: list[LabelledGraph] | None = None  # the fitted graphs, as GraKeL names them

    def __init__(
        self, n_iter: int = 2, normalize: bool = True, direction: str = "both", cache_size: int = 20_000
    ) -> None:
        super().__init__(normalize=normalize)
        self.n_iter = n_iter
        self.direction = direction
        self.cache_size = cache_size
        self._vocabularies: dict[str, _Vocabulary] = {}
        self._check_params()

    def set_params(self, **params: Any) -> WeisfeilerLehman:
        """Change arguments of the constructor. Graphs have to be fitted again."""
        super().set_params(**params)
        self._check_params()
        self.X = None
        return self

    def _check_params(self) -> None:
        for name, minimum, kind in (("n_iter", 0, "non-negative"), ("cache_size", 1, "positive")):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} must be a {kind} integer but got {value!r}.")
        if self.direction not in ("both", "out"):
            raise ValueError(f"direction must be 'both' or 'out' but got {self.direction!r}.")

    # The GraKeL interface.

    def parse_input(self, X: Iterable[Any]) -> list[LabelledGraph]:
        """Read :class:`LabelledGraph` or anything that GraKeL reads as a labelled graph.

        Labels are compared as strings.

        Raises:
            TypeError: If an element is not a graph.
            ValueError: If there is no graph, or a node has no label.
        """
        if not isinstance(X, Iterable):
            raise TypeError(f"X must be an iterable of graphs but got {type(X).__name__}.")
        graphs = [_parse_graph(element) for element in X]
        if not graphs:
            raise ValueError("X must hold at least one graph but is empty.")
        return graphs

    def fit(self, X: Iterable[Any], y: None = None) -> WeisfeilerLehman:
        """Remember the graphs that :meth:`transform` compares with."""
        self._check_params()
        self.X = self.parse_input(X)
        self._Y: list[LabelledGraph] | None = None
        self._X_diag = self._diagonals(self._counts(self.X)).sum(axis=0)
        return self

    def fit_transform(self, X: Iterable[Any], y: None = None) -> NDArray[np.float64]:
        """Return the similarities of the given graphs to each other, shape ``(n, n)``."""
        self.fit(X)
        counts = self._counts(self._fitted())
        raw = self._grams(counts, counts).sum(axis=0)
        return cosine(raw, self._X_diag, self._X_diag) if self.normalize else raw

    def transform(self, X: Iterable[Any]) -> NDArray[np.float64]:
        """Return the similarities of the given graphs (rows) to the fitted ones (columns), shape ``(m, n)``.

        Raises:
            NotFittedError: If ``fit`` was not called.
        """
        fitted = self._counts(self._fitted())
        self._Y = self.parse_input(X)
        counts = self._counts(self._Y)
        raw = self._grams(counts, fitted).sum(axis=0)
        return cosine(raw, self._diagonals(counts).sum(axis=0), self._X_diag) if self.normalize else raw

    def diagonal(self) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the similarities of graphs to themselves before normalisation, as GraKeL does.

        Returns:
            ``X_diag`` of the fitted graphs, shape ``(n,)``; after a ``transform``, ``(X_diag, Y_diag)`` with those of
            the transformed graphs, shape ``(m,)``.

        Raises:
            NotFittedError: If ``fit`` was not called.
        """
        self._fitted()
        return self._X_diag if self._Y is None else (self._X_diag, self._diagonals(self._counts(self._Y)).sum(axis=0))

    def _fitted(self) -> list[LabelledGraph]:
        if self.X is None:
            raise NotFittedError("WeisfeilerLehman is not fitted: call fit first.")
        return self.X

    # What GraKeL does not have.

    def level_grams(
        self, X: Sequence[LabelledGraph], Y: Sequence[LabelledGraph] | None = None
    ) -> NDArray[np.float64]:  # (n_iter + 1, len(X), len(Y))
        """Return the similarities of ``X`` (rows) to ``Y`` (columns; ``X`` by default), one matrix per level.

        With ``normalize`` every level is normalised on its own, so each matrix is a kernel with a unit diagonal. Needs
        no ``fit``.
        """
        self._check_params()
        rows = self._counts(X)
        columns = rows if Y is None else self._counts(Y)
        grams = self._grams(rows, columns)
        if not self.normalize:
            return grams
        row_diagonals, column_diagonals = self._diagonals(rows), self._diagonals(columns)
        return np.stack([cosine(*level) for level in zip(grams, row_diagonals, column_diagonals, strict=True)])

    def features(self, graph: LabelledGraph) -> Counts:
        """Return how many nodes of a graph have each feature, one dictionary per level."""
        return self._vocabulary.counts(graph, self.n_iter, self.cache_size)

    def describe(self, level: int, feature: int) -> str:
        """Write a feature as text, e.g. ``conv3x3 <- [input] -> [relu, relu]`` (seen from a convolution).

        Raises:
            ValueError: If no graph seen so far has the feature.
        """
        return self._vocabulary.describe(level, feature)

    def motif(self, level: int, feature: int) -> LabelledGraph:
        """Return an example of what a feature stands for: the neighbourhood of a node that has it.

        Node 0 of the result is the root. The nodes are those within ``level`` steps of it, the edges those that the
        feature depends on. Where neighbourhoods differ that the kernel cannot tell apart, it is one of them.

        Raises:
            ValueError: If no remembered graph has the feature; calling ``features`` on one that does remembers it.
        """
        return self._vocabulary.motif(level, feature)

    @property
    def _vocabulary(self) -> _Vocabulary:
        known = self._vocabularies.get(self.direction)
        return known or self._vocabularies.setdefault(self.direction, _Vocabulary(self.direction == "both"))

    def _counts(self, graphs: Sequence[LabelledGraph]) -> list[Counts]:
        return [self.features(graph) for graph in graphs]

    def _diagonals(self, counts: list[Counts]) -> NDArray[np.float64]:  # (n_iter + 1, len(counts))
        squares = [[sum(n * n for n in level.values()) for level in levels] for levels in counts]
        return np.array(squares, dtype=np.float64).reshape(len(counts), self.n_iter + 1).T

    def _grams(self, rows: list[Counts], columns: list[Counts]) -> NDArray[np.float64]:  # (n_iter + 1, m, n)
        grams = np.empty((self.n_iter + 1, len(rows), len(columns)))
        for level in range(self.n_iter + 1):
            n_features = self._vocabulary.n_features(level)
            left = _count_matrix([counts[level] for counts in rows], n_features)
            right = left if columns is rows else _count_matrix([counts[level] for counts in columns], n_features)
            grams[level] = (left @ right.T).toarray()
        return grams


class _Ids:
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


class _Vocabulary:
    """The features of every level, and the counts of the graphs seen last."""

    def __init__(self, sees_inputs: bool) -> None:
        self._sees_inputs = sees_inputs
        self._levels: list[_Ids] = [_Ids()]  # level 0 numbers labels, the others number signatures
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
            self._levels.append(_Ids())
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


def _count_matrix(counts: Sequence[Mapping[int, int]], n_features: int) -> Any:
    """Return a sparse matrix of shape ``(len(counts), n_features)``."""
    indptr = np.cumsum([0, *(len(row) for row in counts)])
    indices = np.fromiter((feature for row in counts for feature in row), dtype=np.int64, count=indptr[-1])
    data = np.fromiter((count for row in counts for count in row.values()), dtype=np.float64, count=indptr[-1])
    return sparse.csr_array((data, indices, indptr), shape=(len(counts), n_features))


def _parse_graph(element: Any) -> LabelledGraph:
    if isinstance(element, LabelledGraph):
        return element
    if not isinstance(element, Graph):
        parts = list(element) if isinstance(element, Iterable) else []
        if len(parts) < 2:
            raise TypeError(
                "X must hold LabelledGraphs, grakel.Graphs or pairs of edges and node labels "
                f"but got {element!r} of type {type(element).__name__}."
            )
        element = Graph(parts[0], parts[1], {}, graph_format="dictionary")
    element.desired_format("dictionary")
    labels = element.get_labels(purpose="dictionary")
    place = {node: i for i, node in enumerate(labels)}
    edges = []
    for source, targets in element.get_edge_dictionary().items():
        for target in targets:
            if source not in place or target not in place:
                raise ValueError(f"Every node must have a label but the edge ({source}, {target}) joins one without.")
            edges.append((place[source], place[target]))
    return LabelledGraph(tuple(str(label) for label in labels.values()), tuple(edges))
