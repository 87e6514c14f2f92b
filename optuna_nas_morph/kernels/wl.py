"""The Weisfeiler-Lehman subtree kernel on directed multigraphs.

Shervashidze et al., Weisfeiler-Lehman Graph Kernels, JMLR 12 (2011), Definition 6 and Algorithm 1. Level 0 counts node
labels; level ``k`` counts labels that stand for all that can be seen from a node within ``k`` steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.level_kernel import Floats, LevelGraphKernel, similarities
from optuna_nas_morph.kernels.vocabulary import Counts, Vocabulary

_DENSE = 256
"""Up to so many features, dense matrices are multiplied faster than sparse ones."""


class WeisfeilerLehman(LevelGraphKernel):
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

    def __init__(
        self, n_iter: int = 2, normalize: bool = True, direction: str = "both", cache_size: int = 20_000
    ) -> None:
        super().__init__(normalize=normalize)
        self.n_iter = n_iter
        self.direction = direction
        self.cache_size = cache_size
        self._vocabularies: dict[str, Vocabulary] = {}
        self._check_params()

    def _check_params(self) -> None:
        for name, minimum, kind in (("n_iter", 0, "non-negative"), ("cache_size", 1, "positive")):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} must be a {kind} integer but got {value!r}.")
        if self.direction not in ("both", "out"):
            raise ValueError(f"direction must be 'both' or 'out' but got {self.direction!r}.")

    def fit_levels(self, train: Sequence[LabelledGraph]) -> CountLevels:
        """Return the kernel as a function. Nothing is learned from the training graphs."""
        self._check_params()
        return CountLevels(self._vocabulary, self.n_iter, self.cache_size)

    def level_grams(
        self, X: Sequence[LabelledGraph], Y: Sequence[LabelledGraph] | None = None
    ) -> Floats:  # (n_iter + 1, len(X), len(Y))
        """Return the similarities of ``X`` (rows) to ``Y`` (columns; ``X`` by default), one matrix per level.

        With ``normalize`` every level is normalised on its own, so each matrix is a kernel with a unit diagonal. Needs
        no ``fit``.
        """
        levels = self.fit_levels(X)
        rows = levels.embed(X)
        columns = rows if Y is None else levels.embed(Y)
        return similarities(levels, rows, columns) if self.normalize else levels.products(rows, columns)

    def features(self, graph: LabelledGraph) -> Counts:
        """Return how many nodes of a graph have each feature, one dictionary per level."""
        return self._vocabulary.counts(graph, self.n_iter, self.cache_size)

    @staticmethod
    def overlap(a: Floats, b: Floats) -> Floats:
        """What counts ``a`` and ``b`` of a feature add to the similarity of two graphs before normalisation."""
        return a * b

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
    def _vocabulary(self) -> Vocabulary:
        known = self._vocabularies.get(self.direction)
        return known or self._vocabularies.setdefault(self.direction, Vocabulary(self.direction == "both"))


@dataclass(frozen=True, eq=False)
class EmbeddedLevel:
    """Graphs as vectors, on one level.

    Attributes:
        blocks:
            The vectors, their entries in any number of blocks.  # each a sparse matrix, (n, at most n_features)
        squared_norms:
            Their squared lengths.  # (n,)
    """

    blocks: list[Any]
    squared_norms: Floats


@dataclass(frozen=True, eq=False)
class CountLevels:
    """The kernel as a function: on each level, the inner product of counts."""

    vocabulary: Vocabulary
    n_iter: int
    cache_size: int

    def embed(self, graphs: Sequence[LabelledGraph]) -> list[EmbeddedLevel]:
        counts = [self.vocabulary.counts(graph, self.n_iter, self.cache_size) for graph in graphs]
        embedded = []
        for level in range(self.n_iter + 1):
            blocks = self.blocks(_count_matrix([of_graph[level] for of_graph in counts]))
            squares = [np.asarray(block.power(2).sum(axis=1), dtype=np.float64) for block in blocks]
            embedded.append(EmbeddedLevel(blocks, np.sum(squares, axis=0)))
        return embedded

    def blocks(self, counts: Any) -> list[Any]:
        """Return the vectors that stand for counts, shape ``(n, n_features)``, in one or more blocks."""
        return [counts]

    def products(self, rows: list[EmbeddedLevel], columns: list[EmbeddedLevel]) -> Floats:  # (n_iter + 1, m, n)
        levels = zip(rows, columns, strict=True)
        return np.stack([_product(of_rows.blocks, of_columns.blocks) for of_rows, of_columns in levels])

    def squared_norms(self, embedded: list[EmbeddedLevel]) -> Floats:  # (n_iter + 1, n)
        return np.stack([level.squared_norms for level in embedded])


def _product(rows: list[Any], columns: list[Any]) -> Floats:  # (m, n)
    """Return the inner products of vectors. Where one has fewer features or blocks, the others are 0 there."""
    product: Floats = np.zeros((rows[0].shape[0], columns[0].shape[0]))
    for left, right in zip(rows, columns, strict=False):
        n_features = max(left.shape[1], right.shape[1])
        left, right = _widen(left, n_features), _widen(right, n_features)
        if n_features <= _DENSE:
            product += left.toarray() @ right.toarray().T
        else:
            product += (left @ right.T).toarray()
    return product


def _widen(matrix: Any, n_features: int) -> Any:
    parts = (matrix.data, matrix.indices, matrix.indptr)
    return sparse.csr_array(parts, shape=(matrix.shape[0], n_features))


def _count_matrix(counts: Sequence[Mapping[int, int]]) -> Any:
    """Return a sparse matrix of shape ``(len(counts), n_features)``, without the features that nothing has."""
    indptr = np.cumsum([0, *(len(row) for row in counts)])
    indices = np.fromiter((feature for row in counts for feature in row), dtype=np.int64, count=indptr[-1])
    data = np.fromiter((count for row in counts for count in row.values()), dtype=np.float64, count=indptr[-1])
    n_features = int(indices.max(initial=-1)) + 1
    return sparse.csr_array((data, indices, indptr), shape=(len(counts), n_features))
