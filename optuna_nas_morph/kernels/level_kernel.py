"""What a kernel offers that gives one Gram matrix per level, and the GraKeL interface of such kernels.

A Gaussian process gives every level a variance of its own, so levels are what is learned about a kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from grakel import Graph, Kernel
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.cosine import cosine

Floats = NDArray[np.float64]


class FittedLevels(Protocol):
    """A similarity of any two graphs per level, with all that was learned from the training graphs settled.

    Graphs are embedded once and compared often. What ``embed`` returns is the implementer's own.
    """

    def embed(self, graphs: Sequence[LabelledGraph]) -> Any:
        """Return what ``products`` needs to know of graphs."""

    def products(self, rows: Any, columns: Any) -> Floats:  # (n_levels, m, n)
        """Return the similarities ``k(x, y)`` of embedded graphs, before normalisation."""

    def squared_norms(self, embedded: Any) -> Floats:  # (n_levels, n)
        """Return the similarities ``k(x, x)`` of embedded graphs to themselves."""


@runtime_checkable
class LevelKernel(Protocol):
    """A kernel that gives one positive semi-definite matrix per level, be it a level of detail or a length-scale."""

    def fit_levels(self, train: Sequence[LabelledGraph]) -> FittedLevels:
        """Learn what has to be learned from the training graphs.

        Nothing of the kernel is changed but what it remembers to be faster, and what is returned does not change with
        the kernel's parameters.
        """


def similarities(levels: FittedLevels, rows: Any, columns: Any) -> Floats:  # (n_levels, m, n)
    """Return the similarities of embedded graphs, each level normalised to a unit diagonal."""
    products = levels.products(rows, columns)
    norms = zip(products, levels.squared_norms(rows), levels.squared_norms(columns), strict=True)
    return np.stack([cosine(*level) for level in norms])


class LevelGraphKernel(Kernel, ABC):  # type: ignore[misc]  # GraKeL has no type stubs
    """The GraKeL interface (fit, transform, fit_transform, diagonal): the sum over the levels.

    With ``normalize`` the sum is normalised, so that a graph has similarity 1 to itself.
    """

    X: list[LabelledGraph] | None = None  # the fitted graphs, as GraKeL names them

    @abstractmethod
    def fit_levels(self, train: Sequence[LabelledGraph]) -> FittedLevels:
        """See :class:`LevelKernel`."""

    @abstractmethod
    def _check_params(self) -> None:
        """Raise a ValueError if an argument of the constructor is out of range."""

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor. Graphs have to be fitted again."""
        super().set_params(**params)
        self._check_params()
        self.X = None
        return self

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

    def fit(self, X: Iterable[Any], y: None = None) -> Self:
        """Remember the graphs that :meth:`transform` compares with."""
        self.X = self.parse_input(X)
        self._levels = self.fit_levels(self.X)
        self._embedded = self._levels.embed(self.X)
        self._X_diag: Floats = self._levels.squared_norms(self._embedded).sum(axis=0)
        self._Y_diag: Floats | None = None
        return self

    def fit_transform(self, X: Iterable[Any], y: None = None) -> Floats:
        """Return the similarities of the given graphs to each other, shape ``(n, n)``."""
        self.fit(X)
        raw: Floats = self._levels.products(self._embedded, self._embedded).sum(axis=0)
        return cosine(raw, self._X_diag, self._X_diag) if self.normalize else raw

    def transform(self, X: Iterable[Any]) -> Floats:
        """Return the similarities of the given graphs (rows) to the fitted ones (columns), shape ``(m, n)``.

        Raises:
            NotFittedError: If ``fit`` was not called.
        """
        self._check_is_fitted()
        embedded = self._levels.embed(self.parse_input(X))
        diagonal = self._Y_diag = self._levels.squared_norms(embedded).sum(axis=0)
        raw: Floats = self._levels.products(embedded, self._embedded).sum(axis=0)
        return cosine(raw, diagonal, self._X_diag) if self.normalize else raw

    def diagonal(self) -> Floats | tuple[Floats, Floats]:
        """Return the similarities of graphs to themselves before normalisation, as GraKeL does.

        Returns:
            ``X_diag`` of the fitted graphs, shape ``(n,)``; after a ``transform``, ``(X_diag, Y_diag)`` with those of
            the transformed graphs, shape ``(m,)``.

        Raises:
            NotFittedError: If ``fit`` was not called.
        """
        self._check_is_fitted()
        return self._X_diag if self._Y_diag is None else (self._X_diag, self._Y_diag)

    def _check_is_fitted(self) -> None:
        if self.X is None:
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit first.")


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
