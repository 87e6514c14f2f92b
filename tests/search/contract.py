"""What holds for every search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.search import Search
from optuna_nas_morph.spaces import CellSpace, Descendant, MorphSpace, Space
from optuna_nas_morph.spaces.cells import graph_of_edge_operations
from tests.studies import MLP, MLP_MORPHISMS

OPERATIONS = ("none", "skip_connect", "conv", "pool")


def to_cell(choices: dict[str, str]) -> LabelledGraph:
    edges = {(0, 1): choices["0-1"], (0, 2): choices["0-2"], (1, 2): choices["1-2"]}
    return graph_of_edge_operations(edges, 3)


def to_chain(choices: dict[str, str]) -> LabelledGraph:
    n = len(choices)
    return LabelledGraph(tuple(choices.values()), tuple((i, i + 1) for i in range(n - 1)))


CELLS = CellSpace(dict.fromkeys(("0-1", "0-2", "1-2"), OPERATIONS), to_cell)
"""64 cells, some of which compute the same."""

CHAINS = CellSpace({str(i): tuple("abcde") for i in range(6)}, to_chain)
"""15,625 cells, all of which differ."""

WORDS = CellSpace({str(i): tuple("abcde") for i in range(4)}, to_chain)
"""625 cells, for studies that are to be quick."""

MORPHS = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=2)
"""Two steps from a small perceptron."""


def anything(_: Any) -> bool:
    return True


def nothing(_: Any) -> bool:
    return False


def number_of(member: Any) -> float:
    """A number between 0 and 1 that says nothing about neighbours."""
    return int(member.fingerprint[:8], 16) / 16**8


class Counted:
    """A score that remembers what it was asked, batch by batch."""

    def __init__(self, score: Callable[[Any], float] = number_of) -> None:
        self.score = score
        self.batches: list[list[Any]] = []

    def __call__(self, members: Sequence[Any]) -> np.ndarray:
        self.batches.append(list(members))
        return np.array([self.score(m) for m in members], dtype=float)

    @property
    def asked(self) -> list[Any]:
        return [member for batch in self.batches for member in batch]


def distance(a: Any, b: Any) -> int:
    """In how many choices two cells differ."""
    return sum(i != j for i, j in zip(a.indices, b.indices, strict=True))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class SearchContract:
    """Subclass, and set ``search`` to one that looks at a few hundred members at most."""

    search: Search

    @pytest.fixture(params=["cells", "morphs"])
    def space(self, request: pytest.FixtureRequest) -> Space[Any]:
        return CELLS if request.param == "cells" else MORPHS

    def find(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Callable[[Sequence[Any]], np.ndarray] | None = None,
        is_new: Callable[[Any], bool] = anything,
        seed: int = 0,
    ) -> list[tuple[float, Any]]:
        return self.search(space, roots, score or Counted(), is_new, generator(seed))

    def roots(self, space: Space[Any], n: int) -> list[Any]:
        """Distinct members that are no leaves."""
        found: dict[str, Any] = {}
        for member in space.members():
            if not space.is_leaf(member):
                found.setdefault(member.fingerprint, member)
            if len(found) == n:
                break
        return list(found.values())

    @pytest.mark.parametrize("n_roots", [0, 1, 3])
    def test_members_with_their_scores_the_best_first(self, space, n_roots):
        found = self.find(space, self.roots(space, n_roots))
        assert found or n_roots == 0
        for score, member in found:
            assert type(score) is float
            assert score == number_of(member)
            if isinstance(member, Descendant):
                assert space.replay(member.steps) == member.architecture
            else:
                assert member in set(space.members())
        scores = [score for score, _ in found]
        assert scores == sorted(scores, reverse=True)

    def test_only_what_is_new(self, space):
        def is_new(member: Any) -> bool:
            return int(member.fingerprint[-1], 16) % 2 == 0

        found = self.find(space, self.roots(space, 3), is_new=is_new)
        assert found
        assert all(is_new(member) for _, member in found)

    @pytest.mark.parametrize("n_roots", [0, 1])
    def test_nothing_new_is_left(self, space, n_roots):
        assert self.find(space, self.roots(space, n_roots), is_new=nothing) == []

    def test_only_the_generator_decides(self, space):
        roots = self.roots(space, 2)
        np.random.seed(1)  # noqa: NPY002
        first = self.find(space, roots)
        np.random.seed(2)  # noqa: NPY002
        assert self.find(space, roots) == first

    def test_arguments_are_not_changed(self, space):
        roots = self.roots(space, 3)
        before, description = list(roots), space.to_dict()
        self.find(space, roots)
        assert roots == before
        assert space.to_dict() == description
        assert self.find(space, tuple(roots)) == self.find(space, roots)

    @pytest.mark.parametrize("value", [-np.inf, np.inf, -1e308, 1e308, 0.0])
    def test_any_scores_will_do(self, space, value):
        def half(member: Any) -> float:
            return value if int(member.fingerprint[-1], 16) % 2 else -3.0

        with np.errstate(all="raise", under="ignore"):
            found = self.find(space, self.roots(space, 2), Counted(half))
        assert found
        assert found[0][0] == max(score for score, _ in found)

    def test_it_is_better_than_the_average(self, space):
        everything = [number_of(m) for m in space.members()]
        for seed in range(3):
            found = self.find(space, self.roots(space, 2), seed=seed)
            assert found[0][0] >= np.quantile(everything, 0.9)
