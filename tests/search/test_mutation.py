from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optuna_nas_morph.search import MutationSearch
from tests.search.contract import CELLS, CHAINS, MORPHS, Counted, SearchContract, anything, distance, generator

START = CHAINS.cell(dict.fromkeys(CHAINS.choices, "a"))
END = CHAINS.cell(dict.fromkeys(CHAINS.choices, "e"))


def pool(search: MutationSearch, roots: list[Any], space: Any = CHAINS) -> list[Any]:
    counted = Counted()
    search(space, roots, counted, anything, generator())
    assert len(counted.batches) == 1
    return counted.asked


class TestMutationSearch(SearchContract):
    search = MutationSearch(n_candidates=60)

    def test_half_of_the_pool_are_mutations(self):
        members = pool(MutationSearch(300, max_edits=2), [START])
        assert len(members) == 300
        # Of random members 2 % are as near.
        share = np.mean([distance(m, START) <= 2 for m in members])
        assert 0.35 < share < 0.55  # a few mutations are drawn twice

    def test_without_roots_all_are_random(self):
        members = pool(MutationSearch(300), [])
        assert len(members) == 300
        distances = np.bincount([distance(m, START) for m in members], minlength=7) / 300
        expected = [0.8**d * 0.2 ** (6 - d) * n for d, n in enumerate((1, 6, 15, 20, 15, 6, 1))]
        np.testing.assert_allclose(distances, expected, atol=0.09)

    @pytest.mark.parametrize("max_edits", [1, 2, 4])
    def test_mutations_are_so_many_edits_away(self, max_edits):
        members = pool(MutationSearch(40, max_edits=max_edits), [START])
        distances = [distance(m, START) for m in members]
        near = [d for d in distances if d <= max_edits]
        assert set(near) >= set(range(1, max_edits + 1))
        assert len(near) >= 12
        counts = np.bincount(distances, minlength=7)
        assert counts[max_edits + 1 : 4].sum() <= 6  # at random

    def test_only_the_best_are_mutated(self):
        members = pool(MutationSearch(200, n_best=1, max_edits=1), [START, END])
        assert sum(distance(m, START) <= 1 for m in members) > 15
        assert sum(distance(m, END) <= 1 for m in members) <= 2
        members = pool(MutationSearch(200, n_best=2, max_edits=1), [START, END])
        assert sum(distance(m, END) <= 1 for m in members) > 15

    @pytest.mark.parametrize("space", [CELLS, MORPHS])
    def test_a_small_space_is_gone_through(self, space):
        members = pool(MutationSearch(400), [space.first(generator())], space)
        prints = [m.fingerprint for m in members]
        everything = {m.fingerprint for m in space.members()}
        assert len(set(prints)) == len(prints)
        assert len(prints) > 0.9 * len(everything)


@pytest.mark.parametrize("name", ["n_candidates", "n_best", "max_edits"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_wrong_settings(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer but got {value}"):
        MutationSearch(**{name: value})
