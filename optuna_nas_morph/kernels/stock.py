"""GraKeL's own kernels in the place of ours: a single level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.cosine import cosine
from optuna_nas_morph.kernels.level_kernel import Floats


@dataclass(frozen=True, eq=False)
class FittedStockKernel:
    """A kernel of GraKeL's that knows the training graphs. Made by :func:`fit_stock_kernel`.

    GraKeL's own kernels do not see parallel edges.
    """

    grams: Floats  # (1, n, n)
    _kernel: Any
    _train: tuple[LabelledGraph, ...]
    _diagonal: Floats  # (n,), before normalisation

    def cross(self, candidates: Sequence[LabelledGraph]) -> Floats:  # (1, m, n)
        if not candidates:
            return np.empty((1, 0, len(self._train)))
        raw, diagonal = self._transform(candidates)
        return cosine(raw, diagonal, self._diagonal)[None]

    def among(self, candidates: Sequence[LabelledGraph]) -> Floats:  # (1, m, m)
        """Return the similarities of candidates to each other.

        GraKeL's kernels compare with what they are fitted to, so a copy is fitted to the candidates. The function that
        some of them compute depends on the fitted graphs, on which labels there are or on random numbers drawn per
        label. Where the copy disagrees with the fitted kernel on how similar candidates are to themselves, another
        copy is fitted to the training graphs and the candidates.
        """
        if not candidates:
            return np.empty((1, 0, 0))
        _, diagonal = self._transform(candidates)
        alone = fit_stock_kernel(self._kernel, candidates)
        if np.allclose(alone._diagonal, diagonal):
            return alone.grams
        n = len(self._train)
        return fit_stock_kernel(self._kernel, [*self._train, *candidates]).grams[:, n:, n:]

    def _transform(self, graphs: Sequence[LabelledGraph]) -> tuple[Floats, Floats]:  # (m, n), (m,)
        raw = _finite(self._kernel, self._kernel.transform([_to_grakel(graph) for graph in graphs]))
        # After a transform, GraKeL's diagonal() returns the pair (fitted graphs, transformed graphs).
        return raw, _vector(self._kernel, self._kernel.diagonal()[1], len(graphs))


def fit_stock_kernel(kernel: Any, train: Sequence[LabelledGraph]) -> FittedStockKernel:
    """Fit a copy of a kernel of GraKeL's to the training graphs.

    Raises:
        ValueError: If the kernel gives similarities that are not finite.
    """
    stock = clone(kernel)
    if "normalize" in stock.get_params():
        stock.set_params(normalize=False)
    raw = _finite(stock, stock.fit_transform([_to_grakel(graph) for graph in train]))
    raw = (raw + raw.T) / 2
    diagonal = np.diagonal(raw).copy()
    return FittedStockKernel(cosine(raw, diagonal, diagonal)[None], stock, tuple(train), diagonal)


def _to_grakel(graph: LabelledGraph) -> tuple[dict[int, dict[int, float]], dict[int, str]]:
    edges: dict[int, dict[int, float]] = {node: {} for node in range(len(graph.labels))}
    for source, target in graph.edges:
        edges[source][target] = 1.0
    return edges, dict(enumerate(graph.labels))


def _finite(kernel: Any, similarities: Any) -> Floats:
    matrix = np.asarray(similarities, dtype=np.float64)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"kernel must give finite similarities but {kernel!r} gave NaN or infinity.")
    return matrix


def _vector(kernel: Any, diagonal: Any, n: int) -> Floats:
    """Return a diagonal in GraKeL's various shapes, ``()``, ``(n,)`` or ``(n, 1)``, as ``(n,)``."""
    vector = _finite(kernel, diagonal)
    return np.full(n, float(vector)) if vector.ndim == 0 else vector.reshape(n)
