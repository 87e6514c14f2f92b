"""Effects: what architectures with something are better by, on average, than those without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from optuna_nas_morph.interpret.explanation import Effect
from optuna_nas_morph.interpret.model import Model, Pool
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.kernels import WeisfeilerLehman

Feature = tuple[int, int]
"""A level of the Weisfeiler-Lehman test and a feature on it."""


def contrasts(mean: np.ndarray, covariance: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of weighted sums of values.

    A linear functional ``c^T f`` of a Gaussian process has mean ``c^T m`` and variance ``c^T S c`` (Rasmussen and
    Williams, 2006, (A.10)).

    Args:
        mean:
            Of the values.  # (m,)
        covariance:
            Of the values.  # (m, m)
        weights:
            One row per sum.  # (q, m)

    Returns:
        Of shape (q,), (q,).
    """
    variances = np.einsum("qm,qm->q", weights @ covariance, weights)
    return weights @ mean, np.sqrt(np.maximum(variances, 0.0))


def with_minus_without(has: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights of averages over members with something, minus averages over those without.

    Args:
        has:
            Per something, which members have it: some and not all.  # (q, m)
        weights:
            How much each member counts.  # (m,)

    Returns:
        Each row sums to 0.  # (q, m)
    """
    inside, outside = has * weights, ~has * weights
    rows: np.ndarray = inside / inside.sum(axis=1, keepdims=True) - outside / outside.sum(axis=1, keepdims=True)
    return rows


def sampling_variances(values: np.ndarray, has: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Variances of the differences of `with_minus_without` that come of having a sample of the members.

    Of a ratio estimator of a weighted mean, by linearisation (Cochran, Sampling Techniques, 1977, Section 2.11), for
    each of the two means. How far a few members are apart says little of the spread of those like them, one member's
    distance from itself nothing: so the spread of all members counts as one more member of each group.

    Args:
        values:
            Of the members.  # (m,)
        has:
            As in `with_minus_without`.  # (q, m)
        weights:
            As there.  # (m,)

    Returns:
        Of shape (q,).
    """
    total = np.zeros(len(has))
    spread = np.average((values - np.average(values, weights=weights)) ** 2, weights=weights)
    for group in (has, ~has):
        parts = group * weights / (group @ weights)[:, None]
        within = (parts**2 * (values - (parts @ values)[:, None]) ** 2).sum(axis=1)
        total += within + (parts**2).sum(axis=1) ** 2 * spread
    return total


def differences(model: Model, pool: Pool, has: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the effect of each thing that some members of a pool have, on the model's scale.

    Where the pool is a sample, what that leaves open is added to what the surrogate leaves open.

    Args:
        model:
            The surrogate.
        pool:
            What is averaged over.
        has:
            Which members have it: some and not all.  # (q, m)

    Returns:
        Of shape (q,), (q,).
    """
    mean, covariance = model.surrogate.joint(model.points(pool.members, pool.hyperparameters))
    means, deviations = contrasts(mean, covariance, with_minus_without(has, pool.weights))
    return means, np.sqrt(deviations**2 + (1 - pool.share) * sampling_variances(mean, has, pool.weights))


def effects_of(model: Model, pool: Pool, has: np.ndarray, level: float) -> list[Effect]:
    """Effect of each thing that some members of the pool have, by which of them have it (q, m)."""
    if not len(has):
        return []
    means, deviations = differences(model, pool, has)
    return [in_units(model, mean, deviation, level) for mean, deviation in zip(means, deviations, strict=True)]


def in_units(model: Model, mean: float, deviation: float, level: float, start: float | None = None) -> Effect:
    """A difference on the surrogate's scale as one in the user's units, from a value on.

    The scale of a single objective is not linear: what helps a good network by little helps a bad one by much. So a
    difference is told from where it starts, by default the median of the trials.
    """
    if start is None:
        start = float(model.scale.targets(model.sign * np.median(model.values, keepdims=True))[0])
    width = norm.ppf(0.5 + level / 2) * deviation
    ends = model.in_units(start + np.array([0.0, mean, mean - width, mean + width]))
    difference, *interval = (float(end - ends[0]) for end in ends[1:])
    return Effect(difference, min(interval), max(interval), bool(mean > 0))


def features_of(kernel: WeisfeilerLehman, graphs: Sequence[LabelledGraph]) -> dict[Feature, np.ndarray]:
    """Which graphs have each feature that any of them has, (n,) of bool."""
    found: dict[Feature, np.ndarray] = {}
    for i, graph in enumerate(graphs):
        for level, counts in enumerate(kernel.features(graph)):
            for feature in counts:
                found.setdefault((level, feature), np.zeros(len(graphs), dtype=bool))[i] = True
    return found
