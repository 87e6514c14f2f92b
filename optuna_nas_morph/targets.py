"""From objective and constraint values to what Gaussian processes are fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Standard:
    """Values moved and stretched to mean 0 and variance 1. Made by `Standard.of`.

    Infinities become the largest or the smallest finite value, and values far below the bulk (a diverged training) are
    moved to its lower fence.

    Attributes:
        low, high:
            Ends to which values are moved.
        unit:
            The largest absolute value, by which values are divided first: so nothing overflows.
        mean, deviation:
            Of the values in that unit; a deviation of 0 where they do not differ.
    """

    low: float
    high: float
    unit: float
    mean: float
    deviation: float

    @staticmethod
    def of(column: np.ndarray) -> Standard:
        """The scale of some values, of shape (n,)."""
        finite = column[np.isfinite(column)]
        if not len(finite):
            return Standard(0.0, 0.0, 1.0, 0.0, 0.0)
        low, high = float(finite.min()), float(finite.max())
        # A power of two makes room, so that differences of values up to 1e308 do not overflow.
        q1, q3 = np.quantile(np.clip(column, low, high) / 16, [0.25, 0.75])
        if q3 > q1:
            low = max(low, float(np.clip(q1 - 3 * (q3 - q1), low / 16, high / 16)) * 16)
        # Scaled once the extremes are in: one diverged training must not make the others look equal.
        inside = np.clip(column, low, high)
        unit = float(np.max(np.abs(inside))) or 1.0
        deviation = float(np.std(inside / unit))
        return Standard(low, high, unit, float(np.mean(inside / unit)), deviation if deviation > 1e-14 else 0.0)

    def targets(self, values: np.ndarray) -> np.ndarray:
        """Values on this scale, of shape (m,); those beyond the ends are at the ends."""
        if not self.deviation:
            return np.zeros(len(values))
        targets: np.ndarray = (np.clip(values, self.low, self.high) / self.unit - self.mean) / self.deviation
        return targets

    def values(self, targets: np.ndarray) -> np.ndarray:
        """Inverse of `targets`, of shape (m,)."""
        values: np.ndarray = (targets * self.deviation + self.mean) * self.unit
        return values


@dataclass(frozen=True)
class LogRegret:
    """A scale that magnifies differences among good values of one objective, larger is better. Made by `LogRegret.of`.

    ``-log(top - value)``, standardised, where ``top`` lies above the best value by as much as the median lies below it:
    for an accuracy that is about ``-log(error)``, without knowing where the scale ends. Moved or stretched values give
    the same. Infinities and values far below the bulk are moved in first, see `Standard`.

    Attributes:
        inner:
            The scale of the values.
        top:
            On that scale.
        outer:
            The scale of the logarithms.
    """

    inner: Standard
    top: float
    outer: Standard

    @staticmethod
    def of(column: np.ndarray) -> LogRegret:
        """The scale of some values, of shape (n,)."""
        inner = Standard.of(column)
        targets = inner.targets(column)
        best = float(np.max(targets, initial=0.0))
        margin = best - float(np.median(targets)) if len(targets) else 0.0
        # Where half of the values are the best one, the median says nothing of the scale: it is 1, the standard
        # deviation.
        top = best + (margin if margin > 1e-3 else 1.0)
        return LogRegret(inner, top, Standard.of(-np.log(top - targets)))

    def targets(self, values: np.ndarray) -> np.ndarray:
        """Values on this scale, of shape (m,); those beyond the ones it was made of are at their ends."""
        return self.outer.targets(-np.log(self.top - self.inner.targets(values)))

    def values(self, targets: np.ndarray) -> np.ndarray:
        """Inverse of `targets`, of shape (m,), also beyond the values that it was made of; below ``top``, always."""
        return self.inner.values(self.top - np.exp(-self.outer.values(targets)))


def log_regret(column: np.ndarray) -> np.ndarray:
    """Values on their `LogRegret` scale, in their order: mean 0 and variance 1, or all 0 where they do not differ."""
    return LogRegret.of(column).targets(column)


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
    """Values on their `Standard` scale: mean 0 and variance 1, or all 0 where they do not differ, of shape (n,)."""
    return Standard.of(column).targets(column)


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
        if len(signs) == 1:
            result[rows] = np.unique(signed[:, 0], return_inverse=True)[1]
            return result
        columns = np.stack([standardise(column) for column in signed.T], axis=1)
        result[rows] = columns.mean(axis=1)
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
