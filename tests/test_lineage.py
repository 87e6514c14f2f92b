"""What trials and studies record of architectures, ancestors, training and the space."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, lineage, suggest_architecture, suggest_network
from optuna_nas_morph.errors import ArchitectureError, SpaceMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Widen
from optuna_nas_morph.spaces import Descendant, MorphSpace
from tests.studies import CNN_SPACE, MLP, MLP_MORPHISMS, SPACE, make_objective, quick_sampler

WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
WIDER_DEEPER: dict[str, Any] = {**WIDER, "arch/n": 2, "arch/01/op": "deepen:relu", "arch/01/at": 0.9}
OTHER: dict[str, Any] = {**WIDER, "arch/00/at": 0.75}
STEPS = ["widen:2 at a", "deepen:relu at b_relu"]


def asked(study: optuna.Study, params: dict[str, Any], space: MorphSpace = SPACE) -> optuna.Trial:
    study.enqueue_trial(params)
    trial = study.ask()
    suggest_architecture(trial, space)
    return trial


def finished(study: optuna.Study, params: dict[str, Any], value: float | None = 0.0, **tell: Any) -> FrozenTrial:
    return study.tell(asked(study, params), value, **tell)


# Architectures of trials.


def test_what_a_trial_records() -> None:
    study = optuna.create_study()
    finished(study, {"arch/n": 0})
    trial = finished(study, WIDER)
    attributes = trial.user_attrs
    wider = Widen(2.0).apply(MLP, ("a",))
    assert Architecture.from_json(attributes["nasmorph:architecture"]) == wider == lineage.architecture_of(trial)
    assert attributes["nasmorph:fingerprint"] == wider.fingerprint
    # 5 -> 8 -> 3 -> 2
    assert attributes["nasmorph:parameters"] == 5 * 8 + 8 + 8 * 3 + 3 + 3 * 2 + 2
    assert attributes["nasmorph:flops"] == 2 * (5 * 8 + 8 * 3 + 3 * 2)
    assert attributes["nasmorph:steps"] == ["widen:2 at a"] == attributes["nasmorph:morphisms"]
    assert attributes["nasmorph:parent"] == 0
    assert "nasmorph:parent" not in study.trials[0].user_attrs
    assert study.trials[0].user_attrs["nasmorph:steps"] == []
    child = finished(study, WIDER_DEEPER)
    assert child.user_attrs["nasmorph:parent"] == 1
    assert child.user_attrs["nasmorph:steps"] == STEPS
    assert child.user_attrs["nasmorph:morphisms"] == STEPS[1:]
    assert lineage.steps_of(child) == tuple(STEPS)
    for t in study.trials:
        for value in t.user_attrs.values():
            assert len(json.dumps(value).encode()) < 65_000


@pytest.mark.parametrize("length", [1, 100, 10_000_000])
def test_a_long_architecture_is_recorded_in_pieces(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MAX_ATTRIBUTE_LENGTH", length)
    trial = finished(optuna.create_study(), WIDER)
    pieces = {k: v for k, v in trial.user_attrs.items() if k.startswith("nasmorph:architecture")}
    text = Widen(2.0).apply(MLP, ("a",)).to_json()
    assert len(pieces) == -(-len(text) // length)
    assert max(map(len, pieces.values())) <= length
    assert lineage.architecture_of(trial) == Widen(2.0).apply(MLP, ("a",))


def test_an_architecture_is_read_without_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = finished(optuna.create_study(), WIDER_DEEPER)

    def never(*_: Any) -> None:
        raise AssertionError("replayed")

    for name in ("replay", "apply", "nearest"):
        monkeypatch.setattr(MorphSpace, name, never)
    architecture = lineage.architecture_of(trial)
    assert architecture is not None
    assert architecture.fingerprint == trial.user_attrs["nasmorph:fingerprint"]


def test_no_architecture_and_a_damaged_one() -> None:
    assert lineage.architecture_of(optuna.trial.create_trial(value=1.0)) is None
    assert lineage.steps_of(optuna.trial.create_trial(value=1.0)) is None
    damaged = optuna.trial.create_trial(value=1.0, user_attrs={"nasmorph:architecture": "{"})
    with pytest.raises(ArchitectureError):
        lineage.architecture_of(damaged)


def test_asking_twice_is_asking_once() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    first = suggest_architecture(trial, SPACE)
    attributes = dict(trial.user_attrs)
    assert suggest_architecture(trial, SPACE) == first == suggest_network(trial, SPACE).architecture
    for key, value in attributes.items():
        assert trial.user_attrs[key] == value


def test_best_params_lead_to_the_same_architecture() -> None:
    study = optuna.create_study(sampler=quick_sampler(3))
    study.optimize(make_objective(publish=False), n_trials=5)
    for trial in study.trials:
        again = encoding.decode(SPACE, trial.params)
        assert again.architecture == lineage.architecture_of(trial)
        assert list(map(str, again.steps)) == trial.user_attrs["nasmorph:steps"]


# Ancestors.


def numbers(study: optuna.Study, steps: list[str], number: int = 99) -> list[int]:
    return [t.number for t in lineage.find_ancestors(study, number, steps)]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_longest_way_then_weights_then_value_then_the_latest(direction: str) -> None:
    better, worse = (0.1, 0.9) if direction == "minimize" else (0.9, 0.1)
    study = optuna.create_study(direction=direction)

    def add(params: dict[str, Any], value: float, weights: bool = False) -> int:
        trial = asked(study, params)
        if weights:
            trial.set_user_attr("nasmorph:weights", {})
        return study.tell(trial, value).number

    seed = add({"arch/n": 0}, better, weights=True)
    plain_worse = add(WIDER, worse)
    plain_better = add(WIDER, better)
    plain_better_later = add(WIDER, better)
    weights_worse = add(WIDER, worse, weights=True)
    weights_better = add(WIDER, better, weights=True)
    deeper = add(WIDER_DEEPER, worse)
    add(OTHER, better, weights=True)  # not on the way
    expected = [deeper, weights_better, weights_worse, plain_better_later, plain_better, plain_worse, seed]
    assert numbers(study, STEPS) == expected
    assert numbers(study, STEPS[:1]) == expected[1:]
    assert numbers(study, STEPS, number=deeper) == expected[1:]
    assert numbers(study, []) == [seed]
    assert numbers(study, ["widen:1.5 at a"]) == [seed]


def test_pruned_trials_count_and_failed_or_running_ones_only_with_weights() -> None:
    study = optuna.create_study()
    pruned = study.tell(asked(study, WIDER), state=TrialState.PRUNED).number
    study.tell(asked(study, WIDER), state=TrialState.FAIL)
    asked(study, WIDER)
    failed = asked(study, WIDER)
    failed.set_user_attr("nasmorph:weights", {})
    study.tell(failed, state=TrialState.FAIL)
    running = asked(study, WIDER)
    running.set_user_attr("nasmorph:weights", {})
    assert numbers(study, STEPS) == [running.number, failed.number, pruned]


def test_several_objectives_have_no_best() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for values in ([0.0, 1.0], [9.0, 0.0]):
        study.tell(asked(study, WIDER), values)
    assert numbers(study, STEPS) == [1, 0]


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e308, -1e308])
def test_any_value_of_an_ancestor(value: float) -> None:
    study = optuna.create_study(direction="maximize")
    finished(study, WIDER, 0.5)
    finished(study, WIDER, value)
    assert numbers(study, STEPS) == ([1, 0] if value > 0 else [0, 1])


# Budgets.


def test_training_is_what_was_inherited_and_what_is_reported() -> None:
    study = optuna.create_study()
    trial = asked(study, WIDER)
    lineage.record_inheritance(trial, 0, 6.0, None, [])
    assert lineage.budgets_of(study.trials[0]) == lineage.Budgets(6.0, None)
    lineage.record_trained(study._storage, study.trials[0], 2.0)
    assert lineage.budgets_of(study.trials[0]) == lineage.Budgets(6.0, 8.0)
    lineage.record_trained(study._storage, study.trials[0], 3.0)
    assert study.trials[0].user_attrs["nasmorph:effective_epochs"] == 9.0
    assert trial.user_attrs["nasmorph:donor"] == 0
    assert "nasmorph:fallback" not in trial.user_attrs
    assert lineage.budgets_of(optuna.trial.create_trial(value=1.0)) == lineage.Budgets(0.0, None)


def test_a_budget_is_an_announcement() -> None:
    study = optuna.create_study()
    trial = asked(study, WIDER)
    lineage.record_inheritance(trial, None, 4.0, 2.5, ["no weights"])
    assert lineage.budgets_of(study.trials[0]) == lineage.Budgets(4.0, 6.5)
    assert trial.user_attrs["nasmorph:budget"] == 2.5
    assert trial.user_attrs["nasmorph:fallback"] == ["no weights"]
    assert "nasmorph:donor" not in trial.user_attrs


def test_a_thousand_donors_that_failed_fit_an_attribute() -> None:
    study = optuna.create_study()
    trial = asked(study, WIDER)
    lineage.record_inheritance(trial, None, 0.0, None, [f"trial {i}: {'x' * 200}" for i in range(1000)])
    fallback = trial.user_attrs["nasmorph:fallback"]
    assert fallback[0].startswith("trial 0: ")
    assert fallback[-1] == f"and {1000 - len(fallback) + 1} more"
    assert len(json.dumps(fallback).encode()) < 65_000


# The space of a study.


def test_the_space_is_stored_and_known_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    assert lineage.space_of(study) is None
    asked(study, WIDER)
    assert lineage.space_of(study) is not None
    monkeypatch.setattr(lineage, "_live", {})
    again = lineage.space_of(study)
    assert again is not None and again is not SPACE
    assert again.to_dict() == SPACE.to_dict()
    assert lineage.space_of(study) is again


@pytest.mark.parametrize("length", [50, 500])
def test_a_long_space_is_stored_in_pieces_the_first_one_last(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MAX_ATTRIBUTE_LENGTH", length)
    monkeypatch.setattr(lineage, "_live", {})
    study = optuna.create_study()
    seen: list[MorphSpace | None] = []
    original = study._storage.set_study_user_attr

    def spy(study_id: int, key: str, value: Any) -> None:
        original(study_id, key, value)
        monkeypatch.setattr(lineage, "_live", {})
        seen.append(lineage.space_of(study))  # another worker, in between

    monkeypatch.setattr(study._storage, "set_study_user_attr", spy)
    lineage.register_space(study, SPACE)
    assert max(len(v) for v in study.user_attrs.values()) <= length
    assert len(seen) == len(study.user_attrs) > 1
    assert seen[:-1] == [None] * (len(seen) - 1)
    assert seen[-1] is not None and seen[-1].digest == SPACE.digest


OTHER_SPACES: dict[str, tuple[MorphSpace, str]] = {
    "limit": (dataclasses.replace(SPACE, max_parameters=500), "max_parameters is 10000000, not 500"),
    "length": (dataclasses.replace(SPACE, max_morphisms=7), "max_morphisms is 3, not 7"),
    "morphisms": (
        MorphSpace(MLP, MLP_MORPHISMS[:2], 3),
        r"morphisms is \[.*'add_skip'.*\], not \['widen:1.5', 'widen:2'\]",
    ),
    "seed": (
        MorphSpace(Widen(2.0).apply(MLP, ("a",)), MLP_MORPHISMS, 3),
        f"seed has fingerprint {MLP.fingerprint}, not {Widen(2.0).apply(MLP, ('a',)).fingerprint}",
    ),
}


@pytest.mark.parametrize("kind", OTHER_SPACES)
@pytest.mark.parametrize("fresh_process", [False, True])
def test_another_space_in_the_same_study(kind: str, fresh_process: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    space, difference = OTHER_SPACES[kind]
    study = optuna.create_study(study_name="digits", sampler=quick_sampler(1))
    study.optimize(make_objective(publish=False), n_trials=3)
    before = [(t.params, t.value, t.user_attrs) for t in study.trials]
    if fresh_process:
        monkeypatch.setattr(lineage, "_live", {})
        study = optuna.load_study(study_name="digits", storage=study._storage, sampler=quick_sampler(1))
    with pytest.raises(SpaceMismatchError, match=f"'digits' was made with another space.*{difference}"):
        study.optimize(make_objective(space, publish=False), n_trials=1)
    # Nothing is lost, and the right space still works.
    study.optimize(make_objective(publish=False), n_trials=1)
    assert [(t.params, t.value, t.user_attrs) for t in study.trials[:3]] == before
    assert [t.state for t in study.trials[3:]] == [TrialState.FAIL, TrialState.COMPLETE]


def test_the_same_space_made_twice_is_the_same() -> None:
    study = optuna.create_study()
    asked(study, WIDER)
    asked(study, WIDER, MorphSpace(MLP, list(MLP_MORPHISMS), max_morphisms=3))


def edited(**changes: Any) -> str:
    stored = {"digest": SPACE.digest, "space": SPACE.to_dict()}
    stored["space"].update(changes)
    stored["digest"] = "0" * 32
    return json.dumps(stored)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (edited(version=2), "version 1 but is .*version 2: the study was written by another version"),
        (edited(format="something else"), "'something else'"),
        (edited(seed={}), "cannot be read"),
        (edited(morphisms=["teleport"]), "teleport"),
        (edited(max_nodes=None), "max_nodes"),
        ("{", "must be JSON"),
        ("[]", "must hold a digest and a space"),
        ('{"digest": 3, "space": {}}', "must hold a digest and a space"),
        ('{"digest": "a", "space": []}', "must hold a digest and a space"),
    ],
)
def test_a_study_of_another_version_says_so(text: str, message: str) -> None:
    study = optuna.create_study(sampler=quick_sampler(1))
    study.optimize(make_objective(publish=False), n_trials=2)
    before = [(t.params, t.value, t.user_attrs) for t in study.trials]
    study.set_user_attr("nasmorph:space", text)
    with pytest.raises(SpaceMismatchError, match=message):
        lineage.space_of(study)
    with pytest.raises(SpaceMismatchError, match=message):
        study.optimize(make_objective(publish=False), n_trials=1)
    assert [(t.params, t.value, t.user_attrs) for t in study.trials[:2]] == before
    study.set_user_attr("nasmorph:space", json.dumps({"digest": SPACE.digest, "space": SPACE.to_dict()}))
    study.optimize(make_objective(publish=False), n_trials=1)


def test_two_studies_with_two_spaces() -> None:
    one, two = optuna.create_study(), optuna.create_study()
    asked(one, WIDER)
    asked(two, {"arch/n": 0}, CNN_SPACE)
    assert [s.digest for s in (lineage.space_of(one), lineage.space_of(two)) if s] == [SPACE.digest, CNN_SPACE.digest]


def test_descendants_are_values() -> None:
    assert Descendant((), MLP) == Descendant((), Architecture(MLP.nodes))
