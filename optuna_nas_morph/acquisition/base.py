"""What every acquisition function is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Acquisition(Protocol):
    """A function of the surrogate's belief about a candidate, to be maximised.

    Adding one is one file: a frozen dataclass with this method.
    """

    def __call__(
        self,
        mean: NDArray[np.float64],  # (m,)
        variance: NDArray[np.float64],  # (m,)
        best: float,
    ) -> NDArray[np.float64]:  # (m,)
        """Return the values of candidates, element by element.

        Args:
            mean:
                Predicted means of a value that is maximised.
            variance:
                Predicted variances without the noise of observations.
            best:
                Largest value observed so far, on the same scale.

        Returns:
            Finite for finite input and increasing in ``mean``.

        Raises:
            ValueError: If a variance is negative.
        """
        ...
