"""Any GraKeL kernel in the place of ours: one Gram matrix per level, with a unit diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grakel
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.cosine import cosine
from optuna_nas_morph.kernels.wl import WeisfeilerLehman


@dataclass(frozen=True, eq=False)
class FittedKernel:
    """A kernel that knows the graphs which candidates are compared with. Made by :func:`fit_kernel`.

    Args:
        grams:
            Similarities of the training graphs to each other, shape ``(n_levels, n, n)``. Ours has ``n_iter + 1``
            levels, any other kernel has one.
    """

    grams: NDArray[np.float64]  # (n_levels, n, n)
    _kernel: Any
    _train: tuple[LabelledGraph, ...]
    _diagonals: NDArray[np.float64]  # (n,), used by stock kernels

    def cross(self, candidates: Sequence[LabelledGraph]) -> NDArray[np.float64]:  # (n_levels, m, n)
        """Return the similarities of candidates (rows) to the training graphs (columns)."""
        if isinstance(self._kernel, WeisfeilerLehman):
            return self._kernel.level_grams(candidates, self._train)
        if not candidates:
            return np.empty((1, 0, len(self._train)))
        raw = _finite(self._kernel, self._kernel.transform([_to_grakel(graph) for graph in candidates]))
        # After a transform, GraKeL's diagonal() returns the pair (fitted graphs, transformed graphs).
        diagonal = _vector(self._kernel, self._kernel.diagonal()[1], len(candidates))
        return cosine(raw, diagonal, self._diagonals)[None]

    def among(self, candidates: Sequence[LabelledGraph]) -> NDArray[np.float64]:  # (n_levels, m, m)
        """Return the similarities of candidates to each other."""
        if isinstance(self._kernel, WeisfeilerLehman):
            return self._kernel.level_grams(candidates)
        return fit_kernel(self._kernel, candidates).grams if candidates else np.empty((1, 0, 0))


def check_kernel(kernel: Any) -> None:
    """Check that an object is a graph kernel.

    Raises:
        TypeError: If ``kernel`` is not a :class:`grakel.Kernel`.
    """
    if not isinstance(kernel, grakel.Kernel):
        raise TypeError(
            "kernel must be a grakel.Kernel, such as optuna_nas_morph.kernels.WeisfeilerLehman(), "
            f"but got {kernel!r} of type {type(kernel).__name__}."
        )


def fit_kernel(kernel: Any, train: Sequence[LabelledGraph]) -> FittedKernel:
    """Fit a kernel to the training graphs.

    Every level is normalised to a unit diagonal whatever the kernel's own ``normalize`` says, so that a Gaussian
    process can give it a variance. A graph in which the kernel sees nothing is like itself only. The kernel given is
    not changed (a copy is fitted), except that ours remembers the graphs it has seen.

    GraKeL's own kernels do not see parallel edges.

    Args:
        kernel:
            Our :class:`~optuna_nas_morph.kernels.WeisfeilerLehman` or any other :class:`grakel.Kernel` on graphs with
            node labels. Should be positive semi-definite.
        train:
            At least one graph.

    Raises:
        TypeError: If ``kernel`` is not a :class:`grakel.Kernel`.
        ValueError: If there is no graph, or the kernel gives similarities that are not finite.
    """
    check_kernel(kernel)
    if not train:
        raise ValueError("train must hold at least one graph but is empty.")
    if isinstance(kernel, WeisfeilerLehman):
        ours = kernel if kernel.normalize else _normalized(kernel)
        return FittedKernel(ours.level_grams(train), ours, tuple(train), np.ones(len(train)))
    stock = clone(kernel)
    if "normalize" in stock.get_params():
        stock.set_params(normalize=False)
    raw = _finite(stock, stock.fit_transform([_to_grakel(graph) for graph in train]))
    raw = (raw + raw.T) / 2
    diagonal = np.diagonal(raw).copy()
    return FittedKernel(cosine(raw, diagonal, diagonal)[None], stock, tuple(train), diagonal)


def level_grams(
    kernel: Any, train: Sequence[LabelledGraph], candidates: Sequence[LabelledGraph] | None = None
) -> NDArray[np.float64]:  # (n_levels, m, n), or (n_levels, n, n) without candidates
    """Return similarities of candidates (rows) to training graphs (columns), or of the latter to each other.

    See :func:`fit_kernel`, which saves fitting again for every set of candidates.
    """
    fitted = fit_kernel(kernel, train)
    return fitted.grams if candidates is None else fitted.cross(candidates)


def _normalized(kernel: WeisfeilerLehman) -> WeisfeilerLehman:
    """Return the kernel with normalisation and the same memory."""
    normalized: WeisfeilerLehman = clone(kernel).set_params(normalize=True)
    normalized._vocabularies = kernel._vocabularies
    return normalized


def _to_grakel(graph: LabelledGraph) -> tuple[dict[int, dict[int, float]], dict[int, str]]:
    edges: dict[int, dict[int, float]] = {node: {} for node in range(len(graph.labels))}
    for source, target in graph.edges:
        edges[source][target] = 1.0
    return edges, dict(enumerate(graph.labels))


def _finite(kernel: Any, similarities: Any) -> NDArray[np.float64]:
    matrix = np.asarray(similarities, dtype=np.float64)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"kernel must give finite similarities but {kernel!r} gave NaN or infinity.")
    return matrix


def _vector(kernel: Any, diagonal: Any, n: int) -> NDArray[np.float64]:
    """Return a diagonal in GraKeL's various shapes, ``()``, ``(n,)`` or ``(n, 1)``, as ``(n,)``."""
    vector = _finite(kernel, diagonal)
    return np.full(n, float(vector)) if vector.ndim == 0 else vector.reshape(n)
