"""The upper confidence bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class UpperConfidenceBound:
    """Mean plus a multiple of the standard deviation, as in Auto-Keras (Jin, Song, Hu, KDD 2019, Section 3.2).

    Args:
        beta:
            The multiple. The default bounds a value from above with a probability of 99.5 %.

    Raises:
        ValueError: If ``beta`` is negative or not finite.
    """

    beta: float = 2.576

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta must be a finite non-negative number but got {self.beta}.")

    def __call__(
        self,
        mean: NDArray[np.float64],  # (m,)
        variance: NDArray[np.float64],  # (m,)
        best: float,
    ) -> NDArray[np.float64]:  # (m,)
        """Return ``mean + beta * sqrt(variance)``; ``best`` plays no part.

        Raises:
            ValueError: If a variance is negative.
        """
        if np.any(variance < 0):
            raise ValueError(f"variance must be non-negative but got {np.min(variance)}.")
        bound: NDArray[np.float64] = mean + self.beta * np.sqrt(variance)
        return bound
