"""Several searches in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score, Search
from optuna_nas_morph.spaces import Space


@dataclass(frozen=True)
class Mixture:
    """One of several searches, drawn for every proposal; where that one finds nothing new, the next.

    Args:
        searches:
            Each is as likely.

    Raises:
        ValueError: If there is none.
    """

    searches: tuple[Search, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "searches", tuple(self.searches))
        if not self.searches:
            raise ValueError("searches must hold at least one search but are empty.")
        for search in self.searches:
            if not callable(search):
                raise TypeError(f"searches must hold searches, such as TreeSearch(), but have {search!r}.")

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`."""
        for i in map(int, rng.permutation(len(self.searches))):
            found = self.searches[i](space, roots, score, is_new, rng)
            if found:
                return found
        return []
