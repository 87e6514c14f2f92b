from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optuna_nas_morph.search import RandomSearch
from tests.search.contract import CELLS, CHAINS, MORPHS, Counted, SearchContract, anything, distance, generator

START = CHAINS.cell(dict.fromkeys(CHAINS.choices, "a"))


def pool(search: RandomSearch, roots: list[Any], space: Any = CHAINS) -> list[Any]:
    counted = Counted()
    search(space, roots, counted, anything, generator())
    assert len(counted.batches) == 1
    return counted.asked


class TestRandomSearch(SearchContract):
    search = RandomSearch(60)

    def test_members_are_random_wherever_the_roots_are(self):
        members = pool(RandomSearch(300), [START])
        assert len(members) == 300
        distances = np.bincount([distance(m, START) for m in members], minlength=7) / 300
        expected = [0.8**d * 0.2 ** (6 - d) * n for d, n in enumerate((1, 6, 15, 20, 15, 6, 1))]
        np.testing.assert_allclose(distances, expected, atol=0.09)
        assert members == pool(RandomSearch(300), [])

    @pytest.mark.parametrize("space", [CELLS, MORPHS])
    def test_a_small_space_is_gone_through(self, space):
        prints = [m.fingerprint for m in pool(RandomSearch(400), [], space)]
        everything = {m.fingerprint for m in space.members()}
        assert len(set(prints)) == len(prints)
        assert len(prints) > 0.9 * len(everything)


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_wrong_settings(value: Any) -> None:
    with pytest.raises(ValueError, match=f"n_candidates must be a positive integer but got {value}"):
        RandomSearch(value)
