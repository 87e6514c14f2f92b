"""How likely a candidate keeps to a constraint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_probability_of_feasibility(
    mean: NDArray[np.float64],  # (m,)
    variance: NDArray[np.float64],  # (m,)
    border: float,
) -> NDArray[np.float64]:  # (m,)
    """Return ``log P(g >= border)`` for ``g ~ N(mean, variance)``.

    Added to the logarithm of an expected improvement it gives that of the constrained expected improvement of Gardner
    et al., Bayesian Optimization with Inequality Constraints, ICML 2014, Equation (5).

    Raises:
        ValueError: If a variance is negative.
    """
    # Imported when first used: scipy takes half a second, and not every import of this package ends in a proposal.
    from scipy.special import log_ndtr

    if np.any(variance < 0):
        raise ValueError(f"variance must be non-negative but got {np.min(variance)}.")
    value: NDArray[np.float64] = log_ndtr((mean - border) / np.sqrt(np.maximum(variance, 1e-20)))
    return value
