from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optuna_nas_morph.search import Mixture, NeighbourSearch, RandomSearch, Score
from tests.search.contract import CHAINS, Counted, SearchContract, anything, generator


@dataclass(frozen=True)
class Fixed:
    """Finds what it is told."""

    found: tuple[tuple[float, Any], ...]

    def __call__(
        self, space: Any, roots: Sequence[Any], score: Score, is_new: Callable[[Any], bool], rng: np.random.Generator
    ) -> list[tuple[float, Any]]:
        return list(self.found)


MEMBERS = [CHAINS.random(generator(i)) for i in range(3)]
A, B, C = (Fixed(((float(i), member),)) for i, member in enumerate(MEMBERS))


class TestMixture(SearchContract):
    search = Mixture((NeighbourSearch(n_random=50), RandomSearch(60)))

    def test_each_search_is_as_likely(self):
        rng = generator()
        drawn = [Mixture((A, B, C))(CHAINS, [], Counted(), anything, rng)[0][0] for _ in range(900)]
        np.testing.assert_allclose(np.bincount(np.array(drawn, dtype=int)), 300, atol=60)

    def test_where_one_finds_nothing_the_next_is_asked(self):
        nothing = Fixed(())
        for seed in range(10):
            search = Mixture((nothing, A, nothing))
            assert search(CHAINS, [], Counted(), anything, generator(seed)) == list(A.found)
        assert Mixture((nothing, nothing))(CHAINS, [], Counted(), anything, generator()) == []


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="searches must hold at least one search"):
        Mixture(())
    with pytest.raises(TypeError, match="searches must hold searches, such as TreeSearch\\(\\), but have 'tree'"):
        Mixture((A, "tree"))  # type: ignore[arg-type]
