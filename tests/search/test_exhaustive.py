from __future__ import annotations

import pytest

from optuna_nas_morph.search import ExhaustiveSearch
from optuna_nas_morph.search.exhaustive import N_BEST
from tests.search.contract import CELLS, CHAINS, MORPHS, Counted, SearchContract, anything, generator, number_of


class TestExhaustiveSearch(SearchContract):
    search = ExhaustiveSearch()

    @pytest.fixture
    def space(self):
        return CELLS

    def test_the_best_of_all_is_found_always(self):
        everything = sorted(map(number_of, CHAINS.members()), reverse=True)
        for roots in ([], [next(CHAINS.members())]):
            found = self.find(CHAINS, roots)
            assert [score for score, _ in found] == everything[:N_BEST]

    def test_the_best_that_is_new_is_found_always(self):
        best = {member.fingerprint for _, member in self.find(CHAINS, [])}
        left = sorted((number_of(m) for m in CHAINS.members() if m.fingerprint not in best), reverse=True)
        found = self.find(CHAINS, [], is_new=lambda m: m.fingerprint not in best)
        assert [score for score, _ in found] == left[:N_BEST]

    def test_the_last_that_is_left_is_found(self):
        for left in list(CELLS.members())[::7]:
            assert self.find(CELLS, [], is_new=lambda m, left=left: m == left) == [(number_of(left), left)]

    def test_every_member_is_scored_once_at_once(self):
        counted = Counted()
        self.find(CELLS, self.roots(CELLS, 3), counted)
        assert counted.batches == [list(CELLS.members())]

    def test_whether_members_are_new_is_asked_of_no_more_than_are_returned(self):
        asked: list[object] = []
        found = self.find(CHAINS, [], is_new=lambda m: not asked.append(m))
        assert asked == [member for _, member in found]

    def test_open_spaces_are_refused(self):
        with pytest.raises(ValueError, match="ExhaustiveSearch needs a closed space, such as a CellSpace"):
            self.search(MORPHS, [], Counted(), anything, generator())
