"""The edit distance of networks, from one to many at once.

Jin, Song and Hu, Auto-Keras: An Efficient Neural Architecture Search System, KDD 2019, Section 3.1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.layer_sequence import layer_distance, layer_sequence

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers and skip connections of many networks side by side.

    Attributes:
        layers:
            Numbers of labels; a network with fewer layers than others is filled up with any.  # (m, n_longest)
        n_layers:
            How many layers each network has.  # (m,)
        skips:
            Skip connections of the first network, the second, ... (see :class:`LayerSequence`).  # (n_all_skips, 3)
        n_skips:
            How many skip connections each network has.  # (m,)
    """

    layers: Integers
    n_layers: Integers
    skips: Integers
    n_skips: Integers

    @classmethod
    def of(cls, layers: Sequence[Integers], skips: Sequence[Integers]) -> Self:
        n_layers = np.array([len(each) for each in layers], dtype=np.int64)
        filled = np.zeros((len(layers), n_layers.max(initial=0)), dtype=np.int64)
        filled[np.arange(filled.shape[1]) < n_layers[:, None]] = np.concatenate([*layers, np.empty(0, np.int64)])
        n_skips = np.array([len(each) for each in skips], dtype=np.int64)
        return cls(filled, n_layers, np.concatenate([*skips, np.empty((0, 3), np.int64)]), n_skips)


def layer_distances(layers: Integers, stack: Stack, costs: Floats) -> Floats:  # (n,), m networks, (n_labels, n_labels)
    """Return ``D_l`` between one network and each of many, shape ``(m,)``.

    Layers are matched in order; a layer without a partner costs 1. With ``A[i, j]`` the distance of the first ``i``
    layers of one network to the first ``j`` of the other,
    ``A[i, j] = min(A[i - 1, j] + 1, A[i, j - 1] + 1, A[i - 1, j - 1] + costs[layer i, layer j])``.

    Args:
        layers:
            Numbers of the labels of the one network.
        stack:
            The many.
        costs:
            What it costs to match layers with these labels.
    """
    n, (m, longest) = len(layers), stack.layers.shape
    others = np.ascontiguousarray(stack.layers.T[::-1])  # (longest, m), layer j in row longest - j
    row_of_costs = layers[:, None] * len(costs)
    before, last, this = np.empty((3, n + 1, m))  # antidiagonals, A[i, d - i] in row i
    distances = np.empty(m)
    for d in range(n + longest + 1):
        start, stop = max(d - longest, 1), min(d - 1, n) + 1  # rows where i and d - i are positive
        if start < stop:
            rows, above = slice(start, stop), slice(start - 1, stop - 1)
            matched = costs.take(row_of_costs[above] + others[longest - d + start : longest - d + stop])
            matched += before[above]
            np.minimum(last[rows], last[above], out=this[rows])
            this[rows] += 1
            np.minimum(this[rows], matched, out=this[rows])
        if d <= longest:
            this[0] = d
        if d <= n:
            this[d] = d
        complete = n + stack.n_layers == d
        distances[complete] = this[n, complete]
        before, last, this = last, this, before
    return distances


def skip_distances(skips: Integers, stack: Stack) -> Floats:  # (n, 3), m networks
    """Return ``D_s`` between one network and each of many, shape ``(m,)``.

    The best matching of skip connections, found by the Hungarian algorithm. One without a
    partner costs 1. Two that start at the layers of ranks ``u`` and ``v`` and skip ``a`` and ``b`` layers cost
    ``(|u - v| + |a - b|) / (max(u, v) + max(a, b))``.
    """
    differences, larger = np.zeros((2, len(skips), len(stack.skips)))
    for own, others in zip(skips.T, stack.skips.T, strict=True):
        differences += np.abs(own[:, None] - others)
        larger += np.maximum(own[:, None], others)
    costs = differences / larger
    distances = np.abs(stack.n_skips - len(skips)).astype(np.float64)
    stop = np.cumsum(stack.n_skips)
    for i in np.flatnonzero(stack.n_skips) if len(skips) else ():
        part = costs[:, stop[i] - stack.n_skips[i] : stop[i]]
        distances[i] += part[linear_sum_assignment(part)].sum()
    return distances


@dataclass(eq=False)
class _Network:
    """What is remembered of a graph."""

    number: int  # never used again
    layers: Integers  # (n,), numbers of labels
    skips: Integers  # (n_skips, 3)
    distances: dict[int, float] = field(default_factory=dict)  # to networks with these numbers


class DistanceMemory:
    """Edit distances, remembered. Threads may share one.

    Args:
        skip_weight:
            ``lambda`` of the distance ``D_l + lambda D_s``.
    """

    def __init__(self, skip_weight: float) -> None:
        self._skip_weight = skip_weight
        self._labels: dict[str, int] = {}
        self._costs: Floats = np.zeros((0, 0))  # between labels
        self._networks: dict[LabelledGraph, _Network] = {}  # in the order of their last use
        self._n_numbers = 0
        self._n_distances = 0
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return copy.deepcopy({name: value for name, value in self.__dict__.items() if name != "_lock"})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = RLock()

    def distances(self, rows: Sequence[LabelledGraph], columns: Sequence[LabelledGraph], cache_size: int) -> Floats:
        """Return the edit distances of ``rows`` to ``columns``, shape ``(len(rows), len(columns))``.

        Args:
            rows:
                Graphs that there are many of.
            columns:
                Graphs that there are few of.
            cache_size:
                How many distances are remembered after it.
        """
        with self._lock:
            networks = [self._network(graph) for graph in rows]
            result = np.empty((len(rows), len(columns)))
            unknown: list[_Network] = []
            for j, graph in enumerate(columns):
                other = self._network(graph)
                missing = [network for network in networks if other.number not in network.distances]
                previous, unknown = unknown, list(dict.fromkeys(missing))
                if unknown and unknown != previous:
                    stack = Stack.of([network.layers for network in unknown], [network.skips for network in unknown])
                if unknown:
                    values = layer_distances(other.layers, stack, self._costs)
                    values += self._skip_weight * skip_distances(other.skips, stack)
                    for network, value in zip(unknown, values.tolist(), strict=True):
                        network.distances[other.number] = value
                    self._n_distances += len(unknown)
                result[:, j] = [network.distances[other.number] for network in networks]
            while self._n_distances > cache_size and self._networks:
                oldest = self._networks.pop(next(iter(self._networks)))
                self._n_distances -= len(oldest.distances)
            return result

    def _network(self, graph: LabelledGraph) -> _Network:
        known = self._networks.pop(graph, None)
        if known is None:
            sequence = layer_sequence(graph)
            layers = np.array([self._label(label) for label in sequence.layers], dtype=np.int64)
            skips = np.array(sequence.skips, dtype=np.int64).reshape(-1, 3)
            known = _Network(self._n_numbers, layers, skips)
            self._n_numbers += 1
        self._networks[graph] = known
        return known

    def _label(self, label: str) -> int:
        """Return the number of a label. What it costs to match a new one is added to the table."""
        if label not in self._labels:
            costs = np.array([layer_distance(label, other) for other in self._labels])
            self._costs = np.pad(self._costs, (0, 1))
            self._costs[-1, :-1] = self._costs[:-1, -1] = costs
            self._labels[label] = len(self._labels)
        return self._labels[label]
