"""Which search suits a space."""

from __future__ import annotations

from typing import Any

from optuna_nas_morph.search.base import Search
from optuna_nas_morph.search.exhaustive import ExhaustiveSearch
from optuna_nas_morph.search.neighbours import NeighbourSearch
from optuna_nas_morph.search.tree import TreeSearch
from optuna_nas_morph.spaces import Space

MAX_COVARIANCES = 6_000_000
"""Similarities between candidates and observations up to which all candidates are scored."""


def default_search(space: Space[Any], n_covariances: int) -> Search:
    """Tree search in an open space; in a closed one all members, or where those are too many, neighbours.

    Args:
        space:
            Where to search.
        n_covariances:
            Similarities that scoring one member takes.
    """
    if space.size is None:
        return TreeSearch()
    return ExhaustiveSearch() if space.size * n_covariances <= MAX_COVARIANCES else NeighbourSearch()
