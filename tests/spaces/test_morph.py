"""MorphSpace: limits, steps, and a description that can be stored."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optuna_nas_morph.errors import ArchitectureError, MorphismError, SpaceMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Input, Linear
from optuna_nas_morph.morphisms import AddSkip, Deepen, GrowKernel, InsertResidualBlock, Widen
from optuna_nas_morph.spaces import DEFAULT_MORPHISMS, Descendant, MorphSpace, Step
from optuna_nas_morph.spaces.morph import MOST_RANDOM_STEPS
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.strategies import example_architectures

SEED = graph(
    ("x", Input((5,))),
    ("a", Linear(4)),
    ("a_relu", RELU),
    ("b", Linear(6)),
    ("b_relu", RELU),
    ("c", Linear(8)),
    ("c_relu", RELU),
    ("fc", Linear(3)),
)
# Parameters: a 24, b 30, c 56, fc 27.


# Limits.


def test_what_exceeds_a_limit() -> None:
    assert (len(SEED.nodes), SEED.n_parameters, SEED.flops) == (8, 137, 232)
    assert MorphSpace(SEED, max_nodes=8, max_parameters=137, max_flops=232).violation(SEED) is None
    wider = Widen(2.0).apply(SEED, ("a",))
    assert (
        MorphSpace(SEED, max_parameters=184).violation(wider) == "it has 185 parameters, more than max_parameters=184"
    )
    assert MorphSpace(SEED, max_flops=319).violation(wider) == "it has 320 flops, more than max_flops=319"
    deeper = Deepen().apply(SEED, ("a_relu",))
    assert MorphSpace(SEED, max_nodes=9).violation(deeper) == "it has 10 nodes, more than max_nodes=9"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_nodes": 7}, "it has 8 nodes, more than max_nodes=7"),
        ({"max_parameters": 136}, "it has 137 parameters, more than max_parameters=136"),
        ({"max_flops": 231}, "it has 232 flops, more than max_flops=231"),
    ],
)
def test_the_seed_must_keep_to_the_limits(limits: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r"must") as e:
        MorphSpace(SEED, **limits)
    assert str(e.value) == f"the seed must keep to the limits of the space but {reason}."


# Arguments.


@pytest.mark.parametrize("name", ["max_morphisms", "max_parameters", "max_flops", "max_nodes"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, None, "9"])
def test_limits_are_positive_integers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"must") as e:
        MorphSpace(SEED, **{name: value})
    assert str(e.value) == f"{name} must be a positive integer but got {value!r}."


def test_the_seed_is_an_architecture() -> None:
    with pytest.raises(TypeError, match="seed must be an Architecture but got list"):
        MorphSpace([SEED])  # type: ignore[arg-type]


@pytest.mark.parametrize("morphisms", [(), ("widen:2",), (Widen, Deepen)])
def test_morphisms_are_morphisms(morphisms: Any) -> None:
    with pytest.raises(ValueError, match="morphisms must be a non-empty sequence of morphisms but got"):
        MorphSpace(SEED, morphisms)


def test_morphisms_differ() -> None:
    with pytest.raises(ValueError, match=r"must") as e:
        MorphSpace(SEED, [Widen(2.0), AddSkip(), Widen(2)])
    assert str(e.value) == "morphisms must differ from each other but got ['widen:2', 'add_skip', 'widen:2']."
    assert len(MorphSpace(SEED, [Widen(1.3), Widen(1.3000001)]).morphisms) == 2


def test_a_space_is_a_value() -> None:
    first, second = MorphSpace(SEED, [Widen(2.0)]), MorphSpace(SEED, (Widen(2.0),))
    first.nearest(SEED, Widen(2.0), 0.5)
    assert first == second and hash(first) == hash(second)
    assert first.morphisms == (Widen(2.0),)
    assert first != MorphSpace(SEED, [Widen(2.0)], max_morphisms=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.max_nodes = 9  # type: ignore[misc]


# Steps.


def test_replay() -> None:
    space = MorphSpace(SEED, max_morphisms=3)
    steps = [Step(Widen(2.0), ("a",)), Step(Deepen(), ("a_relu",)), Step(Widen(2.0), ("a",))]
    architecture = space.replay(steps)
    assert architecture.specs["a"].n_channels == 16
    assert architecture == space.apply(space.apply(space.apply(SEED, steps[0]), steps[1]), steps[2])
    assert space.replay([]) is SEED
    with pytest.raises(MorphismError) as e:
        space.replay([*steps, steps[0]])
    assert str(e.value) == "a chain must have at most 3 steps but has 4."


def test_apply_refuses_what_is_not_in_the_space() -> None:
    space = MorphSpace(SEED, [Widen(2.0), Deepen()], max_parameters=200)
    for step, message in [
        (Step(Widen(3.0), ("a",)), "widen:3 is not a morphism of this space, which has widen:2, deepen:relu."),
        (Step(Widen(2.0), ("fc",)), "widen:2 cannot be applied at 'fc': its width is tied to network output 'fc'."),
        (
            Step(Widen(2.0), ("c",)),
            "widen:2 at c leaves the space: it has 217 parameters, more than max_parameters=200.",
        ),
    ]:
        with pytest.raises(MorphismError) as e:
            space.apply(SEED, step)
        assert str(e.value) == message
        with pytest.raises(MorphismError) as e:
            space.replay([step])
        assert str(e.value) == message


def test_steps_are_readable() -> None:
    assert str(Step(AddSkip(), ("a_relu", "c_relu"))) == "add_skip at a_relu -> c_relu"
    assert str(Step(Widen(1.5), ("a",))) == "widen:1.5 at a"


@pytest.mark.parametrize(
    ("at", "site"),
    [
        (0, "a"),
        (0.0, "a"),
        (0.3333, "a"),
        (1 / 3, "b"),
        (0.5, "b"),
        (0.6666, "b"),
        (2 / 3, "c"),
        (0.9999, "c"),
        (1, "c"),
    ],
)
def test_sites_divide_the_unit_interval_evenly(at: float, site: str) -> None:
    found = MorphSpace(SEED).nearest(SEED, Widen(2.0), at)
    assert found == (Step(Widen(2.0), (site,)), Widen(2.0).apply(SEED, (site,)))


@pytest.mark.parametrize("name", HAND_MADE)
def test_the_middle_of_a_site_names_that_site(name: str) -> None:
    space = MorphSpace(HAND_MADE[name])
    for morphism in space.morphisms:
        sites = morphism.sites(space.seed)
        for i, site in enumerate(sites):
            found = space.nearest(space.seed, morphism, (i + 0.5) / len(sites))
            assert found is not None and found[0] == Step(morphism, site)


def test_every_place_decodes() -> None:
    space = MorphSpace(HAND_MADE["branches"], max_parameters=4000)
    rng = np.random.default_rng(0)
    for morphism in space.morphisms:
        for at in (0, 1, 0.0, 1.0, 1 - 2**-53, 2**-1074, *rng.random(50).tolist()):
            found = space.nearest(space.seed, morphism, at)
            assert found is not None
            assert found[1] == space.apply(space.seed, found[0])


def test_sites_that_exceed_a_limit_are_passed_over_going_round() -> None:
    def found(max_parameters: int, at: float) -> str | None:
        step = MorphSpace(SEED, max_parameters=max_parameters).nearest(SEED, Widen(2.0), at)
        return None if step is None else step[0].site[0]

    costs = {name: Widen(2.0).apply(SEED, (name,)).n_parameters for name in ("a", "b", "c")}
    assert costs == {"a": 185, "b": 215, "c": 217}
    middles = (1 / 6, 3 / 6, 5 / 6)
    assert [found(217, at) for at in middles] == ["a", "b", "c"]
    assert [found(216, at) for at in middles] == ["a", "b", "a"]
    assert [found(214, at) for at in middles] == ["a", "a", "a"]
    assert [found(184, at) for at in middles] == [None, None, None]


def test_no_site_no_step() -> None:
    assert MorphSpace(SEED).nearest(SEED, GrowKernel(2), 0.5) is None
    assert MorphSpace(SEED).nearest(SEED, GrowKernel(2), 1.0) is None


def test_nearest_gives_the_same_again_and_from_a_copy() -> None:
    space = MorphSpace(SEED)
    first = space.nearest(SEED, Deepen(), 0.4)
    assert space.nearest(SEED, Deepen(), 0.4) == first
    assert MorphSpace.from_dict(space.to_dict()).nearest(Architecture.from_json(SEED.to_json()), Deepen(), 0.4) == first


def test_a_full_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna_nas_morph.spaces.morph._CACHE_SIZE", 3)
    space = MorphSpace(SEED)
    expected = list(MorphSpace(SEED).steps_from(SEED))
    assert list(space.steps_from(SEED)) == expected == list(space.steps_from(SEED))
    assert len(space._steps) <= 3


def test_children_are_every_step_within_the_limits() -> None:
    free = MorphSpace(SEED)
    every = list(free.steps_from(SEED))
    assert [step for step, _ in every] == [Step(m, site) for m in free.morphisms for site in m.sites(SEED)]
    assert all(child == free.apply(SEED, step) for step, child in every)
    tight = MorphSpace(SEED, max_parameters=200, max_nodes=10)
    assert list(tight.steps_from(SEED)) == [found for found in every if tight.violation(found[1]) is None]
    assert 0 < len(list(tight.steps_from(SEED))) < len(every)
    assert list(MorphSpace(SEED, max_parameters=137).steps_from(SEED)) == []


# A description that can be stored.


@pytest.mark.parametrize("name", ["conv1d", "layouts", "tokens", "transformer"])
def test_round_trip(name: str) -> None:
    space = MorphSpace(
        HAND_MADE[name],
        [Widen(4 / 3, "zero"), Deepen("leaky_relu", 5), InsertResidualBlock(3, "gelu", False), GrowKernel(4, 9)],
        max_morphisms=5,
        max_parameters=123_456,
        max_flops=7_654_321,
        max_nodes=77,
    )
    stored = json.dumps(space.to_dict())
    again = MorphSpace.from_dict(json.loads(stored))
    assert again == space and again.digest == space.digest and again.difference(space.to_dict()) == ""
    assert json.dumps(again.to_dict()) == stored


def test_every_operation_can_be_in_a_seed() -> None:
    for architecture in example_architectures().values():
        space = MorphSpace(architecture)
        assert MorphSpace.from_dict(space.to_dict()) == space


def test_the_description_names_its_format() -> None:
    data = MorphSpace(SEED).to_dict()
    assert data["format"] == "optuna-nas-morph/morph-space" and data["version"] == 1
    assert (
        data["morphisms"]
        == [str(m) for m in DEFAULT_MORPHISMS]
        == [
            "widen:1.5",
            "widen:2",
            "deepen:relu",
            "insert_residual_block:3",
            "grow_kernel:2",
            "add_skip",
            "concat_skip",
        ]
    )


@pytest.mark.parametrize(
    ("field", "value"), [("version", 2), ("version", None), ("format", "optuna-nas-morph/cell-space")]
)
def test_other_versions_are_refused(field: str, value: Any) -> None:
    data = {**MorphSpace(SEED).to_dict(), field: value}
    with pytest.raises(SpaceMismatchError) as e:
        MorphSpace.from_dict(data)
    assert str(e.value) == (
        "space must be of format 'optuna-nas-morph/morph-space' and version 1 but is "
        f"{data['format']!r}, version {data['version']!r}: "
        "the study was written by another version of optuna-nas-morph."
    )
    with pytest.raises(SpaceMismatchError):
        MorphSpace.from_dict({})


@pytest.mark.parametrize(
    "change",
    [
        {"seed": None},
        {"seed": {"nodes": []}},
        {"morphisms": ["widen:2", "shrink"]},
        {"morphisms": ["widen:0.5"]},
        {"morphisms": []},
        {"morphisms": 3},
        {"morphisms": [3]},
        {"max_nodes": 1},
        {"max_nodes": "many"},
        {"max_flops": None},
    ],
)
def test_what_cannot_be_read(change: dict[str, Any]) -> None:
    with pytest.raises(SpaceMismatchError, match="the stored description of the space cannot be read: "):
        MorphSpace.from_dict({**MorphSpace(SEED).to_dict(), **change})


@pytest.mark.parametrize("field", ["seed", "morphisms", "max_morphisms", "max_parameters", "max_flops", "max_nodes"])
def test_what_is_missing(field: str) -> None:
    data = MorphSpace(SEED).to_dict()
    del data[field]
    with pytest.raises(SpaceMismatchError, match=field):
        MorphSpace.from_dict(data)


def test_reading_changes_nothing() -> None:
    data = MorphSpace(SEED).to_dict()
    before = copy.deepcopy(data)
    MorphSpace.from_dict(data)
    assert data == before


OTHERS: dict[str, tuple[MorphSpace, str]] = {
    "morphisms": (
        MorphSpace(SEED, [Widen(2.0)]),
        "morphisms is ['widen:2'], not ['widen:2', 'deepen:relu']",
    ),
    "order": (
        MorphSpace(SEED, [Deepen(), Widen(2.0)]),
        "morphisms is ['deepen:relu', 'widen:2'], not ['widen:2', 'deepen:relu']",
    ),
    "limits": (
        MorphSpace(SEED, [Widen(2.0), Deepen()], max_morphisms=3, max_nodes=50),
        "max_morphisms is 3, not 30; max_nodes is 50, not 200",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_digest_and_the_difference_see_every_field(name: str) -> None:
    space = MorphSpace(SEED, [Widen(2.0), Deepen()])
    other, text = OTHERS[name]
    assert space.digest != other.digest
    assert space.difference(other.to_dict()) == text


def test_the_difference_names_seeds_by_fingerprint() -> None:
    other = Widen(2.0).apply(SEED, ("a",))
    text = MorphSpace(SEED).difference(MorphSpace(other, max_nodes=50).to_dict())
    assert text == f"the seed has fingerprint {other.fingerprint}, not {SEED.fingerprint}; max_nodes is 50, not 200"


def test_a_limit_on_activation_bytes() -> None:
    n_bytes = SEED.activation_bytes
    space = MorphSpace(SEED, max_activation_bytes=n_bytes)
    wider = Widen(2.0).apply(SEED, ("a",))
    assert space.violation(SEED) is None
    assert space.violation(wider) == (
        f"it has {wider.activation_bytes} activation bytes, more than max_activation_bytes={n_bytes}"
    )
    with pytest.raises(ValueError, match="the seed must keep to the limits of the space but it has"):
        MorphSpace(SEED, max_activation_bytes=n_bytes - 1)
    with pytest.raises(ValueError, match="max_activation_bytes must be a positive integer but got 0"):
        MorphSpace(SEED, max_activation_bytes=0)
    again = MorphSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space and again.digest == space.digest
    text = f"max_activation_bytes is {n_bytes}, not None"
    assert MorphSpace(SEED).difference(space.to_dict()) == text
    assert space.difference(MorphSpace(SEED).to_dict()) == f"max_activation_bytes is None, not {n_bytes}"


def test_no_limit_on_activation_bytes_leaves_descriptions_as_they_were() -> None:
    assert "max_activation_bytes" not in MorphSpace(SEED).to_dict()


def test_the_digest_does_not_change_between_versions() -> None:
    assert MorphSpace(SEED, max_morphisms=12).digest == "7440a058706b94cbc4a02d5f60db0f07"
    assert len(MorphSpace(SEED).digest) == 32


def test_node_names_that_differ_are_told_apart() -> None:
    renamed = Architecture.from_json(SEED.to_json().replace('"a_relu"', '"act"'))
    assert renamed.fingerprint == SEED.fingerprint
    assert MorphSpace(renamed).digest != MorphSpace(SEED).digest
    assert (
        MorphSpace(SEED).difference(MorphSpace(renamed).to_dict())
        == "the seed has its nodes under other names or in another order"
    )


def test_errors_are_also_builtin_errors() -> None:
    assert issubclass(SpaceMismatchError, ValueError) and issubclass(ArchitectureError, ValueError)


# Members, and how to move among them.


def small_space() -> MorphSpace:
    return MorphSpace(SEED, (Widen(2.0), Deepen("relu")), max_morphisms=2, max_parameters=400)


def test_members_are_what_chains_lead_to_each_once_the_shorter_first() -> None:
    space = small_space()
    expected: dict[str, int] = {}
    layer = [SEED]
    for n_steps in range(3):
        for architecture in layer:
            expected.setdefault(architecture.fingerprint, n_steps)
        layer = [
            morphism.apply(architecture, site)
            for architecture in layer
            for morphism in space.morphisms
            for site in morphism.sites(architecture)
        ]
        layer = [architecture for architecture in layer if architecture.n_parameters <= 400]
    members = list(space.members())
    assert space.size is None
    assert len({m.fingerprint for m in members}) == len(members) == len(expected) > 10
    assert {m.fingerprint: len(m.steps) for m in members} == expected
    assert [len(m.steps) for m in members] == sorted(len(m.steps) for m in members)
    assert members[0] == space.first(np.random.default_rng(0)) == Descendant((), SEED)


def test_random_members_are_members_and_all_of_them() -> None:
    space = small_space()
    rng = np.random.default_rng(0)
    drawn = [space.random(rng) for _ in range(600)]
    for member in drawn:
        assert space.replay(member.steps) == member.architecture
    everything = {m.fingerprint for m in space.members()}
    assert {m.fingerprint for m in drawn} == everything - {SEED.fingerprint}


def test_random_walks_are_short_in_a_space_of_long_chains() -> None:
    space = MorphSpace(SEED, [Widen(1.5)], max_morphisms=40, max_parameters=10**9, max_flops=10**12)
    rng = np.random.default_rng(0)
    assert {len(space.random(rng).steps) for _ in range(200)} == set(range(1, MOST_RANDOM_STEPS + 1))
    member = space.random(rng)
    while (child := space.random_child(member, rng)) is not None:
        member = child
    assert len(member.steps) == 40


def test_random_children_stay_in_the_space() -> None:
    space = small_space()
    rng = np.random.default_rng(0)
    member = space.first()
    lengths = set()
    for _ in range(200):
        member = space.random_child(member, rng) or space.first()
        assert space.replay(member.steps) == member.architecture
        lengths.add(len(member.steps))
    assert lengths == {0, 1, 2}


@pytest.mark.parametrize("limit", ["max_parameters", "max_flops", "max_nodes"])
def test_features_are_logarithms_from_0_to_1(limit: str) -> None:
    sizes = {"max_parameters": (137, 1_000), "max_flops": (232, 2_000), "max_nodes": (8, 20)}
    space = MorphSpace(SEED, (Widen(2.0), Deepen("relu")), max_morphisms=6, **{k: v for k, (_, v) in sizes.items()})
    assert space.feature_is_categorical == (False, False, False)
    assert space.features(space.first()) == (0.0, 0.0, 0.0)
    i = list(sizes).index(limit)
    low, high = sizes[limit]
    rng = np.random.default_rng(0)
    for _ in range(30):
        member = space.random(rng)
        architecture = member.architecture
        value = (architecture.n_parameters, architecture.flops, len(architecture.nodes))[i]
        assert space.features(member)[i] == pytest.approx(np.log2(value / low) / (1 + np.log2(high / low)))
        assert all(0 <= feature <= 1 for feature in space.features(member))


@pytest.mark.parametrize("seed", range(20))
def test_a_random_lineage_goes_from_the_seed_step_by_step(seed: int) -> None:
    space = MorphSpace(SEED, max_morphisms=6)
    lineage = space.random_lineage(np.random.default_rng(seed))
    assert [len(member.steps) for member in lineage] == list(range(len(lineage)))
    for parent, child in itertools.pairwise(lineage):
        assert child.steps[:-1] == parent.steps
        assert space.replay(child.steps) == child.architecture
    assert lineage[-1] == space.random(np.random.default_rng(seed))


@given(st.integers(0, 10_000))
@example(912)  # The step that was taken back is drawn again.
def test_a_sibling_lacks_a_step_and_what_was_built_on_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = MorphSpace(SEED, max_morphisms=6)
    member = space.random(rng)
    sibling = space.random_sibling(member, rng)
    if not member.steps:
        assert sibling is None
    elif sibling is not None:
        assert space.replay(sibling.steps) == sibling.architecture
        # What is left is a part of the chain in its order, and at most one step is new, at the end.
        kept = [step for step in sibling.steps if step in member.steps]
        assert len(sibling.steps) - len(kept) <= 1
        assert sibling.steps[: len(kept)] == tuple(kept)
        assert sibling.steps != member.steps


def test_an_earlier_step_can_be_taken_back() -> None:
    space = MorphSpace(SEED, max_morphisms=6)
    rng = np.random.default_rng(0)
    member = next(m for m in iter(lambda: space.random(rng), None) if len(m.steps) >= 3)
    shorter = space.without(member, 0)
    assert member.steps[0] not in shorter.steps
    assert set(shorter.steps) <= set(member.steps[1:])
