"""From observations to a belief about candidates: what the Gaussian process is given, and what it answers.

A point is a graph (if the study has a space) and a vector: hyperparameters in the unit cube, sizes of the architecture
on a logarithmic scale, and the training behind its weights. Candidates are predicted at one reference training, so that
an old lineage is not mistaken for a good architecture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optuna_nas_morph import gp
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.space import Descendant, MorphSpace

if TYPE_CHECKING:
    from optuna_nas_morph.kernels import FittedKernel


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


def size_features(space: MorphSpace, descendant: Descendant) -> list[float]:
    """Logarithms of parameters, operations and nodes relative to the seed and the limits of the space: 0 to 1."""

    def scale(value: int, low: int, high: int) -> float:
        return math.log(max(1, value) / max(1, low)) / math.log(2 * max(1, high) / max(1, low))

    a, seed = descendant.architecture, space.seed
    return [
        scale(a.n_parameters, seed.n_parameters, space.max_parameters),
        scale(a.flops, seed.flops, space.max_flops),
        scale(len(a.nodes), len(seed.nodes), space.max_nodes),
    ]


def training_feature(epochs: float | None) -> float:
    """Effective epochs on a logarithmic scale; 0 where nothing is known."""
    return math.log1p(epochs or 0.0) / math.log(1000.0)


@dataclass(frozen=True)
class Surrogate:
    """A fitted surrogate.

    Attributes:
        posterior:
            The Gaussian process given the observations, and fantasies for what is running.
        best:
            The value to improve on, standardised.
        kernel:
            The graph kernel fitted to the observed graphs; :obj:`None` in a study without a space.
        train_owner:
            Per point of the posterior, the index of its graph in the kernel.  # (n,)
    """

    posterior: gp.Posterior
    best: float
    kernel: FittedKernel | None
    train_owner: np.ndarray

    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the latent value of each point, standardised, larger is better, of shape (m,), (m,)."""
        cross = None
        if self.kernel is not None:
            cross = self.kernel.cross(points.graphs)[:, :, self.train_owner][:, points.owner, :]
        return self.posterior.predict(cross, points.z)


def fit_surrogate(
    observed: Points,
    y: np.ndarray,
    running: Points,
    reference: np.ndarray,
    is_categorical: np.ndarray,
    *,
    kernel: Any,
    deterministic: bool,
    rng: np.random.Generator,
) -> Surrogate:
    """Fit the surrogate to observed values, and condition it on what is running.

    A running point is taken to come out as predicted (the kriging believer of Ginsbourger et al., 2010), so that its
    neighbourhood is known but no better.

    Args:
        observed:
            Points with a value.  # n of them
        y:
            Their values, larger is better, standardised.  # (n,)
        running:
            Points without a value yet.
        reference:
            The observed points' vectors at the reference training.  # (n, d)
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
    owner = np.concatenate([observed.owner, running.owner + len(observed.graphs)]).astype(int)
    n = len(y)

    def grams(rows: slice, columns: slice) -> np.ndarray | None:
        return None if fitted is None else fitted.grams[:, owner[rows]][:, :, owner[columns]]

    old, new = slice(0, n), slice(n, None)
    posterior = gp.fit(grams(old, old), observed.z, is_categorical, y, deterministic=deterministic, rng=rng)
    # With equal training everywhere the best observed value is the mark; else the best that would be seen at the
    # reference training.
    if np.allclose(reference, observed.z):
        best = float(np.max(y))
    else:
        best = float(np.max(posterior.predict(grams(old, old), reference)[0]))
    if len(running.z):
        posterior = posterior.fantasize(grams(new, old), grams(new, new), running.z)
    return Surrogate(posterior, best, fitted, owner)
