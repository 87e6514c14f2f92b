"""From observations to a belief about candidates: what Gaussian processes are given, and what they answer.

A point is a graph (if the study has a space) and a vector. One Gaussian process is fitted to each quantity: each
objective, and each constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from optuna_nas_morph import gp
from optuna_nas_morph.ir import LabelledGraph

if TYPE_CHECKING:
    from optuna_nas_morph.kernels import FittedKernel

_CHUNK = 1_000_000
"""Entries of a covariance matrix between candidates and observations that are held at a time."""


@dataclass(frozen=True)
class Points:
    """Points of the input space of the surrogate.

    Attributes:
        graphs:
            Distinct graphs; empty in a study without a space.
        owner:
            Per point, the index of its graph.  # (n,)
        z:
            Per point, its vector.  # (n, d)
    """

    graphs: tuple[LabelledGraph, ...]
    owner: np.ndarray
    z: np.ndarray

    def __len__(self) -> int:
        return len(self.z)


Mean = Callable[[Points], np.ndarray]
"""What is thought of points beforehand, such as after another task: values, larger is better, of shape (m,)."""


@dataclass(frozen=True)
class Quantity:
    """What a Gaussian process is fitted to.

    Attributes:
        rows:
            Which of the observed points have a value.  # (n_k,)
        targets:
            Their values, larger is better, standardised.  # (n_k,)
        means:
            Functions that the values may follow: what counts is how those differ from their averages over the observed
            points.
    """

    rows: np.ndarray
    targets: np.ndarray
    means: Sequence[Mean] = ()


@dataclass(frozen=True)
class Surrogate:
    """Fitted Gaussian processes.

    Attributes:
        posteriors:
            Per quantity, the belief given the observations, and fantasies for what is running.
        kernel:
            The graph kernel fitted to the observed graphs; :obj:`None` in a study without a space.
        owners:
            Per quantity and point of its posterior, the index of its graph in the kernel.
        offsets:
            Per quantity, its means, each with its average over the observed points.
    """

    posteriors: tuple[gp.Posterior, ...]
    kernel: FittedKernel | None
    owners: tuple[np.ndarray, ...]
    offsets: tuple[tuple[tuple[Mean, float], ...], ...]

    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the latent value of each point, per quantity, of shape (k, m), (k, m)."""
        means, variances = np.empty((len(self.posteriors), len(points))), np.empty((len(self.posteriors), len(points)))
        for rows, cross in self._chunks(points):
            for k, posterior in enumerate(self.posteriors):
                own = None if cross is None else cross[:, :, self.owners[k]]
                means[k, rows], variances[k, rows] = posterior.predict(own, points.z[rows])
        return means + [self.prior_mean(points, k) for k in range(len(means))], variances

    def prior_mean(self, points: Points, k: int = 0) -> np.ndarray:
        """What is thought of quantity ``k`` beforehand, by as much as the observations follow it, of shape (m,)."""
        total = np.zeros(len(points))
        for scale, (mean, average) in zip(self.posteriors[k].scales, self.offsets[k], strict=True):
            if scale > 0:
                total += scale * (mean(points) - average)
        return total

    def joint(self, points: Points, k: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the latent values of quantity ``k`` at some points, of shape (m,), (m, m)."""
        cross = grams = None
        if self.kernel is not None:
            cross = self.kernel.cross(points.graphs)[:, points.owner][:, :, self.owners[k]]
            grams = self.kernel.among(points.graphs)[:, points.owner][:, :, points.owner]
        mean, covariance = self.posteriors[k].joint(cross, grams, points.z)
        return mean + self.prior_mean(points, k), covariance

    def _chunks(self, points: Points) -> Iterator[tuple[slice, np.ndarray | None]]:
        """Parts of the points, each with the similarities of its graphs to those of the kernel."""
        n_observed = max(len(posterior.y) for posterior in self.posteriors)
        size = max(1, _CHUNK // max(1, n_observed))
        for start in range(0, len(points), size):
            rows = slice(start, start + size)
            if self.kernel is None:
                yield rows, None
                continue
            used, place = np.unique(points.owner[rows], return_inverse=True)
            cross = self.kernel.cross([points.graphs[i] for i in used])
            yield rows, cross if np.all(np.diff(place) > 0) else cross[:, place]

    def path(self, k: int, rng: np.random.Generator) -> Path:
        """One function drawn from the posterior of quantity ``k``."""
        return Path(self, k, rng)


N_ANCHORS = 500


@dataclass
class Path:
    """A function drawn from a posterior, evaluated where it is asked for.

    Every new value is drawn given the observations and the values drawn before, so that all belong to one function. A
    conditional draw at m points given n costs (m + n)^3; so given the observations and the first values drawn, 500 of
    them, later ones are independent of each other unless they are asked for together (500 at a time).
    """

    surrogate: Surrogate
    k: int
    rng: np.random.Generator
    _anchors: list[tuple[LabelledGraph | None, np.ndarray]] = field(default_factory=list)
    _posterior: gp.Posterior | None = None
    _known: dict[tuple[LabelledGraph | None, bytes], float] = field(default_factory=dict)

    def __call__(self, points: Points) -> np.ndarray:
        """Values of the function, of shape (m,)."""
        keys = [(self._graph(points, i), points.z[i].tobytes()) for i in range(len(points))]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        for start in range(0, len(new), N_ANCHORS):
            part = new[start : start + N_ANCHORS]
            values = self._draw([graph for graph, _ in part], np.array([np.frombuffer(z) for _, z in part]))
            self._known.update(zip(part, values.tolist(), strict=True))
        result: np.ndarray = np.array([self._known[key] for key in keys]) + self.surrogate.prior_mean(points, self.k)
        return result

    @staticmethod
    def _graph(points: Points, i: int) -> LabelledGraph | None:
        return points.graphs[points.owner[i]] if points.graphs else None

    def _draw(self, graphs: list[LabelledGraph | None], z: np.ndarray) -> np.ndarray:
        posterior = self._posterior or self.surrogate.posteriors[self.k]
        cross, grams = self._grams(graphs)
        values: np.ndarray = posterior.sample(cross, grams, z, self.rng)[0]
        if len(self._anchors) < N_ANCHORS:
            n = N_ANCHORS - len(self._anchors)
            cross = None if cross is None else cross[:, :n]
            grams = None if grams is None else grams[:, :n, :n]
            self._posterior = posterior.fantasize(cross, grams, z[:n], values[:n], noise=gp.MINIMUM_NOISE)
            self._anchors += list(zip(graphs[:n], z[:n], strict=True))
        return values

    def _grams(self, graphs: list[LabelledGraph | None]) -> tuple[np.ndarray | None, np.ndarray | None]:
        kernel = self.surrogate.kernel
        if kernel is None:
            return None, None
        # Points share graphs: each is compared once.
        index: dict[LabelledGraph | None, int] = {}
        anchors = np.array([index.setdefault(graph, len(index)) for graph, _ in self._anchors], dtype=int)
        given = np.array([index.setdefault(graph, len(index)) for graph in graphs], dtype=int)
        distinct = [graph for graph in index if graph is not None]
        used, place = np.unique(given, return_inverse=True)
        observed = kernel.cross([distinct[i] for i in used])[:, place[:, None], self.surrogate.owners[self.k]]
        among = kernel.among(distinct)[:, given]
        return np.concatenate([observed, among[:, :, anchors]], axis=2), among[:, :, given]


def fit_surrogate(
    observed: Points,
    quantities: Sequence[Quantity],
    running: Points,
    is_categorical: np.ndarray,
    *,
    kernel: Any,
    deterministic: bool,
    rng: np.random.Generator,
) -> Surrogate:
    """Fit one Gaussian process per quantity, and condition each on what is running.

    A running point is taken to come out as predicted (the kriging believer of Ginsbourger et al., 2010), so that its
    neighbourhood is known but no better.

    Args:
        observed:
            Points with a value of any quantity.  # n of them
        quantities:
            What they are fitted to.
        running:
            Points without a value yet.
        is_categorical:
            Per entry of a vector, whether it is an index of a choice.  # (d,)
        kernel:
            The graph kernel.
        deterministic:
            Whether values have no noise.
        rng:
            Source of randomness.
    """
    # GraKeL is imported when the first kernel is fitted: that takes a second.
    from optuna_nas_morph.kernels import fit_kernel

    graphs = observed.graphs + running.graphs
    fitted = fit_kernel(kernel, graphs) if graphs else None
    new = (running.owner + len(observed.graphs)).astype(int)

    def grams(rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
        return None if fitted is None else fitted.grams[:, rows[:, None], columns[None, :]]

    posteriors: list[gp.Posterior] = []
    owners: list[np.ndarray] = []
    offsets: list[tuple[tuple[Mean, float], ...]] = []
    for quantity in quantities:
        old = observed.owner[quantity.rows].astype(int)
        z = observed.z[quantity.rows]
        known = Points(observed.graphs, observed.owner[quantity.rows], z)
        before = np.array([mean(known) for mean in quantity.means]).reshape(len(quantity.means), len(z))
        averages = before.mean(axis=1)
        posterior = gp.fit(
            grams(old, old),
            z,
            is_categorical,
            quantity.targets,
            deterministic=deterministic,
            rng=rng,
            means=before - averages[:, None],
        )
        if len(running):
            posterior = posterior.fantasize(grams(new, old), grams(new, new), running.z)
        posteriors.append(posterior)
        owners.append(np.concatenate([old, new]))
        offsets.append(tuple(zip(quantity.means, averages.tolist(), strict=True)))
    return Surrogate(tuple(posteriors), fitted, tuple(owners), tuple(offsets))
