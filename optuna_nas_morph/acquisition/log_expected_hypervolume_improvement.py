"""The logarithm of the expected hypervolume improvement, exact."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from optuna_nas_morph.acquisition.log_expected_improvement import log_h

_MINIMUM_VARIANCE = 1e-20


@dataclass(frozen=True)
class LogExpectedHypervolumeImprovement:
    """``log E[HV(front + y) - HV(front)]`` for independent ``y_k ~ N(mean_k, variance_k)``, all to be maximised.

    What is not dominated by the front is cut into boxes; the expected volume that a point adds to one of them is a
    product of expected improvements, Yang et al., Multi-Objective Bayesian Global Optimization using Expected
    Hypervolume Improvement Gradient, Swarm and Evolutionary Computation 44 (2019), Equation (12). Summed on a
    logarithmic scale, so that candidates are ranked where the value itself would underflow.
    """

    def __call__(
        self,
        mean: NDArray[np.float64],  # (k, m)
        variance: NDArray[np.float64],  # (k, m)
        lower: NDArray[np.float64],  # (b, k)
        upper: NDArray[np.float64],  # (b, k)
    ) -> NDArray[np.float64]:  # (m,)
        """Return the values of candidates.

        Args:
            mean:
                Predicted means, per objective.
            variance:
                Predicted variances, per objective.
            lower:
                Lower corners of the boxes, see :func:`non_dominated_boxes`.
            upper:
                Upper corners; infinity where a box is open.

        Raises:
            ValueError: If a variance is negative.
        """
        if np.any(variance < 0):
            raise ValueError(f"variance must be non-negative but got {np.min(variance)}.")
        sigma = np.sqrt(np.maximum(variance, _MINIMUM_VARIANCE))
        # The logarithm of the expected improvement over each border that boxes have, computed once.
        above = [
            {level: log_h((mean[k] - level) / sigma[k]) + np.log(sigma[k]) for level in _borders(lower, upper, k)}
            for k in range(len(mean))
        ]
        total = np.full(mean.shape[1], -np.inf)
        for low, high in zip(lower, upper, strict=True):
            total = np.logaddexp(total, sum(_log_part(above[k], low[k], high[k]) for k in range(len(mean))))
        return total


def _borders(lower: NDArray[np.float64], upper: NDArray[np.float64], k: int) -> list[float]:
    both = np.concatenate([lower[:, k], upper[:, k]])
    return [float(level) for level in np.unique(both[np.isfinite(both)])]


def _log_part(above: dict[float, NDArray[np.float64]], low: float, high: float) -> NDArray[np.float64]:  # (m,)
    """Return ``log E[min(max(y - low, 0), high - low)]``, the difference of two expected improvements."""
    if np.isinf(high):
        return above[low]
    share = np.exp(np.minimum(above[high] - above[low], 0.0))
    value: NDArray[np.float64] = above[low] + np.log1p(-np.minimum(share, 1 - 1e-16))
    return value


def non_dominated_boxes(
    front: NDArray[np.float64],  # (p, k)
    reference: NDArray[np.float64],  # (k,)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (b, k), (b, k)
    """Cut what no point of a front dominates, above a reference point, into disjoint boxes.

    A dimension at a time: between two neighbouring values of the last objective, only those points matter that reach
    as high, so that what is left is the same problem with an objective less.

    Args:
        front:
            Values to be maximised. Points that others dominate, or that are not above the reference, do not matter.
        reference:
            What a point has to exceed in every objective.
    """
    front = np.unique(front[np.all(front > reference, axis=1)], axis=0)
    if len(reference) == 1:
        low = max([*front[:, 0], reference[0]])
        return np.array([[low]]), np.array([[np.inf]])
    levels = [float(reference[-1]), *np.unique(front[:, -1]).tolist(), np.inf]
    lowers, uppers = [], []
    for low, high in pairwise(levels):
        inner_lower, inner_upper = non_dominated_boxes(front[front[:, -1] >= high][:, :-1], reference[:-1])
        lowers.append(np.column_stack([inner_lower, np.full(len(inner_lower), low)]))
        uppers.append(np.column_stack([inner_upper, np.full(len(inner_upper), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)


def reference_point(values: NDArray[np.float64]) -> NDArray[np.float64]:  # (n, k) -> (k,)
    """A point a tenth of the extent of observed values below the worst of them, so that the ends of the front count."""
    worst, best = values.min(axis=0), values.max(axis=0)
    extent = np.where(best > worst, best - worst, 1.0)
    reference: NDArray[np.float64] = worst - 0.1 * extent
    return reference
