"""Which search suits a space."""

from __future__ import annotations

from typing import Any

from optuna_nas_morph.search.at_random import RandomSearch
from optuna_nas_morph.search.base import Search
from optuna_nas_morph.search.exhaustive import ExhaustiveSearch
from optuna_nas_morph.search.mixture import Mixture
from optuna_nas_morph.search.neighbours import NeighbourSearch
from optuna_nas_morph.search.tree import TreeSearch
from optuna_nas_morph.spaces import Space

MAX_COVARIANCES = 6_000_000
"""Similarities between candidates and observations up to which all candidates are scored."""

TAKEN_BACK = 0.5
"""Share of the candidates in a tree that come of taking steps back, where nothing is lost by it."""


def default_search(space: Space[Any], n_covariances: int, *, inherits: bool = False) -> Search:
    """Tree search in an open space; in a closed one all members, or where those are too many, neighbours.

    Where children inherit the training of their ancestors, the tree only grows, as Auto-Keras's. Where every
    architecture is trained from scratch, half of its candidates come of taking steps back; and about every other
    proposal is the best of many architectures from all over the space, so that a search does not stay among the
    descendants of what it happened to find first.

    Args:
        space:
            Where to search.
        n_covariances:
            Similarities that scoring one member takes.
        inherits:
            Whether weights are inherited.
    """
    if space.size is None:
        return TreeSearch() if inherits else Mixture((TreeSearch(taken_back=TAKEN_BACK), RandomSearch()))
    return ExhaustiveSearch() if space.size * n_covariances <= MAX_COVARIANCES else NeighbourSearch()
