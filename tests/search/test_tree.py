"""Tree search and random walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from optuna_nas_morph.search import TreeSearch, random_walk
from optuna_nas_morph.spaces import Descendant, MorphSpace
from tests.search.contract import SearchContract
from tests.studies import CNN, CNN_MORPHISMS, MLP, MLP_MORPHISMS, SPACE

DEEP = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=8)
DEEP_CNN = MorphSpace(CNN, CNN_MORPHISMS, max_morphisms=8)


def anything(_: Descendant) -> bool:
    return True


class Counted:
    """A score that remembers what it was asked."""

    def __init__(self, score: Callable[[Descendant], float]) -> None:
        self.score = score
        self.asked: list[Descendant] = []

    def __call__(self, descendants: Sequence[Descendant]) -> np.ndarray:
        self.asked += descendants
        return np.array([self.score(d) for d in descendants], dtype=float)


def seed_of(space: MorphSpace) -> Descendant:
    return Descendant((), space.seed)


def near_400_parameters(d: Descendant) -> float:
    return -abs(np.log(d.architecture.n_parameters / 400))


def near_20000_parameters(d: Descendant) -> float:
    return -abs(np.log(d.architecture.n_parameters / 20000))


def many_linear_layers(d: Descendant) -> float:
    return float(sum(type(n.op).__name__ == "Linear" for n in d.architecture.nodes))


def sums_without_concatenations(d: Descendant) -> float:
    names = [type(n.op).__name__ for n in d.architecture.nodes]
    return names.count("Add") - 0.5 * names.count("Concat") - 0.01 * len(names)


class TestTreeSearch(SearchContract):
    search = TreeSearch(n_candidates=200)


SCORES = [near_20000_parameters, many_linear_layers, sums_without_concatenations]


@pytest.mark.parametrize("score", SCORES)
def test_it_is_better_than_as_many_random_walks(score: Callable[[Descendant], float]) -> None:
    n, wins = 60, 0
    search = TreeSearch(n_candidates=n, n_children=10, max_steps=8)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        counted = Counted(score)
        found = search(DEEP, [seed_of(DEEP)], counted, anything, rng)
        walks = [random_walk(DEEP, seed_of(DEEP), int(rng.integers(1, 9)), rng) for _ in range(len(counted.asked))]
        ours, theirs = found[0][0], max(map(score, walks))
        wins += ours > theirs
    assert wins >= 4


def test_it_finds_the_planted_optimum_of_a_small_space() -> None:
    # The best of all architectures within two steps, found by going through them all.
    space = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=2)
    everything = [seed_of(space)]
    for d in everything:
        if len(d.steps) < 2:
            everything += [Descendant((*d.steps, step), a) for step, a in space.steps_from(d.architecture)]
    target = max(everything, key=near_400_parameters).architecture.n_parameters
    for seed in range(5):
        found = TreeSearch(800)(space, [seed_of(space)], Counted(near_400_parameters), anything, _rng(seed))
        assert found[0][1].architecture.n_parameters == target


def test_what_is_found_is_distinct_scored_right_and_sorted() -> None:
    counted = Counted(near_400_parameters)
    found = TreeSearch(50)(DEEP_CNN, [seed_of(DEEP_CNN)], counted, anything, _rng(0))
    prints = [d.architecture.fingerprint for _, d in found]
    assert len(set(prints)) == len(prints) >= 40
    assert seed_of(DEEP_CNN).architecture.fingerprint not in prints
    assert [s for s, _ in found] == sorted((near_400_parameters(d) for _, d in found), reverse=True)
    for s, d in found:
        assert s == near_400_parameters(d)
        assert DEEP_CNN.replay(d.steps) == d.architecture


def test_each_architecture_is_scored_once_and_not_many_more_than_asked_for() -> None:
    counted = Counted(near_400_parameters)
    roots = [seed_of(DEEP), random_walk(DEEP, seed_of(DEEP), 3, _rng(5))]
    TreeSearch(n_candidates=40, n_children=10)(DEEP, roots, counted, anything, _rng(0))
    prints = [d.architecture.fingerprint for d in counted.asked]
    assert len(set(prints)) == len(prints)
    assert 40 + 2 <= len(prints) < 40 + 2 + 10


def test_what_is_not_new_is_not_found_but_leads_on() -> None:
    space = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=2)
    found = TreeSearch(200)(space, [seed_of(space)], Counted(near_400_parameters), lambda d: len(d.steps) == 2, _rng(0))
    assert found
    assert all(len(d.steps) == 2 for _, d in found)
    assert TreeSearch(30)(space, [seed_of(space)], Counted(near_400_parameters), lambda _: False, _rng(0)) == []


def test_roots_are_never_found_and_no_children_is_no_error() -> None:
    one_step = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=1)
    roots = [seed_of(one_step), *one_step.children(seed_of(one_step))]
    assert TreeSearch(30)(one_step, roots, Counted(near_400_parameters), anything, _rng(0)) == []
    assert TreeSearch(30)(one_step, [], Counted(near_400_parameters), anything, _rng(0)) == []


def test_limits_are_kept() -> None:
    space = MorphSpace(MLP, MLP_MORPHISMS, 6, max_parameters=120, max_flops=230, max_nodes=11)
    found = TreeSearch(100)(space, [seed_of(space)], Counted(lambda d: d.architecture.flops), anything, _rng(0))
    assert found
    assert max(d.architecture.n_parameters for _, d in found) <= 120
    assert max(d.architecture.flops for _, d in found) <= 230
    assert max(len(d.architecture.nodes) for _, d in found) <= 11
    assert max(len(d.steps) for _, d in found) <= 6


@pytest.mark.parametrize("taken_back", [0.0, 0.5])
@pytest.mark.parametrize("max_steps", [1, 2])
def test_candidates_are_at_most_so_many_steps_from_a_root(max_steps: int, taken_back: float) -> None:
    root = random_walk(DEEP, seed_of(DEEP), 3, _rng(1))
    search = TreeSearch(100, max_steps=max_steps, taken_back=taken_back)
    found = search(DEEP, [root], Counted(many_linear_layers), anything, _rng(0))
    lengths = {len(d.steps) - len(root.steps) for _, d in found}
    assert lengths >= set(range(1, max_steps + 1))
    assert max(lengths) == max_steps
    assert (min(lengths) < 0) == (taken_back > 0)


def test_nothing_within_reach_is_missed_in_a_small_space() -> None:
    one_step = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=1)
    children = {a.fingerprint for _, a in one_step.steps_from(MLP)} - {MLP.fingerprint}
    assert len(children) > 8
    for left in children:  # all but one have been tried
        found = TreeSearch(100)(
            one_step,
            [seed_of(one_step)],
            Counted(near_400_parameters),
            lambda d, left=left: d.architecture.fingerprint == left,
            _rng(0),
        )
        assert [d.architecture.fingerprint for _, d in found] == [left]


def test_only_the_generator_decides() -> None:
    def run(seed: int) -> list[tuple[float, str]]:
        found = TreeSearch(40)(DEEP, [seed_of(DEEP)], Counted(near_400_parameters), anything, _rng(seed))
        return [(s, d.architecture.fingerprint) for s, d in found]

    np.random.seed(1)  # noqa: NPY002
    first = run(0)
    np.random.seed(2)  # noqa: NPY002
    assert run(0) == first
    assert run(1) != first


@pytest.mark.parametrize("value", [-np.inf, np.inf, -1e308, 1e308, 0.0])
def test_any_scores_will_do(value: float) -> None:
    def half(d: Descendant) -> float:
        return value if d.architecture.n_parameters % 2 else -3.0

    with np.errstate(all="raise", under="ignore"):
        assert TreeSearch(40)(DEEP, [seed_of(DEEP)], Counted(half), anything, _rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_candidates": 0}, "n_candidates must be a positive integer but got 0"),
        ({"max_steps": 0}, "max_steps must be a positive integer but got 0"),
        ({"n_children": 2.0}, "n_children must be a positive integer but got 2.0"),
        ({"temperature": 0.0}, "temperature must be positive but got 0.0"),
        ({"temperature": float("nan")}, "temperature must be positive but got nan"),
        ({"cooling": 1.0}, "cooling must be between 0 and 1 but got 1.0"),
    ],
)
def test_wrong_settings(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TreeSearch(**arguments)


# Walks.


def test_a_walk_ends_at_the_longest_chain() -> None:
    end = random_walk(SPACE, seed_of(SPACE), 50, _rng(0))
    assert len(end.steps) == SPACE.max_morphisms
    assert SPACE.replay(end.steps) == end.architecture
    assert SPACE.random_child(end, _rng(0)) is None


def test_children_are_drawn_from_all_morphisms_and_sites() -> None:
    rng = _rng(0)
    drawn = {str(c.steps[0]) for _ in range(500) if (c := SPACE.random_child(seed_of(SPACE), rng)) is not None}
    assert drawn == {str(step) for step, _ in SPACE.steps_from(MLP)}


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
