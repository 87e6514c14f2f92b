"""From objective and constraint values to what Gaussian processes are fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def log_regret(column: np.ndarray) -> np.ndarray:
    """One objective, larger is better, on a scale that magnifies differences among good values.

    ``-log(top - value)``, standardised, where ``top`` lies above the best value by as much as the median lies below it:
    for an accuracy that is about ``-log(error)``, without knowing where the scale ends. Moved or stretched values give
    the same. Infinities and values far below the bulk are moved in first, see `standardise`.

    Args:
        column:
            Values, larger is better.  # (n,)

    Returns:
        Targets in the same order, with mean 0 and variance 1, or all 0 where the values do not differ.  # (n,)
    """
    targets = standardise(column)
    best = float(np.max(targets, initial=0.0))
    margin = best - float(np.median(targets)) if len(targets) else 0.0
    # Where half of the values are the best one, the median says nothing of the scale: it is 1, the standard deviation.
    return standardise(-np.log(best + (margin if margin > 1e-3 else 1.0) - targets))


def chebyshev(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Several objectives as one, by an augmented Chebyshev function with random weights (ParEGO, Knowles, 2006, eq. 2).

    Args:
        values:
            Objective values, larger is better.  # (n, k)
        rng:
            Source of the weights, drawn anew for every proposal.

    Returns:
        Targets with mean 0 and variance 1, or all 0 where the values do not differ.  # (n,)
    """
    columns = np.stack([standardise(column) for column in values.T], axis=1)
    span = np.ptp(columns, axis=0)
    unit = (columns - columns.min(axis=0)) / np.where(span > 0, span, 1.0)
    weights = rng.dirichlet(np.ones(columns.shape[1]))
    return standardise((weights * (unit - 1)).min(axis=1) + 0.05 * (weights * unit).sum(axis=1))


def standardise(column: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, of shape (n,).

    Infinities become the largest or the smallest finite value, and values far below the bulk (a diverged training) are
    moved to its lower fence.
    """
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


def feasibility(column: np.ndarray) -> tuple[np.ndarray, float]:
    """A constraint, turned so that larger is better, and standardised.

    Values are put on a symmetric logarithmic scale first, which leaves their sign alone: what counts is the border.
    Those far from it, infinities too, count as a thousand times the median: they must not make the others look equal.

    Args:
        column:
            Constraint values, feasible where not positive.  # (n,)

    Returns:
        Targets with mean 0 and variance 1 (all 0 where they do not differ), and where the border is on their scale.
    """
    sizes = np.abs(column)
    known = sizes[(sizes > 0) & np.isfinite(sizes)]
    scale = float(np.quantile(known, 0.5, method="lower")) if len(known) else 1.0
    with np.errstate(over="ignore"):
        logs = -np.sign(column) * np.log1p(np.minimum(sizes / scale, 1e3))
    mean, deviation = float(np.mean(logs)), float(np.std(logs))
    if deviation <= 1e-14:
        return np.zeros(len(column)), -mean
    return (logs - mean) / deviation, -mean / deviation


def extrapolate(curves: Sequence[Mapping[int, float]], finals: np.ndarray, is_partial: np.ndarray) -> np.ndarray:
    """What pruned trials would have come to: their last value and the median gain of the others from there on.

    Args:
        curves:
            Per trial, reported values by step.
        finals:
            Per trial, its value; for a pruned one the last that it reported.  # (n,)
        is_partial:
            Per trial, whether it was pruned.  # (n,)

    Returns:
        Values; where no finished trial has reported at the step of a pruned one, its last value.  # (n,)
    """
    result = np.array(finals, dtype=float)
    gains: dict[int, float] = {}
    for i in np.flatnonzero(is_partial).tolist():
        step = max(curves[i], default=-1)
        if step not in gains:
            pairs = [(finals[j], curve[step]) for j, curve in enumerate(curves) if not is_partial[j] and step in curve]
            # Python's numbers, as the sums may overflow: numpy's would warn.
            known = [gain for gain in (float(final) - float(value) for final, value in pairs) if math.isfinite(gain)]
            gains[step] = float(np.median(np.clip(known, -1e307, 1e307))) if known else 0.0
        result[i] = float(finals[i]) + gains[step]
    return result


def ranking(values: Sequence[tuple[float, ...] | None], signs: Sequence[float]) -> np.ndarray:
    """One number per observation by which the better ones come first: with several objectives, those on the front.

    Args:
        values:
            Objective values, or :obj:`None` where there are none: those come last.  # n of them
        signs:
            Per objective, 1 to maximise and -1 to minimise.

    Returns:
        Larger is better, finite where there are values.  # (n,)
    """
    result = np.full(len(values), -np.inf)
    rows = np.array([i for i, value in enumerate(values) if value is not None], dtype=int)
    if len(rows):
        signed = np.array([values[i] for i in rows], dtype=float) * signs
        columns = np.stack([standardise(column) for column in signed.T], axis=1)
        result[rows] = columns.mean(axis=1)
        if len(signs) > 1:
            result[rows[pareto_front(columns)]] += 1e3
    return result


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Which points no other point dominates; larger is better.

    Args:
        values:
            Objective values.  # (n, k)

    Returns:
        Booleans.  # (n,)
    """
    is_on_front = np.ones(len(values), dtype=bool)
    for i, value in enumerate(values):
        if is_on_front[i]:
            is_on_front &= ~(np.all(values <= value, axis=1) & np.any(values < value, axis=1))
    return is_on_front


def best_and_latest(targets: np.ndarray, n: int) -> np.ndarray:
    """Indices, in order, of at most ``n`` observations: the best half of ``n``, and the latest of the others."""
    if len(targets) <= n:
        return np.arange(len(targets))
    best = np.argsort(-targets, kind="stable")[: n // 2]
    rest = np.setdiff1d(np.arange(len(targets)), best)
    return np.sort(np.concatenate([best, rest[len(rest) - (n - len(best)) :]]))
