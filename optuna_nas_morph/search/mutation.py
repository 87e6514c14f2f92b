"""Mutations of what is good (NAS-BOWL)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score, best_first
from optuna_nas_morph.search.checks import check_positive_integers
from optuna_nas_morph.search.walk import random_walk
from optuna_nas_morph.spaces import Space


@dataclass(frozen=True)
class MutationSearch:
    """Half of the pool are mutations of the best evaluated members, the other half random members.

    Ru, Wan, Dong and Osborne, Interpretable Neural Architecture Search via Bayesian Optimisation with Weisfeiler-Lehman
    Kernels, ICLR 2021, Section 3.2.

    Args:
        n_candidates:
            Size of the pool.
        n_best:
            Members that are mutated.
        max_edits:
            Edits at most between one of them and its mutation; each number is as likely.

    Raises:
        ValueError: If an argument is not a positive integer.
    """

    n_candidates: int = 200
    n_best: int = 10
    max_edits: int = 3

    def __post_init__(self) -> None:
        check_positive_integers(self, "n_candidates", "n_best", "max_edits")

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`."""
        best = roots[: self.n_best]
        pool: dict[str, Any] = {}
        for i in range(4 * self.n_candidates):
            if len(pool) == self.n_candidates:
                break
            if i % 2 and best:
                n_edits = int(rng.integers(1, self.max_edits + 1))
                member = random_walk(space, best[int(rng.integers(len(best)))], n_edits, rng)
            else:
                member = space.random(rng)
            pool.setdefault(member.fingerprint, member)
        members = list(pool.values())
        return best_first(score(members), members, is_new, len(members))
