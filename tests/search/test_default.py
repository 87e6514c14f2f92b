from __future__ import annotations

import pytest

from optuna_nas_morph.search import ExhaustiveSearch, Mixture, NeighbourSearch, RandomSearch, TreeSearch, default_search
from tests.search.contract import CELLS, CHAINS, MORPHS


@pytest.mark.parametrize("n_observations", [0, 1, 10**6])
def test_open_spaces_are_searched_as_trees_and_at_random(n_observations: int) -> None:
    assert default_search(MORPHS, n_observations) == Mixture((TreeSearch(taken_back=0.5), RandomSearch()))
    # What is taken back would be lost where it is inherited.
    assert default_search(MORPHS, n_observations, inherits=True) == TreeSearch()


def test_closed_spaces_are_looked_at_as_far_as_that_is_quick() -> None:
    assert default_search(CHAINS, 1) == ExhaustiveSearch()
    assert default_search(CHAINS, 6_000_000 // 5**6) == ExhaustiveSearch()
    assert default_search(CHAINS, 6_000_000 // 5**6 + 1) == NeighbourSearch()
    assert default_search(CELLS, 10_000) == ExhaustiveSearch()
