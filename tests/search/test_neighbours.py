from __future__ import annotations

from typing import Any

import pytest

from optuna_nas_morph.search import NeighbourSearch
from optuna_nas_morph.search.neighbours import N_BEST
from tests.search.contract import CHAINS, MORPHS, Counted, SearchContract, anything, distance, generator

START = CHAINS.cell(dict.fromkeys(CHAINS.choices, "a"))


def like(word: str) -> Any:
    """A score: how many choices are as in a word."""
    target = CHAINS.cell({str(i): letter for i, letter in enumerate(word)})
    return lambda cell: -float(distance(cell, target))


class TestNeighbourSearch(SearchContract):
    search = NeighbourSearch(n_best=5, n_random=60)

    def test_all_neighbours_of_the_best_are_scored(self):
        roots = [CHAINS.random(generator(seed)) for seed in range(6)]
        counted = Counted()
        NeighbourSearch(n_best=3, n_random=1, n_rounds=1)(CHAINS, roots, counted, anything, generator())
        expected = {child for root in roots[:3] for child in CHAINS.children(root)}
        asked = set(counted.asked)
        assert expected <= asked
        assert len(asked - expected) <= 1  # the random member
        counted = Counted()
        NeighbourSearch(n_random=1, n_rounds=1)(MORPHS, [MORPHS.first()], counted, anything, generator())
        assert set(MORPHS.children(MORPHS.first())) <= set(counted.asked)

    def test_random_members_are_scored_too(self):
        counted = Counted()
        NeighbourSearch(n_random=50, n_rounds=1)(CHAINS, [START], counted, anything, generator())
        assert 45 <= sum(distance(cell, START) > 1 for cell in counted.asked) <= 50

    def test_nothing_is_scored_twice(self):
        counted = Counted()
        self.find(CHAINS, [START], counted)
        assert len(set(counted.asked)) == len(counted.asked)

    @pytest.mark.parametrize("n_rounds", [1, 2, 3, 4])
    def test_it_climbs_one_edit_in_each_round(self, n_rounds):
        search = NeighbourSearch(n_best=3, n_random=1, n_rounds=n_rounds)
        found = search(CHAINS, [START], Counted(like("aaeeee")), anything, generator())
        assert found[0][0] == -4 + n_rounds
        assert distance(found[0][1], START) == n_rounds

    def test_what_is_not_new_is_not_found_but_leads_on(self):
        search = NeighbourSearch(n_best=3, n_random=1, n_rounds=3)
        found = search(CHAINS, [START], Counted(like("aaeeee")), lambda cell: distance(cell, START) == 3, generator())
        assert found[0][0] == -1

    def test_from_the_top_it_goes_on_with_the_second_best(self):
        counted = Counted(like("aaaaab"))
        NeighbourSearch(n_best=1, n_random=1, n_rounds=50)(CHAINS, [START], counted, anything, generator())
        # The neighbours of the start, of the best of them, which is the top, and of the next.
        _, second, third = (set(batch) for batch in counted.batches)
        top = CHAINS.cell(dict(zip(CHAINS.choices, "aaaaab", strict=True)))
        assert second <= set(CHAINS.children(top))
        assert not third & set(CHAINS.children(top))

    def test_at_most_so_many_are_returned(self):
        assert len(NeighbourSearch(n_random=500)(CHAINS, [START], Counted(), anything, generator())) == N_BEST


@pytest.mark.parametrize("name", ["n_best", "n_random", "n_rounds"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_wrong_settings(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer but got {value}"):
        NeighbourSearch(**{name: value})
