"""The best of many random members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score, best_first
from optuna_nas_morph.search.checks import check_positive_integers
from optuna_nas_morph.spaces import Space


@dataclass(frozen=True)
class RandomSearch:
    """Scores members drawn from all over the space, wherever the evaluated ones are.

    In an open space they are all the architectures on random walks from the seed, so that each takes one step.

    Args:
        n_candidates:
            How many.

    Raises:
        ValueError: If an argument is not a positive integer.
    """

    n_candidates: int = 300

    def __post_init__(self) -> None:
        check_positive_integers(self, "n_candidates")

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`."""
        pool: dict[str, Any] = {}
        for _ in range(4 * self.n_candidates):  # A small space may not have so many.
            if len(pool) >= self.n_candidates:
                break
            for member in space.random_lineage(rng):
                pool.setdefault(member.fingerprint, member)
        members = list(pool.values())[: self.n_candidates]
        return best_first(score(members), members, is_new, len(members))
