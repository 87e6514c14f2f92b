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

TAKEN_BACK = 0.5
"""Share of the candidates that come of taking steps back, where nothing is lost by it."""


def default_search(space: Space[Any], n_covariances: int, *, inherits: bool = False) -> Search:
    """Tree search in an open space; in a closed one all members, or where those are too many, neighbours.

    Where children inherit the training of their ancestors, the tree only grows, as Auto-Keras's; where every
    architecture is trained from scratch, half of the candidates come of taking steps back.

    Args:
        space:
            Where to search.
        n_covariances:
            Similarities that scoring one member takes.
        inherits:
            Whether weights are inherited.
    """
    if space.size is None:
        return TreeSearch(taken_back=0.0 if inherits else TAKEN_BACK)
    return ExhaustiveSearch() if space.size * n_covariances <= MAX_COVARIANCES else NeighbourSearch()
