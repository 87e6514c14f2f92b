"""Cosine normalisation of kernel matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cosine(
    raw: NDArray[np.float64],  # (m, n)
    row_diagonal: NDArray[np.float64],  # (m,)
    column_diagonal: NDArray[np.float64],  # (n,)
) -> NDArray[np.float64]:  # (m, n)
    """Divide by the square roots of the self-similarities: ``k(x, y) / sqrt(k(x, x) k(y, y))``.

    A graph without any feature (``k(x, x) = 0``, such as the empty graph) is like other graphs without any feature
    (similarity 1) and unlike all others (similarity 0): as if "no feature" were a feature. So the result is positive
    semi-definite where ``raw`` is, has a unit diagonal and is never NaN.

    Raises:
        ValueError: If a self-similarity is negative.
    """
    for diagonal in (row_diagonal, column_diagonal):
        if np.any(diagonal < 0):
            raise ValueError(f"Self-similarities must be non-negative but got {diagonal.min()}.")
    row_is_bare, column_is_bare = row_diagonal == 0, column_diagonal == 0
    similarity = raw / np.sqrt(np.where(row_is_bare, 1.0, row_diagonal))[:, None]
    similarity /= np.sqrt(np.where(column_is_bare, 1.0, column_diagonal))[None, :]
    similarity[np.ix_(row_is_bare, column_is_bare)] = 1.0
    return similarity
