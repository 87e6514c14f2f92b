"""Look at every member of a closed space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score, best_first
from optuna_nas_morph.spaces import Space

N_BEST = 100
"""Members that are returned."""


@dataclass(frozen=True)
class ExhaustiveSearch:
    """Scores all. For spaces of up to some ten thousand members."""

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`.

        Raises:
            ValueError: If the space has no end.
        """
        if space.size is None:
            raise ValueError("ExhaustiveSearch needs a closed space, such as a CellSpace, but got an open one.")
        members = list(space.members())
        return best_first(score(members), members, is_new, N_BEST)
