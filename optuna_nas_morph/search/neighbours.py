"""Look at everything one edit away from what is good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score, best_first
from optuna_nas_morph.search.checks import check_positive_integers
from optuna_nas_morph.spaces import Space

N_BEST = 100
"""Members that are returned."""


@dataclass(frozen=True)
class NeighbourSearch:
    """Scores all one-edit neighbours of the best evaluated members and random members, then climbs.

    The members with the best scores so far are expanded in the same way, round by round, as in local search for
    Bayesian optimisation over architectures (White, Neiswanger and Savani, BANANAS, AAAI 2021).

    Args:
        n_best:
            Members whose neighbours are scored, in each round.
        n_random:
            Random members that are scored at the start.
        n_rounds:
            Rounds.

    Raises:
        ValueError: If an argument is not a positive integer.
    """

    n_best: int = 10
    n_random: int = 500
    n_rounds: int = 3

    def __post_init__(self) -> None:
        check_positive_integers(self, "n_best", "n_random", "n_rounds")

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`."""
        known: set[Any] = set()
        members: list[Any] = []
        scores = np.empty(0)
        expanded: set[int] = set()
        batch = [space.random(rng) for _ in range(self.n_random)]
        parents = list(roots[: self.n_best])
        for _ in range(self.n_rounds):
            batch += [child for parent in parents for child in space.children(parent)]
            batch = [m for m in dict.fromkeys(batch) if m not in known]
            known.update(batch)
            members += batch
            scores = np.concatenate([scores, score(batch)]) if batch else scores
            top = [i for i in np.argsort(-scores, kind="stable")[: 2 * self.n_best].tolist() if i not in expanded]
            expanded.update(top[: self.n_best])
            parents, batch = [members[i] for i in top[: self.n_best]], []
        return best_first(scores, members, is_new, N_BEST)
