"""What every search is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from optuna_nas_morph.spaces import Space

Score = Callable[[Sequence[Any]], np.ndarray]
"""Acquisition of each candidate, to be maximised; scored in batches."""


class Search(Protocol):
    """Finds members of a space with a large acquisition. Adding one is one file: a frozen dataclass with this."""

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search.

        Args:
            space:
                Where to search.
            roots:
                Evaluated members, the best first.
            score:
                The acquisition.
            is_new:
                Whether a member may be proposed.
            rng:
                Source of randomness.

        Returns:
            Members that may be proposed with their scores, the best first; empty where none was found.
        """
        ...


def best_first(
    scores: np.ndarray, members: Sequence[Any], is_new: Callable[[Any], bool], n: int
) -> list[tuple[float, Any]]:
    """The best of scored members that may be proposed, at most ``n``; whether they may is asked of no more."""
    found: list[tuple[float, Any]] = []
    for i in np.argsort(-scores, kind="stable"):
        if len(found) == n:
            break
        if is_new(members[i]):
            found.append((float(scores[i]), members[i]))
    return found
