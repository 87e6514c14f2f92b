"""From objective values to what the Gaussian process is fitted to."""

from __future__ import annotations

import numpy as np


def scalarise(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One standardised target per observation, larger is better.

    Infinities become the largest or the smallest finite value, and values far below the bulk (a diverged training) are
    moved to its lower fence. Several objectives are scalarised by an augmented Chebyshev function with random weights
    (ParEGO, Knowles, 2006, eq. 2), drawn anew for every proposal.

    Args:
        values:
            Objective values, larger is better.  # (n, k)
        rng:
            Source of the weights.

    Returns:
        Targets with mean 0 and variance 1, or all 0 where the values do not differ.  # (n,)
    """
    columns = np.stack([standardise(column) for column in values.T], axis=1)
    if columns.shape[1] == 1:
        return columns[:, 0]
    span = np.ptp(columns, axis=0)
    unit = (columns - columns.min(axis=0)) / np.where(span > 0, span, 1.0)
    weights = rng.dirichlet(np.ones(columns.shape[1]))
    return standardise((weights * (unit - 1)).min(axis=1) + 0.05 * (weights * unit).sum(axis=1))


def standardise(column: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, extremes moved in, of shape (n,)."""
    finite = column[np.isfinite(column)]
    if not len(finite):
        return np.zeros(len(column))
    # A power of two makes room, so that differences of values up to 1e308 do not overflow.
    column = np.clip(column, finite.min(), finite.max()) / 16
    low, high = np.quantile(column, [0.25, 0.75])
    if high > low:
        column = np.maximum(column, low - 3 * (high - low))
    # Scaled once the extremes are in: one diverged training must not make the others look equal.
    column = column / (float(np.max(np.abs(column))) or 1.0)
    centred: np.ndarray = column - np.mean(column)
    deviation = float(np.std(column))
    return centred / deviation if deviation > 1e-14 else np.zeros(len(column))


def best_and_latest(targets: np.ndarray, n: int) -> np.ndarray:
    """Indices, in order, of at most ``n`` observations: the best half of ``n``, and the latest of the others."""
    if len(targets) <= n:
        return np.arange(len(targets))
    best = np.argsort(-targets, kind="stable")[: n // 2]
    rest = np.setdiff1d(np.arange(len(targets)), best)
    return np.sort(np.concatenate([best, rest[len(rest) - (n - len(best)) :]]))
