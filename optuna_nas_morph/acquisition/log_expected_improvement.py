"""The logarithm of the expected improvement, computed stably."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_MINIMUM_VARIANCE = 1e-20  # below it a candidate counts as known to ten digits


@dataclass(frozen=True)
class LogExpectedImprovement:
    """``log E[max(y - best, 0)]`` for ``y ~ N(mean, variance)``.

    The maximiser is that of the expected improvement, but where the latter underflows to 0 its logarithm still ranks
    candidates. Ament et al., Unexpected Improvements to Expected Improvement for Bayesian Optimization, NeurIPS 2023
    (arXiv:2310.20708), Equations (8) and (9).
    """

    def __call__(
        self,
        mean: NDArray[np.float64],  # (m,)
        variance: NDArray[np.float64],  # (m,)
        best: float,
    ) -> NDArray[np.float64]:  # (m,)
        """Return ``log_h((mean - best) / sigma) + log(sigma)``, Equation (8).

        Raises:
            ValueError: If a variance is negative.
        """
        if np.any(variance < 0):
            raise ValueError(f"variance must be non-negative but got {np.min(variance)}.")
        sigma = np.sqrt(np.maximum(variance, _MINIMUM_VARIANCE))
        value: NDArray[np.float64] = log_h((mean - best) / sigma) + np.log(sigma)
        return value


def log_h(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``log(phi(z) + z Phi(z))``, the log expected improvement over 0 of ``N(z, 1)``.

    Equation (9), with the asymptote of its third case taken two terms further, so that it serves from -200 down, before
    the second case loses digits to cancellation.
    """
    # Imported when first used: scipy takes half a second, and not every import of this package ends in a proposal.
    from scipy.special import erfcx, ndtr

    z = np.asarray(z, dtype=np.float64)
    # Each case is computed on values inside its range only, others being replaced by the border.
    near, middle, far = np.maximum(z, -1.0), np.clip(z, -200.0, -1.0), np.minimum(z, -200.0)
    first = np.log(np.exp(-0.5 * near**2 - _LOG_SQRT_2PI) + near * ndtr(near))
    # h(z) = phi(z) (1 + z Phi(z) / phi(z)), where Phi(z) / phi(z) = sqrt(pi / 2) erfcx(-z / sqrt(2)).
    second = -0.5 * middle**2 - _LOG_SQRT_2PI + np.log1p(_SQRT_HALF_PI * middle * erfcx(-math.sqrt(0.5) * middle))
    # h(z) = phi(z) / z^2 (1 - 3 / z^2 + 15 / z^4 - ...), Abramowitz and Stegun (1964), 26.2.12.
    third = -0.5 * far**2 - _LOG_SQRT_2PI - 2 * np.log(-far) + np.log1p(-3 * far**-2.0 + 15 * far**-4.0)
    value: NDArray[np.float64] = np.where(z > -1.0, first, np.where(z > -200.0, second, third))
    return value
