"""CellSpace: a fixed number of choices, what of them is allowed, and a description that can be stored."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

import optuna_nas_morph.spaces.cell as module
from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.search import ExhaustiveSearch, MutationSearch, NeighbourSearch
from optuna_nas_morph.spaces import Cell, CellSpace, MorphSpace
from tests.studies import SPACE as MORPH_SPACE

CHOICES = {"first": ("a", "b", "c"), "second": (1, 2.5), "third": (None, False, "a", 7)}


def chain(choices: dict[str, Any]) -> LabelledGraph:
    """Every choice is a node."""
    labels = tuple(str(value) for value in choices.values())
    return LabelledGraph(labels, tuple((i, i + 1) for i in range(len(labels) - 1)))


def half(choices: dict[str, Any]) -> LabelledGraph:
    """Refuses half of the combinations."""
    if (choices["first"] == "a") != (choices["third"] in (None, "a")):
        raise ArchitectureError(f"first and third must fit but are {choices['first']!r} and {choices['third']!r}.")
    return chain(choices)


SPACE = CellSpace(CHOICES, chain)
HALF = CellSpace(CHOICES, half)


def combinations(space: CellSpace) -> list[dict[str, Any]]:
    """Everything that the space allows, in order, found without it."""
    result = []
    for values in product(*space.choices.values()):
        choices = dict(zip(space.choices, values, strict=True))
        try:
            space.to_graph(choices)
        except ArchitectureError:
            continue
        result.append(choices)
    return result


# Members.


@pytest.mark.parametrize("space", [SPACE, HALF], ids=["all", "half"])
def test_members_are_all_that_is_allowed_the_last_choice_changing_fastest(space: CellSpace) -> None:
    expected = combinations(space)
    assert [space.choices_of(m) for m in space.members()] == expected
    assert [m.graph for m in space.members()] == [chain(c) for c in expected]
    assert space.size == 24
    assert len(expected) == (24 if space is SPACE else 12)


@given(st.tuples(*map(st.sampled_from, CHOICES.values())))
def test_a_cell_is_its_choices(values: tuple[Any, ...]) -> None:
    choices = dict(zip(CHOICES, values, strict=True))
    cell = SPACE.cell(choices)
    assert SPACE.choices_of(cell) == choices
    assert cell.graph == chain(choices)
    assert cell.fingerprint == chain(choices).fingerprint
    assert [CHOICES[name][i] for name, i in zip(CHOICES, cell.indices, strict=True)] == list(values)
    assert SPACE.features(cell) == cell.indices
    assert all(type(value) is float for value in SPACE.features(cell))
    assert cell == SPACE.cell(dict(reversed(choices.items())))
    assert {cell: 1}[SPACE.cell({**choices, "more": 0})] == 1


def test_values_are_found_by_equality() -> None:
    given_ = {"first": "b", "second": 1.0, "third": 0}
    assert SPACE.choices_of(SPACE.cell(given_)) == {"first": "b", "second": 1, "third": False}
    assert type(SPACE.choices_of(SPACE.cell(given_))["third"]) is bool


def test_what_is_no_cell_is_named() -> None:
    good = {"first": "a", "second": 1, "third": None}
    with pytest.raises(ValueError, match="choices must") as e:
        SPACE.cell({"third": None, "first": "a"})
    assert str(e.value) == "choices must have 'second' but have only ['first', 'third']."
    for wrong in (2, "1", math.nan, None):
        with pytest.raises(ValueError, match="'second' must") as e:
            SPACE.cell({**good, "second": wrong})
        assert str(e.value) == f"'second' must be one of (1, 2.5) but got {wrong!r}."
        assert not isinstance(e.value, ArchitectureError)


def test_what_is_not_allowed_says_why_every_time() -> None:
    for _ in range(2):
        with pytest.raises(ArchitectureError, match="first and third must fit but are 'a' and 7"):
            HALF.cell({"first": "a", "second": 1, "third": 7})


def test_a_function_that_is_not_pure_is_named() -> None:
    calls = []

    def once(choices: dict[str, Any]) -> LabelledGraph:
        calls.append(choices)
        if len(calls) == 1:
            raise ArchitectureError("not today")
        return chain(choices)

    with pytest.raises(ArchitectureError, match=r"to_graph must be a pure function but refused \{'x': 1\} once"):
        CellSpace({"x": (1, 2)}, once).cell({"x": 1})


@pytest.mark.parametrize("result", [None, ["a"], (("a",), ()), MORPH_SPACE.seed])
def test_to_graph_returns_a_graph(result: Any) -> None:
    space = CellSpace({"x": (1, 2)}, lambda choices: result)
    for use in (lambda: space.cell({"x": 1}), lambda: space.random(np.random.default_rng(0))):
        with pytest.raises(TypeError, match="to_graph must return a LabelledGraph but returned") as e:
            use()
        assert type(result).__name__ in str(e.value)


@pytest.mark.parametrize("error", [ValueError, KeyError])
def test_other_errors_of_to_graph_are_not_swallowed(error: type[Exception]) -> None:
    def broken(choices: dict[str, Any]) -> LabelledGraph:
        raise error("a mistake")

    space = CellSpace({"x": (1, 2)}, broken)
    for use in (lambda: list(space.members()), lambda: space.random(np.random.default_rng(0))):
        with pytest.raises(error, match="a mistake"):
            use()


def test_to_graph_gets_a_dict_of_its_own() -> None:
    def greedy(choices: dict[str, Any]) -> LabelledGraph:
        graph = chain(choices)
        choices.clear()
        return graph

    space = CellSpace(CHOICES, greedy)
    assert [space.choices_of(m) for m in space.members()] == combinations(SPACE)


# Moving.


@pytest.mark.parametrize("space", [SPACE, HALF], ids=["all", "half"])
def test_children_are_every_allowed_member_with_one_choice_made_differently(space: CellSpace) -> None:
    everything = list(space.members())
    assert len(space.feature_is_categorical) == 3 and all(space.feature_is_categorical)
    for parent in everything:
        expected = {m for m in everything if sum(map(int.__ne__, m.indices, parent.indices)) == 1}
        children = list(space.children(parent))
        assert len(set(children)) == len(children)
        assert set(children) == expected
        assert not space.is_leaf(parent)


@pytest.mark.parametrize("space", [SPACE, HALF], ids=["all", "half"])
def test_random_children_are_children_and_all_of_them(space: CellSpace) -> None:
    rng = np.random.default_rng(0)
    for parent in space.members():
        drawn = [space.random_child(parent, rng) for _ in range(300)]
        assert {child for child in drawn if child is not None} == set(space.children(parent))
        assert (None in drawn) == (space is HALF)


def test_random_children_change_each_choice_as_often() -> None:
    rng = np.random.default_rng(0)
    parent = SPACE.cell({"first": "b", "second": 1, "third": "a"})
    counts = Counter(SPACE.random_child(parent, rng) for _ in range(3000))
    for child, n in counts.items():
        assert child is not None
        [i] = [i for i in range(3) if child.indices[i] != parent.indices[i]]
        expected = 3000 / 3 / (len(tuple(CHOICES.values())[i]) - 1)
        assert abs(n - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("space", [SPACE, HALF], ids=["all", "half"])
def test_random_members_are_uniform(space: CellSpace) -> None:
    rng = np.random.default_rng(0)
    members = list(space.members())
    for draw in (space.random, space.first):
        counts = Counter(draw(rng) for _ in range(100 * len(members)))
        assert counts.keys() == set(members)
        assert sum((n - 100) ** 2 / 100 for n in counts.values()) < 60  # chi squared, 11 or 23 degrees: p < 1e-4


def test_one_choice_with_one_alternative() -> None:
    space = CellSpace({"only": ("x",), "one": (1,)}, chain)
    rng = np.random.default_rng(0)
    [member] = space.members()
    assert space.size == 1
    assert space.is_leaf(member)
    assert space.random(rng) == space.first(rng) == member
    assert space.random_lineage(rng) == [member]
    assert space.random_child(member, rng) is None
    assert list(space.children(member)) == []
    with_another = CellSpace({"only": ("x",), "two": (1, 2)}, chain)
    parent = with_another.cell({"only": "x", "two": 1})
    assert {with_another.random_child(parent, rng) for _ in range(5)} == set(with_another.children(parent))


def only_sevens(choices: dict[str, Any]) -> LabelledGraph:
    if set(choices.values()) != {7}:
        raise ArchitectureError("seven is the only number")
    return chain(choices)


def test_a_needle_in_a_haystack_is_drawn() -> None:
    """One of 65,536 combinations: draws do not find it."""
    space = CellSpace({name: tuple(range(16)) for name in "abcd"}, only_sevens)
    assert space.random(np.random.default_rng(0)).indices == (7, 7, 7, 7)


def test_nothing_allowed_is_an_error() -> None:
    small = CellSpace({"x": (1, 2)}, only_sevens)
    large = CellSpace({name: tuple(range(10)) for name in "abcdefghij"}, only_sevens)
    assert list(small.members()) == []
    for space in (small, large):
        with pytest.raises(ArchitectureError, match="must allow some combinations of choices but refused 10000 random"):
            space.random(np.random.default_rng(0))


@pytest.mark.parametrize("search", [ExhaustiveSearch(), NeighbourSearch(), MutationSearch()], ids=repr)
def test_no_search_finds_what_is_not_allowed(search: Any) -> None:
    rng = np.random.default_rng(0)
    found = search(HALF, [HALF.random(rng)], lambda members: rng.normal(size=len(members)), lambda _: True, rng)
    allowed = set(HALF.members())
    assert found
    assert {member for _, member in found} <= allowed


# What can be chosen.


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "choices must be a non-empty mapping of names to alternatives but got {}."),
        ([("x", (1, 2))], "choices must be a non-empty mapping of names to alternatives but got [('x', (1, 2))]."),
        (None, "choices must be a non-empty mapping of names to alternatives but got None."),
        ({"": (1, 2)}, "choices must be named by non-empty strings but got ''."),
        ({3: (1, 2)}, "choices must be named by non-empty strings but got 3."),
        ({"x": ()}, "choices['x'] must be a non-empty sequence but got ()."),
        ({"x": "ab"}, "choices['x'] must be a non-empty sequence but got 'ab'."),
        ({"x": {1, 2}}, "choices['x'] must be a non-empty sequence but got {1, 2}."),
        ({"x": 3}, "choices['x'] must be a non-empty sequence but got 3."),
        (
            {"x": (1, (2,))},
            "choices['x'] must hold None, bools, ints, floats and strings but got (2,).",
        ),
        ({"x": (1, b"")}, "choices['x'] must hold None, bools, ints, floats and strings but got b''."),
        ({"x": (1, 2, 1)}, "choices['x'] must differ from each other but got (1, 2, 1)."),
        ({"x": (1, True)}, "choices['x'] must differ from each other but got (1, True)."),
        ({"x": (0.0, -0.0)}, "choices['x'] must differ from each other but got (0.0, -0.0)."),
        ({"x": (2, 2.0)}, "choices['x'] must differ from each other but got (2, 2.0)."),
        (
            {"x": (math.nan, 1, float("nan"))},
            "choices['x'] must differ from each other but got (nan, 1, nan).",
        ),
        ({"y": (1, 2), "x": (None, None)}, "choices['x'] must differ from each other but got (None, None)."),
    ],
)
def test_choices_are_checked(choices: Any, message: str) -> None:
    with pytest.raises(ValueError, match="choices") as e:
        CellSpace(choices, chain)
    assert str(e.value) == message


def test_equal_means_what_optuna_means() -> None:
    """Of two alternatives that Optuna cannot tell apart, one could not be chosen."""
    for a, b in product([None, False, True, 0, 1, 0.0, 1.0, "", "1", "True", math.nan, math.inf], repeat=2):
        distribution = CategoricalDistribution((a, b))
        optuna_tells_apart = distribution.to_internal_repr(b) == 1
        try:
            CellSpace({"x": (a, b)}, chain)
        except ValueError:
            assert not optuna_tells_apart, (a, b)
        else:
            assert optuna_tells_apart, (a, b)


def test_to_graph_is_a_function() -> None:
    with pytest.raises(TypeError) as e:
        CellSpace({"x": (1, 2)}, LabelledGraph(("a",), ()))  # type: ignore[arg-type]
    assert "to_graph must be a function of a dict of choices but got LabelledGraph(" in str(e.value)


def test_what_is_given_can_change_afterwards() -> None:
    alternatives = ["a", "b"]
    choices = {"x": alternatives}
    space = CellSpace(choices, chain)
    alternatives.append("c")
    choices["y"] = ["d"]
    assert space.choices == {"x": ("a", "b")}
    assert len(list(space.members())) == space.size == 2


def test_nan_and_infinity_can_be_chosen() -> None:
    space = CellSpace({"x": (math.nan, math.inf, -math.inf, 0)}, chain)
    assert [m.graph.labels for m in space.members()] == [("nan",), ("inf",), ("-inf",), ("0",)]
    assert space.cell({"x": float("nan")}).indices == (0,)
    assert space.cell({"x": np.float64("inf")}).indices == (1,)
    stored = json.loads(json.dumps(space.to_dict()))
    assert space.difference(stored) == ""
    assert CellSpace({"x": (float("nan"), math.inf, -math.inf, 0)}, chain).digest == space.digest


# Identity.


class Wired:
    """A function with a state."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, choices: dict[str, Any]) -> LabelledGraph:
        return chain({**choices, "n": self.n})

    def method(self, choices: dict[str, Any]) -> LabelledGraph:
        return self(choices)


OTHERS: dict[str, tuple[CellSpace, str]] = {
    "an alternative": (
        CellSpace({**CHOICES, "second": (1, 3.5)}, chain),
        f"choices is {{'first': ['a', 'b', 'c'], 'second': [1, 3.5], 'third': {list(CHOICES['third'])}}}, not ",
    ),
    "a type": (CellSpace({**CHOICES, "second": (True, 2.5)}, chain), "'second': [True, 2.5]"),
    "the order of alternatives": (CellSpace({**CHOICES, "second": (2.5, 1)}, chain), "'second': [2.5, 1]"),
    "the order of choices": (CellSpace(dict(reversed(CHOICES.items())), chain), "choices is {'third'"),
    "a name": (CellSpace({"0": CHOICES["first"], **CHOICES}, chain), "'0': ['a', 'b', 'c']"),
    "the function": (HALF, f"to_graph is '{__name__}.half', not '{__name__}.chain'"),
    "a callable": (CellSpace(CHOICES, Wired(1)), f"to_graph is '{__name__}.Wired', not"),
    "a method": (CellSpace(CHOICES, Wired(1).method), f"to_graph is '{__name__}.Wired.method', not"),
}


@pytest.mark.parametrize(("other", "difference"), OTHERS.values(), ids=OTHERS)
def test_spaces_that_differ_say_in_what(other: CellSpace, difference: str) -> None:
    stored = json.loads(json.dumps(other.to_dict()))
    assert other.digest != SPACE.digest
    assert other != SPACE
    assert difference in SPACE.difference(stored)
    assert other.difference(stored) == ""


def test_a_space_is_a_value() -> None:
    again = CellSpace({name: list(values) for name, values in CHOICES.items()}, chain)
    list(SPACE.members())
    assert again == SPACE
    assert hash(again) == hash(SPACE)
    assert again.digest == SPACE.digest
    assert again.to_dict() == SPACE.to_dict()
    # Two functions can have one name; what is stored cannot tell, but they are not the same.
    first, second = (CellSpace(CHOICES, Wired(n)) for n in (1, 2))
    assert first.digest == second.digest
    assert first != second
    assert SPACE != MORPH_SPACE


def test_the_description_is_frozen() -> None:
    assert json.loads(json.dumps(SPACE.to_dict())) == {
        "format": "optuna-nas-morph/cell-space",
        "version": 1,
        "choices": {"first": ["a", "b", "c"], "second": [1, 2.5], "third": [None, False, "a", 7]},
        "to_graph": f"{__name__}.chain",
    }
    assert CellSpace({"x": (1, None)}, presets_to_graph()).digest == "09f9cc071e20201ae4a431d4f2d1a326"


def presets_to_graph() -> Any:
    from optuna_nas_morph.presets.nas_bench_201 import to_graph

    return to_graph


def test_a_function_of_a_script_is_known_by_its_name_alone() -> None:
    """A script is ``__main__`` for itself and a module for a worker that imports it."""
    program = (
        "from optuna_nas_morph import CellSpace, LabelledGraph\n"
        "def f(choices): return LabelledGraph((), ())\n"
        "print(CellSpace({'x': (1, 2)}, f).to_dict()['to_graph'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "f\n"


def test_spaces_of_two_kinds_differ() -> None:
    cell, morph = json.loads(json.dumps(SPACE.to_dict())), json.loads(json.dumps(MORPH_SPACE.to_dict()))
    assert "format is 'optuna-nas-morph/morph-space', not 'optuna-nas-morph/cell-space'" in SPACE.difference(morph)
    assert MORPH_SPACE.difference(cell) == (
        "format is 'optuna-nas-morph/cell-space', not 'optuna-nas-morph/morph-space'"
    )
    assert isinstance(MORPH_SPACE, MorphSpace)


@pytest.mark.parametrize("duplicate", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, copy.copy])
def test_a_copy_is_the_same_space(duplicate: Any) -> None:
    space = CellSpace(CHOICES, half)
    list(space.members())
    assert space.digest and space.size
    other = duplicate(space)
    assert other == space
    assert other.digest == space.digest
    assert [m.graph for m in other.members()] == [m.graph for m in space.members()]
    assert isinstance(other.random(np.random.default_rng(0)), Cell)


# Memory.


def test_to_graph_is_called_once_per_combination() -> None:
    calls: list[tuple[Any, ...]] = []

    def counted(choices: dict[str, Any]) -> LabelledGraph:
        calls.append(tuple(choices.values()))
        return half(choices)

    space = CellSpace(CHOICES, counted)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for member in space.members():
            list(space.children(member))
            space.random_child(member, rng)
        space.random(rng)
    assert len(calls) == len(set(calls)) == 24


def test_a_full_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_SIZE", 5)
    space = CellSpace(CHOICES, half)
    for _ in range(2):
        assert [space.choices_of(m) for m in space.members()] == combinations(HALF)
        assert len(space._cells) <= 5
    for parent in HALF.members():
        assert list(space.children(parent)) == list(HALF.children(parent))
