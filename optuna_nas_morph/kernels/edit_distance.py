"""The edit-distance neural network kernel of Auto-Keras, made positive semi-definite.

Jin, Song and Hu, Auto-Keras: An Efficient Neural Architecture Search System, KDD 2019, Section 3.1. The distance is
the paper's, ``d = D_l + lambda D_s``: ``D_l`` aligns the layers of two networks, ``D_s`` matches their skip
connections. The kernel is not: ``exp(-d)`` and ``exp(-d^2)`` have negative eigenvalues, and Auto-Keras, which embeds
the training graphs against that, then predicts with another function than it trains with. Here a graph is mapped to
its distances from a few landmark graphs, and a squared-exponential kernel compares these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.level_kernel import Floats, LevelGraphKernel
from optuna_nas_morph.kernels.sequence_distance import DistanceMemory

_N_MEDIAN = 500
"""The median distance is taken over the pairs of so many graphs."""


class EditDistance(LevelGraphKernel):
    """Compare networks by how many layers and skip connections one has to edit to turn one into the other.

    ``fit`` chooses landmarks ``l_1, ..., l_L`` among the graphs (farthest-point, Gonzalez 1985: the first graph, then
    always the one farthest from all chosen) and ``phi(x) = (d(x, l_1), ..., d(x, l_L)) / sqrt(L)``. The edit distance
    is a metric (but for differences that it does not see), so ``|phi(x) - phi(y)| <= d(x, y)``. Level ``i`` is
    ``exp(-|phi(x) - phi(y)|^2 / (2 s_i^2))``: positive semi-definite whatever ``d`` is, and one function for training
    and prediction.

    The levels are length-scales ``s_i``, in units of the median ``|phi(x) - phi(y)|`` of the fitted graphs. A Gaussian
    process that learns a weight per level thereby learns the length-scale: the kernel is a scale mixture of
    squared-exponential kernels, as the rational quadratic kernel is (Rasmussen and Williams 2006, Section 4.2.1).

    Only labels and edges of a :class:`~optuna_nas_morph.ir.LabelledGraph` are read. Widths count in all layers that
    have one in their label. Threads may share an instance, except for what ``fit`` leaves for ``transform`` and
    ``diagonal``.

    Args:
        skip_weight:
            ``lambda``, how much a skip connection counts, relative to a layer.
        n_landmarks:
            How many landmarks there are at most.
        lengthscales:
            Length-scales in units of the median, one per level.
        normalize:
            Whether a graph has similarity 1 to itself. If not, it is the number of levels.
        cache_size:
            How many distances are remembered. Those of the graphs that were not used for longest go first.

    Raises:
        ValueError: If an argument is out of range (also on ``fit``, after ``set_params``).
    """

    def __init__(
        self,
        skip_weight: float = 1.0,
        n_landmarks: int = 32,
        lengthscales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
        normalize: bool = True,
        cache_size: int = 500_000,
    ) -> None:
        super().__init__(normalize=normalize)
        self.skip_weight = skip_weight
        self.n_landmarks = n_landmarks
        self.lengthscales = lengthscales
        self.cache_size = cache_size
        self._memories: dict[float, DistanceMemory] = {}
        self._check_params()

    def _check_params(self) -> None:
        for name in ("n_landmarks", "cache_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer but got {value!r}.")
        if not 0 <= self.skip_weight < np.inf:
            raise ValueError(f"skip_weight must be finite and non-negative but got {self.skip_weight!r}.")
        if len(self.lengthscales) == 0 or not all(0 < scale < np.inf for scale in self.lengthscales):
            raise ValueError(f"lengthscales must be finite positive numbers but got {self.lengthscales!r}.")

    def fit_levels(self, train: Sequence[LabelledGraph]) -> LandmarkLevels:
        """Choose landmarks and length-scales. As landmarks are few, one more graph costs few distances."""
        self._check_params()
        landmarks = [train[0]]
        columns = [self.distances(train, landmarks)]  # each (n, 1)
        nearest = columns[0]
        while len(landmarks) < self.n_landmarks and nearest.max() > 0:
            landmarks.append(train[int(np.argmax(nearest))])
            columns.append(self.distances(train, landmarks[-1:]))
            nearest = np.minimum(nearest, columns[-1])
        features = np.concatenate(columns, axis=1) / np.sqrt(len(landmarks))  # (n, L)
        between = pdist(features[:: -(-len(train) // _N_MEDIAN)])
        median = float(np.median(between[between > 0])) if np.any(between > 0) else 1.0
        lengthscales = tuple(median * scale for scale in self.lengthscales)
        return LandmarkLevels(tuple(landmarks), lengthscales, self._memory, self.cache_size)

    def distances(self, X: Sequence[LabelledGraph], Y: Sequence[LabelledGraph]) -> Floats:  # (len(X), len(Y))
        """Return the edit distances of ``X`` (rows) to ``Y`` (columns)."""
        return self._memory.distances(X, Y, self.cache_size)

    @property
    def _memory(self) -> DistanceMemory:
        known = self._memories.get(self.skip_weight)
        return known or self._memories.setdefault(self.skip_weight, DistanceMemory(self.skip_weight))


@dataclass(frozen=True, eq=False)
class LandmarkLevels:
    """The kernel as a function."""

    landmarks: tuple[LabelledGraph, ...]  # L of them
    lengthscales: tuple[float, ...]
    memory: DistanceMemory
    cache_size: int

    def embed(self, graphs: Sequence[LabelledGraph]) -> Floats:  # (n, L)
        distances = self.memory.distances(graphs, self.landmarks, self.cache_size)
        return distances / float(np.sqrt(len(self.landmarks)))

    def products(self, rows: Floats, columns: Floats) -> Floats:  # (n_levels, m, n)
        squared: Floats = cdist(rows, columns, "sqeuclidean")
        return np.stack([np.exp(squared * (-0.5 / scale**2)) for scale in self.lengthscales])

    def squared_norms(self, embedded: Floats) -> Floats:  # (n_levels, n)
        return np.ones((len(self.lengthscales), len(embedded)))
