"""Trials turned into observations, and claims of running trials."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_nas_morph import encoding, history, lineage
from optuna_nas_morph.history import HistoryReader, key_of, read_claim, write_claim
from optuna_nas_morph.spaces import Descendant, MorphSpace
from tests.studies import MLP, SPACE

LR = {"lr": FloatDistribution(1e-4, 1e-1, log=True)}
SEED_PARAMS: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}


def trial(
    params: dict[str, Any], value: float | None = None, state: TrialState = TrialState.COMPLETE, **rest: Any
) -> FrozenTrial:
    known = {**encoding.distributions(SPACE), **LR, **rest.pop("distributions", {})}
    return create_trial(
        state=state, value=value, params=params, distributions={name: known[name] for name in params}, **rest
    )


def read(study: optuna.Study, space: MorphSpace | None = SPACE, except_number: int = -1) -> list[history.Observation]:
    return list(HistoryReader().read(study, space, except_number).observations)


def test_what_is_observed() -> None:
    study = optuna.create_study()
    study.add_trial(trial({**SEED_PARAMS, "lr": 0.01}, 0.5))
    study.add_trial(trial({**WIDER, "lr": 0.1}, 0.7, user_attrs={"nasmorph:effective_epochs": 6}))
    first, second = read(study)
    assert (first.number, first.state, first.hyperparameters) == (0, TrialState.COMPLETE, {"lr": 0.01})
    assert (first.values, first.epochs) == ((0.5,), None)
    assert first.member == Descendant((), MLP)
    assert (second.values, second.epochs, second.hyperparameters) == ((0.7,), 6.0, {"lr": 0.1})
    assert second.member is not None
    assert [str(s) for s in second.member.steps] == ["widen:2 at a"]
    assert first.key == (MLP.fingerprint, (("lr", 0.01),), "search")
    assert [o.number for o in read(study, except_number=0)] == [1]


def test_values_by_state() -> None:
    study = optuna.create_study()
    params = {**SEED_PARAMS, "lr": 0.01}
    study.add_trial(trial(params, 1.0))
    study.add_trial(trial(params, state=TrialState.PRUNED, intermediate_values={0: 3.0, 5: 2.0, 2: 9.0}))
    study.add_trial(trial(params, state=TrialState.PRUNED))
    study.add_trial(trial(params, state=TrialState.PRUNED, intermediate_values={0: 3.0, 1: math.nan}))
    study.add_trial(trial(params, state=TrialState.FAIL))
    study.add_trial(trial(params, state=TrialState.RUNNING))
    study.add_trial(trial({}, state=TrialState.WAITING))
    study.add_trial(trial(params, math.inf))
    assert [(o.number, o.values) for o in read(study)] == [
        (0, (1.0,)),
        (1, (2.0,)),  # the last step, wherever it was reported
        (2, None),
        (3, None),
        (4, None),
        (5, None),
        (7, (math.inf,)),
    ]


def weights(number: int, epochs: float) -> dict[str, Any]:
    return {"trial_number": number, "metadata": {"effective_epochs": epochs}}


@pytest.mark.parametrize(
    ("state", "n_reported", "attributes", "epochs"),
    [
        # What was published with the weights counts, whatever was announced or reported.
        ("PRUNED", 2, {"inherited_epochs": 6.0, "effective_epochs": 16.0, "weights": weights(0, 11.0)}, 11.0),
        ("COMPLETE", 2, {"inherited_epochs": 6.0, "effective_epochs": 8.0, "weights": weights(0, 16.0)}, 16.0),
        # A retry's copy of another trial's record does not.
        ("PRUNED", 2, {"inherited_epochs": 6.0, "effective_epochs": 16.0, "weights": weights(7, 11.0)}, 8.0),
        # A trial that was pruned has not trained as long as it has announced.
        ("PRUNED", 3, {"inherited_epochs": 6.0, "effective_epochs": 16.0}, 9.0),
        ("PRUNED", 0, {"inherited_epochs": 6.0, "effective_epochs": 16.0}, 16.0),
        ("RUNNING", 3, {"inherited_epochs": 6.0, "effective_epochs": 16.0}, 16.0),
        ("COMPLETE", 3, {"inherited_epochs": 6.0, "effective_epochs": 16.0}, 16.0),
        # Where nothing was announced, what was reported.
        ("COMPLETE", 3, {"inherited_epochs": 6.0}, 9.0),
        ("COMPLETE", 0, {"inherited_epochs": 6.0}, None),
        ("COMPLETE", 3, {}, None),  # no network of ours: who knows what a step is
        ("PRUNED", 3, {"inherited_epochs": 6.0, "weights": "nonsense"}, 9.0),
    ],
)
def test_training_behind_a_trial(state: str, n_reported: int, attributes: dict[str, Any], epochs: float | None) -> None:
    study = optuna.create_study()
    study.add_trial(
        trial(
            {**SEED_PARAMS, "lr": 0.01},
            1.0 if state == "COMPLETE" else None,
            TrialState[state],
            intermediate_values=dict.fromkeys(range(n_reported), 0.5),
            user_attrs={f"nasmorph:{name}": value for name, value in attributes.items()},
        )
    )
    (observation,) = read(study)
    assert observation.epochs == epochs
    assert not observation.inherits
    assert observation.is_donor == ("weights" in attributes)


def test_several_objectives() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(
        create_trial(
            values=[1.0, 2.0], params=SEED_PARAMS, distributions={"arch/n": encoding.distributions(SPACE)["arch/n"]}
        )
    )
    study.add_trial(trial(SEED_PARAMS, state=TrialState.PRUNED))
    assert [o.values for o in read(study)] == [(1.0, 2.0), None]


def test_trials_without_an_architecture_are_left_out_of_a_study_with_a_space() -> None:
    study = optuna.create_study()
    study.add_trial(trial({"lr": 0.01}, 0.5))
    study.add_trial(trial({"arch/n": 2, "arch/00/op": "widen:2"}, state=TrialState.FAIL))  # died halfway
    study.add_trial(trial(SEED_PARAMS, 0.5))
    assert [o.number for o in read(study)] == [2]
    without = read(study, None)
    assert [o.number for o in without] == [0, 1, 2]
    assert {o.member for o in without} == {None}


def test_a_value_that_cannot_vary_does_not_tell_trials_apart() -> None:
    study = optuna.create_study()
    fixed = {"batch": FloatDistribution(32, 32), "optimizer": CategoricalDistribution(("sgd",))}
    study.add_trial(trial({**SEED_PARAMS, "lr": 0.01, "batch": 32.0, "optimizer": "sgd"}, 0.5, distributions=fixed))
    assert [o.hyperparameters for o in read(study)] == [{"lr": 0.01}]


def test_keys() -> None:
    seed = Descendant((), MLP)
    assert key_of(seed, {"b": 1, "a": 2}) == key_of(seed, {"a": 2, "b": 1})
    assert key_of(seed, {"a": 2}) != key_of(seed, {"a": 3}) != key_of(None, {"a": 3})
    assert len({key_of(seed, {}, kind) for kind in lineage.Kind}) == 3
    assert key_of(seed, {}) == key_of(seed, {}, lineage.Kind.SEARCH)
    assert len({key_of(seed, {"a": None, "b": "x"})}) == 1  # hashable


# Claims.


def claimed(study: optuna.Study, number: int) -> dict[str, Any]:
    return read_claim(study.get_trials(deepcopy=False)[number])


@pytest.mark.parametrize("length", [3, 7, 2045])
def test_a_claim_comes_back(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_CLAIM_LENGTH", length)
    study = optuna.create_study()
    asked = study.ask()
    assert claimed(study, 0) == {}
    claim = {**WIDER, "lr": 0.1, "activation": "größer", "bias": None, "flag": True}
    write_claim(study._storage, asked._trial_id, claim)
    assert claimed(study, 0) == claim
    # A second, shorter one replaces it.
    write_claim(study._storage, asked._trial_id, {"arch/n": 0})
    assert claimed(study, 0) == {"arch/n": 0}


def test_a_claim_half_written_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_CLAIM_LENGTH", 5)
    study = optuna.create_study()
    asked = study.ask()
    write_claim(study._storage, asked._trial_id, WIDER)
    attributes = dict(study.trials[0].system_attrs)
    for n in range(len(attributes)):
        partial = create_trial(
            state=TrialState.RUNNING,
            system_attrs={f"nasmorph:claim:{i}": attributes[f"nasmorph:claim:{i}"] for i in range(n)},
        )
        assert read_claim(partial) == {}


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", "", "{"])
def test_a_claim_that_is_no_mapping_is_none(text: str) -> None:
    assert read_claim(create_trial(state=TrialState.RUNNING, system_attrs={"nasmorph:claim:0": text})) == {}


def test_a_running_trial_is_what_it_claimed_until_its_objective_asks() -> None:
    study = optuna.create_study()
    asked = study.ask()
    assert read(study) == []
    write_claim(study._storage, asked._trial_id, {**WIDER, "lr": 0.1})
    (observation,) = read(study)
    assert observation.state == TrialState.RUNNING
    assert observation.values is None
    assert observation.hyperparameters == {"lr": 0.1}
    assert observation.member == encoding.decode(SPACE, WIDER)
    # What it asked for is what counts.
    asked.suggest_float("lr", 0.05, 0.05)
    assert read(study)[0].hyperparameters.get("lr", 0.05) == 0.05
    # A claim is no observation once the trial has ended.
    study.tell(asked, 1.0)
    assert read(study) == []


def test_the_memory_of_a_reader_is_a_cache_and_no_more() -> None:
    study = optuna.create_study()
    for params in (SEED_PARAMS, WIDER, SEED_PARAMS):
        study.add_trial(trial(params, 0.5))
    reader = HistoryReader()
    first = reader.read(study, SPACE, -1)
    assert first == reader.read(study, SPACE, -1)
    assert first.observations == read(study)
    # Another space gives the same parameters another meaning.
    narrow = MorphSpace(MLP, SPACE.morphisms, 3, max_parameters=MLP.n_parameters)
    assert [o.member for o in reader.read(study, narrow, -1).observations] == [Descendant((), MLP)] * 3


def test_the_key_of_a_proposal_is_that_of_the_trial_it_becomes() -> None:
    study = optuna.create_study()
    asked = study.ask()
    asked.suggest_float("always", 0.5, 0.5)  # cannot vary, so it is no part of the key
    write_claim(study._storage, asked._trial_id, {**WIDER, "lr": 0.1})
    (observation,) = read(study)
    params = {**WIDER, "lr": 0.1, "always": 0.5}
    assert HistoryReader().key(SPACE, params, asked.distributions) == observation.key
