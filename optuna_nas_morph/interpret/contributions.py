"""Contributions: a prediction as a sum over parts of an architecture."""

from __future__ import annotations

from typing import Any

import numpy as np

from optuna_nas_morph.interpret.effects import Feature
from optuna_nas_morph.interpret.model import Model
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.surrogate import Points


def contributions(model: Model, kernel: Any, points: Points) -> tuple[dict[Feature, float], list[float], float]:
    """The posterior mean at one point as a sum, on the surrogate's scale.

    The mean is linear in the similarities to the observed graphs (`optuna_nas_morph.gp.Posterior.coefficients`), and a
    Weisfeiler-Lehman similarity is a sum over features. Another kernel's is told level by level.

    Args:
        model:
            The surrogate.
        kernel:
            The graph kernel that it was fitted with.
        points:
            One point.

    Returns:
        The share of each feature; of each level of another kernel; and that of everything but the graph.
    """
    (posterior,), fitted = model.surrogate.posteriors, model.surrogate.kernel
    coefficients, rest = posterior.coefficients(points.z)
    if fitted is None:
        return {}, [], float(rest[0])
    (graph,) = points.graphs
    (owners,) = model.surrogate.owners
    if not isinstance(kernel, WeisfeilerLehman):
        levels = (coefficients[:, 0] * fitted.cross([graph])[:, 0, owners]).sum(axis=1)
        return {}, levels.tolist(), float(rest[0])
    shares: dict[Feature, float] = {}
    for level, of_level in enumerate(coefficients[:, 0]):
        shares.update(_shares(kernel, level, graph, model.graphs, of_level))
    return shares, [], float(rest[0])


def _shares(
    kernel: WeisfeilerLehman, level: int, graph: LabelledGraph, observed: list[LabelledGraph], coefficients: np.ndarray
) -> dict[Feature, float]:
    """The share of each feature of one level: a normalised similarity, feature by feature."""
    own = kernel.features(graph)[level]
    features, counts = list(own), np.array(list(own.values()), dtype=float)
    others = [kernel.features(other)[level] for other in observed]
    theirs = np.array([[other.get(feature, 0) for feature in features] for other in others], dtype=float)
    norms = np.array([_squared_norm(kernel, np.array(list(other.values()), dtype=float)) for other in others])
    weights = coefficients / np.sqrt(norms * _squared_norm(kernel, counts))
    totals = weights @ kernel.overlap(counts[None, :], theirs)
    return {(level, feature): float(total) for feature, total in zip(features, totals, strict=True)}


def _squared_norm(kernel: WeisfeilerLehman, counts: np.ndarray) -> float:
    return float(kernel.overlap(counts, counts).sum())
